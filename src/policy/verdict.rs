use super::order::PolicyIndex;
use super::rule::PolicyDecision;
use crate::model::Reason;

/// The decision of the policies, with the policy that made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The decision; [`PolicyDecision::Deny`] if no policy applied.
    pub decision: PolicyDecision,
    /// The policy that decided; `None` if none applied.
    pub policy: Option<PolicyIndex>,
    /// `true` if an unknown fact prevented another decision. Such a denial is no judgement of the
    /// user.
    pub unknown: bool,
    /// The shadow policy that would have decided before this.
    pub shadow: Option<ShadowVerdict>,
}

/// The decision that a shadow policy would have made, had it been enforced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShadowVerdict {
    /// The shadow policy.
    pub policy: PolicyIndex,
    /// The decision without its `shadow` flag.
    pub decision: PolicyDecision,
}

/// The verdict of the bypass and Service Auth policies, which come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EarlyVerdict {
    /// The verdict, if one of them applies.
    pub verdict: Option<Verdict>,
    /// The shadow policy among them that would have decided.
    pub shadow: Option<ShadowVerdict>,
}

impl From<Verdict> for EarlyVerdict {
    fn from(found: Verdict) -> Self {
        Self {
            verdict: found.decision.is_early().then_some(found),
            shadow: found.shadow,
        }
    }
}

impl EarlyVerdict {
    /// Returns the early verdict, or else the verdict of the allow and deny policies.
    #[must_use]
    pub fn or_else(self, later: impl FnOnce() -> Verdict) -> Verdict {
        self.verdict.unwrap_or_else(|| {
            let later = later();
            Verdict {
                shadow: self.shadow.or(later.shadow),
                ..later
            }
        })
    }
}

impl Reason {
    /// Returns the reason of a verdict that denies.
    pub const fn of_denial(verdict: &Verdict) -> Self {
        match verdict {
            Verdict { unknown: true, .. } => Self::IdentityIncomplete,
            Verdict {
                policy: Some(_), ..
            } => Self::PolicyDenied,
            Verdict { policy: None, .. } => Self::NoPolicyApplied,
        }
    }
}
