//! What becomes of sessions: logins that are refreshed, ended and taken back while something else
//! happens.

use std::time::Duration;

use serde_json::json;
use sqlx::SqlitePool;
use tokio::time::sleep;

use crate::support::browser::link;
use crate::support::okta::{API_TOKEN, CLIENT_ID, CLIENT_SECRET, Okta};
use crate::support::saml::{self, ACS, SSO, Statement, form, request, response};
use crate::support::{Browser, Config, Origin, Portcullis, application, at, start};

const WIKI: &str = "http://wiki.localhost/page";
const CALLBACK: &str = "http://access.localhost/cdn-cgi/access/callback";
const REFRESH: &str = "http://access.localhost/cdn-cgi/access/refresh-identity";
const IDENTITY: &str = "http://access.localhost/cdn-cgi/access/get-identity";
const LOGOUT: &str = "http://access.localhost/cdn-cgi/access/logout";
const ALICE: &str = "alice@example.com";
const BOB: &str = "bob@example.com";

async fn with(change: impl FnOnce(&mut Config)) -> (Portcullis, Okta, Origin) {
    let okta = Okta::start(&[CALLBACK]);
    let (proxy, origin) = start(&okta.issuer, change).await;
    (proxy, okta, origin)
}

async fn database(proxy: &Portcullis) -> SqlitePool {
    SqlitePool::connect(&format!(
        "sqlite://{}",
        proxy.path("portcullis.db").display()
    ))
    .await
    .unwrap()
}

/// From now on the store takes no revocation, until the trigger `full` is dropped.
async fn fill_up(database: &SqlitePool) {
    let full = "CREATE TRIGGER full BEFORE INSERT ON revocations BEGIN SELECT RAISE(FAIL, 'database or disk is full'); END";
    sqlx::query(full).execute(database).await.unwrap();
}

async fn status(browser: &mut Browser, url: &str) -> u16 {
    browser.fetch("GET", url, &[], b"").await.status
}

/// Waits until a request of the browser's ends with that status.
async fn until(browser: &mut Browser, url: &str, wanted: u16) {
    for _ in 0..600 {
        if status(browser, url).await == wanted {
            return;
        }
        sleep(Duration::from_millis(100)).await;
    }
    panic!("{url} is not {wanted}, but {}", status(browser, url).await);
}

/// Forgets what the provider knows of the browser.
fn leave_okta(browser: &mut Browser) {
    browser.cookies.retain(|cookie| cookie.host != "127.0.0.1");
}

#[tokio::test]
async fn a_refresh_that_comes_back_after_a_logout_begins_no_session() {
    let (proxy, okta, _origin) = with(|_| ()).await;
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
    // The same where it was ended elsewhere, and the cookie is still there.
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
async fn a_refresh_as_somebody_else_ends_the_first_ones_session() {
    let (proxy, _okta, origin) = with(|_| ()).await;
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
            "the first one's session, by whatever cookie"
        );
    }
    origin.assert_untouched("a session that is over");
    assert_eq!(
        browser.fetch("GET", IDENTITY, &[], b"").await.json()["email"],
        BOB
    );
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
async fn who_is_deactivated_is_out_though_the_store_takes_nothing() {
    let (mut proxy, okta, origin) = with(|config| {
        config.api_token = Some(API_TOKEN.to_owned());
        config.provider = r#", groups_refresh = "1s", groups_max_stale = "4s""#.to_owned();
        // Whoever the provider knows.
        config.rest = config.rest.replace(
            r#"include = [{ okta = { name = "Engineering", identity_provider_id = "okta" } }]"#,
            r#"include = [{ login_method = { id = "okta" } }]"#,
        );
    })
    .await;
    let mut browser = Browser::new(&proxy);
    assert_eq!(browser.open_as(WIKI, ALICE).await.response.status, 200);
    let database = database(&proxy).await;
    fill_up(&database).await;
    okta.control(json!({ "disable": ALICE })).await;
    until(&mut browser, WIKI, 401).await;
    let events = proxy.events("logout");
    assert_eq!(events.len(), 1, "said once: {events:?}");
    proxy.logged(0, &["the store did not answer"]).await;
    // As soon as the store takes it, no restart brings anybody back.
    sqlx::query("DROP TRIGGER full")
        .execute(&database)
        .await
        .unwrap();
    proxy
        .logged(
            0,
            &["the store has accepted a revocation that it did not accept before"],
        )
        .await;
    proxy.stop().await;
    okta.control(json!({ "api": { "faults": vec!["500"; 1000] } }))
        .await;
    proxy.run().await;
    origin.forget();
    assert_eq!(status(&mut browser, WIKI).await, 401);
    origin.assert_untouched("somebody who is gone");
}

#[tokio::test]
async fn groups_are_unknown_from_their_bound_on_however_long_the_api_takes() {
    let (proxy, okta, _origin) = with(|config| {
        config.api_token = Some(API_TOKEN.to_owned());
        config.provider = r#", groups_refresh = "1s", groups_max_stale = "5s""#.to_owned();
    })
    .await;
    let mut browser = Browser::new(&proxy);
    assert_eq!(browser.open_as(WIKI, ALICE).await.response.status, 200);
    okta.control(json!({ "api": { "faults": vec!["hang"; 1000] } }))
        .await;
    let before = proxy.log().len();
    until(&mut browser, WIKI, 403).await;
    let log = &proxy.log()[before..];
    assert!(log.contains("are too old and so unknown"), "{log}");
    assert!(
        !log.contains("did not return the groups"),
        "not only when the API was given up: {log}"
    );
    let page = browser.open(WIKI).await.response.text();
    assert!(
        page.contains("Failed to fetch user/group information from the identity provider"),
        "{page}"
    );
    okta.control(json!({ "api": { "faults": [] } })).await;
    until(&mut browser, WIKI, 200).await;
}

/// Somebody who is known, and whose groups nobody needed to watch since.
#[tokio::test]
async fn groups_that_nobody_watched_are_read_again_when_they_are_used() {
    let (proxy, okta, origin) = with(|config| {
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
    sleep(Duration::from_secs(4)).await;
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
        "nobody logged in anew"
    );
}

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

const ENGINEERS: &str = r#"{ okta = { name = "Engineering", identity_provider_id = "okta" } }"#;

/// `wiki` for engineers of Okta, `other` and `thirds` for anybody of two other providers.
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
async fn a_login_beside_another_one_makes_nothing_younger() {
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
    let older = "UPDATE identities SET identity = json_set(identity, '$.groups_seen.at', \
        json_extract(identity, '$.groups_seen.at') - 3600) WHERE json_extract(identity, '$.idp.id') = 'okta'";
    assert_eq!(
        sqlx::query(older)
            .execute(&database(&proxy).await)
            .await
            .unwrap()
            .rows_affected(),
        1
    );
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

/// Whoever is gone is out with all that stands beside, also after a restart and where the store
/// takes nothing.
#[tokio::test]
async fn who_is_gone_is_out_of_what_stands_beside_though_the_store_takes_nothing() {
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
    fill_up(&database(&proxy).await).await;
    okta.control(json!({ "disable": ALICE })).await;
    sleep(Duration::from_secs(5)).await;
    proxy.run().await;
    origin.forget();
    for url in [WIKI, OTHER] {
        assert_eq!(status(&mut browser, url).await, 401, "{url}");
    }
    origin.assert_untouched("somebody who is gone");
}

/// Whose logins stand beside each other, and for how long.
#[tokio::test]
async fn only_one_persons_living_logins_stand_beside_each_other() {
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
    // What is over stays over, also where the cookie is still there when somebody logs in anew.
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
async fn a_login_that_was_ended_elsewhere_begins_anew_beside_another_one() {
    let (proxy, okta, _origin) = three("").await;
    let mut browser = Browser::new(&proxy);
    for url in [WIKI, OTHER] {
        assert_eq!(browser.open_as(url, ALICE).await.response.status, 200);
    }
    let mut second = Browser::new(&proxy);
    assert_eq!(second.open_as(WIKI, ALICE).await.response.status, 200);
    // A logout everywhere is up to the second before.
    sleep(Duration::from_secs(2)).await;
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
    // What is over stands beside nothing.
    let most = "SELECT MAX(json_array_length(identity, '$.beside')) FROM identities";
    assert_eq!(
        sqlx::query_scalar::<_, i64>(most)
            .fetch_one(&database(&proxy).await)
            .await
            .unwrap(),
        1
    );
}

/// Over SAML a browser may show no session on its way back, and what it had when it left may be
/// over since.
#[tokio::test]
async fn what_was_signed_out_on_the_way_over_saml_stays_so() {
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

/// Where a script signs out, it is told where the provider's session ends, and nothing that the
/// provider said.
#[tokio::test]
async fn a_script_that_signs_out_sees_no_token_of_the_provider() {
    let (proxy, okta, _origin) =
        with(|config| config.provider = ", okta_logout = true".to_owned()).await;
    let mut browser = Browser::new(&proxy);
    assert_eq!(browser.open_as(WIKI, ALICE).await.response.status, 200);
    let answer = browser
        .fetch(
            "GET",
            "http://wiki.localhost/cdn-cgi/access/logout",
            &[],
            b"",
        )
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
    // Nobody else can make such a link.
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

/// A link to where the provider ends its session leads on from here where there is no such place.
#[tokio::test]
async fn a_way_to_the_provider_that_is_not_there_leads_to_where_was_asked_for() {
    let (proxy, _okta, _origin) =
        with(|config| config.provider = ", okta_logout = true".to_owned()).await;
    let mut browser = Browser::new(&proxy);
    assert_eq!(browser.open_as(WIKI, ALICE).await.response.status, 200);
    sqlx::query("DELETE FROM logout_hints")
        .execute(&database(&proxy).await)
        .await
        .unwrap();
    let logout =
        "http://wiki.localhost/cdn-cgi/access/logout?returnTo=http%3A%2F%2Fpay.localhost%2F";
    let text = browser.fetch("GET", logout, &[], b"").await.text();
    let way = link(&text, "Sign out of Example Okta too").unwrap_or_else(|| panic!("{text}"));
    let page = browser.open(&way).await;
    assert_eq!(
        link(&page.response.text(), "Continue").as_deref(),
        Some("http://pay.localhost/")
    );
}

/// People whose requests all go to an edge node: the team watches over their groups, too.
#[tokio::test]
async fn changes_of_groups_reach_people_at_an_edge_node() {
    // What both call it.
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
    until(&mut browser, &wiki, 403).await;
    okta.control(json!({ "disable": ALICE })).await;
    until(&mut browser, &wiki, 401).await;
    assert_eq!(team.events("logout").len(), 1, "said once");
}
