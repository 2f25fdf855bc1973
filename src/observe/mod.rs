//! Observability: audit events, metrics and the log.
//!
//! Decides which parts of a request are logged, and in which form. Trusts no text from outside:
//! unsafe characters are escaped. Never waits for a reader, and never writes a secret, a token, a
//! cookie or a query.

pub mod audit;
#[cfg(feature = "standalone")]
pub mod logging;
pub mod metrics;
