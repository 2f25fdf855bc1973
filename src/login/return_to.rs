use serde::{Deserialize, Serialize};

use super::LOGGED_OUT;
use crate::engine::Snapshot;
use crate::model::{CleanPath, HostPort};

/// Where to go after a login: a canonical path and its query, on a host that comes from elsewhere.
/// It cannot name a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String")]
pub(crate) struct ReturnTo(String);

impl ReturnTo {
    /// Reads a path with an optional query; anything else is the application's front page.
    pub(crate) fn parse(text: &str) -> Self {
        Self::read(text).unwrap_or_else(|_| Self("/".to_owned()))
    }

    /// Reads a path with an optional query.
    ///
    /// # Errors
    /// Text that is too long to come back to, or that is no path.
    pub(crate) fn read(text: &str) -> Result<Self, ReturnToError> {
        let (path, query) = text
            .split_once('?')
            .map_or((text, None), |(path, query)| (path, Some(query)));
        let path = CleanPath::parse(path).map_err(|_| ReturnToError::Malformed)?;
        // Browsers confine a cookie to a path by its text. In this form it begins as its
        // application's path does.
        let mut to = path.normalized().into_owned();
        // `//host` and `/\\host` never come out of a clean path, and must not be decoded from one.
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
                    // As browsers send them.
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

    /// Returns `true` if some servers on the way would not take it as a part of an address.
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
    /// It is no path with a query.
    Malformed,
}

impl From<String> for ReturnTo {
    fn from(text: String) -> Self {
        Self::parse(&text)
    }
}

/// Where to go after a logout: a page on the team domain or on an application's host, by the team's
/// own scheme and port. It cannot name any other place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Landing {
    host: String,
    url: String,
}

impl Landing {
    /// Reads a path on `host`, or an address in full; `None` for whatever leads elsewhere or can be
    /// read in two ways.
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
            // It knows no user information.
            let authority = HostPort::parse(authority).ok()?;
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

    /// Where Access leaves those who sign out: the front page of the host, which is told so. `None`
    /// where there is none.
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

    /// Whether it stays on that host.
    pub(crate) fn is_on(&self, host: &str) -> bool {
        self.host == host
    }
}

/// Escaped in the address of the login, three times as many must fit into a request line that we
/// take.
const MAX_BYTES: usize = 6 * 1024;
/// Sealed in the `state` that a provider gets, it makes a request line of 3 KiB; many servers take
/// 8 KiB.
const LONG_BYTES: usize = 2 * 1024;

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
    fn pages_of_six_kibibytes_are_returned_to() {
        let page = |bytes: usize| format!("/{}", "a".repeat(bytes - 1));
        assert_eq!(
            ReturnTo::read(&page(6144)).map(|to| to.as_str().len()),
            Ok(6144)
        );
        assert_eq!(ReturnTo::read(&page(6145)), Err(ReturnToError::TooLong));
        assert!(!ReturnTo::parse(&page(2048)).is_long() && ReturnTo::parse(&page(2049)).is_long());
    }
}
