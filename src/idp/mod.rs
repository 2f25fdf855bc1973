//! Identity providers: a login, from the first redirect to a verified user.
//!
//! Decides, with [`crate::oidc`] and [`crate::saml`], the user's identity and groups, or why they
//! could not be determined. Trusts the configured issuer, authenticated by its TLS certificate and
//! its keys. Never stores or returns a provider's token (except sealed, for a logout), never calls
//! the token endpoint twice for one login, and never guesses: groups that could not be determined
//! are unknown, not empty.

pub mod check;
mod failure;
mod notes;
mod oidc;
mod okta;
mod saml;
mod settings;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};
use url::Url;

pub use failure::{
    Blame, BodyKind, EmailFailure, Endpoint, GroupsFailure, IssuerMismatch, LoginFailure, Step,
};
pub use oidc::Oidc;
pub use okta::AccountStatus;
pub use saml::{Saml, SamlPending, VerifiedSamlLogin};
pub use settings::{Ages, ClientSettings, OidcSettings, OktaSettings, RefreshTerms};

use self::check::{Finding, Registration};
use self::okta::Directory;
use crate::http_client::HttpClient;
use crate::model::{Email, Groups, GroupsSeen, Identity, IdpId, IdpRef, Secret, UnixTime, UserId};
pub use crate::oidc::{
    Callback, CallbackError, ClientAuth, ClientKey, ClientKeyError, Credentials, EmailVerification,
    Endpoints, GroupsClaim, Hints, Prompt,
};

/// A configured identity provider with its cached documents. Created once per configuration, inside
/// the tokio runtime that its logins run on.
pub enum Provider {
    /// An OpenID Connect provider: Okta or any other.
    Oidc(Box<Oidc>),
    /// A SAML provider. Its logins use messages that browsers post, instead of the query of a
    /// callback.
    Saml(Box<Saml>),
}

/// The circumstances of a callback.
#[derive(Clone, Copy, Debug)]
pub struct CallbackContext {
    /// The current time.
    pub now: UnixTime,
    /// The accepted clock difference, up to 300 s.
    pub leeway: Duration,
    /// The client's IP address.
    pub client_ip: Option<IpAddr>,
}

/// A login that was started.
#[derive(Clone, Debug)]
pub struct StartedLogin {
    /// The URL to redirect the browser to.
    pub url: Url,
    /// The state to seal into a cookie of that browser.
    pub pending: Pending,
}

/// The state of a login until its callback. It serializes with its secrets, so it must always be
/// sealed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// Binds the ID token to this login.
    #[serde(serialize_with = "exposed")]
    pub nonce: Secret,
    /// Binds the code to this login (RFC 7636).
    #[serde(serialize_with = "exposed")]
    pub pkce_verifier: Secret,
    /// The provider that the login was started with.
    pub idp: IdpId,
    /// The issuer of that provider at the time.
    pub issuer: String,
    /// The scopes of a pushed request (RFC 9126), which no user can change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pushed_scopes: Option<String>,
    /// The attempt of this login.
    #[serde(default, skip_serializing_if = "Attempt::is_first")]
    pub attempt: Attempt,
}

/// An attempt at a login. Each reason for another attempt counts once, so a login ends after three
/// attempts at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// `true` if the scope `groups` is omitted, because Okta could not fill the claim.
    #[serde(default, rename = "g", skip_serializing_if = "std::ops::Not::not")]
    without_groups: bool,
    /// `true` if an earlier attempt expired at the provider.
    #[serde(default, rename = "e", skip_serializing_if = "std::ops::Not::not")]
    after_expiry: bool,
    /// `true` if the user asked to sign in with other credentials.
    #[serde(default, rename = "p", skip_serializing_if = "std::ops::Not::not")]
    prompted: bool,
}

impl Attempt {
    fn is_first(&self) -> bool {
        *self == Self::default()
    }
}

/// A verified user: an [`Identity`] without an ID in the store.
#[derive(Clone, Debug, PartialEq)]
pub struct ProviderIdentity {
    /// The provider's identifier for the user. Only this and the provider identify a user.
    pub subject: String,
    /// The canonical email address.
    pub email: Email,
    /// The display name (`name`), if the provider reports one.
    pub name: Option<String>,
    /// The provider.
    pub idp: IdpRef,
    /// The groups; unknown if they could not be determined.
    pub groups: Groups,
    /// The source and time of the groups, if they are known.
    pub groups_seen: Option<GroupsSeen>,
    /// The reason why the provider's response held no groups.
    pub groups_missing: Option<GroupsMissing>,
    /// Authentication methods (RFC 8176).
    pub amr: Option<Vec<String>>,
    /// The configured claims.
    pub claims: Map<String, Value>,
    /// Additional headers for origins.
    pub headers: Vec<(String, String)>,
    /// The time of the login.
    pub at: UnixTime,
    /// The client's IP address.
    pub ip: Option<IpAddr>,
    /// The end of the provider's own session, if it states one. Our sessions must not last longer.
    pub session_ends: Option<UnixTime>,
    /// The provider's ID token, only if a logout ends the provider's session too. Keep it sealed,
    /// and use it for nothing else.
    pub id_token: Option<Secret>,
}

/// The reason why a provider's response held no groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupsMissing {
    /// They are absent, which means unknown by default.
    LeftOut,
    /// They are absent, and `absent_groups = "empty"` defines that as membership in no group.
    TakenAsNone,
    /// They are absent from the ID token, and there is no userinfo endpoint that may have them.
    NoUserinfo,
    /// They are absent, and not every scope is known to be granted: the user may have removed one.
    ScopeNotGranted,
    /// A reference replaces them, such as `_claim_names`.
    Reference,
    /// They are not a list of names.
    Unreadable,
}

impl Provider {
    /// Creates a provider for an Okta account. `redirect_uri` is the registered callback. Nothing
    /// is fetched yet, so startup does not depend on the provider.
    pub fn okta(settings: OktaSettings, http: HttpClient, redirect_uri: Url) -> Self {
        Self::Oidc(Box::new(Oidc::okta(settings, http, redirect_uri)))
    }

    /// Creates any other OpenID Connect provider; see [`Provider::okta`].
    pub fn oidc(settings: OidcSettings, http: HttpClient, redirect_uri: Url) -> Self {
        Self::Oidc(Box::new(Oidc::new(settings, http, redirect_uri)))
    }

    /// Returns the OpenID Connect provider, if this is one.
    pub const fn as_oidc(&self) -> Option<&Oidc> {
        match self {
            Self::Oidc(oidc) => Some(oidc),
            Self::Saml(_) => None,
        }
    }

    /// Returns the SAML provider, if this is one.
    pub const fn as_saml(&self) -> Option<&Saml> {
        match self {
            Self::Oidc(_) => None,
            Self::Saml(saml) => Some(saml),
        }
    }

    /// Returns the ID that rules and `allowed_idps` refer to.
    pub const fn id(&self) -> &IdpId {
        match self {
            Self::Oidc(oidc) => oidc.id(),
            Self::Saml(saml) => saml.id(),
        }
    }

    /// Returns the name on the login page.
    pub fn name(&self) -> &str {
        match self {
            Self::Oidc(oidc) => oidc.name(),
            Self::Saml(saml) => saml.name(),
        }
    }

    /// Returns the ID and type.
    pub fn idp_ref(&self) -> IdpRef {
        match self {
            Self::Oidc(oidc) => oidc.idp_ref(),
            Self::Saml(saml) => saml.idp_ref(),
        }
    }

    /// Returns the names of the configured claims. A claim that is missing from a
    /// [`ProviderIdentity`] is unknown.
    pub fn configured_claims(&self) -> Vec<&str> {
        match self {
            Self::Oidc(oidc) => oidc.settings().claims.iter().map(String::as_str).collect(),
            Self::Saml(saml) => saml.provider().attributes().collect(),
        }
    }

    /// Returns the terms for refreshing the groups of users with a session, if that is configured
    /// and possible.
    pub fn refresh(&self) -> Option<RefreshTerms> {
        self.directory()?.refresh()
    }

    /// Returns `true` if the directory has just failed, so that waiting for it is pointless.
    pub fn is_failing(&self, now: UnixTime) -> bool {
        self.directory()
            .is_none_or(|directory| directory.is_failing(now))
    }

    /// Returns `true` if only calls that a user waits for should be made: the rate limit is half
    /// used up, or the directory is failing.
    pub fn is_quiet(&self, now: UnixTime) -> bool {
        self.directory()
            .is_none_or(|directory| directory.is_quiet(now))
    }

    /// Looks up the account of a user with a session.
    ///
    /// # Errors
    /// See [`GroupsFailure`]. The account's status is then unknown, and no conclusion may be drawn.
    pub async fn look_up(
        &self,
        subject: &str,
        now: UnixTime,
    ) -> Result<AccountStatus, GroupsFailure> {
        match self.directory() {
            Some(directory) => directory.look_up(subject, now).await,
            None => Err(GroupsFailure::NoApi),
        }
    }

    /// Returns `true` if users may be in any number of groups. At Okta that requires an API token,
    /// because a claim holds at most 100.
    pub fn can_list_all_groups(&self) -> bool {
        self.directory().is_none_or(Directory::has_token)
    }

    /// Runs every check that needs no browser, in order, and passes each result to `on_finding`. A
    /// SAML provider is called through `http`, others through their own client.
    pub async fn check(
        &self,
        http: &HttpClient,
        now: UnixTime,
        on_finding: &mut (dyn FnMut(Finding) + Send),
    ) {
        match self {
            Self::Oidc(oidc) => oidc.check(now, on_finding).await,
            Self::Saml(saml) => saml.check(http, now, on_finding).await,
        }
    }

    /// Returns the values to register at the provider.
    pub fn registration(&self) -> Registration {
        match self {
            Self::Oidc(oidc) => oidc.registration(),
            Self::Saml(saml) => saml.registration(),
        }
    }

    fn directory(&self) -> Option<&Directory> {
        self.as_oidc()?.directory()
    }
}

impl ProviderIdentity {
    /// Adds the user's ID in the store.
    pub fn into_identity(self, user: UserId) -> Identity {
        let Self {
            subject,
            email,
            name,
            idp,
            groups,
            groups_seen,
            groups_missing: _,
            amr,
            claims,
            headers,
            at,
            ip,
            session_ends,
            id_token: _,
        } = self;
        let evaluations = BTreeMap::new();
        let beside = Vec::new();
        Identity {
            user,
            subject,
            email,
            name,
            idp,
            groups,
            groups_seen,
            amr,
            claims,
            evaluations,
            headers,
            beside,
            session_ends,
            at,
            ip,
            revision: 0,
        }
    }
}

fn exposed<S: Serializer>(secret: &Secret, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(secret.expose())
}

/// The type of an Okta provider, as Access writes it.
const KIND_OKTA: &str = "okta";
/// The type of a SAML provider.
const KIND_SAML: &str = "saml";
/// The type of any other OpenID Connect provider.
const KIND_OIDC: &str = "oidc";

#[cfg(test)]
mod tests;
