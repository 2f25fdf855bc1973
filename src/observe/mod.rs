//! What operators see: audit events, metrics, the log.
//!
//! Decides which words of a request reach a log, and how they look there. Trusts no text from
//! outside: what is not plain is escaped. Never waits for a reader, and never writes a secret, a
//! token, a cookie or a query.

pub mod audit;
#[cfg(feature = "standalone")]
pub mod logging;
pub mod metrics;
