//! The order of a decision, written once.
//!
//! [`decide`](super::decide) takes these steps with the evidence of a request, and
//! [`explain`](super::explain) with that of a description.

use super::verification::NoSession;
use super::{Application, Need};
use crate::model::{Identity, Reason};
use crate::policy::{EarlyVerdict, PolicyDecision, PolicyIndex, ShadowVerdict, Truth, Verdict};

/// Everything about one request that its decision depends on.
///
/// Each method is called at most once, and in the order of the steps. So an expensive one runs only
/// if the decision depends on it.
pub(super) trait Evidence {
    /// A session that holds now.
    type Session;

    /// Returns the verdict of the bypass and Service Auth policies.
    fn early_verdict(&self) -> EarlyVerdict;

    /// Returns `true` for a CORS preflight.
    fn is_preflight(&self) -> bool;

    /// Returns the state of the service token in the request.
    fn service_token(&self) -> Presented;

    /// Returns the state of another application's token in the request.
    fn linked_app(&self) -> Presented;

    /// Returns the session of the request.
    ///
    /// # Errors
    ///
    /// The reason why the request has no session.
    fn session(&self) -> Result<Self::Session, NoSession>;

    /// Returns the identity record of a session; `None` if it could not be fetched.
    fn identity<'s>(&'s self, session: &'s Self::Session) -> Option<&'s Identity>;

    /// Returns the verdict of the allow and deny policies on a session.
    fn verdict(&self, session: &Self::Session) -> Verdict;
}

/// The state of a credential in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presented {
    /// The request has none.
    Absent,
    /// It is valid.
    Valid,
    /// It is invalid.
    Rejected(Reason),
    /// It could not be verified.
    Unknown(Reason),
}

/// The result of the steps: the first that decides.
#[derive(Debug)]
pub(super) enum Conclusion<S> {
    /// A bypass or Service Auth policy forwards the request.
    Early(Verdict),
    /// The application's CORS settings answer.
    Preflight,
    /// An allow policy forwards the request.
    Allow(S, Verdict),
    /// The request is denied.
    Deny(NotForwarded<S>),
    /// A login may change the decision.
    LogIn {
        /// The reason why there is no session.
        reason: Reason,
        /// The shadow policy that would have decided.
        shadow: Option<ShadowVerdict>,
    },
    /// The request cannot be decided now.
    Unavailable(NotForwarded<S>),
    /// Something must be fetched first.
    Resolve(Need),
}

/// A request that is not forwarded, with the facts for the log.
#[derive(Debug)]
pub(super) struct NotForwarded<S> {
    /// The reason.
    pub(super) reason: Reason,
    /// The session of the request; `None` if the decision did not depend on one.
    pub(super) session: Option<S>,
    /// The policy that decided.
    pub(super) policy: Option<PolicyIndex>,
    /// The shadow policy that would have decided.
    pub(super) shadow: Option<ShadowVerdict>,
}

impl<S> NotForwarded<S> {
    const fn new(reason: Reason, shadow: Option<ShadowVerdict>) -> Self {
        Self {
            reason,
            session: None,
            policy: None,
            shadow,
        }
    }
}

/// Takes the steps of a decision, up to the one that decides.
pub(super) fn steps<E: Evidence>(
    application: &Application,
    evidence: &E,
) -> Conclusion<E::Session> {
    let early = evidence.early_verdict();
    let (shadow, service_token) = (early.shadow, evidence.service_token());
    let is_rejected = matches!(service_token, Presented::Rejected(_));
    match early.verdict {
        // A rejected service token fails the request even if the policy requires none.
        Some(verdict) if verdict.decision == PolicyDecision::ServiceAuth && is_rejected => {}
        Some(verdict) => return Conclusion::Early(verdict),
        None => {}
    }
    // Browsers send preflights without cookies, so a login would break every cross-origin request.
    if evidence.is_preflight() {
        return Conclusion::Preflight;
    }
    // Before any session: the sender is a service client, and must learn that its token is
    // rejected (`docs/wire.md` 8).
    match service_token {
        Presented::Absent => {}
        // The token is genuine, but no policy admits it. A service client cannot use a login page.
        Presented::Valid => {
            return Conclusion::Deny(NotForwarded::new(Reason::NoPolicyApplied, shadow));
        }
        Presented::Rejected(reason) | Presented::Unknown(reason) => {
            return Conclusion::Deny(NotForwarded::new(reason, shadow));
        }
    }
    let session = match evidence.session() {
        Ok(session) => session,
        Err(NoSession::Need(need)) => return Conclusion::Resolve(need),
        Err(NoSession::Unavailable(reason)) => {
            return Conclusion::Unavailable(NotForwarded::new(reason, shadow));
        }
        Err(NoSession::Rejected(reason)) => {
            return without_session(application, evidence, reason, shadow);
        }
    };
    let evaluate = || early.or_else(|| evidence.verdict(&session));
    match judge(application, evidence.identity(&session), evaluate) {
        SessionVerdict::Allow(verdict) => Conclusion::Allow(session, verdict),
        // A login through a provider that the application accepts may still be allowed.
        SessionVerdict::OtherProvider => {
            without_session(application, evidence, Reason::SessionInvalid, shadow)
        }
        SessionVerdict::UnknownProvider => Conclusion::Unavailable(NotForwarded {
            session: Some(session),
            ..NotForwarded::new(Reason::IdentityUnavailable, shadow)
        }),
        SessionVerdict::UnknownIdentity(verdict) => Conclusion::Unavailable(NotForwarded {
            reason: Reason::IdentityUnavailable,
            session: Some(session),
            policy: verdict.policy,
            shadow: verdict.shadow,
        }),
        SessionVerdict::Deny(verdict) => Conclusion::Deny(NotForwarded {
            reason: Reason::of_denial(&verdict),
            session: Some(session),
            policy: verdict.policy,
            shadow: verdict.shadow,
        }),
    }
}

/// Decides a request that no early policy forwards and that has no session.
fn without_session<E: Evidence>(
    application: &Application,
    evidence: &E,
    reason: Reason,
    shadow: Option<ShadowVerdict>,
) -> Conclusion<E::Session> {
    match evidence.linked_app() {
        Presented::Unknown(reason) => Conclusion::Unavailable(NotForwarded::new(reason, shadow)),
        // A login would not help: the client is known, and no policy admits it.
        Presented::Valid => Conclusion::Deny(NotForwarded::new(Reason::NoPolicyApplied, shadow)),
        _ if application.required.only_service_clients => {
            Conclusion::Deny(NotForwarded::new(Reason::ServiceAuthRequired, shadow))
        }
        Presented::Absent | Presented::Rejected(_) => Conclusion::LogIn { reason, shadow },
    }
}

/// The result of an application's terms for a session.
#[derive(Debug)]
pub(super) enum SessionVerdict {
    /// The policies allow the user.
    Allow(Verdict),
    /// The application does not accept the identity provider of the session.
    OtherProvider,
    /// The identity provider of the session is unknown.
    UnknownProvider,
    /// The verdict depends on an identity record that could not be fetched.
    UnknownIdentity(Verdict),
    /// The policies deny the user.
    Deny(Verdict),
}

/// Applies an application's terms to a session: the identity provider, then the policies.
///
/// A record that was fetched and leaves a fact open is denied, because fetching it again would not
/// help. Without a record there is no judgement of the user.
pub(super) fn judge(
    application: &Application,
    identity: Option<&Identity>,
    verdict: impl FnOnce() -> Verdict,
) -> SessionVerdict {
    match application.admits(identity.map(|identity| &identity.idp.id)) {
        Truth::True => {}
        Truth::False => return SessionVerdict::OtherProvider,
        Truth::Unknown => return SessionVerdict::UnknownProvider,
    }
    match verdict() {
        verdict if verdict.decision == PolicyDecision::Allow => SessionVerdict::Allow(verdict),
        verdict if verdict.unknown && identity.is_none() => {
            SessionVerdict::UnknownIdentity(verdict)
        }
        verdict => SessionVerdict::Deny(verdict),
    }
}
