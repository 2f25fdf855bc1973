//! The order of the steps of a login.
//!
//! Decides, from the purpose of a login and the outcome of a step, which step or response is next.
//! Trusts the outcome. Never decides within a step, so no step knows another one.

use std::ops::ControlFlow::{self, Break, Continue};

use bytes::Bytes;
use http::{HeaderMap, Method, Response, StatusCode, header};

use super::conflict_page::conflict_page;
use super::outcome::{
    Authentication, DeniedLogin, FailedLogin, LoginAttempt, LoginOutcome, LoginStep, NextAttempt,
    Retry, UnusableCause, UnusableFlow,
};
use super::{arrival, error_pages, login, oidc, session, trial_report};
use crate::control::{Authenticated, DecidedLogin, EndpointParts, Login, LoginMode};
use crate::cookie;
use crate::idp::ProviderIdentity;
use crate::login::{Conflict, Destination, FlowCookies, LoginOption, LoginPurpose, refresh_path};
use crate::model::{IdpId, Reason, chain};
use crate::observe::metrics::Login as Counted;
use crate::pages::answer;

/// The next step of a login has this outcome, or the login ends with this response.
type Next = ControlFlow<Response<Bytes>, LoginOutcome>;

impl LoginStep<'_> {
    /// Performs the steps that follow an outcome, until one of them ends with a response.
    pub(super) async fn conclude(&self, outcome: LoginOutcome) -> Response<Bytes> {
        let (mut next, mut cookies) = (outcome, HeaderMap::new());
        let mut response = loop {
            match self.advance(next, &mut cookies).await {
                Continue(outcome) => next = outcome,
                Break(response) => break response,
            }
        };
        for cookie in cookies.get_all(header::SET_COOKIE) {
            let headers = response.headers_mut();
            headers.append(header::SET_COOKIE, cookie.clone());
        }
        response
    }

    /// Performs the step that follows an outcome. This is the one place that chooses the next step
    /// of a login. `cookies` are set on the response with which the login ends.
    async fn advance(&self, outcome: LoginOutcome, cookies: &mut HeaderMap) -> Next {
        match (outcome, self.purpose) {
            (LoginOutcome::Unauthenticated(required), LoginPurpose::Application(destination)) => {
                Continue(login::choose_provider(self, destination, required).await)
            }
            (LoginOutcome::SessionConflict, LoginPurpose::Application(destination)) => {
                self.end_conflict(destination, cookies).await
            }
            (LoginOutcome::ChooseProvider, LoginPurpose::Application(destination)) => {
                Break(login::provider_list(self, destination))
            }
            (LoginOutcome::UnusableFlow(flow), LoginPurpose::Application(destination)) => {
                self.continue_without_flow(destination, &flow).await
            }
            (LoginOutcome::Authenticated(user), LoginPurpose::ProviderTrial) => {
                Break(self.trial_succeeded(&user.profile))
            }
            (LoginOutcome::Authenticated(user), LoginPurpose::Application(_)) => {
                Continue(self.open_session(*user, LoginMode::Start).await)
            }
            (LoginOutcome::Authenticated(user), LoginPurpose::IdentityRefresh) => {
                Continue(self.open_session(*user, LoginMode::Refresh).await)
            }
            (LoginOutcome::SignedIn(signed_in), LoginPurpose::Application(destination)) => {
                // The session exists even if the application denies the user, so the cookie is set
                // on the denial page too.
                cookies.extend(signed_in.cookie.clone().map(|c| (header::SET_COOKIE, c)));
                Continue(arrival::arrive(self, destination, &signed_in).await)
            }
            (LoginOutcome::SignedIn(signed_in), LoginPurpose::IdentityRefresh) => {
                cookies.extend(signed_in.cookie.map(|c| (header::SET_COOKIE, c)));
                Break(self.identity_refreshed(&signed_in.login))
            }
            (LoginOutcome::Denied(denial), LoginPurpose::Application(destination)) => {
                Break(self.denied(destination, &denial))
            }
            (LoginOutcome::Failed(failed), _) => self.try_again(&failed).await,
            (outcome, _) => Break(self.end(outcome)),
        }
    }

    /// Returns the response to an outcome that ends every login.
    fn end(&self, outcome: LoginOutcome) -> Response<Bytes> {
        let (parts, request) = (self.parts, self.request);
        match outcome {
            LoginOutcome::ToProvider(message) => message.respond(parts.flows.seal(), request),
            LoginOutcome::ToApplication(url) => answer::redirect(StatusCode::FOUND, &url),
            LoginOutcome::UnusableFlow(flow) => self.flow_unusable(&flow),
            LoginOutcome::Failed(failed) => self.failed(&failed),
            LoginOutcome::NoSession => self.no_session(),
            LoginOutcome::UnknownProvider => {
                error_pages::bad_request(request, "unknown_identity_provider")
            }
            LoginOutcome::Unavailable { idp, retry } => self.unavailable(idp.as_ref(), retry),
            LoginOutcome::NotNavigation => answer::empty(StatusCode::FORBIDDEN),
            // A trial opens no session. Only a login to an application begins without a session,
            // and only it is denied.
            LoginOutcome::Internal
            | LoginOutcome::Unauthenticated(_)
            | LoginOutcome::SessionConflict
            | LoginOutcome::ChooseProvider
            | LoginOutcome::Authenticated(_)
            | LoginOutcome::SignedIn(_)
            | LoginOutcome::Denied(_) => error_pages::internal(request),
        }
    }

    /// Expires both organisation sessions of a browser that shows two, and begins a login.
    async fn end_conflict(&self, destination: &Destination, cookies: &mut HeaderMap) -> Next {
        let (parts, request) = (self.parts, self.request);
        let conflict = Conflict {
            cookie: cookie::AUTHORIZATION,
            host: &request.host,
            path: &request.path,
            now: request.now,
        };
        // Another host sets its cookie again after each expiry, so a further login would not end
        // the conflict.
        if conflict.came_back(&request.headers) {
            parts.audit.login_refused(
                Reason::SessionConflict.id(),
                Counted::Invalid,
                Some(&destination.application),
                request,
            );
            let login = destination.login_url(&parts.running.services().team_url);
            let support = request.support.as_deref();
            return Break(conflict_page(&conflict, &login, support, request.id));
        }
        conflict.expire(cookies);
        conflict.mark(cookies);
        Continue(login::choose_provider(self, destination, Authentication::Provider).await)
    }

    /// Continues a login after its flow became unusable: with the browser's session, if it has one.
    async fn continue_without_flow(&self, destination: &Destination, flow: &UnusableFlow) -> Next {
        match session::find(&self.parts.sessions, destination, self.request).await {
            Ok(Some(signed_in)) => Continue(LoginOutcome::SignedIn(signed_in)),
            Ok(None) if self.may_be_displaced(flow) => Break(self.restarted(destination)),
            Ok(None) => Break(self.flow_unusable(flow)),
            Err(_) => Continue(LoginOutcome::Unavailable {
                idp: None,
                retry: Retry::Login,
            }),
        }
    }

    /// Returns `true` if the flow may have lost its cookie to newer ones, so that the login begins
    /// once more by itself.
    fn may_be_displaced(&self, flow: &UnusableFlow) -> bool {
        let (request, seal) = (self.request, self.parts.flows.seal());
        flow.cause == UnusableCause::CookieLost
            && flow.attempt == LoginAttempt::First
            // With many tabs the oldest flows lose their cookies. With a form from the provider the
            // browser sends no session, so the new login is the first to see it.
            && (FlowCookies::from_headers(&request.headers, seal).are_many()
                || request.method == Method::POST)
    }

    /// Begins a failed login once more, if another attempt may succeed.
    async fn try_again(&self, failed: &FailedLogin) -> Next {
        let again = match (&failed.next, self.purpose) {
            (Some(NextAttempt::NewLogin), LoginPurpose::Application(destination)) => {
                Some(Break(self.restarted(destination)))
            }
            (Some(NextAttempt::AtProvider { state, attempt }), _) => {
                let (idp, request) = (&failed.idp, self.request);
                oidc::begin_again(self.parts, idp, state, *attempt, request)
                    .await
                    .map(Continue)
            }
            (Some(NextAttempt::NewLogin) | None, _) => None,
        };
        let Some(next) = again else {
            return Break(self.failed(failed));
        };
        let (idp, error) = (&*failed.idp.0, chain(&failed.failure));
        let hint = failed.failure.advice();
        tracing::info!(request_id = %self.request.id, idp, error, hint, "starting the login again");
        next
    }

    async fn open_session(&self, user: Authenticated, mode: LoginMode) -> LoginOutcome {
        let EndpointParts {
            logins, sessions, ..
        } = self.parts;
        session::open(logins, sessions, user, mode, self.request).await
    }

    fn trial_succeeded(&self, profile: &ProviderIdentity) -> Response<Bytes> {
        self.parts.audit.provider_tested(profile, self.request);
        let services = self.parts.running.services();
        trial_report::works(&services, self.snapshot, profile, self.request)
    }

    fn restart_url(&self) -> Option<String> {
        self.purpose
            .restart_url(&self.parts.running.services().team_url)
    }

    fn identity_refreshed(&self, login: &Login) -> Response<Bytes> {
        self.parts
            .audit
            .identity_refreshed(&login.identity, self.request);
        let team_url = &self.parts.running.services().team_url;
        let url = format!("{team_url}{}?success=true", refresh_path());
        answer::redirect(StatusCode::FOUND, &url)
    }

    fn denied(&self, destination: &Destination, denial: &DeniedLogin) -> Response<Bytes> {
        let (parts, request) = (self.parts, self.request);
        let DeniedLogin {
            identity,
            verdict,
            via,
        } = denial;
        let application = &destination.application;
        let decided = DecidedLogin {
            application,
            identity,
            verdict,
            via: *via,
        };
        parts.audit.denied_at_login(decided, request);
        let login = destination.login_url(&parts.running.services().team_url);
        let reason = Reason::of_denial(verdict);
        error_pages::denied(request, application, identity, &login, reason)
    }

    fn restarted(&self, destination: &Destination) -> Response<Bytes> {
        let login = destination.login_url(&self.parts.running.services().team_url);
        // The new login is marked, so that this happens once.
        answer::redirect(
            StatusCode::FOUND,
            &LoginOption::SecondAttempt.added_to(&login),
        )
    }

    fn failed(&self, failed: &FailedLogin) -> Response<Bytes> {
        let (parts, request) = (self.parts, self.request);
        let FailedLogin { idp, failure, .. } = failed;
        if matches!(self.purpose, LoginPurpose::ProviderTrial) {
            parts.audit.provider_test_failed(failure, idp, request);
            return trial_report::failed(&parts.running.services(), failure, idp, request);
        }
        let application = self.purpose.application();
        parts
            .audit
            .login_failed(failure, Some(idp), application, request);
        let restart = self.restart_url();
        let switch_account = application
            .and(restart.as_ref())
            .map(|restart| LoginOption::SwitchAccount.added_to(restart));
        let links = error_pages::FailureLinks {
            restart: restart.as_deref(),
            switch_account: switch_account.as_deref(),
        };
        error_pages::login_failed(request, failure, links)
    }

    fn flow_unusable(&self, UnusableFlow { flow, cause, .. }: &UnusableFlow) -> Response<Bytes> {
        let (request, application) = (self.request, self.purpose.application());
        self.parts
            .audit
            .login_refused(cause.reason(), Counted::Invalid, application, request);
        let restart = self.restart_url();
        match cause {
            UnusableCause::Expired => error_pages::login_expired(request, restart.as_deref()),
            UnusableCause::CookieLost => {
                error_pages::flow_cookie_missing(request, flow, restart.as_deref())
            }
        }
    }

    fn no_session(&self) -> Response<Bytes> {
        self.parts
            .audit
            .login_refused("no_session", Counted::Invalid, None, self.request);
        error_pages::not_signed_in(self.request)
    }

    fn unavailable(&self, idp: Option<&IdpId>, retry: Retry) -> Response<Bytes> {
        let (request, application) = (self.request, self.purpose.application());
        if !matches!(self.purpose, LoginPurpose::ProviderTrial) {
            self.parts
                .audit
                .login_unavailable(idp, application, request);
        }
        match retry {
            Retry::Request => error_pages::unavailable(request),
            Retry::Login => error_pages::unavailable_with(request, self.restart_url().as_deref()),
        }
    }
}
