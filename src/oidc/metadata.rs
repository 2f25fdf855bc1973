use std::collections::BTreeSet;

use openidconnect::core::CoreAuthPrompt;
use openidconnect::{AuthType, AuthUrl, IssuerUrl, TokenUrl};
use serde_json::{Map, Value};
use thiserror::Error;
use url::Url;

use super::Credentials;
use super::callback::{ResponseIssuer, one_line};
use super::lenient::{boolean, json_type, names, strings};
use crate::model::json;

/// A provider's discovery document (OpenID Connect Discovery 1.0 3), as far as logins need it.
#[derive(Clone, Debug)]
pub struct Metadata {
    pub(super) issuer: IssuerUrl,
    pub(super) authorization: AuthUrl,
    pub(super) token: TokenUrl,
    methods: Option<Vec<String>>,
    userinfo: Option<Url>,
    jwks: Url,
    pushed: Option<Url>,
    pushed_required: bool,
    end_session: Option<Url>,
    prompts: Option<Vec<String>>,
    iss_promised: bool,
    unreadable: Vec<String>,
}

/// Configured endpoints, for a provider that publishes no discovery document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoints {
    /// The authorization endpoint.
    pub authorization: Url,
    /// The token endpoint.
    pub token: Url,
    /// The JWKS.
    pub jwks: Url,
    /// The userinfo endpoint, if there is one.
    pub userinfo: Option<Url>,
}

/// The optional endpoints that a configuration uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OptionalEndpoints {
    /// The endpoint for pushed authorization requests. It is also used if the provider requires it.
    pub pushed_requests: bool,
    /// The endpoint for logout.
    pub provider_logout: bool,
}

/// The reason why a discovery document is rejected.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum MetadataError {
    /// Not JSON, or without a required member.
    #[error("the discovery document is malformed: {0}")]
    Malformed(String),
    /// From another issuer than the configured one; even a trailing slash makes a difference.
    #[error("the discovery document is from the issuer `{found}`, not `{expected}`")]
    Issuer {
        /// The configured issuer.
        expected: String,
        /// The issuer in the document.
        found: String,
    },
    /// An endpoint without TLS, although the issuer has an `https` URL.
    #[error("the provider's `{0}` is not an https URL")]
    Insecure(&'static str),
    /// The provider lacks a feature that this relying party requires.
    #[error("the provider does not support {0}")]
    Unsupported(&'static str),
}

impl MetadataError {
    /// Returns a remedy for the operator.
    pub const fn advice(&self) -> &'static str {
        match self {
            Self::Malformed(_) => {
                "check the provider's URL: the response is not an OpenID Connect discovery document, but perhaps a \
                 login page or a page of a proxy"
            }
            Self::Issuer { .. } => {
                "configure the issuer that the discovery document names, byte for byte"
            }
            Self::Insecure(_) => {
                "all endpoints must be https URLs if the issuer is one; correct them at the provider"
            }
            Self::Unsupported(_) => {
                "enable it in the provider's settings, or configure a method that the provider supports: \
                 `client_secret` or `private_key`, with or without `pushed_requests`"
            }
        }
    }
}

/// The members of a discovery document. Each is read only when it is needed, so that an unused one
/// cannot prevent a login.
struct Members {
    all: Map<String, Value>,
    unreadable: Vec<String>,
}

impl Members {
    /// Returns the value; `None` if it is absent, null or an empty string.
    fn get(&self, name: &str) -> Option<&Value> {
        self.all
            .get(name)
            .filter(|value| !value.is_null() && value.as_str() != Some(""))
    }

    /// Reads an endpoint that every login uses.
    fn endpoint(&self, name: &'static str) -> Result<Option<Url>, MetadataError> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        let url = value.as_str().and_then(|text| Url::parse(text).ok());
        let wrong =
            || MetadataError::Malformed(format!("`{name}` is not a URL but {}", json_type(value)));
        url.ok_or_else(wrong).map(Some)
    }

    fn needed(&self, name: &'static str) -> Result<Url, MetadataError> {
        self.endpoint(name)?
            .ok_or_else(|| MetadataError::Malformed(format!("`{name}` is missing")))
    }

    /// Reads a member that not every login uses. An unreadable one counts as absent and is noted.
    fn optional<T>(&mut self, name: &'static str, read: impl Fn(&Value) -> Option<T>) -> Option<T> {
        let value = self.get(name)?;
        let found = read(value);
        if found.is_none() {
            let note = format!("`{name}`: {}", json_type(value));
            self.unreadable.push(note);
        }
        found
    }

    /// Returns an error unless the issuer is identical to the configured one (OpenID Connect
    /// Discovery 1.0 4.3).
    fn check_issuer(&self, expected: &str) -> Result<(), MetadataError> {
        let found = self
            .get("issuer")
            .and_then(Value::as_str)
            .ok_or_else(|| MetadataError::Malformed("`issuer` is missing".to_owned()))?;
        if found == expected {
            return Ok(());
        }
        Err(MetadataError::Issuer {
            expected: expected.to_owned(),
            found: one_line(found, 200),
        })
    }

    /// Returns an error if the provider does not support S256.
    fn check_pkce(&mut self) -> Result<(), MetadataError> {
        let s256 = self
            .optional("code_challenge_methods_supported", lists_s256)
            .flatten();
        // RFC 9700 2.1.1: a provider that lists its methods without S256 would not verify our
        // challenge.
        if s256 == Some(false) {
            return Err(MetadataError::Unsupported("PKCE with S256"));
        }
        Ok(())
    }

    /// Returns `true` if the provider promises to name its issuer in every authorization response.
    fn iss_promised(&mut self) -> bool {
        // An unreadable promise counts as a promise. Otherwise a callback without an issuer would
        // be accepted.
        self.get(ISS_PROMISE).is_some() && self.optional(ISS_PROMISE, boolean).unwrap_or(true)
    }
}

/// The use of pushed authorization requests (RFC 9126).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushedRequests {
    /// For every login.
    Always,
    /// Only if the provider's metadata requires them.
    IfRequired,
}

impl Metadata {
    /// Returns the URL of the discovery document of `issuer` (OpenID Connect Discovery 1.0 4.1).
    /// `None` if the issuer is not a URL.
    pub fn location(issuer: &str) -> Option<Url> {
        Url::parse(&format!(
            "{}/.well-known/openid-configuration",
            issuer.trim_end_matches('/')
        ))
        .ok()
    }

    /// Reads a discovery document.
    ///
    /// # Errors
    /// See [`MetadataError`].
    pub fn read(document: &[u8], issuer: &str) -> Result<Self, MetadataError> {
        let all = json::document(json::mended(document).as_bytes())
            .map_err(|e| MetadataError::Malformed(one_line(&e.to_string(), 200)))?;
        let mut members = Members {
            all,
            unreadable: Vec::new(),
        };
        members.check_issuer(issuer)?;
        members.check_pkce()?;
        let issuer_scheme = issuer.split(':').next().unwrap_or_default();
        let secure = |value: &Value| {
            Url::parse(value.as_str()?)
                .ok()
                .filter(|url| is_secure(url, issuer_scheme))
        };
        let iss_promised = members.iss_promised();
        let metadata = Self {
            issuer: IssuerUrl::new(issuer.to_owned())
                .map_err(|e| MetadataError::Malformed(e.to_string()))?,
            authorization: AuthUrl::from_url(members.needed("authorization_endpoint")?),
            token: TokenUrl::from_url(
                members
                    .endpoint("token_endpoint")?
                    .ok_or(MetadataError::Unsupported("the code flow"))?,
            ),
            methods: members
                .optional("token_endpoint_auth_methods_supported", names)
                .flatten(),
            userinfo: members.endpoint("userinfo_endpoint")?,
            jwks: members.needed("jwks_uri")?,
            // RFC 9126 5
            pushed: members.optional("pushed_authorization_request_endpoint", secure),
            pushed_required: members
                .optional("require_pushed_authorization_requests", boolean)
                .unwrap_or(false),
            // OpenID Connect RP-Initiated Logout 1.0 2.1
            end_session: members.optional("end_session_endpoint", secure),
            // Initiating User Registration via OpenID Connect 1.0, 3
            prompts: members.optional("prompt_values_supported", strings),
            iss_promised,
            unreadable: members.unreadable,
        };
        metadata.require_secure()
    }

    /// Builds the metadata of a provider with configured endpoints.
    ///
    /// # Errors
    /// [`MetadataError::Malformed`] if the issuer is not a URL, [`MetadataError::Insecure`].
    pub fn from_endpoints(issuer: &str, endpoints: Endpoints) -> Result<Self, MetadataError> {
        let Endpoints {
            authorization,
            token,
            jwks,
            userinfo,
        } = endpoints;
        let metadata = Self {
            issuer: IssuerUrl::new(issuer.to_owned())
                .map_err(|e| MetadataError::Malformed(e.to_string()))?,
            authorization: AuthUrl::from_url(authorization),
            token: TokenUrl::from_url(token),
            methods: None,
            userinfo,
            jwks,
            pushed: None,
            pushed_required: false,
            end_session: None,
            prompts: None,
            iss_promised: false,
            unreadable: Vec::new(),
        };
        metadata.require_secure()
    }

    fn require_secure(self) -> Result<Self, MetadataError> {
        let metadata = self;
        let issuer_scheme = metadata.issuer.url().scheme();
        for (name, url) in metadata.endpoints() {
            if !is_secure(url, issuer_scheme) {
                return Err(MetadataError::Insecure(name));
            }
        }
        Ok(metadata)
    }

    /// Returns the issuer.
    pub fn issuer(&self) -> &str {
        self.issuer.as_str()
    }

    /// Chooses the client authentication method.
    ///
    /// # Errors
    /// [`MetadataError::Unsupported`] if the provider supports no method for these credentials.
    pub(super) fn auth_type(&self, credentials: &Credentials) -> Result<AuthType, MetadataError> {
        let takes = |method| {
            self.methods
                .as_ref()
                .is_none_or(|all| all.iter().any(|one| one == method))
        };
        match credentials {
            Credentials::Secret(_) if takes("client_secret_basic") => Ok(AuthType::BasicAuth),
            Credentials::Secret(_) if takes("client_secret_post") => Ok(AuthType::RequestBody),
            Credentials::Secret(_) => Err(MetadataError::Unsupported(
                "authentication with a client secret",
            )),
            Credentials::Key(_) if takes("private_key_jwt") => Ok(AuthType::RequestBody),
            Credentials::Key(_) => Err(MetadataError::Unsupported(
                "authentication with a private key",
            )),
        }
    }

    /// Returns the token endpoint.
    pub fn token(&self) -> &Url {
        self.token.url()
    }

    /// Returns the endpoint for pushed requests (RFC 9126), if this login uses it.
    ///
    /// # Errors
    /// [`MetadataError::Unsupported`] if it is needed and the provider has none.
    pub fn pushed(&self, requests: PushedRequests) -> Result<Option<&Url>, MetadataError> {
        match &self.pushed {
            _ if requests == PushedRequests::IfRequired && !self.pushed_required => Ok(None),
            Some(url) => Ok(Some(url)),
            None => Err(MetadataError::Unsupported("pushed authorization requests")),
        }
    }

    /// Returns the prompt for switching accounts: `select_account` if the provider supports it but
    /// not `login`.
    pub fn account_prompt(&self) -> CoreAuthPrompt {
        let supports = |prompt: &str| {
            self.prompts
                .as_ref()
                .is_some_and(|all| all.iter().any(|one| one == prompt))
        };
        if supports("select_account") && !supports("login") {
            CoreAuthPrompt::SelectAccount
        } else {
            CoreAuthPrompt::Login
        }
    }

    /// Returns the endpoint that ends the provider's session (OpenID Connect RP-Initiated Logout
    /// 1.0).
    pub const fn end_session(&self) -> Option<&Url> {
        self.end_session.as_ref()
    }

    /// Returns the userinfo endpoint.
    pub const fn userinfo(&self) -> Option<&Url> {
        self.userinfo.as_ref()
    }

    /// Returns the URL of the JWKS.
    pub const fn jwks(&self) -> &Url {
        &self.jwks
    }

    /// Returns the issuer of the provider's authorization responses (RFC 9207).
    pub fn response_issuer(&self) -> ResponseIssuer<'_> {
        if self.iss_promised {
            ResponseIssuer::Named(self.issuer())
        } else {
            ResponseIssuer::MayBeNamed(self.issuer())
        }
    }

    /// Returns the members that are present but unreadable, for the log, each with the type that
    /// was found.
    pub fn unreadable(&self) -> &[String] {
        &self.unreadable
    }

    /// Returns scheme, host and port of each endpoint in use. They must not change as long as the
    /// issuer stays the same.
    pub fn origins(&self, used: OptionalEndpoints) -> BTreeSet<String> {
        let pushed = self
            .pushed
            .as_ref()
            .filter(|_| used.pushed_requests || self.pushed_required);
        let end_session = self.end_session.as_ref().filter(|_| used.provider_logout);
        let all = self
            .login_endpoints()
            .map(|(_, url)| url)
            .chain(pushed)
            .chain(end_session);
        all.map(|url| url.origin().ascii_serialization()).collect()
    }

    fn login_endpoints(&self) -> impl Iterator<Item = (&'static str, &Url)> {
        [
            ("authorization_endpoint", self.authorization.url()),
            ("token_endpoint", self.token.url()),
            ("jwks_uri", &self.jwks),
        ]
        .into_iter()
        .chain(self.userinfo.as_ref().map(|url| ("userinfo_endpoint", url)))
    }

    fn endpoints(&self) -> impl Iterator<Item = (&'static str, &Url)> {
        self.login_endpoints()
            .chain(
                self.pushed
                    .as_ref()
                    .map(|url| ("pushed_authorization_request_endpoint", url)),
            )
            .chain(
                self.end_session
                    .as_ref()
                    .map(|url| ("end_session_endpoint", url)),
            )
    }
}

/// Returns `Some(Some(true))` if the list contains S256.
///
/// `Some(None)` is an empty list, which means the same as no list (RFC 8414 2). `None` is a list
/// without any readable element.
fn lists_s256(methods: &Value) -> Option<Option<bool>> {
    let (names, is_whole): (Vec<&str>, bool) = match methods {
        Value::String(text) => (text.split_ascii_whitespace().collect(), true),
        Value::Array(all) => {
            let texts = all
                .iter()
                .filter_map(Value::as_str)
                .filter(|name| !name.is_empty());
            (texts.collect(), all.iter().all(Value::is_string))
        }
        _ => return None,
    };
    match names.is_empty() {
        true => is_whole.then_some(None),
        false => Some(Some(names.contains(&"S256"))),
    }
}

/// Returns `true` for HTTPS, and for plain HTTP if the issuer uses it too.
fn is_secure(url: &Url, issuer_scheme: &str) -> bool {
    url.scheme() == "https" || issuer_scheme == "http" && url.scheme() == "http"
}

/// RFC 9207 3
const ISS_PROMISE: &str = "authorization_response_iss_parameter_supported";
