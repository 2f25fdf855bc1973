use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};
use smallvec::SmallVec;

/// The values of every cookie of that name, over all `Cookie` lines (HTTP/2 may split them, RFC
/// 9113 §8.2.3), in order. A value that is not text is passed over.
pub fn values<'a>(headers: &'a HeaderMap, name: &'a str) -> impl Iterator<Item = &'a str> {
    octets(headers, name).filter_map(|value| std::str::from_utf8(value).ok())
}

/// The same, whatever the values are.
pub fn octets<'a>(headers: &'a HeaderMap, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    let lines = headers
        .get_all(COOKIE)
        .into_iter()
        .flat_map(|line| pairs(line.as_bytes()));
    lines.filter_map(move |pair| pair.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
}

/// Returns the `Cookie` lines without the cookies that `drop` names: `None` if nothing changes,
/// else one line, or none if no cookie is left.
pub fn without(headers: &HeaderMap, drop: impl Fn(&str) -> bool) -> Option<Option<HeaderValue>> {
    let dropped = |pair: &[u8]| {
        let name = pair.split(|b| *b == b'=').next().unwrap_or_default();
        std::str::from_utf8(name).is_ok_and(&drop)
    };
    let mut changes = false;
    let mut kept: SmallVec<[u8; 256]> = SmallVec::new();
    for pair in headers
        .get_all(COOKIE)
        .into_iter()
        .flat_map(|line| pairs(line.as_bytes()))
    {
        if dropped(pair) {
            changes = true;
            continue;
        }
        if !kept.is_empty() {
            kept.extend_from_slice(b"; ");
        }
        kept.extend_from_slice(pair);
    }
    let line = || {
        if kept.is_empty() {
            None
        } else {
            HeaderValue::from_bytes(&kept).ok()
        }
    };
    changes.then(line)
}

fn pairs(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(line);
    std::iter::from_fn(move || {
        let line = rest?;
        let pair = match memchr::memchr(b';', line).and_then(|at| line.split_at_checked(at)) {
            Some((pair, tail)) => {
                rest = tail.get(1..);
                pair
            }
            None => {
                rest = None;
                line
            }
        };
        Some(pair.trim_ascii())
    })
    .filter(|pair| !pair.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[&str]) -> HeaderMap {
        lines
            .iter()
            .map(|line| (COOKIE, HeaderValue::from_bytes(line.as_bytes()).unwrap()))
            .collect()
    }

    #[test]
    fn s05_only_whole_names_in_their_place() {
        let found = |lines: &[&str]| {
            values(&headers(lines), "CF_Authorization")
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        assert_eq!(found(&["CF_Authorization=a"]), ["a"]);
        assert_eq!(
            found(&["x=1;CF_Authorization=a=b; y=2", "CF_Authorization=c"]),
            ["a=b", "c"]
        );
        assert_eq!(found(&["CF_Authorization="]), [""]);
        for line in [
            "",
            ";;;",
            "xCF_Authorization=a",
            "CF_Authorizationx=a",
            "x=\"; CF_Authorization\"",
            "x=CF_Authorization=a",
            "cf_authorization=a",
            "CF_Authorization",
            "CF_Authorization =a",
            "$Version=1",
        ] {
            assert!(found(&[line]).is_empty(), "{line}");
        }
        assert_eq!(found(&[&"a=b; ".repeat(300)]).len(), 0);
    }

    #[test]
    fn only_our_cookies_are_removed() {
        let left = |lines: &[&str]| {
            without(&headers(lines), super::super::is_ours)
                .map(|line| line.map(|l| l.to_str().unwrap().to_owned()))
        };
        assert_eq!(left(&["a=1; b=2"]), None);
        assert_eq!(left(&[]), None);
        assert_eq!(left(&["CF_Authorization=x"]), Some(None));
        assert_eq!(
            left(&[
                "a=1; CF_Authorization=x; b=\"2; c\"",
                "CF_AppSession=y; d=3"
            ]),
            Some(Some("a=1; b=\"2; c\"; d=3".to_owned()))
        );
        assert_eq!(
            left(&["CF_Binding=x; CF_AuthorizationX=1"]),
            Some(Some("CF_AuthorizationX=1".to_owned()))
        );
    }
}
