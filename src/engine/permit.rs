use std::sync::Arc;

use http::HeaderValue;

use super::node_cache::Assertion;
use super::service_client::user_session;
use super::{Application, ServiceClient};
use crate::model::{Email, UserId};
use crate::policy::{PolicyDecision, Verdict};
use crate::session::Session;

/// The recipient of the `Authorization` header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Authorization {
    /// The header is for the origin.
    Origin,
    /// It holds another application's token, which must not reach this one's origin.
    Ours,
}

/// Permission to forward one request, with the identity to forward. Only the engine makes one.
#[derive(Debug)]
pub struct Permit {
    application: Arc<Application>,
    session: Option<Arc<Session>>,
    service_client: Option<ServiceClient>,
    /// The signed token that names the service client to the origin.
    assertion: Option<Arc<Assertion>>,
    authorization: Authorization,
    verdict: Option<Verdict>,
}

impl Permit {
    pub(super) const fn new(
        application: Arc<Application>,
        session: Option<Arc<Session>>,
        verdict: Option<Verdict>,
    ) -> Self {
        Self {
            application,
            session,
            service_client: None,
            assertion: None,
            authorization: Authorization::Origin,
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

    /// Sets the recipient of `Authorization`.
    pub(super) fn with_authorization(self, authorization: Authorization) -> Self {
        Self {
            authorization,
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
            authorization: self.authorization,
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
        matches!(self.authorization, Authorization::Ours)
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

    /// Returns the name of the shadow policy that would have decided, and its decision.
    pub fn shadow(&self) -> Option<(&str, PolicyDecision)> {
        self.application.shadow(self.verdict?.shadow?)
    }
}
