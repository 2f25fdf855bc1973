//! Examines policies without a real request: explains a decision, runs policy tests, and compares
//! two configurations.
//!
//! Decides nothing itself: every answer comes from [`crate::engine::explain`], which is the
//! decision with a trace. Trusts the description of users and requests; omitted facts are unknown.
//! Never reads a secret and never opens a connection.

mod ask;
mod compared;
mod diff;
mod junit;
mod people;
mod replay;
mod suite;
mod text;
mod view;
mod witness;
mod words;

pub use ask::{Answer, Asked, Moment, World};
pub use diff::{Access, Change, Diff};
pub use junit::junit;
pub use people::Person;
pub use suite::{Ended, Failure, Suite, untested};
pub use text::Line;
pub use view::View;

#[cfg(test)]
mod tests;
