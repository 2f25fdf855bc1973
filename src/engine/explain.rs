use std::sync::Arc;

use super::decide::route;
use super::{Application, Decision, Snapshot};
use crate::model::{Reason, RequestView};
use crate::policy::{Fact, Facts, Outcome, Requester, Truth, Verdict, Walk};

/// What would happen to a request, and the walk to it.
#[derive(Debug)]
pub struct Explanation {
    /// Whose request it is; none where no application claims it.
    pub application: Option<Arc<Application>>,
    /// Every rule on the way; none where no policy was asked.
    pub walk: Option<Walk>,
    /// `allow`, `non_identity`, `bypass` or `deny` by the policies; `log_in` where that depends on
    /// who logs in, or where they must do so through another provider; `handle` for our own
    /// endpoints; `refuse` and `unavailable`.
    pub outcome: &'static str,
    /// Why it is not forwarded.
    pub reason: Option<Reason>,
}

impl Explanation {
    /// A request that no application is asked about.
    pub const fn refused(reason: Reason) -> Self {
        Self {
            application: None,
            walk: None,
            outcome: "refuse",
            reason: Some(reason),
        }
    }
}

/// Explains what [`super::decide`] would do with a request of somebody whose session is good: the
/// same steps, with somebody looking on. `visitor` is `None` where nobody has logged in.
pub fn explain(
    snapshot: &Snapshot,
    request: &RequestView<'_>,
    visitor: Option<Requester<'_>>,
    facts: &Facts<'_>,
) -> Explanation {
    let application = match route(snapshot, request) {
        Ok(application) => Arc::clone(application),
        Err(decision) => {
            let (outcome, reason) = match decision {
                Decision::Handle { .. } => ("handle", None),
                Decision::Refuse(reason) => ("refuse", Some(reason)),
                _ => ("refuse", Some(Reason::Internal)),
            };
            return Explanation {
                application: None,
                walk: None,
                outcome,
                reason,
            };
        }
    };
    // With a service token only bypass and Service Auth policies apply, and cookies are not
    // examined (`docs/wire.md` 8).
    let is_program = matches!(facts.service_token, Fact::Present(_));
    let visitor = visitor.filter(|_| !is_program);
    let is_linked =
        matches!(facts.linked_app, Fact::Present(_)) && !application.required.linked.is_empty();
    let person = visitor.map(|who| snapshot.policies().user_facts(who));
    let walk = snapshot
        .policies()
        .walk(&application.policies, person.as_ref(), facts);
    let identity = match visitor {
        Some(Requester::User { identity, .. }) => identity,
        _ => None,
    };
    let admits = application.admits(identity.map(|identity| &identity.idp.id));
    let (outcome, reason) = match walk.verdict {
        Some(Verdict {
            outcome: outcome @ (Outcome::Bypass | Outcome::ServiceAuth),
            ..
        }) => (outcome.as_str(), None),
        // A login would not help: it is known who that is, and they may not.
        None if is_program || is_linked => (Outcome::Deny.as_str(), Some(Reason::NoPolicyApplied)),
        None if application.required.only_service_clients => {
            (Outcome::Deny.as_str(), Some(Reason::ServiceAuthRequired))
        }
        None => ("log_in", Some(Reason::NoSession)),
        Some(_) if admits == Truth::False => ("log_in", Some(Reason::SessionInvalid)),
        Some(_) if admits == Truth::Unknown => ("unavailable", Some(Reason::IdentityUnavailable)),
        Some(Verdict {
            outcome: Outcome::Allow,
            ..
        }) => (Outcome::Allow.as_str(), None),
        Some(Verdict { unknown: true, .. }) if identity.is_none() => {
            ("unavailable", Some(Reason::IdentityUnavailable))
        }
        Some(verdict) => (Outcome::Deny.as_str(), Some(Reason::of_denial(&verdict))),
    };
    Explanation {
        application: Some(application),
        walk: Some(walk),
        outcome,
        reason,
    }
}
