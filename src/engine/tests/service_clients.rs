//! Service tokens, and the tokens that name service clients to origins.

use super::*;
use crate::engine;

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
}

#[test]
fn assertion_of_another_application_or_client_is_not_sent() {
    let cache = Arc::new(NodeCache::new(1_000));
    let node = compile(1, cases::TEAM_DOMAIN, &WORLD.applications, &cache);
    cache.set_keys(node.issuer(), good_keys());
    let request = get("robots", &["service ci"]);
    let set = |aud: &crate::model::Aud, name: &str, value: &'static str, renew_from| {
        cache.set_assertion(
            node.issuer(),
            AssertionOf {
                aud,
                common_name: name,
            },
            http::HeaderValue::from_static(value),
            renew_from,
        );
    };
    set(&aud("mixed"), CI, "another application's", after(60));
    set(
        &aud("robots"),
        "01d01d01d01d01d01d01d01d01d01d01.access",
        "another client's",
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
}

#[test]
fn client_admitted_by_address_needs_no_assertion() {
    let node = node();
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
