//! Logins over OpenID Connect: the request to the provider, and the callback that answers it.
//!
//! Decides which flow a callback belongs to, and whether a failed login is tried once more. Trusts
//! a sealed `state` and the flow cookie that was made with it. Never calls a provider twice for one
//! flow.

use bytes::Bytes;
use http::Response;

use super::outcome::{Authenticated, LoginOutcome, LoginStep, ProviderRequest};
use super::protocol::ProviderResponse;
use super::provider_error::{self, Reported};
use crate::control::{EndpointParts, Flows, Services};
use crate::cookie::SealingKey;
use crate::idp::{
    Callback, Hints, LoginFailure, Oidc, Pending, Provider, ProviderIdentity, StartedLogin,
};
use crate::login::{Flow, PortalRequest, State};
use crate::model::{Secret, chain};
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
        Err(failure) => failed(provider, failure),
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

fn failed(provider: &Oidc, failure: LoginFailure) -> LoginOutcome {
    LoginOutcome::Failed {
        idp: provider.id().clone(),
        failure,
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
        parts: &EndpointParts,
        request: &PortalRequest,
    ) -> Result<Self, Box<Response<Bytes>>> {
        let sealed = request.parameter("state").unwrap_or_default().into_owned();
        let Ok(state) = State::open(parts.flows.seal(), &sealed) else {
            parts
                .audit
                .login_refused("login_state", Counted::Invalid, None, request);
            let page = provider_error::without_state("login_state", request);
            return Err(Box::new(page));
        };
        // This process may remember the long URL that the sealed `state` has no room for.
        let state = parts.flows.begun(&state.flow).unwrap_or(state);
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
            Err(failure) => match try_again(step, &self.state, &pending, &failure).await {
                Some(outcome) => outcome,
                None => LoginOutcome::Failed {
                    idp: pending.idp,
                    failure,
                },
            },
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
    let provider = services
        .providers
        .iter()
        .find(|provider| *provider.id() == pending.idp)
        .and_then(Provider::as_oidc)
        .ok_or(LoginFailure::Flow)?;
    let callback = Callback::parse(request.query.as_deref().unwrap_or_default())?;
    let (state, client) = (Secret::new(sealed), Some(request.client));
    let (now, leeway) = (request.now, services.leeway);
    provider
        .finish(&state, pending, &callback, now, leeway, client)
        .await
}

/// Begins a failed login once more, if another attempt may succeed and was not made before.
async fn try_again(
    step: &LoginStep<'_>,
    failed_state: &State,
    pending: &Pending,
    failure: &LoginFailure,
) -> Option<LoginOutcome> {
    let (parts, request) = (step.parts, step.request);
    let services = parts.running.services();
    let provider = services
        .providers
        .iter()
        .find(|provider| *provider.id() == pending.idp)?
        .as_oidc()?;
    let attempt = provider.next_attempt(failure, pending)?;
    let (idp, error, hint) = (&*pending.idp.0, chain(failure), failure.advice());
    tracing::info!(request_id = %request.id, idp, error, hint, "starting the login again");
    let state = without_long_url(&parts.flows, failed_state.begun_again(request.now));
    let Ok(sealed) = state.seal(parts.flows.seal()) else {
        return Some(LoginOutcome::Internal);
    };
    let begun = provider.begin_again(&sealed, attempt, request.now).await;
    Some(match begun {
        Ok(begun) => to_provider(
            &parts.flows,
            provider,
            &Sealed { state, sealed },
            begun,
            request,
        ),
        Err(failure) => failed(provider, failure),
    })
}
