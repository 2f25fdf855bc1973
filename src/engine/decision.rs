use std::sync::Arc;

use http::HeaderValue;

use super::node_cache::Assertion;
use super::steps::Denial;
use super::{Application, Challenge, ServiceClient};
use crate::model::{Aud, Email, IdentityNonce, Reason, Secret, UnixTime, UserId};
use crate::policy::{Outcome, PolicyIndex, ShadowVerdict, Verdict};
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
    /// Something that this node has not seen yet. Learn it, then call again, once for each need.
    Resolve(Need),
}

/// Leave to forward one request, and the identity to forward it with. Only the engine makes one.
#[derive(Debug)]
pub struct Permit {
    application: Arc<Application>,
    session: Option<Arc<Session>>,
    service_client: Option<ServiceClient>,
    /// What says who the program is, signed.
    assertion: Option<Arc<Assertion>>,
    takes_authorization: bool,
    verdict: Option<Verdict>,
}

impl Permit {
    pub(super) const fn new(
        application: Arc<Application>,
        session: Option<Arc<Session>>,
        verdict: Option<Verdict>,
    ) -> Self {
        let (service_client, assertion, takes_authorization) = (None, None, false);
        Self {
            application,
            session,
            service_client,
            assertion,
            takes_authorization,
            verdict,
        }
    }

    /// For whoever came without a login.
    pub(super) fn with_service_client(
        self,
        service_client: Option<ServiceClient>,
        assertion: Option<Arc<Assertion>>,
    ) -> Self {
        Self {
            service_client,
            assertion,
            ..self
        }
    }

    /// Says that `Authorization` was meant for us.
    pub(super) fn taking_authorization(self, takes_authorization: bool) -> Self {
        Self {
            takes_authorization,
            ..self
        }
    }

    /// A copy for the log of what becomes of the same request. Permits cannot be cloned: each is
    /// for one request.
    #[cfg(feature = "pingora")]
    pub(crate) fn for_the_log(&self) -> Self {
        Self {
            application: Arc::clone(&self.application),
            session: self.session.clone(),
            service_client: self.service_client.clone(),
            assertion: None,
            takes_authorization: self.takes_authorization,
            verdict: self.verdict,
        }
    }

    /// Where it goes.
    pub const fn application(&self) -> &Arc<Application> {
        &self.application
    }

    /// As whom; nobody for bypassed requests, and for programs.
    pub const fn session(&self) -> Option<&Arc<Session>> {
        self.session.as_ref()
    }

    /// As which program, where a Service Auth policy let it through and it said which it is.
    pub const fn service_client(&self) -> Option<&ServiceClient> {
        self.service_client.as_ref()
    }

    /// Whether somebody was recognised: a person or a program, or a place that needs no more.
    /// Nobody is on bypassed requests.
    pub fn is_authenticated(&self) -> bool {
        self.session.is_some()
            || self
                .verdict
                .is_some_and(|verdict| verdict.outcome == Outcome::ServiceAuth)
    }

    /// What tells the origin who it is, signed for this application alone.
    pub fn assertion(&self) -> Option<&HeaderValue> {
        let session = self.session.as_ref().map(|session| session.assertion());
        session.or_else(|| self.assertion.as_ref().map(|assertion| &assertion.token))
    }

    /// Whether `Authorization` is a credential of another application and must not reach this one's
    /// origin.
    pub const fn takes_authorization(&self) -> bool {
        self.takes_authorization
    }

    /// The address of the person behind it, where there is one.
    pub fn email(&self) -> Option<&Email> {
        whose(self.session.as_ref(), self.service_client.as_ref())
            .and_then(|session| session.email())
    }

    /// The person behind it, where there is one.
    pub fn user(&self) -> Option<&UserId> {
        whose(self.session.as_ref(), self.service_client.as_ref()).map(|session| session.user())
    }

    /// The name of the policy that let it through.
    pub fn policy(&self) -> Option<&str> {
        self.verdict?
            .policy
            .and_then(|index| self.application.policy(index))
            .map(|(name, _)| name)
    }

    /// The shadow policy that would have decided, and how.
    pub fn shadow(&self) -> Option<(&str, Outcome)> {
        let ShadowVerdict { policy, outcome } = self.verdict?.shadow?;
        self.application
            .policy(policy)
            .map(|(name, _)| (name, outcome))
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
    /// Or which program it is. Where the reason is that its credential is no good, whose that is:
    /// for the log alone.
    pub service_client: Option<ServiceClient>,
    /// The policy that decided.
    pub policy: Option<PolicyIndex>,
    /// The shadow policy that would have decided, and how.
    pub shadow: Option<ShadowVerdict>,
}

impl Refusal {
    /// One that no policy decided.
    pub(super) fn new(reason: Reason, application: &Arc<Application>) -> Self {
        let application = Some(Arc::clone(application));
        Self {
            reason,
            application,
            session: None,
            service_client: None,
            policy: None,
            shadow: None,
        }
    }

    pub(super) fn from_denial(
        application: &Arc<Application>,
        denial: Denial<Arc<Session>>,
    ) -> Self {
        Self {
            session: denial.session,
            policy: denial.policy,
            shadow: denial.shadow,
            ..Self::new(denial.reason, application)
        }
    }

    /// The name of the shadow policy that would have decided, and how.
    pub fn shadow(&self) -> Option<(&str, Outcome)> {
        let ShadowVerdict { policy, outcome } = self.shadow?;
        self.application
            .as_ref()?
            .policy(policy)
            .map(|(name, _)| (name, outcome))
    }

    /// Whose session it is: at this application, or at another whose token was shown.
    fn whose(&self) -> Option<&Arc<Session>> {
        whose(self.session.as_ref(), self.service_client.as_ref())
    }

    /// The address of the person, where there is one.
    pub fn email(&self) -> Option<&Email> {
        self.whose().and_then(|session| session.email())
    }

    /// The person, where there is one.
    pub fn user(&self) -> Option<&UserId> {
        self.whose().map(|session| session.user())
    }
}

/// What this node has to learn before it can decide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Need {
    /// The keys of the team: never fetched, or a token names one that is not among them.
    Keys,
    /// The identity record behind a token. It comes with the token, which a remote team wants to
    /// see.
    Identity {
        /// The record's key.
        nonce: IdentityNonce,
        /// When the token was issued.
        issued: UnixTime,
        /// The token, in clear.
        token: Secret,
    },
    /// The token that names a service client to an application's origin (`docs/wire.md` 5.3).
    /// Signing is slow, so many requests share one.
    Assertion {
        /// For which application.
        aud: Aud,
        /// Which program.
        common_name: Box<str>,
        /// When it is to be good no longer, at the latest.
        expires: UnixTime,
    },
}

fn whose<'a>(
    session: Option<&'a Arc<Session>>,
    service_client: Option<&'a ServiceClient>,
) -> Option<&'a Arc<Session>> {
    session.or(match service_client {
        Some(ServiceClient::LinkedApp { session, .. }) => Some(session),
        Some(ServiceClient::ServiceToken(_) | ServiceClient::Certificate(_)) | None => None,
    })
}
