//! Policies: rules in the format of Cloudflare Access, compiled once and evaluated on every
//! request.
//!
//! Decides whether the facts about a request satisfy a policy. Trusts the facts that it is given.
//! Never grants access on an unknown fact: evaluation is three-valued, an allow requires *true*, a
//! deny applies on *unknown*.

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
