//! The request headers that hold credentials.

use http::{HeaderMap, HeaderName};

/// The header with a token, equivalent to the cookie; sent by cloudflared and by service clients.
pub(super) const TOKEN: HeaderName = HeaderName::from_static("cf-access-token");
/// The header with the client id of a service token.
pub(super) const CLIENT_ID: HeaderName = HeaderName::from_static("cf-access-client-id");
/// The header with its client secret.
pub(super) const CLIENT_SECRET: HeaderName = HeaderName::from_static("cf-access-client-secret");

/// Returns the value of a header that occurs once.
pub(super) fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h [u8]> {
    let mut lines = headers.get_all(name).into_iter();
    lines
        .next()
        // Two lines are ambiguous, so they count as none.
        .filter(|_| lines.next().is_none())
        .map(http::HeaderValue::as_bytes)
}
