//! Service clients: the credentials that admit them, and the tokens that name them to origins.

use std::time::Duration;

use serde_json::json;

use super::*;
use crate::engine;
use crate::model::{ClientCertificate, Fingerprint, Groups, Identity, IdpId, IdpRef, Reason};
use crate::policy::PolicyDecision;

const CI: &str = "c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1.access";

#[test]
fn service_client_token_exists_before_a_request_is_sent() {
    let cache = Arc::new(NodeCache::new(1_000));
    let node = compile(1, cases::TEAM_DOMAIN, &WORLD.applications, &cache);
    cache.set_keys(node.issuer(), good_keys());
    let request = get("robots", &["service ci"]);
    let Decision::Resolve(Need::Assertion {
        aud: asked,
        common_name,
        expires,
    }) = request.decide(&node, NOW).unwrap()
    else {
        panic!()
    };
    assert_eq!(
        (&asked, &*common_name, expires),
        (&aud("robots"), CI, after(3_000)),
        "no longer than the token"
    );
    let forever = WORLD
        .service_tokens
        .iter()
        .find(|token| token.id == "ci")
        .unwrap()
        .settings(NOW);
    let forever = crate::model::ServiceToken {
        expires_at: None,
        ..forever
    };
    let Decision::Resolve(Need::Assertion { expires, .. }) = request
        .decide(&node.clone().with_service_tokens([forever]), NOW)
        .unwrap()
    else {
        panic!()
    };
    assert_eq!(expires, NOW.after(cases::LIFETIME));
    // That of another application, or of another program, is none.
    let set = |aud: &crate::model::Aud, name: &str, value: &'static str, renew_from| {
        cache.set_assertion(
            node.issuer(),
            (aud, name),
            http::HeaderValue::from_static(value),
            renew_from,
        );
    };
    set(&aud("mixed"), CI, "another application's", after(60));
    set(
        &aud("robots"),
        "01d01d01d01d01d01d01d01d01d01d01.access",
        "another program's",
        after(60),
    );
    assert_eq!(
        request.ask(&node, NOW),
        format!("resolve assertion of {CI}")
    );
    set(&aud("robots"), CI, "the right one", after(60));
    let Decision::Forward(permit) = request.decide(&node, NOW).unwrap() else {
        panic!()
    };
    assert_eq!(permit.assertion().unwrap(), "the right one");
    assert!(permit.assertion().unwrap().is_sensitive());
    assert!(permit.session().is_none() && permit.email().is_none() && permit.is_authenticated());
    assert!(!permit.takes_authorization());
    assert!(request.ask(&node, after(59)).starts_with("forward"));
    assert_eq!(
        request.ask(&node, after(60)),
        format!("resolve assertion of {CI}"),
        "in time before it expires"
    );
    // One that was signed with keys which are no longer published.
    cache.set_keys(
        node.issuer(),
        IssuerKeys {
            keys: Some(key_set(&[("other", &MINT.stranger)])),
            ..good_keys()
        },
    );
    assert_eq!(
        request.ask(&node, NOW),
        format!("resolve assertion of {CI}")
    );
    // A client that is admitted by IP address has no name, and needs no token.
    let nameless = Raw {
        client: "10.1.2.3".parse().unwrap(),
        ..get("robots", &[])
    };
    let Decision::Forward(permit) = nameless.decide(&node, NOW).unwrap() else {
        panic!()
    };
    assert!(
        permit.assertion().is_none()
            && permit.service_client().is_none()
            && permit.is_authenticated()
    );
}

#[test]
fn revoked_service_token_is_rejected_at_once() {
    let node = node();
    let request = get("robots", &["service ci"]);
    assert!(request.ask(&node, NOW).starts_with("forward"));
    assert!(request.ask(&node, after(2_999)).starts_with("forward"));
    assert_eq!(
        request.ask(&node, after(3_000)),
        "deny service_token_expired"
    );
    let without = node.clone().with_service_tokens([]);
    assert_eq!(request.ask(&without, NOW), "deny service_token_invalid");
    let token = WORLD
        .service_tokens
        .iter()
        .find(|token| token.id == "ci")
        .unwrap()
        .settings(NOW);
    let rotated = engine_token(&token, &[b"the next one"]);
    let rotated = node.clone().with_service_tokens([rotated]);
    assert_eq!(request.ask(&rotated, NOW), "deny service_token_invalid");
    assert!(
        get("robots", &["service ci next"])
            .ask(&rotated, NOW)
            .starts_with("forward")
    );
    let disabled = node.with_service_tokens([crate::model::ServiceToken {
        enabled: false,
        ..token
    }]);
    assert_eq!(request.ask(&disabled, NOW), "deny service_token_disabled");
}

fn engine_token(
    token: &crate::model::ServiceToken,
    secrets: &[&[u8]],
) -> crate::model::ServiceToken {
    let secrets = secrets
        .iter()
        .map(|secret| crate::model::SecretDigest::sha256(secret))
        .collect();
    crate::model::ServiceToken {
        secrets,
        ..token.clone()
    }
}

#[test]
fn rejected_service_token_is_logged_with_its_owner() {
    let node = node();
    let reason_for = |with: &str| match get("robots", &[with]).decide(&node, NOW).unwrap() {
        Decision::Deny(engine::Refusal {
            service_client: Some(ServiceClient::ServiceToken(token)),
            reason,
            ..
        }) => {
            format!("{} {reason}", token.id)
        }
        Decision::Deny(refusal) => format!("anonymous {}", refusal.reason),
        other => describe(&other),
    };
    assert_eq!(reason_for("service ci wrong"), "ci service_token_invalid");
    assert_eq!(
        reason_for("service ci id alone"),
        "ci service_token_invalid"
    );
    assert_eq!(reason_for("service late"), "late service_token_expired");
    assert_eq!(reason_for("service old"), "old no_policy_applied");
    assert_eq!(
        reason_for("service ci stranger"),
        "anonymous service_token_invalid"
    );
    assert_eq!(
        reason_for("service ci two ids"),
        "anonymous service_token_invalid"
    );
}

#[test]
fn linked_token_is_removed_from_the_forwarded_request() {
    let node = node();
    let permit = |with: &[&str]| match get("behind", with).decide(&node, NOW).unwrap() {
        Decision::Forward(permit) => permit,
        other => panic!("{}", describe(&other)),
    };
    let linked = permit(&["bearer alice wiki"]);
    assert!(
        linked.takes_authorization() && linked.assertion().is_none() && linked.session().is_none()
    );
    assert_eq!(linked.email().unwrap().as_str(), "alice@example.com");
    let Some(ServiceClient::LinkedApp { application, .. }) = linked.service_client() else {
        panic!()
    };
    assert_eq!(application.settings().id, "wiki");
    // In our own header, which never goes on; `Authorization` is the application's then.
    let linked = permit(&["header alice wiki", "bearer raw the application's own"]);
    assert!(!linked.takes_authorization() && linked.service_client().is_some());
    let own = permit(&["cookie alice behind", "bearer raw the application's own"]);
    assert!(!own.takes_authorization() && own.assertion().is_some());
    // It counts for rules about it, and for nothing else.
    let mut policies = WORLD.applications.clone();
    let behind = policies
        .iter_mut()
        .find(|app| app.name == "behind")
        .unwrap();
    behind.policies[0].require =
        vec![serde_json::from_value(json!({"ip": {"ip": "10.0.0.0/8"}})).unwrap()];
    let strict = compile(2, cases::TEAM_DOMAIN, &policies, node.cache());
    assert_eq!(
        get("behind", &["bearer alice wiki"]).ask(&strict, NOW),
        "deny no_policy_applied"
    );
    assert_eq!(
        get("behind", &["bearer alice app"]).ask(&strict, NOW),
        "log in redirect no_session"
    );
    // It admits no user that its own application would deny for the same request.
    assert!(
        get("wiki", &["cookie ivan wiki"])
            .ask(&node, NOW)
            .starts_with("deny")
    );
    assert_eq!(
        get("behind", &["bearer ivan wiki"]).ask(&node, NOW),
        "log in redirect no_session"
    );
    for excluded in [
        json!({"email": {"email": "alice@example.com"}}),
        json!({"ip": {"ip": "0.0.0.0/0"}}),
    ] {
        let mut policies = WORLD.applications.clone();
        let wiki = policies.iter_mut().find(|app| app.name == "wiki").unwrap();
        wiki.policies[0].exclude = vec![serde_json::from_value(excluded).unwrap()];
        let changed = compile(3, cases::TEAM_DOMAIN, &policies, node.cache());
        assert_eq!(
            get("behind", &["bearer alice wiki"]).ask(&changed, NOW),
            "log in redirect no_session"
        );
        assert_eq!(
            get("behind", &["bearer erin partners"]).ask(&changed, NOW),
            "forward behind as anonymous by `the wiki`"
        );
    }
}

#[test]
fn linked_token_is_taken_from_every_authorization_line() {
    let node = node();
    let open = open_behind(&node);
    let token = MINT.token(WORLD.person("alice"), "wiki", "");
    let [bearer, basic] = [format!("Bearer {token}"), "Basic YTpi".to_owned()];
    let odd = [
        format!("bearer  {token}"),
        format!("Bearer\t{token}"),
        format!("Token {token}"),
        format!("Bearer {token}, {basic}"),
    ];
    let lines = [
        vec![bearer.clone(), bearer.clone()],
        vec![basic.clone(), bearer.clone()],
        vec![bearer.clone(), basic.clone()],
    ];
    for lines in odd.into_iter().map(|line| vec![line]).chain(lines) {
        for with in [&["header alice wiki"][..], &["cookie alice behind"]] {
            assert!(takes(&node, with, &lines), "{with:?} {lines:?}");
        }
        for with in [&[][..], &["service ci wrong"], &["service late"]] {
            assert!(takes(&open, with, &lines), "{with:?} {lines:?}");
        }
    }
    assert!(takes(&open, &["service ci wrong"], &[bearer]));
    let none: [&[String]; 4] = [
        &[],
        &[basic.clone(), basic],
        &[format!(
            "Bearer {}",
            MINT.token(WORLD.person("alice"), "app", "")
        )],
        &[format!(
            "Bearer {}",
            MINT.token(WORLD.person("alice"), "wiki", "forged")
        )],
    ];
    for lines in none {
        assert!(!takes(&node, &["header alice wiki"], lines), "{lines:?}");
        assert!(!takes(&open, &["service ci wrong"], lines), "{lines:?}");
    }
}

#[test]
fn linked_token_behind_many_forged_ones_reaches_no_origin() {
    let open = open_behind(&node());
    let token = MINT.token(WORLD.person("alice"), "wiki", "");
    let (message, _) = token.rsplit_once('.').unwrap();
    let forged = (0..500)
        .map(|i| format!("{message}.{i:04}{}", "A".repeat(342 - 4)))
        .collect::<Vec<_>>()
        .join(" ");
    assert!(takes(&open, &[], &[format!("Bearer {forged} {token}")]));
}

/// The application behind the wiki, open to all users.
fn open_behind(node: &Snapshot) -> Snapshot {
    let mut applications = WORLD.applications.clone();
    let behind = applications
        .iter_mut()
        .find(|app| app.name == "behind")
        .unwrap();
    let policy = json!({"name": "open", "decision": "bypass", "include": [{"everyone": {}}]});
    behind
        .policies
        .insert(0, serde_json::from_value(policy).unwrap());
    compile(2, cases::TEAM_DOMAIN, &applications, node.cache())
}

/// Returns `true` if the permit for a request with these `Authorization` lines withholds them from
/// the origin.
fn takes(node: &Snapshot, with: &[&str], lines: &[String]) -> bool {
    let mut request = get("behind", with);
    for line in lines {
        request
            .headers
            .append(http::header::AUTHORIZATION, line.parse().unwrap());
    }
    match request.decide(node, NOW).unwrap() {
        Decision::Forward(permit) => permit.takes_authorization(),
        other => panic!("{}", describe(&other)),
    }
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
        (
            "unasked",
            ["no", "no", "no", "no", "no", "no", "kept out", "kept out"],
        ),
        (
            "none",
            ["no", "no", "no", "no", "in", "in", "let in", "let in"],
        ),
        (
            "right",
            ["in", "in", "in", "in", "no", "no", "kept out", "kept out"],
        ),
        (
            "nameless",
            ["in", "no", "in", "no", "no", "in", "kept out", "let in"],
        ),
        (
            "another name",
            ["in", "no", "in", "no", "no", "in", "kept out", "let in"],
        ),
        (
            "another's",
            ["no", "no", "no", "no", "in", "in", "let in", "let in"],
        ),
        (
            "expired",
            ["no", "no", "no", "no", "in", "in", "let in", "let in"],
        ),
    ] {
        let ask = |decision: PolicyDecision, clause: &str, rule: &serde_json::Value| {
            let mut policy = json!({"name": "p", "decision": decision, "include": [everyone]});
            policy[clause] = json!([rule]);
            let mut policies = vec![serde_json::from_value(policy).unwrap()];
            if decision == PolicyDecision::Deny {
                let allow = json!({"name": "q", "decision": "allow", "include": [everyone]});
                policies.push(serde_json::from_value(allow).unwrap());
            }
            let wiki = WORLD
                .applications
                .iter()
                .find(|app| app.name == "wiki")
                .unwrap();
            let app = App {
                policies,
                ..wiki.clone()
            };
            let cache = Arc::clone(node().cache());
            let node = compile(7, cases::TEAM_DOMAIN, &[app], &cache).with_client_cas([
                authority("devices", "wiki.example.com"),
                authority("partners", "other.example.com"),
            ]);
            let with: &[&str] = if decision == PolicyDecision::NonIdentity {
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
            if decision == PolicyDecision::Deny {
                if passes { "let in" } else { "kept out" }
            } else if passes {
                "in"
            } else {
                "no"
            }
        };
        let mut found = Vec::new();
        for clause in ["include", "require", "exclude"] {
            for rule in [&any, &one] {
                let allow = ask(PolicyDecision::Allow, clause, rule);
                assert_eq!(
                    ask(PolicyDecision::NonIdentity, clause, rule),
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
        assert_eq!(found, expected, "{what}");
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
    let wiki = WORLD
        .applications
        .iter()
        .find(|app| app.name == "wiki")
        .unwrap();
    let app = App {
        policies: vec![serde_json::from_value(policy).unwrap()],
        ..wiki.clone()
    };
    let (settings, cache) = (app.settings(Origins::new(())), Arc::new(NodeCache::new(10)));
    let node = Snapshot::compile(
        1,
        team(cases::TEAM_DOMAIN),
        (&[], &groups),
        vec![settings],
        cache,
    )
    .unwrap();
    let node = node.with_client_cas([authority("devices", "wiki.example.com")]);
    let request = Raw {
        tls: shown("right"),
        ..get("wiki", &[])
    };
    assert_eq!(request.ask(&node, NOW), "resolve assertion of device-1");
    let token = http::HeaderValue::from_static("told");
    node.cache()
        .set_assertion(node.issuer(), (&aud("wiki"), "device-1"), token, after(60));
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
    let wiki = WORLD
        .applications
        .iter()
        .find(|app| app.name == "wiki")
        .unwrap();
    let app = App {
        policies: vec![serde_json::from_value(policy).unwrap()],
        ..wiki.clone()
    };
    let (settings, cache) = (app.settings(Origins::new(())), Arc::new(NodeCache::new(10)));
    let groups = [serde_json::from_value(group).unwrap()];
    let node = Snapshot::compile(
        1,
        team(cases::TEAM_DOMAIN),
        (&[], &groups),
        vec![settings],
        cache,
    )
    .unwrap();
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
    let wiki = WORLD
        .applications
        .iter()
        .find(|app| app.name == "wiki")
        .unwrap();
    let app = App {
        policies: vec![serde_json::from_value(policy).unwrap()],
        ..wiki.clone()
    };
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
    let wiki = WORLD
        .applications
        .iter()
        .find(|app| app.name == "wiki")
        .unwrap();
    let app = App {
        policies: vec![serde_json::from_value(allow).unwrap()],
        ..wiki.clone()
    };
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

#[test]
fn repeat_request_allocates_nothing() {
    let node = node();
    for (app, with) in [
        ("mixed", "cookie alice mixed"),
        ("mixed", "service ci"),
        ("behind", "bearer alice wiki"),
    ] {
        let request = get(app, &[with]);
        let authority = HostPort::parse(request.host).unwrap();
        let path = CleanPath::parse(request.path).unwrap();
        let (method, headers, client) = (&request.method, &request.headers, request.client);
        let view = RequestView {
            method,
            authority,
            path,
            query: None,
            headers,
            client,
            tls: None,
        };
        assert!(
            matches!(decide(&node, &view, NOW), Decision::Forward(_)),
            "{with}"
        );
        let counted =
            allocation_counter::measure(|| drop(std::hint::black_box(decide(&node, &view, NOW))));
        assert_eq!(counted.count_total, 0, "{with}");
    }
}
