//! Policies: rules in the format of Cloudflare Access, compiled once and evaluated on every
//! request.
//!
//! Decides whether the facts about a request satisfy a policy. Trusts the facts that it is given.
//! Never grants access on an unknown fact: evaluation is three-valued, an allow requires *true*, a
//! deny applies on *unknown*.

mod advice;
mod compile;
mod compiled;
mod evaluate;
mod facts;
mod nesting;
mod nets;
mod order;
mod partial;
mod questions;
mod reach;
mod rule;
mod trace;
mod truth;
mod values;
mod verdict;

pub use advice::Advisor;
pub use compile::Compiled;
pub use compiled::{Policies, PolicySet};
pub use facts::{Countries, Fact, Facts};
pub use nesting::UnknownName;
pub use order::{PolicyIndex, in_order};
pub use partial::PartialVerdict;
pub use questions::{Requester, UserFacts, is_comparable};
pub use reach::{evaluation_key, evaluations};
pub use rule::{
    About, AccessGroup, List, ListItem, ListItems, Policy, PolicyDecision, Rule, SharedRules,
};
pub use trace::{Clause, Part, Walk};
pub use truth::Truth;
pub use values::{Country, IpRange, TimeWindow, Verb};
pub use verdict::{EarlyVerdict, ShadowVerdict, Verdict};

#[cfg(test)]
mod tests;
