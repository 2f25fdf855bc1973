use std::collections::HashMap;

use foldhash::quality::RandomState;

use super::Domain;
use crate::model::{CleanPath, PathError};

/// Finds the application of a host and a path. The cost does not depend on how many applications there are on other hosts.
#[derive(Debug, Default)]
pub struct Router {
    exact: HashMap<Box<str>, Vec<Claim>, RandomState>,
    /// By what follows the first dot, for hosts with stars in their first label only.
    first_label: HashMap<Box<str>, Vec<Claim>, RandomState>,
    elsewhere: Vec<Claim>,
}

#[derive(Debug)]
struct Claim {
    domain: Domain,
    application: usize,
    /// The place in the order of specificity over all domains.
    rank: usize,
}

/// What we serve ourselves, under `/cdn-cgi/access/` on the team domain and on every application's host, and one document
/// under `/.well-known/`.
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
    /// `logged-out`, where a provider sends a browser whose session it has ended: team domain.
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
    /// Where the endpoints live.
    pub const PREFIX: &'static str = "/cdn-cgi/access";

    /// Where the metadata of an application's page is, before the page's own path.
    pub const PROTECTED_RESOURCE: &'static str = "/.well-known/cloudflare-access-protected-resource";

    /// The endpoint of a canonical path; `None` where the path is an application's.
    pub fn of(path: &str) -> Option<Self> {
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
            of if of.strip_suffix("/saml-metadata").is_some_and(|id| !id.is_empty() && !id.contains('/')) => {
                Self::SamlMetadata
            }
            "refresh-identity" => Self::RefreshIdentity,
            "logged-out" => Self::LoggedOut,
            test if test.strip_prefix("test-idp/").is_some_and(|id| !id.is_empty() && !id.contains('/')) => {
                Self::TestIdp
            }
            login if login == "login" || login.starts_with("login/") => Self::Login,
            _ => Self::Unknown,
        })
    }
}

impl Router {
    /// A router over domains; each application is known by its place in the list.
    pub fn new<'a>(domains: impl IntoIterator<Item = &'a Domain>) -> Self {
        let mut domains: Vec<_> = domains.into_iter().enumerate().collect();
        domains.sort_by_key(|(_, domain)| domain.specificity());
        let mut router = Self::default();
        for (rank, (application, domain)) in domains.into_iter().enumerate() {
            let claim = Claim { domain: domain.clone(), application, rank };
            match domain.host().split_once('.') {
                _ if domain.exact_host().is_some() => router.exact.entry(domain.host().into()).or_default().push(claim),
                Some((_, rest)) if !rest.contains('*') => {
                    router.first_label.entry(rest.into()).or_default().push(claim)
                }
                _ => router.elsewhere.push(claim),
            }
        }
        router
    }

    /// The application of a canonical host and a path, judged by one reading of the path.
    pub fn find(&self, host: &str, path: &str) -> Option<usize> {
        let exact = self.exact(host).iter().find(|claim| claim.domain.covers_path(path));
        let wild = || {
            let covering = |claim: &&Claim| claim.domain.covers_host(host) && claim.domain.covers_path(path);
            let firsts = self.wild(host).map(|claims| claims.iter().find(covering));
            firsts.into_iter().flatten().min_by_key(|claim| claim.rank)
        };
        exact.or_else(wild).map(|claim| claim.application)
    }

    /// The application of a canonical host and a path.
    ///
    /// # Errors
    /// [`PathError::Ambiguous`] where origins that read the path in different ways would put it into different places.
    pub fn route(&self, host: &str, path: &CleanPath<'_>) -> Result<Option<usize>, PathError> {
        let (one, other) = path.readings();
        let found = self.find(host, one);
        match other {
            Some(other) if self.find(host, other) != found => Err(PathError::Ambiguous),
            _ => Ok(found),
        }
    }

    /// Whether any application is on this host.
    pub fn knows_host(&self, host: &str) -> bool {
        let covered = || self.wild(host).into_iter().flatten().any(|claim| claim.domain.covers_host(host));
        !self.exact(host).is_empty() || covered()
    }

    /// What claims exactly this host, in the order of specificity.
    fn exact(&self, host: &str) -> &[Claim] {
        self.exact.get(host).map(Vec::as_slice).unwrap_or_default()
    }

    /// What may claim this host among others, each list in the order of specificity.
    fn wild(&self, host: &str) -> [&[Claim]; 2] {
        let rest = host.split_once('.').map_or("", |(_, rest)| rest);
        [self.first_label.get(rest).map(Vec::as_slice).unwrap_or_default(), &self.elsewhere]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn router(domains: &[&str]) -> Router {
        let domains: Vec<_> = domains.iter().map(|d| Domain::parse(d).unwrap()).collect();
        Router::new(&domains)
    }

    #[test]
    fn the_most_specific_wins_whatever_the_order() {
        let all = [
            "*.x.y",
            "a.x.y",
            "a.x.y/alpha",
            "a.x.y/alpha/beta",
            "*b.x.y",
            "*.*.x.y",
            "a.x.y/al*",
            "*.corp.y",
            "admin.*.y",
            "admin.*.y/alpha",
            "b.*.y",
        ];
        let mut reversed = all;
        reversed.reverse();
        for order in [all, reversed] {
            let router = router(&order);
            for (host, path, expected) in [
                ("a.x.y", "/", Some("a.x.y")),
                ("a.x.y", "/alpha", Some("a.x.y/alpha")),
                ("a.x.y", "/alpha/beta/c", Some("a.x.y/alpha/beta")),
                ("a.x.y", "/alps", Some("a.x.y/al*")),
                ("c.x.y", "/alpha", Some("*.x.y")),
                ("bb.x.y", "/", Some("*b.x.y")),
                ("q.r.x.y", "/", Some("*.*.x.y")),
                ("admin.corp.y", "/", Some("admin.*.y")),
                ("admin.corp.y", "/alpha/x", Some("admin.*.y/alpha")),
                ("b.corp.y", "/", Some("*.corp.y")),
                ("x.y", "/", None),
                ("other", "/", None),
            ] {
                assert_eq!(router.find(host, path).map(|i| order[i]), expected, "{host}{path}");
            }
        }
    }

    #[test]
    fn a_path_that_reads_two_ways_must_lead_to_one_place() {
        let router = router(&["a.x.y", "a.x.y/admin"]);
        let route = |path: &str| router.route("a.x.y", &CleanPath::parse(path).unwrap());
        assert_eq!(route("/admin;x=1"), Err(PathError::Ambiguous));
        assert_eq!(route("/%2Fadmin"), Err(PathError::Ambiguous));
        assert_eq!(route("/admin%3Bx=1"), Err(PathError::Ambiguous));
        assert_eq!(route("/admin/a;b/c%2Fd"), Ok(Some(1)));
        assert_eq!(route("/api/a%2Fb"), Ok(Some(0)));
    }

    #[test]
    fn endpoints() {
        for (path, endpoint) in [
            ("/cdn-cgi/access/login/wiki.example.com", Some(Endpoint::Login)),
            ("/cdn-cgi/access/certs", Some(Endpoint::Certs)),
            ("/cdn-cgi/access/refresh-identity", Some(Endpoint::RefreshIdentity)),
            ("/cdn-cgi/access/logged-out", Some(Endpoint::LoggedOut)),
            ("/cdn-cgi/access/test-idp/okta", Some(Endpoint::TestIdp)),
            ("/cdn-cgi/access/test-idp/", Some(Endpoint::Unknown)),
            ("/cdn-cgi/access/test-idp/a/b", Some(Endpoint::Unknown)),
            ("/cdn-cgi/access/certs/", Some(Endpoint::Unknown)),
            ("/cdn-cgi/access", Some(Endpoint::Unknown)),
            ("/cdn-cgi/access/public-cert", Some(Endpoint::PublicCert)),
            ("/cdn-cgi/access/saml-metadata", Some(Endpoint::SamlMetadata)),
            ("/cdn-cgi/access/okta/saml-metadata", Some(Endpoint::SamlMetadata)),
            ("/cdn-cgi/access//saml-metadata", Some(Endpoint::Unknown)),
            ("/cdn-cgi/access/a/b/saml-metadata", Some(Endpoint::Unknown)),
            ("/cdn-cgi/accessory", None),
            ("/cdn-cgi/trace", None),
            ("/x/cdn-cgi/access/certs", None),
            ("/.well-known/cloudflare-access-protected-resource", Some(Endpoint::ProtectedResource)),
            ("/.well-known/cloudflare-access-protected-resource/", Some(Endpoint::ProtectedResource)),
            ("/.well-known/cloudflare-access-protected-resource/a/b", Some(Endpoint::ProtectedResource)),
            ("/.well-known/cloudflare-access-protected-resources", None),
            ("/.well-known/oauth-protected-resource", None),
            ("/.well-known/", None),
            ("/x/.well-known/cloudflare-access-protected-resource/", None),
        ] {
            assert_eq!(Endpoint::of(path), endpoint, "{path}");
        }
    }
}
