use bytes::Bytes;
use http::{Method, Response, StatusCode, header};

use super::errand::Errand;
use super::login::{Destination, arrive};
use super::provider_error::Reported;
use super::{error_pages, login, provider_error, provider_trial, refresh};
use crate::control::{Access, Becomes, NoLogin};
use crate::cookie::FLOW_PREFIX;
use crate::engine::{Application, Snapshot};
use crate::idp::{Callback, LoginFailure, Pending, Profile};
use crate::login::{Flow, FlowCookies, PortalRequest, State};
use crate::model::{IdentityNonce, IdpId, Secret, UnixTime, chain};
use crate::observe::audit::Via;
use crate::observe::metrics::Login as Outcome;
use crate::pages::{LoginLoop, LostCookie, answer};
use crate::store::StoreError;

/// `callback`: what the provider said, brought back by the browser.
pub(super) async fn callback(access: &Access, request: &PortalRequest) -> Response<Bytes> {
    let snapshot = access.snapshot();
    let sealed = request.parameter("state").unwrap_or_default();
    let Ok(state) = State::open(access.seal(), &sealed) else {
        access.login_refused("login_state", Outcome::Invalid, None, request);
        return provider_error::without_state("login_state", request);
    };
    let state = access.begun(&state.flow).unwrap_or(state);
    let Some(errand) = Errand::of(&snapshot, &state) else {
        return error_pages::not_found(request);
    };
    let flow = Flow::<Pending>::of(&request.headers, access.seal(), &state.flow, &sealed);
    let Ok(used) = UsedFlow::of(access, flow, &state, request.now).await else {
        return errand.unavailable(access, None, request);
    };
    let flow = match used {
        UsedFlow::First(flow) => flow,
        UsedFlow::Over { lost } => {
            let reported = Reported::in_query(request);
            return late(
                access,
                &snapshot,
                &errand,
                (&state, reported.as_ref()),
                lost,
                request,
            )
            .await;
        }
    };
    let outcome = finish(access, &sealed, &flow.pending, request)
        .await
        .map(Some);
    if let Err(failure) = &outcome
        && let Some(mut response) =
            again(access, failure, &flow.pending, &state, &errand, request).await
    {
        remove_flow(&state.flow, &mut response, request);
        return response;
    }
    let answer = Answer {
        outcome,
        idp: &flow.pending.idp,
        before: None,
    };
    conclude(access, &snapshot, &errand, answer, &state.flow, request).await
}

/// A flow that a browser brings back.
pub(super) enum UsedFlow<P> {
    /// It comes back for the first time: one call of the provider, however often the browser comes.
    First(Flow<P>),
    /// It cannot be finished. `lost` is `true` if only its cookie is missing.
    Over { lost: bool },
}

impl<P> UsedFlow<P> {
    /// Uses the flow up.
    ///
    /// # Errors
    /// If the store does not accept that.
    pub(super) async fn of(
        access: &Access,
        flow: Option<Flow<P>>,
        state: &State,
        now: UnixTime,
    ) -> Result<Self, StoreError> {
        let name = format!("flow {}", state.flow);
        if state.has_expired(now) {
            return Ok(Self::Over { lost: false });
        }
        Ok(match flow {
            None => Self::Over {
                lost: !access.is_used_up(&name),
            },
            Some(flow) if access.use_up(&name, state.ends()).await? => Self::First(flow),
            Some(_) => Self::Over { lost: false },
        })
    }
}

/// Begins the login once more if that may mend the failure, and was not done before.
async fn again(
    access: &Access,
    failure: &LoginFailure,
    pending: &Pending,
    state: &State,
    errand: &Errand,
    request: &PortalRequest,
) -> Option<Response<Bytes>> {
    let services = access.services();
    let provider = services
        .providers
        .iter()
        .find(|provider| *provider.id() == pending.idp)?;
    let attempt = provider.next_attempt(failure, pending)?;
    let (idp, error, hint) = (&*pending.idp.0, chain(failure), failure.advice());
    tracing::info!(request_id = %request.id, idp, error, hint, "a login is begun once more");
    Some(login::send_again(access, provider, state, attempt, errand, request).await)
}

pub(super) fn remove_flow(flow: &str, response: &mut Response<Bytes>, request: &PortalRequest) {
    if let Some(removal) = FlowCookies::removal(flow, request.now) {
        response.headers_mut().append(header::SET_COOKIE, removal);
    }
}

/// A provider's answer.
pub(super) struct Answer<'a> {
    /// Who it is; `None` where our own store failed.
    pub(super) outcome: Result<Option<Profile>, LoginFailure>,
    /// Which provider.
    pub(super) idp: &'a IdpId,
    /// The login that the browser had when it left, where it may not show it on its way back.
    pub(super) before: Option<IdentityNonce>,
}

/// What a provider's answer leads to. The flow is over.
pub(super) async fn conclude(
    access: &Access,
    snapshot: &Snapshot,
    errand: &Errand,
    Answer {
        outcome,
        idp,
        before,
    }: Answer<'_>,
    flow: &str,
    request: &PortalRequest,
) -> Response<Bytes> {
    let mut response = match outcome {
        Ok(Some(profile)) => arrived(access, snapshot, errand, (profile, before), request).await,
        Ok(None) => errand.unavailable(access, Some(idp), request),
        Err(failure) => errand.failed(access, (&failure, idp), request),
    };
    remove_flow(flow, &mut response, request);
    response
}

/// Somebody is known: what the browser is here for can be done.
async fn arrived(
    access: &Access,
    snapshot: &Snapshot,
    errand: &Errand,
    (profile, before): (Profile, Option<IdentityNonce>),
    request: &PortalRequest,
) -> Response<Bytes> {
    let (destination, becomes) = match errand {
        Errand::Test => return provider_trial::works(access, snapshot, &profile, request),
        Errand::Application(destination) => (Some(destination), Becomes::Session),
        Errand::Refresh => (None, Becomes::Renewal),
    };
    let idp = profile.idp.id.clone();
    let login = match access.log_in(profile, before, becomes, request).await {
        Ok(login) => login,
        // Who signed out while the provider was asked is signed out.
        Err(NoLogin::Over) => {
            access.login_refused("no_session", Outcome::Invalid, None, request);
            return refresh::nobody(request);
        }
        Err(NoLogin::Store) => return errand.unavailable(access, Some(&idp), request),
    };
    let Some(cookie) = access.organisation_cookie(&login, request.now) else {
        return error_pages::internal(request);
    };
    let mut response = match destination {
        Some(destination) => {
            arrive(
                access,
                snapshot,
                destination,
                &login,
                Via::Provider,
                request,
            )
            .await
        }
        None => refresh::refreshed(access, &login, request),
    };
    response.headers_mut().append(header::SET_COOKIE, cookie);
    response
}

/// Asks the provider who this is.
async fn finish(
    access: &Access,
    state: &str,
    pending: &Pending,
    request: &PortalRequest,
) -> Result<Profile, LoginFailure> {
    let services = access.services();
    let provider = services
        .providers
        .iter()
        .find(|provider| *provider.id() == pending.idp);
    let provider = provider.ok_or(LoginFailure::Flow)?;
    let callback = Callback::parse(request.query.as_deref().unwrap_or_default())?;
    let state = Secret::new(state);
    provider
        .finish(
            &state,
            pending,
            &callback,
            request.now,
            services.leeway,
            Some(request.client),
        )
        .await
}

/// The browser came too late, or again, or without its cookie. With a live session it just goes on.
/// The login that a reported error ends may be over here already; the operator still needs the
/// reason.
pub(super) async fn late(
    access: &Access,
    snapshot: &Snapshot,
    errand: &Errand,
    (state, reported): (&State, Option<&Reported>),
    lost: bool,
    request: &PortalRequest,
) -> Response<Bytes> {
    if let Some(reported) = reported {
        reported.log(
            if lost {
                "flow_cookie_missing"
            } else {
                "login_expired"
            },
            request,
        );
    }
    let again = errand.again(access);
    if let Errand::Application(destination) = errand {
        match access
            .organisation_session(&request.headers, request.now)
            .await
        {
            Ok(Some(login)) if destination.application.allows_idp(&login.identity.idp.id) => {
                return arrive(access, snapshot, destination, &login, Via::Session, request).await;
            }
            Ok(_) => {}
            Err(_) => return errand.unavailable(access, None, request),
        }
        // With many tabs the oldest flows lose their cookies to newer ones. Theirs begins once
        // more, by itself, once. With a form from the provider the browser sends no session, so
        // that what it has shows there alone.
        let many = FlowCookies::of(&request.headers, access.seal()).are_many()
            || request.method == Method::POST;
        if lost && !state.second && many {
            return once_more(access, destination);
        }
    }
    if !lost {
        access.login_refused(
            "login_expired",
            Outcome::Invalid,
            errand.application(),
            request,
        );
        return error_pages::login_expired(request, again.as_deref());
    }
    lost_cookie(
        access,
        errand.application(),
        &state.flow,
        again.as_deref(),
        request,
    )
}

/// Begins the login again. The new one has `State::second`, so that this happens once.
pub(super) fn once_more(access: &Access, destination: &Destination) -> Response<Bytes> {
    let again = login::again(&access.services(), destination);
    answer::redirect(StatusCode::FOUND, &format!("{again}&second=1"))
}

/// The browser did not bring back the cookie of its flow.
pub(super) fn lost_cookie(
    access: &Access,
    application: Option<&Application>,
    flow: &str,
    again: Option<&str>,
    request: &PortalRequest,
) -> Response<Bytes> {
    access.login_refused(
        "flow_cookie_missing",
        Outcome::Invalid,
        application,
        request,
    );
    let page = LoginLoop {
        cookie: &format!("{FLOW_PREFIX}{flow}"),
        causes: &[
            LostCookie::Blocked,
            LostCookie::TooMany,
            LostCookie::HostChanged,
        ],
        start_again: again,
        support: request.support.as_deref(),
        reason: Some("flow_cookie_missing"),
        request_id: &request.id.to_string(),
    };
    answer::page(page.page())
}
