//! Files of tests.

use super::*;

const SUITE: &str = r#"
config = "conf/portcullis.toml"
[people.alice]
email = "alice@example.com"
groups = ["R&D <x>"]
claims = {}
[people.bob]
email = "bob@example.com"
groups = ["R&D <x>", "Contractors"]
claims = {}

[[tests]]
name = "engineers open it"
person = "alice"
url = ["grafana", "https://grafana.example.com/d/1"]
expect = "allow"
policy = "engineers"

[[tests]]
name = "contractors stay out"
person = ["bob", "alice"]
url = "grafana"
expect = "deny"

[[tests]]
name = "who is carol"
person = "carol"
url = "grafana"
expect = "log_in"

[[tests]]
name = "no login first"
url = "grafana"
expect = "log_in"
"#;

#[test]
fn failed_test_shows_every_rule() {
    let world = grafana();
    let suite = Suite::parse(Path::new("policies/tests.toml"), SUITE.to_owned()).unwrap();
    assert_eq!(
        suite.config().as_deref(),
        Some(Path::new("policies/conf/portcullis.toml"))
    );
    let mut decided = HashSet::new();
    let ended = suite.run(&world, NOW, &mut decided);
    let failed: Vec<_> = ended.iter().filter(|test| test.failure.is_some()).collect();
    assert_eq!(
        failed
            .iter()
            .map(|test| (test.name.as_str(), test.line))
            .collect::<Vec<_>>(),
        [
            ("contractors stay out: alice, grafana", 19),
            ("who is carol", 25)
        ]
    );
    assert_eq!(ended.len(), 6);
    let shown = Line {
        suite: &suite,
        world: &world,
        result: failed[0],
    }
    .to_string();
    let shown = anstream::adapter::strip_str(&shown).to_string();
    for part in [
        "tests.toml:19",
        "expected deny\n",
        "was      allow by `engineers`\n",
        "1. bypass `probes`",
    ] {
        assert!(shown.contains(part), "`{part}` is not in\n{shown}");
    }
    assert_eq!(
        untested(&world, &decided),
        [
            ("any".to_owned(), "anybody".to_owned()),
            ("grafana".into(), "probes".into())
        ]
    );
    let report = junit(&[(&suite, &world, ended)]).unwrap();
    assert!(
        report.contains(r#"tests="6" skipped="0" failures="2""#),
        "{report}"
    );
    assert!(
        report.contains("expected deny, was allow by `engineers`") && !report.contains('\u{1b}'),
        "{report}"
    );
}

#[test]
fn malformed_test_file_is_rejected_with_its_line() {
    for (text, message) in [
        ("", "tests.toml:1: missing field `tests`"),
        (
            "tests = []",
            "tests.toml: the file contains no tests; add `[[tests]]`",
        ),
        (
            "[[tests]]\nname = \"a\"\nurl = \"b\"\nexpect = \"alow\"",
            "tests.toml:4: unknown variant `alow`",
        ),
        (
            "[[tests]]\nname = \"a\"\nurl = \"b\"\nexpect = \"allow\"\nmehtod = \"GET\"",
            "tests.toml:5: unknown field `mehtod`",
        ),
        (
            "[people.a]\nemail = \"a@b.c\"\ngroup = [\"x\"]\n[[tests]]\nname = \"a\"\nurl = \"b\"\nexpect = \"allow\"",
            "tests.toml:3: unknown field `group`",
        ),
        (
            "[[tests]]\nname = \"a\"\nurl = \"b\"\nexpect = \"allow\"\nmethod = \"get\"",
            "tests.toml:5: `get` is not a method",
        ),
        (
            "[[tests]]\nname = \"a\"\nurl = \"b\"\nexpect = { outcome = \"allow\", policy = \"c\" }",
            "tests.toml:4: invalid type: map, expected an outcome in quotes, as `expect = \"allow\"`; the policy",
        ),
        (
            "[[tests]]\nname = \"a\"\nurl = \"b\"\nexpect = { allow = {} }",
            "tests.toml:4: invalid type: map, expected",
        ),
        (
            "[[tests]]\nname = \"a\"\nurl = \"b\"\nexpect = [\"allow\"]",
            "tests.toml:4: invalid type: sequence, expected",
        ),
        (
            "[[tests]]\nname = \"a\"\nurl = { b = \"c\" }\nexpect = \"allow\"",
            "tests.toml:3: this is text in quotes, or a list of such texts",
        ),
        ("[[tests", "tests.toml:1: "),
        (
            "[[tests]]\nname = \"a\"\nperson = []\nurl = \"b\"\nexpect = \"allow\"",
            "tests.toml:1: `a` tests nothing",
        ),
        (
            "[[tests]]\nname = \"a\"\nurl = []\nexpect = \"allow\"",
            "tests.toml:1: `a` tests nothing",
        ),
        (
            "[[tests]]\nname = \"a\"\nurl = \"b\"\nexpect = \"allow\"\nat = \"noon\"",
            "tests.toml:5: `noon` is not a time",
        ),
    ] {
        let error = Suite::parse(Path::new("tests.toml"), text.to_owned()).unwrap_err();
        assert!(error.starts_with(message), "{error}");
    }
}

#[test]
fn tests_in_the_documentation_pass() {
    let text = include_str!("../../../docs/policies.md");
    let block = |start: &str| {
        text.split_once(start)
            .unwrap()
            .1
            .split_once("\n```")
            .unwrap()
            .0
    };
    let configuration = block("## Writing policies\n\n```toml\n");
    let (head, _) = START.split_once("[[lists]]").unwrap();
    let world = world(&format!("{head}{configuration}"));
    let suite = Suite::parse(
        Path::new("policies.toml"),
        block("```toml tests\n").to_owned(),
    )
    .unwrap();
    let ended = suite.run(&world, NOW, &mut HashSet::new());
    assert_eq!(ended.len(), 4);
    assert!(ended.iter().all(|test| test.failure.is_none()), "{ended:?}");
}
