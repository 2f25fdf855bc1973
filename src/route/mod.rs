//! Which application a host and a path belong to (access-compatible matching: the most specific domain wins, and nothing is
//! inherited from a less specific one).
//!
//! Trusts that the path is canonical. Never sees a query, a header or a port.

mod pattern;
mod router;

pub use pattern::{Domain, DomainError};
pub use router::{Endpoint, Router};
