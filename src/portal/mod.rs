//! What the team domain and the application hosts answer under `/cdn-cgi/access/`, and in place of an application.
//!
//! Decides which step of a login a browser may take. Trusts sealed values of this team and verified tokens. Never sends a
//! browser anywhere but to a known application, a configured identity provider or the team domain itself.

pub(crate) mod answer;
pub(crate) mod authorized;
mod callback;
mod identity;
mod login;
mod logout;
pub(crate) mod pages;
mod respond;

use std::borrow::Cow;
use std::net::IpAddr;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};

use crate::control::Access;
use crate::model::{RequestId, UnixTime};
use crate::route::Endpoint;

/// A request to one of our own endpoints, taken out of the native one.
#[derive(Debug)]
pub(crate) struct PortalRequest {
    pub(crate) endpoint: Endpoint,
    pub(crate) on_team: bool,
    pub(crate) method: Method,
    /// Canonical.
    pub(crate) host: String,
    /// Canonical.
    pub(crate) path: String,
    pub(crate) query: Option<String>,
    pub(crate) headers: HeaderMap,
    pub(crate) client: IpAddr,
    /// Empty unless the method is POST; at most [`MAX_BODY`] bytes.
    pub(crate) body: Bytes,
    pub(crate) id: RequestId,
    pub(crate) now: UnixTime,
}

/// The endpoints take forms of a few fields.
pub(crate) const MAX_BODY: usize = 16 * 1024;

impl PortalRequest {
    /// The value of a query parameter; `None` also where it stands twice.
    fn parameter(&self, name: &str) -> Option<Cow<'_, str>> {
        let query = self.query.as_deref().unwrap_or_default();
        let mut found = url::form_urlencoded::parse(query.as_bytes()).filter(|(key, _)| *key == *name);
        let value = found.next().map(|(_, value)| value);
        value.filter(|_| found.next().is_none())
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// Answers a request to one of our own endpoints.
pub(crate) async fn handle(access: &Access, request: &PortalRequest) -> Response<Bytes> {
    let reads = matches!(request.method, Method::GET | Method::HEAD);
    match (request.endpoint, request.on_team) {
        (Endpoint::Login, true) if reads => login::login(access, request).await,
        (Endpoint::Callback, true) if request.method == Method::GET => callback::callback(access, request).await,
        (Endpoint::Authorized, false) if reads => authorized::authorized(access, request).await,
        (Endpoint::Authorized, true) if request.method == Method::POST => authorized::redeemed(access, request).await,
        (Endpoint::Logout, _) if matches!(request.method, Method::GET | Method::POST) => {
            logout::logout(access, request).await
        }
        (Endpoint::Certs, _) if reads => certs(access, request),
        (Endpoint::GetIdentity, _) if reads => identity::get_identity(access, request).await,
        (Endpoint::Callback, true) => only("GET"),
        (Endpoint::Authorized, true) => only("POST"),
        (Endpoint::Logout, _) => only("GET, POST"),
        (Endpoint::Login, true) | (Endpoint::Authorized, false) | (Endpoint::Certs | Endpoint::GetIdentity, _) => {
            only("GET, HEAD")
        }
        _ => respond::not_found(request.id),
    }
}

fn only(methods: &'static str) -> Response<Bytes> {
    let mut response = answer::empty(StatusCode::METHOD_NOT_ALLOWED);
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(methods));
    response
}

/// The public keys (§2.3), for everybody.
fn certs(access: &Access, request: &PortalRequest) -> Response<Bytes> {
    let Some(document) = access.jwks() else { return respond::unavailable(request.id) };
    let mut response = Response::new(document);
    for (name, value) in [
        (header::CONTENT_TYPE, "application/json"),
        (header::CACHE_CONTROL, "public, max-age=300"),
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}
