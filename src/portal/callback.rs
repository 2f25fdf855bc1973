//! `callback`: the return of a browser from an identity provider.
//!
//! Decides whether the flow that a response belongs to may be finished. Trusts the sealed state and
//! the cookie of the browser that began it. Never finishes a flow twice.

use bytes::Bytes;
use http::{Method, Response, header};

use super::error_pages;
use super::oidc::OidcResponse;
use super::outcome::{LoginAttempt, LoginOutcome, LoginStep, Retry, UnusableCause, UnusableFlow};
use super::protocol::ProviderResponse;
use super::saml::SamlCallback;
use crate::control::{EndpointParts, Flows};
use crate::login::{Flow, FlowCookies, LoginPurpose, PortalRequest, State};
use crate::model::UnixTime;
use crate::store::StoreError;

/// Answers a callback, over OpenID Connect by GET and over SAML by POST.
pub(super) async fn callback(parts: &EndpointParts, request: &PortalRequest) -> Response<Bytes> {
    if request.method == Method::POST {
        match SamlCallback::read(parts, request).await {
            Ok(response) => finish(parts, request, response).await,
            Err(refusal) => *refusal,
        }
    } else {
        match OidcResponse::read(&parts.flows, &parts.audit, request) {
            Ok(response) => finish(parts, request, response).await,
            Err(refusal) => *refusal,
        }
    }
}

/// Finishes the flow that a provider's response belongs to.
async fn finish<R: ProviderResponse>(
    parts: &EndpointParts,
    request: &PortalRequest,
    mut returned: R,
) -> Response<Bytes> {
    let snapshot = parts.running.snapshot();
    let Some(purpose) = LoginPurpose::from_state(returned.state(), &snapshot) else {
        return error_pages::not_found(request);
    };
    let step = LoginStep {
        parts,
        snapshot: &snapshot,
        request,
        purpose: &purpose,
    };
    let flow = returned.take_flow(parts.flows.seal(), request);
    let (flow, began) =
        match UsedFlow::take(&parts.flows, flow, returned.state(), request.now).await {
            Ok(UsedFlow::First(flow, began)) => (flow, began),
            Ok(UsedFlow::Unusable(cause)) => {
                // The flow that a reported error ends may have ended here before. The operator
                // still needs the provider's reason.
                if let Some(reported) = returned.reported(&parts.flows, request).await {
                    reported.log(cause.reason(), request);
                }
                let state = returned.state();
                let unusable = UnusableFlow {
                    flow: state.flow.clone(),
                    cause,
                    attempt: LoginAttempt::of(state),
                };
                return step.conclude(LoginOutcome::UnusableFlow(unusable)).await;
            }
            Err(_) => {
                let (idp, retry) = (None, Retry::Login);
                return step
                    .conclude(LoginOutcome::Unavailable { idp, retry })
                    .await;
            }
        };
    let name = returned.state().flow.clone();
    let outcome = returned.finish(&step, flow.pending, began).await;
    let mut response = step.conclude(outcome).await;
    if let Some(removal) = FlowCookies::removal(&name, request.now) {
        response.headers_mut().append(header::SET_COOKIE, removal);
    }
    response
}

/// A flow to which a browser returns.
enum UsedFlow<P> {
    /// The browser returns for the first time, at this revision of the store. The provider is
    /// called once, however often the browser returns.
    First(Flow<P>, u64),
    Unusable(UnusableCause),
}

impl<P> UsedFlow<P> {
    /// Uses the flow up.
    ///
    /// # Errors
    /// If the store does not accept that.
    async fn take(
        flows: &Flows,
        flow: Option<Flow<P>>,
        state: &State,
        now: UnixTime,
    ) -> Result<Self, StoreError> {
        let name = format!("flow {}", state.flow);
        // Before the use is recorded: the store forgets names after this time, so an expired flow
        // must never count as new.
        if state.has_expired(now) {
            return Ok(Self::Unusable(UnusableCause::Expired));
        }
        Ok(match flow {
            None if flows.is_used_up(&name) => Self::Unusable(UnusableCause::Expired),
            // Not used up: another browser that brings a copied `state` must not end the login of
            // the right one.
            None => Self::Unusable(UnusableCause::CookieLost),
            Some(flow) => match flows.use_up(&name, state.ends()).await? {
                Some(began) => Self::First(flow, began),
                None => Self::Unusable(UnusableCause::Expired),
            },
        })
    }
}
