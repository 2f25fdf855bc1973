//! Logins through several providers in one browser, which are linked to one user.

use std::time::Duration;

use serde_json::json;
use tokio::time::sleep;

use super::sessions::{ENGINEERS, age_groups, fill_up, leave_okta, status};
use crate::support::okta::{
    ALICE, API_TOKEN, BOB, CALLBACK, CLIENT_ID, CLIENT_SECRET, LOGOUT, Okta, WIKI,
};
use crate::support::{Browser, Config, Origin, Portcullis, application, at};

fn connection(id: &str, issuer: &str) -> String {
    format!(
        r#"
[[identity_providers]]
id = "{id}"
name = "{id}"
type = "oidc"
config = {{ client_id = "{CLIENT_ID}", client_secret = "{CLIENT_SECRET}", issuer = "{issuer}" }}
"#
    )
}

/// `wiki` for engineers of Okta, `other` and `thirds` for every user of two other providers.
async fn three(provider: &str) -> (Portcullis, Okta, Origin) {
    let (okta, origin) = (Okta::start(&[CALLBACK]), Origin::start().await);
    let issuer = &okta.issuer;
    let parts = [
        connection("second", issuer),
        connection("third", issuer),
        application("wiki", "okta", ENGINEERS),
        application("other", "second", "{ everyone = {} }"),
        application("thirds", "third", "{ everyone = {} }"),
    ];
    let mut config = Config::new(issuer, &parts.concat());
    config.api_token = Some(API_TOKEN.to_owned());
    config.provider = provider.to_owned();
    (
        Portcullis::start(at(config, &origin.url("http"))).await,
        okta,
        origin,
    )
}

const OTHER: &str = "http://other.localhost/";
const THIRDS: &str = "http://thirds.localhost/";

/// A record that a login beside it changes is no younger for that.
#[tokio::test]
async fn linked_login_does_not_renew_old_groups() {
    let (mut proxy, okta, origin) =
        three(r#", groups_refresh = "10m", groups_max_stale = "20m""#).await;
    let mut browser = Browser::new(&proxy);
    for url in [WIKI, OTHER] {
        assert_eq!(
            browser.open_as(url, ALICE).await.response.status,
            200,
            "{:#?}",
            browser.trail
        );
    }
    proxy.stop().await;
    age_groups(&proxy.database().await).await;
    okta.control(json!({ "assign": { "login": ALICE, "groups": ["Everyone"] } }))
        .await;
    proxy.run().await;
    assert_eq!(browser.open_as(THIRDS, ALICE).await.response.status, 200);
    origin.forget();
    assert_eq!(
        status(&mut browser, WIKI).await,
        403,
        "groups of an hour ago"
    );
    origin.assert_untouched("groups that are too old");
    // Beside each other they still are.
    browser.open(LOGOUT).await;
    for url in [WIKI, OTHER, THIRDS] {
        assert_eq!(status(&mut browser, url).await, 401, "{url}");
    }
}

/// A deactivated user loses all linked sessions, also after a restart and with a full store.
#[tokio::test]
async fn deactivated_user_loses_linked_sessions_on_a_full_store() {
    let (mut proxy, okta, origin) =
        three(r#", groups_refresh = "1s", groups_max_stale = "4s""#).await;
    let mut browser = Browser::new(&proxy);
    for url in [WIKI, OTHER] {
        assert_eq!(
            browser.open_as(url, ALICE).await.response.status,
            200,
            "{:#?}",
            browser.trail
        );
    }
    proxy.stop().await;
    let database = proxy.database().await;
    age_groups(&database).await;
    fill_up(&database).await;
    okta.control(json!({ "disable": ALICE })).await;
    proxy.run().await;
    origin.forget();
    for url in [WIKI, OTHER] {
        assert_eq!(status(&mut browser, url).await, 401, "{url}");
    }
    origin.assert_untouched("a deactivated user");
}

/// Logins are linked only if they are of one user, and as long as they are live.
#[tokio::test]
async fn only_live_logins_of_one_user_are_linked() {
    let (proxy, _okta, _origin) = three("").await;
    let mut browser = Browser::new(&proxy);
    for url in [WIKI, OTHER] {
        assert_eq!(browser.open_as(url, ALICE).await.response.status, 200);
    }
    // Out of any of them is out of all, by whichever cookie.
    let mut elsewhere = browser.clone();
    elsewhere
        .open("http://wiki.localhost/cdn-cgi/access/logout")
        .await;
    for url in [WIKI, OTHER] {
        assert_eq!(status(&mut browser, url).await, 401, "{url}");
    }
    // A revoked login stays revoked, also if its cookie is sent with a new login.
    assert_eq!(browser.open_as(THIRDS, ALICE).await.response.status, 200);
    for url in [WIKI, OTHER] {
        assert_eq!(status(&mut browser, url).await, 401, "{url}");
    }
    // Another person ends them all.
    assert_eq!(browser.open_as(OTHER, ALICE).await.response.status, 200);
    assert_eq!(status(&mut browser, THIRDS).await, 200);
    let mut first = browser.clone();
    leave_okta(&mut browser);
    assert_eq!(
        browser.open_as(WIKI, BOB).await.response.status,
        403,
        "not an engineer"
    );
    for url in [OTHER, THIRDS] {
        assert_eq!(status(&mut first, url).await, 401, "{url}");
        assert_eq!(status(&mut browser, url).await, 401, "{url}");
    }
}

/// A login that was ended elsewhere begins anew, beside one that goes on.
#[tokio::test]
async fn revoked_login_restarts_beside_a_linked_one() {
    let (proxy, okta, _origin) = three("").await;
    let mut browser = Browser::new(&proxy);
    for url in [WIKI, OTHER] {
        assert_eq!(browser.open_as(url, ALICE).await.response.status, 200);
    }
    let mut second = Browser::new(&proxy);
    assert_eq!(second.open_as(WIKI, ALICE).await.response.status, 200);
    // A logout everywhere is up to the second before.
    sleep(Duration::from_millis(1100)).await;
    second.open(LOGOUT).await;
    assert_eq!(status(&mut browser, WIKI).await, 401, "everywhere");
    assert_eq!(
        status(&mut browser, OTHER).await,
        200,
        "as another user of another provider"
    );
    let before = okta.count("/oauth2/v1/token").await;
    for _ in 0..3 {
        assert_eq!(
            browser.open_as(WIKI, ALICE).await.response.status,
            200,
            "{:#?}",
            browser.trail
        );
        assert_eq!(status(&mut browser, OTHER).await, 200);
    }
    assert_eq!(okta.count("/oauth2/v1/token").await, before + 1);
    // A revoked login is linked to no other.
    let most = "SELECT MAX(json_array_length(identity, '$.beside')) FROM identities";
    assert_eq!(
        sqlx::query_scalar::<_, i64>(most)
            .fetch_one(&proxy.database().await)
            .await
            .unwrap(),
        1
    );
}
