//! Policies: rules as Cloudflare Access writes them, compiled once, evaluated on every request.
//!
//! Decides whether what is known about a request satisfies a policy. Trusts the facts it is given.
//! Never does a fact that could not be learned help the caller: evaluation is three-valued, an
//! allow needs *true*, a deny applies on *unknown*.

mod advice;
mod compile;
mod evaluate;
mod nets;
mod order;
mod questions;
mod reach;
mod rule;
mod trace;
mod truth;
mod values;

pub use advice::Advisor;
pub use compile::{Compiled, Policies, PolicyIndex, PolicySet};
pub use evaluate::{
    Countries, EarlyVerdict, Fact, Facts, Outcome, PartialVerdict, ShadowVerdict, Verdict,
};
pub use order::UnknownName;
pub use questions::{Requester, UserFacts, is_comparable};
pub use reach::{evaluation_key, evaluations};
pub use rule::{About, AccessGroup, List, ListItems, Policy, PolicyDecision, Rule};
pub use trace::{Clause, Part, Walk};
pub use truth::Truth;
pub use values::{Country, IpRange, TimeWindow, Verb};

#[cfg(test)]
mod tests;
