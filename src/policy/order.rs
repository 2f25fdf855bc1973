//! The order in which the policies of an application are evaluated.

use super::rule::{Policy, PolicyDecision};

/// The index of a policy in its application's list, in the order that was configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PolicyIndex(pub usize);

impl PolicyDecision {
    /// Returns `true` for bypass and Service Auth. These policies are evaluated before all others
    /// and before any login, so they cannot depend on the user.
    pub const fn is_early(self) -> bool {
        match self {
            Self::Bypass | Self::ServiceAuth => true,
            Self::Allow | Self::Deny => false,
        }
    }
}

/// Yields an application's policies in the order of evaluation: bypass and Service Auth, then allow
/// and deny, each in the configured order (`docs/wire.md` 9).
pub fn in_order(policies: &[Policy]) -> impl Iterator<Item = (PolicyIndex, &Policy)> {
    let of = |early: bool| {
        let indexed = policies.iter().enumerate();
        indexed
            .filter(move |(_, policy)| policy.decision.is_early() == early)
            .map(|(index, policy)| (PolicyIndex(index), policy))
    };
    of(true).chain(of(false))
}
