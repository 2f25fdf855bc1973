//! What the login side writes down: audit events and counts, in one place so that the steps stay readable.

use super::Access;
use crate::engine::Application;
use crate::idp::{Blame, LoginFailure};
use crate::model::{Email, Identity, IdpId, Reason, UserId};
use crate::observe::audit::{Event, Kind, Outcome};
use crate::observe::metrics::{Login, metrics};
use crate::policy::Verdict;
use crate::portal::PortalRequest;
use crate::store::StoreError;

fn event<'a>(kind: Kind, outcome: Outcome, request: &'a PortalRequest) -> Event<'a> {
    Event {
        client: Some(request.client),
        method: Some(request.method.as_str()),
        host: Some(&request.host),
        path: Some(&request.path),
        user_agent: request.headers.get(http::header::USER_AGENT).map(http::HeaderValue::as_bytes),
        ..Event::new(kind, outcome, request.id)
    }
}

impl Access {
    pub(super) fn logged_in(&self, identity: &Identity, request: &PortalRequest) {
        metrics().login(Login::Success, None);
        let who = Event {
            email: Some(&identity.email),
            user: Some(&identity.user),
            idp: Some(&identity.idp.id),
            ..event(Kind::Login, Outcome::Allowed, request)
        };
        who.emit();
    }

    /// A login that the provider or its answers ended. The operator gets the whole chain under the request id of the page.
    pub(crate) fn login_failed(
        &self,
        failure: &LoginFailure,
        idp: Option<&IdpId>,
        application: Option<&Application>,
        request: &PortalRequest,
    ) {
        let (outcome, counted) = match failure.blame() {
            Blame::Provider => (Outcome::Unavailable, Login::Unavailable),
            Blame::Person => (Outcome::Refused, Login::Refused),
            Blame::Browser => (Outcome::Refused, Login::Invalid),
        };
        metrics().login(counted, Some(failure.id()));
        let failed = Event {
            reason: Some(failure.id()),
            idp,
            application: application.map(|a| a.settings().name.as_str()),
            ..event(Kind::Login, outcome, request)
        };
        failed.emit();
        let mut chain = failure.to_string();
        let mut source = std::error::Error::source(failure);
        while let Some(cause) = source {
            chain = format!("{chain}: {cause}");
            source = cause.source();
        }
        let idp = idp.map(|idp| &*idp.0);
        tracing::warn!(request_id = %request.id, reason = failure.id(), idp, error = chain, "a login failed");
    }

    /// A login that never got to a provider, or came back from one with something that was not sent there.
    pub(crate) fn login_refused(&self, reason: &'static str, counted: Login, request: &PortalRequest) {
        metrics().login(counted, Some(reason));
        Event { reason: Some(reason), ..event(Kind::Login, Outcome::Refused, request) }.emit();
    }

    /// Somebody is known and the policies do not let them in.
    pub(crate) fn judged_at_login(
        &self,
        verdict: &Verdict,
        application: &Application,
        identity: &Identity,
        request: &PortalRequest,
    ) {
        let reason = Reason::of_denial(verdict);
        let denied = Event {
            reason: Some(reason.id()),
            application: Some(&application.settings().name),
            aud: Some(application.aud().as_str()),
            email: Some(&identity.email),
            user: Some(&identity.user),
            idp: Some(&identity.idp.id),
            policy: verdict.policy.and_then(|place| application.policy(place)).map(|(name, _)| name),
            ..event(Kind::Access, Outcome::Refused, request)
        };
        denied.emit();
    }

    pub(crate) fn logged_out(&self, email: Option<&Email>, user: &UserId, request: &PortalRequest) {
        Event { email, user: Some(user), ..event(Kind::Logout, Outcome::Allowed, request) }.emit();
    }

    pub(super) fn store_failed(&self, error: &StoreError) {
        metrics().store_error(error);
        tracing::error!(error = %super::chain(error), "the store did not answer");
    }
}
