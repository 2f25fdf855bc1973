use std::sync::LazyLock;

use super::PathCase;
use super::readings::{CertainPath, Pattern};
use crate::model::{CleanPath, PathError};

/// The kind of host that a request to an endpoint was sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostRole {
    /// The team domain, on which users log in.
    Team,
    /// The host of an application.
    Application,
}

/// The endpoints of the proxy itself: under `/cdn-cgi/access/` on the team domain and on every
/// application's host, and one document under `/.well-known/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `login/<domain>`: team domain.
    Login,
    /// `callback`: team domain.
    Callback,
    /// `authorized`: application hosts.
    Authorized,
    /// `logout`: both.
    Logout,
    /// `certs`: both.
    Certs,
    /// `get-identity`: both.
    GetIdentity,
    /// `refresh-identity`: team domain.
    RefreshIdentity,
    /// `test-idp/<provider>`: team domain.
    TestIdp,
    /// `logged-out`, the return address of a logout at the provider: team domain.
    LoggedOut,
    /// `/.well-known/cloudflare-access-protected-resource/<path>`: application hosts.
    ProtectedResource,
    /// `saml-metadata` and `<provider>/saml-metadata`: team domain.
    SamlMetadata,
    /// `public-cert`: team domain.
    PublicCert,
    /// `/`: team domain.
    Home,
    /// Nothing that exists.
    Unknown,
}

impl Endpoint {
    /// The path of the endpoints.
    pub const PREFIX: &'static str = "/cdn-cgi/access";

    /// The path of the metadata of an application's page, without the page's own path.
    pub const PROTECTED_RESOURCE: &'static str =
        "/.well-known/cloudflare-access-protected-resource";

    /// The endpoint of a path; `None` if the path is an application's.
    ///
    /// # Errors
    /// [`PathError::Ambiguous`] if only some readings of the path lead to an endpoint.
    pub fn for_path(path: &CleanPath<'_>) -> Result<Option<Self>, PathError> {
        if path.is_plain() {
            let text = path.as_str();
            let is_reserved = |prefix: &str| {
                let (start, rest) = text.split_at_checked(prefix.len()).unwrap_or_default();
                start.eq_ignore_ascii_case(prefix) && (rest.is_empty() || rest.starts_with('/'))
            };
            return match Self::named(text) {
                None if RESERVED.into_iter().any(is_reserved) => Err(PathError::Ambiguous),
                endpoint => Ok(endpoint),
            };
        }
        let mut reached = RESERVED_PATTERNS
            .iter()
            .filter(|pattern| pattern.may_cover(path, PathCase::Insensitive));
        match reached.next() {
            None => Ok(None),
            Some(pattern) if CertainPath::new(path).is_covered(pattern) => {
                Ok(Self::named(&path.normalized()))
            }
            Some(_) => Err(PathError::Ambiguous),
        }
    }

    /// The endpoint of a path that is compared as it is.
    fn named(path: &str) -> Option<Self> {
        let Some(rest) = path.strip_prefix(Self::PREFIX) else {
            let rest = path.strip_prefix(Self::PROTECTED_RESOURCE)?;
            return (rest.is_empty() || rest.starts_with('/')).then_some(Self::ProtectedResource);
        };
        Some(match rest.strip_prefix('/').unwrap_or(rest) {
            _ if !rest.is_empty() && !rest.starts_with('/') => return None,
            "callback" => Self::Callback,
            "authorized" => Self::Authorized,
            "logout" => Self::Logout,
            "certs" => Self::Certs,
            "get-identity" => Self::GetIdentity,
            "public-cert" => Self::PublicCert,
            "saml-metadata" => Self::SamlMetadata,
            of if of
                .strip_suffix("/saml-metadata")
                .is_some_and(|id| !id.is_empty() && !id.contains('/')) =>
            {
                Self::SamlMetadata
            }
            "refresh-identity" => Self::RefreshIdentity,
            "logged-out" => Self::LoggedOut,
            test if test
                .strip_prefix("test-idp/")
                .is_some_and(|id| !id.is_empty() && !id.contains('/')) =>
            {
                Self::TestIdp
            }
            login if login == "login" || login.starts_with("login/") => Self::Login,
            _ => Self::Unknown,
        })
    }
}

/// Paths that no application has.
const RESERVED: [&str; 2] = [Endpoint::PREFIX, Endpoint::PROTECTED_RESOURCE];

static RESERVED_PATTERNS: LazyLock<[Pattern; 2]> = LazyLock::new(|| RESERVED.map(Pattern::compile));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoint_path_is_matched_exactly() {
        for (path, endpoint) in [
            (
                "/cdn-cgi/access/login/wiki.example.com",
                Some(Endpoint::Login),
            ),
            ("/cdn-cgi/access/certs", Some(Endpoint::Certs)),
            (
                "/cdn-cgi/access/refresh-identity",
                Some(Endpoint::RefreshIdentity),
            ),
            ("/cdn-cgi/access/logged-out", Some(Endpoint::LoggedOut)),
            ("/cdn-cgi/access/test-idp/okta", Some(Endpoint::TestIdp)),
            ("/cdn-cgi/access/test-idp/", Some(Endpoint::Unknown)),
            ("/cdn-cgi/access/test-idp/a/b", Some(Endpoint::Unknown)),
            ("/cdn-cgi/access/certs/", Some(Endpoint::Unknown)),
            ("/cdn-cgi/access", Some(Endpoint::Unknown)),
            ("/cdn-cgi/access/public-cert", Some(Endpoint::PublicCert)),
            (
                "/cdn-cgi/access/saml-metadata",
                Some(Endpoint::SamlMetadata),
            ),
            (
                "/cdn-cgi/access/okta/saml-metadata",
                Some(Endpoint::SamlMetadata),
            ),
            ("/cdn-cgi/access//saml-metadata", Some(Endpoint::Unknown)),
            ("/cdn-cgi/access/a/b/saml-metadata", Some(Endpoint::Unknown)),
            ("/cdn-cgi/accessory", None),
            ("/cdn-cgi/trace", None),
            ("/x/cdn-cgi/access/certs", None),
            (
                "/.well-known/cloudflare-access-protected-resource",
                Some(Endpoint::ProtectedResource),
            ),
            (
                "/.well-known/cloudflare-access-protected-resource/",
                Some(Endpoint::ProtectedResource),
            ),
            (
                "/.well-known/cloudflare-access-protected-resource/a/b",
                Some(Endpoint::ProtectedResource),
            ),
            ("/.well-known/cloudflare-access-protected-resources", None),
            ("/.well-known/oauth-protected-resource", None),
            ("/.well-known/", None),
            ("/x/.well-known/cloudflare-access-protected-resource/", None),
        ] {
            assert_eq!(
                Endpoint::for_path(&CleanPath::parse(path).unwrap()),
                Ok(endpoint),
                "{path}"
            );
        }
    }

    #[test]
    fn readings_that_lead_to_an_endpoint_are_refused() {
        for path in [
            "/CDN-CGI/access/logout",
            "/cdn-cgi/Access",
            "/cdn-cgi//access/certs",
            "/cdn-cgi%2Faccess/certs",
            "/cdn-cgi%2faccess%2fcerts",
            "/%2Fcdn-cgi/access",
            "/cdn-cgi/access;x/certs",
            "/cdn-cgi./access/certs",
            "/cdn-cgi/access%20/certs",
            "/cdn-cgi::$DATA/access",
            "/CDN-CGI%255cACCESS",
            "/%20/cdn-cgi/access",
            "/.well-known%2Fcloudflare-access-protected-resource",
        ] {
            assert_eq!(
                Endpoint::for_path(&CleanPath::parse(path).unwrap()),
                Err(PathError::Ambiguous),
                "{path}"
            );
        }
        for (path, endpoint) in [
            ("/cdn-cgi/%61ccess/certs", Some(Endpoint::Certs)),
            ("/cdn-cgi/access/certs;x", Some(Endpoint::Unknown)),
            ("/cdn-cgi/access//certs", Some(Endpoint::Unknown)),
            ("/a//b%2Fc;d:e.", None),
            ("/x%2Fcdn-cgi/access", None),
        ] {
            assert_eq!(
                Endpoint::for_path(&CleanPath::parse(path).unwrap()),
                Ok(endpoint),
                "{path}"
            );
        }
    }
}
