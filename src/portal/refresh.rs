use bytes::Bytes;
use http::{Response, StatusCode};

use super::errand::Errand;
use super::{login, respond};
use crate::control::{Access, Login, organisation_aud};
use crate::idp::Hints;
use crate::login::{PortalRequest, ReturnTo, State};
use crate::pages::{ErrorPage, IdentityRefreshed, answer};
use crate::route::Endpoint;

/// Answers `refresh-identity` (`docs/wire.md` 2.7): reads the identity of this session from the
/// provider again. All sessions of the login use the new one from the next request on.
pub(super) async fn refresh_identity(access: &Access, request: &PortalRequest) -> Response<Bytes> {
    let id = request.id.to_string();
    let Ok(session) = access
        .organisation_session(&request.headers, request.now)
        .await
    else {
        access.login_unavailable(None, None, request);
        return respond::unavailable(request);
    };
    let Some(session) = session else {
        return nobody(request);
    };
    if request.parameter("success").is_some() {
        let groups = session.identity.groups.known().map(<[_]>::len);
        let email = session.identity.email.as_str();
        return answer::page(
            IdentityRefreshed {
                signed_in_as: email,
                groups,
                request_id: &id,
            }
            .page(),
        );
    }
    let services = access.services();
    let provider = services
        .providers
        .iter()
        .find(|provider| *provider.id() == session.identity.idp.id);
    let Some(provider) = provider else {
        return respond::bad_request(request, "unknown_identity_provider");
    };
    let aud = organisation_aud(&access.snapshot());
    let state = State::new(
        aud,
        request.host.clone(),
        ReturnTo::parse(&path()),
        None,
        request.now,
    );
    let hints = Hints {
        login_hint: Some(session.identity.email.as_str().to_owned()),
        ..Hints::default()
    };
    login::send(access, provider, state, hints, &Errand::Refresh, request).await
}

/// There is nobody to bring up to date.
pub(super) fn nobody(request: &PortalRequest) -> Response<Bytes> {
    let sentence =
        "Open one of your applications and sign in. Then this page can update your details.";
    let id = request.id.to_string();
    respond::shown(
        ErrorPage::new(
            StatusCode::UNAUTHORIZED,
            "You are not signed in.",
            sentence,
            &id,
        ),
        request,
    )
}

/// Back from the provider.
pub(super) fn refreshed(
    access: &Access,
    login: &Login,
    request: &PortalRequest,
) -> Response<Bytes> {
    access.identity_refreshed(&login.identity, request);
    answer::redirect(StatusCode::FOUND, &format!("{}?success=true", url(access)))
}

pub(super) fn url(access: &Access) -> String {
    format!("{}{}", access.services().team_url, path())
}

fn path() -> String {
    format!("{}/refresh-identity", Endpoint::PREFIX)
}
