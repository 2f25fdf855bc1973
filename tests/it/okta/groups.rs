//! Okta whole: groups in every number and shape, changes that reach living sessions, keys instead
//! of secrets, and the end of Okta's own session.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::time::sleep;

use crate::support::browser::link;
use crate::support::okta::{API_TOKEN, CLIENT_ID, CLIENT_SECRET, Okta};
use crate::support::{
    APPLICATIONS, Browser, Config, Origin, Portcullis, application, leads_to_login, start,
};

const WIKI: &str = "http://wiki.localhost/page";
const CALLBACK: &str = "http://access.localhost/cdn-cgi/access/callback";
const REFRESH: &str = "http://access.localhost/cdn-cgi/access/refresh-identity";
const IDENTITY: &str = "http://access.localhost/cdn-cgi/access/get-identity";
const LOGOUT: &str = "http://access.localhost/cdn-cgi/access/logout";
const ALICE: &str = "alice@example.com";
const FAILED: &str = "Failed to fetch user/group information from the identity provider";

async fn with(okta: Okta, change: impl FnOnce(&mut Config)) -> (Portcullis, Okta, Origin) {
    let (proxy, origin) = start(&okta.issuer, change).await;
    (proxy, okta, origin)
}

/// `last` is the one group that counts, and the last of all.
fn crowd(count: usize, last: &str) -> Vec<String> {
    let mut names: Vec<String> = (1..count).map(|n| format!("crowd-{n:03}")).collect();
    names.extend((count > 0).then(|| last.to_owned()));
    names
}

/// How a login of somebody with that many groups ends: the status, and what the page says.
async fn log_in(proxy: &Portcullis) -> (u16, String) {
    let page = Browser::new(proxy).open_as(WIKI, ALICE).await;
    (page.response.status, page.response.text())
}

fn assert_failed_closed(what: &str, (status, page): &(u16, String)) {
    assert_eq!(*status, 503, "{what}: {page}");
    assert!(
        page.contains(FAILED) && page.contains("administrator"),
        "{what}: {page}"
    );
}

#[tokio::test]
async fn any_number_of_groups_in_every_shape_with_a_token() {
    let okta = Okta::start(&[CALLBACK]);
    let (proxy, okta, origin) =
        with(okta, |config| config.api_token = Some(API_TOKEN.to_owned())).await;
    for count in [0, 99, 100, 101, 450] {
        for (thin, over_limit) in [
            (true, "truncate"),
            (true, "omit"),
            (true, "all"),
            (false, "truncate"),
            (false, "omit"),
        ] {
            let groups = crowd(count, "Engineering");
            let wish = json!({
                "assign": { "login": ALICE, "groups": groups }, "thin": thin, "overLimit": over_limit, "forget": true,
            });
            okta.control(wish).await;
            origin.forget();
            let (status, page) = log_in(&proxy).await;
            let expected = if count == 0 { 403 } else { 200 };
            assert_eq!(
                status, expected,
                "{count} groups, thin {thin}, {over_limit}: {page}"
            );
            assert_eq!(origin.seen().len(), usize::from(count > 0));
            let calls = okta.count("/api/v1/users/00u1alice0000000d7/groups").await;
            let pages = if count == 99 {
                0
            } else {
                count.div_ceil(200).max(1)
            };
            assert_eq!(
                calls, pages as u64,
                "{count} groups, thin {thin}, {over_limit}"
            );
        }
    }
}

#[tokio::test]
async fn more_than_a_hundred_groups_without_a_token_fail_closed() {
    let (proxy, okta, origin) = with(Okta::start(&[CALLBACK]), |_| ()).await;
    for count in [0, 99, 100, 101, 450] {
        for over_limit in ["truncate", "omit", "all", "error-token", "error-authorize"] {
            let groups = crowd(count, "Engineering");
            okta.control(
                json!({ "assign": { "login": ALICE, "groups": groups }, "overLimit": over_limit }),
            )
            .await;
            origin.forget();
            let before = proxy.log().len();
            let ended = log_in(&proxy).await;
            match (count, over_limit) {
                // Nobody can tell none from all too many; a policy that asks for a group lets
                // nobody in either way.
                (0, _) | (101.., "omit") => {
                    assert_eq!(ended.0, 403, "{count}, {over_limit}: {}", ended.1);
                    assert!(
                        ended.1.contains(FAILED) && ended.1.contains("administrator"),
                        "{}",
                        ended.1
                    );
                    proxy
                        .logged(
                            before,
                            &[
                                "a login could not be decided",
                                "hint",
                                "Groups claim filter",
                            ],
                        )
                        .await;
                }
                (99, _) => assert_eq!(ended.0, 200, "{over_limit}: {}", ended.1),
                _ => {
                    assert_failed_closed(&format!("{count}, {over_limit}"), &ended);
                    proxy
                        .logged(before, &["a login failed", "hint", "api_token"])
                        .await;
                }
            }
            assert_eq!(
                origin.seen().len(),
                usize::from(count == 99),
                "{count}, {over_limit}"
            );
        }
    }
}

/// A rule on the claim itself, which Okta cuts or leaves out, sees what is known of the groups.
#[tokio::test]
async fn a_claim_of_groups_says_no_less_than_the_groups() {
    let no_contractors = r#"exclude = [{ oidc = { claim_name = "groups", claim_value = "Contractors", identity_provider_id = "okta" } }]"#;
    let rule = application("wiki", "okta", "{ everyone = {} }") + no_contractors;
    for token in [false, true] {
        let (proxy, okta, origin) = with(Okta::start(&[CALLBACK]), |config| {
            rule.clone_into(&mut config.rest);
            config.provider = r#", claims = ["groups"]"#.to_owned();
            if token {
                config.api_token = Some(API_TOKEN.to_owned());
                config.provider += r#", groups_refresh = "1s""#;
            }
        })
        .await;
        for over_limit in ["omit", "truncate"] {
            let groups = crowd(120, "Contractors");
            okta.control(
                json!({ "assign": { "login": ALICE, "groups": groups }, "overLimit": over_limit }),
            )
            .await;
            let (status, page) = log_in(&proxy).await;
            assert!(
                matches!(status, 403 | 503),
                "{over_limit}, token {token}: {status} {page}"
            );
        }
        origin.assert_untouched("contractors");
        okta.control(json!({ "assign": { "login": ALICE, "groups": ["Everyone"] } }))
            .await;
        let mut browser = Browser::new(&proxy);
        assert_eq!(
            browser.open_as(WIKI, ALICE).await.response.status,
            200,
            "nobody's contractor"
        );
        if token {
            okta.control(
                json!({ "assign": { "login": ALICE, "groups": ["Everyone", "Contractors"] } }),
            )
            .await;
            until(&mut browser, WIKI, 403, "a contractor since").await;
        }
    }
}

#[tokio::test]
async fn every_fault_of_the_groups_api_fails_closed() {
    let okta = Okta::start(&[CALLBACK]);
    let (proxy, okta, origin) =
        with(okta, |config| config.api_token = Some(API_TOKEN.to_owned())).await;
    okta.control(json!({ "assign": { "login": ALICE, "groups": crowd(450, "Engineering") }, "overLimit": "omit" }))
        .await;
    for (faults, hint) in [
        (json!(["html"]), "ThreatInsight"),
        (json!(["500", "500"]), "ThreatInsight"),
        (json!(["reset", "reset"]), "ThreatInsight"),
        (json!(["500", "html"]), "ThreatInsight"),
        (json!([null, "503", "503"]), "ThreatInsight"),
        (json!([null, null, "html"]), "ThreatInsight"),
        (json!(["foreign-next"]), "ThreatInsight"),
        (json!(["429"]), "Rate Limits"),
        (json!([null, "429"]), "Rate Limits"),
    ] {
        // A window that has just begun lasts longer than anybody waits.
        okta.control(json!({ "api": { "faults": [], "resetWindow": true } }))
            .await;
        okta.control(json!({ "api": { "faults": faults } })).await;
        let before = proxy.log().len();
        let ended = log_in(&proxy).await;
        assert_failed_closed(&faults.to_string(), &ended);
        proxy.logged(before, &["a login failed", hint]).await;
        okta.control(json!({ "api": { "faults": [] } })).await;
    }
    origin.assert_untouched("logins whose groups are unknown");
    assert_eq!(log_in(&proxy).await.0, 200, "and all is well again");
}

#[tokio::test]
async fn one_fault_of_the_groups_api_fails_no_login() {
    let okta = Okta::start(&[CALLBACK]);
    let (proxy, okta, _origin) =
        with(okta, |config| config.api_token = Some(API_TOKEN.to_owned())).await;
    okta.control(json!({ "assign": { "login": ALICE, "groups": crowd(450, "Engineering") }, "overLimit": "omit" }))
        .await;
    for faults in [
        json!(["500"]),
        json!(["reset"]),
        json!([null, "503"]),
        json!([null, null, "reset"]),
    ] {
        okta.control(json!({ "api": { "faults": faults } })).await;
        assert_eq!(log_in(&proxy).await.0, 200, "{faults}");
    }
}

/// Okta fails the whole login over a claim that it cannot fill, and the API knows the groups all
/// the same.
#[tokio::test]
async fn login_with_too_many_groups_goes_on_without_the_scope() {
    let rules = application(
        "wiki",
        "okta",
        r#"{ okta = { name = "Engineering", identity_provider_id = "okta" } }"#,
    ) + r#"exclude = [{ okta = { name = "Contractors", identity_provider_id = "okta" } }]"#;
    for setting in ["", ", groups_scope = false"] {
        let okta = Okta::start(&[CALLBACK]);
        let (proxy, okta, origin) = with(okta, |config| {
            config.api_token = Some(API_TOKEN.to_owned());
            config.provider = setting.to_owned();
            rules.clone_into(&mut config.rest);
        })
        .await;
        for (over_limit, thin) in [
            ("error-token", true),
            ("error-token", false),
            ("error-authorize", true),
        ] {
            let case = format!("{over_limit}, thin {thin}{setting}");
            let mut groups = crowd(150, "Engineering");
            okta.control(
                json!({ "assign": { "login": ALICE, "groups": groups }, "overLimit": over_limit, "thin": thin }),
            )
            .await;
            okta.control(json!({ "forget": true })).await;
            let mut browser = Browser::new(&proxy);
            let page = browser.open_as(WIKI, ALICE).await;
            // This stand-in begins no session of its own where it refuses, so it asks for the
            // password again.
            let page = if page.url.as_str() == WIKI {
                page
            } else {
                browser.sign_in(&page, ALICE).await
            };
            assert_eq!(
                (page.url.as_str(), page.response.status),
                (WIKI, 200),
                "{case}: {:#?}",
                browser.trail
            );
            let flows = browser
                .cookies
                .iter()
                .filter(|cookie| cookie.name.contains("CF_Session_"));
            assert!(
                flows.into_iter().all(|cookie| cookie.value.is_empty()),
                "{case}: {:?}",
                browser.cookies
            );
            let attempts = if setting.is_empty() { 2 } else { 1 };
            assert_eq!(okta.count("/oauth2/v1/authorize").await, attempts, "{case}");

            groups.insert(0, "Contractors".to_owned());
            okta.control(json!({ "assign": { "login": ALICE, "groups": groups } }))
                .await;
            origin.forget();
            let mut browser = Browser::new(&proxy);
            let page = browser.open_as(WIKI, ALICE).await;
            let page = if page.response.status == 403 {
                page
            } else {
                browser.sign_in(&page, ALICE).await
            };
            assert_eq!(
                page.response.status,
                403,
                "{case}: {}",
                page.response.text()
            );
            // The API fails: nobody gets in on what little is known.
            okta.control(json!({ "api": { "faults": vec!["html"; 8] } }))
                .await;
            let mut browser = Browser::new(&proxy);
            let page = browser.open_as(WIKI, ALICE).await;
            let page = if page.response.status == 503 {
                page
            } else {
                browser.sign_in(&page, ALICE).await
            };
            assert_failed_closed(&case, &(page.response.status, page.response.text()));
            okta.control(json!({ "api": { "faults": [] } })).await;
            origin.assert_untouched("contractors");
        }
    }
}

#[tokio::test]
async fn a_token_that_is_not_good_fails_closed() {
    for (token, hint) in [
        ("00example-token-without-rights", "read-only administrator"),
        ("00nobodys", "create a new one"),
    ] {
        let okta = Okta::start(&[CALLBACK]);
        let (proxy, okta, origin) =
            with(okta, |config| config.api_token = Some(token.to_owned())).await;
        okta.control(json!({ "assign": { "login": ALICE, "groups": crowd(101, "Engineering") } }))
            .await;
        okta.control(json!({ "overLimit": "truncate" })).await;
        assert_failed_closed(token, &log_in(&proxy).await);
        proxy.logged(0, &["a login failed", hint]).await;
        assert!(
            !proxy.log().contains(token),
            "the token itself stays out of the log"
        );
        origin.assert_untouched("logins whose groups are unknown");
    }
}

/// Waits until a request of the browser's ends with that status.
async fn until(browser: &mut Browser, url: &str, status: u16, why: &str) {
    let deadline = Instant::now() + Duration::from_secs(15);
    loop {
        let answer = browser.fetch("GET", url, &[], b"").await;
        if answer.status == status {
            return;
        }
        assert!(Instant::now() < deadline, "{why}: still {}", answer.status);
        sleep(Duration::from_millis(100)).await;
    }
}

fn refreshing(config: &mut Config) {
    config.api_token = Some(API_TOKEN.to_owned());
    config.provider = r#", groups_refresh = "1s", groups_max_stale = "4s""#.to_owned();
}

#[tokio::test]
async fn changes_of_groups_reach_who_is_logged_in() {
    let (proxy, okta, _origin) = with(Okta::start(&[CALLBACK]), refreshing).await;
    let mut browser = Browser::new(&proxy);
    let page = browser.open_as(WIKI, ALICE).await;
    assert_eq!(page.response.status, 200, "{:#?}", browser.trail);
    let assign = |groups: &[&str]| json!({ "assign": { "login": ALICE, "groups": groups } });
    okta.control(assign(&["Everyone"])).await;
    until(&mut browser, WIKI, 403, "out of the group").await;
    okta.control(assign(&["Everyone", "Engineering"])).await;
    until(&mut browser, WIKI, 200, "in it again").await;
    let identity = browser.fetch("GET", IDENTITY, &[], b"").await.json();
    assert_eq!(
        identity["groups"].as_array().unwrap().len(),
        2,
        "{identity}"
    );
    assert_eq!(
        okta.count("/oauth2/v1/token").await,
        1,
        "nobody logged in anew"
    );
}

#[tokio::test]
async fn groups_that_cannot_be_read_again_stand_until_their_bound_and_no_longer() {
    let (mut proxy, okta, origin) = with(Okta::start(&[CALLBACK]), refreshing).await;
    let mut browser = Browser::new(&proxy);
    assert_eq!(browser.open_as(WIKI, ALICE).await.response.status, 200);
    okta.control(json!({ "api": { "faults": vec!["html"; 10_000] } }))
        .await;
    let since = Instant::now();
    until(&mut browser, WIKI, 403, "too old to be believed").await;
    assert!(
        since.elapsed() > Duration::from_secs(2),
        "the last known ones stand for a while: {:?}",
        since.elapsed()
    );
    let identity = browser.fetch("GET", IDENTITY, &[], b"").await.json();
    assert_eq!(
        identity["groups"],
        Value::Null,
        "unknown, and not none: {identity}"
    );
    proxy.logged(0, &["too old", "unknown"]).await;
    // A restart makes nothing younger.
    proxy.stop().await;
    proxy.run().await;
    origin.forget();
    assert_eq!(browser.fetch("GET", WIKI, &[], b"").await.status, 403);
    origin.assert_untouched("groups that nobody knows");
    okta.control(json!({ "api": { "faults": [], "resetWindow": true } }))
        .await;
    until(&mut browser, WIKI, 200, "known again").await;
    assert_eq!(
        okta.count("/oauth2/v1/token").await,
        1,
        "nobody logged in anew"
    );
}

#[tokio::test]
async fn a_rate_limit_that_is_half_used_up_holds_back_but_only_so_far() {
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
    let deadline = Instant::now() + Duration::from_secs(30);
    while calls().await <= 15 {
        assert!(Instant::now() < deadline, "nothing is read again");
        sleep(Duration::from_millis(100)).await;
    }
    // Two calls for each look, and a look every two seconds instead of every one.
    let before = calls().await;
    sleep(Duration::from_secs(4)).await;
    assert!(
        calls().await <= before + 6,
        "{} and then {}",
        before,
        calls().await
    );
    assert_eq!(browser.fetch("GET", WIKI, &[], b"").await.status, 200);
    okta.control(json!({ "assign": { "login": ALICE, "groups": ["Everyone"] } }))
        .await;
    until(
        &mut browser,
        WIKI,
        403,
        "out of the group, in spite of the rate limit",
    )
    .await;
}

#[tokio::test]
async fn who_is_deactivated_is_out() {
    let (proxy, okta, origin) = with(Okta::start(&[CALLBACK]), refreshing).await;
    let (mut one, mut other) = (Browser::new(&proxy), Browser::new(&proxy));
    for browser in [&mut one, &mut other] {
        assert_eq!(browser.open_as(WIKI, ALICE).await.response.status, 200);
    }
    okta.control(json!({ "disable": ALICE })).await;
    until(&mut one, WIKI, 401, "deactivated").await;
    until(&mut other, WIKI, 401, "in every browser").await;
    origin.forget();
    let page = Browser::new(&proxy).open_as(WIKI, ALICE).await;
    assert_eq!(
        page.response.status,
        403,
        "the provider refuses: {}",
        page.response.text()
    );
    origin.assert_untouched("somebody who is gone");
    let events = proxy.events("logout");
    assert!(
        events
            .iter()
            .any(|event| event.to_string().contains("deactivated")),
        "{events:?}"
    );
}

#[tokio::test]
async fn refresh_identity_asks_the_provider_anew() {
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
        browser.fetch("GET", WIKI, &[], b"").await.status,
        200,
        "nothing is known of it"
    );
    let script = browser.fetch("GET", REFRESH, &[], b"").await;
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
        browser.fetch("GET", WIKI, &[], b"").await.status,
        403,
        "the old session, the new groups"
    );
    assert_eq!(browser.open(pay).await.response.status, 200);
    // Where the person is known to be another one, the first one's session is over.
    okta.control(json!({ "disable": ALICE })).await;
    let page = browser.open(REFRESH).await;
    assert!(!page.url.as_str().contains("success"), "{}", page.url);
}

#[tokio::test]
async fn oidcc_client_test_rp_init_logout_ends_okta_s_session_too() {
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

/// What comes back with another `state`, or none, is a page like any
/// other and ends nothing.
#[tokio::test]
async fn oidcc_client_test_rp_init_logout_other_state_and_no_state() {
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
        browser.fetch("GET", WIKI, &[], b"").await.status,
        200,
        "the session is still there"
    );
}

/// A private key as PEM, and its public half as a JWK called `key-1`.
pub fn key_pair() -> (String, String) {
    use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
    use aws_lc_rs::rsa::{KeyPair, KeySize};
    use aws_lc_rs::signature::KeyPair as _;
    use base64::Engine as _;
    use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
    let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
    let der = AsDer::<Pkcs8V1Der<'_>>::as_der(&pair)
        .unwrap()
        .as_ref()
        .to_vec();
    let pem = format!(
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
        BASE64_STANDARD.encode(der)
    );
    let public = pair.public_key();
    let b64 = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
    let jwk = json!({
        "kty": "RSA", "use": "sig", "alg": "RS256", "kid": "key-1",
        "n": b64(public.modulus().big_endian_without_leading_zero()),
        "e": b64(public.exponent().big_endian_without_leading_zero()),
    });
    (pem, jwk.to_string())
}

#[tokio::test]
async fn a_key_instead_of_a_secret_and_a_request_that_is_pushed() {
    let (pem, jwk) = key_pair();
    let okta = Okta::start_with(&[CALLBACK], &["--client-key", &jwk]);
    let (proxy, okta, _origin) = with(okta, |config| {
        config.files = vec![("client.pem", pem)];
        config.credentials =
            r#"private_key = "file:client.pem", private_key_id = "key-1""#.to_owned();
        config.provider =
            r#", pushed_requests = true, max_age = "8h", prompt = "login""#.to_owned();
    })
    .await;
    let sent = Browser::new(&proxy).open_until(WIKI, &okta.issuer).await;
    let names: Vec<_> = sent
        .query_pairs()
        .map(|(name, _)| name.into_owned())
        .collect();
    assert_eq!(
        names,
        ["client_id", "request_uri"],
        "the browser carries nothing of the request"
    );
    let mut browser = Browser::new(&proxy);
    let page = browser.open_as(WIKI, ALICE).await;
    assert_eq!(
        page.response.status,
        200,
        "{:#?}\n{}",
        browser.trail,
        page.response.text()
    );
    assert_eq!(okta.count("/oauth2/v1/par").await, 2);
}

#[tokio::test]
async fn a_custom_authorization_server_and_its_claims() {
    let okta = Okta::start_with(&[CALLBACK], &["--server", "default"]);
    let account = okta.issuer.trim_end_matches("/oauth2/default").to_owned();
    let (proxy, _okta, origin) = with(okta, |config| {
        config.issuer = account;
        config.provider =
            r#", authorization_server_id = "default", claims = ["zoneinfo", "missing"], email_claim_name = "preferred_username""#
                .to_owned();
    })
    .await;
    let page = Browser::new(&proxy)
        .open_as(WIKI, "upper@example.com")
        .await;
    assert_eq!(page.response.status, 200, "{}", page.response.text());
    let seen = origin.last();
    assert_eq!(
        seen.headers.one("cf-access-authenticated-user-email"),
        Some("upper@example.com")
    );
    let claims = crate::support::open_token(seen.assertion().unwrap()).1;
    assert_eq!(
        claims["custom"],
        json!({ "zoneinfo": "Europe/Berlin" }),
        "{claims}"
    );
}

/// The same server as any OpenID Connect provider: another type, and everything by its standard
/// alone.
#[tokio::test]
async fn any_openid_connect_provider() {
    let okta = Okta::start(&[CALLBACK]);
    let issuer = okta.issuer.clone();
    let (proxy, _okta, _origin) = with(okta, |config| {
        let generic = format!(
            r#"
[[identity_providers]]
id = "generic"
name = "Anybody"
type = "oidc"
config = {{ client_id = "{CLIENT_ID}", client_secret = "{CLIENT_SECRET}", issuer = "{issuer}", scopes = ["openid", "email", "groups"], claims = ["groups"] }}
"#
        );
        let applications = APPLICATIONS
            .replace(r#"allowed_idps = ["okta"]"#, r#"allowed_idps = ["generic"]"#)
            .replace(r#"okta = { name = "Engineering", identity_provider_id = "okta" }"#, r#"oidc = { claim_name = "groups", claim_value = "Engineering", identity_provider_id = "generic" }"#);
        config.rest = generic + &applications;
    })
    .await;
    let mut browser = Browser::new(&proxy);
    let page = browser.open_as(WIKI, ALICE).await;
    assert_eq!(
        page.response.status,
        200,
        "{:#?}\n{}",
        browser.trail,
        page.response.text()
    );
    let identity = browser.fetch("GET", IDENTITY, &[], b"").await.json();
    assert_eq!(identity["idp"], json!({ "id": "generic", "type": "oidc" }));
    assert_eq!(
        Browser::new(&proxy)
            .open_as(WIKI, "bob@example.com")
            .await
            .response
            .status,
        403
    );
}

/// Applications for people of one provider each, in one browser: the one must not sign out of the
/// other.
#[tokio::test]
async fn two_providers_stand_side_by_side_in_one_browser() {
    let okta = Okta::start(&[CALLBACK]);
    let issuer = okta.issuer.clone();
    let (proxy, okta, _origin) = with(okta, |config| {
        config.rest = format!(
            r#"
[[identity_providers]]
id = "other"
name = "Other"
type = "oidc"
config = {{ client_id = "{CLIENT_ID}", client_secret = "{CLIENT_SECRET}", issuer = "{issuer}" }}
{}{}"#,
            application("wiki", "okta", r#"{ login_method = { id = "okta" } }"#),
            application("other", "other", r#"{ login_method = { id = "other" } }"#),
        );
    })
    .await;
    let mut browser = Browser::new(&proxy);
    assert_eq!(browser.open_as(WIKI, ALICE).await.response.status, 200);
    assert_eq!(
        browser
            .open_as("http://other.localhost/", ALICE)
            .await
            .response
            .status,
        200
    );
    for _ in 0..4 {
        assert_eq!(
            browser.fetch("GET", WIKI, &[], b"").await.status,
            200,
            "signed out of the first"
        );
        assert_eq!(
            browser
                .fetch("GET", "http://other.localhost/", &[], b"")
                .await
                .status,
            200
        );
    }
    assert_eq!(okta.count("/oauth2/v1/token").await, 2);
    // Signing out is out of both.
    browser.open(LOGOUT).await;
    assert_eq!(
        browser
            .fetch("GET", "http://other.localhost/", &[], b"")
            .await
            .status,
        401
    );
    assert_eq!(
        browser.fetch("GET", WIKI, &[], b"").await.status,
        401,
        "still in the first"
    );
}
