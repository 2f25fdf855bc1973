use bytes::Bytes;
use http::{Response, StatusCode};
use serde_json::json;

use super::error_pages;
use crate::control::{BrowserSessions, Sessions, document};
use crate::engine::Snapshot;
use crate::login::PortalRequest;
use crate::model::Reason;
use crate::pages::answer;

/// Answers `get-identity` (`docs/wire.md` 2.6) with the identity of the browser's session. It
/// returns claims, never tokens, and only to pages of the same site.
pub(super) async fn get_identity(
    snapshot: &Snapshot,
    sessions: &Sessions,
    request: &PortalRequest,
) -> Response<Bytes> {
    let refused = |status: StatusCode, error: &str| {
        answer::json(
            status,
            &json!({"error": error, "request_id": request.id.to_string()}),
        )
    };
    if !matches!(
        request.header("sec-fetch-site"),
        None | Some("same-origin" | "same-site" | "none")
    ) {
        return refused(StatusCode::FORBIDDEN, "cross_site");
    }
    let Ok(BrowserSessions {
        found: mut logins,
        are_incomplete,
    }) = sessions.in_browser(request).await
    else {
        return error_pages::unavailable(request);
    };
    // One of the cookies may be planted. Its identity must not be shown as the user's.
    if logins.len() > 1 || are_incomplete {
        return refused(StatusCode::UNAUTHORIZED, Reason::SessionConflict.id());
    }
    let Some(session) = logins.pop() else {
        return refused(StatusCode::UNAUTHORIZED, "no_session");
    };
    match sessions.identity_behind(&session, request.now).await {
        Ok(Some(identity)) => answer::json(StatusCode::OK, &document(&identity, snapshot)),
        Ok(None) => refused(StatusCode::UNAUTHORIZED, "no_session"),
        Err(_) => error_pages::unavailable(request),
    }
}
