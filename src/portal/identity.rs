use bytes::Bytes;
use http::{Response, StatusCode};
use serde_json::json;

use super::error_pages;
use crate::control::{Access, BrowserSessions, SignedIn, document};
use crate::login::PortalRequest;
use crate::model::Reason;
use crate::pages::answer;

/// Answers `get-identity` (`docs/wire.md` 2.6) with the identity of the browser's session. It
/// returns claims, never tokens, and only to pages of the same site.
pub(super) async fn get_identity(access: &Access, request: &PortalRequest) -> Response<Bytes> {
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
    }) = access.sessions.signed_in(request).await
    else {
        return error_pages::unavailable(request);
    };
    // One of the cookies may be planted. Its identity must not be shown as the user's.
    if logins.len() > 1 || are_incomplete {
        return refused(StatusCode::UNAUTHORIZED, Reason::SessionConflict.id());
    }
    let Some(SignedIn {
        nonce,
        issued,
        expires,
        token,
        ..
    }) = logins.pop()
    else {
        return refused(StatusCode::UNAUTHORIZED, "no_session");
    };
    // The caller may be an edge node. This process does not see the requests there.
    access.identities.keep_fresh_until(nonce, expires);
    access.identities.look_up(nonce, issued, &token).await;
    match access.identities.identity(nonce, request.now).await {
        Ok(Some(identity)) => answer::json(
            StatusCode::OK,
            &document(&identity, &access.running.snapshot()),
        ),
        Ok(None) => refused(StatusCode::UNAUTHORIZED, "no_session"),
        Err(_) => error_pages::unavailable(request),
    }
}
