//! Identity providers: a login from the first redirect to a known person.
//!
//! Decides, with [`crate::oidc`], who somebody is and which groups they are in, or why that could not be learned. Trusts the
//! configured issuer, as its TLS certificate and its keys prove it. Never writes down or returns a provider's token, never
//! calls the token endpoint twice for one login, and never guesses: groups that could not be learned are unknown, not none.

mod documents;
mod failure;
mod groups;
mod okta;
#[cfg(feature = "saml")]
mod saml;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};
use url::Url;

pub use documents::Ages;
pub use failure::{Blame, EmailFailure, Endpoint, GroupsFailure, IssuerMismatch, LoginFailure};
pub use okta::OktaSettings;
#[cfg(feature = "saml")]
pub use saml::{Saml, SamlAnswer, SamlPending};

use self::okta::Okta;
use crate::http_client::HttpClient;
use crate::model::{Email, Groups, Identity, IdpId, IdpRef, Secret, UnixTime, UserId};
pub use crate::oidc::{Callback, CallbackError, Hints};
pub use openidconnect::core::CoreAuthPrompt as Prompt;

/// One configured identity provider, with what is known of it. Made once per configuration, within the tokio runtime that
/// its logins run on.
pub struct Provider {
    kind: Kind,
}

enum Kind {
    Okta(Box<Okta>),
    #[cfg(feature = "saml")]
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
}

/// Who logged in: an [`Identity`] that was not given its place in the store yet.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// The provider's own name for the person; with the provider, the only thing to recognise them by.
    pub subject: String,
    /// The canonical address.
    pub email: Email,
    /// Display name.
    pub name: Option<String>,
    /// Which provider says so.
    pub idp: IdpRef,
    /// Group membership, or that it could not be learned.
    pub groups: Groups,
    /// Authentication methods (RFC 8176).
    pub amr: Option<Vec<String>>,
    /// The claims that the configuration asked for.
    pub claims: Map<String, Value>,
    /// When.
    pub at: UnixTime,
    /// From where.
    pub ip: Option<IpAddr>,
}

impl Provider {
    /// An Okta account. `redirect_uri` is the callback as it is registered there. Nothing is fetched yet, so a provider that
    /// is down stops no start.
    pub fn okta(settings: OktaSettings, http: HttpClient, redirect_uri: Url) -> Self {
        Self { kind: Kind::Okta(Box::new(Okta::new(settings, http, redirect_uri))) }
    }

    /// A SAML connection. Its logins go by [`Provider::saml`].
    #[cfg(feature = "saml")]
    pub fn of_saml(saml: Saml) -> Self {
        Self { kind: Kind::Saml(Box::new(saml)) }
    }

    /// Where this is a SAML connection, itself: it works by messages that browsers post, and without a callback's query.
    #[cfg(feature = "saml")]
    pub fn saml(&self) -> Option<&Saml> {
        match &self.kind {
            Kind::Okta(_) => None,
            Kind::Saml(saml) => Some(saml),
        }
    }

    /// What rules and `allowed_idps` refer to.
    pub const fn id(&self) -> &IdpId {
        match &self.kind {
            Kind::Okta(okta) => &okta.settings().id,
            #[cfg(feature = "saml")]
            Kind::Saml(saml) => saml.id(),
        }
    }

    /// What the login page calls it.
    pub fn name(&self) -> &str {
        match &self.kind {
            Kind::Okta(okta) => &okta.settings().name,
            #[cfg(feature = "saml")]
            Kind::Saml(saml) => saml.name(),
        }
    }

    /// Id and type.
    pub fn idp_ref(&self) -> IdpRef {
        match &self.kind {
            Kind::Okta(okta) => okta.idp_ref(),
            #[cfg(feature = "saml")]
            Kind::Saml(saml) => saml.idp_ref(),
        }
    }

    /// Begins a login. `state` comes back with the callback; the caller ties it to the browser.
    ///
    /// # Errors
    /// Where the provider's discovery document cannot be had: [`Blame::Provider`]; and where it is of SAML.
    pub async fn begin(&self, state: &str, hints: Hints) -> Result<Begun, LoginFailure> {
        match &self.kind {
            Kind::Okta(okta) => okta.begin(state, hints).await,
            #[cfg(feature = "saml")]
            Kind::Saml(_) => Err(LoginFailure::Flow),
        }
    }

    /// Finishes the login that `state` and `pending` are of, with one call of the token endpoint and one of the userinfo endpoint.
    /// `leeway` is how much the clocks may differ, up to 300 s.
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
            Kind::Okta(okta) => okta.finish(state, pending, callback, now, leeway, client_ip).await,
            #[cfg(feature = "saml")]
            Kind::Saml(_) => Err(LoginFailure::Flow),
        }
    }
}

impl Profile {
    /// With the id that the store knows the person by.
    pub fn into_identity(self, user: UserId) -> Identity {
        let Self { subject, email, name, idp, groups, amr, claims, at, ip } = self;
        let evaluations = BTreeMap::new();
        Identity { user, subject, email, name, idp, groups, amr, claims, evaluations, at, ip }
    }
}

fn exposed<S: Serializer>(secret: &Secret, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(secret.expose())
}

/// The type of an Okta connection, as Access writes it.
const KIND_OKTA: &str = "okta";
/// Any SAML connection.
#[cfg(feature = "saml")]
const KIND_SAML: &str = "saml";

#[cfg(test)]
mod tests;
