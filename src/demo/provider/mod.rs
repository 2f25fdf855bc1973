//! The demo's OpenID provider, modelled on an Okta organization.
//!
//! Decides, as a strict provider does, if an authorization request, a code and an access token are
//! valid: PKCE with S256 is required, and a code works once. Trusts the visitor's choice of a user,
//! without a password, so it must never serve anything but the demo. Never does I/O.

mod authorize;
mod directory;
mod expiring;
mod params;
mod token;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use askama::Template;
use aws_lc_rs::digest;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use serde_json::json;

use super::pages::{self, STYLE};
use super::serve::Handler;
use super::users::User;
use super::{Credentials, random};
use crate::model::{Secret, UnixTime};
use crate::token::{SigningKey, SigningKeyError};
use expiring::Expiring;

/// The provider of one run of the demo, with one registered client: the proxy.
#[derive(Debug)]
pub(super) struct DemoProvider {
    issuer: String,
    redirect_uri: String,
    credentials: Credentials,
    key: SigningKey,
    codes: Mutex<Expiring<CodeGrant>>,
    access: Mutex<Expiring<AccessToken>>,
}

/// The grant behind an authorization code.
#[derive(Debug)]
struct CodeGrant {
    user: &'static User,
    scope: Scope,
    nonce: Option<String>,
    /// The S256 code challenge (RFC 7636 4.2).
    challenge: String,
    at: UnixTime,
}

/// The grant behind an access token.
#[derive(Clone, Debug)]
struct AccessToken {
    user: &'static User,
    scope: Scope,
}

/// The requested scopes. All of them are granted.
#[derive(Clone, Debug)]
struct Scope(String);

impl DemoProvider {
    /// Creates a provider at `issuer`, an origin without a trailing slash, with `redirect_uri` as
    /// the only registered one. Generates a signing key, which takes up to a second.
    ///
    /// # Errors
    /// If no signing key can be generated.
    pub(super) fn new(
        issuer: String,
        redirect_uri: String,
        credentials: Credentials,
    ) -> Result<Self, SigningKeyError> {
        let key = SigningKey::generate()?;
        let (codes, access) = (
            Mutex::new(Expiring::new(CODE_LIFE)),
            Mutex::new(Expiring::new(ACCESS_LIFE)),
        );
        Ok(Self {
            issuer,
            redirect_uri,
            credentials,
            key,
            codes,
            access,
        })
    }

    /// OpenID Connect Discovery 1.0, section 3.
    fn discovery(&self) -> Response<Bytes> {
        let issuer = &self.issuer;
        let at = |name: &str| format!("{issuer}/oauth2/v1/{name}");
        let document = json!({
            "issuer": issuer,
            "authorization_endpoint": at("authorize"),
            "token_endpoint": at("token"),
            "userinfo_endpoint": at("userinfo"),
            "jwks_uri": at("keys"),
            "end_session_endpoint": at("logout"),
            "response_types_supported": ["code"],
            "response_modes_supported": ["query"],
            "grant_types_supported": ["authorization_code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "scopes_supported": ["openid", "profile", "email", "groups"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic"],
            "code_challenge_methods_supported": ["S256"],
            "authorization_response_iss_parameter_supported": true,
            "claims_supported": [
                "iss", "sub", "aud", "iat", "exp", "auth_time", "amr", "nonce", "name", "preferred_username", "email",
                "email_verified", "groups",
            ],
        });
        pages::json(StatusCode::OK, &document)
    }

    /// OpenID Connect RP-Initiated Logout 1.0, section 2. The provider keeps no sessions, so there
    /// is none to end.
    fn logout(&self, query: &str) -> Response<Bytes> {
        let signed_out = || {
            notice(
                StatusCode::OK,
                "You are signed out.",
                "The demo provider keeps no session.",
            )
        };
        let Ok(params) = params::Params::parse(query.as_bytes()) else {
            return signed_out();
        };
        let registered = self
            .redirect_uri
            .split_inclusive('/')
            .take(3)
            .collect::<String>();
        match params.get("post_logout_redirect_uri") {
            None => signed_out(),
            Some(uri) if !uri.starts_with(&registered) => notice(
                StatusCode::BAD_REQUEST,
                "This sign-out cannot continue.",
                "The post_logout_redirect_uri is not registered.",
            ),
            Some(uri) => pages::redirect(&params::extend(uri, &[("state", params.get("state"))])),
        }
    }

    fn codes(&self) -> MutexGuard<'_, Expiring<CodeGrant>> {
        self.codes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn access(&self) -> MutexGuard<'_, Expiring<AccessToken>> {
        self.access.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns `true` if the request names the provider's own host. Others would allow DNS
    /// rebinding.
    fn is_own_host(&self, request: &Request<Bytes>) -> bool {
        let host = request
            .headers()
            .get(header::HOST)
            .map(header::HeaderValue::as_bytes);
        let host = host.or_else(|| {
            request
                .uri()
                .authority()
                .map(|authority| authority.as_str().as_bytes())
        });
        host == self.issuer.strip_prefix("http://").map(str::as_bytes)
    }
}

impl Handler for DemoProvider {
    fn handle(&self, request: &Request<Bytes>, now: UnixTime) -> Response<Bytes> {
        if !self.is_own_host(request) {
            return pages::text(StatusCode::MISDIRECTED_REQUEST, "unknown host name\n");
        }
        let path = request.uri().path();
        let query = request.uri().query().unwrap_or_default();
        let reads = matches!(*request.method(), Method::GET | Method::HEAD);
        match path {
            "/oauth2/v1/token" if request.method() == Method::POST => self.token(request, now),
            "/oauth2/v1/userinfo" if reads || request.method() == Method::POST => {
                self.userinfo(request.headers(), now)
            }
            "/oauth2/v1/token" => pages::method_not_allowed("POST"),
            "/oauth2/v1/userinfo" => pages::method_not_allowed("GET, HEAD, POST"),
            _ if !reads => pages::method_not_allowed("GET, HEAD"),
            "/.well-known/openid-configuration" => self.discovery(),
            "/oauth2/v1/keys" => pages::json(StatusCode::OK, &json!({"keys": [self.key.to_jwk()]})),
            "/oauth2/v1/authorize" => self.authorize(query, now),
            "/oauth2/v1/logout" => self.logout(query),
            "/" => notice(
                StatusCode::OK,
                "The demo's identity provider",
                "Open one of the demo's applications. It sends you here to sign in.",
            ),
            _ => match directory::subject(path) {
                Some(subject) => self.groups(subject, query, request.headers()),
                None => notice(StatusCode::NOT_FOUND, "Not found", "Page not found."),
            },
        }
    }
}

impl Scope {
    /// Returns `true` if the scope is among the space-separated ones (RFC 6749 3.3).
    fn has(&self, word: &str) -> bool {
        self.0.split(' ').any(|scope| scope == word)
    }
}

/// A page with one sentence.
#[derive(Template)]
#[template(path = "notice.html", config = "src/demo/askama.toml")]
struct Notice<'a> {
    title: &'a str,
    sentence: &'a str,
}

fn notice(status: StatusCode, title: &str, sentence: &str) -> Response<Bytes> {
    pages::html(status, &Notice { title, sentence })
}

/// Returns an OAuth error (RFC 6749 5.2).
fn oauth_error(status: StatusCode, error: &str, description: &str) -> Response<Bytes> {
    pages::json(
        status,
        &json!({"error": error, "error_description": description}),
    )
}

/// Returns the credentials of this scheme in `Authorization` (RFC 9110 11.6.2).
fn credentials<'a>(headers: &'a http::HeaderMap, scheme: &str) -> Option<&'a str> {
    let (given, credentials) = headers
        .get(header::AUTHORIZATION)?
        .to_str()
        .ok()?
        .split_once(' ')?;
    given.eq_ignore_ascii_case(scheme).then_some(credentials)
}

fn sha256(text: &str) -> digest::Digest {
    digest::digest(&digest::SHA256, text.as_bytes())
}

/// The lifetime of a code.
const CODE_LIFE: Duration = Duration::from_secs(60);

/// The lifetime of an access token, long enough to fetch groups.
const ACCESS_LIFE: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests;
