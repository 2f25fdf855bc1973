use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use super::Cors;
use crate::cookie::SameSite;
use crate::model::{Aud, IdpId, SentHeader};
use crate::policy::Policy;
use crate::route::{Domain, PathCase};

/// An application as the configuration describes it.
#[derive(Clone, Debug)]
pub struct ApplicationSettings {
    /// Stable over renamings.
    pub id: String,
    /// Audience tag.
    pub aud: Aud,
    /// The display name.
    pub name: String,
    /// Its hosts and paths.
    pub domain: Domain,
    /// The way in which its origin reads paths.
    pub path_case: PathCase,
    /// The lifetime of a session, unless the policy sets its own.
    pub session_duration: Duration,
    /// The accepted identity providers; all if empty.
    pub allowed_idps: Vec<IdpId>,
    /// `true` to skip the choice of a provider if only one is accepted.
    pub auto_redirect_to_identity: bool,
    /// Attributes of its cookie.
    pub cookie: CookieAttributes,
    /// The permissions of scripts of other origins.
    pub cors: Option<Cors>,
    /// `true` if CORS preflights go to the origin unchecked.
    pub options_preflight_bypass: bool,
    /// `true` if the origin receives our cookies.
    pub pass_cookies: bool,
    /// Headers with attributes of the user, of all providers. They are removed from every client's
    /// request, so only we set them.
    pub sent_headers: Arc<[SentHeader]>,
    /// Shown to users who are denied.
    pub custom_deny_message: Option<String>,
    /// The policies, in the configured order.
    pub policies: Vec<Policy>,
    /// The servers that requests are forwarded to.
    pub origins: Origins,
}

/// An application's origins, in a type of the front: the engine knows nothing of networks. They
/// travel with the permit, so a request goes to the origins of the snapshot that decided it.
#[derive(Clone)]
pub struct Origins(Arc<dyn Any + Send + Sync>);

impl Origins {
    /// The front's own representation.
    pub fn new<T: Any + Send + Sync>(origins: T) -> Self {
        Self(Arc::new(origins))
    }

    /// Returns the front's value; `None` if it has another type.
    pub fn get<T: Any + Send + Sync>(&self) -> Option<&T> {
        self.0.downcast_ref()
    }
}

impl std::fmt::Debug for Origins {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Origins")
    }
}

/// Attributes of an application's cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CookieAttributes {
    /// `SameSite`.
    pub same_site: SameSite,
    /// `HttpOnly`.
    pub http_only: bool,
    /// `true` if the cookie is for the application's path only.
    pub path: bool,
}
