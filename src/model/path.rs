use std::borrow::Cow;
use std::sync::LazyLock;

use thiserror::Error;

/// A path in the one form that is judged, matched and forwarded.
///
/// Dot segments are resolved, repeated slashes merged, unreserved characters decoded, and the remaining escapes upper-cased
/// (RFC 3986 §6.2.2). What origins are known to read in more than one way is refused, with two exceptions that real
/// applications need, `%2F` and `;parameters`: those are forwarded as they are, and [`CleanPath::readings`] gives both
/// readings, so that the router can insist that they lead to the same place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CleanPath<'a> {
    canonical: Cow<'a, str>,
    decoded: Option<Box<str>>,
}

/// Why a path was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PathError {
    /// It does not begin with a slash.
    #[error("the path is not absolute")]
    NotAbsolute,
    /// A byte that no path may hold: a control character, a backslash, a fragment, a byte beyond ASCII.
    #[error("the path holds a byte that it must not")]
    Byte,
    /// A `%` that is not followed by two hexadecimal digits, or escapes that are not UTF-8.
    #[error("the path holds a malformed escape")]
    Escape,
    /// An escape of an escape that would become a dot, a slash or a control character.
    #[error("the path is encoded twice")]
    EncodedTwice,
    /// A dot segment hidden behind `%2F` or `;`, or an escaped space at the edge of a segment.
    #[error("the path can be read in more than one way")]
    Ambiguous,
}

impl<'a> CleanPath<'a> {
    /// Reads the path of a request target, without its query.
    ///
    /// # Errors
    /// See [`PathError`]; each is answered with 400.
    pub fn parse(raw: &'a str) -> Result<Self, PathError> {
        if !raw.starts_with('/') {
            return Err(PathError::NotAbsolute);
        }
        if is_canonical(raw.as_bytes()) {
            return Ok(Self { canonical: Cow::Borrowed(raw), decoded: None });
        }
        canonicalise(raw)
    }

    /// What is forwarded.
    pub fn as_str(&self) -> &str {
        &self.canonical
    }

    /// The ways in which an origin may read this path: itself, and where it holds `%2F` or `;` also the path with the
    /// slash decoded and the parameters dropped.
    pub fn readings(&self) -> (&str, Option<&str>) {
        (&self.canonical, self.decoded.as_deref())
    }

    /// Whether the canonical path differs from what was sent, so that the request line must be rewritten.
    pub fn is_rewritten(&self) -> bool {
        matches!(self.canonical, Cow::Owned(_))
    }
}

/// Whether the path is its own canonical form, as nearly every path is: plain bytes, no empty segment, no dot segment.
fn is_canonical(path: &[u8]) -> bool {
    let (table, mut before) = (&*PLAIN, 0);
    let (mut plain, mut suspect) = (true, false);
    for &byte in path {
        plain &= table.get(usize::from(byte)) == Some(&true);
        suspect |= before == b'/' && matches!(byte, b'/' | b'.');
        before = byte;
    }
    let hidden = |segment: &[u8]| matches!(segment, b"" | b"." | b"..");
    let segments = || path.get(1..path.len() - usize::from(path.ends_with(b"/"))).unwrap_or_default();
    plain && (!suspect || !segments().split(|byte| *byte == b'/').any(hidden))
}

const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// The slash, and bytes that stand for themselves and mean nothing else to anybody.
const fn is_plain(byte: u8) -> bool {
    is_unreserved(byte)
        || matches!(byte, b'/' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b'=' | b':' | b'@')
}

/// [`is_plain`] of every byte: paths are read on every request.
static PLAIN: LazyLock<[bool; 256]> =
    LazyLock::new(|| std::array::from_fn(|byte| u8::try_from(byte).is_ok_and(is_plain)));

fn canonicalise(raw: &str) -> Result<CleanPath<'_>, PathError> {
    let mut kept: Vec<Segment> = Vec::new();
    let mut open = false;
    for raw in raw.split('/').skip(1) {
        let segment = Segment::parse(raw)?;
        match segment.canonical.as_str() {
            "" | "." => open = true,
            ".." => {
                kept.pop();
                open = true;
            }
            _ => {
                kept.push(segment);
                open = false;
            }
        }
    }
    let join = |part: fn(&Segment) -> &str| {
        let mut path = String::with_capacity(raw.len());
        for segment in &kept {
            path.push('/');
            path.push_str(part(segment));
        }
        if open || path.is_empty() {
            path.push('/');
        }
        path
    };
    let canonical = join(|s| &s.canonical);
    let decoded = kept.iter().any(|s| s.decoded.is_some()).then(|| {
        let mut path = join(|s| s.decoded.as_deref().unwrap_or(&s.canonical));
        while let Some(at) = path.find("//") {
            path.remove(at);
        }
        path.into_boxed_str()
    });
    let canonical = if canonical == raw { Cow::Borrowed(raw) } else { Cow::Owned(canonical) };
    Ok(CleanPath { canonical, decoded })
}

struct Segment {
    canonical: String,
    /// With `%2F` decoded and parameters dropped, where there are any.
    decoded: Option<String>,
}

impl Segment {
    fn parse(raw: &str) -> Result<Self, PathError> {
        let mut canonical = String::with_capacity(raw.len());
        let mut octets = Vec::with_capacity(raw.len());
        let mut bytes = raw.bytes();
        while let Some(byte) = bytes.next() {
            match byte {
                b'%' => {
                    let octet = escape(&mut bytes).ok_or(PathError::Escape)?;
                    match octet {
                        0..0x20 | 0x7f | b'\\' => return Err(PathError::Byte),
                        _ if is_unreserved(octet) => canonical.push(char::from(octet)),
                        _ => {
                            canonical.push('%');
                            canonical.push_str(&crate::model::hex(&[octet]).to_ascii_uppercase());
                        }
                    }
                    octets.push(octet);
                }
                0..=0x20 | 0x7f.. | b'\\' | b'#' => return Err(PathError::Byte),
                _ => {
                    canonical.push(char::from(byte));
                    octets.push(byte);
                }
            }
        }
        let twice = |(at, _): (usize, &str)| {
            canonical.get(at + 3..).and_then(|rest| escape(&mut rest.bytes())).is_some_and(is_treacherous)
        };
        if canonical.match_indices("%25").any(twice) {
            return Err(PathError::EncodedTwice);
        }
        let text = String::from_utf8(octets).map_err(|_| PathError::Escape)?;
        if text.starts_with(' ') || text.ends_with(' ') {
            return Err(PathError::Ambiguous);
        }
        // A proxy on the way that decodes `%3B` hands the origin a parameter.
        let name = canonical.split(';').next().and_then(|name| name.split("%3B").next()).unwrap_or_default();
        if !canonical.contains("%2F") && name.len() == canonical.len() {
            return Ok(Self { canonical, decoded: None });
        }
        // A slash inside a parameter has a third reading: decoded first, it ends the parameter.
        if canonical.get(name.len()..).is_some_and(|parameters| parameters.contains("%2F")) {
            return Err(PathError::Ambiguous);
        }
        let decoded = name.replace("%2F", "/");
        let hides_dots =
            decoded.split('/').any(|s| matches!(s, "." | "..") || s.ends_with("%20") || s.starts_with("%20"));
        let bare = canonical.replace("%3B", ";").replace("%2F", "/");
        let hides_more = bare.split([';', '/']).any(|s| matches!(s, "." | ".."));
        if hides_dots || hides_more {
            return Err(PathError::Ambiguous);
        }
        Ok(Self { canonical, decoded: Some(decoded) })
    }
}

fn escape(bytes: &mut std::str::Bytes<'_>) -> Option<u8> {
    let digit = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let (high, low) = (digit(bytes.next()?)?, digit(bytes.next()?)?);
    Some(high * 16 + low)
}

/// What an escape of an escape must not become.
const fn is_treacherous(octet: u8) -> bool {
    is_unreserved(octet) || matches!(octet, 0..=0x20 | 0x7f | b'/' | b'\\' | b'%' | b';')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn clean(raw: &str) -> Result<String, PathError> {
        CleanPath::parse(raw).map(|p| p.as_str().to_owned())
    }

    #[test]
    fn canonical_paths_are_borrowed() {
        for path in [
            "/",
            "/a",
            "/a/",
            "/a/b.c",
            "/.well-known/x",
            "/...",
            "/a..b/c",
            "/a/.b",
            "/@scope/a:b,c=d",
            "/My%20File",
            "/%C3%A4",
        ] {
            let parsed = CleanPath::parse(path).unwrap();
            assert_eq!(parsed.as_str(), path);
            assert!(!parsed.is_rewritten(), "{path}");
        }
    }

    #[test]
    fn p04_p05_p09_p13_one_form() {
        for (raw, canonical) in [
            ("/public/../admin/secrets", "/admin/secrets"),
            ("/public/%2e%2e/admin", "/admin"),
            ("/public/.%2E/admin/.", "/admin/"),
            ("//admin/secret", "/admin/secret"),
            ("///admin", "/admin"),
            ("/%61dmin/x", "/admin/x"),
            ("/a/..", "/"),
            ("/../../a", "/a"),
            ("/a//", "/a/"),
            ("/%c3%a4", "/%C3%A4"),
            ("/100%25", "/100%25"),
        ] {
            assert_eq!(clean(raw).as_deref(), Ok(canonical), "{raw}");
        }
    }

    #[test]
    fn p03_p05_p06_p11_p12_p25_refused() {
        for raw in [
            "",
            "a",
            "*",
            "/public/#/../admin",
            "/public/%2e%2e%2fadmin",
            "/public/..%2fadmin",
            "/public/%252e%252e/admin",
            "/a%252fb",
            "/a%25%32%66b",
            "/%2561dmin",
            "/%25%36%31dmin",
            "/public\\..\\admin",
            "/public/%5c..%5cadmin",
            "/admin%00.png",
            "/admin%0a",
            "/admin%09",
            "/admin%20",
            "/%20admin",
            "/admin%7f",
            "/public/a;x%2Fadmin",
            "/public/a%3B%2fadmin",
            "/public/..;/admin",
            "/public/..%3b/admin",
            "/public/..%3Ba=b/admin",
            "/public/..;a=b/admin",
            "/a;/../../b/..;x",
            "/a;..",
            "/%ff",
            "/%c3",
            "/%",
            "/%4",
            "/%zz",
            "/\u{e4}",
            "/a b",
            "/a\tb",
            "/a;%2F../b",
            "/.%2Fa",
            "/a/;/%2e%2e;/b",
        ] {
            assert!(clean(raw).is_err(), "{raw:?} became {:?}", clean(raw));
        }
    }

    #[test]
    fn p08_two_readings() {
        for (raw, decoded) in [
            ("/admin;jsessionid=1", "/admin"),
            ("/admin;a=b/", "/admin/"),
            ("/admin%3bjsessionid=1", "/admin"),
            ("/a%2Fb%3Bx/c", "/a/b/c"),
            ("/api/group%2fproject", "/api/group/project"),
            ("/public%2F/admin;x", "/public/admin"),
            ("/%2Fadmin", "/admin"),
        ] {
            let path = CleanPath::parse(raw).unwrap();
            assert_eq!(path.readings().1, Some(decoded), "{raw}");
        }
        assert_eq!(CleanPath::parse("/api/group%2fproject").unwrap().as_str(), "/api/group%2Fproject");
    }

    proptest! {
        #[test]
        fn a_canonical_path_is_a_fixed_point(raw in "/([a.%;/ 2eEfF5cC\\\\]|%2e|%2F|%25|%32|%66|\\.\\.|//){0,24}") {
            if let Ok(path) = CleanPath::parse(&raw) {
                let text = path.as_str();
                prop_assert!(text.starts_with('/') && !text.contains("//"));
                prop_assert!(!text.split('/').any(|s| s == "." || s == ".."));
                let again = CleanPath::parse(text).unwrap();
                prop_assert!(!again.is_rewritten());
                prop_assert_eq!(again.readings(), path.readings());
                // Neither does the other reading hide anything.
                if let Some(other) = path.readings().1 {
                    prop_assert!(!other.split('/').any(|s| s == "." || s == ".."), "{} reads {}", raw, other);
                }
            }
        }

        #[test]
        fn no_input_panics(raw in ".{0,60}") {
            let _ = CleanPath::parse(&raw);
        }
    }
}
