//! The control path: background tasks and I/O that keep the engine's snapshot up to date.
//!
//! Decides nothing about a request. [`Access`] composes its parts. Only `revocations::Publisher`
//! publishes snapshots. Never discards a valid state because a newer one cannot be loaded.

mod access;
mod audit;
mod browser_session;
mod changes;
mod clock;
mod compile;
mod documents;
mod error;
mod evaluations;
mod evaluator;
mod file_watch;
mod flows;
mod geo;
mod identities;
mod issuer;
mod logins;
mod records;
mod reload;
mod remote;
mod repositories;
mod resolver;
mod revocations;
mod revoker;
mod running;
mod services;
mod sessions;
pub mod signing_keys;
mod start;
mod store_watch;
mod tasks;
mod upkeep;
mod vital;

pub(crate) use access::EndpointParts;
#[cfg(feature = "standalone")]
pub(crate) use access::sealing_key;
pub use access::{Access, Resources};
pub(crate) use audit::{Audit, DecidedLogin};
pub(crate) use browser_session::BrowserSession;
pub use clock::{Clock, ManualClock};
pub use compile::{CompileError, compile, providers, snapshot};
pub(crate) use documents::document;
pub use error::StartError;
pub use evaluations::Evaluations;
pub use file_watch::FileWatch;
pub(crate) use flows::Flows;
pub use geo::{CountryFile, CountryFileError};
pub(crate) use issuer::TokenIssuer;
pub(crate) use logins::{Authenticated, LoginError, LoginMode, Logins};
pub(crate) use running::Running;
pub use services::{IssuerSettings, RemoteTeam, Services};
pub(crate) use sessions::{BrowserSessions, Login, Organisation, Sessions};
pub use signing_keys::{SigningKeys, SigningKeysError};
pub use start::{Control, ControlError, NoOrigins, OriginSource, http_client};
pub use tasks::Tasks;
pub use vital::{Background, Ended, Vital, VitalGuard};
