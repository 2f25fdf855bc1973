//! The demo's OpenID provider, shaped like an Okta organisation. For the demo only: it asks for no
//! password.
//!
//! Decides, as a strict provider does, whether an authorization request, a code and an access token
//! are good: PKCE with S256 always, codes that work once. Trusts the visitor to say who they are,
//! which is the whole point and the reason why it must never serve anything else. Never does IO: a
//! request comes in, a response goes out.

mod authorize;
mod directory;
mod live;
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
use super::people::Person;
use super::serve::Handler;
use super::{Credentials, random};
use crate::model::{Secret, UnixTime};
use crate::token::{SigningKey, SigningKeyError};
use live::Live;

/// The provider of one run of the demo, with one registered client: the proxy.
#[derive(Debug)]
pub(super) struct DemoProvider {
    issuer: String,
    redirect_uri: String,
    credentials: Credentials,
    key: SigningKey,
    codes: Mutex<Live<Grant>>,
    access: Mutex<Live<Access>>,
}

/// What a code stands for.
#[derive(Debug)]
struct Grant {
    person: &'static Person,
    scope: Scope,
    nonce: Option<String>,
    /// The S256 code challenge (RFC 7636 §4.2).
    challenge: String,
    at: UnixTime,
}

/// What an access token stands for.
#[derive(Clone, Debug)]
struct Access {
    person: &'static Person,
    scope: Scope,
}

/// The scopes asked for, all of which are granted.
#[derive(Clone, Debug)]
struct Scope(String);

impl DemoProvider {
    /// A provider at `issuer`, an origin without a slash at its end, that sends people back to
    /// `redirect_uri` only. Makes a signing key, which takes a good part of a second.
    ///
    /// # Errors
    /// Where the machine gives no randomness for the key.
    pub(super) fn new(
        issuer: String,
        redirect_uri: String,
        credentials: Credentials,
    ) -> Result<Self, SigningKeyError> {
        let key = SigningKey::generate()?;
        let (codes, access) = (
            Mutex::new(Live::new(CODE_LIFE)),
            Mutex::new(Live::new(ACCESS_LIFE)),
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

    /// OpenID Connect Discovery 1.0 §3.
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

    /// OpenID Connect RP-Initiated Logout 1.0 §2. There is no session here to end: everybody is
    /// asked every time.
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
                "This logout leads nowhere.",
                "The address to go on to is not registered.",
            ),
            Some(uri) => pages::redirect(&params::extend(uri, &[("state", params.get("state"))])),
        }
    }

    fn codes(&self) -> MutexGuard<'_, Live<Grant>> {
        self.codes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn access(&self) -> MutexGuard<'_, Live<Access>> {
        self.access.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the request is for this host, so that no other name can be made to point here.
    fn is_here(&self, request: &Request<Bytes>) -> bool {
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
        if !self.is_here(request) {
            return pages::text(
                StatusCode::MISDIRECTED_REQUEST,
                "the demo provider has another name\n",
            );
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
                "The demo’s identity provider",
                "Open one of the demo’s applications, and it sends you here to say who you are.",
            ),
            _ => match directory::subject(path) {
                Some(subject) => self.groups(subject, query, request.headers()),
                None => notice(
                    StatusCode::NOT_FOUND,
                    "Not found",
                    "The demo provider has nothing at this address.",
                ),
            },
        }
    }
}

impl Scope {
    /// RFC 6749 §3.3: words with spaces between them.
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

/// An OAuth error (RFC 6749 §5.2).
fn oauth_error(status: StatusCode, error: &str, description: &str) -> Response<Bytes> {
    pages::json(
        status,
        &json!({"error": error, "error_description": description}),
    )
}

/// What follows the scheme in `Authorization` (RFC 9110 §11.6.2).
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

/// How long a code is good.
const CODE_LIFE: Duration = Duration::from_secs(60);

/// How long an access token is good: long enough to ask for groups.
const ACCESS_LIFE: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests;
