//! Policies: rules as Cloudflare Access writes them, compiled once, evaluated on every request.
//!
//! Decides whether what is known about a request satisfies a policy. Trusts the facts it is given. Never does a fact that
//! could not be learned help the caller: evaluation is three-valued, an allow needs *true*, a deny applies on *unknown*.

mod compile;
mod evaluate;
mod rule;

pub use compile::{Compiled, Interner, Policies, PolicySet, UnknownGroup};
pub use evaluate::{Facts, Membership, Outcome, Shortlist, Truth, Verdict};
pub use rule::{AccessGroup, IpRange, Policy, PolicyDecision, Rule};
