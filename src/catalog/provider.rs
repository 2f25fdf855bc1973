use std::time::Duration;

use http::HeaderName;
use url::Url;

use super::SamlConfig;
use crate::model::{AbsentGroups, IdpId, Secret};
use crate::oidc::{ClientAuth, EmailVerification, Endpoints, Prompt};

/// An identity provider (`[[identity_providers]]`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityProvider {
    /// The id in rules and `allowed_idps`.
    pub id: IdpId,
    /// The name on the login page.
    pub name: String,
    /// The kind, with its settings.
    pub kind: IdpKind,
}

/// The kinds of identity provider (`type`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdpKind {
    /// Okta, over OpenID Connect.
    Okta(Box<OktaConfig>),
    /// Another OpenID Connect provider.
    Oidc(Box<OidcConfig>),
    /// A SAML 2.0 provider.
    Saml(Box<SamlConfig>),
}

/// The settings that all OpenID Connect providers have (`config`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientConfig {
    /// The client id.
    pub client_id: String,
    /// The credentials at the token endpoint.
    pub credentials: ClientCredentials,
    /// The authentication method; by default the discovery document decides.
    pub auth_method: Option<ClientAuth>,
    /// Other clients that ID tokens may be for as well; any by default.
    pub trusted_audiences: Option<Vec<String>>,
    /// The claims to keep with the identity.
    pub claims: Vec<String>,
    /// The claim with the email address; `email` by default.
    pub email_claim_name: Option<String>,
    /// The evidence that a login requires for its email address.
    pub email_verified: EmailVerification,
    /// The prompt that every login requests.
    pub prompt: Option<Prompt>,
    /// The highest age of the user's login at the provider; at least a minute.
    pub max_age: Option<Duration>,
    /// Pushes the requests of logins to the provider first (RFC 9126).
    pub pushed_requests: bool,
    /// Ends the provider's session at logout too.
    pub provider_logout: bool,
}

/// The credentials of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientCredentials {
    /// A client secret.
    Secret(Secret),
    /// A private key (`private_key_jwt`).
    Key {
        /// The key in PEM form.
        pem: Secret,
        /// The id of the public half at the provider.
        id: Option<String>,
    },
}

/// The settings of an Okta application (`config`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OktaConfig {
    /// The settings of every OpenID Connect provider.
    pub client: ClientConfig,
    /// The URL of the Okta organisation, such as `https://dev-1.okta.com/`: scheme, host and
    /// perhaps a port.
    pub okta_account: Url,
    /// The token for the groups of users who have more than an ID token can hold.
    pub api_token: Option<Secret>,
    /// `true` if logins request the scope `groups`; the default.
    pub groups_scope: bool,
    /// A custom authorization server; the organisation's own by default.
    pub authorization_server_id: Option<String>,
    /// The interval at which groups of users with a session are fetched again, and the age from
    /// which they are unknown if they cannot be fetched.
    pub groups_refresh: Option<(Duration, Duration)>,
}

/// The settings of another OpenID Connect provider (`config`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OidcConfig {
    /// The settings of every OpenID Connect provider.
    pub client: ClientConfig,
    /// The issuer of ID tokens, byte for byte.
    pub issuer: String,
    /// The endpoints of a provider without a discovery document.
    pub endpoints: Option<Endpoints>,
    /// The scopes that logins request.
    pub scopes: Vec<String>,
    /// The claim with the groups, or the path to it; by default `groups` in upper or lower case.
    pub groups_claim_name: Option<String>,
    /// The meaning of that claim's absence.
    pub absent_groups: AbsentGroups,
}

impl IdentityProvider {
    /// Returns the claims or attributes to keep with an identity.
    pub fn claims(&self) -> &[String] {
        match &self.kind {
            IdpKind::Okta(okta) => &okta.client.claims,
            IdpKind::Oidc(oidc) => &oidc.client.claims,
            IdpKind::Saml(saml) => &saml.attributes,
        }
    }

    /// Returns `true` if a requested claim that is missing is known to be absent. An assertion may
    /// lack an attribute that was too long for it, without notice.
    pub const fn says_all_it_will(&self) -> bool {
        match &self.kind {
            IdpKind::Okta(_) | IdpKind::Oidc(_) => true,
            IdpKind::Saml(_) => false,
        }
    }

    /// Returns the headers in which origins get attributes of this provider.
    pub fn sent_headers(&self) -> Vec<HeaderName> {
        match &self.kind {
            IdpKind::Okta(_) | IdpKind::Oidc(_) => Vec::new(),
            IdpKind::Saml(saml) => saml
                .header_attributes
                .iter()
                .map(|sent| sent.header.clone())
                .collect(),
        }
    }

    /// Returns its `type`.
    pub const fn type_name(&self) -> &'static str {
        match &self.kind {
            IdpKind::Okta(_) => "okta",
            IdpKind::Oidc(_) => "oidc",
            IdpKind::Saml(_) => "saml",
        }
    }
}
