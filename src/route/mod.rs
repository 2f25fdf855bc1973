//! Which application a host and a path belong to (access-compatible matching: the most specific
//! domain wins, and nothing is inherited from a less specific one).
//!
//! Trusts nothing of the path: a path that origins read in several ways is routed only if all
//! readings lead to one application. Never sees a query, a header or a port.

mod case;
mod endpoint;
mod fault;
mod pattern;
mod readings;
mod router;
#[cfg(test)]
mod tests;

pub use case::{CaseRivals, case_rivals};
pub use endpoint::{Endpoint, HostRole};
pub use fault::PathFault;
pub use pattern::{Domain, DomainError};
pub use readings::PathCase;
pub use router::Router;
