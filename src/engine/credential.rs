use http::{HeaderMap, HeaderName};
use smallvec::SmallVec;

use crate::cookie;

/// What a request presents. The header, where there is one, is all that is looked at: what is wrong in it is not made good
/// by a cookie.
pub(super) fn presented(headers: &HeaderMap) -> SmallVec<[&[u8]; MAX_COOKIES]> {
    let mut lines = headers.get_all(&TOKEN_HEADER).into_iter();
    match (lines.next(), lines.next()) {
        (Some(line), None) => SmallVec::from_iter([line.as_bytes()]),
        (Some(_), Some(_)) => SmallVec::from_iter([TWO_HEADERS]),
        // Applications on paths of one host have cookies of one name; each is looked at, up to a bound.
        (None, _) => cookie::octets(headers, cookie::AUTHORIZATION).take(MAX_COOKIES).collect(),
    }
}

/// As good as the cookie; used by cloudflared and by programs.
pub(super) const TOKEN_HEADER: HeaderName = HeaderName::from_static("cf-access-token");

/// Stands for a credential that is present and that nobody could read.
const TWO_HEADERS: &[u8] = b"";

const MAX_COOKIES: usize = 4;
