use std::fmt;

use thiserror::Error;

use super::PathFault;
use super::readings::{Alphabet, covers};
use crate::model::Host;

/// The domain of an application: `host` or `host/path`, each with wildcards.
///
/// `*` in a host matches part of one label, or all of it. A path covers itself and everything
/// below. A `*` in a path matches any text, slashes included. With a trailing `/*` the path itself
/// is not covered.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Domain {
    pub(super) host: Box<str>,
    pub(super) path: Box<str>,
}

/// The reason why a domain is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DomainError {
    /// A scheme, a port, a query or a fragment.
    #[error("a domain is a host or host/path, without scheme, port, query or fragment")]
    Shape,
    /// The host is malformed.
    #[error("the host is malformed")]
    Host,
    /// The path is not canonical, or origins read it in more than one way.
    #[error("the path is not in canonical form")]
    Path,
    /// Two stars in one label or one segment.
    #[error("at most one `*` between two dots or two slashes")]
    Stars,
}

impl Domain {
    /// Reads a domain.
    ///
    /// # Errors
    /// See [`DomainError`].
    pub fn parse(text: &str) -> Result<Self, DomainError> {
        let (host, path) = text
            .find('/')
            .and_then(|at| text.split_at_checked(at))
            .unwrap_or((text, "/"));
        if text.contains(['?', '#', ':']) {
            return Err(DomainError::Shape);
        }
        let host = if host.contains('*') {
            // The labels must be valid with a letter in place of each star: a star matches at least
            // one.
            Host::parse(&host.replace('*', "x")).map_err(|_| DomainError::Host)?;
            host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
        } else {
            Host::parse(host)
                .map_err(|_| DomainError::Host)?
                .as_str()
                .to_owned()
        };
        let path = if path == "/*" { "/" } else { path };
        match PathFault::find(path) {
            None => {}
            Some(PathFault::Stars) => return Err(DomainError::Stars),
            Some(_) => return Err(DomainError::Path),
        }
        if host.split('.').any(|label| label.matches('*').count() > 1) {
            return Err(DomainError::Stars);
        }
        Ok(Self {
            host: host.into(),
            path: path.into(),
        })
    }

    /// The host, in lower case, with its stars.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Returns the host, if it has no stars.
    pub fn exact_host(&self) -> Option<&str> {
        Some(&*self.host).filter(|host| !host.contains('*'))
    }

    /// The path with its stars; `/` for all paths.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Returns `true` if a plain path is covered.
    pub fn covers_path(&self, path: &str) -> bool {
        covers(
            self.path.as_bytes(),
            path.as_bytes(),
            &Alphabet::PLAIN,
            |one, other| one == other,
        )
    }

    /// Returns `true` if a plain path is covered when case is ignored.
    pub(super) fn covers_any_case(&self, path: &str) -> bool {
        covers(
            self.path.as_bytes(),
            path.as_bytes(),
            &Alphabet::PLAIN,
            |one, other| one.eq_ignore_ascii_case(&other),
        )
    }

    /// Returns `true` if a canonical host is covered.
    pub fn covers_host(&self, host: &str) -> bool {
        let (mut ours, mut theirs) = (self.host.split('.'), host.split('.'));
        loop {
            match (ours.next(), theirs.next()) {
                (None, None) => return true,
                (Some(pattern), Some(label)) if covers_label(pattern, label) => {}
                _ => return false,
            }
        }
    }

    /// Orders domains so that the more specific of two that cover the same place comes first: exact
    /// hosts, then longer ones; then longer paths; text in stead of stars in either.
    pub(super) fn specificity(&self) -> impl Ord + use<> {
        let literal = |text: &str| text.len() - text.matches('*').count();
        std::cmp::Reverse((
            !self.host.contains('*'),
            literal(&self.host),
            literal(&self.path),
            !self.path.contains('*'),
        ))
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.host)?;
        if *self.path == *"/" {
            Ok(())
        } else {
            f.write_str(&self.path)
        }
    }
}

fn covers_label(pattern: &str, label: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == label,
        Some((before, after)) => {
            label.len() >= before.len() + after.len()
                && label.starts_with(before)
                && label.ends_with(after)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_patterns_match_as_at_access() {
        for (pattern, yes, no) in [
            (
                "a.example.com",
                vec!["a.example.com"],
                vec!["b.example.com", "example.com", "x.a.example.com"],
            ),
            (
                "*.example.com",
                vec!["a.example.com"],
                vec!["example.com", "a.b.example.com", ".example.com.evil"],
            ),
            (
                "*test.example.com",
                vec!["test.example.com", "alphatest.example.com"],
                vec!["tests.example.com", "a.test.example.com"],
            ),
            (
                "a.*.example.com",
                vec!["a.b.example.com"],
                vec!["a.example.com", "b.b.example.com"],
            ),
            ("APP.Example.COM.", vec!["app.example.com"], vec![]),
        ] {
            let domain = Domain::parse(pattern).unwrap();
            for host in yes {
                assert!(domain.covers_host(host), "{pattern} covers {host}");
            }
            for host in no {
                assert!(!domain.covers_host(host), "{pattern} does not cover {host}");
            }
        }
    }

    #[test]
    fn path_patterns_match_as_at_access() {
        for (pattern, yes, no) in [
            ("h.x", vec!["/", "/a", "/a/b"], vec![]),
            ("h.x/*", vec!["/", "/a"], vec![]),
            (
                "h.x/alpha",
                vec!["/alpha", "/alpha/", "/alpha/b"],
                vec!["/alphabet", "/", "/a", "/ALPHA"],
            ),
            (
                "h.x/alpha/",
                vec!["/alpha/", "/alpha/b"],
                vec!["/alpha", "/alphabet"],
            ),
            (
                "h.x/alpha/*",
                vec!["/alpha/b", "/alpha/"],
                vec!["/alpha", "/alphabet"],
            ),
            (
                "h.x/foo*/bar",
                vec!["/food/stuff/bar", "/foo/bar", "/food/bar/x"],
                vec!["/food/barn", "/fo/bar", "/food"],
            ),
            (
                "h.x/a*/b*/c",
                vec!["/a1/b2/c", "/a/x/b/y/c"],
                vec!["/a/c", "/a/b/cd"],
            ),
            (
                "h.x/a*b",
                vec!["/ab", "/axxb", "/axb/c", "/abb"],
                vec!["/abc", "/ba"],
            ),
        ] {
            let domain = Domain::parse(pattern).unwrap();
            for path in yes {
                assert!(domain.covers_path(path), "{pattern} covers {path}");
            }
            for path in no {
                assert!(!domain.covers_path(path), "{pattern} does not cover {path}");
            }
        }
    }

    #[test]
    fn malformed_domain_is_rejected() {
        for bad in [
            "",
            "/",
            "https://h.x",
            "h.x:443",
            "h.x/a?b",
            "h.x/#a",
            "*.*x*.h",
            "**.h.x",
            "h.x/a**",
            "h.x//a",
            "h.x/../a",
            "h.x/a b",
            "h x",
            "h.x/a;b",
            "h.x/a.",
            "h.x/a./b",
            "h.x/a%20",
            "h.x/a%2Fb",
            "h.x/a%5Cb",
            "h.x/a%3Ab",
            "h.x/a%2Ab",
            "h.x/a%40b",
            "h.x/a%25b",
            "h.x/a%3Fb",
            "h.x/%61",
            "h.x/a//b",
            "h.x/%FF",
            "h.x/a%C3b",
            "h.x/a%C2%AD",
            "h.x/a%C2%A0",
            "h.x/%E3%80%80a/b",
            "h.x/%c3%a4",
            "h.x/%25C3%25A4",
        ] {
            assert!(Domain::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(
            Domain::parse("h.x/").unwrap(),
            Domain::parse("h.x").unwrap()
        );
        assert_eq!(Domain::parse("h.x/*").unwrap().to_string(), "h.x");
        for good in [
            "h.x/My%20Files",
            "h.x/%C3%A4",
            "h.x/report.*",
            "h.x/@scope",
            "h.x/.well-known",
            "h.x/a[b]",
        ] {
            assert!(Domain::parse(good).is_ok(), "{good}");
        }
    }
}
