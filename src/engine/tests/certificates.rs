//! Client certificates, and the facts that rules require through groups.

use std::time::Duration;

use serde_json::json;

use super::*;
use crate::engine;
use crate::model::{ClientCertificate, Fingerprint, Groups, Identity, IdpId, IdpRef, Reason};
use crate::policy::{AccessGroup, PolicyDecision};

/// The client id of a service token.
const CI: &str = "c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1.access";

fn with_groups(app: &App, groups: &[AccessGroup]) -> Snapshot {
    Snapshot::compile(
        1,
        team(cases::TEAM_DOMAIN),
        SharedRules { lists: &[], groups },
        vec![app.settings(Origins::new(()))],
        Arc::new(NodeCache::new(10)),
    )
    .unwrap()
}

/// Returns the certificate of a connection, in the notation of the table below.
fn shown(what: &str) -> Option<ClientTls> {
    let certificate = |name: &str, root: &[u8], expires| {
        let (common_name, roots) = (name.into(), vec![Fingerprint::sha256(root)]);
        Some(ClientTls {
            certificate: Some(Arc::new(ClientCertificate {
                common_name,
                expires,
                roots,
            })),
        })
    };
    match what {
        "unasked" => None,
        "none" => Some(ClientTls::default()),
        "right" => certificate("device-1", b"devices", after(60)),
        "nameless" => certificate("", b"devices", after(60)),
        "a token's name" => certificate(CI, b"devices", after(60)),
        "another name" => certificate("Device-1", b"devices", after(60)),
        "another's" => certificate("device-1", b"partners", after(60)),
        "expired" => certificate("device-1", b"devices", NOW),
        _ => panic!(),
    }
}

#[test]
fn certificate_facts_apply_in_every_clause() {
    let any = json!({"certificate": {}});
    let one = json!({"common_name": {"common_name": "device-1"}});
    let everyone = json!({"everyone": {}});
    // Rows: the certificate. Columns: `certificate` and `common_name` in include, require and
    // exclude, each admitting or not, then in a deny policy.
    for (what, expected) in [
        ("unasked", "no no no no no no no no"),
        ("none", "no no no no in in in in"),
        ("right", "in in in in no no no no"),
        ("nameless", "in no in no no in no in"),
        ("another name", "in no in no no in no in"),
        ("another's", "no no no no in in in in"),
        ("expired", "no no no no in in in in"),
    ] {
        let ask = |decision: PolicyDecision, clause: &str, rule: &serde_json::Value| {
            let mut policy = json!({"name": "p", "decision": decision, "include": [everyone]});
            policy[clause] = json!([rule]);
            let mut policies = vec![policy];
            if decision == PolicyDecision::Deny {
                policies.push(json!({"name": "q", "decision": "allow", "include": [everyone]}));
            }
            let app = with_policies("wiki", json!(policies));
            let cache = Arc::clone(node().cache());
            let node = compile(7, cases::TEAM_DOMAIN, &[app], &cache).with_client_cas([
                authority("devices", "wiki.example.com"),
                authority("partners", "other.example.com"),
            ]);
            let with: &[&str] = if decision == PolicyDecision::ServiceAuth {
                &[]
            } else {
                &["cookie alice wiki"]
            };
            let answer = Raw {
                tls: shown(what),
                ..get("wiki", with)
            }
            .ask(&node, NOW);
            let passes = answer.starts_with("forward") || answer.starts_with("resolve assertion");
            if passes { "in" } else { "no" }
        };
        let mut found = Vec::new();
        for clause in ["include", "require", "exclude"] {
            for rule in [&any, &one] {
                let allow = ask(PolicyDecision::Allow, clause, rule);
                assert_eq!(
                    ask(PolicyDecision::ServiceAuth, clause, rule),
                    allow,
                    "{what} {clause} {rule}"
                );
                assert_eq!(
                    ask(PolicyDecision::Bypass, clause, rule),
                    allow,
                    "{what} {clause} {rule}"
                );
                found.push(allow);
            }
        }
        found.extend([&any, &one].map(|rule| ask(PolicyDecision::Deny, "include", rule)));
        assert_eq!(found.join(" "), expected, "{what}");
    }
}

fn authority(der: &str, host: &str) -> engine::ClientCa {
    engine::ClientCa {
        name: der.into(),
        roots: vec![engine::Root::new(der.as_bytes())],
        hosts: vec![crate::route::Domain::parse(host).unwrap()],
    }
}

/// A policy that names a group which asks for a certificate, however deep.
#[test]
fn required_facts_are_found_through_nested_groups() {
    let group = |id: &str, rule: serde_json::Value| {
        serde_json::from_value(json!({"id": id, "name": id, "include": [rule]})).unwrap()
    };
    let mut groups = vec![group(
        "g0",
        json!({"common_name": {"common_name": "device-1"}}),
    )];
    groups.extend((1..1_000).map(|n| {
        group(
            &format!("g{n}"),
            json!({"group": {"id": format!("g{}", n - 1)}}),
        )
    }));
    let policy =
        json!({"name": "p", "decision": "non_identity", "include": [{"group": {"id": "g999"}}]});
    let app = with_policies("wiki", json!([policy]));
    let node = with_groups(&app, &groups);
    let node = node.with_client_cas([authority("devices", "wiki.example.com")]);
    let request = Raw {
        tls: shown("right"),
        ..get("wiki", &[])
    };
    assert_eq!(request.ask(&node, NOW), "resolve assertion of device-1");
    let token = http::HeaderValue::from_static("told");
    let device = AssertionOf {
        aud: &aud("wiki"),
        common_name: "device-1",
    };
    node.cache()
        .set_assertion(node.issuer(), device, token, after(60));
    assert_eq!(request.ask(&node, NOW), "forward wiki as device-1 by `p`");
    let none = Raw {
        tls: shown("none"),
        ..get("wiki", &[])
    };
    assert_eq!(none.ask(&node, NOW), "deny service_auth_required");
}

/// Returns the providers with groups that an application's policies depend on, through any kind of
/// rule and at any depth.
#[test]
fn unknown_groups_are_reported_if_a_rule_needs_them() {
    let group = json!({"id": "g", "name": "g", "include": [{"okta": {"name": "Eng", "identity_provider_id": "deep"}}]});
    let policy = json!({
        "name": "p", "decision": "allow", "include": [{"everyone": {}}], "require": [{"group": {"id": "g"}}],
        "exclude": [
            {"saml": {"attribute_name": "Groups", "attribute_value": "x", "identity_provider_id": "saml"}},
            {"oidc": {"claim_name": "department", "claim_value": "x", "identity_provider_id": "oidc"}},
        ],
    });
    let app = with_policies("wiki", json!([policy]));
    let node = with_groups(&app, &[serde_json::from_value(group).unwrap()]);
    let alice = WORLD.people[0].identity();
    for (idp, asks) in [
        ("deep", true),
        ("saml", true),
        ("oidc", false),
        ("other", false),
    ] {
        let idp = IdpRef {
            id: IdpId(idp.into()),
            kind: String::new(),
        };
        let with = |groups| Identity {
            idp: idp.clone(),
            groups,
            ..alice.clone()
        };
        assert_eq!(
            node.applications()[0].misses_groups(&with(Groups::Unknown)),
            asks,
            "{idp:?}"
        );
        assert!(
            !node.applications()[0].misses_groups(&with(Groups::Known(Vec::new()))),
            "{idp:?}"
        );
    }
}

#[test]
fn certificate_never_passes_for_a_service_token() {
    let policy = json!({"name": "p", "decision": "non_identity", "include": [{"certificate": {}}]});
    let app = with_policies("wiki", json!([policy]));
    let node = compile(1, cases::TEAM_DOMAIN, &[app], &Arc::new(NodeCache::new(10)));
    let node = node.with_client_cas([authority("devices", "wiki.example.com")]);
    for nameless in ["a token's name", "nameless"] {
        let request = Raw {
            tls: shown(nameless),
            ..get("wiki", &[])
        };
        let Decision::Forward(permit) = request.decide(&node, NOW).unwrap() else {
            panic!("{nameless}")
        };
        assert!(
            permit.assertion().is_none()
                && matches!(permit.service_client(), Some(ServiceClient::Certificate(_)))
        );
    }
}

#[test]
fn browser_with_a_certificate_is_no_service_client() {
    let allow = json!({"name": "p", "decision": "allow", "include": [{"everyone": {}}], "require": [{"certificate": {}}]});
    let app = with_policies("wiki", json!([allow]));
    let node = compile(3, cases::TEAM_DOMAIN, &[app], node().cache());
    let node = node.with_client_cas([authority("devices", "wiki.example.com")]);
    let ask = |what: &str, with: &[&str]| {
        Raw {
            tls: shown(what),
            ..get("wiki", with)
        }
        .ask(&node, NOW)
    };
    assert_eq!(ask("right", &[]), "log in redirect no_session");
    assert_eq!(
        ask("right", &["cookie alice wiki"]),
        "forward wiki as alice@example.com by `p`"
    );
    assert_eq!(
        ask("none", &["cookie alice wiki"]),
        "deny no_policy_applied"
    );
    assert_eq!(
        ask("unasked", &["cookie alice wiki"]),
        format!("deny {}", Reason::IdentityIncomplete)
    );
    let application = &node.applications()[0];
    assert!(application.asks_for_certificates());
    assert_eq!(application.shortest_session(), Duration::from_secs(3_600));
}
