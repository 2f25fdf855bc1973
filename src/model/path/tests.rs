use proptest::prelude::*;

use super::*;

fn clean(raw: &str) -> Result<String, PathError> {
    CleanPath::parse(raw).map(|p| p.as_str().to_owned())
}

#[test]
fn plain_paths_are_borrowed() {
    for path in [
        "/",
        "/a",
        "/a/",
        "/a/b.c",
        "/.well-known/x",
        "/a..b/c",
        "/a/.b",
        "/@scope/a,b,c=d",
        "/a...b/c",
    ] {
        let parsed = CleanPath::parse(path).unwrap();
        assert_eq!(
            (parsed.as_str(), parsed.is_plain(), parsed.is_rewritten()),
            (path, true, false)
        );
    }
}

#[test]
fn bytes_of_the_client_are_kept() {
    for path in [
        "/My%20File",
        "/%C3%A4",
        "/%c3%a4",
        "/...",
        "/a//b",
        "/300x200/https://img.test/a.png",
        "/job/x/feature%252Flogin",
        "/users/CORP%5Cada",
        "/docs/caf%E9.html",
        "/%ff",
        "/public/%c3%28",
        "/%ed%a0%80",
        "/admin%20",
        "/admin.",
        "/admin::$DATA",
        "/a%2fb;c/%61",
        "/100%25",
        "/100%25ab",
        "/a%2520b",
        "/a%3Fb%23",
        "/%2Fadmin",
    ] {
        let parsed = CleanPath::parse(path).unwrap();
        assert_eq!(
            (parsed.as_str(), parsed.is_plain(), parsed.is_rewritten()),
            (path, false, false)
        );
    }
}

#[test]
fn p04_p05_dot_segments_are_resolved() {
    for (raw, resolved) in [
        ("/public/../admin/secrets", "/admin/secrets"),
        ("/public/%2e%2e/admin", "/admin"),
        ("/public/.%2E/admin/.", "/admin/"),
        ("/a/..", "/"),
        ("/../../a", "/a"),
        ("/a/./b", "/a/b"),
        ("/a//../b", "/b"),
        ("/a///../../b", "/b"),
        ("/a/b//../c", "/a/c"),
        ("/a%2fb/./c//d", "/a%2fb/c//d"),
    ] {
        assert_eq!(clean(raw).as_deref(), Ok(resolved), "{raw}");
        assert!(CleanPath::parse(raw).unwrap().is_rewritten());
    }
}

#[test]
fn p13_the_normal_form_decodes_unreserved_characters() {
    for (raw, normal) in [
        ("/%61dmin/x", "/admin/x"),
        ("/%c3%a4%7e", "/%c3%a4~"),
        ("/a%2fb%252fc", "/a%2fb%252fc"),
        ("/a//b;c", "/a//b;c"),
        ("/plain", "/plain"),
    ] {
        assert_eq!(CleanPath::parse(raw).unwrap().normalized(), normal, "{raw}");
    }
}

#[test]
fn p03_p05_p06_p09_p11_p12_p25_refused() {
    for raw in [
        "",
        "a",
        "*",
        "/public/#/../admin",
        "/public/%2e%2e%2fadmin",
        "/public/..%2fadmin",
        "/public/..%5cadmin",
        "/public/..%252fadmin",
        "/public/..%255cadmin",
        "/public/%252e%252e/admin",
        "/public/%25252e%25252e/admin",
        "/a%25%32%66b",
        "/a%252%66b",
        "/%2561dmin",
        "/%25%36%31dmin",
        "//admin",
        "///admin",
        "/.//admin",
        "/public/..//admin",
        "/public\\..\\admin",
        "/public/%5c..%5cadmin",
        "/admin%00.png",
        "/admin%0a",
        "/admin%2500",
        "/admin%09",
        "/admin%7f",
        "/public/..;/admin",
        "/public/..%3b/admin",
        "/public/..%3Ba=b/admin",
        "/public/..;a=b/admin",
        "/public/..:x/admin",
        "/public/..%20/admin",
        "/public/.%20./admin",
        "/public/%20../admin",
        "/public/..%3Fx/admin",
        "/public/%ff../admin",
        "/public/%EF%BC%8E%EF%BC%8E/admin",
        "/public/%EF%BC%8E./admin",
        "/public/..%EF%BC%8Fadmin",
        "/public/..%E2%88%95admin",
        "/public/%E2%80%A4%E2%80%A4%E2%81%84admin",
        "/public/..%C2%A5admin",
        "/public/..%E2%82%A9admin",
        "/public/..%C2%A0/admin",
        "/public/.%ff./admin",
        "/public/.%E2%80%8C./admin",
        "/a;/../../b/..;x",
        "/a;..",
        "/%c0%ae%c0%ae/admin",
        "/%c1%9c",
        "/%e0%80%af",
        "/%f0%80%80%af",
        "/%f8%80%80%80%af",
        "/%fc%80%80%80%80%af",
        "/%25c0%25ae",
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
fn symbols_mark_characters_that_origins_read_differently() {
    use Symbol::{Character, End, Escaped, EscapedSeparator, Letter, Separator, Suffix};
    for (path, expected) in [
        ("/a%61", vec![Separator, Letter(b'a'), Letter(b'a')]),
        (
            "/%2f%5C%252F%25255c",
            vec![
                Separator,
                EscapedSeparator,
                EscapedSeparator,
                EscapedSeparator,
                EscapedSeparator,
            ],
        ),
        (
            "/;:%3b%3A%253a",
            vec![Separator, Suffix, Suffix, Suffix, Suffix, Suffix],
        ),
        ("/%3f%2523", vec![Separator, End, End]),
        (
            "/%C3%A4%c3%E2%80%8C",
            vec![
                Separator,
                Character('\u{e4}'),
                Escaped(0xc3),
                Character('\u{200c}'),
            ],
        ),
        (
            "/%20%40%25%E9",
            vec![
                Separator,
                Escaped(b' '),
                Escaped(b'@'),
                Escaped(b'%'),
                Escaped(0xe9),
            ],
        ),
    ] {
        let parsed = CleanPath::parse(path).unwrap();
        assert_eq!(
            parsed
                .symbols()
                .map(|(symbol, _)| symbol)
                .collect::<Vec<_>>(),
            expected,
            "{path}"
        );
        let written: Vec<u8> = parsed
            .symbols()
            .flat_map(|(_, written)| written.to_vec())
            .collect();
        assert_eq!(written, path.as_bytes());
    }
}

proptest! {
    #[test]
    fn clean_path_is_a_fixed_point(raw in "/([a.%;:/ 2eEfF5cC\\\\]|%2e|%2F|%25|%32|%66|%20|%FF|\\.\\.|//){0,24}") {
        if let Ok(path) = CleanPath::parse(&raw) {
            let text = path.as_str();
            prop_assert!(text.starts_with('/') && !text.starts_with("//"));
            prop_assert!(!text.split('/').any(|segment| dot_segment(segment).is_some()));
            let again = CleanPath::parse(text).unwrap();
            prop_assert!(!again.is_rewritten());
            prop_assert_eq!(again.is_plain(), path.is_plain());
            prop_assert!(path.is_plain() || path.symbols().count() > 0);
        }
    }

    #[test]
    fn no_input_panics(raw in ".{0,60}") {
        let _ = CleanPath::parse(&raw);
    }
}
