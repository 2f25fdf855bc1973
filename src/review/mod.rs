//! Looking at policies before, or without, anybody asking for something: why a request would be
//! decided as it is, whether a configuration does what its tests expect, and what a change of it
//! would change.
//!
//! Decides nothing itself: every answer is [`crate::engine::explain`]'s, which is the decision with
//! somebody looking on. Trusts what it is told about people and requests; what it is not told is
//! unknown, as on a bad day. Never reads a secret and never opens a connection.

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

pub use ask::{Answer, Asked, Moment, World};
pub use diff::{Access, Change, Diff};
pub use junit::junit;
pub use people::Person;
pub use suite::{Ended, Failure, Suite, untested};
pub use text::Line;
pub use view::View;

#[cfg(test)]
mod tests;
