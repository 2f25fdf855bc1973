use std::sync::Arc;

use http::HeaderValue;

use crate::control::{Access, Login};
use crate::engine::Snapshot;
use crate::idp::{LoginFailure, ProviderIdentity};
use crate::login::{LoginPurpose, PortalRequest};
use crate::model::{Identity, IdentityNonce, IdpId};
use crate::observe::audit::Via;
use crate::policy::Verdict;
use crate::saml::Message;

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
    Denied(Box<DeniedLogin>),
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

/// A message to an identity provider, which the browser carries.
pub(super) struct ProviderRequest {
    /// The provider's name, for the page that carries a form.
    pub(super) provider: String,
    pub(super) message: Message,
    /// The browser's half of the flow.
    pub(super) flow_cookie: HeaderValue,
}

/// A user, authenticated by the identity provider.
pub(super) struct Authenticated {
    pub(super) profile: ProviderIdentity,
    /// The login that the browser had when it left, if it cannot show it when it returns.
    pub(super) previous: Option<IdentityNonce>,
    /// The store's revision when the browser returned from the provider.
    pub(super) began: u64,
}

/// A browser with an organisation session.
pub(super) struct SignedIn {
    pub(super) login: Login,
    pub(super) via: Via,
    /// The session's cookie, if the session is new.
    pub(super) cookie: Option<HeaderValue>,
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
    pub(super) access: &'a Access,
    pub(super) snapshot: &'a Snapshot,
    pub(super) request: &'a PortalRequest,
    pub(super) purpose: &'a LoginPurpose,
}
