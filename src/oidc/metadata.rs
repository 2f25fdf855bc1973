use std::collections::BTreeSet;

use openidconnect::core::{
    CoreAuthDisplay, CoreClaimName, CoreClaimType, CoreClientAuthMethod, CoreGrantType, CoreJsonWebKey,
    CoreJweContentEncryptionAlgorithm, CoreJweKeyManagementAlgorithm, CoreResponseMode, CoreResponseType,
    CoreSubjectIdentifierType,
};
use openidconnect::{AdditionalProviderMetadata, AuthType, AuthUrl, IssuerUrl, ProviderMetadata, TokenUrl};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use url::Url;

use super::Credentials;

/// What a provider says of itself (OpenID Connect Discovery 1.0 §3), as far as logins need it.
#[derive(Clone, Debug)]
pub struct Metadata {
    pub(super) issuer: IssuerUrl,
    pub(super) authorization: AuthUrl,
    pub(super) token: TokenUrl,
    methods: Option<Vec<CoreClientAuthMethod>>,
    userinfo: Option<Url>,
    jwks: Url,
    pushed: Option<Url>,
    pushed_required: bool,
    end_session: Option<Url>,
    iss_promised: bool,
}

/// Endpoints that stand in the configuration, of a provider that publishes no discovery document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoints {
    /// Where the browser is sent.
    pub authorization: Url,
    /// Where a code becomes tokens.
    pub token: Url,
    /// The JWKS.
    pub jwks: Url,
    /// Where claims are asked for, if anywhere.
    pub userinfo: Option<Url>,
}

/// Why a discovery document is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum MetadataError {
    /// Not JSON, or without what must be in it.
    #[error("the discovery document is malformed: {0}")]
    Malformed(String),
    /// From another issuer than the configured one, be it by a slash.
    #[error("the discovery document is from the issuer `{found}`, not `{expected}`")]
    Issuer {
        /// As configured.
        expected: String,
        /// As found.
        found: String,
    },
    /// An endpoint without TLS, though the issuer has it.
    #[error("the provider's `{0}` is not an https address")]
    Insecure(&'static str),
    /// Something that this relying party does not do without.
    #[error("the provider does not support {0}")]
    Unsupported(&'static str),
}

impl MetadataError {
    /// What an operator can do about it.
    pub const fn advice(&self) -> &'static str {
        match self {
            Self::Malformed(_) => {
                "is it the provider's address? What is there is not a discovery document of OpenID Connect; a page to log in at, \
                 or a proxy's, is none"
            }
            Self::Issuer { .. } => "configure the issuer that the discovery document names, byte for byte",
            Self::Insecure(_) => {
                "all endpoints must be https addresses where the issuer is; correct them at the provider"
            }
            Self::Unsupported(_) => {
                "allow it in the provider's settings, or configure what the provider does support: `client_secret` or \
                 `private_key`, with or without `pushed_requests`"
            }
        }
    }
}

type Document = ProviderMetadata<
    Additional,
    CoreAuthDisplay,
    CoreClientAuthMethod,
    CoreClaimName,
    CoreClaimType,
    CoreGrantType,
    CoreJweContentEncryptionAlgorithm,
    CoreJweKeyManagementAlgorithm,
    CoreJsonWebKey,
    CoreResponseMode,
    CoreResponseType,
    CoreSubjectIdentifierType,
>;

#[derive(Clone, Debug, Deserialize, Serialize)]
struct Additional {
    /// RFC 9207 §3
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
    /// RFC 8414 §2
    code_challenge_methods_supported: Option<Vec<String>>,
    /// RFC 9126 §5
    pushed_authorization_request_endpoint: Option<Url>,
    /// RFC 9126 §5
    #[serde(default)]
    require_pushed_authorization_requests: bool,
    /// OpenID Connect RP-Initiated Logout 1.0 §2.1
    end_session_endpoint: Option<Url>,
}

impl AdditionalProviderMetadata for Additional {}

impl Metadata {
    /// Where the document of `issuer` is (OpenID Connect Discovery 1.0 §4.1). `None` where the issuer is not an address.
    pub fn location(issuer: &str) -> Option<Url> {
        Url::parse(&format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'))).ok()
    }

    /// Reads the document that was found there.
    ///
    /// # Errors
    /// See [`MetadataError`].
    pub fn read(document: &[u8], issuer: &str) -> Result<Self, MetadataError> {
        let document: Document = serde_json::from_slice(document)
            .map_err(|e| MetadataError::Malformed(super::callback::tame(&e.to_string(), 200)))?;
        // Discovery 1.0 §4.3: exactly, byte for byte.
        if document.issuer().as_str() != issuer {
            let found = super::callback::tame(document.issuer().as_str(), 200);
            return Err(MetadataError::Issuer { expected: issuer.to_owned(), found });
        }
        // RFC 9700 §2.1.1: a provider that lists its methods and leaves S256 out would not check our challenge.
        let additional = document.additional_metadata();
        if additional.code_challenge_methods_supported.as_ref().is_some_and(|all| !all.iter().any(|m| m == "S256")) {
            return Err(MetadataError::Unsupported("PKCE with S256"));
        }
        let token = document.token_endpoint().ok_or(MetadataError::Unsupported("the code flow"))?;
        let metadata = Self {
            issuer: document.issuer().clone(),
            authorization: document.authorization_endpoint().clone(),
            token: token.clone(),
            methods: document.token_endpoint_auth_methods_supported().cloned(),
            userinfo: document.userinfo_endpoint().map(|endpoint| endpoint.url().clone()),
            jwks: document.jwks_uri().url().clone(),
            pushed: additional.pushed_authorization_request_endpoint.clone(),
            pushed_required: additional.require_pushed_authorization_requests,
            end_session: additional.end_session_endpoint.clone(),
            iss_promised: additional.authorization_response_iss_parameter_supported,
        };
        metadata.secured()
    }

    /// What the configuration says of a provider.
    ///
    /// # Errors
    /// [`MetadataError::Malformed`] where the issuer is not an address, [`MetadataError::Insecure`].
    pub fn fixed(issuer: &str, endpoints: Endpoints) -> Result<Self, MetadataError> {
        let Endpoints { authorization, token, jwks, userinfo } = endpoints;
        let metadata = Self {
            issuer: IssuerUrl::new(issuer.to_owned()).map_err(|e| MetadataError::Malformed(e.to_string()))?,
            authorization: AuthUrl::from_url(authorization),
            token: TokenUrl::from_url(token),
            methods: None,
            userinfo,
            jwks,
            pushed: None,
            pushed_required: false,
            end_session: None,
            iss_promised: false,
        };
        metadata.secured()
    }

    fn secured(self) -> Result<Self, MetadataError> {
        let metadata = self;
        let plain = metadata.issuer.url().scheme() == "http";
        for (name, url) in metadata.endpoints() {
            if !(url.scheme() == "https" || plain && url.scheme() == "http") {
                return Err(MetadataError::Insecure(name));
            }
        }
        Ok(metadata)
    }

    /// Who it is from.
    pub fn issuer(&self) -> &str {
        self.issuer.as_str()
    }

    /// How the client shows its credentials.
    ///
    /// # Errors
    /// [`MetadataError::Unsupported`] where the provider takes none of this kind.
    pub(super) fn auth_type(&self, credentials: &Credentials) -> Result<AuthType, MetadataError> {
        let takes = |method| self.methods.as_ref().is_none_or(|all| all.contains(&method));
        match credentials {
            Credentials::Secret(_) if takes(CoreClientAuthMethod::ClientSecretBasic) => Ok(AuthType::BasicAuth),
            Credentials::Secret(_) if takes(CoreClientAuthMethod::ClientSecretPost) => Ok(AuthType::RequestBody),
            Credentials::Secret(_) => Err(MetadataError::Unsupported("authentication with a client secret")),
            Credentials::Key(_) if takes(CoreClientAuthMethod::PrivateKeyJwt) => Ok(AuthType::RequestBody),
            Credentials::Key(_) => Err(MetadataError::Unsupported("authentication with a private key")),
        }
    }

    /// Where codes become tokens.
    pub fn token(&self) -> &Url {
        self.token.url()
    }

    /// Where a login's request can be left before the browser comes (RFC 9126); where it must be, whatever `wanted` says.
    ///
    /// # Errors
    /// [`MetadataError::Unsupported`] where it is wanted and the provider has no such endpoint.
    pub fn pushed(&self, wanted: bool) -> Result<Option<&Url>, MetadataError> {
        match &self.pushed {
            _ if !wanted && !self.pushed_required => Ok(None),
            Some(url) => Ok(Some(url)),
            None => Err(MetadataError::Unsupported("pushed authorization requests")),
        }
    }

    /// Where the provider's own session ends (OpenID Connect RP-Initiated Logout 1.0).
    pub const fn end_session(&self) -> Option<&Url> {
        self.end_session.as_ref()
    }

    /// Where claims are asked for.
    pub const fn userinfo(&self) -> Option<&Url> {
        self.userinfo.as_ref()
    }

    /// Where its keys are.
    pub const fn jwks(&self) -> &Url {
        &self.jwks
    }

    /// Whether it names itself in every authorization response (RFC 9207).
    pub const fn iss_promised(&self) -> bool {
        self.iss_promised
    }

    /// Scheme, host and port of each endpoint: what must not change under a constant issuer.
    pub fn origins(&self) -> BTreeSet<String> {
        self.endpoints().map(|(_, url)| url.origin().ascii_serialization()).collect()
    }

    fn endpoints(&self) -> impl Iterator<Item = (&'static str, &Url)> {
        [
            ("authorization_endpoint", self.authorization.url()),
            ("token_endpoint", self.token.url()),
            ("jwks_uri", &self.jwks),
        ]
        .into_iter()
        .chain(self.userinfo.as_ref().map(|url| ("userinfo_endpoint", url)))
        .chain(self.pushed.as_ref().map(|url| ("pushed_authorization_request_endpoint", url)))
        .chain(self.end_session.as_ref().map(|url| ("end_session_endpoint", url)))
    }
}
