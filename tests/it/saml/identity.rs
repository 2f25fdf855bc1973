//! Identities from SAML responses, and how long they count.

use serde_json::{Value, json};

use crate::support::saml::{self, SSO, Statement};
use crate::support::{Browser, World, open_token};

const WIKI: &str = "http://wiki.localhost/page";

/// The `wiki` for all but contractors.
async fn world() -> World {
    let rule = r#"
[[applications.policies]]
name = "staff"
decision = "allow"
include = [{ everyone = {} }]
exclude = [{ saml = { attribute_name = "groups", attribute_value = "contractors", identity_provider_id = "saml" } }]
"#;
    saml::world(r#"attributes = ["groups", "department"]"#, rule).await
}

/// Logs in again and returns the status.
async fn log_in(browser: &mut Browser, statement: &Statement) -> u16 {
    saml::log_in(browser, WIKI, statement).await.response.status
}

async fn told(browser: &mut Browser) -> Value {
    browser
        .get("http://access.localhost/cdn-cgi/access/get-identity")
        .await
        .json()
}

#[tokio::test]
async fn missing_attribute_does_not_prevent_exclusion() {
    let world = world().await;
    for (groups, status) in [
        (Some(vec!["Engineering"]), 200),
        (Some(vec!["Engineering", "contractors"]), 403),
        // None of them, by the provider's word.
        (Some(vec![]), 200),
        // As Entra sends it for users in more than 150 groups.
        (None, 403),
        (Some(vec!["\n  contractors\n"]), 403),
    ] {
        let mut browser = world.browser();
        let statement = Statement {
            groups: groups.clone(),
            ..Statement::alice()
        };
        world.origin.forget();
        assert_eq!(
            log_in(&mut browser, &statement).await,
            status,
            "{groups:?}: {:#?}",
            browser.trail
        );
        if status != 200 {
            world.origin.assert_untouched("a possible contractor");
        }
        let told = told(&mut browser).await;
        match groups {
            None => assert_eq!(
                told["oidc_fields"],
                json!({"department": "Research & Development, Köln"})
            ),
            Some(groups) if groups == ["Engineering"] => {
                assert_eq!(told["oidc_fields"]["groups"], "Engineering")
            }
            Some(_) => {}
        }
    }
}

/// Returns the lifetime of the session at that host, in seconds.
fn lasts(browser: &Browser, host: &str) -> i64 {
    let (_, claims) = open_token(
        browser
            .cookie(host, "CF_Authorization")
            .expect("there is a session"),
    );
    claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap()
}

#[tokio::test]
async fn session_ends_with_the_provider_session_or_earlier() {
    let world = world().await;
    let with = |session_ends| Statement {
        session_ends,
        ..Statement::alice()
    };
    for (session_ends, most) in [
        (None, 24 * 3600),
        (Some(900), 900),
        (Some(30 * 24 * 3600), 24 * 3600),
    ] {
        let mut browser = world.browser();
        assert_eq!(
            log_in(&mut browser, &with(session_ends)).await,
            200,
            "{:#?}",
            browser.trail
        );
        for host in ["access.localhost", "wiki.localhost"] {
            let lasts = lasts(&browser, host);
            assert!(
                (most - 20..=most).contains(&lasts),
                "{session_ends:?}: {lasts} s at {host}"
            );
        }
    }
    let mut browser = world.browser();
    assert_eq!(
        log_in(&mut browser, &with(Some(-1))).await,
        400,
        "{:#?}",
        browser.trail
    );
    assert!(
        browser
            .cookie("access.localhost", "CF_Authorization")
            .is_none()
    );
    world
        .proxy
        .logged(0, &["the identity provider's session has ended"])
        .await;
}

#[tokio::test]
async fn older_cookie_ends_with_the_newer_provider_session() {
    let mut world = world().await;
    let mut browser = world.browser();
    assert_eq!(
        log_in(&mut browser, &Statement::alice()).await,
        200,
        "{:#?}",
        browser.trail
    );
    let older = browser.cookies.clone();
    let refresh = "http://access.localhost/cdn-cgi/access/refresh-identity";
    let short = Statement {
        session_ends: Some(900),
        ..Statement::alice()
    };
    let page = saml::log_in(&mut browser, refresh, &short).await;
    assert_eq!(
        page.url.query(),
        Some("success=true"),
        "{:#?}",
        browser.trail
    );
    // As though the answer to that had been lost on the way.
    browser.cookies = older
        .into_iter()
        .filter(|cookie| cookie.host == "access.localhost")
        .collect();
    // As though those 900 seconds were over.
    world.proxy.stop().await;
    let database = world.proxy.database().await;
    let over = "UPDATE identities SET identity = json_set(identity, '$.session_ends', \
        json_extract(identity, '$.session_ends') - 900) \
        WHERE json_extract(identity, '$.session_ends') IS NOT NULL";
    let changed = sqlx::query(over).execute(&database).await.unwrap();
    assert_eq!(changed.rows_affected(), 1);
    database.close().await;
    world.proxy.run().await;
    assert!(
        browser
            .open_until(WIKI, SSO)
            .await
            .as_str()
            .starts_with(SSO),
        "{:#?}",
        browser.trail
    );
}
