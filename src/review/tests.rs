use std::collections::HashSet;
use std::path::Path;

use serde_json::{Value, json};

use super::*;
use crate::config::{self, Offline};
use crate::model::UnixTime;

/// Monday the 4th of May 2026, 08:30 in London.
const NOW: UnixTime = UnixTime(1_777_879_800);

const START: &str = r#"
[team]
domain = "access.example.com"
[[listen]]
address = "0.0.0.0:443"
tls = { certificate = "not-here.crt", key = "not-here.key" }
[[identity_providers]]
id = "okta"
name = "Okta"
type = "okta"
config = { client_id = "id", client_secret = "env:NOT_HERE", okta_account = "https://dev-1.okta.com", claims = ["dept"] }
[[lists]]
id = "offices"
ips = ["203.0.113.0/24"]
[[groups]]
id = "engineers"
include = [{ okta = { name = "R&D <x>", identity_provider_id = "okta" } }, { group = { id = "board" } }]
[[groups]]
id = "board"
include = [{ oidc = { claim_name = "dept", claim_value = "board", identity_provider_id = "okta" } }]
[[applications]]
id = "any"
domain = "*.example.com"
origin = "http://127.0.0.1:1"
policies = [{ name = "anybody", decision = "allow", include = [{ everyone = {} }] }]
"#;

const GRAFANA: &str = r#"
[[applications]]
id = "grafana"
name = "Grafana"
domain = "grafana.example.com"
origin = "http://127.0.0.1:1"
policies = [
  { name = "no contractors", decision = "deny", include = [{ okta = { name = "Contractors", identity_provider_id = "okta" } }] },
  { name = "engineers", decision = "allow", include = [{ group = { id = "engineers" } }] },
  { name = "probes", decision = "bypass", include = [{ ip_list = { id = "offices" } }] },
]
"#;

fn world(text: &str) -> World {
    let file = Path::new("portcullis.toml");
    World::of(config::parse(text, file, &Offline).unwrap().config, file).unwrap()
}

fn grafana() -> World {
    world(&format!("{START}{GRAFANA}"))
}

fn person(groups: Option<&[&str]>) -> Person {
    let groups = groups.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
    Person { email: "Alice@Example.com".to_owned(), groups, claims: Some(serde_json::Map::new()), ..Person::default() }
}

fn ask(world: &World, person: Option<&Person>, url: &str) -> Answer {
    let identity = person.map(|person| person.identity(&world.config).unwrap());
    world.ask(identity.as_ref(), &Asked { url: url.to_owned(), ..Asked::default() }, NOW).unwrap()
}

fn shown(world: &World, answer: &Answer) -> (String, Value) {
    let view = View::new(world, answer);
    let text = view.to_string();
    (anstream::adapter::strip_str(&text).to_string(), serde_json::to_value(&view).unwrap())
}

#[test]
fn a_decision_is_explained_rule_by_rule() {
    let world = grafana();
    let answer = ask(&world, Some(&person(Some(&["R&D <x>"]))), "https://GRAFANA.example.com/d/1?x=1");
    let (text, json) = shown(&world, &answer);
    assert!(text.starts_with("ALLOW by the policy `engineers`\n"), "{text}");
    assert!(text.contains("Grafana (grafana.example.com), the most specific; also covered by *.example.com"), "{text}");
    let order: Vec<_> = json["policies"].as_array().unwrap().iter().map(|p| p["name"].as_str().unwrap()).collect();
    assert_eq!(order, ["probes", "no contractors", "engineers"], "bypass is asked first, wherever it stands");
    assert_eq!(json["policies"][0]["applies"], "unknown", "nobody said where from");
    assert_eq!(json["policies"][1]["include"][0]["compared"], "R&D <x>");
    assert_eq!((&json["policies"][2]["decides"], &json["outcome"]), (&json!(true), &json!("allow")));
    let groups: Vec<_> = json["groups"].as_array().unwrap().iter().map(|g| g["id"].as_str().unwrap()).collect();
    assert_eq!(groups, ["board", "engineers"], "each after those that it contains");
    assert_eq!(json["groups"][0]["include"][0]["compared"], "no `dept` was given");
    assert_eq!(json["person"], json!({"email": "alice@example.com", "idp": "okta", "groups": ["R&D <x>"]}));
}

#[test]
fn what_is_not_said_is_not_known() {
    let world = grafana();
    let answer = ask(&world, Some(&person(None)), "grafana");
    let (text, json) = shown(&world, &answer);
    assert!(text.starts_with("DENY by the policy `no contractors`, because something is not known\n"), "{text}");
    assert_eq!((&json["reason"], &json["unknown"]), (&json!("identity_incomplete"), &json!(true)));
    assert!(text.contains("the groups are not known"), "{text}");
}

#[test]
fn services_are_named_by_where_they_are_asked() {
    let rule = r#"{ external_evaluation = { evaluate_url = "https://risk.example.com/", keys_url = "https://risk.example.com/keys" } }"#;
    let world = world(&format!("{START}{}", GRAFANA.replace(r#"{ group = { id = "engineers" } }"#, rule)));
    let said = |answer| Person {
        evaluations: [("https://risk.example.com/".to_owned(), answer)].into(),
        ..person(Some(&["R&D <x>"]))
    };
    let (text, _) = shown(&world, &ask(&world, Some(&said(true)), "grafana"));
    assert!(text.starts_with("ALLOW by the policy `engineers`\n") && text.contains("answered true"), "{text}");
    let (text, _) = shown(&world, &ask(&world, Some(&said(false)), "grafana"));
    assert!(text.starts_with("DENY") && text.contains("answered false"), "{text}");
}

#[test]
fn those_who_have_not_logged_in_are_told_what_happens_first() {
    let world = grafana();
    let (text, json) = shown(&world, &ask(&world, None, "Grafana"));
    assert_eq!((&json["outcome"], &json["policies"][2]["applies"]), (&json!("log_in"), &json!("not asked")));
    assert!(text.starts_with("LOG IN: what happens then depends on who they are\n"), "{text}");
    let from_office = Asked { url: "grafana".to_owned(), ip: "::ffff:203.0.113.9".parse().ok(), ..Asked::default() };
    let answer = world.ask(None, &from_office, NOW).unwrap();
    assert_eq!((answer.explanation.outcome, answer.policy()), ("bypass", Some("probes")));
}

#[test]
fn places_that_are_no_applications_are_what_the_engine_says_they_are() {
    let world = grafana();
    for (url, outcome, reason) in [
        ("https://access.example.com/cdn-cgi/access/certs", "handle", Value::Null),
        ("https://grafana.example.com/cdn-cgi/access/logout", "handle", Value::Null),
        ("https://elsewhere.test/", "refuse", json!("no_application")),
        ("https://grafana.example.com/%2e%2e%2f", "refuse", json!("path_ambiguous")),
        ("https://grafana.example.com:8443/", "refuse", json!("port_unknown")),
    ] {
        let (_, json) = shown(&world, &ask(&world, None, url));
        assert_eq!((json["outcome"].as_str(), &json["reason"]), (Some(outcome), &reason), "{url}");
    }
    for url in ["nothing", "ftp://grafana.example.com/", ""] {
        let asked = Asked { url: url.to_owned(), ..Asked::default() };
        assert!(world.ask(None, &asked, NOW).is_err(), "{url}");
    }
}

#[test]
fn an_identity_is_read_as_the_endpoint_shows_it() {
    let world = grafana();
    let identity = person(Some(&["R&D <x>"])).identity(&world.config).unwrap();
    let document = crate::portal::identity::document(&identity, &world.snapshot);
    let read = Person::from_identity(&document).unwrap();
    assert_eq!(read.identity(&world.config).unwrap().groups, identity.groups);
    assert_eq!((read.email.as_str(), read.idp.as_deref()), ("alice@example.com", Some("okta")));
    assert_eq!(read.amr, None, "empty there is not known here");
    let unknown = Person::from_identity(&json!({"email": "a@b.c", "groups": null})).unwrap();
    assert_eq!(unknown.groups, None);
    assert!(Person::from_identity(&json!({"error": "no_session"})).is_err());
}

#[test]
fn a_person_comes_through_a_provider_that_there_is() {
    let world = grafana();
    for (idp, email) in [(Some("okat"), "a@b.c"), (None, "a@b@c")] {
        let person = Person { idp: idp.map(str::to_owned), email: email.to_owned(), ..Person::default() };
        assert!(person.identity(&world.config).is_err(), "{idp:?} {email}");
    }
}

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
name = "nobody logs in first"
url = "grafana"
expect = "log_in"
"#;

#[test]
fn tests_pass_and_fail_with_the_walk() {
    let world = grafana();
    let suite = Suite::parse(Path::new("policies/tests.toml"), SUITE.to_owned()).unwrap();
    assert_eq!(suite.config().as_deref(), Some(Path::new("policies/conf/portcullis.toml")));
    let mut decided = HashSet::new();
    let ended = suite.run(&world, NOW, &mut decided);
    let failed: Vec<_> = ended.iter().filter(|test| test.failure.is_some()).collect();
    assert_eq!(
        failed.iter().map(|test| (test.name.as_str(), test.line)).collect::<Vec<_>>(),
        [("contractors stay out: alice, grafana", 19), ("who is carol", 25)]
    );
    assert_eq!(ended.len(), 6);
    let told = Line { suite: &suite, world: &world, result: failed[0] }.to_string();
    let told = anstream::adapter::strip_str(&told).to_string();
    for part in ["tests.toml:19", "expected deny\n", "was      allow by `engineers`\n", "1. bypass `probes`"] {
        assert!(told.contains(part), "`{part}` is not in\n{told}");
    }
    assert_eq!(
        untested(&world, &decided),
        [("any".to_owned(), "anybody".to_owned()), ("grafana".into(), "probes".into())]
    );
    let report = junit(&[(&suite, &world, ended)]).unwrap();
    assert!(report.contains(r#"tests="6" skipped="0" failures="2""#), "{report}");
    assert!(report.contains("expected deny, was allow by `engineers`") && !report.contains('\u{1b}'), "{report}");
}

#[test]
fn a_file_of_tests_says_what_is_wrong_with_it() {
    for (text, message) in [
        ("", "tests.toml:1: missing field `tests`"),
        ("tests = []", "tests.toml: there are no tests in it; add `[[tests]]`"),
        ("[[tests]]\nname = \"a\"\nurl = \"b\"\nexpect = \"alow\"", "tests.toml:4: unknown variant `alow`"),
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
            "tests.toml:5: `get` is no method",
        ),
        (
            "[[tests]]\nname = \"a\"\nurl = \"b\"\nexpect = { outcome = \"allow\", policy = \"c\" }",
            "tests.toml:4: invalid type: map, expected an outcome in quotes, as `expect = \"allow\"`; the policy",
        ),
        ("[[tests]]\nname = \"a\"\nurl = \"b\"\nexpect = { allow = {} }", "tests.toml:4: invalid type: map, expected"),
        (
            "[[tests]]\nname = \"a\"\nurl = \"b\"\nexpect = [\"allow\"]",
            "tests.toml:4: invalid type: sequence, expected",
        ),
        (
            "[[tests]]\nname = \"a\"\nurl = { b = \"c\" }\nexpect = \"allow\"",
            "tests.toml:3: this is text in quotes, or a list of such texts",
        ),
        ("[[tests", "tests.toml:1: "),
        ("[[tests]]\nname = \"a\"\nperson = []\nurl = \"b\"\nexpect = \"allow\"", "tests.toml:1: `a` tests nothing"),
        ("[[tests]]\nname = \"a\"\nurl = []\nexpect = \"allow\"", "tests.toml:1: `a` tests nothing"),
        (
            "[[tests]]\nname = \"a\"\nurl = \"b\"\nexpect = \"allow\"\nat = \"noon\"",
            "tests.toml:5: `noon` is no moment",
        ),
    ] {
        let error = Suite::parse(Path::new("tests.toml"), text.to_owned()).unwrap_err();
        assert!(error.starts_with(message), "{error}");
    }
}

fn diff(old: &str, new: &str) -> Vec<(String, Access, String, String, Vec<String>)> {
    let diff = Diff::of_names(&world(old), &world(new), NOW).unwrap();
    let who = |change: Change| {
        let Change { application, access, old, new, who } = change;
        (application, access, old, new, who.into_keys().collect())
    };
    diff.changes.into_iter().map(who).collect()
}

#[test]
fn a_moment_may_stand_without_quotes() {
    for at in ["\"2026-05-04T08:30:00Z\"", "2026-05-04T10:30:00+02:00"] {
        let asked: Asked = toml::from_str(&format!("url = \"grafana\"\nat = {at}")).unwrap();
        assert_eq!(asked.at.unwrap().0.as_second(), 1_777_883_400, "{at}");
    }
}

#[test]
fn nothing_changes_from_a_configuration_to_itself() {
    let text = format!("{START}{GRAFANA}");
    assert_eq!(diff(&text, &text), []);
}

#[test]
fn a_change_is_told_with_those_whom_it_touches() {
    let old = format!("{START}{GRAFANA}");
    let deny = GRAFANA.lines().find(|line| line.contains("no contractors")).unwrap();
    let without_deny = old.replace(deny, "");
    let both = "okta Contractors of okta + okta `R&D <x>` of okta";
    let change = diff(&old, &without_deny);
    let [(application, Access::Gained, was, is, who)] = change.as_slice() else { panic!("{change:?}") };
    assert_eq!(
        (application.as_str(), was.as_str(), is.as_str()),
        ("Grafana", "deny by `no contractors`", "allow by `engineers`")
    );
    assert!(who.iter().any(|who| who == both), "only those in both groups: {who:?}");
    assert!(who.iter().all(|who| who.contains("Contractors")), "{who:?}");

    let narrower = old.replace("203.0.113.0/24", "203.0.113.0/25");
    let change = diff(&old, &narrower);
    let touched: Vec<_> =
        change.iter().flat_map(|(_, access, _, _, who)| who.iter().map(move |who| (*access, who.as_str()))).collect();
    let lost = [(Access::Lost, "ip 203.0.113.255"), (Access::Lost, "nobody logged in + ip 203.0.113.255")];
    assert!(lost.iter().all(|lost| touched.contains(lost)), "{touched:?}");
    assert!(touched.iter().all(|(_, who)| who.contains("203.0.113.255")), "the other end is where it was: {touched:?}");
    let logs_in = (Access::Other, "ip 203.0.113.255 + okta `R&D <x>` of okta");
    assert!(touched.contains(&logs_in), "they get in as they did, but by logging in: {touched:?}");

    let open = old.replace("{ group = { id = \"engineers\" } }", "{ everyone = {} }");
    let change = diff(&old, &open);
    let [(_, Access::Gained, _, _, who)] = change.as_slice() else { panic!("{change:?}") };
    assert_eq!(*who, ["anybody"], "and nobody of them twice");

    let gone = diff(&old, START);
    assert!(
        gone.iter()
            .any(|(_, access, was, is, _)| *access == Access::Lost && was.starts_with("bypass") && is == "log_in"),
        "{gone:?}"
    );
}

/// What changes, where one application's policies do; whoever it touches, in one text.
fn touched(around: &str, old: &str, new: &str) -> String {
    let with = |policies: &str| {
        format!(
            "{START}{around}\n[[applications]]\ndomain = \"a.example.com\"\norigin = \"http://127.0.0.1:1\"\npolicies = [{policies}]"
        )
    };
    format!("{:?}", diff(&with(old), &with(new)))
}

#[test]
fn no_change_is_overlooked() {
    let allow = |clauses: &str| format!("{{ name = \"x\", decision = \"allow\", {clauses} }}");
    let eng = "include = [{ okta = { name = \"Eng\", identity_provider_id = \"okta\" } }]";
    let offices = |second: &str| {
        format!("[[groups]]\nid = \"here\"\ninclude = [{{ ip = {{ ip = \"198.51.100.0/24\" }} }}{second}]")
    };
    let here = allow(&format!("{eng}, require = [{{ group = {{ id = \"here\" }} }}]"));
    let with = |around: &str, policy: &str| {
        format!(
            "{START}{around}\n[[applications]]\ndomain = \"a.example.com\"\norigin = \"http://127.0.0.1:1\"\npolicies = [{policy}]"
        )
    };
    let second = diff(&with(&offices(""), &here), &with(&offices(", { ip = { ip = \"233.252.0.0/24\" } }"), &here));
    assert!(format!("{second:?}").contains("ip 233.252.0.0"), "another office: {second:?}");

    let method = allow(&format!("{eng}, require = [{{ portcullis_method = {{ methods = [\"GET\", \"HEAD\"] }} }}]"));
    assert!(touched("", &method, &allow(eng)).contains("not portcullis_method"), "other methods");
    let time = "{ portcullis_time = { from = \"00:00\", to = \"23:59\", time_zone = \"UTC\" } }";
    let time = allow(&format!("{eng}, require = [{time}]"));
    assert!(touched("", &time, &allow(eng)).contains("not portcullis_time"), "the one minute outside");

    let geo = "[geo]\ndatabase = \"not-here.mmdb\"\n";
    let but = "exclude = [{ geo = { country_code = \"RU\" } }]";
    let everyone = "include = [{ everyone = {} }]";
    let opened = touched(geo, &allow(&format!("{eng}, {but}")), &allow(&format!("{everyone}, {but}")));
    assert!(opened.contains("anybody"), "those elsewhere are known to be: {opened}");
    let risk =
        "{ external_evaluation = { evaluate_url = \"https://r.example/\", keys_url = \"https://r.example/k\" } }";
    let opened =
        touched("", &allow(&format!("{eng}, exclude = [{risk}]")), &allow(&format!("{everyone}, exclude = [{risk}]")));
    assert!(opened.contains("anybody"), "{opened}");
    // Of an attribute that an assertion lacks nothing is known, so it takes one that has another value.
    let certificate = include_str!("../../tests/saml/keys/idp.crt");
    let campus = format!(
        "[[identity_providers]]\nid = \"campus\"\nname = \"Campus\"\ntype = \"saml\"\n[identity_providers.config]\n\
         issuer_url = \"http://i.example\"\nsso_target_url = \"https://i.example/sso\"\nattributes = [\"kind\"]\n\
         idp_public_certs = [\"\"\"{certificate}\"\"\"]\n"
    );
    let came = "include = [{ login_method = { id = \"campus\" } }]";
    let kind = |value: &str| {
        format!(
            "{{ saml = {{ attribute_name = \"kind\", attribute_value = \"{value}\", identity_provider_id = \"campus\" }} }}"
        )
    };
    let but = |value: &str| allow(&format!("{came}, exclude = [{}]", kind(value)));
    let closed = touched(&campus, &but("guest"), &allow(&format!("include = [{}]", kind("staff"))));
    assert!(
        closed.contains(r#"Lost, "allow by `x`", "deny (no_policy_applied)", ["anybody through campus"]"#),
        "{closed}"
    );

    let staff = |but: &str| {
        format!(
            "[[groups]]\nid = \"staff\"\ninclude = [{{ everyone = {{}} }}]\nexclude = [{{ email = {{ email = \"{but}@example.com\" }} }}]"
        )
    };
    let policy = allow(&format!("{eng}, exclude = [{{ group = {{ id = \"staff\" }} }}]"));
    let change = diff(&with(&staff("ceo"), &policy), &with(&staff("cfo"), &policy));
    let change = format!("{change:?}");
    assert!(
        change.contains("email ceo@example.com + okta Eng") && change.contains("email cfo@example.com + okta Eng"),
        "{change}"
    );
}

#[test]
fn a_comparison_ends_in_time() {
    // Each names the next one twice: two to the power of thirty ways.
    let mut groups = String::new();
    for i in 0..30 {
        let next = format!("{{ group = {{ id = \"g{}\" }} }}", i + 1);
        groups += &format!("[[groups]]\nid = \"g{i}\"\ninclude = [{next}]\nrequire = [{next}]\n");
    }
    groups += "[[groups]]\nid = \"g30\"\ninclude = [{ email = { email = \"a@example.com\" } }]\n";
    let first = "{ name = \"x\", decision = \"allow\", include = [{ group = { id = \"g0\" } }] }";
    let change = touched(&groups, first, &first.replace("allow", "deny"));
    assert!(change.contains("email a@example.com"), "{change}");
    let policies = |decision: &str| -> String {
        let one = |i| {
            format!(
                "{{ name = \"{i}\", decision = \"{decision}\", include = [{{ email = {{ email = \"{i}@example.com\" }} }}] }},"
            )
        };
        (0..300).map(one).collect()
    };
    assert!(touched("", &policies("allow"), &policies("deny")).contains("email 299@example.com"));
}

#[test]
fn a_log_is_asked_again() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("audit.log");
    let event = |fields: Value| {
        let mut event = json!({"timestamp": "2026-05-04T08:30:00.5Z", "level": "INFO", "target": "portcullis::audit"});
        event.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        event.to_string()
    };
    let login = |user: &str, groups: &str| {
        event(
            json!({"event": "login", "outcome": "allowed", "application": "Grafana", "user": user, "idp": "okta", "claims": "{}",
            "email": format!("{user}@example.com"), "groups": groups, "client": "198.51.100.1", "method": "GET", "host": "access.example.com"}),
        )
    };
    let page = |user: &str| {
        event(
            json!({"event": "access", "outcome": "allowed", "application": "Grafana", "user": user, "email": format!("{user}@example.com"),
            "client": "198.51.100.1", "method": "GET", "host": "grafana.example.com", "path": "/d/1"}),
        )
    };
    let lines = [
        "not json".to_owned(),
        json!({"target": "portcullis", "event": "login"}).to_string(),
        page("dave"),
        login("alice", r#"["R&D <x>"]"#),
        // Who they are was not written down.
        login("erin", "[]").replace("claims", "nothing"),
        login("bob", r#"["R&D <x>", "Contractors"]"#),
        page("alice"),
        page("bob"),
        page("bob"),
    ];
    std::fs::write(&file, lines.join("\n")).unwrap();
    let old = format!("{START}{GRAFANA}");
    let deny = GRAFANA.lines().find(|line| line.contains("no contractors")).unwrap();
    let (old, new) = (world(&old), world(&old.replace(deny, "")));
    let diff = Diff::of_log(&old, &new, &file, NOW).unwrap();
    let [Change { application, access: Access::Gained, who, .. }] = diff.changes.as_slice() else { panic!("{diff:?}") };
    assert_eq!(
        (application.as_str(), who.iter().collect::<Vec<_>>()),
        ("Grafana", vec![(&"bob@example.com".to_owned(), &3)])
    );
    assert_eq!(
        (diff.tried, diff.notes.len()),
        (5, 1),
        "dave's login is not in the log, erin's says nothing: {:?}",
        diff.notes
    );
    assert!(diff.notes[0].starts_with("2 requests were not tried"), "{:?}", diff.notes);
    std::fs::write(&file, "x\n").unwrap();
    assert!(Diff::of_log(&old, &new, &file, NOW).unwrap_err().contains("has no audit events"));
}

#[test]
fn the_tests_in_the_documentation_pass() {
    let text = include_str!("../../docs/policies.md");
    let block = |start: &str| text.split_once(start).unwrap().1.split_once("\n```").unwrap().0;
    let configuration = block("## Writing policies\n\n```toml\n");
    let (head, _) = START.split_once("[[lists]]").unwrap();
    let world = world(&format!("{head}{configuration}"));
    let suite = Suite::parse(Path::new("policies.toml"), block("```toml tests\n").to_owned()).unwrap();
    let ended = suite.run(&world, NOW, &mut HashSet::new());
    assert_eq!(ended.len(), 4);
    assert!(ended.iter().all(|test| test.failure.is_none()), "{ended:?}");
}
