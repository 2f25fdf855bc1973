//! The configured objects as Cloudflare Access's API has them: each with an id, references by id.
//!
//! Decides nothing about their content: `config` checks documents and builds a catalog from them.
//! Trusts that check. Never serialises a secret, and never drops a reference that it cannot
//! resolve: a missing policy could be a denial.

mod application;
mod certificate;
mod cors;
mod derived_id;
mod domain;
mod json;
mod organization;
mod origin;
mod provider;
mod references;
mod saml;

use std::fmt;

use thiserror::Error;

use crate::model::ServiceToken;
use crate::policy::{AccessGroup, List, Policy};

pub use application::{Application, ApplicationPolicy, LauncherEntry};
pub use certificate::ClientAuthority;
pub use cors::{Allowed, CorsHeaders};
pub(crate) use derived_id::derived_id;
pub use domain::Domain;
pub use organization::Organization;
pub use origin::{HealthCheck, Origin, OriginScheme, OriginSettings};
pub use provider::{
    ClientConfig, ClientCredentials, IdentityProvider, IdpKind, OidcConfig, OktaConfig,
};
pub use saml::{EncryptionKey, SamlConfig};

/// The configured objects of a team, from all sources together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Catalog {
    /// The team domain and its settings.
    pub team: Organization,
    /// The identity providers; none for a remote team.
    pub identity_providers: Vec<IdentityProvider>,
    /// The applications, each with a domain of its own.
    pub applications: Vec<Application>,
    /// The policies that applications share, each with an id.
    pub policies: Vec<Policy>,
    /// The Access groups. None contains itself.
    pub groups: Vec<AccessGroup>,
    /// The lists that `email_list` and `ip_list` refer to.
    pub lists: Vec<List>,
    /// The service tokens; none for a remote team.
    pub service_tokens: Vec<ServiceToken>,
    /// The certificate authorities for client certificates.
    pub certificates: Vec<ClientAuthority>,
}

/// A kind of object that can come from more than one source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `identity_providers` in Cloudflare's API.
    IdentityProvider,
    /// An application, with the policies that are its own.
    Application,
    /// A policy that applications share.
    Policy,
    /// `groups` in Cloudflare's API.
    Group,
    /// A list of email addresses or networks.
    List,
    /// `service_tokens` in Cloudflare's API.
    ServiceToken,
    /// A certificate authority for client certificates.
    Certificate,
}

/// A configured object. It serialises to the JSON of Cloudflare Access, without its secrets.
#[derive(Clone, Copy, Debug)]
pub enum Object<'c> {
    /// Without its client secret.
    IdentityProvider(&'c IdentityProvider),
    /// An application.
    Application(&'c Application),
    /// A policy that applications share.
    Policy(&'c Policy),
    /// An Access group.
    Group(&'c AccessGroup),
    /// A list.
    List(&'c List),
    /// Without its secret.
    ServiceToken(&'c ServiceToken),
    /// A certificate authority.
    Certificate(&'c ClientAuthority),
}

/// A reference to a shared policy that does not exist.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("no shared policy has the id `{0}`")]
pub struct UnknownPolicy(pub String);

impl Catalog {
    /// Returns the policies of an application in the order of evaluation, its own and shared ones.
    ///
    /// # Errors
    /// If a shared policy does not exist. Without it the application could allow more than it should.
    pub fn policies_of<'c>(
        &'c self,
        application: &'c Application,
    ) -> Result<Vec<&'c Policy>, UnknownPolicy> {
        let resolve = |entry: &'c ApplicationPolicy| match entry {
            ApplicationPolicy::Own(policy) => Ok(policy),
            ApplicationPolicy::Shared(id) => self
                .policies
                .iter()
                .find(|policy| policy.id.as_ref() == Some(id))
                .ok_or_else(|| UnknownPolicy(id.clone())),
        };
        application.policies.iter().map(resolve).collect()
    }

    /// Returns all objects, by kind.
    pub fn objects(&self) -> impl Iterator<Item = Object<'_>> {
        let providers = self.identity_providers.iter().map(Object::IdentityProvider);
        providers
            .chain(self.applications.iter().map(Object::Application))
            .chain(self.policies.iter().map(Object::Policy))
            .chain(self.groups.iter().map(Object::Group))
            .chain(self.lists.iter().map(Object::List))
            .chain(self.service_tokens.iter().map(Object::ServiceToken))
            .chain(self.certificates.iter().map(Object::Certificate))
    }

    /// Returns the object of that kind and id.
    pub fn get(&self, kind: Kind, id: &str) -> Option<Object<'_>> {
        self.objects()
            .find(|object| object.kind() == kind && object.id() == id)
    }

    /// Returns the objects that refer to an object, which cannot be deleted before them.
    pub fn uses(&self, kind: Kind, id: &str) -> impl Iterator<Item = Object<'_>> {
        self.objects()
            .filter(move |object| object.references().contains(&(kind, id)))
    }
}

impl<'c> Object<'c> {
    /// Returns the kind.
    pub const fn kind(self) -> Kind {
        match self {
            Self::IdentityProvider(_) => Kind::IdentityProvider,
            Self::Application(_) => Kind::Application,
            Self::Policy(_) => Kind::Policy,
            Self::Group(_) => Kind::Group,
            Self::List(_) => Kind::List,
            Self::ServiceToken(_) => Kind::ServiceToken,
            Self::Certificate(_) => Kind::Certificate,
        }
    }

    /// Returns the id, unique among objects of its kind.
    pub fn id(self) -> &'c str {
        match self {
            Self::IdentityProvider(provider) => &provider.id.0,
            Self::Application(application) => &application.id,
            // The check requires an id of every shared policy.
            Self::Policy(policy) => policy.id.as_deref().unwrap_or_default(),
            Self::Group(group) => &group.id,
            Self::List(list) => &list.id,
            Self::ServiceToken(token) => &token.id,
            Self::Certificate(authority) => &authority.id,
        }
    }

    /// Returns the display name.
    pub fn name(self) -> &'c str {
        match self {
            Self::IdentityProvider(provider) => &provider.name,
            Self::Application(application) => &application.name,
            Self::Policy(policy) => &policy.name,
            Self::Group(group) => &group.name,
            Self::List(list) => &list.name,
            Self::ServiceToken(token) => &token.name,
            Self::Certificate(authority) => &authority.name,
        }
    }
}

impl Kind {
    /// Returns the key of these objects in the configuration file.
    pub const fn list(self) -> &'static str {
        match self {
            Self::IdentityProvider => "identity_providers",
            Self::Application => "applications",
            Self::Policy => "policies",
            Self::Group => "groups",
            Self::List => "lists",
            Self::ServiceToken => "service_tokens",
            Self::Certificate => "certificates",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::IdentityProvider => "identity provider",
            Self::Application => "application",
            Self::Policy => "policy",
            Self::Group => "group",
            Self::List => "list",
            Self::ServiceToken => "service token",
            Self::Certificate => "certificate",
        })
    }
}
