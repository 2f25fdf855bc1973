//! The vocabulary of all other modules.
//!
//! Decides the canonical form of a host, a path, an email address and a time, once, at the
//! boundary. Trusts none of its input. Never does IO, and never reads a clock, except in
//! [`UnixTime::now`], which only the edges call.

#[cfg(feature = "control")]
mod budget;
mod causes;
mod client_certificate;
pub mod duration;
mod email;
mod host;
mod identity;
mod ids;
pub(crate) mod json;
mod path;
mod reason;
mod request;
mod secret;
mod service_token;
mod support;
mod time;

#[cfg(feature = "control")]
pub(crate) use budget::FetchBudget;
pub use causes::{causes, chain};
pub use client_certificate::{ClientCertificate, ClientTls, Fingerprint};
pub use email::{Email, EmailDomain, EmailError};
pub use host::{Host, HostError, HostPort, ServedPort};
pub(crate) use identity::is_groups;
#[cfg(feature = "protocols")]
pub(crate) use identity::is_nearly;
pub use identity::{
    AbsentGroups, Group, Groups, GroupsSeen, GroupsSource, Identity, IdpRef, LoginOrder, SentHeader,
};
#[cfg(feature = "protocols")]
pub(crate) use ids::fill_random;
pub(crate) use ids::hex;
pub use ids::{Aud, IdentityNonce, IdpId, InvalidId, RequestId, UserId};
pub use path::{CleanPath, PathError, Symbol};
pub(crate) use path::{FULL_WIDTH_DOT, is_ignorable};
pub use reason::Reason;
pub use request::RequestView;
pub use secret::Secret;
pub use service_token::{ClientId, SecretDigest, ServiceToken};
pub use support::Support;
pub use time::UnixTime;
