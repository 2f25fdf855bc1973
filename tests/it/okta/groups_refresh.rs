//! Groups and accounts that change during a session.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::time::sleep;

use crate::support::okta::{ALICE, API_TOKEN, CALLBACK, IDENTITY, Okta, REFRESH, WIKI, with};
use crate::support::{Browser, Config, eventually};

fn refreshing(config: &mut Config) {
    config.api_token = Some(API_TOKEN.to_owned());
    config.provider = r#", groups_refresh = "1s", groups_max_stale = "4s""#.to_owned();
}

#[tokio::test]
async fn group_changes_reach_running_sessions() {
    let (proxy, okta, _origin) = with(Okta::start(&[CALLBACK]), refreshing).await;
    let mut browser = Browser::new(&proxy);
    let page = browser.open_as(WIKI, ALICE).await;
    assert_eq!(page.response.status, 200, "{:#?}", browser.trail);
    let assign = |groups: &[&str]| json!({ "assign": { "login": ALICE, "groups": groups } });
    okta.control(assign(&["Everyone"])).await;
    browser.until_status(WIKI, 403, "out of the group").await;
    okta.control(assign(&["Everyone", "Engineering"])).await;
    browser.until_status(WIKI, 200, "in it again").await;
    let identity = browser.get(IDENTITY).await.json();
    assert_eq!(
        identity["groups"].as_array().unwrap().len(),
        2,
        "{identity}"
    );
    assert_eq!(
        okta.count("/oauth2/v1/token").await,
        1,
        "there was no new login"
    );
}

#[tokio::test]
async fn stale_groups_are_used_until_their_bound() {
    let (mut proxy, okta, origin) = with(Okta::start(&[CALLBACK]), refreshing).await;
    let mut browser = Browser::new(&proxy);
    assert_eq!(browser.open_as(WIKI, ALICE).await.response.status, 200);
    okta.control(json!({ "api": { "faults": vec!["html"; 10_000] } }))
        .await;
    let since = Instant::now();
    browser
        .until_status(WIKI, 403, "too old to be believed")
        .await;
    assert!(
        since.elapsed() > Duration::from_secs(2),
        "the last known ones stand for a while: {:?}",
        since.elapsed()
    );
    let identity = browser.get(IDENTITY).await.json();
    assert_eq!(
        identity["groups"],
        Value::Null,
        "unknown, and not none: {identity}"
    );
    proxy.logged(0, &["group membership is stale"]).await;
    // A restart makes nothing younger.
    proxy.stop().await;
    proxy.run().await;
    origin.forget();
    assert_eq!(browser.get(WIKI).await.status, 403);
    origin.assert_untouched("unknown groups");
    okta.control(json!({ "api": { "faults": [], "resetWindow": true } }))
        .await;
    browser.until_status(WIKI, 200, "known again").await;
    assert_eq!(
        okta.count("/oauth2/v1/token").await,
        1,
        "there was no new login"
    );
}

#[tokio::test]
async fn half_used_rate_limit_slows_the_refresh() {
    let (proxy, okta, _origin) = with(Okta::start(&[CALLBACK]), refreshing).await;
    okta.control(json!({ "api": { "limit": 30, "resetWindow": true } }))
        .await;
    let mut browser = Browser::new(&proxy);
    assert_eq!(browser.open_as(WIKI, ALICE).await.response.status, 200);
    let calls = async || {
        okta.control(json!({})).await["apiCalls"]
            .as_array()
            .unwrap()
            .len()
    };
    eventually("nothing is read again", async || calls().await > 15).await;
    // Two calls for each look, and a look every two seconds instead of every one.
    let before = calls().await;
    sleep(Duration::from_secs(4)).await;
    assert!(
        calls().await <= before + 6,
        "{} and then {}",
        before,
        calls().await
    );
    assert_eq!(browser.get(WIKI).await.status, 200);
    okta.control(json!({ "assign": { "login": ALICE, "groups": ["Everyone"] } }))
        .await;
    browser
        .until_status(WIKI, 403, "out of the group, in spite of the rate limit")
        .await;
}

#[tokio::test]
async fn deactivated_user_is_signed_out() {
    let (proxy, okta, origin) = with(Okta::start(&[CALLBACK]), refreshing).await;
    let (mut one, mut other) = (Browser::new(&proxy), Browser::new(&proxy));
    for browser in [&mut one, &mut other] {
        assert_eq!(browser.open_as(WIKI, ALICE).await.response.status, 200);
    }
    okta.control(json!({ "disable": ALICE })).await;
    one.until_status(WIKI, 401, "deactivated").await;
    other.until_status(WIKI, 401, "in every browser").await;
    origin.forget();
    let page = Browser::new(&proxy).open_as(WIKI, ALICE).await;
    assert_eq!(
        page.response.status,
        403,
        "the provider refuses: {}",
        page.response.text()
    );
    origin.assert_untouched("a deactivated user");
    let events = proxy.events("logout");
    assert!(
        events
            .iter()
            .any(|event| event.to_string().contains("deactivated")),
        "{events:?}"
    );
}

#[tokio::test]
async fn refresh_identity_fetches_from_the_provider() {
    let (proxy, okta, _origin) = with(Okta::start(&[CALLBACK]), |_| ()).await;
    let nobody = Browser::new(&proxy).open(REFRESH).await;
    assert_eq!(nobody.response.status, 401, "{}", nobody.response.text());
    let mut browser = Browser::new(&proxy);
    assert_eq!(browser.open_as(WIKI, ALICE).await.response.status, 200);
    let pay = "http://pay.localhost/";
    assert_eq!(
        browser.open(pay).await.response.status,
        403,
        "not in Finance"
    );
    okta.control(json!({ "assign": { "login": ALICE, "groups": ["Finance", "Everyone"] } }))
        .await;
    assert_eq!(
        browser.get(WIKI).await.status,
        200,
        "nothing is known of it"
    );
    let script = browser.get(REFRESH).await;
    assert_eq!(script.status, 403, "a script begins no login");
    let asked = browser.clone().open_until(REFRESH, &okta.issuer).await;
    assert!(
        asked
            .query_pairs()
            .any(|(name, value)| name == "login_hint" && value == ALICE),
        "{asked}"
    );
    let page = browser.open(REFRESH).await;
    assert_eq!(
        page.url.as_str(),
        format!("{REFRESH}?success=true"),
        "{:#?}",
        browser.trail
    );
    assert!(
        page.response.text().contains(ALICE),
        "{}",
        page.response.text()
    );
    assert_eq!(
        browser.get(WIKI).await.status,
        403,
        "the old session, the new groups"
    );
    assert_eq!(browser.open(pay).await.response.status, 200);
    // If another user signed in, the session of the first is revoked.
    okta.control(json!({ "disable": ALICE })).await;
    let page = browser.open(REFRESH).await;
    assert!(!page.url.as_str().contains("success"), "{}", page.url);
}
