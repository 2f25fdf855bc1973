mod change;
mod suite;

use std::collections::HashSet;
use std::path::Path;

use serde_json::{Value, json};

use super::*;
use crate::config::{self, Offline};
use crate::engine::Outcome;
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
    World::new(config::parse(text, file, &Offline).unwrap().config, file).unwrap()
}

fn grafana() -> World {
    world(&format!("{START}{GRAFANA}"))
}

fn person(groups: Option<&[&str]>) -> Person {
    let groups = groups.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
    Person {
        email: "Alice@Example.com".to_owned(),
        groups,
        claims: Some(serde_json::Map::new()),
        ..Person::default()
    }
}

fn ask(world: &World, person: Option<&Person>, url: &str) -> Answer {
    let identity = person.map(|person| person.identity(&world.config).unwrap());
    world
        .ask(
            identity.as_ref(),
            &Asked {
                url: url.to_owned(),
                ..Asked::default()
            },
            NOW,
        )
        .unwrap()
}

fn shown(world: &World, answer: &Answer) -> (String, Value) {
    let view = View::new(world, answer);
    let text = view.to_string();
    (
        anstream::adapter::strip_str(&text).to_string(),
        serde_json::to_value(&view).unwrap(),
    )
}

#[test]
fn decision_is_explained_rule_by_rule() {
    let world = grafana();
    let answer = ask(
        &world,
        Some(&person(Some(&["R&D <x>"]))),
        "https://GRAFANA.example.com/d/1?x=1",
    );
    let (text, json) = shown(&world, &answer);
    assert!(
        text.starts_with("ALLOW by the policy `engineers`\n"),
        "{text}"
    );
    assert!(
        text.contains(
            "Grafana (grafana.example.com), the most specific match; also covered by *.example.com"
        ),
        "{text}"
    );
    let order: Vec<_> = json["policies"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| p["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        order,
        ["probes", "no contractors", "engineers"],
        "bypass is asked first, wherever it stands"
    );
    assert_eq!(
        json["policies"][0]["applies"], "unknown",
        "the IP address is unknown"
    );
    assert_eq!(json["policies"][1]["include"][0]["compared"], "R&D <x>");
    assert_eq!(
        (&json["policies"][2]["decides"], &json["outcome"]),
        (&json!(true), &json!("allow"))
    );
    let groups: Vec<_> = json["groups"]
        .as_array()
        .unwrap()
        .iter()
        .map(|g| g["id"].as_str().unwrap())
        .collect();
    assert_eq!(
        groups,
        ["board", "engineers"],
        "each after those that it contains"
    );
    assert_eq!(
        json["groups"][0]["include"][0]["compared"],
        "`dept` is absent"
    );
    assert_eq!(
        json["person"],
        json!({"email": "alice@example.com", "idp": "okta", "groups": ["R&D <x>"]})
    );
}

#[test]
fn omitted_fact_is_unknown() {
    let world = grafana();
    let answer = ask(&world, Some(&person(None)), "grafana");
    let (text, json) = shown(&world, &answer);
    assert!(
        text.starts_with("DENY by the policy `no contractors`, because a fact is unknown\n"),
        "{text}"
    );
    assert_eq!(
        (&json["reason"], &json["unknown"]),
        (&json!("identity_incomplete"), &json!(true))
    );
    assert!(text.contains("the groups are unknown"), "{text}");
}

#[test]
fn evaluation_service_is_named_by_its_url() {
    let rule = r#"{ external_evaluation = { evaluate_url = "https://risk.example.com/", keys_url = "https://risk.example.com/keys" } }"#;
    let world = world(&format!(
        "{START}{}",
        GRAFANA.replace(r#"{ group = { id = "engineers" } }"#, rule)
    ));
    let said = |answer| Person {
        evaluations: [("https://risk.example.com/".to_owned(), answer)].into(),
        ..person(Some(&["R&D <x>"]))
    };
    let (text, _) = shown(&world, &ask(&world, Some(&said(true)), "grafana"));
    assert!(
        text.starts_with("ALLOW by the policy `engineers`\n") && text.contains("answered true"),
        "{text}"
    );
    let (text, _) = shown(&world, &ask(&world, Some(&said(false)), "grafana"));
    assert!(
        text.starts_with("DENY") && text.contains("answered false"),
        "{text}"
    );
}

#[test]
fn request_without_a_session_is_explained() {
    let world = grafana();
    let (text, json) = shown(&world, &ask(&world, None, "Grafana"));
    assert_eq!(
        (&json["outcome"], &json["policies"][2]["applies"]),
        (&json!("log_in"), &json!("not_evaluated"))
    );
    assert!(
        text.starts_with("LOG IN: the decision depends on the user who signs in\n"),
        "{text}"
    );
    let from_office = Asked {
        url: "grafana".to_owned(),
        ip: "::ffff:203.0.113.9".parse().ok(),
        ..Asked::default()
    };
    let answer = world.ask(None, &from_office, NOW).unwrap();
    assert_eq!(
        (answer.explanation.outcome, answer.policy()),
        (Outcome::Bypass, Some("probes"))
    );
}

#[test]
fn endpoints_and_refusals_are_explained_as_decided() {
    let world = grafana();
    for (url, outcome, reason) in [
        (
            "https://access.example.com/cdn-cgi/access/certs",
            "handle",
            Value::Null,
        ),
        (
            "https://grafana.example.com/cdn-cgi/access/logout",
            "handle",
            Value::Null,
        ),
        ("https://elsewhere.test/", "refuse", json!("no_application")),
        (
            "https://grafana.example.com/%2e%2e%2f",
            "refuse",
            json!("path_ambiguous"),
        ),
        (
            "https://grafana.example.com:8443/",
            "refuse",
            json!("port_unknown"),
        ),
    ] {
        let (_, json) = shown(&world, &ask(&world, None, url));
        assert_eq!(
            (json["outcome"].as_str(), &json["reason"]),
            (Some(outcome), &reason),
            "{url}"
        );
    }
    for url in ["nothing", "ftp://grafana.example.com/", ""] {
        let asked = Asked {
            url: url.to_owned(),
            ..Asked::default()
        };
        assert!(world.ask(None, &asked, NOW).is_err(), "{url}");
    }
}

#[test]
fn identity_document_of_the_endpoint_is_read() {
    let world = grafana();
    let identity = person(Some(&["R&D <x>"])).identity(&world.config).unwrap();
    let document = crate::control::document(&identity, &world.snapshot);
    let read = Person::from_identity(&document).unwrap();
    assert_eq!(
        read.identity(&world.config).unwrap().groups,
        identity.groups
    );
    assert_eq!(
        (read.email.as_str(), read.idp.as_deref()),
        ("alice@example.com", Some("okta"))
    );
    assert_eq!(read.amr, None, "empty there is not known here");
    let unknown = Person::from_identity(&json!({"email": "a@b.c", "groups": null})).unwrap();
    assert_eq!(unknown.groups, None);
    assert!(Person::from_identity(&json!({"error": "no_session"})).is_err());
}

#[test]
fn user_of_an_unknown_provider_is_rejected() {
    let world = grafana();
    for (idp, email) in [(Some("okat"), "a@b.c"), (None, "a@b@c")] {
        let person = Person {
            idp: idp.map(str::to_owned),
            email: email.to_owned(),
            ..Person::default()
        };
        assert!(person.identity(&world.config).is_err(), "{idp:?} {email}");
    }
}

#[test]
fn denial_without_the_policies_names_none_of_them() {
    let world = world(&format!(
        r#"{START}{GRAFANA}
[[identity_providers]]
id = "other"
name = "Other"
type = "okta"
config = {{ client_id = "id", client_secret = "env:NOT_HERE", okta_account = "https://dev-2.okta.com" }}
[[applications]]
id = "api"
domain = "api.example.com"
origin = "http://127.0.0.1:1"
allowed_idps = ["other"]
policies = [
  {{ name = "staff", decision = "allow", include = [{{ everyone = {{}} }}] }},
  {{ name = "dashboards", decision = "non_identity", include = [{{ linked_app_token = {{ app_uid = "grafana" }} }}] }},
]
"#
    ));
    let person = Person {
        idp: Some("okta".to_owned()),
        ..person(Some(&[]))
    };
    let identity = person.identity(&world.config).unwrap();
    let asked = Asked {
        url: "https://api.example.com/".to_owned(),
        linked_app: Some("any".to_owned()),
        ..Asked::default()
    };
    let answer = world.ask(Some(&identity), &asked, NOW).unwrap();
    assert_eq!(answer.explanation.outcome, Outcome::Deny);
    assert_eq!(answer.policy(), None);
    let (text, json) = shown(&world, &answer);
    assert_eq!(json["policy"], Value::Null, "{text}");
}

#[test]
fn audit_log_is_replayed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("audit.log");
    let event = |fields: Value| {
        let mut event = json!({"timestamp": "2026-05-04T08:30:00.5Z", "level": "INFO", "target": "portcullis::audit"});
        event
            .as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
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
        // An event without claims does not identify its user.
        login("erin", "[]").replace("claims", "nothing"),
        login("bob", r#"["R&D <x>", "Contractors"]"#)
            .replace(r#""claims":"{}""#, r#""claims":{}"#)
            .replace(
                r#""[\"R&D <x>\", \"Contractors\"]""#,
                r#"["R&D <x>", "Contractors"]"#,
            ),
        page("alice"),
        page("bob"),
        page("bob"),
    ];
    std::fs::write(&file, lines.join("\n")).unwrap();
    let old = format!("{START}{GRAFANA}");
    let deny = GRAFANA
        .lines()
        .find(|line| line.contains("no contractors"))
        .unwrap();
    let (old, new) = (world(&old), world(&old.replace(deny, "")));
    let diff = Diff::of_log(&old, &new, &file, NOW).unwrap();
    let [
        Change {
            application,
            access: Access::Gained,
            who,
            ..
        },
    ] = diff.changes.as_slice()
    else {
        panic!("{diff:?}")
    };
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
    assert!(
        diff.notes[0].starts_with("2 requests were not compared"),
        "{:?}",
        diff.notes
    );
    std::fs::write(&file, "x\n").unwrap();
    assert!(
        Diff::of_log(&old, &new, &file, NOW)
            .unwrap_err()
            .contains("has no audit events")
    );
}
