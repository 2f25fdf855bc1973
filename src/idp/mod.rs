//! Identity providers: a login from the first redirect to a known person.
//!
//! Decides, with [`crate::oidc`], who somebody is and which groups they are in, or why that could
//! not be learned. Trusts the configured issuer, as its TLS certificate and its keys prove it.
//! Never writes down or returns a provider's token, never calls the token endpoint twice for one
//! login, and never guesses: groups that could not be learned are unknown, not none.

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

/// One configured identity provider, with what is known of it. Made once per configuration, within
/// the tokio runtime that its logins run on.
pub struct Provider {
    kind: Kind,
}

enum Kind {
    Oidc(Box<Connection>),
    Saml(Box<Saml>),
}

/// A login that was begun.
#[derive(Clone, Debug)]
pub struct Begun {
    /// Where to send the browser.
    pub url: Url,
    /// What to seal into a cookie of that browser's.
    pub pending: Pending,
}

/// What a login needs to be finished. Serialised with its secrets: only ever into something sealed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// Ties the ID token to this login.
    #[serde(serialize_with = "exposed")]
    pub nonce: Secret,
    /// Ties the code to this login (RFC 7636).
    #[serde(serialize_with = "exposed")]
    pub pkce_verifier: Secret,
    /// With whom it was begun.
    pub idp: IdpId,
    /// Who that was at the time.
    pub issuer: String,
    /// The scopes of a request that was left at the provider (RFC 9126), which no user could
    /// change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pushed_scopes: Option<String>,
    /// Which attempt at the login this is.
    #[serde(default, skip_serializing_if = "Attempt::is_first")]
    pub attempt: Attempt,
}

/// One attempt at a login. Each cause for another one counts once, so a login ends after three
/// attempts at the latest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// `true` if the scope `groups` is left out, because Okta could not fill the claim.
    #[serde(default, rename = "g", skip_serializing_if = "std::ops::Not::not")]
    without_groups: bool,
    /// `true` if an earlier attempt expired at the provider.
    #[serde(default, rename = "e", skip_serializing_if = "std::ops::Not::not")]
    after_expiry: bool,
    /// `true` if the user wants to show other credentials.
    #[serde(default, rename = "p", skip_serializing_if = "std::ops::Not::not")]
    prompted: bool,
}

impl Attempt {
    fn is_first(&self) -> bool {
        *self == Self::default()
    }
}

/// Who logged in: an [`Identity`] that was not given its place in the store yet.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// The provider's own name for the person; with the provider, the only thing to recognise them
    /// by.
    pub subject: String,
    /// The canonical address.
    pub email: Email,
    /// Display name.
    pub name: Option<String>,
    /// Which provider says so.
    pub idp: IdpRef,
    /// Group membership, or that it could not be learned.
    pub groups: Groups,
    /// From where the groups are, where they are known.
    pub groups_seen: Option<GroupsSeen>,
    /// Why the provider's answer held no groups.
    pub groups_missing: Option<GroupsMissing>,
    /// Authentication methods (RFC 8176).
    pub amr: Option<Vec<String>>,
    /// The claims that the configuration asked for.
    pub claims: Map<String, Value>,
    /// What origins are to be sent beside the address.
    pub headers: Vec<(String, String)>,
    /// When.
    pub at: UnixTime,
    /// From where.
    pub ip: Option<IpAddr>,
    /// When the provider's own session with the person ends, where it says so: ours must not last
    /// longer.
    pub session_ends: Option<UnixTime>,
    /// The provider's own token, only where a logout is to end the provider's session too: to be
    /// kept sealed, and for nothing else.
    pub id_token: Option<Secret>,
}

/// Why the answer of an identity provider held no groups of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupsMissing {
    /// They were left out, which says nothing by default.
    LeftOut,
    /// They were left out, which `absent_groups = "empty"` defines as membership in no group.
    TakenAsNone,
    /// They were left out of the ID token, and there is no userinfo endpoint that may have them.
    NoUserinfo,
    /// They were left out, and the provider is not known to have granted every scope: the user may
    /// have taken one out.
    ScopeNotGranted,
    /// A reference stands in their place, such as `_claim_names`.
    Reference,
    /// They are not a list of names.
    Unreadable,
}

impl Provider {
    /// An Okta account. `redirect_uri` is the callback as it is registered there. Nothing is
    /// fetched yet, so a provider that is down stops no start.
    pub fn okta(settings: OktaSettings, http: HttpClient, redirect_uri: Url) -> Self {
        Self {
            kind: Kind::Oidc(Box::new(Connection::okta(settings, http, redirect_uri))),
        }
    }

    /// Any other OpenID Connect provider; the rest as for [`Provider::okta`].
    pub fn oidc(settings: OidcSettings, http: HttpClient, redirect_uri: Url) -> Self {
        Self {
            kind: Kind::Oidc(Box::new(Connection::oidc(settings, http, redirect_uri))),
        }
    }

    /// A SAML connection. Its logins go by [`Provider::saml`].
    pub fn of_saml(saml: Saml) -> Self {
        Self {
            kind: Kind::Saml(Box::new(saml)),
        }
    }

    /// Where this is a SAML connection, itself: it works by messages that browsers post, and
    /// without a callback's query.
    pub fn saml(&self) -> Option<&Saml> {
        match &self.kind {
            Kind::Oidc(_) => None,
            Kind::Saml(saml) => Some(saml),
        }
    }

    /// What rules and `allowed_idps` refer to.
    pub const fn id(&self) -> &IdpId {
        match &self.kind {
            Kind::Oidc(connection) => &connection.settings().id,
            Kind::Saml(saml) => saml.id(),
        }
    }

    /// What the login page calls it.
    pub fn name(&self) -> &str {
        match &self.kind {
            Kind::Oidc(connection) => &connection.settings().name,
            Kind::Saml(saml) => saml.name(),
        }
    }

    /// Id and type.
    pub fn idp_ref(&self) -> IdpRef {
        match &self.kind {
            Kind::Oidc(connection) => connection.idp_ref(),
            Kind::Saml(saml) => saml.idp_ref(),
        }
    }

    /// Returns the claims that were asked for. One that is not in a [`Profile`] is unknown.
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

    /// Begins a login. `state` comes back with the callback; the caller ties it to the browser.
    ///
    /// # Errors
    /// Where the provider's discovery document cannot be had: [`Blame::Provider`]; and where it is
    /// of SAML.
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

    /// Returns the attempt to make next if a login failed in a way that another attempt may mend.
    ///
    /// That is the case if Okta could not fill the groups claim, its API can be asked instead, and
    /// the scope `groups` was requested; and if the sign-in page of the provider expired. Neither
    /// leads to a second attempt of its kind.
    pub fn next_attempt(&self, failure: &LoginFailure, pending: &Pending) -> Option<Attempt> {
        self.connection()?.next_attempt(failure, pending)
    }

    /// Begins a login once more, as [`Provider::next_attempt`] says.
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

    /// Finishes the login that `state` and `pending` are of, with one call of the token endpoint
    /// and one of the userinfo endpoint. `leeway` is how much the clocks may differ, up to 300 s.
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

    /// How fresh the groups of people who are logged in are to be kept, where that is wanted and
    /// can be.
    pub fn refresh(&self) -> Option<RefreshTerms> {
        self.directory()?.refresh()
    }

    /// Whether the directory has just failed, so that it is not worth waiting for.
    pub fn is_failing(&self, now: UnixTime) -> bool {
        self.directory()
            .is_none_or(|directory| directory.is_failing(now))
    }

    /// Whether the directory should be left alone but for people who wait: its rate limit is half
    /// used up, or it fails.
    pub fn is_quiet(&self, now: UnixTime) -> bool {
        self.directory()
            .is_none_or(|directory| directory.is_quiet(now))
    }

    /// What became of somebody who logged in, by the directory's word.
    ///
    /// # Errors
    /// See [`GroupsFailure`]; nothing is known then, and nothing is to be concluded from it.
    pub async fn look_up(&self, subject: &str, now: UnixTime) -> Result<Standing, GroupsFailure> {
        match self.directory() {
            Some(directory) => directory.look_up(subject, now).await,
            None => Err(GroupsFailure::NoApi),
        }
    }

    /// Whether logouts are to end the provider's session too.
    pub fn ends_sessions(&self) -> bool {
        self.connection()
            .is_some_and(|connection| connection.settings().provider_logout)
    }

    /// Where to send the browser for that; it comes back to `back` with `state`. `None` where the
    /// provider has no such place, or cannot be asked for it.
    pub async fn end_session(&self, id_token: &Secret, back: &Url, state: &str) -> Option<Url> {
        self.connection()?.end_session(id_token, back, state).await
    }

    /// Whether people may be in any number of groups: not at Okta without an API token, where a
    /// claim holds 100.
    pub fn tells_all_groups(&self) -> bool {
        self.directory().is_none_or(Directory::has_token)
    }

    /// Tries everything that needs no browser, one step after the other. `tell` learns of each as
    /// it ends. A SAML provider is called by `http`; all others by what their logins use.
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

    /// What has to be registered at the provider.
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
    /// With the id that the store knows the person by.
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

/// The type of an Okta connection, as Access writes it.
const KIND_OKTA: &str = "okta";
/// Any SAML connection.
const KIND_SAML: &str = "saml";
/// The type of any other OpenID Connect connection.
const KIND_OIDC: &str = "oidc";

#[cfg(test)]
mod tests;
