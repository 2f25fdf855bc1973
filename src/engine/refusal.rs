use std::sync::Arc;

use super::service_client::user_session;
use super::steps::NotForwarded;
use super::{Application, ServiceClient};
use crate::model::{Email, Reason, UserId};
use crate::policy::{PolicyDecision, PolicyIndex, ShadowVerdict};
use crate::session::Session;

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

    pub(super) fn not_forwarded(
        application: &Arc<Application>,
        step: NotForwarded<Arc<Session>>,
    ) -> Self {
        Self {
            session: step.session,
            policy: step.policy,
            shadow: step.shadow,
            ..Self::new(step.reason, application)
        }
    }

    /// Returns the name of the shadow policy that would have decided, and its decision.
    pub fn shadow(&self) -> Option<(&str, PolicyDecision)> {
        self.application.as_ref()?.shadow(self.shadow?)
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
