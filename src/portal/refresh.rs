use bytes::Bytes;
use http::{Response, StatusCode, header};

use super::pages::{ErrorPage, IdentityRefreshed};
use super::{PortalRequest, answer, callback, login, respond};
use crate::control::{Access, organisation_aud};
use crate::cookie::FLOW_PREFIX;
use crate::engine::Snapshot;
use crate::idp::{Hints, Pending};
use crate::login::{Flow, FlowCookies, ReturnTo, State};
use crate::model::Groups;
use crate::observe::metrics::Login as Outcome;
use crate::route::Endpoint;

/// `refresh-identity` (§2.2): asks the provider anew who the person of this session is. What it says holds for all their
/// sessions of this login from the next request on.
pub(super) async fn refresh_identity(access: &Access, request: &PortalRequest) -> Response<Bytes> {
    let id = request.id.to_string();
    let Ok(session) = access.organisation_session(&request.headers, request.now).await else {
        return respond::unavailable(request.id);
    };
    let Some(session) = session else {
        let sentence =
            "Open one of your applications and sign in; then this page can bring what is known of you up to date.";
        return answer::page(ErrorPage::new(StatusCode::UNAUTHORIZED, "You are not signed in.", sentence, &id).page());
    };
    if request.parameter("success").is_some() {
        let groups = match &session.identity.groups {
            Groups::Known(groups) => Some(groups.len()),
            Groups::Unknown => None,
        };
        let email = session.identity.email.as_str();
        return answer::page(IdentityRefreshed { signed_in_as: email, groups, request_id: &id }.page());
    }
    // Scripts and images begin no login.
    if request.header("sec-fetch-mode").is_some_and(|mode| mode != "navigate") {
        return answer::empty(StatusCode::FORBIDDEN);
    }
    let services = access.services();
    let provider = services.providers.iter().find(|provider| *provider.id() == session.identity.idp.id);
    let Some(provider) = provider else { return respond::bad_request(request.id, "unknown_identity_provider") };
    let snapshot = access.snapshot();
    let state = State::new(
        organisation_aud(&snapshot),
        request.host.clone(),
        ReturnTo::parse(&format!("{}?success=true", path())),
        None,
        request.now,
    );
    let hints = Hints { login_hint: Some(session.identity.email.as_str().to_owned()), ..Hints::default() };
    login::send(access, provider, &state, hints, None, &again(access), request).await
}

/// Whether a login was begun here, and not for an application.
pub(super) fn is_ours(snapshot: &Snapshot, state: &State) -> bool {
    state.aud == organisation_aud(snapshot)
}

/// Back from the provider.
pub(super) async fn returned(access: &Access, state: &State, sealed: &str, request: &PortalRequest) -> Response<Bytes> {
    let flow = Flow::<Pending>::of(&request.headers, access.seal(), &state.flow, sealed);
    let flow = flow.filter(|_| !state.has_expired(request.now) && access.use_up(&state.flow));
    let Some(flow) = flow else {
        access.login_refused("login_expired", Outcome::Invalid, None, request);
        tracing::debug!(cookie = format!("{FLOW_PREFIX}{}", state.flow), "nothing is known of this login");
        return respond::expired(request.id, &again(access));
    };
    let mut response = match callback::finish(access, sealed, &flow.pending, request).await {
        Ok(Some(login)) => {
            access.identity_refreshed(&login.identity, request);
            let page = format!("{}{}", access.services().team_url, state.to.as_str());
            let mut response = answer::redirect(StatusCode::FOUND, &page);
            match access.organisation_cookie(&login, request.now) {
                Some(cookie) => response.headers_mut().append(header::SET_COOKIE, cookie),
                None => return respond::internal(request.id),
            };
            response
        }
        Ok(None) => respond::unavailable(request.id),
        Err(failure) => {
            access.login_failed(&failure, Some(&flow.pending.idp), None, request);
            respond::failed(request.id, &failure, &again(access))
        }
    };
    if let Some(removal) = FlowCookies::removal(&state.flow, request.now) {
        response.headers_mut().append(header::SET_COOKIE, removal);
    }
    response
}

fn again(access: &Access) -> String {
    format!("{}{}", access.services().team_url, path())
}

fn path() -> String {
    format!("{}/refresh-identity", Endpoint::PREFIX)
}
