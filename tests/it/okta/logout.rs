//! Logout at the provider (OpenID Connect RP-Initiated Logout 1.0).

use crate::support::browser::link;
use crate::support::okta::{ALICE, CALLBACK, LOGOUT, Okta, WIKI, with};
use crate::support::{Browser, leads_to_login};

#[tokio::test]
async fn oidcc_client_test_rp_init_logout_ends_oktas_session() {
    let (proxy, okta, _origin) = with(Okta::start(&[CALLBACK]), |config| {
        config.provider = ", okta_logout = true".to_owned()
    })
    .await;
    let mut browser = Browser::new(&proxy);
    assert_eq!(browser.open_as(WIKI, ALICE).await.response.status, 200);
    let held = browser
        .cookies
        .iter()
        .filter(|cookie| cookie.host.ends_with(".localhost"));
    for cookie in held {
        assert!(!cookie.value.contains("okta"), "{cookie:?}");
    }
    let back = format!("{LOGOUT}?returnTo={}", "http%3A%2F%2Fwiki.localhost%2Fbye");
    let asked = browser.open(&back).await;
    assert_eq!(
        asked.url.path(),
        "/oauth2/v1/logout",
        "{:#?}",
        browser.trail
    );
    let query: Vec<_> = asked
        .url
        .query_pairs()
        .map(|(name, _)| name.into_owned())
        .collect();
    assert_eq!(
        query,
        [
            "id_token_hint",
            "client_id",
            "post_logout_redirect_uri",
            "state"
        ]
    );
    // The provider's page sends this by itself.
    let page = asked.response.text();
    let action = page
        .split("action=\"")
        .nth(1)
        .and_then(|rest| rest.split('"').next())
        .unwrap()
        .to_owned();
    let xsrf = page
        .split("name=\"xsrf\" value=\"")
        .nth(1)
        .and_then(|rest| rest.split('"').next())
        .unwrap()
        .to_owned();
    let form = format!("xsrf={xsrf}&logout=yes");
    let lines = ["Content-Type: application/x-www-form-urlencoded"];
    let answer = browser
        .request("POST", &action, &lines, form.as_bytes())
        .await;
    let home = answer.location().to_owned();
    let page = browser.open(&home).await;
    assert_eq!(
        (page.url.path(), page.response.status),
        ("/cdn-cgi/access/logged-out", 200)
    );
    let text = page.response.text();
    assert!(
        text.contains("You are signed out") && text.contains("Example Okta"),
        "{text}"
    );
    assert_eq!(
        link(&text, "Continue").as_deref(),
        Some("http://wiki.localhost/bye")
    );
    assert!(leads_to_login(
        &browser
            .request("GET", WIKI, &["Sec-Fetch-Mode: navigate"], b"")
            .await
    ));
    let again = browser.open(WIKI).await;
    assert!(
        again.response.text().contains("signin"),
        "the provider asks for credentials: {}",
        again.url
    );
    assert_eq!(okta.count("/oauth2/v1/token").await, 1);
}

/// A return with another `state`, or none, shows an ordinary page and revokes no session.
#[tokio::test]
async fn oidcc_client_test_rp_init_logout_other_or_no_state() {
    let (proxy, _okta, _origin) = with(Okta::start(&[CALLBACK]), |config| {
        config.provider = ", okta_logout = true".to_owned()
    })
    .await;
    let mut browser = Browser::new(&proxy);
    assert_eq!(browser.open_as(WIKI, ALICE).await.response.status, 200);
    let back = "http://access.localhost/cdn-cgi/access/logged-out";
    for url in [
        back.to_owned(),
        format!("{back}?state=other"),
        format!("{back}?state=a&state=b"),
    ] {
        let page = browser.open(&url).await;
        let text = page.response.text();
        assert!(
            page.response.status == 200
                && !text.contains("Example Okta")
                && !text.contains("href=\"http"),
            "{text}"
        );
    }
    assert_eq!(
        browser.get(WIKI).await.status,
        200,
        "the session is still there"
    );
}
