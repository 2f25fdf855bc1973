use std::net::IpAddr;

use cookie::{Cookie, Expiration, SameSite, time};
use http::HeaderValue;

/// Returns `Set-Cookie` values that make a browser forget a cookie of a request, even if another
/// host set it.
///
/// A cookie is replaced only by one with the same name, `Domain` and `Path` (RFC 6265 5.3). A
/// request does not show the last two, so each combination is expired that could have brought the
/// cookie here: no `Domain`, the host and each of its parent domains; each prefix of the path, with
/// and without a slash at its end. Browsers ignore those that name a public suffix.
///
/// The answer must stay small enough for proxies on the way. Of more than 24 combinations, those
/// for the root and for the whole path come first.
pub fn expire_everywhere(name: &str, host: &str, path: &str) -> Vec<HeaderValue> {
    let domains: Vec<_> = [None]
        .into_iter()
        .chain(domains(host).map(Some))
        .take(MAX_DOMAINS)
        .collect();
    let combinations = paths(path)
        .into_iter()
        .flat_map(|path| domains.iter().map(move |domain| (*domain, path)));
    let lines = combinations
        .take(MAX_LINES)
        .filter_map(|(domain, path)| expired(name, domain, path));
    let within = |bytes: &mut usize, line: HeaderValue| {
        *bytes += line.len();
        (*bytes <= MAX_BYTES).then_some(line)
    };
    lines.scan(0, within).collect()
}

/// Yields the host and its parent domains. An IP address has none (RFC 6265 5.1.3).
fn domains(host: &str) -> impl Iterator<Item = &str> {
    let host = host.trim_end_matches('.');
    let is_address = host.starts_with('[') || host.parse::<IpAddr>().is_ok();
    let first = Some(host).filter(|host| !is_address && !host.is_empty());
    std::iter::successors(first, |domain| {
        domain.split_once('.').map(|(_, parent)| parent)
    })
}

/// Returns the values of `Path` that cover a path (RFC 6265 5.1.4).
fn paths(path: &str) -> Vec<&str> {
    // A `;` would end the attribute. Nothing covers such a path that could be written down.
    let path = path
        .split(|c: char| c == ';' || !c.is_ascii_graphic())
        .next()
        .unwrap_or_default();
    let mut prefixes = vec!["/", path];
    for (at, _) in path.match_indices('/').skip(1) {
        prefixes.extend(path.get(..at).into_iter().chain(path.get(..=at)));
    }
    let mut seen = std::collections::HashSet::new();
    prefixes.retain(|prefix| {
        prefix.starts_with('/') && prefix.len() <= MAX_PATH && seen.insert(*prefix)
    });
    prefixes
}

/// Returns a `Set-Cookie` that expires the cookie. `SameSite=None`, because browsers ignore other
/// cookies in responses to cross-site requests.
fn expired(name: &str, domain: Option<&str>, path: &str) -> Option<HeaderValue> {
    let cookie = Cookie::build((name, ""))
        .path(path)
        .secure(true)
        .same_site(SameSite::None);
    let cookie = cookie
        .expires(Expiration::from(time::OffsetDateTime::UNIX_EPOCH))
        .max_age(time::Duration::ZERO);
    let cookie = if let Some(domain) = domain {
        cookie.domain(domain)
    } else {
        cookie
    };
    HeaderValue::try_from(cookie.build().to_string()).ok()
}

/// Proxies commonly have room for 4 to 8 KiB of headers in all.
const MAX_LINES: usize = 24;
// The lines alone stay within the smaller of these limits.
const MAX_BYTES: usize = 4_096;
// Real hosts have fewer labels. The number of lines is domains times paths.
const MAX_DOMAINS: usize = 8;
// A cookie for a longer path is rare, and each prefix is another line.
const MAX_PATH: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn expired_for(host: &str, path: &str) -> Vec<String> {
        let lines = expire_everywhere("CF_Authorization", host, path);
        let lines = lines.iter().map(|line| line.to_str().unwrap().to_owned());
        let of = |line: &str, name: &str| {
            line.split("; ")
                .find_map(|part| part.strip_prefix(name)?.strip_prefix('='))
                .unwrap_or("-")
                .to_owned()
        };
        lines
            .map(|line| format!("{} {}", of(&line, "Domain"), of(&line, "Path")))
            .collect()
    }

    #[test]
    fn every_domain_and_path_that_covers_the_request_is_expired() {
        let wiki = ["-", "wiki.example.com", "example.com", "com"];
        let expected = |paths: &[&str]| -> Vec<String> {
            paths
                .iter()
                .flat_map(|path| wiki.iter().map(move |domain| format!("{domain} {path}")))
                .collect()
        };
        assert_eq!(expired_for("wiki.example.com", "/"), expected(&["/"]));
        assert_eq!(
            expired_for("wiki.example.com", "/a"),
            expected(&["/", "/a"])
        );
        assert_eq!(
            expired_for("wiki.example.com", "/a/b"),
            expected(&["/", "/a/b", "/a", "/a/"])
        );
    }

    #[test]
    fn expiring_line_removes_the_cookie() {
        let line = expire_everywhere("CF_Authorization", "app.localhost", "/").remove(1);
        assert_eq!(
            line,
            "CF_Authorization=; SameSite=None; Secure; Path=/; Domain=app.localhost; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT"
        );
    }

    #[test]
    fn ip_address_has_no_parent_domains() {
        assert_eq!(expired_for("127.0.0.1", "/"), ["- /"]);
        assert_eq!(expired_for("[::1]", "/"), ["- /"]);
    }

    #[test]
    fn long_request_makes_no_large_response() {
        let host = vec!["a"; 120].join(".");
        for path in [
            "/".repeat(9_000),
            "/a".repeat(4_000),
            format!("/{}", "a".repeat(9_000)),
            "/ü;x=y/z".to_owned(),
        ] {
            let lines = expire_everywhere("CF_Authorization", &host, &path);
            let bytes: usize = lines.iter().map(HeaderValue::len).sum();
            assert!(
                !lines.is_empty() && lines.len() <= MAX_LINES && bytes <= MAX_BYTES,
                "{} lines, {bytes} bytes",
                lines.len()
            );
        }
    }

    #[test]
    fn path_cannot_add_an_attribute() {
        for line in expire_everywhere(
            "CF_Authorization",
            "wiki.example.com",
            "/a;Domain=evil.example/b",
        ) {
            assert!(!line.to_str().unwrap().contains("evil"), "{line:?}");
        }
    }
}
