use std::sync::Arc;

use bytes::Bytes;
use http::{Response, StatusCode, header};

use super::login::{Destination, again, arrive};
use super::pages::{LoginLoop, LostCookie};
use super::{PortalRequest, answer, refresh, respond};
use crate::control::Access;
use crate::cookie::FLOW_PREFIX;
use crate::engine::Snapshot;
use crate::idp::{Callback, Pending};
use crate::login::{Flow, FlowCookies, State};
use crate::model::Secret;
use crate::observe::audit::Via;
use crate::observe::metrics::Login as Outcome;

/// `callback`: what the provider said, brought back by the browser.
pub(super) async fn callback(access: &Access, request: &PortalRequest) -> Response<Bytes> {
    let snapshot = access.snapshot();
    let sealed = request.parameter("state").unwrap_or_default();
    let Ok(state) = State::open(access.seal(), &sealed) else {
        access.login_refused("login_state", Outcome::Invalid, None, request);
        return respond::bad_request(request.id, "login_state");
    };
    if refresh::is_ours(&snapshot, &state) {
        return refresh::returned(access, &state, &sealed, request).await;
    }
    let Some(destination) = destination(&snapshot, &state) else { return respond::not_found(request.id) };
    let flow = Flow::<Pending>::of(&request.headers, access.seal(), &state.flow, &sealed);
    let begun_again = again(&access.services(), &destination);
    // A flow is over when its time is, or when it was used: one call of the provider, however often the browser comes.
    let flow = match flow {
        Some(flow) if !state.has_expired(request.now) && access.use_up(&state.flow) => flow,
        other => {
            let lost = other.is_none() && !state.has_expired(request.now) && !access.is_used_up(&state.flow);
            return late(access, &snapshot, &destination, &state, lost, request).await;
        }
    };
    let mut response = match finish(access, &sealed, &flow.pending, request).await {
        Ok(Some(login)) => {
            let mut response = arrive(access, &snapshot, &destination, &login, Via::Provider, request).await;
            match access.organisation_cookie(&login, request.now) {
                Some(cookie) => response.headers_mut().append(header::SET_COOKIE, cookie),
                None => return respond::internal(request.id),
            };
            response
        }
        Ok(None) => respond::unavailable(request.id),
        Err(failure) => {
            access.login_failed(&failure, Some(&flow.pending.idp), Some(&destination.application), request);
            respond::failed(request.id, &failure, &begun_again)
        }
    };
    if let Some(removal) = FlowCookies::removal(&state.flow, request.now) {
        response.headers_mut().append(header::SET_COOKIE, removal);
    }
    response
}

/// Asks the provider who this is and writes it down; `None` where our own store is what fails.
pub(super) async fn finish(
    access: &Access,
    state: &str,
    pending: &Pending,
    request: &PortalRequest,
) -> Result<Option<crate::control::Login>, crate::idp::LoginFailure> {
    let services = access.services();
    let provider = services.providers.iter().find(|provider| *provider.id() == pending.idp);
    let provider = provider.ok_or(crate::idp::LoginFailure::Flow)?;
    let callback = Callback::parse(request.query.as_deref().unwrap_or_default())?;
    let profile = provider
        .finish(&Secret::new(state), pending, &callback, request.now, services.leeway, Some(request.client))
        .await?;
    Ok(access.log_in(profile, request).await)
}

/// The browser came too late, or again, or without its cookie. With a live session it just goes on.
async fn late(
    access: &Access,
    snapshot: &Snapshot,
    destination: &Destination,
    state: &State,
    lost: bool,
    request: &PortalRequest,
) -> Response<Bytes> {
    match access.organisation_session(&request.headers, request.now).await {
        Ok(Some(login)) if destination.application.allows_idp(&login.identity.idp.id) => {
            return arrive(access, snapshot, destination, &login, Via::Session, request).await;
        }
        Ok(_) => {}
        Err(_) => return respond::unavailable(request.id),
    }
    let begun_again = again(&access.services(), destination);
    // With many tabs the oldest flows lose their cookies to newer ones. Theirs begins once more, by itself, once.
    if lost && !state.second && FlowCookies::of(&request.headers, access.seal()).are_many() {
        return answer::redirect(StatusCode::FOUND, &format!("{begun_again}&second=1"));
    }
    if !lost {
        access.login_refused("login_expired", Outcome::Invalid, Some(&destination.application), request);
        return respond::expired(request.id, &begun_again);
    }
    access.login_refused("flow_cookie_missing", Outcome::Invalid, Some(&destination.application), request);
    let page = LoginLoop {
        cookie: &format!("{FLOW_PREFIX}{}", state.flow),
        causes: &[LostCookie::Blocked, LostCookie::TooMany, LostCookie::HostChanged],
        start_again: Some(&begun_again),
        reason: Some("flow_cookie_missing"),
        request_id: &request.id.to_string(),
    };
    answer::page(page.page())
}

/// The application may have changed since the login began; what is gone is gone.
fn destination(snapshot: &Snapshot, state: &State) -> Option<Destination> {
    let application = snapshot.application(&state.aud)?;
    application.settings().domain.covers_host(&state.host).then(|| Destination {
        application: Arc::clone(application),
        host: state.host.clone(),
        to: state.to.clone(),
        app_session: state.app_session.clone(),
    })
}
