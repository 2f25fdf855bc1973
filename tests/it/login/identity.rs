//! The identity of a login: keys, tokens, groups and audit events.

use serde_json::json;

use super::begin::{WIKI, with_okta};
use crate::support::portcullis::find;
use crate::support::{APPLICATIONS, Browser, Person, World, okta, older, open_token};

#[tokio::test]
async fn expired_token_is_renewed_without_the_provider() {
    let applications =
        APPLICATIONS.replace(r#"session_duration = "8h""#, r#"session_duration = "1m""#);
    let world = World::with(&applications, |_| ()).await;
    let mut browser = world.signed_in(Person::alice(), WIKI).await;
    let token = browser
        .cookie("wiki.localhost", "CF_Authorization")
        .unwrap();
    let (_, claims) = open_token(token);
    let [issued, expires] = ["iat", "exp"].map(|claim| claims[claim].as_i64().unwrap());
    // The login may be a second older than the token.
    assert!((50..=60).contains(&(expires - issued)));
    // A minute later a browser has dropped the cookie. A thief still has it.
    let stale = format!("Cookie: CF_Authorization={}", older(token, 60));
    browser
        .cookies
        .retain(|cookie| cookie.host != "wiki.localhost");
    let answer = world.browser().fetch("GET", WIKI, &[&stale], b"").await;
    assert_eq!(answer.status, 401, "no leeway on our own sessions");
    let asked = world.idp.count("/oauth2/v1/authorize");
    browser.assert_opens(WIKI).await;
    assert_eq!(world.idp.count("/oauth2/v1/authorize"), asked);
}

#[tokio::test]
async fn token_header_works_like_the_cookie() {
    let world = World::start().await;
    let browser = world.signed_in(Person::alice(), WIKI).await;
    let token = browser
        .cookie("wiki.localhost", "CF_Authorization")
        .unwrap();
    let line = format!("cf-access-token: {token}");
    assert_eq!(
        world
            .browser()
            .fetch("GET", WIKI, &[&line], b"")
            .await
            .status,
        200
    );
    assert_eq!(
        world
            .browser()
            .fetch("GET", "http://pay.localhost/", &[&line], b"")
            .await
            .status,
        401,
        "another application"
    );
}

#[tokio::test]
async fn certs_have_two_keys_and_a_certificate_for_each() {
    let world = World::with(APPLICATIONS, |config| config.new_store = true).await;
    for host in ["access.localhost", "wiki.localhost"] {
        let answer = world
            .browser()
            .get(&format!("http://{host}/cdn-cgi/access/certs"))
            .await;
        let certs = answer.json();
        assert_eq!(
            (answer.status, certs["keys"].as_array().unwrap().len()),
            (200, 2),
            "{certs}"
        );
        for (key, certificate) in certs["keys"]
            .as_array()
            .unwrap()
            .iter()
            .zip(certs["public_certs"].as_array().unwrap())
        {
            assert_eq!(
                (&key["kty"], &key["alg"], &key["use"]),
                (&json!("RSA"), &json!("RS256"), &json!("sig"))
            );
            assert_eq!(key["kid"], certificate["kid"]);
            assert!(
                certificate["cert"]
                    .as_str()
                    .unwrap()
                    .starts_with("-----BEGIN CERTIFICATE-----")
            );
        }
    }
}

#[tokio::test]
async fn get_identity_returns_groups_and_no_token() {
    let world = World::start().await;
    let mut browser = world.signed_in(Person::alice(), WIKI).await;
    let url = "http://wiki.localhost/cdn-cgi/access/get-identity";
    let answer = browser.get(url).await;
    let identity = answer.json();
    assert_eq!(
        (answer.status, &identity["email"]),
        (200, &json!("alice@example.com"))
    );
    assert_eq!(identity["idp"]["type"], "okta");
    let groups = identity["groups"].as_array().unwrap();
    assert!(
        groups.iter().any(|group| group["name"] == "Engineering"),
        "{identity}"
    );
    assert!(answer.headers.lists("cache-control", "no-store"));
    assert!(
        !answer.text().contains("eyJ"),
        "a token in {}",
        answer.text()
    );
    let answer = world.browser().get(url).await;
    assert!(
        matches!(answer.status, 400..=403),
        "without a session: {}",
        answer.status
    );
}

#[tokio::test]
async fn more_than_a_hundred_groups_are_complete_or_refused() {
    let applications = APPLICATIONS.replace("Engineering", "zz-last-allowed");
    let (proxy, okta, origin) = with_okta(|config| {
        config.rest = applications;
        config.api_token = Some(okta::API_TOKEN.to_owned());
    })
    .await;
    for over_limit in ["truncate", "omit", "all"] {
        okta.control(json!({ "overLimit": over_limit })).await;
        let mut browser = Browser::new(&proxy);
        let page = browser.open_as(WIKI, "carol@example.com").await;
        assert_eq!(
            (page.url.as_str(), page.response.status),
            (WIKI, 200),
            "{over_limit}: {:#?}",
            browser.trail
        );
    }
    origin.forget();
    for over_limit in ["truncate", "omit"] {
        okta.control(json!({ "overLimit": over_limit, "api": { "faults": vec!["html"; 8] } }))
            .await;
        let page = Browser::new(&proxy)
            .open_as(WIKI, "carol@example.com")
            .await;
        assert!(
            matches!(page.response.status, 403 | 502 | 503),
            "{over_limit}, and no groups API: {}",
            page.response.status
        );
        okta.control(json!({ "api": { "faults": [] } })).await;
    }
    for (over_limit, thin) in [("error-token", false), ("error-authorize", true)] {
        okta.control(
            json!({ "overLimit": over_limit, "thin": thin, "api": { "faults": vec!["html"; 8] } }),
        )
        .await;
        let mut browser = Browser::new(&proxy);
        let page = browser.open_as(WIKI, "carol@example.com").await;
        let page = browser.sign_in(&page, "carol@example.com").await;
        assert_eq!(
            page.response.status,
            503,
            "{over_limit}: {}",
            page.response.text()
        );
        okta.control(json!({ "api": { "faults": [] } })).await;
    }
    origin.assert_untouched("logins whose groups are unknown");
}

#[tokio::test]
async fn exactly_a_hundred_groups_are_not_trusted() {
    let (proxy, okta, _origin) =
        with_okta(|config| config.api_token = Some(okta::API_TOKEN.to_owned())).await;
    let groups = "/api/v1/users/00u3hundred00000d7/groups";
    Browser::new(&proxy)
        .open_as("http://app.localhost/", "hundred@example.com")
        .await;
    assert!(
        okta.count(groups).await >= 1,
        "a hundred may be a hundred of more"
    );
    Browser::new(&proxy)
        .open_as("http://app.localhost/", "alice@example.com")
        .await;
    assert_eq!(
        okta.count("/api/v1/users/00u1alice0000000d7/groups").await,
        0,
        "five are five"
    );
}

#[tokio::test]
async fn fat_tokens_rotated_keys_and_unicode_names_work() {
    let (proxy, okta, origin) =
        with_okta(|config| config.rest = APPLICATIONS.replace("Engineering", "日本語グループ"))
            .await;
    for thin in [true, false] {
        okta.control(json!({ "thin": thin, "rotate": "drop" }))
            .await;
        let mut browser = Browser::new(&proxy);
        let page = browser.open_as(WIKI, "unicode@example.com").await;
        assert_eq!(
            (page.url.as_str(), page.response.status),
            (WIKI, 200),
            "thin {thin}: {:#?}",
            browser.trail
        );
    }
    origin.forget();
    let page = Browser::new(&proxy).open_as(WIKI, "zero@example.com").await;
    // Without an API token, no groups and too many groups look alike.
    assert!(
        matches!(page.response.status, 403 | 503),
        "{}",
        page.response.status
    );
    okta.control(json!({ "disable": "alice@example.com" }))
        .await;
    let page = Browser::new(&proxy)
        .open_as("http://app.localhost/", "alice@example.com")
        .await;
    assert!(
        matches!(page.response.status, 400..=403),
        "the provider refused: {}",
        page.response.status
    );
    origin.assert_untouched("people who may not");
}

#[tokio::test]
async fn audit_events_name_user_and_page() {
    let world = World::start().await;
    world.signed_in(Person::alice(), WIKI).await;
    let event = world.proxy.events("login").pop().unwrap();
    let text = event.to_string();
    assert!(
        text.contains("alice@example.com") && text.contains("okta"),
        "{text}"
    );
    world.idp.script(|script| script.person = Person::bob());
    world.browser().open(WIKI).await;
    let event = world.proxy.events("login").pop().unwrap();
    assert!(event.to_string().contains("bob@example.com"), "{event}");
    assert!(find(&event, "request_id").is_some(), "{event}");
}

#[tokio::test]
async fn incomplete_identity_is_fetched_again() {
    let application = r#"
[[applications]]
name = "Vault"
domain = "vault.$TLD"
origin = "$ORIGIN"
auto_redirect_to_identity = true
policies = [{ name = "two factors", decision = "allow", include = [{ auth_method = { auth_method = "mfa" } }] }]
"#;
    let world = World::with(application, |_| ()).await;
    world
        .idp
        .script(|script| script.claims = Box::new(|claims| drop(claims.remove("amr"))));
    let mut alice = world.browser();
    let page = alice.open("http://vault.localhost/page").await;
    let text = page.response.text();
    assert!(
        page.response.status == 403 && text.contains("We couldn't determine"),
        "{text}"
    );
    world.idp.script(|script| {
        script.claims = Box::new(|claims| drop(claims.insert("amr".into(), ["mfa"].into())))
    });
    let again = crate::support::browser::link(&text, "Try again").unwrap();
    let page = alice.open(&again).await;
    assert_eq!(
        (page.url.as_str(), page.response.status),
        ("http://vault.localhost/page", 200),
        "{:#?}",
        alice.trail
    );
    let prompted = alice
        .trail
        .iter()
        .any(|(url, _)| url.query_pairs().any(|(name, _)| name == "prompt"));
    assert!(!prompted, "a signed-in user sees no prompt");
}
