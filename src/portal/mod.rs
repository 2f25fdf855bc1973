//! The answers of the team domain and of application hosts under `/cdn-cgi/access/`, and in place
//! of an application.
//!
//! Decides which step of a login a browser may take. Trusts sealed values of this team and verified
//! tokens. Never sends a browser anywhere but to a known application, a configured identity
//! provider or the team domain itself.

mod arrival;
mod authorized;
mod callback;
mod challenge;
mod conflict_page;
mod dispatch;
mod error_pages;
mod home;
mod identity;
mod login;
mod logout;
mod oidc;
mod outcome;
mod protocol;
mod provider_error;
mod provider_logout;
mod provider_request;
mod provider_trial;
mod redeem;
mod refresh;
mod saml;
mod saml_metadata;
mod session;
mod trial_report;

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header};
use serde_json::json;

pub(crate) use self::challenge::LoginRequired;
use crate::control::{EndpointParts, Running, TokenIssuer};
use crate::engine::Snapshot;
use crate::login::PortalRequest;
use crate::pages::answer;
use crate::route::{Endpoint, HostRole};

/// In bytes: the endpoints accept forms of a few fields.
const MAX_BODY: usize = 24 * 1024;

/// Returns the longest body that the request may have, in bytes.
pub(crate) fn max_body(running: &Running, request: &PortalRequest) -> usize {
    let is_callback = request.endpoint == Endpoint::Callback && request.host_role == HostRole::Team;
    if is_callback && saml::is_configured(&running.services()) {
        saml::MAX_RESPONSE
    } else {
        MAX_BODY
    }
}

/// Answers a request to one of our endpoints.
pub(crate) async fn handle(parts: &EndpointParts, request: &PortalRequest) -> Response<Bytes> {
    let Some(allowed) = methods(request.endpoint, request.host_role) else {
        return error_pages::not_found(request);
    };
    let allowed = if request.endpoint == Endpoint::Callback
        && saml::is_configured(&parts.running.services())
    {
        "GET, POST"
    } else {
        allowed
    };
    if !allowed.split(", ").any(|method| request.method == *method) {
        let mut response = answer::empty(StatusCode::METHOD_NOT_ALLOWED);
        response
            .headers_mut()
            .insert(header::ALLOW, HeaderValue::from_static(allowed));
        return response;
    }
    let mut response = match request.endpoint {
        Endpoint::Login => login::login(parts, request).await,
        Endpoint::Callback => callback::callback(parts, request).await,
        Endpoint::SamlMetadata => {
            saml_metadata::metadata(&parts.running.services(), &parts.issuer, request)
        }
        Endpoint::PublicCert => saml_metadata::public_cert(&parts.issuer, request),
        Endpoint::Authorized => match request.host_role {
            HostRole::Team => redeem::redeem_for_edge(parts, request).await,
            HostRole::Application => authorized::authorized(parts, request).await,
        },
        Endpoint::Logout => logout::logout(parts, request).await,
        Endpoint::Certs => certs(&parts.issuer, request),
        Endpoint::GetIdentity => {
            identity::get_identity(&parts.running.snapshot(), &parts.sessions, request).await
        }
        Endpoint::TestIdp => provider_trial::test_provider(parts, request).await,
        Endpoint::RefreshIdentity => refresh::refresh_identity(parts, request).await,
        Endpoint::LoggedOut => {
            let EndpointParts {
                running,
                flows,
                logins,
                ..
            } = parts;
            provider_logout::logged_out(running, flows.seal(), logins, request).await
        }
        Endpoint::ProtectedResource => protected_resource(&parts.running.snapshot(), request),
        Endpoint::Home => home::home(&parts.running.snapshot(), &parts.sessions, request).await,
        Endpoint::Unknown => error_pages::not_found(request),
    };
    // The browser must not post the body again elsewhere (RFC 9110 15.4.4).
    if request.method == Method::POST && response.status() == StatusCode::FOUND {
        *response.status_mut() = StatusCode::SEE_OTHER;
    }
    response
}

/// Returns the methods of an endpoint, as `Allow` lists them; `None` if hosts of that role do not
/// have it.
const fn methods(endpoint: Endpoint, host: HostRole) -> Option<&'static str> {
    match (endpoint, host) {
        (
            Endpoint::Login | Endpoint::Home | Endpoint::SamlMetadata | Endpoint::PublicCert,
            HostRole::Team,
        )
        | (Endpoint::Authorized | Endpoint::ProtectedResource, HostRole::Application)
        | (Endpoint::Certs | Endpoint::GetIdentity, _) => Some("GET, HEAD"),
        (
            Endpoint::Callback
            | Endpoint::RefreshIdentity
            | Endpoint::TestIdp
            | Endpoint::LoggedOut,
            HostRole::Team,
        ) => Some("GET"),
        (Endpoint::Authorized, HostRole::Team) => Some("POST"),
        (Endpoint::Logout, _) => Some("GET, POST"),
        (
            Endpoint::Login
            | Endpoint::Callback
            | Endpoint::Home
            | Endpoint::RefreshIdentity
            | Endpoint::TestIdp
            | Endpoint::LoggedOut
            | Endpoint::SamlMetadata
            | Endpoint::PublicCert,
            HostRole::Application,
        )
        | (Endpoint::ProtectedResource, HostRole::Team)
        | (Endpoint::Unknown, _) => None,
    }
}

/// Returns the team that signs users in for a page (`docs/wire.md` 2.10). It is public: the
/// redirect to the login reveals the same.
fn protected_resource(snapshot: &Snapshot, request: &PortalRequest) -> Response<Bytes> {
    let page = request
        .path
        .strip_prefix(Endpoint::PROTECTED_RESOURCE)
        .filter(|page| !page.is_empty())
        .unwrap_or("/");
    if snapshot.router().find(&request.host, page).is_none() {
        return error_pages::not_found(request);
    }
    let team = snapshot.team();
    let document = json!({
        "resource": format!("{}{}", team.url_of(&request.host), if page == "/" { "" } else { page }),
        "protected": true, "team_domain": team.domain.as_str(), "authorization_servers": [team.url()],
        "authentication_methods": [{"name": "cloudflared"}],
    });
    let mut response = answer::json(StatusCode::OK, &document);
    response.headers_mut().insert(
        header::ACCESS_CONTROL_ALLOW_ORIGIN,
        HeaderValue::from_static("*"),
    );
    response
}

/// Returns the public keys (`docs/wire.md` 2.5).
fn certs(issuer: &TokenIssuer, request: &PortalRequest) -> Response<Bytes> {
    let Some(document) = issuer.jwks() else {
        return error_pages::unavailable(request);
    };
    let mut response = Response::new(document);
    for (name, value) in [
        (header::CONTENT_TYPE, "application/json"),
        (header::CACHE_CONTROL, "public, max-age=300"),
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ] {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    response
}
