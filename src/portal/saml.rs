//! Logins over SAML: the request on its way there, and the response on its way back.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use serde::{Deserialize, Serialize};

use super::callback::{Answer, UsedFlow, conclude, late, lost_cookie, once_more, remove_flow};
use super::errand::Errand;
use super::error_pages;
use super::provider_error::Reported;
use crate::control::Access;
use crate::idp::{LoginFailure, Profile, Provider, Saml, SamlPending};
use crate::login::{Flow, FlowCookies, PortalRequest, State, is_flow};
use crate::model::{IdentityNonce, chain};
use crate::observe::metrics::Login as Outcome;
use crate::pages::{SENDING_POLICY, SamlRequest, answer};
use crate::saml::{Message, SamlError};

/// What the browser keeps of a login: the protocol's part and ours. `RelayState` has room for the
/// flow's name alone.
#[derive(Serialize, Deserialize)]
struct Kept {
    #[serde(rename = "p")]
    pending: SamlPending,
    #[serde(rename = "l")]
    state: State,
    /// The session that the browser has: it does not come along with a form from elsewhere.
    #[serde(rename = "b", default, skip_serializing_if = "Option::is_none")]
    before: Option<IdentityNonce>,
}

/// Whether any provider is of SAML.
pub(super) fn is_here(access: &Access) -> bool {
    access
        .services()
        .providers
        .iter()
        .any(|provider| provider.saml().is_some())
}

/// Sends the browser to the provider. `fresh`: where somebody wants to be somebody else.
pub(super) async fn begin(
    access: &Access,
    saml: &Saml,
    state: State,
    fresh: bool,
    errand: &Errand,
    request: &PortalRequest,
) -> Response<Bytes> {
    let Ok(before) = access
        .organisation_session(&request.headers, request.now)
        .await
    else {
        return errand.unavailable(access, Some(saml.id()), request);
    };
    let before = before.map(|login| login.nonce);
    let keys = access.signing();
    let key = keys.as_deref().map(|keys| keys.signer());
    let (message, pending) = match saml.begin(&state.flow, key, fresh, request.now) {
        Ok(begun) => begun,
        Err(failure) => return errand.failed(access, (&failure, saml.id()), request),
    };
    // RelayState has no room for what the login is for. The browser keeps it, but for a long
    // address: that is here alone.
    access.remember_begun(&state);
    let id = state.flow.clone();
    let flow = Flow::new(
        &id,
        Kept {
            pending,
            state: state.shortened(),
            before,
        },
        request.now,
    );
    let cookie = flow.to_cookie_for_forms(access.seal(), &id, request.now);
    let Some(cookie) = cookie else {
        return error_pages::internal(request);
    };
    let mut response = match message {
        Message::Redirect(url) => answer::redirect(StatusCode::FOUND, url.as_str()),
        Message::Post {
            action,
            saml_request,
            relay_state,
        } => {
            let page = SamlRequest {
                provider: saml.name(),
                action: action.as_str(),
                saml_request: &saml_request,
                relay_state: &relay_state,
                request_id: &request.id.to_string(),
            };
            let mut response = answer::page(page.page());
            response
                .headers_mut()
                .insert(header::CONTENT_SECURITY_POLICY, SENDING_POLICY.clone());
            // Providers may look where a form comes from; of the page they learn nothing by it.
            response.headers_mut().insert(
                header::REFERRER_POLICY,
                HeaderValue::from_static("strict-origin"),
            );
            response
        }
    };
    for removal in FlowCookies::of(&request.headers, access.seal()).make_room(request.now) {
        response.headers_mut().append(header::SET_COOKIE, removal);
    }
    response.headers_mut().append(header::SET_COOKIE, cookie);
    response
}

/// `callback`, by POST: the assertion consumer service (SAML Profiles 4.1.4.3).
pub(super) async fn callback(access: &Access, request: &PortalRequest) -> Response<Bytes> {
    let snapshot = access.snapshot();
    let form = Form::read(&request.body);
    let (saml_response, relay_state) = (
        form.saml_response,
        form.relay_state.filter(|name| is_flow(name)),
    );
    let (Some(saml_response), Some(relay_state)) = (&saml_response, relay_state) else {
        if let Some(reported) = reported(access, saml_response.as_deref()).await {
            access.login_refused(NO_STATE, Outcome::Invalid, None, request);
            reported.log(NO_STATE, request);
            return reported.page(NO_STATE, request);
        }
        // Most of these are logins that began at the provider, by a tile there.
        access.login_failed(
            &LoginFailure::Saml(SamlError::Unsolicited),
            None,
            None,
            request,
        );
        return error_pages::login_failed(
            request,
            &LoginFailure::Saml(SamlError::Unsolicited),
            error_pages::FailureLinks::default(),
        );
    };
    let flow = Flow::<Kept>::named(&request.headers, access.seal(), &relay_state);
    let state = access
        .begun(&relay_state)
        .or_else(|| flow.as_ref().map(|flow| flow.pending.state.clone()));
    let Some(state) = state else {
        if let Some(reported) = reported(access, Some(saml_response)).await {
            reported.log("flow_cookie_missing", request);
        }
        let home = access.services().team_url.clone();
        return lost_cookie(access, None, &relay_state, Some(&home), request);
    };
    let Some(errand) = Errand::of(&snapshot, &state) else {
        return error_pages::not_found(request);
    };
    let Ok(used) = UsedFlow::of(access, flow, &state, request.now).await else {
        return errand.unavailable(access, None, request);
    };
    let Kept {
        pending, before, ..
    } = match used {
        UsedFlow::First(flow) => flow.pending,
        UsedFlow::Over { lost } => {
            let reported = reported(access, Some(saml_response)).await;
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
    let outcome = finish(access, &pending, saml_response.clone(), request).await;
    if let (Err(failure), Errand::Application(destination)) = (&outcome, &errand)
        && failure.is_expired()
        && !state.second
    {
        let (idp, error) = (&*pending.idp.0, chain(failure));
        tracing::info!(request_id = %request.id, idp, error, "a login is begun once more");
        let mut response = once_more(access, destination);
        remove_flow(&state.flow, &mut response, request);
        return response;
    }
    conclude(
        access,
        &snapshot,
        &errand,
        Answer {
            outcome,
            idp: &pending.idp,
            before,
        },
        &state.flow,
        request,
    )
    .await
}

/// The error in a response that belongs to no login.
async fn reported(access: &Access, response: Option<&str>) -> Option<Reported> {
    Reported::in_response(access, response?).await
}

/// `None` where it is our own store that fails, or this node that has too much to do.
async fn finish(
    access: &Access,
    pending: &SamlPending,
    response: String,
    request: &PortalRequest,
) -> Result<Option<Profile>, LoginFailure> {
    let (services, pending, now, client) = (
        access.services(),
        pending.clone(),
        request.now,
        request.client,
    );
    let verified = access.verify(move || {
        let provider = services
            .providers
            .iter()
            .find(|provider| *provider.id() == pending.idp);
        let saml = provider
            .and_then(Provider::saml)
            .ok_or(LoginFailure::Flow)?;
        saml.finish(&pending, &response, now, services.leeway, client)
    });
    let Some(answer) = verified.await.transpose()? else {
        return Ok(None);
    };
    let (name, until) = answer.once();
    let Ok(first) = access.use_up(name, until).await else {
        return Ok(None);
    };
    answer.profile(first).map(Some)
}

/// The fields of a response, each if it is there once.
struct Form {
    saml_response: Option<String>,
    relay_state: Option<String>,
}

impl Form {
    fn read(body: &[u8]) -> Self {
        let one = |name: &str| {
            let mut found = url::form_urlencoded::parse(body).filter(|(key, _)| *key == *name);
            let value = found.next().map(|(_, value)| value.into_owned());
            value.filter(|_| found.next().is_none())
        };
        Self {
            saml_response: one("SAMLResponse"),
            relay_state: one("RelayState"),
        }
    }
}

/// The reason of a response without the name of its flow.
const NO_STATE: &str = "login_state";

/// A SAML response of 256 KiB, in base64, with what forms escape of that.
pub(super) const MAX_RESPONSE: usize = 512 * 1024;
