use std::any::Any;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};

use super::required_facts::RequiredFacts;
use super::reserved::{is_reserved, is_spelt};
use crate::cookie::SameSite;
use crate::model::{Aud, Groups, Identity, IdpId, SentHeader};
use crate::policy::{Policies, Policy, PolicyIndex, Truth};
use crate::route::{Domain, PathCase};
use crate::session::ApplicationIndex;

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

/// An application of a snapshot.
#[derive(Debug)]
pub struct Application {
    /// In the snapshot's list.
    pub(super) index: ApplicationIndex,
    settings: ApplicationSettings,
    pub(super) policies: Policies,
    pub(super) required: RequiredFacts,
}

impl Application {
    pub(super) const fn new(
        index: ApplicationIndex,
        settings: ApplicationSettings,
        policies: Policies,
        required: RequiredFacts,
    ) -> Self {
        Self {
            index,
            settings,
            policies,
            required,
        }
    }

    /// As configured.
    pub const fn settings(&self) -> &ApplicationSettings {
        &self.settings
    }

    /// Audience tag.
    pub const fn aud(&self) -> &Aud {
        &self.settings.aud
    }

    /// Returns `true` if the application accepts an identity provider.
    pub fn allows_idp(&self, idp: &IdpId) -> bool {
        self.settings.allowed_idps.is_empty() || self.settings.allowed_idps.contains(idp)
    }

    /// Returns [`Truth::True`] if a session of that provider is accepted; `None` is an unknown
    /// provider.
    pub(super) fn admits(&self, idp: Option<&IdpId>) -> Truth {
        match idp {
            _ if self.settings.allowed_idps.is_empty() => Truth::True,
            Some(idp) => self.allows_idp(idp).into(),
            None => Truth::Unknown,
        }
    }

    /// Its policies, compiled with its snapshot's.
    pub const fn policies(&self) -> &Policies {
        &self.policies
    }

    /// Returns `true` if a request header is reserved for us, in any spelling.
    pub fn is_reserved(&self, name: &str) -> bool {
        is_reserved(name)
            || self
                .settings
                .sent_headers
                .iter()
                .any(|ours| is_spelt(name, ours.name.as_str()))
    }

    /// Returns `true` if a policy requires a client certificate. Only requests to this
    /// application's own host carry one.
    pub const fn asks_for_certificates(&self) -> bool {
        self.required.certificate
    }

    /// Returns `true` if its policies ask for the method, so that no request may ask the origin for
    /// another one.
    pub const fn asks_for_method(&self) -> bool {
        self.required.method
    }

    /// Returns `true` if a policy depends on groups of this user, and they are unknown.
    pub fn misses_groups(&self, identity: &Identity) -> bool {
        identity.groups == Groups::Unknown && self.required.groups.contains(&identity.idp.id)
    }

    /// Returns the shortest session lifetime of all policies, for a session before its policy is
    /// known.
    pub fn shortest_session(&self) -> Duration {
        let policies = self
            .settings
            .policies
            .iter()
            .filter_map(|policy| policy.session_duration);
        policies
            .chain([self.settings.session_duration])
            .min()
            .unwrap_or_default()
    }

    /// Returns the name of a policy, and its session duration.
    pub fn policy(&self, index: PolicyIndex) -> Option<(&str, Option<Duration>)> {
        self.policies.describe(index)
    }

    /// Returns the `Path` of the cookie: the application's path up to the first star, if the cookie
    /// is confined to it.
    pub fn cookie_path(&self) -> &str {
        let path = self.settings.domain.path();
        // Browsers compare escapes as text, and clients write them in either case.
        let literal = path.split(['*', '%']).next().unwrap_or("/");
        // A cookie's path must end with a whole segment (RFC 6265 5.1.4).
        let whole = if literal.len() == path.len() {
            literal
        } else {
            literal.rsplit_once('/').map_or("/", |(dir, _)| dir)
        };
        if self.settings.cookie.path && !whole.is_empty() {
            whole
        } else {
            "/"
        }
    }
}

/// The cross-origin requests that an application accepts (Fetch standard, "CORS protocol").
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cors {
    /// Exact origins, in lower case.
    pub allowed_origins: BTreeSet<String>,
    /// Any origin; never together with credentials.
    pub allow_all_origins: bool,
    /// Methods; all if `None`.
    pub allowed_methods: Option<Vec<Method>>,
    /// Request headers; all if `None`.
    pub allowed_headers: Option<Vec<HeaderName>>,
    /// `true` if cookies may be sent.
    pub allow_credentials: bool,
    /// Seconds that a preflight's answer may be kept.
    pub max_age: Option<u32>,
}

impl Cors {
    /// Returns the headers that let a script of the request's origin read our response; none if it
    /// may not.
    pub fn headers(&self, request: &HeaderMap) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let Some(origin) = request.get(header::ORIGIN) else {
            return headers;
        };
        let named = origin
            .to_str()
            .is_ok_and(|o| self.allowed_origins.contains(&o.to_ascii_lowercase()));
        headers.insert(header::VARY, HeaderValue::from_static("Origin"));
        if named {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            if self.allow_credentials {
                headers.insert(
                    header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
                    HeaderValue::from_static("true"),
                );
            }
        } else if self.allow_all_origins && !self.allow_credentials {
            headers.insert(
                header::ACCESS_CONTROL_ALLOW_ORIGIN,
                HeaderValue::from_static("*"),
            );
        }
        headers
    }

    /// The answer to a preflight.
    pub fn preflight(&self, request: &HeaderMap) -> HeaderMap {
        let mut headers = self.headers(request);
        if !headers.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN) {
            return headers;
        }
        let vary = "Origin, Access-Control-Request-Method, Access-Control-Request-Headers";
        headers.insert(header::VARY, HeaderValue::from_static(vary));
        let join = |names: Vec<&str>| HeaderValue::try_from(names.join(", ")).ok();
        let methods = match &self.allowed_methods {
            Some(methods) => join(methods.iter().map(Method::as_str).collect()),
            None => request.get(header::ACCESS_CONTROL_REQUEST_METHOD).cloned(),
        };
        let names = match &self.allowed_headers {
            Some(names) => join(names.iter().map(HeaderName::as_str).collect()),
            None => request.get(header::ACCESS_CONTROL_REQUEST_HEADERS).cloned(),
        };
        let max_age = self.max_age.map(HeaderValue::from);
        for (name, value) in [
            (header::ACCESS_CONTROL_ALLOW_METHODS, methods),
            (header::ACCESS_CONTROL_ALLOW_HEADERS, names),
            (header::ACCESS_CONTROL_MAX_AGE, max_age),
        ] {
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                headers.insert(name, value);
            }
        }
        headers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn preflight_lists_no_header_if_none_is_allowed() {
        let request: HeaderMap = [
            (
                header::ORIGIN,
                HeaderValue::from_static("https://front.example.com"),
            ),
            (
                header::ACCESS_CONTROL_REQUEST_METHOD,
                HeaderValue::from_static("GET"),
            ),
            (
                header::ACCESS_CONTROL_REQUEST_HEADERS,
                HeaderValue::from_static(""),
            ),
        ]
        .into_iter()
        .collect();
        let named = |headers: Option<Vec<HeaderName>>| Cors {
            allowed_origins: ["https://front.example.com".to_owned()].into(),
            allowed_methods: Some(vec![Method::GET]),
            allowed_headers: headers,
            ..Cors::default()
        };
        for none in [Some(Vec::new()), None] {
            let answer = named(none).preflight(&request);
            assert!(
                !answer.contains_key(header::ACCESS_CONTROL_ALLOW_HEADERS),
                "{answer:?}"
            );
            assert_eq!(answer[header::ACCESS_CONTROL_ALLOW_METHODS], "GET");
        }
        let answer = named(Some(vec![header::CONTENT_TYPE])).preflight(&request);
        assert_eq!(answer[header::ACCESS_CONTROL_ALLOW_HEADERS], "content-type");
    }
}
