//! Hostile and malformed answers of an identity provider.

use serde_json::{Value, json};
use url::Url;

use super::flow::{WIKI, assert_no_session};
use crate::support::idp::Script;
use crate::support::{Answer, World};

#[tokio::test]
async fn r04_error_text_of_the_provider_is_escaped() {
    let world = World::start().await;
    let mut browser = world.browser();
    let callback = world.callback(&mut browser, WIKI).await;
    let state = Url::parse(&callback)
        .unwrap()
        .query_pairs()
        .find(|(n, _)| n == "state")
        .unwrap()
        .1
        .into_owned();
    let texts = [
        "<script>alert(1)</script>",
        "\"onload=alert(1)",
        "\r\nSet-Cookie: x=1",
        "{{7*7}}",
    ];
    for text in texts {
        for with_state in [true, false] {
            let mut url = Url::parse("http://access.localhost/cdn-cgi/access/callback").unwrap();
            url.query_pairs_mut()
                .append_pair("error", text)
                .append_pair("error_description", text);
            if with_state {
                url.query_pairs_mut().append_pair("state", &state);
            }
            let answer = browser
                .clone()
                .request("GET", url.as_str(), &["Sec-Fetch-Mode: navigate"], b"")
                .await;
            assert_no_session(&answer, text);
            assert!(
                !answer.text().contains("<script>alert") && !answer.text().contains("\"onload="),
                "{}",
                answer.text()
            );
            assert!(
                !answer
                    .headers
                    .all("set-cookie")
                    .iter()
                    .any(|c| c.starts_with("x=")),
                "{:?}",
                answer.headers
            );
            let policy = answer
                .headers
                .one("content-security-policy")
                .unwrap_or_default();
            assert!(
                policy.contains("default-src 'none'") && !policy.contains("unsafe"),
                "{policy}"
            );
        }
    }
}

#[tokio::test]
async fn r08_id_token_of_another_login_is_refused() {
    let set = |name: &'static str, value: Value| {
        move |s: &mut Script| {
            s.claims = Box::new(move |claims| {
                claims.insert(name.to_owned(), value.clone());
            });
        }
    };
    let drop = |name: &'static str| {
        move |s: &mut Script| {
            s.claims = Box::new(move |claims| {
                claims.remove(name);
            });
        }
    };
    let head = |name: &'static str, value: Value| {
        move |s: &mut Script| {
            s.header = Box::new(move |header| {
                header.insert(name.to_owned(), value.clone());
            });
        }
    };
    let now = crate::support::idp::now();
    type Case = (&'static str, Box<dyn FnOnce(&mut Script)>);
    let cases: Vec<Case> = vec![
        ("wrong nonce", Box::new(set("nonce", json!("another")))),
        (
            "nonce of another type",
            Box::new(set("nonce", json!(["another"]))),
        ),
        ("no nonce", Box::new(drop("nonce"))),
        (
            "wrong iss",
            Box::new(set("iss", json!("http://127.0.0.1:1"))),
        ),
        ("no iss", Box::new(drop("iss"))),
        ("wrong aud", Box::new(set("aud", json!("another-client")))),
        ("no aud", Box::new(drop("aud"))),
        (
            "several aud without azp",
            Box::new(set("aud", json!(["0oaexample", "another-client"]))),
        ),
        (
            "another's azp",
            Box::new(set("azp", json!("another-client"))),
        ),
        ("expired", Box::new(set("exp", json!(now - 3600)))),
        ("exp as text", Box::new(set("exp", json!("never")))),
        ("no exp", Box::new(drop("exp"))),
        ("no iat", Box::new(drop("iat"))),
        ("iat in an hour", Box::new(set("iat", json!(now + 3600)))),
        ("no sub", Box::new(drop("sub"))),
        ("empty sub", Box::new(set("sub", json!("")))),
        ("alg none", Box::new(head("alg", json!("none")))),
        ("alg HS256", Box::new(head("alg", json!("HS256")))),
        (
            "alg of another key type",
            Box::new(head("alg", json!("ES256"))),
        ),
        ("unknown crit", Box::new(head("crit", json!(["exp"])))),
        ("unknown kid", Box::new(head("kid", json!("unknown")))),
        (
            "a stranger's signature",
            Box::new(|s: &mut Script| s.stranger_signs = true),
        ),
        (
            "userinfo of another user",
            Box::new(|s: &mut Script| {
                s.profile = Box::new(|profile| {
                    profile.insert("sub".to_owned(), json!("00u9mallory"));
                });
            }),
        ),
        (
            "userinfo without sub",
            Box::new(|s: &mut Script| {
                s.profile = Box::new(|profile| {
                    profile.remove("sub");
                });
            }),
        ),
        (
            "RFC 9207 iss of another",
            Box::new(|s: &mut Script| {
                s.callback = Box::new(|back| {
                    back.insert("iss".to_owned(), json!("http://127.0.0.1:1"));
                });
            }),
        ),
        (
            "RFC 9207 iss left out though promised",
            Box::new(|s: &mut Script| {
                s.callback = Box::new(|back| {
                    back.remove("iss");
                });
            }),
        ),
    ];
    let world = World::start().await;
    for (name, change) in cases {
        world.idp.script(|script| {
            *script = Script::default();
            change(script);
        });
        let mut browser = world.browser();
        let page = browser.open(WIKI).await;
        assert!(
            matches!(page.response.status, 400 | 401 | 403 | 502 | 503),
            "{name}: {} {:#?}",
            page.response.status,
            browser.trail
        );
        assert_eq!(
            browser.cookie("access.localhost", "CF_Authorization"),
            None,
            "{name}"
        );
        assert_eq!(
            browser.cookie("wiki.localhost", "CF_Authorization"),
            None,
            "{name}"
        );
        world.origin.assert_untouched(name);
    }
    world.idp.script(|script| *script = Script::default());
    assert_eq!(
        world.browser().open(WIKI).await.response.status,
        200,
        "and the right one is accepted"
    );
}

#[tokio::test]
async fn r08_malformed_token_response_is_refused() {
    let world = World::start().await;
    let answers = [
        Answer::Html,
        Answer::Close,
        Answer::Text(200, "{}".into()),
        Answer::Text(200, "[]".into()),
        Answer::Text(200, String::new()),
        Answer::Text(200, r#"{"access_token":"a","token_type":"Bearer"}"#.into()),
        Answer::Text(
            200,
            r#"{"access_token":"a","token_type":"Bearer","id_token":"x.y.z"}"#.into(),
        ),
        Answer::Text(
            200,
            format!(r#"{{"id_token":"{}"}}"#, "A".repeat(3_000_000)),
        ),
        Answer::Text(400, r#"{"error":"invalid_grant"}"#.into()),
        Answer::Text(500, "{}".into()),
    ];
    for answer in answers {
        let name = format!("{answer:.80?}");
        world.idp.script(|script| script.token = answer);
        let mut browser = world.browser();
        let page = browser.open(WIKI).await;
        assert!(
            matches!(page.response.status, 400 | 401 | 403 | 502 | 503),
            "{name}: {}",
            page.response.status
        );
        assert_eq!(
            browser.cookie("access.localhost", "CF_Authorization"),
            None,
            "{name}"
        );
    }
    world.origin.assert_untouched("answers that are none");
}

#[tokio::test]
async fn r11_unverified_or_odd_email_address_matches_no_rule() {
    let applications = crate::support::APPLICATIONS.replace(
        r#"include = [{ okta = { name = "Engineering", identity_provider_id = "okta" } }]"#,
        r#"include = [{ email_domain = { domain = "example.com" } }]"#,
    );
    let world = World::with(&applications, |_| ()).await;
    let email = |value: &'static str| {
        move |s: &mut Script| {
            s.claims = Box::new(move |c| {
                c.insert("email".into(), json!(value));
            });
            s.profile = Box::new(move |c| {
                c.insert("email".into(), json!(value));
            });
        }
    };
    for value in [
        "attacker@evil.example@example.com",
        "a@example.com\0@evil.example",
        "a@example.com.evil.example",
        "example.com",
        "@example.com",
        "a@еxample.com",
        "alice@%65xample.com",
        "alice@ｅxample.com",
        "alice@example。com",
        "alice@exam\u{ad}ple.com",
        "alice@exam\u{200b}ple.com",
        "alice@example.com.",
        "ali\u{202e}ce@example.com",
        "",
    ] {
        world.idp.script(email(value));
        let page = world.browser().open(WIKI).await;
        assert!(
            matches!(page.response.status, 400..=403),
            "{value:?}: {}",
            page.response.status
        );
    }
    world.idp.script(|script| {
        *script = Script::default();
        script.profile = Box::new(|c| {
            c.insert("email_verified".into(), json!(false));
        });
    });
    assert!(
        matches!(world.browser().open(WIKI).await.response.status, 400..=403),
        "an unverified address"
    );
    world
        .origin
        .assert_untouched("addresses that are not certain");
    world.idp.script(|script| {
        *script = Script::default();
        email("Alice@EXAMPLE.com")(script);
    });
    assert_eq!(
        world.browser().open(WIKI).await.response.status,
        200,
        "case is no difference"
    );
}
