use bytes::Bytes;
use http::Response;

use super::outcome::{LoginOutcome, LoginStep, Retry};
use super::provider_request;
use crate::control::{EndpointParts, Login};
use crate::idp::Hints;
use crate::login::{LoginPurpose, PortalRequest, State, refresh_path};
use crate::pages::{IdentityRefreshed, answer};

/// Answers `refresh-identity` (`docs/wire.md` 2.7): reads the identity of this session from the
/// provider again. All sessions of the login use the new one from the next request on.
pub(super) async fn refresh_identity(
    parts: &EndpointParts,
    request: &PortalRequest,
) -> Response<Bytes> {
    let snapshot = parts.running.snapshot();
    let step = LoginStep {
        parts,
        snapshot: &snapshot,
        request,
        purpose: &LoginPurpose::IdentityRefresh,
    };
    let session = parts
        .sessions
        .organisation_session(&request.headers, request.now)
        .await;
    let session = match session {
        Ok(Some(session)) => session,
        Ok(None) => return step.conclude(LoginOutcome::NoSession).await,
        Err(_) => {
            let (idp, retry) = (None, Retry::Request);
            return step
                .conclude(LoginOutcome::Unavailable { idp, retry })
                .await;
        }
    };
    if request.parameter("success").is_some() {
        return refreshed(&session, request);
    }
    let services = parts.running.services();
    let provider = services
        .providers
        .iter()
        .find(|provider| *provider.id() == session.identity.idp.id);
    let Some(provider) = provider else {
        return step.conclude(LoginOutcome::UnknownProvider).await;
    };
    let state = State::to_team(&snapshot, &request.host, &refresh_path(), request.now);
    let hints = Hints {
        login_hint: Some(session.identity.email.as_str().to_owned()),
        ..Hints::default()
    };
    let outcome = provider_request::begin(parts, provider, state, hints, request).await;
    step.conclude(outcome).await
}

fn refreshed(session: &Login, request: &PortalRequest) -> Response<Bytes> {
    let page = IdentityRefreshed {
        signed_in_as: session.identity.email.as_str(),
        groups: session.identity.groups.known().map(<[_]>::len),
        request_id: &request.id.to_string(),
    };
    answer::page(page.page())
}
