//! SAML responses that must be refused: changed, repeated, misdirected or malformed.

use super::login::{WIKI, begin, world};
use crate::support::saml::{ACS, SSO, Statement, form, log_in, response};

#[tokio::test]
async fn changed_response_is_refused_and_logged() {
    let world = world("").await;
    let mut browser = world.browser();
    let (to, relay_state) = begin(&mut browser).await;
    let changed = response(&to, &Statement::alice()).replace("alice@", "admin@");
    let page = browser
        .post_from_elsewhere(ACS, &form(&changed, &relay_state))
        .await;
    assert_eq!(page.response.status, 403);
    let text = page.response.text();
    assert!(
        text.contains("saml_signature") && !text.contains("admin@"),
        "{text}"
    );
    world
        .proxy
        .logged(
            0,
            &[
                "the SAML response was rejected at the step `signature`",
                "the signed element was modified after signing",
            ],
        )
        .await;
    assert!(
        browser
            .cookie("access.localhost", "CF_Authorization")
            .is_none()
    );
    // The flow was used, so a right answer comes too late.
    let page = browser
        .post_from_elsewhere(
            ACS,
            &form(&response(&to, &Statement::alice()), &relay_state),
        )
        .await;
    assert_eq!(page.response.status, 400, "{}", page.response.text());
    world.origin.assert_untouched("a forged response");
}

#[tokio::test]
async fn response_is_bound_to_its_browser_and_login() {
    let world = world("").await;
    let (mut alice, mut mallory) = (world.browser(), world.browser());
    let (to, relay_state) = begin(&mut alice).await;
    let (others, others_state) = begin(&mut mallory).await;
    let answer = response(&to, &Statement::alice());
    // Another browser, with its own login and with hers: that is not its to finish, and begins
    // anew.
    let page = mallory
        .post_from_elsewhere(ACS, &form(&answer, &others_state))
        .await;
    assert_eq!(page.response.status, 400, "{}", page.response.text());
    assert!(
        page.response.text().contains("saml_response"),
        "{}",
        page.response.text()
    );
    assert!(
        mallory
            .cookie("access.localhost", "CF_Authorization")
            .is_none()
    );
    mallory
        .post_until(ACS, &form(&answer, &relay_state), SSO)
        .await;
    assert!(
        mallory
            .cookie("access.localhost", "CF_Authorization")
            .is_none()
    );
    // A login that was not begun here.
    let page = mallory
        .post_from_elsewhere(
            ACS,
            &form(&response(&others, &Statement::alice()), "0123456789abcdef"),
        )
        .await;
    assert_eq!(page.response.status, 400);
    assert!(
        page.response.text().contains("flow_cookie_missing"),
        "{}",
        page.response.text()
    );
    world.origin.assert_untouched("another user's response");
    let page = alice
        .post_from_elsewhere(ACS, &form(&answer, &relay_state))
        .await;
    assert_eq!(
        page.response.status, 200,
        "hers is good still: {:#?}",
        alice.trail
    );
}

#[tokio::test]
async fn response_is_accepted_once() {
    let world = world("").await;
    let mut browser = world.browser();
    let (to, relay_state) = begin(&mut browser).await;
    let answer = form(&response(&to, &Statement::alice()), &relay_state);
    let mut copied = browser.clone();
    assert_eq!(
        browser
            .post_from_elsewhere(ACS, &answer)
            .await
            .response
            .status,
        200
    );
    let page = copied.post_from_elsewhere(ACS, &answer).await;
    assert_eq!(page.response.status, 400, "{:#?}", copied.trail);
    assert!(
        copied
            .cookie("access.localhost", "CF_Authorization")
            .is_none()
    );
}

#[tokio::test]
async fn malformed_response_is_refused() {
    let world = world("").await;
    let mut browser = world.browser();
    let (_, relay_state) = begin(&mut browser).await;
    for body in [
        "",
        "SAMLResponse=x",
        "RelayState=0123456789abcdef",
        "SAMLResponse=x&SAMLResponse=y&RelayState=0123456789abcdef",
    ] {
        assert_eq!(
            browser.post_from_elsewhere(ACS, body).await.response.status,
            400,
            "{body}"
        );
    }
    let long = format!(
        "SAMLResponse={}&RelayState={relay_state}",
        "A".repeat(600 * 1024)
    );
    assert_eq!(
        browser
            .post_from_elsewhere(ACS, &long)
            .await
            .response
            .status,
        413
    );
    let page = browser
        .post_from_elsewhere(ACS, &format!("SAMLResponse=%3C&RelayState={relay_state}"))
        .await;
    assert!(
        page.response.status == 403 && page.response.text().contains("saml_malformed"),
        "{}",
        page.response.text()
    );
}

/// This process has lost its flows, as another node. The store still has the use of the response.
#[tokio::test]
async fn response_is_accepted_once_on_all_nodes() {
    let mut world = world("").await;
    let mut browser = world.browser();
    let (to, relay_state) = begin(&mut browser).await;
    let answer = form(&response(&to, &Statement::alice()), &relay_state);
    let mut copied = browser.clone();
    world.proxy.stop().await;
    world.proxy.run().await;
    let page = browser.post_from_elsewhere(ACS, &answer).await;
    assert_eq!(
        (page.url.as_str(), page.response.status),
        (WIKI, 200),
        "{:#?}",
        browser.trail
    );
    world.proxy.stop().await;
    // The flow is used up, too. Without that the assertion itself still is.
    let database = world.proxy.database().await;
    let deleted = sqlx::query("DELETE FROM uses WHERE name LIKE 'flow %'")
        .execute(&database)
        .await
        .unwrap();
    assert_eq!(deleted.rows_affected(), 1);
    database.close().await;
    world.proxy.run().await;
    let page = copied.post_from_elsewhere(ACS, &answer).await;
    assert_eq!(page.response.status, 400, "{}", page.response.text());
    assert!(
        copied
            .cookie("access.localhost", "CF_Authorization")
            .is_none()
    );
    world
        .proxy
        .logged(0, &["the assertion was used before"])
        .await;
}

#[tokio::test]
async fn response_is_refused_while_the_store_is_down() {
    let world = world("").await;
    let mut browser = world.browser();
    let (to, relay_state) = begin(&mut browser).await;
    let database = world.proxy.database().await;
    sqlx::query("ALTER TABLE uses RENAME TO elsewhere")
        .execute(&database)
        .await
        .unwrap();
    let page = browser
        .post_from_elsewhere(
            ACS,
            &form(&response(&to, &Statement::alice()), &relay_state),
        )
        .await;
    assert_eq!(page.response.status, 503, "{}", page.response.text());
    assert!(
        browser
            .cookie("access.localhost", "CF_Authorization")
            .is_none()
    );
    world.origin.assert_untouched("a login without its flow");
    sqlx::query("ALTER TABLE elsewhere RENAME TO uses")
        .execute(&database)
        .await
        .unwrap();
    let page = log_in(&mut browser, WIKI, &Statement::alice()).await;
    assert_eq!(page.response.status, 200, "{:#?}", browser.trail);
}
