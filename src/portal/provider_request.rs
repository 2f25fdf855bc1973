use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};

use super::outcome::{LoginOutcome, ProviderRequest};
use super::{oidc, saml};
use crate::control::EndpointParts;
use crate::cookie::SealingKey;
use crate::idp::{Hints, Provider};
use crate::login::{FlowCookies, PortalRequest, State};
use crate::pages::{SENDING_POLICY, SamlRequest, answer};
use crate::saml::Message;

/// Begins a login at an identity provider.
pub(super) async fn begin(
    parts: &EndpointParts,
    provider: &Provider,
    state: State,
    hints: Hints,
    request: &PortalRequest,
) -> LoginOutcome {
    if !is_navigation(request) {
        return LoginOutcome::NotNavigation;
    }
    match provider {
        Provider::Saml(saml) => saml::begin(parts, saml, &state, &hints, request).await,
        Provider::Oidc(oidc) => oidc::begin(&parts.flows, oidc, state, hints, request).await,
    }
}

/// Returns `true` if the request may begin a login. Scripts, images and frames on other sites may
/// not: any page could fill a browser with flow cookies that way, unnoticed by its user.
fn is_navigation(request: &PortalRequest) -> bool {
    let header = |name| request.header(name);
    let navigates = header("sec-fetch-mode").is_none_or(|mode| mode == "navigate");
    let is_framed = header("sec-fetch-dest").is_some_and(|dest| dest != "document");
    navigates && !(is_framed && header("sec-fetch-site") == Some("cross-site"))
}

impl ProviderRequest {
    /// Returns the response that sends the browser to the provider.
    pub(super) fn respond(self, seal: &SealingKey, request: &PortalRequest) -> Response<Bytes> {
        let mut response = match &self.message {
            Message::Redirect(url) => answer::redirect(StatusCode::FOUND, url.as_str()),
            Message::Post {
                action,
                saml_request,
                relay_state,
            } => {
                let page = SamlRequest {
                    provider: &self.provider,
                    action: action.as_str(),
                    saml_request,
                    relay_state,
                    request_id: &request.id.to_string(),
                };
                let mut response = answer::page(page.page());
                let headers = response.headers_mut();
                headers.insert(header::CONTENT_SECURITY_POLICY, SENDING_POLICY.clone());
                // Providers may check which site a form comes from. This reveals nothing else of
                // the page.
                headers.insert(
                    header::REFERRER_POLICY,
                    HeaderValue::from_static("strict-origin"),
                );
                response
            }
        };
        let headers = response.headers_mut();
        for removal in FlowCookies::from_headers(&request.headers, seal).make_room(request.now) {
            headers.append(header::SET_COOKIE, removal);
        }
        headers.append(header::SET_COOKIE, self.flow_cookie);
        response
    }
}
