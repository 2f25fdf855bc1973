//! Logins over OpenID Connect: the request to the provider, and the callback that answers it.
//!
//! Decides which flow a callback belongs to, and whether another attempt may succeed. Trusts a
//! sealed `state` and the flow cookie that was made with it. Never calls a provider twice for one
//! flow.

use bytes::Bytes;
use http::Response;

use super::outcome::{FailedLogin, LoginOutcome, LoginStep, NextAttempt, ProviderRequest};
use super::protocol::ProviderResponse;
use super::provider_error::{self, Reported};
use crate::control::{Audit, Authenticated, EndpointParts, Flows, Services};
use crate::cookie::SealingKey;
use crate::idp::{
    Attempt, Callback, CallbackContext, Hints, LoginFailure, Oidc, Pending, Provider,
    ProviderIdentity, StartedLogin,
};
use crate::login::{Flow, PortalRequest, State};
use crate::model::{IdpId, Secret};
use crate::observe::metrics::Login as Counted;
use crate::saml::Message;

/// Begins a login.
pub(super) async fn begin(
    flows: &Flows,
    provider: &Oidc,
    state: State,
    hints: Hints,
    request: &PortalRequest,
) -> LoginOutcome {
    let state = without_long_url(flows, state);
    let Ok(sealed) = state.seal(flows.seal()) else {
        return LoginOutcome::Internal;
    };
    match provider.begin(&sealed, hints, request.now).await {
        Ok(begun) => to_provider(flows, provider, &Sealed { state, sealed }, begun, request),
        Err(failure) => LoginOutcome::failed(provider.id(), failure),
    }
}

/// The `state` of a flow, and the same as the provider returns it.
struct Sealed {
    state: State,
    sealed: String,
}

/// Removes a long URL from `state` and remembers it on this node: many providers reject request
/// lines of such a length.
fn without_long_url(flows: &Flows, state: State) -> State {
    if !state.to.is_long() {
        return state;
    }
    flows.remember_begun(&state);
    state.to_front_page()
}

fn to_provider(
    flows: &Flows,
    provider: &Oidc,
    Sealed { state, sealed }: &Sealed,
    StartedLogin { url, pending }: StartedLogin,
    request: &PortalRequest,
) -> LoginOutcome {
    let flow = Flow::new(sealed, pending, request.now);
    match flow.to_cookie(flows.seal(), &state.flow, request.now) {
        Some(flow_cookie) => LoginOutcome::ToProvider(Box::new(ProviderRequest {
            provider: provider.name().to_owned(),
            message: Message::Redirect(url),
            flow_cookie,
        })),
        None => LoginOutcome::Internal,
    }
}

/// A callback by GET, with the parameters in its query.
pub(super) struct OidcResponse {
    state: State,
    /// `state` as the provider returned it.
    sealed: String,
}

impl OidcResponse {
    /// Reads the `state` of a callback.
    ///
    /// # Errors
    /// The response to a callback with a `state` that is absent or not of this team.
    pub(super) fn read(
        flows: &Flows,
        audit: &Audit,
        request: &PortalRequest,
    ) -> Result<Self, Box<Response<Bytes>>> {
        let sealed = request.parameter("state").unwrap_or_default().into_owned();
        let Ok(state) = State::open(flows.seal(), &sealed) else {
            audit.login_refused("login_state", Counted::Invalid, None, request);
            let page = provider_error::without_state("login_state", request);
            return Err(Box::new(page));
        };
        // This process may remember the long URL that the sealed `state` has no room for.
        let state = flows.begun(&state.flow).unwrap_or(state);
        Ok(Self { state, sealed })
    }
}

impl ProviderResponse for OidcResponse {
    type Pending = Pending;

    fn state(&self) -> &State {
        &self.state
    }

    fn take_flow(&mut self, seal: &SealingKey, request: &PortalRequest) -> Option<Flow<Pending>> {
        let (headers, flow) = (&request.headers, &self.state.flow);
        Flow::for_state(headers, seal, flow, &self.sealed)
    }

    async fn reported(&self, _: &Flows, request: &PortalRequest) -> Option<Reported> {
        Reported::in_query(request)
    }

    async fn finish(self, step: &LoginStep<'_>, pending: Pending, began: u64) -> LoginOutcome {
        match authenticate(
            &step.parts.running.services(),
            &self.sealed,
            &pending,
            step.request,
        )
        .await
        {
            Ok(profile) => LoginOutcome::Authenticated(Box::new(Authenticated {
                profile,
                previous: None,
                began,
            })),
            Err(failure) => {
                let services = step.parts.running.services();
                let attempt = oidc_provider(&services, &pending.idp)
                    .and_then(|provider| provider.next_attempt(&failure, &pending));
                LoginOutcome::Failed(Box::new(FailedLogin {
                    idp: pending.idp,
                    failure,
                    next: attempt.map(|attempt| NextAttempt::AtProvider {
                        state: self.state,
                        attempt,
                    }),
                }))
            }
        }
    }
}

/// Exchanges the code and verifies the identity.
async fn authenticate(
    services: &Services,
    sealed: &str,
    pending: &Pending,
    request: &PortalRequest,
) -> Result<ProviderIdentity, LoginFailure> {
    let provider = oidc_provider(services, &pending.idp).ok_or(LoginFailure::Flow)?;
    let callback = Callback::parse(request.query.as_deref().unwrap_or_default())?;
    let context = CallbackContext {
        now: request.now,
        leeway: services.leeway,
        client_ip: Some(request.client),
    };
    let state = Secret::new(sealed);
    provider.finish(&state, pending, &callback, context).await
}

/// Begins a failed login once more, with another request to the provider; `None` if that is not
/// configured any more.
pub(super) async fn begin_again(
    parts: &EndpointParts,
    idp: &IdpId,
    failed: &State,
    attempt: Attempt,
    request: &PortalRequest,
) -> Option<LoginOutcome> {
    let (flows, services) = (&parts.flows, parts.running.services());
    let provider = oidc_provider(&services, idp)?;
    let state = without_long_url(flows, failed.begun_again(request.now));
    let Ok(sealed) = state.seal(flows.seal()) else {
        return Some(LoginOutcome::Internal);
    };
    let begun = provider.begin_again(&sealed, attempt, request.now).await;
    Some(match begun {
        Ok(begun) => to_provider(flows, provider, &Sealed { state, sealed }, begun, request),
        Err(failure) => LoginOutcome::failed(idp, failure),
    })
}

fn oidc_provider<'a>(services: &'a Services, idp: &IdpId) -> Option<&'a Oidc> {
    let mut providers = services.providers.iter();
    providers
        .find(|provider| provider.id() == idp)
        .and_then(Provider::as_oidc)
}
