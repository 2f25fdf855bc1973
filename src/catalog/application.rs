use std::time::Duration;

use url::Url;

use super::{CorsHeaders, Domain, Origin, OriginSettings};
use crate::cookie::SameSite;
use crate::model::{Aud, IdpId};
use crate::policy::Policy;
use crate::route::PathCase;

/// An application behind the proxy (`[[applications]]`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Application {
    /// The id in references, logs and the API; the canonical domain by default.
    pub id: String,
    /// The audience of its tokens; by default derived from the team domain and the id.
    pub aud: Aud,
    /// The display name; the domain by default.
    pub name: String,
    /// The host, and perhaps the path, that requests are matched with.
    pub domain: Domain,
    /// [`PathCase::Sensitive`] if its origin distinguishes paths that differ only in case
    /// (`case_sensitive_paths`); not by default.
    pub path_case: PathCase,
    /// The origin servers; at least one, except for an embedding proxy.
    pub origins: Vec<Origin>,
    /// The settings of connections to the origins.
    pub origin_settings: OriginSettings,
    /// The lifetime of a session; 24 h by default, from 1 min to 30 days.
    pub session_duration: Duration,
    /// The identity providers that users may come through; empty for all.
    pub allowed_idps: Vec<IdpId>,
    /// Skips the choice of identity provider. Only one is allowed then.
    pub auto_redirect_to_identity: bool,
    /// The `SameSite` attribute of its cookie; `None` by default, as in Cloudflare Access.
    pub same_site_cookie_attribute: SameSite,
    /// The `HttpOnly` attribute of its cookie; `true` by default.
    pub http_only_cookie_attribute: bool,
    /// Limits the cookie to the application's path; by default if the domain has a path.
    pub path_cookie_attribute: Option<bool>,
    /// Cross-origin access by browsers; none by default.
    pub cors_headers: Option<CorsHeaders>,
    /// Forwards preflights to the origin without a login. Never together with `cors_headers`.
    pub options_preflight_bypass: bool,
    /// Forwards the cookies that hold the session to the origin; `false` by default.
    pub pass_cookies: bool,
    /// The largest body in bytes; `[limits] max_body` by default.
    pub max_body: Option<u64>,
    /// The text for users who are denied.
    pub custom_deny_message: Option<String>,
    /// Its entry in the app launcher.
    pub launcher: LauncherEntry,
    /// The policies in the order of evaluation. Without any, every request is denied.
    pub policies: Vec<ApplicationPolicy>,
}

/// The entry of an application in the app launcher. No decision depends on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LauncherEntry {
    /// `true` if the launcher shows the application to users who may open it
    /// (`app_launcher_visible`); the default.
    pub visible: bool,
    /// The URL of its logo.
    pub logo_url: Option<Url>,
    /// The tags, for a search.
    pub tags: Vec<String>,
}

impl Default for LauncherEntry {
    fn default() -> Self {
        Self {
            visible: true,
            logo_url: None,
            tags: Vec::new(),
        }
    }
}

/// An entry of an application's policies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApplicationPolicy {
    /// A policy of this application alone.
    Own(Policy),
    /// The id of a policy that applications share.
    Shared(String),
}
