//! The configured objects as Cloudflare Access's API has them: each with an id, references by id.

use std::fmt;

/// A kind of object that can come from more than one source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// An identity provider.
    IdentityProvider,
    /// An application, with the policies that are its own.
    Application,
    /// A policy that applications share.
    Policy,
    /// An Access group.
    Group,
    /// A list of email addresses or networks.
    List,
    /// A service token.
    ServiceToken,
    /// A certificate authority for client certificates.
    Certificate,
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
