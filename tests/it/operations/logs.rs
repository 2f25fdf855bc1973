//! Whatever is logged at whatever level, nothing in it opens a door.

use crate::support::portcullis::find;
use crate::support::{APPLICATIONS, Person, World, okta, raw};

#[tokio::test]
async fn j18_complete_log_holds_no_secret() {
    let mut world = World::with(APPLICATIONS, |config| config.log = "trace").await;
    let mut secrets = vec![okta::CLIENT_SECRET.to_owned()];

    let mut alice = world
        .signed_in(Person::alice(), "http://wiki.localhost/page")
        .await;
    alice.open("http://app.localhost/admin").await;
    alice
        .get("http://wiki.localhost/cdn-cgi/access/get-identity")
        .await;
    let token = alice
        .cookie("wiki.localhost", "CF_Authorization")
        .unwrap()
        .to_owned();
    let line = format!("cf-access-token: {token}");
    world
        .raw(raw::request("GET", "wiki.localhost", "/", &[&line]))
        .await;
    let damaged = format!("Cookie: CF_Authorization={}", &token[..token.len() - 5]);
    world
        .raw(raw::request("GET", "wiki.localhost", "/", &[&damaged]))
        .await;
    let line = "Authorization: Bearer a-secret-for-the-origin";
    world
        .raw(raw::request(
            "GET",
            "open.localhost",
            "/",
            &[line, "Cookie: theirs=a-cookie-of-the-origin"],
        ))
        .await;

    let mut bob = world.browser();
    world.idp.script(|script| script.person = Person::bob());
    bob.open("http://wiki.localhost/").await;
    world.idp.script(|script| script.stranger_signs = true);
    let mut failing = world.browser();
    failing.open("http://wiki.localhost/").await;
    for browser in [&alice, &bob, &failing] {
        secrets.extend(browser.given.iter().cloned());
        let parameters = browser
            .trail
            .iter()
            .flat_map(|(url, _)| url.query_pairs().into_owned().collect::<Vec<_>>());
        secrets.extend(
            parameters
                .filter(|(name, _)| matches!(name.as_str(), "code" | "state" | "nonce"))
                .map(|(_, value)| value),
        );
    }
    alice
        .open("http://wiki.localhost/cdn-cgi/access/logout")
        .await;
    secrets.extend(world.idp.given());
    secrets.extend([
        "a-secret-for-the-origin".to_owned(),
        "a-cookie-of-the-origin".to_owned(),
    ]);
    // A signature alone is half a token.
    secrets.extend(
        secrets
            .clone()
            .iter()
            .filter_map(|s| Some(s.strip_prefix("ey")?.rsplit_once('.')?.1.to_owned())),
    );

    let metrics = world.proxy.metrics().await;
    world.proxy.stop().await;
    let log = world.proxy.log() + &world.proxy.complaints();
    // The harness enables every level. Messages of other crates below INFO, which contain requests,
    // must not be there.
    assert!(
        log.contains("\"level\":\"INFO\"") && !log.contains("\"target\":\"hyper"),
        "{log:.2000}"
    );
    for secret in secrets.iter().filter(|secret| secret.len() >= 8) {
        let line = log.lines().find(|line| line.contains(secret.as_str()));
        assert_eq!(line, None, "`{secret:.20}…` in the log");
        assert!(
            !metrics.contains(secret.as_str()),
            "`{secret:.20}…` in the metrics"
        );
    }
}

#[tokio::test]
async fn refused_login_is_audited_as_a_refusal() {
    let world = World::start().await;
    world.idp.script(|script| script.person = Person::bob());
    let mut bob = world.browser();
    assert_eq!(
        bob.open("http://wiki.localhost/").await.response.status,
        403
    );
    let metrics = world.proxy.metrics().await;
    let count = |name: &str| {
        metrics
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .map(str::trim)
    };
    let denied = r#"portcullis_requests_total{decision="deny",reason="no_policy_applied"}"#;
    assert_eq!(count(denied), Some("1"));
    assert_eq!(
        count(r#"portcullis_logins_total{outcome="refused",reason="no_policy_applied"}"#),
        Some("1")
    );
    assert_eq!(
        count(r#"portcullis_logins_total{outcome="success",reason="none"}"#),
        None
    );
    // The redirect, the login page; the callback is the refusal.
    assert_eq!(
        count(r#"portcullis_requests_total{decision="endpoint",reason="none"}"#),
        Some("1")
    );
    let events = world.proxy.events("login");
    let told = ["outcome", "reason", "application", "email", "idp", "via"]
        .map(|key| find(&events[0], key));
    let expected = [
        "refused",
        "no_policy_applied",
        "Wiki",
        "bob@example.com",
        "okta",
        "provider",
    ]
    .map(Some);
    assert_eq!(told, expected, "{events:#?}");
    assert_eq!(
        (events.len(), world.proxy.events("access").len()),
        (1, 0),
        "one event for one request id"
    );
}

#[tokio::test]
async fn login_without_the_provider_is_audited() {
    let world = World::start().await;
    let mut alice = world
        .signed_in(Person::alice(), "http://wiki.localhost/")
        .await;
    alice.open("http://app.localhost/").await;
    // Nothing is new to those who have their session.
    alice.open("http://app.localhost/again").await;
    let events = world.proxy.events("login");
    let told: Vec<_> = events
        .iter()
        .map(|event| ["outcome", "application", "via", "email"].map(|k| find(event, k)))
        .collect();
    let expected = [("Wiki", "provider"), ("App", "session")];
    assert_eq!(
        told,
        expected.map(|(name, via)| ["allowed", name, via, "alice@example.com"].map(Some)),
        "{events:#?}"
    );
    // Groups are lists, and in the event of the login that read them.
    let groups = |event: &serde_json::Value| event.get("groups").cloned();
    assert_eq!(
        groups(&events[0]),
        Some(serde_json::json!(["Everyone", "Engineering", "admins"])),
        "{events:#?}"
    );
    assert!(
        events[0]["claims"].is_object() && events[0]["amr"].is_array(),
        "{events:#?}"
    );
    assert_eq!(groups(&events[1]), None, "{events:#?}");
    let serving = world.proxy.logged(0, &["\"serving\""]).await;
    let serving: serde_json::Value = serde_json::from_str(&serving).unwrap();
    assert_eq!(
        serving["listeners"],
        serde_json::json!([world.proxy.address.to_string()])
    );
    let metrics = world.proxy.metrics().await;
    for reason in ["none", "session"] {
        let line = format!(r#"portcullis_logins_total{{outcome="success",reason="{reason}"}} 1"#);
        assert!(metrics.contains(&line), "{line}: {metrics}");
    }
}

/// The shadow policy of `open` would allow every user, that of `strict` no user, and that of
/// `closed` the users that no policy allows.
const SHADOWS: &str = r#"
[[applications]]
name = "Open"
domain = "open.$TLD"
origin = "$ORIGIN"
auto_redirect_to_identity = true
policies = [
    { name = "no login", decision = "bypass", include = [{ everyone = {} }], shadow = true },
    { name = "members", decision = "allow", include = [{ everyone = {} }] },
]

[[applications]]
name = "Strict"
domain = "strict.$TLD"
origin = "$ORIGIN"
auto_redirect_to_identity = true
policies = [
    { name = "nobody", decision = "deny", include = [{ everyone = {} }], shadow = true },
    { name = "members", decision = "allow", include = [{ everyone = {} }] },
]

[[applications]]
name = "Closed"
domain = "closed.$TLD"
origin = "$ORIGIN"
auto_redirect_to_identity = true
policies = [
    { name = "alice", decision = "allow", include = [{ email = { email = "alice@example.com" } }] },
    { name = "the rest", decision = "allow", include = [{ everyone = {} }], shadow = true },
]
"#;

#[tokio::test]
async fn shadow_outcomes_are_audited_before_and_at_login() {
    let world = World::with(SHADOWS, |_| ()).await;
    let answer = world
        .raw(raw::request("GET", "open.localhost", "/", &[]))
        .await
        .unwrap();
    assert!(crate::support::leads_to_login(&answer));
    world.idp.script(|script| script.person = Person::bob());
    let mut bob = world.browser();
    assert_eq!(
        bob.open("http://strict.localhost/").await.response.status,
        200
    );
    assert_eq!(
        bob.open("http://closed.localhost/").await.response.status,
        403
    );

    let metrics = world.proxy.metrics().await;
    let count = |policy: &str, outcome: &str| {
        let of = |line: &&str| {
            line.starts_with("portcullis_shadow_policies_total{")
                && [policy, outcome]
                    .iter()
                    .all(|label| line.contains(&format!("\"{label}\"")))
        };
        metrics
            .lines()
            .find(of)
            .and_then(|line| line.rsplit(' ').next()?.parse().ok())
    };
    assert_eq!(count("no login", "bypass"), Some(1), "{metrics}");
    assert_eq!(
        count("nobody", "deny"),
        Some(2),
        "at login, and on the request: {metrics}"
    );
    assert_eq!(count("the rest", "allow"), Some(1), "{metrics}");
    for words in [
        ["access", "refused", "no_session", "no login", "bypass"],
        ["login", "allowed", "Strict", "nobody", "deny"],
        ["login", "refused", "no_policy_applied", "the rest", "allow"],
    ] {
        let words = words.map(|word| format!("\"{word}\""));
        world
            .proxy
            .logged(0, &words.each_ref().map(String::as_str))
            .await;
    }
}
