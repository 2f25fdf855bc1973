//! Audit events and counters of logins and logouts.

use std::sync::Arc;

use super::IssuerSettings;
use super::browser_session::BrowserSession;
use super::running::Running;
use crate::engine::Application;
use crate::idp::{Blame, LoginFailure, Provider, ProviderIdentity};
use crate::login::PortalRequest;
use crate::model::{Email, Identity, IdpId, Reason, RequestId, UserId};
use crate::observe::audit::{Event, Kind, Outcome, Via};
use crate::observe::metrics::{Login, Logout, metrics};
use crate::policy::{ShadowVerdict, Verdict};

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

fn with_application<'a>(application: Option<&'a Application>, event: Event<'a>) -> Event<'a> {
    Event {
        application: application.map(|a| a.settings().name.as_str()),
        aud: application.map(|a| a.aud().as_str()),
        ..event
    }
}

fn user_event<'a>(
    running: &Running,
    kind: Kind,
    outcome: Outcome,
    application: &'a Application,
    identity: &'a Identity,
    request: &'a PortalRequest,
) -> Event<'a> {
    let user = Event {
        email: Some(&identity.email),
        user: Some(&identity.user),
        idp: Some(&identity.idp.id),
        ..event(running, kind, outcome, request)
    };
    with_application(Some(application), user)
}

/// Logins without a visit to the provider have a counter of their own.
const fn counted_without_provider(via: Via) -> Option<&'static str> {
    match via {
        Via::Provider => None,
        Via::Session => Some("session"),
    }
}

/// Counts and returns the shadow policy that would have decided this login. If policies require a
/// certificate, only the application's host knows its verdict, and counts it there.
fn counted_shadow<'a>(
    verdict: &Verdict,
    application: &'a Application,
) -> Option<(&'a str, &'static str)> {
    let ShadowVerdict { policy, outcome } = verdict
        .shadow
        .filter(|_| !application.asks_for_certificates())?;
    let (name, _) = application.policy(policy)?;
    metrics().shadow(&application.settings().name, name, outcome.as_str());
    Some((name, outcome.as_str()))
}

/// A login that an application's policies decided.
#[derive(Clone, Copy)]
pub(crate) struct DecidedLogin<'a> {
    pub(crate) application: &'a Application,
    pub(crate) identity: &'a Identity,
    pub(crate) verdict: &'a Verdict,
    pub(crate) via: Via,
}

/// Audits and counts the steps of logins and logouts.
pub(crate) struct Audit {
    running: Arc<Running>,
}

impl Audit {
    pub(super) const fn new(running: Arc<Running>) -> Self {
        Self { running }
    }

    /// Records a login that an application's policies allow.
    pub(crate) fn logged_in(&self, login: DecidedLogin<'_>, request: &PortalRequest) {
        let DecidedLogin {
            application,
            identity,
            verdict,
            via,
        } = login;
        metrics().login(Login::Success, counted_without_provider(via));
        let login = user_event(
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
            identity: self.audited_by(via, identity),
            shadow,
            ..login
        }
        .emit();
    }

    /// Records a login that failed at the provider or by its response. The operator finds the whole
    /// chain of errors under the request id of the page.
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

    /// Records a failed trial of a provider.
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
        with_application(application, failed).emit();
        let chain = crate::model::chain(failure);
        let idp = idp.map(|idp| &*idp.0);
        // The operator can do nothing about a user who cancels.
        if failure.may_be_cancelled() {
            let (reason, error) = (failure.id(), chain);
            tracing::info!(request_id = %request.id, reason, idp, error, "a login was cancelled, or rejected by the provider without a reason");
            return;
        }
        let hint = failure.advice();
        tracing::warn!(request_id = %request.id, reason = failure.id(), idp, error = chain, hint, "a login failed");
    }

    /// Records a login that did not reach a provider, or returned from one with an unknown flow.
    pub(crate) fn login_refused(
        &self,
        reason: &'static str,
        counted: Login,
        application: Option<&Application>,
        request: &PortalRequest,
    ) {
        metrics().login(counted, Some(reason));
        with_application(
            application,
            Event {
                reason: Some(reason),
                ..event(&self.running, Kind::Login, Outcome::Refused, request)
            },
        )
        .emit();
    }

    /// Records a login that an application's policies deny.
    pub(crate) fn denied_at_login(&self, login: DecidedLogin<'_>, request: &PortalRequest) {
        let DecidedLogin {
            application,
            identity,
            verdict,
            via,
        } = login;
        let reason = Reason::of_denial(verdict).id();
        metrics().login(Login::Refused, Some(reason));
        let denied = Event {
            reason: Some(reason),
            policy: verdict
                .policy
                .and_then(|index| application.policy(index))
                .map(|(name, _)| name),
            shadow: counted_shadow(verdict, application),
            via: Some(via),
            identity: self.audited_by(via, identity),
            ..user_event(
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
            let error = "the user's groups are unknown, and the policies depend on them";
            tracing::warn!(request_id = %request.id, reason, idp, error, hint, "a login could not be decided");
        }
        denied.emit();
    }

    /// Records a refresh of an identity.
    pub(crate) fn identity_refreshed(&self, identity: &Identity, request: &PortalRequest) {
        metrics().login(Login::Success, Some("refresh"));
        let event = Event {
            email: Some(&identity.email),
            user: Some(&identity.user),
            idp: Some(&identity.idp.id),
            via: Some(Via::Provider),
            identity: self.audited(identity),
            ..event(&self.running, Kind::Login, Outcome::Allowed, request)
        };
        event.emit();
    }

    /// Records a successful trial of a provider.
    pub(crate) fn provider_tested(&self, profile: &ProviderIdentity, request: &PortalRequest) {
        let (email, idp) = (Some(&profile.email), Some(&profile.idp.id));
        Event {
            email,
            idp,
            ..event(&self.running, Kind::IdpTest, Outcome::Allowed, request)
        }
        .emit();
    }

    /// Returns the identity for the event of a login at the provider. Other applications of the
    /// same session would repeat it.
    fn audited_by<'a>(&self, via: Via, identity: &'a Identity) -> Option<&'a Identity> {
        self.audited(identity).filter(|_| via == Via::Provider)
    }

    fn audited<'a>(&self, identity: &'a Identity) -> Option<&'a Identity> {
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

    /// Records a login that ended because our store, or a remote team, did not answer.
    pub(crate) fn login_unavailable(
        &self,
        idp: Option<&IdpId>,
        application: Option<&Application>,
        request: &PortalRequest,
    ) {
        let reason = if matches!(self.running.services().issuer, IssuerSettings::Remote(_)) {
            TEAM_UNAVAILABLE
        } else {
            STORE_UNAVAILABLE
        };
        metrics().login(Login::Unavailable, Some(reason));
        let failed = event(&self.running, Kind::Login, Outcome::Unavailable, request);
        with_application(
            application,
            Event {
                reason: Some(reason),
                idp,
                ..failed
            },
        )
        .emit();
    }

    /// Records a logout that failed, at least in part, because the store did not respond.
    pub(crate) fn logout_unavailable(
        &self,
        session: Option<&BrowserSession>,
        request: &PortalRequest,
    ) {
        metrics().logout(Logout::Unavailable);
        let failed = Event {
            reason: Some(STORE_UNAVAILABLE),
            email: session.and_then(|session| session.email.as_ref()),
            user: session.map(|session| &session.user),
            ..event(&self.running, Kind::Logout, Outcome::Unavailable, request)
        };
        failed.emit();
    }

    /// Records a logout that may have missed a session: the browser sent more tokens than are
    /// verified.
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

/// Records that a user was signed out because the provider reports the account as gone.
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
