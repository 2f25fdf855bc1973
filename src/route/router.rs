use std::collections::HashMap;

use foldhash::quality::RandomState;

use super::readings::{CertainPath, Pattern};
use super::{Domain, PathCase, case_rivals};
use crate::model::{CleanPath, PathError};

/// Finds the application of a host and a path. The cost does not depend on how many applications
/// there are on other hosts.
#[derive(Debug, Default)]
pub struct Router {
    exact: HashMap<Box<str>, Vec<Claim>, RandomState>,
    /// By the text after the first dot, for hosts with stars in their first label only.
    first_label: HashMap<Box<str>, Vec<Claim>, RandomState>,
    elsewhere: Vec<Claim>,
}

#[derive(Debug)]
struct Claim {
    domain: Domain,
    pattern: Pattern,
    /// The way in which the application's origin reads paths.
    case: PathCase,
    application: usize,
    /// The position in the order of specificity over all domains.
    rank: usize,
    /// The domains that cover all of its paths if case is ignored, and not otherwise.
    rivals: Box<[Domain]>,
}

impl Claim {
    /// Returns `true` if an origin of that host which ignores case could be asked for a path of
    /// another application.
    fn has_rival_on(&self, host: &str) -> bool {
        self.rivals.iter().any(|rival| rival.covers_host(host))
    }
}

impl Router {
    /// Builds a router over domains, each with the way in which its origin reads paths. An
    /// application is known by its index in the list.
    pub fn new<'a>(domains: impl IntoIterator<Item = (&'a Domain, PathCase)>) -> Self {
        let mut domains: Vec<_> = domains.into_iter().enumerate().collect();
        let mut rivals: HashMap<usize, Vec<Domain>> = HashMap::new();
        let all: Vec<&Domain> = domains.iter().map(|(_, (domain, _))| *domain).collect();
        for pair in case_rivals(&all) {
            rivals
                .entry(pair.domain)
                .or_default()
                .extend(all.get(pair.rival).copied().cloned());
        }
        // Sorted once here, so that the first match of each list is the most specific one.
        domains.sort_by_key(|(_, (domain, _))| domain.specificity());
        let mut router = Self::default();
        for (rank, (application, (domain, case))) in domains.into_iter().enumerate() {
            let rivals = rivals.remove(&application).unwrap_or_default().into();
            let pattern = Pattern::compile(domain.path());
            let claim = Claim {
                domain: domain.clone(),
                pattern,
                case,
                application,
                rank,
                rivals,
            };
            match domain.host().split_once('.') {
                _ if domain.exact_host().is_some() => router
                    .exact
                    .entry(domain.host().into())
                    .or_default()
                    .push(claim),
                Some((_, rest)) if !rest.contains('*') => router
                    .first_label
                    .entry(rest.into())
                    .or_default()
                    .push(claim),
                _ => router.elsewhere.push(claim),
            }
        }
        router
    }

    /// The application of a canonical host and the text of a path; `None` if the path could not be
    /// routed.
    pub fn find(&self, host: &str, path: &str) -> Option<usize> {
        CleanPath::parse(path)
            .ok()
            .and_then(|path| self.route(host, &path).ok().flatten())
    }

    /// Returns the application of a canonical host and a path.
    ///
    /// # Errors
    ///
    /// [`PathError::Ambiguous`] if two readings of the path lead to different applications, or if
    /// only its case distinguishes them and the origin was not declared case-sensitive.
    pub fn route(&self, host: &str, path: &CleanPath<'_>) -> Result<Option<usize>, PathError> {
        // The path is irrelevant if the most specific application covers all paths.
        if let [only] = self.exact(host)
            && only.domain.path() == "/"
        {
            return Ok(Some(only.application));
        }
        if path.is_plain() {
            let text = path.as_str();
            return choose(
                |case| match case {
                    PathCase::Insensitive => {
                        self.first(host, |claim| claim.domain.covers_any_case(text))
                    }
                    PathCase::Sensitive => self.first(host, |claim| claim.domain.covers_path(text)),
                },
                |claim| claim.domain.covers_path(text),
                host,
            );
        }
        let certain = CertainPath::new(path);
        choose(
            |case| self.first(host, |claim| claim.pattern.may_cover(path, case)),
            |claim| certain.is_covered(&claim.pattern),
            host,
        )
    }

    /// The most specific claim on the host that covers the path.
    fn first(&self, host: &str, covers_path: impl Fn(&Claim) -> bool) -> Option<&Claim> {
        let exact = self.exact(host).iter().find(|claim| covers_path(claim));
        let wild = || {
            let covering = |claim: &&Claim| claim.domain.covers_host(host) && covers_path(claim);
            let firsts = self.wild(host).map(|claims| claims.iter().find(covering));
            firsts.into_iter().flatten().min_by_key(|claim| claim.rank)
        };
        // A host without a star is more specific than any pattern.
        exact.or_else(wild)
    }

    /// Returns `true` if any application is on this host.
    pub fn knows_host(&self, host: &str) -> bool {
        let covered = || {
            self.wild(host)
                .into_iter()
                .flatten()
                .any(|claim| claim.domain.covers_host(host))
        };
        !self.exact(host).is_empty() || covered()
    }

    /// The applications on exactly this host, in the order of specificity.
    fn exact(&self, host: &str) -> &[Claim] {
        self.exact.get(host).map(Vec::as_slice).unwrap_or_default()
    }

    /// The applications on this host among others, each list in the order of specificity.
    fn wild(&self, host: &str) -> [&[Claim]; 2] {
        let rest = host.split_once('.').map_or("", |(_, rest)| rest);
        [
            self.first_label
                .get(rest)
                .map(Vec::as_slice)
                .unwrap_or_default(),
            &self.elsewhere,
        ]
    }
}

/// The application that all readings of a path lead to. `first` is the most specific claim that
/// covers at least one reading; `is_certain` returns `true` if a claim covers all readings.
fn choose<'a>(
    first: impl Fn(PathCase) -> Option<&'a Claim>,
    is_certain: impl Fn(&Claim) -> bool,
    host: &str,
) -> Result<Option<usize>, PathError> {
    match first(PathCase::Insensitive) {
        None => Ok(None),
        // All readings lead here, and no other application differs only by case.
        Some(claim) if is_certain(claim) && !claim.has_rival_on(host) => {
            Ok(Some(claim.application))
        }
        // The origin of the request may distinguish the two paths.
        Some(_) => match first(PathCase::Sensitive) {
            Some(claim) if claim.case == PathCase::Sensitive && is_certain(claim) => {
                Ok(Some(claim.application))
            }
            _ => Err(PathError::Ambiguous),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn router(domains: &[&str]) -> Router {
        let domains: Vec<_> = domains.iter().map(|d| Domain::parse(d).unwrap()).collect();
        Router::new(domains.iter().map(|domain| (domain, PathCase::Insensitive)))
    }

    #[test]
    fn most_specific_domain_wins_in_any_order() {
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
                assert_eq!(
                    router.find(host, path).map(|i| order[i]),
                    expected,
                    "{host}{path}"
                );
            }
        }
    }

    #[test]
    fn ambiguous_path_must_lead_to_one_application() {
        let router = router(&["a.x.y", "a.x.y/admin"]);
        let route = |path: &str| router.route("a.x.y", &CleanPath::parse(path).unwrap());
        assert_eq!(route("/admin;x=1"), Err(PathError::Ambiguous));
        assert_eq!(route("/%2Fadmin"), Err(PathError::Ambiguous));
        assert_eq!(route("/admin%3Bx=1"), Err(PathError::Ambiguous));
        assert_eq!(route("/admin/a;b/c%2Fd"), Ok(Some(1)));
        assert_eq!(route("/api/a%2Fb"), Ok(Some(0)));
    }
}
