use serde::{Deserialize, Serialize};

use crate::model::CleanPath;

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
