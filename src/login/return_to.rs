use serde::{Deserialize, Serialize};

use super::LOGGED_OUT;
use crate::engine::Snapshot;
use crate::model::{Authority, CleanPath};

/// The page after a login: a canonical path and its query. It cannot name a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String")]
pub(crate) struct ReturnTo(String);

impl ReturnTo {
    /// Parses a path with an optional query. Returns the front page for any other text.
    pub(crate) fn parse(text: &str) -> Self {
        Self::read(text).unwrap_or_else(|_| Self("/".to_owned()))
    }

    /// Parses a path with an optional query.
    ///
    /// # Errors
    /// If the text is too long, or is not a path.
    pub(crate) fn read(text: &str) -> Result<Self, ReturnToError> {
        let (path, query) = text
            .split_once('?')
            .map_or((text, None), |(path, query)| (path, Some(query)));
        let path = CleanPath::parse(path).map_err(|_| ReturnToError::Malformed)?;
        // Browsers compare a cookie's path with the text of the URL. The normalized form begins
        // with the application's path.
        let mut to = path.normalized().into_owned();
        // A clean path never begins with `//` or `/\\`, and must not after another decoding.
        if to
            .get(1..4)
            .is_some_and(|start| matches!(&*start.to_ascii_lowercase(), "%2f" | "%5c"))
        {
            return Err(ReturnToError::Malformed);
        }
        if let Some(query) = query {
            to.push('?');
            for byte in query.bytes() {
                match byte {
                    // Browsers escape these.
                    b'"' | b'<' | b'>' => to.push_str(&format!("%{byte:02X}")),
                    b'#' => return Err(ReturnToError::Malformed),
                    _ if byte.is_ascii_graphic() => to.push(char::from(byte)),
                    _ => return Err(ReturnToError::Malformed),
                }
            }
        }
        if to.len() > MAX_BYTES {
            Err(ReturnToError::TooLong)
        } else {
            Ok(Self(to))
        }
    }

    /// Returns `true` if some servers would reject a URL that contains it.
    pub(crate) fn is_long(&self) -> bool {
        self.0.len() > LONG_BYTES
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// The reason why a login could not come back to a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReturnToError {
    /// Longer than 6 KiB.
    TooLong,
    /// Not a path with a query.
    Malformed,
}

impl From<String> for ReturnTo {
    fn from(text: String) -> Self {
        Self::parse(&text)
    }
}

/// The page after a logout: on the team domain or on an application's host, with the team's scheme
/// and port. It cannot name any other host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Landing {
    host: String,
    url: String,
}

impl Landing {
    /// Parses a path on `host` or a full URL; `None` if it leads elsewhere or is ambiguous.
    pub(crate) fn parse(text: &str, host: &str, snapshot: &Snapshot) -> Option<Self> {
        let team = snapshot.team();
        if !text.bytes().all(|b| b.is_ascii_graphic() && b != b'\\') {
            return None;
        }
        let (host, page) = if text.starts_with('/') {
            (host.to_owned(), text)
        } else {
            let rest = text.strip_prefix(if team.plain_http {
                "http://"
            } else {
                "https://"
            })?;
            let (authority, page) =
                rest.split_at_checked(rest.find(['/', '?', '#']).unwrap_or(rest.len()))?;
            // This rejects user information.
            let authority = Authority::parse(authority).ok()?;
            if !team.is_served_on(
                authority
                    .port
                    .unwrap_or(if team.plain_http { 80 } else { 443 }),
            ) {
                return None;
            }
            (authority.host.into_owned(), page)
        };
        let known = *host == *team.domain.as_str() || snapshot.router().knows_host(&host);
        if !known || page.starts_with("//") {
            return None;
        }
        let page = page.split('#').next().unwrap_or_default();
        let page = if page.starts_with('/') {
            ReturnTo::parse(page)
        } else {
            ReturnTo::parse(&format!("/{page}"))
        };
        Some(Self {
            url: format!("{}{}", team.url_of(&host), page.as_str()),
            host,
        })
    }

    /// Returns the host's front page, on which a logout ends in Access; `None` if the host has none.
    pub(crate) fn front_page(host: &str, snapshot: &Snapshot) -> Option<Self> {
        let team = snapshot.team();
        let there = *host == *team.domain.as_str() || snapshot.router().find(host, "/").is_some();
        there.then(|| Self {
            host: host.to_owned(),
            url: format!("{}/?{LOGGED_OUT}", team.url_of(host)),
        })
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.url
    }

    /// Returns `true` if the page is on that host.
    pub(crate) fn is_on(&self, host: &str) -> bool {
        self.host == host
    }
}

/// Escaped in the login's URL, it has up to three times as many bytes, which must fit into a request
/// line that we accept.
const MAX_BYTES: usize = 6 * 1024;
/// Sealed in the `state` for a provider, it makes a request line of 3 KiB. Many servers accept
/// 8 KiB.
const LONG_BYTES: usize = 2 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r01_return_to_accepts_paths_only() {
        for (text, expected) in [
            ("/a/b?c=d&e=/f", "/a/b?c=d&e=/f"),
            ("/", "/"),
            ("/a%20b", "/a%20b"),
            ("/?next=//evil.com", "/?next=//evil.com"),
            ("//evil.com", "/"),
            ("///evil.com/%2f..", "/"),
            ("/\\evil.com", "/"),
            ("/%09/evil.com", "/"),
            ("/\t/evil.com", "/"),
            ("/%0d/evil.com", "/"),
            ("/%5cevil.com", "/"),
            ("/%2fevil.com", "/"),
            ("/%2Fevil.com", "/"),
            ("/a?b=\\c", "/a?b=\\c"),
            ("/a?b=\"<c>", "/a?b=%22%3Cc%3E"),
            ("/%61dmin/x%2fy//z", "/admin/x%2fy//z"),
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
    }

    #[test]
    fn page_of_six_kibibytes_is_accepted() {
        let page = |bytes: usize| format!("/{}", "a".repeat(bytes - 1));
        assert_eq!(
            ReturnTo::read(&page(6144)).map(|to| to.as_str().len()),
            Ok(6144)
        );
        assert_eq!(ReturnTo::read(&page(6145)), Err(ReturnToError::TooLong));
        assert!(!ReturnTo::parse(&page(2048)).is_long() && ReturnTo::parse(&page(2049)).is_long());
    }
}
