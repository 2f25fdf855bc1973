//! Identity providers: a login, from the first redirect to a verified user.
//!
//! Decides, with [`crate::oidc`] and [`crate::saml`], the user's identity and groups, or why they
//! could not be determined. Trusts the configured issuer, authenticated by its TLS certificate and
//! its keys. Never stores or returns a provider's token (except sealed, for a logout), never calls
//! the token endpoint twice for one login, and never guesses: groups that could not be determined
//! are unknown, not empty.

mod advice;
mod body;
pub mod check;
mod connection;
mod documents;
mod failure;
mod groups;
mod meaning;
mod okta;
mod saml;
mod settings;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};
use url::Url;

pub use documents::Ages;
pub use failure::{
    Blame, EmailFailure, Endpoint, GroupsFailure, IssuerMismatch, LoginFailure, OtherBody, Step,
};
pub use okta::Standing;
pub use saml::{Saml, SamlAnswer, SamlPending};
pub use settings::{ClientSettings, OidcSettings, OktaSettings, RefreshTerms};

use self::check::{Finding, Registration};
use self::connection::Connection;
use self::okta::Directory;
use crate::http_client::HttpClient;
use crate::model::{Email, Groups, GroupsSeen, Identity, IdpId, IdpRef, Secret, UnixTime, UserId};
pub use crate::oidc::{
    Callback, CallbackError, ClientAuth, ClientKey, ClientKeyError, Credentials, EmailVerification,
    Endpoints, GroupsClaim, Hints, Prompt,
};

/// A configured identity provider with its cached documents. Created once per configuration, inside
/// the tokio runtime that its logins run on.
pub struct Provider {
    kind: Kind,
}

enum Kind {
    Oidc(Box<Connection>),
    Saml(Box<Saml>),
}

/// A login that was started.
#[derive(Clone, Debug)]
pub struct Begun {
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
pub struct Profile {
    /// The provider's identifier for the user. Only this and the provider identify a user.
    pub subject: String,
    /// The canonical email address.
    pub email: Email,
    /// The display name.
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
        Self {
            kind: Kind::Oidc(Box::new(Connection::okta(settings, http, redirect_uri))),
        }
    }

    /// Creates any other OpenID Connect provider; see [`Provider::okta`].
    pub fn oidc(settings: OidcSettings, http: HttpClient, redirect_uri: Url) -> Self {
        Self {
            kind: Kind::Oidc(Box::new(Connection::oidc(settings, http, redirect_uri))),
        }
    }

    /// Creates a SAML provider. Its logins use [`Provider::saml`].
    pub fn of_saml(saml: Saml) -> Self {
        Self {
            kind: Kind::Saml(Box::new(saml)),
        }
    }

    /// Returns the SAML connection, if this is one. Its logins use messages that browsers post,
    /// instead of the query of a callback.
    pub fn saml(&self) -> Option<&Saml> {
        match &self.kind {
            Kind::Oidc(_) => None,
            Kind::Saml(saml) => Some(saml),
        }
    }

    /// Returns the ID that rules and `allowed_idps` refer to.
    pub const fn id(&self) -> &IdpId {
        match &self.kind {
            Kind::Oidc(connection) => &connection.settings().id,
            Kind::Saml(saml) => saml.id(),
        }
    }

    /// Returns the name on the login page.
    pub fn name(&self) -> &str {
        match &self.kind {
            Kind::Oidc(connection) => &connection.settings().name,
            Kind::Saml(saml) => saml.name(),
        }
    }

    /// Returns the ID and type.
    pub fn idp_ref(&self) -> IdpRef {
        match &self.kind {
            Kind::Oidc(connection) => connection.idp_ref(),
            Kind::Saml(saml) => saml.idp_ref(),
        }
    }

    /// Returns the names of the configured claims. A claim that is missing from a [`Profile`] is
    /// unknown.
    pub fn may_be_missing(&self) -> Vec<&str> {
        match &self.kind {
            Kind::Oidc(connection) => connection
                .settings()
                .claims
                .iter()
                .map(String::as_str)
                .collect(),
            Kind::Saml(saml) => saml.provider().attributes().collect(),
        }
    }

    /// Starts a login. `state` returns in the callback; the caller binds it to the browser.
    ///
    /// # Errors
    /// If the discovery document cannot be fetched ([`Blame::Provider`]), or if this is a SAML
    /// provider.
    pub async fn begin(
        &self,
        state: &str,
        hints: Hints,
        now: UnixTime,
    ) -> Result<Begun, LoginFailure> {
        match &self.kind {
            Kind::Oidc(connection) => connection.begin(state, hints, now).await,
            Kind::Saml(_) => Err(LoginFailure::Flow),
        }
    }

    /// Returns the next attempt if another one may succeed after this failure.
    ///
    /// That is the case if Okta could not fill the groups claim, the scope `groups` was requested,
    /// and its API can list the groups instead; or if the provider's sign-in page expired. Each
    /// reason counts once.
    pub fn next_attempt(&self, failure: &LoginFailure, pending: &Pending) -> Option<Attempt> {
        self.connection()?.next_attempt(failure, pending)
    }

    /// Starts the attempt that [`Provider::next_attempt`] returned.
    ///
    /// # Errors
    /// As for [`Provider::begin`].
    pub async fn begin_again(
        &self,
        state: &str,
        attempt: Attempt,
        now: UnixTime,
    ) -> Result<Begun, LoginFailure> {
        match &self.kind {
            Kind::Oidc(connection) => connection.begin_again(state, attempt, now).await,
            Kind::Saml(_) => Err(LoginFailure::Flow),
        }
    }

    /// Completes the login of `state` and `pending`, with one call of the token endpoint and one of
    /// the userinfo endpoint. `leeway` is the accepted clock difference, up to 300 s.
    ///
    /// # Errors
    /// See [`LoginFailure`].
    pub async fn finish(
        &self,
        state: &Secret,
        pending: &Pending,
        callback: &Callback,
        now: UnixTime,
        leeway: Duration,
        client_ip: Option<IpAddr>,
    ) -> Result<Profile, LoginFailure> {
        match &self.kind {
            Kind::Oidc(connection) => {
                connection
                    .finish(state, pending, callback, now, leeway, client_ip)
                    .await
            }
            Kind::Saml(_) => Err(LoginFailure::Flow),
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
    pub async fn look_up(&self, subject: &str, now: UnixTime) -> Result<Standing, GroupsFailure> {
        match self.directory() {
            Some(directory) => directory.look_up(subject, now).await,
            None => Err(GroupsFailure::NoApi),
        }
    }

    /// Returns `true` if a logout also ends the provider's session.
    pub fn ends_sessions(&self) -> bool {
        self.connection()
            .is_some_and(|connection| connection.settings().provider_logout)
    }

    /// Returns the URL that ends the provider's session and then redirects to `back` with `state`.
    /// `None` if the provider has none, or cannot be reached.
    pub async fn end_session(&self, id_token: &Secret, back: &Url, state: &str) -> Option<Url> {
        self.connection()?.end_session(id_token, back, state).await
    }

    /// Returns `true` if users may be in any number of groups. At Okta that requires an API token,
    /// because a claim holds at most 100.
    pub fn tells_all_groups(&self) -> bool {
        self.directory().is_none_or(Directory::has_token)
    }

    /// Runs every check that needs no browser, in order, and passes each result to `tell`. A SAML
    /// provider is called through `http`, others through their own client.
    pub async fn check(
        &self,
        http: &HttpClient,
        now: UnixTime,
        tell: &mut (dyn FnMut(Finding) + Send),
    ) {
        match &self.kind {
            Kind::Oidc(connection) => connection.check(now, tell).await,
            Kind::Saml(saml) => saml.check(http, now, tell).await,
        }
    }

    /// Returns the values to register at the provider.
    pub fn registration(&self) -> Registration {
        match &self.kind {
            Kind::Oidc(connection) => connection.registration(),
            Kind::Saml(saml) => saml.registration(),
        }
    }

    fn directory(&self) -> Option<&Directory> {
        self.connection()?.directory()
    }

    const fn connection(&self) -> Option<&Connection> {
        match &self.kind {
            Kind::Oidc(connection) => Some(connection),
            Kind::Saml(_) => None,
        }
    }
}

impl Profile {
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
