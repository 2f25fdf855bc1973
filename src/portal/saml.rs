//! Logins over SAML: the request to the provider, and the form that answers it (SAML Profiles 4.1).
//!
//! Decides which flow a response belongs to. Trusts the flow cookie of the browser and a verified
//! assertion that was not used before. Never accepts an unsolicited response.

use bytes::Bytes;
use http::Response;
use serde::{Deserialize, Serialize};

use super::error_pages;
use super::outcome::{
    FailedLogin, LoginAttempt, LoginOutcome, LoginStep, NextAttempt, ProviderRequest, Retry,
};
use super::protocol::ProviderResponse;
use super::provider_error::Reported;
use crate::control::{Audit, Authenticated, EndpointParts, Flows, Running, Services};
use crate::cookie::SealingKey;
use crate::idp::{Hints, LoginFailure, Prompt, Provider, ProviderIdentity, Saml, SamlPending};
use crate::login::{Flow, PortalRequest, State, is_flow};
use crate::model::IdentityNonce;
use crate::observe::metrics::Login as Counted;
use crate::saml::{AssertionUse, Reauthentication, SamlError};

/// The browser's part of a flow. `RelayState` has no room for more than the flow's name, so the
/// cookie holds the rest.
#[derive(Serialize, Deserialize)]
pub(super) struct SamlFlow {
    #[serde(rename = "p")]
    pending: SamlPending,
    #[serde(rename = "l")]
    state: State,
    /// The browser's session. Its cookie does not come with a form from another site.
    #[serde(rename = "b", default, skip_serializing_if = "Option::is_none")]
    previous: Option<IdentityNonce>,
}

/// Returns `true` if a configured provider uses SAML.
pub(super) fn is_configured(services: &Services) -> bool {
    services
        .providers
        .iter()
        .any(|provider| provider.as_saml().is_some())
}

/// Begins a login.
pub(super) async fn begin(
    parts: &EndpointParts,
    saml: &Saml,
    state: &State,
    hints: &Hints,
    request: &PortalRequest,
) -> LoginOutcome {
    let Ok(session) = parts
        .sessions
        .organisation_session(&request.headers, request.now)
        .await
    else {
        return LoginOutcome::Unavailable {
            idp: Some(saml.id().clone()),
            retry: Retry::Login,
        };
    };
    let keys = parts.issuer.signing();
    let key = keys.as_deref().map(|keys| keys.signer());
    let reauthentication = match hints.prompt {
        Some(Prompt::Login) => Reauthentication::Required,
        _ => Reauthentication::Optional,
    };
    let (message, pending) = match saml.begin(&state.flow, key, reauthentication, request.now) {
        Ok(begun) => begun,
        Err(failure) => {
            return LoginOutcome::failed(saml.id(), failure);
        }
    };
    // A long URL does not fit into the cookie, so only this node knows it.
    parts.flows.remember_begun(state);
    let flow = SamlFlow {
        pending,
        state: state.shortened(),
        previous: session.map(|login| login.nonce),
    };
    let flow = Flow::new(&state.flow, flow, request.now);
    let cookie = flow.to_cookie_for_forms(parts.flows.seal(), &state.flow, request.now);
    match cookie {
        Some(flow_cookie) => LoginOutcome::ToProvider(Box::new(ProviderRequest {
            provider: saml.name().to_owned(),
            message,
            flow_cookie,
        })),
        None => LoginOutcome::Internal,
    }
}

/// A callback by POST: the assertion consumer service (SAML Profiles 4.1.4.3).
pub(super) struct SamlCallback {
    /// `SAMLResponse`, in base64.
    response: String,
    flow: Option<Flow<SamlFlow>>,
    state: State,
}

impl SamlCallback {
    /// Reads the form of a callback, and finds the flow that its `RelayState` names.
    ///
    /// # Errors
    /// The response to a form that belongs to no known flow.
    pub(super) async fn read(
        parts: &EndpointParts,
        request: &PortalRequest,
    ) -> Result<Self, Box<Response<Bytes>>> {
        let Form {
            saml_response,
            relay_state,
        } = Form::read(&request.body);
        let (Some(response), Some(name)) = (
            &saml_response,
            relay_state.filter(|relay_state| is_flow(relay_state)),
        ) else {
            let EndpointParts { flows, audit, .. } = parts;
            let page = without_flow(flows, audit, saml_response.as_deref(), request).await;
            return Err(Box::new(page));
        };
        let flow = Flow::<SamlFlow>::named(&request.headers, parts.flows.seal(), &name);
        let state = parts
            .flows
            .begun(&name)
            .or_else(|| flow.as_ref().map(|flow| flow.pending.state.clone()));
        let Some(state) = state else {
            let reason = "flow_cookie_missing";
            if let Some(reported) = Reported::in_response(&parts.flows, response).await {
                reported.log(reason, request);
            }
            parts
                .audit
                .login_refused(reason, Counted::Invalid, None, request);
            let home = &parts.running.services().team_url;
            let page = error_pages::flow_cookie_missing(request, &name, Some(home));
            return Err(Box::new(page));
        };
        Ok(Self {
            response: response.clone(),
            flow,
            state,
        })
    }
}

/// Rejects a form without a response, or without the name of a flow.
async fn without_flow(
    flows: &Flows,
    audit: &Audit,
    response: Option<&str>,
    request: &PortalRequest,
) -> Response<Bytes> {
    if let Some(response) = response
        && let Some(reported) = Reported::in_response(flows, response).await
    {
        audit.login_refused(NO_STATE, Counted::Invalid, None, request);
        reported.log(NO_STATE, request);
        return reported.page(NO_STATE, request);
    }
    // Most of these logins began at the provider, with a tile there.
    let failure = LoginFailure::Saml(SamlError::Unsolicited);
    audit.login_failed(&failure, None, None, request);
    error_pages::login_failed(request, &failure, error_pages::FailureLinks::default())
}

impl ProviderResponse for SamlCallback {
    type Pending = SamlFlow;

    fn state(&self) -> &State {
        &self.state
    }

    fn take_flow(&mut self, _: &SealingKey, _: &PortalRequest) -> Option<Flow<SamlFlow>> {
        self.flow.take()
    }

    async fn reported(&self, flows: &Flows, _: &PortalRequest) -> Option<Reported> {
        Reported::in_response(flows, &self.response).await
    }

    async fn finish(self, step: &LoginStep<'_>, flow: SamlFlow, began: u64) -> LoginOutcome {
        let SamlFlow {
            pending, previous, ..
        } = flow;
        let verified = verify(
            &step.parts.running,
            &step.parts.flows,
            &pending,
            self.response,
            step.request,
        )
        .await;
        match verified {
            Ok(Some(profile)) => LoginOutcome::Authenticated(Box::new(Authenticated {
                profile,
                previous,
                began,
            })),
            Ok(None) => LoginOutcome::Unavailable {
                idp: Some(pending.idp),
                retry: Retry::Login,
            },
            Err(failure) => {
                let is_first = LoginAttempt::of(&self.state) == LoginAttempt::First;
                LoginOutcome::Failed(Box::new(FailedLogin {
                    idp: pending.idp,
                    next: (failure.is_expired() && is_first).then_some(NextAttempt::NewLogin),
                    failure,
                }))
            }
        }
    }
}

/// Verifies a response and uses its assertion up; `None` if the store did not respond, or if too
/// many responses are being verified.
///
/// # Errors
/// If the response is not valid.
async fn verify(
    running: &Running,
    flows: &Flows,
    pending: &SamlPending,
    response: String,
    request: &PortalRequest,
) -> Result<Option<ProviderIdentity>, LoginFailure> {
    let (services, pending, now, client) = (
        running.services(),
        pending.clone(),
        request.now,
        request.client,
    );
    let verified = flows.verify(move || {
        let provider = services
            .providers
            .iter()
            .find(|provider| *provider.id() == pending.idp);
        let saml = provider
            .and_then(Provider::as_saml)
            .ok_or(LoginFailure::Flow)?;
        saml.finish(&pending, &response, now, services.leeway, client)
    });
    let Some(verified) = verified.await.transpose()? else {
        return Ok(None);
    };
    let (name, until) = verified.replay_key();
    // After the verification: only genuine assertions take room in the store.
    let assertion_use = match flows.use_up(name, until).await {
        Ok(Some(_)) => AssertionUse::First,
        Ok(None) => AssertionUse::Repeated,
        Err(_) => return Ok(None),
    };
    verified.identity(assertion_use).map(Some)
}

/// The fields of a response. One that occurs twice is absent.
struct Form {
    saml_response: Option<String>,
    relay_state: Option<String>,
}

impl Form {
    fn read(body: &[u8]) -> Self {
        let field = |name: &str| {
            let mut found = url::form_urlencoded::parse(body).filter(|(key, _)| *key == *name);
            let value = found.next().map(|(_, value)| value.into_owned());
            value.filter(|_| found.next().is_none())
        };
        Self {
            saml_response: field("SAMLResponse"),
            relay_state: field("RelayState"),
        }
    }
}

/// The reason of a response that names no flow.
const NO_STATE: &str = "login_state";

/// The longest form, in bytes: a SAML response of 256 KiB in base64, form-encoded.
pub(super) const MAX_RESPONSE: usize = 512 * 1024;
