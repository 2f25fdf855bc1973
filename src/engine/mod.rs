//! The decision on a request, from the facts that this node has.
//!
//! [`decide`] is a plain function: no await, no clock, no log, no lock that can wait. It trusts the
//! [`Snapshot`], which the control path checked before it published it, and nothing in the request.
//! It never forwards without a [`Permit`], which only this module can make. An error on the way to
//! a decision is never a permit.

mod application;
mod challenge;
mod client_ca;
mod credential;
mod decide;
mod decision;
mod explain;
mod node_cache;
mod other_target;
mod required_facts;
mod reserved;
mod service_clients;
mod snapshot;
mod steps;
mod verification;

pub use application::{Application, ApplicationSettings, CookieAttributes, Cors, Origins};
pub use challenge::{Challenge, Style};
pub use client_ca::{ClientCa, Root};
pub use decide::decide;
pub use decision::{Decision, Need, Permit, Refusal};
pub use explain::{Explanation, Outcome, explain};
pub use node_cache::{IdentityState, IssuerKeys, NodeCache};
pub use reserved::{is_method_override, is_reserved};
pub use service_clients::ServiceClient;
pub use snapshot::{Snapshot, SnapshotError, Team};
