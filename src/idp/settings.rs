use std::time::Duration;

use url::Url;

use crate::model::{AbsentGroups, IdpId, Secret};
use crate::oidc::{ClientAuth, Credentials, EmailVerification, Endpoints, GroupsClaim, Prompt};

/// The client of an OpenID Connect provider, and the parameters of its logins.
#[derive(Clone, Debug)]
pub struct ClientSettings {
    /// The id that rules and `allowed_idps` refer to.
    pub id: IdpId,
    /// The name on the login page.
    pub name: String,
    /// Our client ID at the provider.
    pub client_id: String,
    /// The secret or key that authenticates the client.
    pub credentials: Credentials,
    /// The authentication method at the token endpoint; `None` lets the discovery document decide.
    pub auth_method: Option<ClientAuth>,
    /// The other clients that ID tokens may be for as well; `None` allows any, if `azp` names this
    /// client.
    pub trusted_audiences: Option<Vec<String>>,
    /// Claims to keep for policies and origins.
    pub claims: Vec<String>,
    /// The claim with the email address, if it is not `email`.
    pub email_claim_name: Option<String>,
    /// The evidence that a login requires for its email address.
    pub email_verified: EmailVerification,
    /// The `prompt` of every login that sets none itself.
    pub prompt: Option<Prompt>,
    /// The longest time since the user showed credentials to the provider.
    pub max_age: Option<Duration>,
    /// `true` if the request of a login is sent to the provider before the browser goes there (RFC
    /// 9126).
    pub pushed_requests: bool,
    /// `true` if a logout ends the provider's session too.
    pub provider_logout: bool,
    /// The lifetimes of the provider's documents.
    pub ages: Ages,
}

/// An Okta provider, with the setting names of Access.
#[derive(Clone, Debug)]
pub struct OktaSettings {
    /// The settings that all providers have.
    pub client: ClientSettings,
    /// `https://<name>.okta.com`, and never the `-admin` host.
    pub okta_account: Url,
    /// A custom authorization server; `None` is the org server, whose issuer is the account itself.
    pub authorization_server_id: Option<String>,
    /// A token with read access, for listing all groups of a user if the claim cannot hold them.
    pub api_token: Option<Secret>,
    /// `true` if logins request the scope `groups`. Without it, all groups come from the API, and
    /// Okta cannot reject a login over too many groups.
    pub groups_scope: bool,
    /// The terms for applying group changes to users with a session; `None` if they are not
    /// applied.
    pub refresh: Option<RefreshTerms>,
    /// The time limit for reading all pages of groups.
    pub groups_budget: Duration,
}

/// Any other OpenID Connect provider.
#[derive(Clone, Debug)]
pub struct OidcSettings {
    /// The settings that all providers have.
    pub client: ClientSettings,
    /// The issuer of the ID tokens, byte for byte.
    pub issuer: String,
    /// The configured endpoints, if no discovery document is used.
    pub endpoints: Option<Endpoints>,
    /// The scopes to request; `openid` is always requested.
    pub scopes: Vec<String>,
    /// The claim with the groups.
    pub groups_claim: GroupsClaim,
    /// The meaning of an absent groups claim, if both the ID token and the userinfo response were
    /// read.
    pub absent_groups: AbsentGroups,
}

/// The ages of the groups of users with a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefreshTerms {
    /// Age after which they are read again.
    pub every: Duration,
    /// The age at which they become unknown if they cannot be read.
    pub max_stale: Duration,
}

/// The lifetimes of a provider's published documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ages {
    /// An older document is fetched again when it is needed.
    pub fresh: Duration,
    /// If the fetch fails, the last good document is used up to this age.
    pub stale: Duration,
    /// Tokens signed with an unknown key cause two fetches of the keys at once, and then one per
    /// this period.
    pub cooldown: Duration,
    /// A failed fetch is not repeated for this period; all logins get its failure.
    pub failure: Duration,
}

impl Default for Ages {
    fn default() -> Self {
        Self {
            fresh: Duration::from_secs(3600),
            stale: Duration::from_secs(24 * 3600),
            cooldown: Duration::from_secs(30),
            failure: Duration::from_secs(5),
        }
    }
}

impl OktaSettings {
    /// Returns the issuer that tokens and the discovery document must name, byte for byte.
    pub fn issuer(&self) -> String {
        let account = self.okta_account.as_str().trim_end_matches('/');
        match &self.authorization_server_id {
            None => account.to_owned(),
            Some(id) => format!("{account}/oauth2/{id}"),
        }
    }
}
