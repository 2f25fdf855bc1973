//! What waits, so that requests need not: the tasks that prepare what the engine reads.
//!
//! Decides nothing about a request. [`Access`] holds the running snapshot and everything behind it;
//! one file stands for each thing that is refreshed, and only `revocations::Publisher` puts
//! snapshots in place. Never takes a good state away because a new one could not be had.

mod access;
mod audit;
mod compile;
mod documents;
mod evaluations;
mod flows;
mod geo;
mod identities;
mod issuer;
mod logins;
mod records;
mod refresh;
mod remote;
mod revocations;
mod revoker;
mod running;
mod sessions;
pub mod signing_keys;
mod start;
mod store_watch;
mod tasks;
mod tokens;
mod vital;

#[cfg(feature = "standalone")]
pub(crate) use access::sealing_key;
pub use access::{Access, Services, StartError};
pub use compile::{CompileError, compile, providers, snapshot};
pub(crate) use documents::document;
pub use evaluations::Evaluations;
pub use geo::{CountryFile, CountryFileError};
pub(crate) use issuer::Issuer;
pub(crate) use logins::{Becomes, NoLogin};
pub use remote::RemoteTeam;
pub(crate) use sessions::{BrowserSessions, Login, Organisation, SignedIn};
pub use signing_keys::{SigningKeys, SigningKeysError};
pub use start::{Control, ControlError, NoOrigins, OriginSource, http_client};
pub use tasks::{Tasks, watch_configuration};
pub use vital::{Background, Ended, Running, Vital};
