use std::time::Duration;

use url::Url;

use super::{Ages, Prompt};
use crate::model::{AbsentGroups, IdpId, Secret};
use crate::oidc::{ClientAuth, Credentials, EmailVerification, Endpoints, GroupsClaim};

/// What every OpenID Connect connection says of us and of the logins we want.
#[derive(Clone, Debug)]
pub struct ClientSettings {
    /// What rules and `allowed_idps` refer to.
    pub id: IdpId,
    /// What the login page calls it.
    pub name: String,
    /// Our name at the provider.
    pub client_id: String,
    /// How we prove that we are that client.
    pub credentials: Credentials,
    /// How that is done at the token endpoint; `None` lets the discovery document decide.
    pub auth_method: Option<ClientAuth>,
    /// The other clients that ID tokens may be for as well; `None` allows any, if `azp` names this client.
    pub trusted_audiences: Option<Vec<String>>,
    /// Claims to keep for policies and origins.
    pub claims: Vec<String>,
    /// The claim that holds the address, where it is not `email`.
    pub email_claim_name: Option<String>,
    /// The evidence that a login requires for its email address.
    pub email_verified: EmailVerification,
    /// What every login asks for, where it does not ask for something else itself.
    pub prompt: Option<Prompt>,
    /// How long ago people may have shown their credentials to the provider.
    pub max_age: Option<Duration>,
    /// Whether the request of a login is left at the provider before the browser goes there (RFC 9126).
    pub pushed_requests: bool,
    /// Whether a logout ends the provider's session too.
    pub provider_logout: bool,
    /// How long what the provider publishes is believed.
    pub ages: Ages,
}

/// An Okta connection, in the words of Access's `config`.
#[derive(Clone, Debug)]
pub struct OktaSettings {
    /// What it has in common with all others.
    pub client: ClientSettings,
    /// `https://<name>.okta.com`, and never the `-admin` host.
    pub okta_account: Url,
    /// A custom authorization server; `None` is the org server, whose issuer is the account itself.
    pub authorization_server_id: Option<String>,
    /// For reading all groups of a person where the claim cannot hold them. Reading rights are enough.
    pub api_token: Option<Secret>,
    /// Whether logins request the scope `groups`. Without it all groups come from the API, and Okta cannot fail over too many.
    pub groups_scope: bool,
    /// Whether, and how, changes of groups reach people who are logged in.
    pub refresh: Option<RefreshTerms>,
    /// How long reading all pages of groups may take.
    pub groups_budget: Duration,
}

/// Any other OpenID Connect provider.
#[derive(Clone, Debug)]
pub struct OidcSettings {
    /// What it has in common with all others.
    pub client: ClientSettings,
    /// Who signs the ID tokens, byte for byte.
    pub issuer: String,
    /// Its endpoints, where the configuration names them and no discovery document is asked for.
    pub endpoints: Option<Endpoints>,
    /// What to ask for; `openid` is always among it.
    pub scopes: Vec<String>,
    /// The claim that lists the groups.
    pub groups_claim: GroupsClaim,
    /// Meaning of that claim's absence, once the ID token and the userinfo answer were read.
    pub absent_groups: AbsentGroups,
}

/// How fresh the groups of people with living sessions are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefreshTerms {
    /// How old they may become before they are read again.
    pub every: Duration,
    /// How old they may become while they cannot be read; from then on they are unknown.
    pub max_stale: Duration,
}

impl OktaSettings {
    /// The issuer, byte for byte as tokens and the discovery document must name it.
    pub fn issuer(&self) -> String {
        let account = self.okta_account.as_str().trim_end_matches('/');
        match &self.authorization_server_id {
            None => account.to_owned(),
            Some(id) => format!("{account}/oauth2/{id}"),
        }
    }
}
