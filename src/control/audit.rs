//! What the login side writes down: audit events and counts, in one place so that the steps stay
//! readable.

use std::sync::Arc;

use super::running::Running;
use super::sessions::SignedIn;
use crate::engine::Application;
use crate::idp::{Blame, LoginFailure, Provider, ProviderIdentity};
use crate::login::PortalRequest;
use crate::model::{Email, Identity, IdpId, Reason, RequestId, UserId};
use crate::observe::audit::{Event, Kind, Outcome, Via};
use crate::observe::metrics::{Login, Logout, metrics};
use crate::policy::Verdict;

fn event<'a>(
    running: &Running,
    kind: Kind,
    outcome: Outcome,
    request: &'a PortalRequest,
) -> Event<'a> {
    Event {
        client: Some(request.client),
        country: running.load().country_of(Some(request.client)),
        method: Some(request.method.as_str()),
        host: Some(&request.host),
        path: Some(&request.path),
        user_agent: request
            .headers
            .get(http::header::USER_AGENT)
            .map(http::HeaderValue::as_bytes),
        ..Event::new(kind, outcome, request.id)
    }
}

fn of<'a>(application: Option<&'a Application>, event: Event<'a>) -> Event<'a> {
    Event {
        application: application.map(|a| a.settings().name.as_str()),
        aud: application.map(|a| a.aud().as_str()),
        ..event
    }
}

fn known<'a>(
    running: &Running,
    kind: Kind,
    outcome: Outcome,
    application: &'a Application,
    identity: &'a Identity,
    request: &'a PortalRequest,
) -> Event<'a> {
    let who = Event {
        email: Some(&identity.email),
        user: Some(&identity.user),
        idp: Some(&identity.idp.id),
        ..event(running, kind, outcome, request)
    };
    of(Some(application), who)
}

/// Logins that asked nobody are counted by themselves.
const fn silent(via: Via) -> Option<&'static str> {
    match via {
        Via::Provider => None,
        Via::Session => Some("session"),
    }
}

/// The shadow policy that would have decided at login. Where policies ask for a certificate it
/// shows on the application's host alone what they would have done, and is counted there.
fn counted_shadow<'a>(
    verdict: &Verdict,
    application: &'a Application,
) -> Option<(&'a str, &'static str)> {
    let (place, outcome) = verdict
        .shadow
        .filter(|_| !application.asks_for_certificates())?;
    let (name, _) = application.policy(place)?;
    metrics().shadow(&application.settings().name, name, outcome.as_str());
    Some((name, outcome.as_str()))
}

/// Audits and counts the steps of logins and logouts.
pub(crate) struct Audit {
    running: Arc<Running>,
}

impl Audit {
    pub(super) const fn new(running: Arc<Running>) -> Self {
        Self { running }
    }

    /// A login to an application ended with leave to go there.
    pub(crate) fn logged_in(
        &self,
        verdict: &Verdict,
        application: &Application,
        identity: &Identity,
        via: Via,
        request: &PortalRequest,
    ) {
        metrics().login(Login::Success, silent(via));
        let login = known(
            &self.running,
            Kind::Login,
            Outcome::Allowed,
            application,
            identity,
            request,
        );
        let shadow = counted_shadow(verdict, application);
        Event {
            via: Some(via),
            identity: self.told_by(via, identity),
            shadow,
            ..login
        }
        .emit();
    }

    /// A login that the provider or its answers ended. The operator gets the whole chain under the
    /// request id of the page.
    pub(crate) fn login_failed(
        &self,
        failure: &LoginFailure,
        idp: Option<&IdpId>,
        application: Option<&Application>,
        request: &PortalRequest,
    ) {
        let counted = match failure.blame() {
            Blame::Provider => Login::Unavailable,
            Blame::User => Login::Refused,
            Blame::Browser => Login::Invalid,
        };
        metrics().login(counted, Some(failure.id()));
        self.failed(Kind::Login, failure, idp, application, request);
    }

    /// A provider was tried out, and does not work.
    pub(crate) fn provider_test_failed(
        &self,
        failure: &LoginFailure,
        idp: &IdpId,
        request: &PortalRequest,
    ) {
        self.failed(Kind::IdpTest, failure, Some(idp), None, request);
    }

    fn failed(
        &self,
        kind: Kind,
        failure: &LoginFailure,
        idp: Option<&IdpId>,
        application: Option<&Application>,
        request: &PortalRequest,
    ) {
        let outcome = match failure.blame() {
            Blame::Provider => Outcome::Unavailable,
            Blame::User | Blame::Browser => Outcome::Refused,
        };
        let failed = Event {
            reason: Some(failure.id()),
            idp,
            ..event(&self.running, kind, outcome, request)
        };
        of(application, failed).emit();
        let chain = crate::model::chain(failure);
        let idp = idp.map(|idp| &*idp.0);
        // There is nothing to do about a user who cancels.
        if failure.may_be_cancelled() {
            let (reason, error) = (failure.id(), chain);
            tracing::info!(request_id = %request.id, reason, idp, error, "a login was cancelled, or refused without a reason");
            return;
        }
        let hint = failure.advice();
        tracing::warn!(request_id = %request.id, reason = failure.id(), idp, error = chain, hint, "a login failed");
    }

    /// A login that never got to a provider, or came back from one with something that was not sent
    /// there.
    pub(crate) fn login_refused(
        &self,
        reason: &'static str,
        counted: Login,
        application: Option<&Application>,
        request: &PortalRequest,
    ) {
        metrics().login(counted, Some(reason));
        of(
            application,
            Event {
                reason: Some(reason),
                ..event(&self.running, Kind::Login, Outcome::Refused, request)
            },
        )
        .emit();
    }

    /// Logs that the policies do not let a user in at the end of a login.
    pub(crate) fn denied_at_login(
        &self,
        verdict: &Verdict,
        application: &Application,
        identity: &Identity,
        via: Via,
        request: &PortalRequest,
    ) {
        let reason = Reason::of_denial(verdict).id();
        metrics().login(Login::Refused, Some(reason));
        let denied = Event {
            reason: Some(reason),
            policy: verdict
                .policy
                .and_then(|place| application.policy(place))
                .map(|(name, _)| name),
            shadow: counted_shadow(verdict, application),
            via: Some(via),
            identity: self.told_by(via, identity),
            ..known(
                &self.running,
                Kind::Login,
                Outcome::Refused,
                application,
                identity,
                request,
            )
        };
        if reason == Reason::IdentityIncomplete.id() && application.misses_groups(identity) {
            let services = self.running.services();
            let provider = services
                .providers
                .iter()
                .find(|provider| *provider.id() == identity.idp.id);
            let (idp, hint) = (&*identity.idp.id.0, provider.map(Provider::groups_advice));
            let error = "no groups are known of this person, and the policies ask for them";
            tracing::warn!(request_id = %request.id, reason, idp, error, hint, "a login could not be decided");
        }
        denied.emit();
    }

    /// Somebody had their provider asked anew who they are.
    pub(crate) fn identity_refreshed(&self, identity: &Identity, request: &PortalRequest) {
        metrics().login(Login::Success, Some("refresh"));
        let event = Event {
            email: Some(&identity.email),
            user: Some(&identity.user),
            idp: Some(&identity.idp.id),
            via: Some(Via::Provider),
            identity: self.told(identity),
            ..event(&self.running, Kind::Login, Outcome::Allowed, request)
        };
        event.emit();
    }

    /// Somebody tried a provider out, and it works.
    pub(crate) fn provider_tested(&self, profile: &ProviderIdentity, request: &PortalRequest) {
        let (email, idp) = (Some(&profile.email), Some(&profile.idp.id));
        Event {
            email,
            idp,
            ..event(&self.running, Kind::IdpTest, Outcome::Allowed, request)
        }
        .emit();
    }

    /// Groups and claims are those of the login. Other applications that the team's session opens
    /// would only repeat them.
    fn told_by<'a>(&self, via: Via, identity: &'a Identity) -> Option<&'a Identity> {
        self.told(identity).filter(|_| via == Via::Provider)
    }

    fn told<'a>(&self, identity: &'a Identity) -> Option<&'a Identity> {
        Some(identity).filter(|_| self.running.services().audit_identity)
    }

    pub(crate) fn logged_out(&self, email: Option<&Email>, user: &UserId, request: &PortalRequest) {
        metrics().logout(Logout::Success);
        Event {
            email,
            user: Some(user),
            ..event(&self.running, Kind::Logout, Outcome::Allowed, request)
        }
        .emit();
    }

    /// A login that ended because a store, ours or that of the team elsewhere, did not answer.
    pub(crate) fn login_unavailable(
        &self,
        idp: Option<&IdpId>,
        application: Option<&Application>,
        request: &PortalRequest,
    ) {
        let reason = if self.running.services().remote.is_some() {
            TEAM_UNAVAILABLE
        } else {
            STORE_UNAVAILABLE
        };
        metrics().login(Login::Unavailable, Some(reason));
        let failed = event(&self.running, Kind::Login, Outcome::Unavailable, request);
        of(
            application,
            Event {
                reason: Some(reason),
                idp,
                ..failed
            },
        )
        .emit();
    }

    /// A logout that ended nothing, or not everything, because the store did not answer.
    pub(crate) fn logout_unavailable(&self, session: Option<&SignedIn>, request: &PortalRequest) {
        metrics().logout(Logout::Unavailable);
        let failed = Event {
            reason: Some(STORE_UNAVAILABLE),
            email: session.and_then(|session| session.email.as_ref()),
            user: session.map(|session| &session.user),
            ..event(&self.running, Kind::Logout, Outcome::Unavailable, request)
        };
        failed.emit();
    }

    /// Logs a logout that may have ended too little: more tokens came than are verified.
    pub(crate) fn logout_incomplete(&self, request: &PortalRequest) {
        metrics().logout(Logout::Invalid);
        let reason = Some(Reason::SessionConflict.id());
        Event {
            reason,
            ..event(&self.running, Kind::Logout, Outcome::Refused, request)
        }
        .emit();
    }
}

/// The provider no longer has somebody, and so all their sessions ended.
pub(super) fn signed_out_by_provider(identity: &Identity, how: &'static str) {
    let event = Event {
        reason: Some(how),
        email: Some(&identity.email),
        user: Some(&identity.user),
        idp: Some(&identity.idp.id),
        ..Event::new(Kind::Logout, Outcome::Allowed, RequestId::random())
    };
    event.emit();
}

const STORE_UNAVAILABLE: &str = "store_unavailable";
const TEAM_UNAVAILABLE: &str = "team_unavailable";
