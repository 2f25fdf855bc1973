use std::sync::Arc;

use http::HeaderValue;

use crate::control::{Authenticated, EndpointParts, Login};
use crate::engine::Snapshot;
use crate::idp::{Attempt, LoginFailure};
use crate::login::{LoginPurpose, PortalRequest, State};
use crate::model::{Identity, IdpId};
use crate::observe::audit::Via;
use crate::policy::Verdict;
use crate::saml::Message;

/// The result of one step of a login.
pub(super) enum LoginOutcome {
    /// The browser has no session that suffices: the identity provider authenticates the user.
    Unauthenticated(Authentication),
    /// The browser has sessions of two logins, of which another host may have set one.
    SessionConflict,
    /// The user has to choose an identity provider, or the request cannot be redirected to one.
    ChooseProvider,
    /// The identity provider does not exist, or the application does not allow it.
    UnknownProvider,
    /// The browser has to go to the identity provider.
    ToProvider(Box<ProviderRequest>),
    /// The browser returned with a flow that cannot be finished.
    UnusableFlow(UnusableFlow),
    /// The identity provider authenticated the user.
    Authenticated(Box<Authenticated>),
    /// The browser has an organisation session.
    SignedIn(SignedIn),
    /// The policies allow the user, and the login continues at this URL of the application.
    ToApplication(String),
    /// The policies deny the user.
    Denied(Box<DeniedLogin>),
    /// The identity provider, or its response, ended the login.
    Failed(Box<FailedLogin>),
    /// The browser has no session to refresh, or it was ended while the user was at the identity
    /// provider.
    NoSession,
    /// The store did not answer.
    Unavailable { idp: Option<IdpId>, retry: Retry },
    /// The request cannot begin a login, because it is no navigation of the user's.
    NotNavigation,
    /// Sealing or signing failed.
    Internal,
}

/// The authentication that a login requires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Authentication {
    /// An organisation session suffices.
    Session,
    /// The identity provider has to report the user again, and may use its own session. A fact
    /// was unknown at the last login. The provider may know it now.
    Provider,
    /// The identity provider has to require credentials: the user switches accounts.
    Credentials,
}

/// A flow that cannot be finished.
pub(super) struct UnusableFlow {
    /// Its name.
    pub(super) flow: String,
    pub(super) cause: UnusableCause,
    /// The number of times that the login began by itself.
    pub(super) attempt: LoginAttempt,
}

/// The cause for which a flow cannot be finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UnusableCause {
    /// It was used before, or its time is over.
    Expired,
    /// Only its cookie is missing.
    CookieLost,
}

impl UnusableCause {
    /// Returns the reason id.
    pub(super) const fn reason(self) -> &'static str {
        match self {
            Self::Expired => "login_expired",
            Self::CookieLost => "flow_cookie_missing",
        }
    }
}

/// The attempts at a login that the user began once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LoginAttempt {
    First,
    /// The login began again by itself, which happens once.
    Second,
}

impl LoginAttempt {
    pub(super) const fn of(state: &State) -> Self {
        if state.is_restart {
            Self::Second
        } else {
            Self::First
        }
    }
}

/// A login that the identity provider, or its response, ended.
pub(super) struct FailedLogin {
    pub(super) idp: IdpId,
    pub(super) failure: LoginFailure,
    /// The attempt that may succeed, if there is one.
    pub(super) next: Option<NextAttempt>,
}

/// Another attempt at a login that failed.
pub(super) enum NextAttempt {
    /// The same login with another request to the provider.
    AtProvider { state: State, attempt: Attempt },
    /// A new login to the same page. Only an application has one.
    NewLogin,
}

impl LoginOutcome {
    /// Returns the outcome of a failure that no further attempt helps.
    pub(super) fn failed(idp: &IdpId, failure: LoginFailure) -> Self {
        Self::Failed(Box::new(FailedLogin {
            idp: idp.clone(),
            failure,
            next: None,
        }))
    }
}

/// A message to an identity provider, which the browser carries.
pub(super) struct ProviderRequest {
    /// The provider's name, for the page that carries a form.
    pub(super) provider: String,
    pub(super) message: Message,
    /// The browser's half of the flow.
    pub(super) flow_cookie: HeaderValue,
}

/// A browser with an organisation session.
pub(super) struct SignedIn {
    pub(super) login: Login,
    pub(super) via: Via,
    /// The session's cookie, if the session is new.
    pub(super) cookie: Option<HeaderValue>,
}

impl SignedIn {
    /// A browser that presents its session.
    pub(super) const fn by_session(login: Login) -> Self {
        Self {
            login,
            via: Via::Session,
            cookie: None,
        }
    }

    /// A browser that returns from the identity provider, and gets a session.
    pub(super) const fn at_provider(login: Login, cookie: HeaderValue) -> Self {
        Self {
            login,
            via: Via::Provider,
            cookie: Some(cookie),
        }
    }
}

/// A user, denied by an application's policies at the end of a login.
pub(super) struct DeniedLogin {
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
    pub(super) parts: &'a EndpointParts,
    pub(super) snapshot: &'a Snapshot,
    pub(super) request: &'a PortalRequest,
    pub(super) purpose: &'a LoginPurpose,
}
