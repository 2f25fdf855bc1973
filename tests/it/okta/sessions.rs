//! Sessions over time: logins that are refreshed, linked and revoked while other events happen.

use std::time::Duration;

use serde_json::json;
use sqlx::SqlitePool;
use tokio::time::sleep;

use crate::support::browser::link;
use crate::support::okta::{
    ALICE, API_TOKEN, BOB, CALLBACK, IDENTITY, LOGOUT, Okta, REFRESH, WIKI, with,
};
use crate::support::portcullis::find;
use crate::support::saml::{self, ACS, SSO, Statement, form, request, response};
use crate::support::{Browser, Config, Origin, Portcullis, application, at};

pub(super) const ENGINEERS: &str =
    r#"{ okta = { name = "Engineering", identity_provider_id = "okta" } }"#;

/// From now on the store takes no revocation, until the trigger `full` is dropped.
pub(super) async fn fill_up(database: &SqlitePool) {
    let full = "CREATE TRIGGER full BEFORE INSERT ON revocations BEGIN SELECT RAISE(FAIL, 'database or disk is full'); END";
    sqlx::query(full).execute(database).await.unwrap();
}

/// Makes the groups from Okta's API an hour older in the store of a stopped proxy.
pub(super) async fn age_groups(database: &SqlitePool) {
    let older = "UPDATE identities SET identity = json_set(identity, '$.groups_seen.at', \
        json_extract(identity, '$.groups_seen.at') - 3600) WHERE json_extract(identity, '$.idp.id') = 'okta'";
    let aged = sqlx::query(older).execute(database).await.unwrap();
    assert_eq!(aged.rows_affected(), 1);
}

pub(super) async fn status(browser: &mut Browser, url: &str) -> u16 {
    browser.get(url).await.status
}

/// Removes the provider's cookies from the browser.
pub(super) fn leave_okta(browser: &mut Browser) {
    browser.cookies.retain(|cookie| cookie.host != "127.0.0.1");
}

#[tokio::test]
async fn refresh_that_ends_after_a_logout_starts_no_session() {
    let (proxy, okta, _origin) = with(Okta::start(&[CALLBACK]), |_| ()).await;
    let mut browser = Browser::new(&proxy);
    assert_eq!(browser.open_as(WIKI, ALICE).await.response.status, 200);
    let back = browser.open_until(REFRESH, CALLBACK).await;
    browser.open(LOGOUT).await;
    let page = browser.open(back.as_str()).await;
    assert_eq!(
        page.response.status,
        401,
        "{} {:#?}",
        page.response.text(),
        browser.trail
    );
    assert_eq!(browser.cookie("access.localhost", "CF_Authorization"), None);
    assert_eq!(status(&mut browser, IDENTITY).await, 401);
    // The same if another browser revoked it, and the cookie is still there.
    let mut browser = Browser::new(&proxy);
    assert_eq!(browser.open_as(WIKI, ALICE).await.response.status, 200);
    let back = browser.open_until(REFRESH, CALLBACK).await;
    let (mut again, mut other) = (browser.clone(), browser.clone());
    other.open(LOGOUT).await;
    assert_eq!(again.open(back.as_str()).await.response.status, 401);
    assert_eq!(status(&mut again, IDENTITY).await, 401);
    assert_eq!(okta.count("/oauth2/v1/token").await, 4);
}

#[tokio::test]
async fn refresh_without_a_session_is_audited() {
    let (proxy, okta, _origin) = with(Okta::start(&[CALLBACK]), |_| ()).await;
    let page = Browser::new(&proxy).open(REFRESH).await;
    assert_eq!(page.response.status, 401);
    assert_eq!(okta.count("/oauth2/v1/authorize").await, 0);
    let events = proxy.events("login");
    let [event] = events.as_slice() else {
        panic!("{events:#?}")
    };
    assert_eq!(
        ["outcome", "reason"].map(|key| find(event, key)),
        [Some("refused"), Some("no_session")],
        "{event}"
    );
    let text = page.response.text();
    let id = find(event, "request_id").unwrap();
    assert!(text.contains(id) && text.contains("no_session"), "{text}");
}

#[tokio::test]
async fn refresh_as_another_user_revokes_the_first_session() {
    let (proxy, _okta, origin) = with(Okta::start(&[CALLBACK]), |_| ()).await;
    let mut browser = Browser::new(&proxy);
    assert_eq!(browser.open_as(WIKI, ALICE).await.response.status, 200);
    let first = browser.clone();
    leave_okta(&mut browser);
    let page = browser.open_as(REFRESH, BOB).await;
    assert!(
        page.response.text().contains(BOB) && !page.response.text().contains(ALICE),
        "{}",
        page.response.text()
    );
    origin.forget();
    for mut browser in [first, browser.clone()] {
        assert_eq!(
            status(&mut browser, WIKI).await,
            401,
            "the first one's session, by any cookie"
        );
    }
    origin.assert_untouched("a session that is over");
    assert_eq!(browser.get(IDENTITY).await.json()["email"], BOB);
    assert_eq!(
        browser.open(WIKI).await.response.status,
        403,
        "with the groups of the second one"
    );
    assert_eq!(
        browser.open("http://pay.localhost/").await.response.status,
        200
    );
}

#[tokio::test]
async fn deactivated_user_is_signed_out_while_the_store_is_full() {
    let (mut proxy, okta, origin) = with(Okta::start(&[CALLBACK]), |config| {
        config.api_token = Some(API_TOKEN.to_owned());
        config.provider = r#", groups_refresh = "1s", groups_max_stale = "4s""#.to_owned();
        // The user that the provider remembers.
        config.rest = config.rest.replace(
            r#"include = [{ okta = { name = "Engineering", identity_provider_id = "okta" } }]"#,
            r#"include = [{ login_method = { id = "okta" } }]"#,
        );
    })
    .await;
    let mut browser = Browser::new(&proxy);
    assert_eq!(browser.open_as(WIKI, ALICE).await.response.status, 200);
    let database = proxy.database().await;
    fill_up(&database).await;
    okta.control(json!({ "disable": ALICE })).await;
    browser.until_status(WIKI, 401, "later").await;
    let events = proxy.events("logout");
    assert_eq!(events.len(), 1, "said once: {events:?}");
    proxy.logged(0, &["the store did not respond"]).await;
    // As soon as the store accepts the revocation, it survives restarts.
    sqlx::query("DROP TRIGGER full")
        .execute(&database)
        .await
        .unwrap();
    proxy
        .logged(
            0,
            &["persisted a revocation that the store had rejected earlier"],
        )
        .await;
    proxy.stop().await;
    okta.control(json!({ "api": { "faults": vec!["500"; 1000] } }))
        .await;
    proxy.run().await;
    origin.forget();
    assert_eq!(status(&mut browser, WIKI).await, 401);
    origin.assert_untouched("a deactivated user");
}

#[tokio::test]
async fn slow_groups_api_does_not_extend_the_bound() {
    let (proxy, okta, _origin) = with(Okta::start(&[CALLBACK]), |config| {
        config.api_token = Some(API_TOKEN.to_owned());
        config.provider = r#", groups_refresh = "1s", groups_max_stale = "5s""#.to_owned();
    })
    .await;
    let mut browser = Browser::new(&proxy);
    assert_eq!(browser.open_as(WIKI, ALICE).await.response.status, 200);
    okta.control(json!({ "api": { "faults": vec!["hang"; 1000] } }))
        .await;
    let before = proxy.log().len();
    browser.until_status(WIKI, 403, "later").await;
    let log = &proxy.log()[before..];
    assert!(log.contains("group membership is stale"), "{log}");
    assert!(
        !log.contains("could not be read again"),
        "not only when the API was given up: {log}"
    );
    let page = browser.open(WIKI).await.response.text();
    assert!(
        page.contains("Failed to fetch user/group information from the identity provider"),
        "{page}"
    );
    okta.control(json!({ "api": { "faults": [] } })).await;
    browser.until_status(WIKI, 200, "later").await;
}

/// The user is known, but no session has needed the groups since.
#[tokio::test]
async fn unwatched_groups_are_fetched_when_used() {
    let (proxy, okta, origin) = with(Okta::start(&[CALLBACK]), |config| {
        config.api_token = Some(API_TOKEN.to_owned());
        config.provider = r#", groups_refresh = "1s", groups_max_stale = "2s""#.to_owned();
    })
    .await;
    let mut browser = Browser::new(&proxy);
    let pay = browser.open_as("http://pay.localhost/", ALICE).await;
    assert_eq!(
        pay.response.status, 403,
        "known, and without a session of any application"
    );
    okta.control(json!({ "assign": { "login": ALICE, "groups": ["Everyone"] } }))
        .await;
    // Longer than `groups_max_stale`, in whole seconds.
    sleep(Duration::from_secs(3)).await;
    origin.forget();
    assert_eq!(
        browser.open(WIKI).await.response.status,
        403,
        "{:#?}",
        browser.trail
    );
    origin.assert_untouched("groups of four seconds ago");
    assert_eq!(
        okta.count("/oauth2/v1/token").await,
        1,
        "there was no new login"
    );
}

/// Over SAML a browser may send no session on its way back. The session that it had before may be
/// revoked by then.
#[tokio::test]
async fn login_revoked_during_a_saml_login_stays_revoked() {
    let everybody = r#"
[[applications.policies]]
name = "everybody"
decision = "allow"
include = [{ everyone = {} }]
"#;
    let world = saml::world("", everybody).await;
    let mut browser = world.browser();
    let answer = |(to, relay_state): (String, String)| {
        form(&response(&to, &Statement::alice()), &relay_state)
    };
    assert_eq!(
        saml::log_in(&mut browser, WIKI, &Statement::alice())
            .await
            .response
            .status,
        200
    );

    let asked = request(&browser.open_until(REFRESH, SSO).await);
    let mut refreshing = browser.clone();
    browser.clone().open(LOGOUT).await;
    let page = refreshing.post_from_elsewhere(ACS, &answer(asked)).await;
    assert_eq!(page.response.status, 401, "{:#?}", refreshing.trail);
    assert_eq!(status(&mut refreshing, IDENTITY).await, 401);

    // A login is one of its own then, and good.
    let mut browser = world.browser();
    assert_eq!(
        saml::log_in(&mut browser, WIKI, &Statement::alice())
            .await
            .response
            .status,
        200
    );
    let switch = "http://access.localhost/cdn-cgi/access/login/wiki.localhost?switch=1";
    let asked = request(&browser.open_until(switch, SSO).await);
    browser.clone().open(LOGOUT).await;
    let page = browser.post_from_elsewhere(ACS, &answer(asked)).await;
    assert_eq!(page.response.status, 200, "{:#?}", browser.trail);
    assert_eq!(status(&mut browser, WIKI).await, 200);
}

/// A script that signs out receives the provider's logout URL, without any token of the provider.
#[tokio::test]
async fn logout_by_script_reveals_no_provider_token() {
    let (proxy, okta, _origin) = with(Okta::start(&[CALLBACK]), |config| {
        config.provider = ", okta_logout = true".to_owned()
    })
    .await;
    let mut browser = Browser::new(&proxy);
    assert_eq!(browser.open_as(WIKI, ALICE).await.response.status, 200);
    let answer = browser
        .get("http://wiki.localhost/cdn-cgi/access/logout")
        .await;
    let text = answer.text();
    assert!(
        answer.status == 200 && !text.contains("id_token_hint") && !text.contains("eyJ"),
        "{text}"
    );
    let way = link(&text, "Sign out of Example Okta too").unwrap_or_else(|| panic!("{text}"));
    assert!(
        way.starts_with("http://access.localhost/cdn-cgi/access/logged-out?"),
        "{way}"
    );
    let page = browser.open(&way).await;
    assert!(page.url.as_str().starts_with(&okta.issuer), "{}", page.url);
    assert_eq!(
        (page.url.path(), page.response.status),
        ("/oauth2/v1/logout", 200),
        "{}",
        page.response.text()
    );
    // Once.
    let page = browser.open(&way).await;
    assert_eq!(
        (page.url.path(), page.response.status),
        ("/cdn-cgi/access/logged-out", 200)
    );
    // Such a link cannot be forged.
    for forged in ["http%3A%2F%2Fevil.example", ""] {
        let page = browser
            .open(&format!(
                "http://access.localhost/cdn-cgi/access/logged-out?leave={forged}"
            ))
            .await;
        assert_eq!(
            (page.url.path(), page.response.status),
            ("/cdn-cgi/access/logged-out", 200)
        );
    }
}

/// If the provider has no logout endpoint, the link leads to the page that the user asked for.
#[tokio::test]
async fn missing_provider_logout_leads_to_return_to() {
    let (proxy, _okta, _origin) = with(Okta::start(&[CALLBACK]), |config| {
        config.provider = ", okta_logout = true".to_owned()
    })
    .await;
    let mut browser = Browser::new(&proxy);
    assert_eq!(browser.open_as(WIKI, ALICE).await.response.status, 200);
    sqlx::query("DELETE FROM logout_hints")
        .execute(&proxy.database().await)
        .await
        .unwrap();
    let logout =
        "http://wiki.localhost/cdn-cgi/access/logout?returnTo=http%3A%2F%2Fpay.localhost%2F";
    let text = browser.get(logout).await.text();
    let way = link(&text, "Sign out of Example Okta too").unwrap_or_else(|| panic!("{text}"));
    let page = browser.open(&way).await;
    assert_eq!(
        link(&page.response.text(), "Continue").as_deref(),
        Some("http://pay.localhost/")
    );
}

/// The team also refreshes groups of users whose requests all go to an edge node.
#[tokio::test]
async fn group_changes_reach_an_edge_node() {
    // The name that both use.
    let aud = format!("aud = \"{}\"\norigin =", "e".repeat(64));
    let apps = application("wiki", "okta", ENGINEERS).replace("origin =", &aud);
    let origin = Origin::start().await;
    let mut config = Config::new("http://127.0.0.1:9", &apps);
    config.domain = Some("access.localhost:$PORT".to_owned());
    config.api_token = Some(API_TOKEN.to_owned());
    config.provider = r#", groups_refresh = "1s", groups_max_stale = "5m""#.to_owned();
    // The callback has the team's port in it, which is known when the team runs.
    let mut team = Portcullis::start(at(config, &origin.url("http"))).await;
    let port = team.address.port();
    let okta = Okta::start(&[&format!(
        "http://access.localhost:{port}/cdn-cgi/access/callback"
    )]);
    team.stop().await;
    team.config.issuer.clone_from(&okta.issuer);
    team.write_config();
    team.run().await;
    let mut node = Config::new("http://127.0.0.1:9", &apps);
    node.domain = Some(format!("access.localhost:{port}"));
    node.certs_url = Some(format!(
        "http://access.localhost:{port}/cdn-cgi/access/certs"
    ));
    let node = Portcullis::start(at(node, &origin.url("http"))).await;
    let wiki = format!("http://wiki.localhost:{port}/page");
    let mut browser = Browser::new(&team);
    browser.leads_to("wiki.localhost", node.address);
    assert_eq!(
        browser.open_as(&wiki, ALICE).await.response.status,
        200,
        "{:#?}",
        browser.trail
    );
    okta.control(json!({ "assign": { "login": ALICE, "groups": ["Everyone"] } }))
        .await;
    // The node asks the team every fifteen seconds.
    browser.until_status(&wiki, 403, "later").await;
    okta.control(json!({ "disable": ALICE })).await;
    browser.until_status(&wiki, 401, "later").await;
    assert_eq!(team.events("logout").len(), 1, "said once");
}
