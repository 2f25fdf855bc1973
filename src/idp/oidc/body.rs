//! Classifies the body of a response before it is parsed.

use http::{HeaderMap, HeaderValue, header};
use serde::de::IgnoredAny;

use crate::http_client::Response;
use crate::idp::failure::{BodyKind, is_too_many_groups};

/// Returns the body if it is a signed token in compact form (RFC 7515 3.1), regardless of its
/// content type.
pub(super) fn compact_jws(body: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(body).ok()?.trim_ascii();
    let is_part = |part: &str| {
        part.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    (text.split('.').count() == 3 && text.split('.').all(is_part)).then_some(text)
}

/// Returns the kind of a body that is not JSON; `None` for JSON.
pub(super) fn other_than_json(headers: &HeaderMap, body: &[u8]) -> Option<BodyKind> {
    if serde_json::from_slice::<IgnoredAny>(body).is_ok() {
        return None;
    }
    let content_type = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let content_type = content_type.to_ascii_lowercase();
    let text = body.trim_ascii_start();
    Some(
        match content_type.starts_with("text/html") || text.starts_with(b"<") {
            _ if text.is_empty() => BodyKind::Empty,
            true => BodyKind::Page,
            false => BodyKind::Unknown,
        },
    )
}

/// A byte order mark, which some editors put in front of a document.
pub(super) const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The content type that `openidconnect` requires.
pub(super) const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Returns `true` if the response contains Okta's message that it could not fill the groups claim.
pub(super) fn says_too_many_groups(answer: &Response) -> bool {
    let challenges = answer
        .headers
        .get_all(header::WWW_AUTHENTICATE)
        .iter()
        .filter_map(|value| value.to_str().ok());
    is_too_many_groups(&String::from_utf8_lossy(&answer.body))
        || challenges.into_iter().any(is_too_many_groups)
}
