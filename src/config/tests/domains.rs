//! The domains of applications.

use super::*;

#[test]
fn domain_is_read_in_canonical_form() {
    for (text, host, path) in [
        ("App.Example.com", "app.example.com", None),
        ("app.example.com.", "app.example.com", None),
        ("app.example.com/", "app.example.com", None),
        ("app.example.com/*", "app.example.com", None),
        ("*.Example.com/Alpha", "*.example.com", Some("/Alpha")),
        ("*Test-*.example.com", "", None),
        ("*test.bücher.example", "*test.xn--bcher-kva.example", None),
        (
            "a.*.example.com/foo*/bar",
            "a.*.example.com",
            Some("/foo*/bar"),
        ),
        ("example.com/alpha/*", "example.com", Some("/alpha/*")),
        ("*", "", None),
        ("app.*", "", None),
        ("*bücher.example", "", None),
        ("*.1", "", None),
        ("*:1.example.com", "", None),
        ("a.com/%2e%2e/b", "", None),
        ("a.com//b", "", None),
        ("a.com/a**b", "", None),
    ] {
        let parsed = Domain::parse(text).ok();
        let expected = (!host.is_empty()).then(|| (host.to_owned(), path.map(str::to_owned)));
        assert_eq!(
            parsed.map(|d| (
                d.pattern.host().to_owned(),
                Some(d.pattern.path())
                    .filter(|p| *p != "/")
                    .map(str::to_owned)
            )),
            expected,
            "{text}"
        );
    }
}

#[test]
fn domains_differing_in_case_need_case_sensitive_paths() {
    let application = |domain: &str, is_sensitive: bool| {
        format!(
            "[[applications]]\ndomain = \"{domain}\"\norigin = \"http://127.0.0.1:8080\"\ncase_sensitive_paths = {is_sensitive}\n\
             policies = [{{ name = \"p\", decision = \"deny\", include = [{{ everyone = {{}} }}] }}]\n"
        )
    };
    let two = |one: (&str, bool), other: (&str, bool)| {
        rendered(&(application(one.0, one.1) + &application(other.0, other.1)))
    };
    assert_eq!(
        two(("h.example.com/Docs", true), ("h.example.com/docs", true)),
        ""
    );
    assert_eq!(
        two(
            ("h.example.com/docs", false),
            ("h.example.com/Docs/public", true)
        ),
        ""
    );
    assert_eq!(
        two(("h.example.com/docs", false), ("g.example.com/Docs", false)),
        ""
    );
    assert_eq!(
        two(("h.example.com", false), ("h.example.com/Docs", false)),
        ""
    );
    assert!(two(("h.example.com/docs", false), ("h.example.com/Docs", false)).contains("rejected"));
}
