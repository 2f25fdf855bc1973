use std::sync::Arc;

use http::HeaderValue;

use super::node_cache::Assertion;
use super::steps::Denial;
use super::{Application, Challenge, ServiceClient};
use crate::model::{Aud, Email, IdentityNonce, Reason, Secret, UnixTime, UserId};
use crate::policy::{PolicyDecision, PolicyIndex, ShadowVerdict, Verdict};
use crate::route::{Endpoint, HostRole};
use crate::session::Session;

/// The decision on a request.
#[derive(Debug)]
pub enum Decision {
    /// Forward it to the origin.
    Forward(Permit),
    /// Ask for a login, then try again.
    LogIn(Challenge),
    /// Deny it.
    Deny(Refusal),
    /// Refuse it: no application could answer it.
    Refuse(Reason),
    /// It cannot be decided now. Never a permit.
    Unavailable(Refusal),
    /// A preflight that the application's CORS settings answer.
    Preflight(Arc<Application>),
    /// One of our own endpoints: on the team domain, or on an application's host.
    Handle {
        /// The endpoint.
        endpoint: Endpoint,
        /// The kind of host that the request was sent to.
        host_role: HostRole,
    },
    /// Fetch something that this node does not have, then decide again, once for each need.
    Resolve(Need),
}

/// Permission to forward one request, with the identity to forward. Only the engine makes one.
#[derive(Debug)]
pub struct Permit {
    application: Arc<Application>,
    session: Option<Arc<Session>>,
    service_client: Option<ServiceClient>,
    /// The signed token that names the service client to the origin.
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

    /// Adds the service client.
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

    /// Marks `Authorization` as a credential of ours, which the origin must not receive.
    pub(super) fn taking_authorization(self, takes_authorization: bool) -> Self {
        Self {
            takes_authorization,
            ..self
        }
    }

    /// Returns a copy for the audit log of the same request. Permits are not `Clone`: each is for
    /// one request.
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

    /// Returns the application.
    pub const fn application(&self) -> &Arc<Application> {
        &self.application
    }

    /// Returns the user's session; `None` for bypassed requests and for service clients.
    pub const fn session(&self) -> Option<&Arc<Session>> {
        self.session.as_ref()
    }

    /// Returns the service client, if a Service Auth policy admitted an identified one.
    pub const fn service_client(&self) -> Option<&ServiceClient> {
        self.service_client.as_ref()
    }

    /// Returns `true` if a session or a Service Auth policy admitted the request, `false` if it was
    /// bypassed.
    pub fn is_authenticated(&self) -> bool {
        self.session.is_some()
            || self
                .verdict
                .is_some_and(|verdict| verdict.decision == PolicyDecision::ServiceAuth)
    }

    /// Returns the signed token that names the user or service client to this application's origin.
    pub fn assertion(&self) -> Option<&HeaderValue> {
        let session = self.session.as_ref().map(|session| session.assertion());
        session.or_else(|| self.assertion.as_ref().map(|assertion| &assertion.token))
    }

    /// Returns `true` if `Authorization` is a credential of another application, which must not
    /// reach this one's origin.
    pub const fn takes_authorization(&self) -> bool {
        self.takes_authorization
    }

    /// Returns the email address of the user, if there is one.
    pub fn email(&self) -> Option<&Email> {
        user_session(self.session.as_ref(), self.service_client.as_ref())
            .and_then(|session| session.email())
    }

    /// Returns the user, if there is one.
    pub fn user(&self) -> Option<&UserId> {
        user_session(self.session.as_ref(), self.service_client.as_ref())
            .map(|session| session.user())
    }

    /// Returns the name of the policy that admitted the request.
    pub fn policy(&self) -> Option<&str> {
        self.verdict?
            .policy
            .and_then(|index| self.application.policy(index))
            .map(|(name, _)| name)
    }

    /// The shadow policy that would have decided.
    pub fn shadow(&self) -> Option<(&str, PolicyDecision)> {
        let ShadowVerdict { policy, decision } = self.verdict?.shadow?;
        self.application
            .policy(policy)
            .map(|(name, _)| (name, decision))
    }
}

/// A request that is denied or cannot be decided, for the page, the log and the metric.
#[derive(Debug)]
pub struct Refusal {
    /// The reason.
    pub reason: Reason,
    /// The application of the request, if known.
    pub application: Option<Arc<Application>>,
    /// The user's session, if known.
    pub session: Option<Arc<Session>>,
    /// The service client. For a rejected credential: its owner, for the log only.
    pub service_client: Option<ServiceClient>,
    /// The policy that decided.
    pub policy: Option<PolicyIndex>,
    /// The shadow policy that would have decided.
    pub shadow: Option<ShadowVerdict>,
}

impl Refusal {
    /// Returns a refusal that no policy decided.
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

    /// Returns the name of the shadow policy that would have decided, and its decision.
    pub fn shadow(&self) -> Option<(&str, PolicyDecision)> {
        let ShadowVerdict { policy, decision } = self.shadow?;
        self.application
            .as_ref()?
            .policy(policy)
            .map(|(name, _)| (name, decision))
    }

    /// Returns the user's session, at this application or at the linked one.
    fn user_session(&self) -> Option<&Arc<Session>> {
        user_session(self.session.as_ref(), self.service_client.as_ref())
    }

    /// Returns the email address of the user, if there is one.
    pub fn email(&self) -> Option<&Email> {
        self.user_session().and_then(|session| session.email())
    }

    /// Returns the user, if there is one.
    pub fn user(&self) -> Option<&UserId> {
        self.user_session().map(|session| session.user())
    }
}

/// Something that must be fetched before a request can be decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Need {
    /// The keys of the team: never fetched, or a token names one that is not among them.
    Keys,
    /// The identity record of a token. The token comes along, because a remote team requires it.
    Identity {
        /// The record's key.
        nonce: IdentityNonce,
        /// Time of issue of the token, in Unix seconds.
        issued: UnixTime,
        /// The token, in clear.
        token: Secret,
    },
    /// The token that names a service client to an application's origin (`docs/wire.md` 5.3).
    /// Signing is slow, so many requests share one.
    Assertion {
        /// The audience tag of the application.
        aud: Aud,
        /// The name of the service client.
        common_name: Box<str>,
        /// The latest time at which it must expire.
        expires: UnixTime,
    },
}

fn user_session<'a>(
    session: Option<&'a Arc<Session>>,
    service_client: Option<&'a ServiceClient>,
) -> Option<&'a Arc<Session>> {
    session.or(match service_client {
        Some(ServiceClient::LinkedApp { session, .. }) => Some(session),
        Some(ServiceClient::ServiceToken(_) | ServiceClient::Certificate(_)) | None => None,
    })
}
