use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::routing::route;
use super::steps::{Conclusion, Evidence, Presented, steps};
use super::verification::NoSession;
use super::{Application, Decision, Snapshot};
use crate::model::{Identity, Reason, RequestView};
use crate::policy::{EarlyVerdict, Fact, Facts, PolicyDecision, Requester, Verdict, Walk};

/// The outcome of a request that a question describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// An allow policy forwards it.
    Allow,
    /// A Service Auth policy forwards it.
    #[serde(rename = "non_identity")]
    ServiceAuth,
    /// A bypass policy forwards it.
    Bypass,
    /// It is denied.
    Deny,
    /// The outcome depends on who logs in, or requires a login through another provider.
    LogIn,
    /// It is for an endpoint of the proxy itself.
    Handle,
    /// It is malformed, or no application claims it.
    Refuse,
    /// It cannot be decided now.
    Unavailable,
}

impl Outcome {
    /// Returns the name in JSON and in test files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::ServiceAuth => "non_identity",
            Self::Bypass => "bypass",
            Self::Deny => "deny",
            Self::LogIn => "log_in",
            Self::Handle => "handle",
            Self::Refuse => "refuse",
            Self::Unavailable => "unavailable",
        }
    }

    /// Returns `true` if the policies decided.
    pub const fn is_of_policies(self) -> bool {
        self.is_forwarded() || matches!(self, Self::Deny)
    }

    /// Returns `true` if the request reaches the origin.
    pub const fn is_forwarded(self) -> bool {
        matches!(self, Self::Allow | Self::ServiceAuth | Self::Bypass)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<PolicyDecision> for Outcome {
    fn from(decision: PolicyDecision) -> Self {
        match decision {
            PolicyDecision::Allow => Self::Allow,
            PolicyDecision::ServiceAuth => Self::ServiceAuth,
            PolicyDecision::Bypass => Self::Bypass,
            PolicyDecision::Deny => Self::Deny,
        }
    }
}

/// The outcome of a described request, and every rule on the way to it.
#[derive(Debug)]
pub struct Explanation {
    /// The application of the request; `None` if no application claims it.
    pub application: Option<Arc<Application>>,
    /// The result of every rule; `None` if no policy was evaluated.
    pub walk: Option<Walk>,
    /// The verdict of the policies on which the outcome depends.
    pub verdict: Option<Verdict>,
    /// The outcome.
    pub outcome: Outcome,
    /// The reason why the request is not forwarded.
    pub reason: Option<Reason>,
}

impl Explanation {
    /// Returns the explanation of a request that is refused before it reaches an application.
    pub const fn refused(reason: Reason) -> Self {
        Self {
            application: None,
            walk: None,
            verdict: None,
            outcome: Outcome::Refuse,
            reason: Some(reason),
        }
    }
}

/// Explains the decision on a described request: the steps of [`super::decide`], with a trace of
/// every rule.
///
/// `user` has a valid session. `None` is a request without one.
pub fn explain(
    snapshot: &Snapshot,
    request: &RequestView<'_>,
    user: Option<Requester<'_>>,
    facts: &Facts<'_>,
) -> Explanation {
    let application = match route(snapshot, request) {
        Ok(application) => application,
        Err(Decision::Handle { .. }) => {
            return Explanation {
                application: None,
                walk: None,
                verdict: None,
                outcome: Outcome::Handle,
                reason: None,
            };
        }
        Err(Decision::Refuse(reason)) => return Explanation::refused(reason),
        Err(_) => return Explanation::refused(Reason::Internal),
    };
    // With a service token only bypass and Service Auth policies apply, and cookies are not
    // examined (`docs/wire.md` 8). So no rule about the user is evaluated either.
    let user = user.filter(|_| !matches!(facts.service_token, Fact::Present(_)));
    let walk = snapshot.policies().walk(&application.policies, user, facts);
    let described = Described {
        accepts_linked: !application.required.linked.is_empty(),
        identity: match user {
            Some(Requester::User { identity, .. }) => identity,
            _ => None,
        },
        walk: &walk,
        facts,
    };
    let conclusion = steps(application, &described);
    let verdict = walk.verdict().map(|verdict| match &conclusion {
        // Decided without the policies about users: the credential or the provider suffices.
        Conclusion::Deny(denial) if denial.session.is_none() => Verdict {
            policy: denial.policy,
            unknown: false,
            shadow: denial.shadow,
            ..verdict
        },
        _ => verdict,
    });
    let (outcome, reason) = match conclusion {
        Conclusion::Early(verdict) | Conclusion::Allow(_, verdict) => {
            (verdict.decision.into(), None)
        }
        Conclusion::Deny(denial) => (Outcome::Deny, Some(denial.reason)),
        Conclusion::LogIn { reason, .. } => (Outcome::LogIn, Some(reason)),
        Conclusion::Unavailable(denial) => (Outcome::Unavailable, Some(denial.reason)),
        // A description has neither the headers of a preflight nor a token to verify.
        Conclusion::Preflight | Conclusion::Resolve(_) => {
            (Outcome::Unavailable, Some(Reason::Internal))
        }
    };
    Explanation {
        application: Some(Arc::clone(application)),
        walk: Some(walk),
        verdict,
        outcome,
        reason,
    }
}

/// The evidence of a described request. Its session is the verdict on the user.
struct Described<'a> {
    /// `true` if a policy of the application accepts other applications' tokens.
    accepts_linked: bool,
    identity: Option<&'a Identity>,
    walk: &'a Walk,
    facts: &'a Facts<'a>,
}

impl Evidence for Described<'_> {
    type Session = Verdict;

    fn early_verdict(&self) -> EarlyVerdict {
        self.walk.early
    }

    fn is_preflight(&self) -> bool {
        false
    }

    fn service_token(&self) -> Presented {
        match self.facts.service_token {
            Fact::Present(_) => Presented::Valid,
            Fact::Absent | Fact::Unknown => Presented::Absent,
        }
    }

    fn linked_app(&self) -> Presented {
        match self.facts.linked_app {
            Fact::Present(_) if self.accepts_linked => Presented::Valid,
            _ => Presented::Absent,
        }
    }

    fn session(&self) -> Result<Verdict, NoSession> {
        self.walk
            .later
            .ok_or(NoSession::Rejected(Reason::NoSession))
    }

    fn identity<'s>(&'s self, _session: &'s Verdict) -> Option<&'s Identity> {
        self.identity
    }

    fn verdict(&self, session: &Verdict) -> Verdict {
        *session
    }
}
