//! Okta whole: groups in every number and shape, changes that reach living sessions, keys instead
//! of secrets, and the end of Okta's own session.

use serde_json::json;

use crate::support::okta::{ALICE, API_TOKEN, CALLBACK, Okta, WIKI, with};
use crate::support::{Browser, Portcullis, application};

const FAILED: &str = "Failed to fetch user/group information from the identity provider";

/// `last` is the one group that counts, and the last of all.
fn crowd(count: usize, last: &str) -> Vec<String> {
    let mut names: Vec<String> = (1..count).map(|n| format!("crowd-{n:03}")).collect();
    names.extend((count > 0).then(|| last.to_owned()));
    names
}

/// Logs in a user with that many groups. Returns the status and the text of the page.
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
async fn any_number_of_groups_is_read_with_an_api_token() {
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
                // No groups and too many groups look alike. A policy on a group denies both.
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

/// A rule on the claim itself sees the groups from the API, because Okta shortens or omits the
/// claim.
#[tokio::test]
async fn groups_claim_is_as_complete_as_the_groups() {
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
            "not a contractor"
        );
        if token {
            okta.control(
                json!({ "assign": { "login": ALICE, "groups": ["Everyone", "Contractors"] } }),
            )
            .await;
            browser.until_status(WIKI, 403, "a contractor since").await;
        }
    }
}

#[tokio::test]
async fn groups_api_faults_fail_closed() {
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
        // A new window lasts longer than the test.
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
async fn single_groups_api_fault_is_retried() {
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
async fn login_with_too_many_groups_omits_the_scope() {
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
            // This provider starts no session of its own for a refused login, so it asks for the
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
            // The API fails: the few known groups allow no access.
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
async fn invalid_api_token_fails_closed() {
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
