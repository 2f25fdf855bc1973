use serde::{Deserialize, Serialize};

use super::LOGGED_OUT;
use crate::engine::Snapshot;
use crate::model::{Authority, CleanPath};

/// Where to go after a login: a canonical path and its query, on a host that comes from elsewhere. It cannot name a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String")]
pub(crate) struct ReturnTo(String);

impl ReturnTo {
    /// Reads a path with an optional query; anything else is the application's front page.
    pub(crate) fn parse(text: &str) -> Self {
        let (path, query) = text.split_once('?').map_or((text, None), |(path, query)| (path, Some(query)));
        let visible = |query: &str| {
            query.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'#' | b'\\' | b'"' | b'<' | b'>'))
        };
        let path = CleanPath::parse(path).ok().filter(|_| text.len() <= MAX_BYTES && query.is_none_or(visible));
        match (path, query) {
            // `//host` and `/\host` never come out of a canonical path.
            (Some(path), Some(query)) => Self(format!("{}?{query}", path.as_str())),
            (Some(path), None) => Self(path.as_str().to_owned()),
            (None, _) => Self("/".to_owned()),
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for ReturnTo {
    fn from(text: String) -> Self {
        Self::parse(&text)
    }
}

/// Where to go after a logout: a page on the team domain or on an application's host, by the team's own scheme and port. It
/// cannot name any other place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Landing {
    host: String,
    url: String,
}

impl Landing {
    /// Reads a path on `host`, or an address in full; `None` for whatever leads elsewhere or can be read in two ways.
    pub(crate) fn parse(text: &str, host: &str, snapshot: &Snapshot) -> Option<Self> {
        let team = snapshot.team();
        if !text.bytes().all(|b| b.is_ascii_graphic() && b != b'\\') {
            return None;
        }
        let (host, page) = if text.starts_with('/') {
            (host.to_owned(), text)
        } else {
            let rest = text.strip_prefix(if team.plain_http { "http://" } else { "https://" })?;
            let (authority, page) = rest.split_at_checked(rest.find(['/', '?', '#']).unwrap_or(rest.len()))?;
            // It knows no user information.
            let authority = Authority::parse(authority).ok()?;
            if !team.is_served_on(authority.port.unwrap_or(if team.plain_http { 80 } else { 443 })) {
                return None;
            }
            (authority.host.into_owned(), page)
        };
        let known = *host == *team.domain.as_str() || snapshot.router().knows_host(&host);
        if !known || page.starts_with("//") {
            return None;
        }
        let page = page.split('#').next().unwrap_or_default();
        let page = if page.starts_with('/') { ReturnTo::parse(page) } else { ReturnTo::parse(&format!("/{page}")) };
        Some(Self { url: format!("{}{}", team.url_of(&host), page.as_str()), host })
    }

    /// Where Access leaves those who sign out: the front page of the host, which is told so. `None` where there is none.
    pub(crate) fn front_page(host: &str, snapshot: &Snapshot) -> Option<Self> {
        let team = snapshot.team();
        let there = *host == *team.domain.as_str() || snapshot.router().find(host, "/").is_some();
        there.then(|| Self { host: host.to_owned(), url: format!("{}/?{LOGGED_OUT}", team.url_of(host)) })
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.url
    }

    /// Whether it stays on that host.
    pub(crate) fn is_on(&self, host: &str) -> bool {
        self.host == host
    }
}

/// Longer ones would not come back: five logins at once must fit into what a browser sends.
const MAX_BYTES: usize = 2048;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r01_only_paths() {
        for (text, expected) in [
            ("/a/b?c=d&e=/f", "/a/b?c=d&e=/f"),
            ("/", "/"),
            ("/a%20b", "/a%20b"),
            ("/?next=//evil.com", "/?next=//evil.com"),
            ("//evil.com", "/evil.com"),
            ("///evil.com/%2f..", "/"),
            ("/\\evil.com", "/"),
            ("/%09/evil.com", "/"),
            ("/\t/evil.com", "/"),
            ("/%0d/evil.com", "/"),
            ("/%5cevil.com", "/"),
            ("https:evil.com", "/"),
            ("http:/\\evil.com", "/"),
            ("https://app.example.com@evil.com", "/"),
            ("https://app.example.com.evil.com", "/"),
            ("javascript:alert(1)", "/"),
            ("java%0ascript:alert(1)", "/"),
            ("data:text/html,x", "/"),
            ("\u{3035}evil.com", "/"),
            ("evil.com", "/"),
            ("", "/"),
            ("/a#b", "/"),
            ("/a?b\r\nSet-Cookie: x", "/"),
            ("/a?\u{e4}", "/"),
        ] {
            assert_eq!(ReturnTo::parse(text).as_str(), expected, "{text:?}");
        }
        assert_eq!(ReturnTo::parse(&format!("/{}", "a".repeat(3000))).as_str(), "/");
    }
}
