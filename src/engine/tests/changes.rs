//! Changes reach open sessions on the next request.

use super::*;

fn with_groups(person: &Person, groups: Option<&[&str]>) -> IdentityState {
    let groups = groups.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
    IdentityState::Known(Arc::new(
        Person {
            groups,
            ..person.clone()
        }
        .identity(),
    ))
}

#[test]
fn changed_identity_record_applies_to_open_sessions() {
    let (node, alice) = (node(), WORLD.person("alice"));
    let request = get("admin", &["cookie alice admin"]);
    let allowed = "forward admin as alice@example.com by `admins`";
    let set = |state| node.cache().set_identity(alice.nonce(), state);
    assert_eq!(request.ask(&node, NOW), allowed);
    set(with_groups(alice, Some(&["Eng"])));
    assert_eq!(request.ask(&node, NOW), "deny no_policy_applied");
    set(with_groups(alice, None));
    assert_eq!(request.ask(&node, NOW), "deny identity_incomplete");
    set(with_groups(alice, Some(&["Admins"])));
    assert_eq!(request.ask(&node, NOW), allowed);
    set(IdentityState::Unavailable {
        retry_from: after(10),
    });
    assert_eq!(request.ask(&node, NOW), "unavailable identity_unavailable");
    assert_eq!(
        request.ask(&node, after(9)),
        "unavailable identity_unavailable"
    );
    assert_eq!(request.ask(&node, after(10)), "resolve identity");
    set(with_groups(alice, Some(&["Admins"])));
    assert_eq!(
        request.ask(&node, after(10)),
        allowed,
        "learned before its time"
    );
    set(IdentityState::Known(Arc::new(
        WORLD.person("bob").identity(),
    )));
    assert_eq!(
        request.ask(&node, NOW),
        "log in redirect session_invalid",
        "somebody else's record"
    );
    set(IdentityState::Missing);
    assert_eq!(request.ask(&node, NOW), "log in redirect session_revoked");
}

#[test]
fn token_refused_by_remote_team_covers_older_tokens() {
    let (node, alice) = (node(), WORLD.person("alice"));
    let request = get("admin", &["cookie alice admin"]);
    let issued = UnixTime(MINT.claims(alice, "admin")["iat"].as_u64().unwrap());
    let refuse = |issued| {
        node.cache().set_identity(
            alice.nonce(),
            IdentityState::Refused {
                issued,
                recheck: after(15),
            },
        );
    };
    // As the first request of that token, and as one of a session that was good.
    for _ in 0..2 {
        refuse(issued);
        assert_eq!(request.ask(&node, NOW), "log in redirect session_revoked");
        assert_eq!(
            request.ask(&node, after(14)),
            "log in redirect session_revoked"
        );
        assert_eq!(request.ask(&node, after(15)), "resolve identity");
        refuse(UnixTime(issued.0 - 1));
        assert_eq!(request.ask(&node, NOW), "resolve identity", "a newer one");
        record(node.cache(), alice);
        assert_eq!(
            request.ask(&node, NOW),
            "forward admin as alice@example.com by `admins`"
        );
    }
}

#[test]
fn logins_of_other_users_change_no_session() {
    let node = node();
    let request = get("admin", &["cookie alice admin"]);
    let session = || match request.decide(&node, NOW).unwrap() {
        Decision::Forward(permit) => Arc::clone(permit.session().unwrap()),
        other => panic!("{}", describe(&other)),
    };
    let before = session();
    record(node.cache(), WORLD.person("bob"));
    assert!(Arc::ptr_eq(&before, &session()) && Arc::ptr_eq(&before, &session()));
}

#[test]
fn keys_of_another_issuer_are_not_used() {
    let node = node();
    let request = get("wiki", &["cookie alice wiki"]);
    let allowed = "forward wiki as alice@example.com by `staff`";
    assert_eq!(request.ask(&node, NOW), allowed);
    // Keys of one issuer change neither another's keys nor their age.
    let forever = IssuerKeys {
        good_until: UnixTime(u64::MAX),
        ..good_keys()
    };
    node.cache().set_keys("https://other.example.com", forever);
    assert_eq!(request.ask(&node, NOW), allowed);
    let late = MINT.claims(WORLD.person("alice"), "wiki");
    assert!(late["exp"].as_u64().unwrap() < 7_200 + NOW.0);
    node.cache().set_keys(
        node.issuer(),
        IssuerKeys {
            good_until: after(60),
            ..good_keys()
        },
    );
    assert_eq!(request.ask(&node, after(59)), allowed);
    node.cache()
        .set_keys("https://other.example.com", good_keys());
    assert_eq!(request.ask(&node, after(60)), "resolve keys");
}

#[test]
fn new_key_under_an_old_name_is_fetched() {
    let node = node();
    let request = get("wiki", &["cookie alice wiki"]);
    let allowed = "forward wiki as alice@example.com by `staff`";
    let publish = |key, retry_from| {
        let keys = crate::token::KeySet::from_jwks(json!({ "keys": [key] }).to_string().as_bytes())
            .unwrap();
        node.cache().set_keys(
            node.issuer(),
            IssuerKeys {
                keys: Some(keys),
                retry_from,
                ..good_keys()
            },
        );
    };
    let mut old = MINT.stranger.to_jwk();
    old["kid"] = json!(MINT.key.kid());
    publish(old.clone(), NOW);
    assert_eq!(request.ask(&node, NOW), "resolve keys");
    publish(old, after(30));
    assert_eq!(
        request.ask(&node, after(29)),
        "log in redirect session_invalid",
        "not within the cooldown"
    );
    assert_eq!(request.ask(&node, after(30)), "resolve keys");
    publish(MINT.key.to_jwk(), after(30));
    assert_eq!(request.ask(&node, after(30)), allowed);
}

#[test]
fn sessions_of_a_former_team_domain_are_rejected() {
    let node = node();
    let request = get("wiki", &["cookie alice wiki"]);
    assert_eq!(
        request.ask(&node, NOW),
        "forward wiki as alice@example.com by `staff`"
    );
    let moved = compile(2, "login.example.net", &WORLD.applications, node.cache());
    assert_eq!(
        request.ask(&moved, NOW),
        "resolve keys",
        "nothing is known of the new issuer"
    );
    moved.cache().set_keys(moved.issuer(), good_keys());
    assert_eq!(
        request.ask(&moved, NOW),
        "log in redirect session_invalid",
        "the old issuer's token"
    );
}

#[test]
fn changed_policy_applies_to_open_sessions() {
    let node = node();
    let request = get("wiki", &["cookie bob wiki"]);
    assert_eq!(
        request.ask(&node, NOW),
        "forward wiki as bob@example.com by `staff`"
    );
    let mut apps = WORLD.applications.clone();
    // The indices of the applications change, too. A cached partial verdict must not be used for
    // another application.
    apps.reverse();
    let wiki = apps.iter_mut().find(|app| app.name == "wiki").unwrap();
    let admins = json!([{ "name": "admins", "decision": "allow", "include": [
        { "okta": { "name": "Admins", "identity_provider_id": "okta" } }] }]);
    wiki.policies = serde_json::from_value::<Vec<Policy>>(admins).unwrap();
    let changed = compile(2, cases::TEAM_DOMAIN, &apps, node.cache());
    assert_eq!(request.ask(&changed, NOW), "deny no_policy_applied");
    assert_eq!(
        request.ask(&node, NOW),
        "forward wiki as bob@example.com by `staff`",
        "the old one may still be in use"
    );
    assert_eq!(request.ask(&changed, NOW), "deny no_policy_applied");
}

#[test]
fn changed_allowed_provider_applies_to_open_sessions() {
    let node = node();
    let request = get("app", &["cookie alice app"]);
    assert_eq!(
        request.ask(&node, NOW),
        "forward app as alice@example.com by `anybody`"
    );
    let mut apps = WORLD.applications.clone();
    apps[1].allowed_idps = vec![crate::model::IdpId("okta-partners".into())];
    let changed = compile(2, cases::TEAM_DOMAIN, &apps, node.cache());
    assert_eq!(
        request.ask(&changed, NOW),
        "log in redirect session_invalid"
    );
}

#[test]
fn token_for_two_applications_is_evaluated_by_each() {
    let node = node();
    let wiki = get("wiki", &["cookie ivan app both"]);
    let app = get("app", &["cookie ivan app both"]);
    for _ in 0..2 {
        assert_eq!(
            app.ask(&node, NOW),
            "forward app as ivan@example.org by `anybody`"
        );
        assert_eq!(wiki.ask(&node, NOW), "deny no_policy_applied");
    }
}

#[test]
fn cached_session_opens_only_its_application() {
    let node = node();
    for name in ["alice", "bob"] {
        let token = [&*format!("cookie {name} app")];
        assert!(
            get("app", &token)
                .ask(&node, NOW)
                .starts_with("forward app")
        );
        for other in ["wiki", "admin", "vault", "tools", "partners", "closed"] {
            assert_eq!(
                get(other, &token).ask(&node, NOW),
                "log in redirect session_invalid",
                "{name} {other}"
            );
        }
    }
}

#[test]
fn session_ends_with_its_token() {
    let node = node();
    let request = get("wiki", &["cookie alice wiki"]);
    let ends = cases::LIFETIME.as_secs();
    assert!(request.ask(&node, after(ends - 1)).starts_with("forward"));
    assert_eq!(
        request.ask(&node, after(ends)),
        "log in redirect session_expired"
    );
    assert_eq!(node.cache().sessions(), 0);
    assert_eq!(
        request.ask(&node, after(ends)),
        "log in redirect session_expired"
    );
}

#[test]
fn stale_keys_decide_before_an_expired_session() {
    let claims = MINT.claims(WORLD.person("alice"), "wiki");
    let end = UnixTime(claims["exp"].as_u64().unwrap());
    let request = get("wiki", &["cookie alice wiki"]);
    let (seen, unseen) = (node(), node());
    assert_eq!(
        request.ask(&seen, NOW),
        "forward wiki as alice@example.com by `staff`"
    );
    let answers = [
        (end, "resolve keys"),
        (UnixTime(end.0 + 1), "unavailable keys_unavailable"),
    ];
    for node in [&seen, &unseen] {
        for (retry_from, answer) in answers {
            let stale = IssuerKeys {
                good_until: end,
                retry_from,
                ..good_keys()
            };
            node.cache().set_keys(node.issuer(), stale);
            assert_eq!(request.ask(node, end), answer);
        }
    }
}

/// If a request may have several tokens, the audience of each is checked before the age of the
/// keys.
#[test]
fn token_of_another_application_is_rejected_alike_when_seen() {
    let end = UnixTime(
        MINT.claims(WORLD.person("alice"), "wiki")["exp"]
            .as_u64()
            .unwrap(),
    );
    let answers = [
        (
            "app",
            "cookie alice wiki",
            "log in redirect session_invalid",
        ),
        ("behind", "bearer alice app", "log in redirect no_session"),
    ];
    let expired = ("behind", "bearer alice wiki", "log in redirect no_session");
    let stale = || IssuerKeys {
        good_until: NOW,
        ..good_keys()
    };
    let (seen, unseen) = (node(), node());
    for (app, with) in [("wiki", "cookie alice wiki"), ("app", "cookie alice app")] {
        let answer = get(app, &[with]).ask(&seen, NOW);
        assert!(answer.starts_with("forward"), "{answer}");
    }
    for node in [&unseen, &seen] {
        for (app, with, answer) in answers {
            assert_eq!(get(app, &[with]).ask(node, end), answer, "{with}, expired");
        }
    }
    for node in [&unseen, &seen] {
        node.cache().set_keys(node.issuer(), stale());
        for (app, with, answer) in answers {
            assert_eq!(get(app, &[with]).ask(node, NOW), answer, "{with}, stale");
        }
        let (app, with, answer) = expired;
        assert_eq!(get(app, &[with]).ask(node, end), answer, "{with}, both");
    }
}

#[test]
fn fetched_record_is_there_for_the_retry() {
    // A cache without room, and a record that is looked up again and again.
    let cache = Arc::new(NodeCache::new(1));
    let node = compile(1, cases::TEAM_DOMAIN, &WORLD.applications, &cache);
    cache.set_keys(node.issuer(), good_keys());
    let bob = get("app", &["cookie bob app"]);
    record(&cache, WORLD.person("bob"));
    for _ in 0..50 {
        assert!(bob.ask(&node, NOW).starts_with("forward"));
    }
    for _ in 0..20 {
        for name in ["alice", "bob", "carol"] {
            record(&cache, WORLD.person(name));
            let answer = get("app", &[&format!("cookie {name} app")]).ask(&node, NOW);
            assert!(answer.starts_with("forward"), "{name}: {answer}");
        }
    }
}

#[test]
fn rejected_token_is_not_cached() {
    let node = node();
    for flaw in [
        "forged",
        "stranger",
        "impostor",
        "org",
        "issuer",
        "expired",
        "early",
        "none",
        "nobody",
        "impersonation",
    ] {
        let request = get("wiki", &[&format!("cookie alice wiki {flaw}")]);
        assert!(request.ask(&node, NOW).starts_with("log in"), "{flaw}");
        assert_eq!(node.cache().sessions(), 0, "{flaw}");
    }
}
