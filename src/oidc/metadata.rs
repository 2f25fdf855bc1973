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

/// What a provider says of itself (OpenID Connect Discovery 1.0 §3), as far as logins need it.
#[derive(Clone, Debug)]
pub struct Metadata {
    pub(super) issuer: IssuerUrl,
    pub(super) authorization: AuthUrl,
    pub(super) token: TokenUrl,
    pub(super) auth_type: AuthType,
    userinfo: Option<Url>,
    jwks: Url,
    iss_promised: bool,
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
        let methods = document.token_endpoint_auth_methods_supported();
        let takes = |method| methods.is_none_or(|all| all.contains(&method));
        let auth_type = if takes(CoreClientAuthMethod::ClientSecretBasic) {
            AuthType::BasicAuth
        } else if takes(CoreClientAuthMethod::ClientSecretPost) {
            AuthType::RequestBody
        } else {
            return Err(MetadataError::Unsupported("authentication with a client secret"));
        };
        let token = document.token_endpoint().ok_or(MetadataError::Unsupported("the code flow"))?;
        let metadata = Self {
            issuer: document.issuer().clone(),
            authorization: document.authorization_endpoint().clone(),
            token: token.clone(),
            auth_type,
            userinfo: document.userinfo_endpoint().map(|endpoint| endpoint.url().clone()),
            jwks: document.jwks_uri().url().clone(),
            iss_promised: additional.authorization_response_iss_parameter_supported,
        };
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
    }
}
