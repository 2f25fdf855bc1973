use std::sync::Arc;

use super::{Application, Challenge};
use crate::model::{Email, IdentityNonce, Reason, UnixTime};
use crate::policy::{Outcome, Verdict};
use crate::route::Endpoint;
use crate::session::Session;

/// What should happen to a request.
#[derive(Debug)]
pub enum Decision {
    /// It may go to the origin.
    Forward(Permit),
    /// It may be tried again after a login.
    LogIn(Challenge),
    /// It may not.
    Deny(Refusal),
    /// It is not a request that anybody could answer: the reason says why.
    Refuse(Reason),
    /// It could not be decided. Never a permit.
    Unavailable(Refusal),
    /// A preflight that the application's CORS settings answer.
    Preflight(Arc<Application>),
    /// One of our own endpoints: on the team domain, or on an application's host.
    Handle {
        /// Which.
        endpoint: Endpoint,
        /// Whether on the team domain.
        on_team: bool,
    },
    /// Something that this node has not seen yet. Learn it, then ask again, once for each kind.
    Resolve(Need),
}

/// Leave to forward one request, and the identity to forward it with. Only the engine makes one.
#[derive(Debug)]
pub struct Permit {
    application: Arc<Application>,
    session: Option<Arc<Session>>,
    verdict: Option<Verdict>,
}

impl Permit {
    pub(super) const fn new(
        application: Arc<Application>,
        session: Option<Arc<Session>>,
        verdict: Option<Verdict>,
    ) -> Self {
        Self { application, session, verdict }
    }

    /// Where it goes.
    pub const fn application(&self) -> &Arc<Application> {
        &self.application
    }

    /// As whom; nobody for bypassed requests.
    pub const fn session(&self) -> Option<&Arc<Session>> {
        self.session.as_ref()
    }

    /// The name of the policy that let it through.
    pub fn policy(&self) -> Option<&str> {
        self.verdict?.policy.and_then(|place| self.application.policy(place)).map(|(name, _)| name)
    }

    /// The shadow policy that would have decided, and how.
    pub fn shadow(&self) -> Option<(&str, Outcome)> {
        let (place, outcome) = self.verdict?.shadow?;
        self.application.policy(place).map(|(name, _)| (name, outcome))
    }
}

/// Why somebody may not, for the page, the log and the metric.
#[derive(Debug)]
pub struct Refusal {
    /// Why.
    pub reason: Reason,
    /// What they wanted, where that is known.
    pub application: Option<Arc<Application>>,
    /// Who they are, where that is known.
    pub session: Option<Arc<Session>>,
    /// The policy that decided.
    pub policy: Option<usize>,
    /// The shadow policy that would have decided, and how.
    pub shadow: Option<(usize, Outcome)>,
}

impl Refusal {
    pub(super) fn from_verdict(application: Arc<Application>, session: Arc<Session>, verdict: Verdict) -> Self {
        debug_assert_eq!(verdict.outcome, Outcome::Deny);
        let reason = match verdict {
            Verdict { unknown: true, .. } if session.identity().is_none() => Reason::IdentityUnavailable,
            verdict => Reason::of_denial(&verdict),
        };
        Self {
            reason,
            application: Some(application),
            session: Some(session),
            policy: verdict.policy,
            shadow: verdict.shadow,
        }
    }

    /// The name of the shadow policy that would have decided, and how.
    pub fn shadow(&self) -> Option<(&str, Outcome)> {
        let (place, outcome) = self.shadow?;
        self.application.as_ref()?.policy(place).map(|(name, _)| (name, outcome))
    }

    /// The address of the person, where there is one.
    pub fn email(&self) -> Option<&Email> {
        self.session.as_ref().and_then(|session| session.email())
    }
}

/// What this node has to learn before it can decide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Need {
    /// The keys of the team: never fetched, or a token names one that is not among them.
    Keys,
    /// The identity record behind a token. It comes with the token, which a remote team wants to see.
    Identity {
        /// The record's key.
        nonce: IdentityNonce,
        /// When the token was issued.
        issued: UnixTime,
        /// The token, in clear.
        token: crate::model::Secret,
    },
}
