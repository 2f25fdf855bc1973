//! The decision on a request, from the facts that this node has.
//!
//! [`decide`] is a plain function: no await, no clock, no log, no lock that can wait. It trusts the
//! [`Snapshot`], which the control path checked before it published it, and nothing in the request.
//! It never forwards without a [`Permit`], which only this module can make. An error on the way to
//! a decision is never a permit.

mod application;
mod challenge;
mod client_ca;
mod client_facts;
mod cors;
mod credential;
mod credential_headers;
mod decide;
mod decision;
mod explain;
mod linked_token;
mod matching;
mod need;
mod node_cache;
mod other_target;
mod permit;
mod refusal;
mod required_facts;
mod reserved;
mod routing;
mod service_client;
mod service_tokens;
mod settings;
mod snapshot;
mod steps;
mod team;
mod verification;

pub use application::Application;
pub use challenge::{Challenge, Style};
pub use client_ca::{ClientCa, Root};
pub use cors::Cors;
pub use decide::decide;
pub use decision::Decision;
pub use explain::{Explanation, Outcome, explain};
pub use need::Need;
pub use node_cache::{AssertionOf, IdentityState, IssuerKeys, NodeCache};
pub use permit::Permit;
pub use refusal::Refusal;
pub use reserved::{is_method_override, is_reserved};
pub use service_client::ServiceClient;
pub use settings::{ApplicationSettings, CookieAttributes, Origins};
pub use snapshot::{Snapshot, SnapshotError};
pub use team::Team;
