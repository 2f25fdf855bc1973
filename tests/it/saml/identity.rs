//! What a SAML response makes known of a person, and for how long, with the binary.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;

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

/// Logs in anew: where that ends.
async fn log_in(browser: &mut Browser, statement: &Statement) -> u16 {
    saml::log_in(browser, WIKI, statement).await.response.status
}

async fn told(browser: &mut Browser) -> Value {
    browser
        .fetch(
            "GET",
            "http://access.localhost/cdn-cgi/access/get-identity",
            &[],
            b"",
        )
        .await
        .json()
}

#[tokio::test]
async fn an_attribute_that_is_not_there_keeps_nobody_from_being_excluded() {
    let world = world().await;
    for (groups, status) in [
        (Some(vec!["Engineering"]), 200),
        (Some(vec!["Engineering", "contractors"]), 403),
        // None of them, by the provider's word.
        (Some(vec![]), 200),
        // As Entra sends it of somebody in more than 150 groups.
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
            world
                .origin
                .assert_untouched("somebody who may be a contractor");
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

/// How many seconds the session at that host lasts.
fn lasts(browser: &Browser, host: &str) -> i64 {
    let (_, claims) = open_token(
        browser
            .cookie(host, "CF_Authorization")
            .expect("there is a session"),
    );
    claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap()
}

#[tokio::test]
async fn a_session_ends_with_that_of_the_provider_if_not_earlier() {
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
async fn an_older_cookie_does_not_outlast_what_the_provider_said_since() {
    let world = world().await;
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
        session_ends: Some(10),
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
    sleep(Duration::from_secs(11)).await;
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
