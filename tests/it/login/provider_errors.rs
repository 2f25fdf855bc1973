//! Errors that an identity provider sends back, with and without the login that they belong to.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;

use crate::support::raw::request;
use crate::support::{Answer, World};

const WIKI: &str = "http://wiki.localhost/deep?x=1";
const CALLBACK: &str = "/cdn-cgi/access/callback";

/// Answers the first `count` logins with this error, and the others as they should be.
fn fail_first(
    world: &World,
    count: usize,
    error: &'static str,
    description: &'static str,
) -> Arc<AtomicUsize> {
    let logins = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&logins);
    world.idp.script(move |script| {
        script.callback = Box::new(move |back| {
            if counted.fetch_add(1, Ordering::Relaxed) < count {
                back.remove("code");
                back.insert("error".into(), json!(error));
                back.insert("error_description".into(), json!(description));
            }
        });
    });
    logins
}

#[tokio::test]
async fn sign_in_that_expired_at_the_provider_begins_again() {
    let world = World::start().await;
    let logins = fail_first(
        &world,
        1,
        "temporarily_unavailable",
        "authentication_expired",
    );
    let mut browser = world.browser();
    browser.assert_opens(WIKI).await;
    assert_eq!(logins.load(Ordering::Relaxed), 2);
    let flows = browser
        .cookies
        .iter()
        .filter(|cookie| cookie.name.contains("CF_Session_"));
    assert_eq!(
        flows.filter(|cookie| !cookie.value.is_empty()).count(),
        0,
        "both flows are over"
    );
}

#[tokio::test]
async fn sign_in_that_keeps_expiring_ends_on_a_page() {
    let world = World::start().await;
    let logins = fail_first(
        &world,
        usize::MAX,
        "temporarily_unavailable",
        "authentication_expired",
    );
    let page = world.browser().open(WIKI).await;
    let text = page.response.text();
    assert_eq!(page.response.status, 400, "{text}");
    assert!(
        text.contains("took too long") && text.contains("Try again"),
        "{text}"
    );
    assert_eq!(
        logins.load(Ordering::Relaxed),
        2,
        "one second attempt and no third"
    );
    world.origin.assert_untouched("logins that failed");
}

#[tokio::test]
async fn provider_outage_is_not_retried() {
    let world = World::start().await;
    for description in ["", "authentication_expired "] {
        let logins = fail_first(&world, usize::MAX, "temporarily_unavailable", description);
        let page = world.browser().open(WIKI).await;
        assert_eq!(page.response.status, 503, "{}", page.response.text());
        assert_eq!(logins.load(Ordering::Relaxed), 1);
    }
}

#[tokio::test]
async fn error_without_state_keeps_its_reason() {
    let world = World::start().await;
    for (query, on_page, in_log) in [
        (
            "error=access_denied&error_description=User+is+not+assigned.",
            "access_denied",
            "User is not assigned.",
        ),
        (
            "error=access_denied&error_description=x&state=invented",
            "access_denied",
            "assign the user",
        ),
        (
            "error=call_0800_123&error_description=Your+account+is+locked",
            "refused the sign-in,",
            "call_0800_123",
        ),
        ("error=server_error", "server_error", "server_error"),
        (
            "error=invalid_scope&error_description=matched+too+many+groups",
            "invalid_scope",
            "api_token",
        ),
        (
            "error=x%0Aforged+line&error_description=%1B%5B2J",
            "refused the sign-in,",
            "x forged line",
        ),
    ] {
        let before = world.proxy.log().len();
        let answer = world
            .raw(request(
                "GET",
                "access.localhost",
                &format!("{CALLBACK}?{query}"),
                &[],
            ))
            .await
            .unwrap();
        let text = answer.text();
        assert_eq!(answer.status, 400, "{query}: {text}");
        assert!(
            text.contains(on_page) && text.contains("login_state"),
            "{query}: {text}"
        );
        assert!(
            text.contains("Open the application again at its own address."),
            "{query}: {text}"
        );
        for words in ["0800", "locked", "not assigned", "forged"] {
            assert!(!text.contains(words), "a page repeats foreign text: {text}");
        }
        world
            .proxy
            .logged(before, &["belongs to no login", in_log, "login_state"])
            .await;
    }
    let before = world.proxy.log().len();
    for query in ["", "?error=", "?code=x", "?error_description=x"] {
        let answer = world
            .raw(request(
                "GET",
                "access.localhost",
                &format!("{CALLBACK}{query}"),
                &[],
            ))
            .await
            .unwrap();
        assert_eq!(answer.status, 400, "{query}");
    }
    assert!(!world.proxy.log()[before..].contains("belongs to no login"));
}

#[tokio::test]
async fn error_after_a_lost_cookie_keeps_its_reason() {
    let world = World::start().await;
    fail_first(&world, usize::MAX, "access_denied", "User is not assigned.");
    let mut browser = world.browser();
    let callback = browser
        .open_until(WIKI, &format!("http://access.localhost{CALLBACK}"))
        .await;
    let before = world.proxy.log().len();
    let page = world.browser().open(callback.as_str()).await;
    assert_eq!(page.response.status, 400, "{}", page.response.text());
    world
        .proxy
        .logged(
            before,
            &[
                "belongs to no login",
                "User is not assigned.",
                "flow_cookie_missing",
            ],
        )
        .await;
}

#[tokio::test]
async fn web_page_of_the_token_endpoint_is_named() {
    let world = World::start().await;
    world.idp.script(|script| script.token = Answer::Html);
    let before = world.proxy.log().len();
    let page = world.browser().open(WIKI).await;
    assert_eq!(page.response.status, 503, "{}", page.response.text());
    world
        .proxy
        .logged(
            before,
            &[
                "a login failed",
                "200 OK and a web page instead of JSON",
                "curl",
            ],
        )
        .await;
    world.origin.assert_untouched("a login that failed");
}

/// The overage of Microsoft Entra ID, and of others that keep tokens small.
#[tokio::test]
async fn referenced_groups_end_no_login_that_needs_none() {
    let world = World::start().await;
    world.idp.script(|script| {
        script.claims = Box::new(|claims| {
            claims.insert("_claim_names".into(), serde_json::json!({"groups": "src1"}));
            claims.insert(
                "_claim_sources".into(),
                serde_json::json!({"src1": {"endpoint": "https://graph.test/x"}}),
            );
        });
        script.profile =
            Box::new(|profile| drop(profile.insert("groups".into(), serde_json::json!([]))));
    });
    let mut browser = world.browser();
    let page = browser.open("http://app.localhost/page").await;
    assert_eq!(page.response.status, 200, "{:#?}", browser.trail);
    world
        .proxy
        .logged(
            0,
            &[
                "\"WARN\"",
                "`groups` in the ID token: a reference in `_claim_names`",
            ],
        )
        .await;
    world.origin.last();
    let page = browser.open(WIKI).await;
    let text = page.response.text();
    assert!(
        page.response.status == 403 && text.contains("identity_incomplete"),
        "unknown and not empty: {text}"
    );
}
