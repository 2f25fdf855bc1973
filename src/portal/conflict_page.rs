use bytes::Bytes;
use http::Response;

use crate::login::Conflict;
use crate::model::{RequestId, Support};
use crate::pages::{CookieConflict, answer};

/// Returns the page that names a cookie which conflicts again after it was expired, with a link to
/// start again. It expires the cookie once more.
pub(super) fn conflict_page(
    conflict: &Conflict<'_>,
    start_again: &str,
    support: Option<&Support>,
    id: RequestId,
) -> Response<Bytes> {
    let (cookie, host) = (conflict.cookie, conflict.host);
    tracing::warn!(
        cookie, host, request_id = %id,
        "a browser sends this cookie from two logins, and again after both were expired; another host of the domain may set it"
    );
    // Which parent domain the hosts share is unknown here. Users see the cookies of the host and of
    // its parent.
    let domain = host
        .split_once('.')
        .map(|(_, parent)| parent)
        .filter(|parent| parent.contains('.'));
    let page = CookieConflict {
        cookie,
        host,
        domain,
        start_again,
        support,
        reason: "session_conflict",
        request_id: &id.to_string(),
    };
    let mut response = answer::page(page.page());
    conflict.expire(response.headers_mut());
    response
}
