use bytes::Bytes;
use http::Response;

use super::error_pages;
use crate::control::Access;
use crate::login::{LOGGED_OUT, PortalRequest};
use crate::pages::{Home, LoggedOut, answer};
use crate::route::Endpoint;

/// Answers `/` on the team domain, with the signed-in user's email address and a link to sign out.
pub(super) async fn home(access: &Access, request: &PortalRequest) -> Response<Bytes> {
    let snapshot = access.running.snapshot();
    let Ok(login) = access
        .sessions
        .organisation_session(&request.headers, request.now)
        .await
    else {
        return error_pages::unavailable(request);
    };
    let id = request.id.to_string();
    if login.is_none() && request.query.as_deref() == Some(LOGGED_OUT) {
        return answer::page(
            LoggedOut {
                also_at: None,
                back: None,
                switch_account: None,
                request_id: &id,
            }
            .page(),
        );
    }
    let page = Home {
        team: &snapshot.team().name,
        signed_in_as: login.as_ref().map(|login| login.identity.email.as_str()),
        sign_out: &format!("{}/logout", Endpoint::PREFIX),
        request_id: &id,
    };
    answer::page(page.page())
}
