//! The order of the steps of a login.
//!
//! Decides, from the purpose of a login and the outcome of a step, which step or response is next.
//! Trusts the outcome. Never decides within a step, so no step knows another one.

use bytes::Bytes;
use http::{Response, StatusCode, header};

use super::outcome::{Authenticated, DeniedLogin, LoginOutcome, LoginStep, Retry};
use super::{arrival, error_pages, session, trial_report};
use crate::control::{Access, Login, LoginMode};
use crate::idp::{LoginFailure, ProviderIdentity};
use crate::login::{Destination, LoginPurpose, refresh_path};
use crate::model::{IdpId, Reason};
use crate::observe::metrics::Login as Counted;
use crate::pages::answer;

impl LoginStep<'_> {
    /// Performs the steps that follow an outcome, until one of them ends with a response. This is
    /// the one place that chooses the next step of a login.
    pub(super) async fn conclude(&self, outcome: LoginOutcome) -> Response<Bytes> {
        let (access, request, purpose) = (self.access, self.request, self.purpose);
        let mut next = outcome;
        let mut session_cookie = None;
        let mut response = loop {
            next = match (next, purpose) {
                (LoginOutcome::ToProvider(message), _) => {
                    break message.respond(access.flows.seal(), request);
                }
                (LoginOutcome::Authenticated(user), LoginPurpose::ProviderTrial) => {
                    break self.trial_succeeded(&user.profile);
                }
                (LoginOutcome::Authenticated(user), LoginPurpose::Application(_)) => {
                    self.open_session(*user, LoginMode::Start).await
                }
                (LoginOutcome::Authenticated(user), LoginPurpose::IdentityRefresh) => {
                    self.open_session(*user, LoginMode::Refresh).await
                }
                (LoginOutcome::SignedIn(signed_in), LoginPurpose::Application(destination)) => {
                    // The session exists even if the application denies the user, so the cookie is
                    // set on the denial page too.
                    session_cookie.clone_from(&signed_in.cookie);
                    arrival::arrive(self, destination, &signed_in).await
                }
                (LoginOutcome::SignedIn(signed_in), LoginPurpose::IdentityRefresh) => {
                    session_cookie = signed_in.cookie;
                    break self.identity_refreshed(&signed_in.login);
                }
                (LoginOutcome::ToApplication(url), _) => {
                    break answer::redirect(StatusCode::FOUND, &url);
                }
                (LoginOutcome::Denied(denial), LoginPurpose::Application(destination)) => {
                    break self.denied(destination, &denial);
                }
                (LoginOutcome::Restart, LoginPurpose::Application(destination)) => {
                    break self.restarted(destination);
                }
                (LoginOutcome::Failed { idp, failure }, _) => break self.failed(&idp, &failure),
                (LoginOutcome::Expired, _) => break self.expired(),
                (LoginOutcome::CookieLost { flow }, _) => break self.cookie_lost(&flow),
                (LoginOutcome::SessionEnded, _) => break self.session_ended(),
                (LoginOutcome::Unavailable { idp, retry }, _) => {
                    break self.unavailable(idp.as_ref(), retry);
                }
                (LoginOutcome::NotNavigation, _) => break answer::empty(StatusCode::FORBIDDEN),
                // A trial opens no session, and only a login to an application is denied or
                // restarted.
                (LoginOutcome::Internal, _)
                | (LoginOutcome::SignedIn(_), LoginPurpose::ProviderTrial)
                | (
                    LoginOutcome::Denied(_) | LoginOutcome::Restart,
                    LoginPurpose::IdentityRefresh | LoginPurpose::ProviderTrial,
                ) => break error_pages::internal(request),
            };
        };
        if let Some(cookie) = session_cookie {
            response.headers_mut().append(header::SET_COOKIE, cookie);
        }
        response
    }

    async fn open_session(&self, user: Authenticated, mode: LoginMode) -> LoginOutcome {
        let Access {
            logins, sessions, ..
        } = self.access;
        session::open(logins, sessions, user, mode, self.request).await
    }

    fn trial_succeeded(&self, profile: &ProviderIdentity) -> Response<Bytes> {
        self.access.audit.provider_tested(profile, self.request);
        let services = self.access.running.services();
        trial_report::works(&services, self.snapshot, profile, self.request)
    }

    fn restart_url(&self) -> Option<String> {
        self.purpose
            .restart_url(&self.access.running.services().team_url)
    }

    fn identity_refreshed(&self, login: &Login) -> Response<Bytes> {
        self.access
            .audit
            .identity_refreshed(&login.identity, self.request);
        let team_url = &self.access.running.services().team_url;
        let url = format!("{team_url}{}?success=true", refresh_path());
        answer::redirect(StatusCode::FOUND, &url)
    }

    fn denied(&self, destination: &Destination, denial: &DeniedLogin) -> Response<Bytes> {
        let (access, request) = (self.access, self.request);
        let DeniedLogin {
            identity,
            verdict,
            via,
        } = denial;
        let application = &destination.application;
        access
            .audit
            .denied_at_login(verdict, application, identity, *via, request);
        let login = destination.login_url(&access.running.services().team_url);
        let reason = Reason::of_denial(verdict);
        error_pages::denied(request, application, identity, &login, reason)
    }

    fn restarted(&self, destination: &Destination) -> Response<Bytes> {
        let login = destination.login_url(&self.access.running.services().team_url);
        // The new login is marked, so that this happens once.
        answer::redirect(StatusCode::FOUND, &format!("{login}&second=1"))
    }

    fn failed(&self, idp: &IdpId, failure: &LoginFailure) -> Response<Bytes> {
        let (access, request) = (self.access, self.request);
        if matches!(self.purpose, LoginPurpose::ProviderTrial) {
            access.audit.provider_test_failed(failure, idp, request);
            return trial_report::failed(&access.running.services(), failure, idp, request);
        }
        let application = self.purpose.application();
        access
            .audit
            .login_failed(failure, Some(idp), application, request);
        let restart = self.restart_url();
        let switch_account = application
            .and(restart.as_ref())
            .map(|restart| format!("{restart}&switch=1"));
        let links = error_pages::FailureLinks {
            restart: restart.as_deref(),
            switch_account: switch_account.as_deref(),
        };
        error_pages::login_failed(request, failure, links)
    }

    fn expired(&self) -> Response<Bytes> {
        let (request, application) = (self.request, self.purpose.application());
        self.access
            .audit
            .login_refused("login_expired", Counted::Invalid, application, request);
        error_pages::login_expired(request, self.restart_url().as_deref())
    }

    fn cookie_lost(&self, flow: &str) -> Response<Bytes> {
        let (request, application) = (self.request, self.purpose.application());
        self.access.audit.login_refused(
            "flow_cookie_missing",
            Counted::Invalid,
            application,
            request,
        );
        error_pages::flow_cookie_missing(request, flow, self.restart_url().as_deref())
    }

    fn session_ended(&self) -> Response<Bytes> {
        self.access
            .audit
            .login_refused("no_session", Counted::Invalid, None, self.request);
        error_pages::not_signed_in(self.request)
    }

    fn unavailable(&self, idp: Option<&IdpId>, retry: Retry) -> Response<Bytes> {
        let (request, application) = (self.request, self.purpose.application());
        if !matches!(self.purpose, LoginPurpose::ProviderTrial) {
            self.access
                .audit
                .login_unavailable(idp, application, request);
        }
        match retry {
            Retry::Request => error_pages::unavailable(request),
            Retry::Login => error_pages::unavailable_with(request, self.restart_url().as_deref()),
        }
    }
}
