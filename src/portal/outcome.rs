use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};

use super::provider_request::ProviderRequest;
use super::{arrival, error_pages, session, trial_report};
use crate::control::{Access, Becomes, Login};
use crate::engine::Snapshot;
use crate::idp::{LoginFailure, ProviderIdentity};
use crate::login::{Destination, LoginPurpose, PortalRequest, refresh_path};
use crate::model::{Identity, IdentityNonce, IdpId, Reason};
use crate::observe::audit::Via;
use crate::observe::metrics::Login as Counted;
use crate::pages::answer;
use crate::policy::Verdict;

/// The result of one step of a login.
pub(super) enum LoginOutcome {
    /// The browser has to go to the identity provider.
    ToProvider(Box<ProviderRequest>),
    /// The identity provider authenticated the user.
    Authenticated(Box<Authenticated>),
    /// The browser has an organisation session.
    SignedIn(SignedIn),
    /// The policies allow the user, and the login continues at this URL of the application.
    ToApplication(String),
    /// The policies deny the user.
    Denied(Box<Denial>),
    /// The login could not be finished, and begins once more.
    Restart,
    /// The identity provider, or its response, ended the login.
    Failed { idp: IdpId, failure: LoginFailure },
    /// The flow was finished before, or its time is over.
    Expired,
    /// The browser returned without the cookie of this flow.
    CookieLost { flow: String },
    /// The session was ended while the user was at the identity provider.
    SessionEnded,
    /// The store did not answer.
    Unavailable { idp: Option<IdpId>, retry: Retry },
    /// The request cannot begin a login, because it is no navigation of the user's.
    NotNavigation,
    /// Sealing or signing failed.
    Internal,
}

/// A user, authenticated by the identity provider.
pub(super) struct Authenticated {
    pub(super) profile: ProviderIdentity,
    /// The login that the browser had when it left, if it cannot show it when it returns.
    pub(super) previous: Option<IdentityNonce>,
}

/// A browser with an organisation session.
pub(super) struct SignedIn {
    pub(super) login: Login,
    pub(super) via: Via,
    /// The session's cookie, if the session is new.
    pub(super) cookie: Option<HeaderValue>,
}

/// A user, denied by an application's policies at the end of a login.
pub(super) struct Denial {
    pub(super) identity: Arc<Identity>,
    pub(super) verdict: Verdict,
    pub(super) via: Via,
}

/// The link on a page about a temporary failure.
#[derive(Clone, Copy, Debug)]
pub(super) enum Retry {
    /// The same request once more.
    Request,
    /// The login from its beginning.
    Login,
}

/// A login, at one request of its browser.
#[derive(Clone, Copy)]
pub(super) struct LoginStep<'a> {
    pub(super) access: &'a Access,
    pub(super) snapshot: &'a Snapshot,
    pub(super) request: &'a PortalRequest,
    pub(super) purpose: &'a LoginPurpose,
}

impl LoginStep<'_> {
    /// Performs the steps that follow an outcome, until one of them ends with a response. This is
    /// the one place that chooses the next step of a login.
    pub(super) async fn conclude(&self, outcome: LoginOutcome) -> Response<Bytes> {
        let (access, request, purpose) = (self.access, self.request, self.purpose);
        let mut next = outcome;
        let mut session_cookie = None;
        let mut response = loop {
            next = match (next, purpose) {
                (LoginOutcome::ToProvider(message), _) => break message.respond(access, request),
                (LoginOutcome::Authenticated(user), LoginPurpose::ProviderTrial) => {
                    break trial_report::works(access, self.snapshot, &user.profile, request);
                }
                (LoginOutcome::Authenticated(user), LoginPurpose::Application(_)) => {
                    session::open(access, *user, Becomes::Session, request).await
                }
                (LoginOutcome::Authenticated(user), LoginPurpose::IdentityRefresh) => {
                    session::open(access, *user, Becomes::Renewal, request).await
                }
                (LoginOutcome::SignedIn(signed_in), LoginPurpose::Application(destination)) => {
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

    fn denied(&self, destination: &Destination, denial: &Denial) -> Response<Bytes> {
        let (access, request) = (self.access, self.request);
        let Denial {
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
            return trial_report::failed(access, failure, idp, request);
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
