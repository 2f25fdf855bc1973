//! The login cannot be bent: not where it returns to, not whose it is, not what the provider says.

use serde_json::{Value, json};
use url::Url;

use super::APP;
use crate::support::idp::Script;
use crate::support::{Answer, Person, World, assert_refused};

const WIKI: &str = "http://wiki.localhost/page";

#[tokio::test]
async fn r01_return_address_leads_to_a_known_application_only() {
    let world = World::start().await;
    let evil = [
        "//evil.example",
        "/\\evil.example",
        "/%09/evil.example",
        "/\t/evil.example",
        "/%0d/evil.example",
        "/%5cevil.example",
        "///evil.example/%2f..",
        "https:evil.example",
        "http:/\\evil.example",
        "https://wiki.localhost@evil.example",
        "https://wiki.localhost.evil.example",
        "https://evilwiki.localhost",
        "https://wiki.localhost%2eevil.example",
        "javascript:alert(1)",
        "java%0ascript:alert(1)",
        "data:text/html,x",
        "〵evil.example",
        "http://0xd8.0x3a.0xd6.0xce",
        "http://[::ffff:1.2.3.4]",
        "\r\nSet-Cookie: x=1",
        ".evil.example",
        "@evil.example",
        ":80@evil.example/",
    ];
    for target in evil {
        let mut browser = world.browser();
        let first = browser.request("GET", WIKI, &[], b"").await;
        let mut login = Url::parse(first.location()).unwrap();
        let pairs: Vec<_> = login.query_pairs().into_owned().collect();
        login.query_pairs_mut().clear();
        for (name, value) in pairs {
            login.query_pairs_mut().append_pair(
                &name,
                if name == "redirect_url" {
                    target
                } else {
                    &value
                },
            );
        }
        follow_to_the_end(&world, &mut browser, login.as_str(), target).await;
    }
}

/// Follows a login and looks at every place it leads to: the provider, the team domain, the
/// applications, nowhere else.
async fn follow_to_the_end(
    world: &World,
    browser: &mut crate::support::Browser,
    url: &str,
    after: &str,
) {
    let mut url = Url::parse(url).unwrap();
    for _ in 0..10 {
        let known = ["access.localhost", "wiki.localhost", "127.0.0.1"];
        assert!(
            known.contains(&url.host_str().unwrap_or_default()),
            "after {after} sent to {url}"
        );
        assert_eq!(url.scheme(), "http", "after {after} sent to {url}");
        let answer = browser
            .request("GET", url.as_str(), &["Sec-Fetch-Mode: navigate"], b"")
            .await;
        assert_ne!(answer.status, 500, "after {after} at {url}");
        assert_eq!(answer.headers.one("refresh"), None, "after {after}");
        let Some(location) = answer.headers.one("location") else {
            return;
        };
        url = url.join(location).unwrap();
    }
    panic!(
        "after {after} no end; the provider saw {} logins",
        world.idp.count("/oauth2/v1/authorize")
    );
}

#[tokio::test]
async fn r01_path_that_looks_like_a_host_stays_a_path() {
    let world = World::start().await;
    let mut browser = world.browser();
    let page = browser.open("http://app.localhost//evil.example/x").await;
    assert_ne!(page.response.status, 500);
    assert!(
        page.url.host_str() != Some("evil.example"),
        "{:#?}",
        browser.trail
    );
}

#[tokio::test]
async fn r02_state_of_another_browser_is_refused() {
    let world = World::start().await;
    let mut browser = world.browser();
    let waiting = browser.open_until(WIKI, &world.idp.issuer).await;
    let callback = browser
        .request("GET", waiting.as_str(), &[], b"")
        .await
        .location()
        .to_owned();
    let state = Url::parse(&callback)
        .unwrap()
        .query_pairs()
        .find(|(n, _)| n == "state")
        .unwrap()
        .1
        .into_owned();
    let mut flipped = state.clone().into_bytes();
    flipped[4] ^= 1;
    let tampered = [
        String::new(),
        String::from_utf8_lossy(&flipped).into_owned(),
        state[..state.len() / 2].to_owned(),
        format!("{state}x"),
        "A".repeat(20_000),
        "%00".into(),
        "../../x".into(),
    ];
    for bad in &tampered {
        let mut url = Url::parse(&callback).unwrap();
        let pairs: Vec<_> = url.query_pairs().into_owned().collect();
        url.query_pairs_mut().clear().extend_pairs(
            pairs
                .iter()
                .map(|(n, v)| (n, if n == "state" { bad } else { v })),
        );
        let answer = browser
            .clone()
            .request("GET", url.as_str(), &["Sec-Fetch-Mode: navigate"], b"")
            .await;
        assert_no_session(&answer, &format!("state {bad:.40}"));
    }
    let answer = world
        .browser()
        .request("GET", &callback, &["Sec-Fetch-Mode: navigate"], b"")
        .await;
    assert_no_session(&answer, "another browser");
    assert_eq!(
        world.idp.count("/oauth2/v1/token"),
        0,
        "no code was redeemed"
    );
    let page = browser.open(&callback).await;
    assert_eq!(
        page.response.status, 200,
        "and the right one still works: {:#?}",
        browser.trail
    );
}

#[track_caller]
fn assert_no_session(answer: &crate::support::Response, after: &str) {
    assert!(
        matches!(answer.status, 302 | 303 | 400 | 401 | 403 | 414 | 431 | 502),
        "after {after}: {}",
        answer.status
    );
    let session = answer
        .headers
        .all("set-cookie")
        .iter()
        .any(|c| c.starts_with("CF_Authorization=ey"));
    assert!(!session, "after {after} a session");
    if matches!(answer.status, 302 | 303) {
        assert!(
            !answer.location().contains("/authorized"),
            "after {after} sent to {}",
            answer.location()
        );
    }
}

#[tokio::test]
async fn r04_error_text_of_the_provider_is_escaped() {
    let world = World::start().await;
    let mut browser = world.browser();
    let waiting = browser.open_until(WIKI, &world.idp.issuer).await;
    let callback = browser
        .request("GET", waiting.as_str(), &[], b"")
        .await
        .location()
        .to_owned();
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
async fn r05_code_of_an_attacker_does_not_log_the_victim_in() {
    let world = World::start().await;
    let mut attacker = world.browser();
    let waiting = attacker.open_until(WIKI, &world.idp.issuer).await;
    let callback = attacker
        .request("GET", waiting.as_str(), &[], b"")
        .await
        .location()
        .to_owned();
    let mut victim = world.browser();
    victim.open_until(WIKI, &world.idp.issuer).await;
    let answer = victim
        .request("GET", &callback, &["Sec-Fetch-Mode: navigate"], b"")
        .await;
    assert_no_session(&answer, "an attacker's code and state");

    // The attacker's code under the victim's own state: nonce and PKCE stand against it.
    let waiting = victim.open_until(WIKI, &world.idp.issuer).await;
    let own = victim
        .request("GET", waiting.as_str(), &[], b"")
        .await
        .location()
        .to_owned();
    let code = Url::parse(&callback)
        .unwrap()
        .query_pairs()
        .find(|(n, _)| n == "code")
        .unwrap()
        .1
        .into_owned();
    let mut mixed = Url::parse(&own).unwrap();
    let pairs: Vec<_> = mixed.query_pairs().into_owned().collect();
    mixed.query_pairs_mut().clear().extend_pairs(
        pairs
            .iter()
            .map(|(n, v)| (n, if n == "code" { &code } else { v })),
    );
    let answer = victim
        .request("GET", mixed.as_str(), &["Sec-Fetch-Mode: navigate"], b"")
        .await;
    assert_no_session(&answer, "an attacker's code under the victim's state");
    world.origin.assert_untouched("login with another's code");
}

#[tokio::test]
async fn r05_last_step_is_bound_to_the_browser() {
    let world = World::start().await;
    let mut attacker = world.browser();
    let authorized = attacker
        .open_until(WIKI, "http://wiki.localhost/cdn-cgi/access/authorized")
        .await;
    for mut victim in [
        world.browser(),
        world
            .signed_in(Person::bob(), "http://app.localhost/")
            .await,
    ] {
        let answer = victim
            .request(
                "GET",
                authorized.as_str(),
                &["Sec-Fetch-Mode: navigate"],
                b"",
            )
            .await;
        assert_no_session(&answer, "another browser's authorized");
    }
    let mut elsewhere = authorized.clone();
    elsewhere.set_host(Some("app.localhost")).unwrap();
    let answer = attacker
        .clone()
        .request(
            "GET",
            elsewhere.as_str(),
            &["Sec-Fetch-Mode: navigate"],
            b"",
        )
        .await;
    assert_no_session(&answer, "authorized at another host");
    world.origin.forget();
    let page = attacker.open(authorized.as_str()).await;
    assert_eq!(page.response.status, 200, "{:#?}", attacker.trail);
    let mut thief = world.browser();
    let answer = thief
        .request(
            "GET",
            authorized.as_str(),
            &["Sec-Fetch-Mode: navigate"],
            b"",
        )
        .await;
    assert_no_session(&answer, "authorized a second time");
}

#[tokio::test]
async fn r06_repeated_callback_makes_one_token_call() {
    let world = World::start().await;
    let mut browser = world.browser();
    let waiting = browser.open_until(WIKI, &world.idp.issuer).await;
    let callback = browser
        .request("GET", waiting.as_str(), &[], b"")
        .await
        .location()
        .to_owned();
    let before = browser.clone();
    assert_eq!(
        browser.open(&callback).await.response.status,
        200,
        "{:#?}",
        browser.trail
    );
    let page = browser.open(&callback).await;
    assert_eq!(
        (page.url.as_str(), page.response.status),
        (WIKI, 200),
        "the back button: {:#?}",
        browser.trail
    );
    let calls = world.idp.count("/oauth2/v1/token");
    assert_eq!(calls, 1);
    let mut replay = before;
    let answer = replay
        .request("GET", &callback, &["Sec-Fetch-Mode: navigate"], b"")
        .await;
    assert_no_session(&answer, "a replayed callback with the cookies of then");
    assert_eq!(world.idp.count("/oauth2/v1/token"), calls);
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
        ("unknown kid", Box::new(head("kid", json!("of-nobody")))),
        (
            "a stranger's signature",
            Box::new(|s: &mut Script| s.stranger_signs = true),
        ),
        (
            "userinfo of somebody else",
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

#[tokio::test]
async fn r12_login_replaces_an_earlier_session() {
    let world = World::start().await;
    let mut browser = world.signed_in(Person::alice(), WIKI).await;
    let first = browser
        .cookie("access.localhost", "CF_Authorization")
        .unwrap()
        .to_owned();
    browser.cookies.retain(|c| c.host != "access.localhost");
    world.idp.script(|script| script.person = Person::bob());
    let page = browser.open("http://pay.localhost/").await;
    assert_eq!(page.response.status, 200, "{:#?}", browser.trail);
    assert_ne!(
        browser
            .cookie("access.localhost", "CF_Authorization")
            .unwrap(),
        first
    );
    assert_eq!(
        world
            .origin
            .last()
            .headers
            .one("cf-access-authenticated-user-email"),
        Some("bob@example.com")
    );
}

#[tokio::test]
async fn r16_many_fetches_start_no_login() {
    let world = World::start().await;
    let mut browser = world.browser();
    for _ in 0..200 {
        assert_eq!(browser.fetch("GET", WIKI, &[], b"").await.status, 401);
    }
    assert!(browser.cookies.len() <= 1, "{:?}", browser.cookies);
    assert_eq!(world.idp.count("/oauth2/v1/authorize"), 0);
}

#[tokio::test]
async fn r19_login_parameters_are_not_passed_to_the_provider() {
    let world = World::start().await;
    let mut browser = world.browser();
    let first = browser
        .request("GET", WIKI, &[], b"")
        .await
        .location()
        .to_owned();
    let extra = "&iss=http%3A%2F%2Fevil.example&target_link_uri=http%3A%2F%2Fevil.example&scope=admin&scopes=admin&prompt=none\
                 &redirect_uri=http%3A%2F%2Fevil.example&client_id=evil&state=fixed&nonce=fixed";
    let waiting = browser
        .open_until(&format!("{first}{extra}"), &world.idp.issuer)
        .await;
    for word in ["evil", "admin", "fixed", "prompt"] {
        assert!(!waiting.as_str().contains(word), "`{word}` in {waiting}");
    }
}

#[tokio::test]
async fn r20_pages_are_not_framed_and_an_image_logs_nobody_out() {
    let world = World::start().await;
    let mut browser = world.signed_in(Person::alice(), WIKI).await;
    let lines = [
        "Sec-Fetch-Mode: no-cors",
        "Sec-Fetch-Dest: image",
        "Sec-Fetch-Site: cross-site",
    ];
    browser
        .request(
            "GET",
            "http://wiki.localhost/cdn-cgi/access/logout",
            &lines,
            b"",
        )
        .await;
    assert_eq!(
        browser.fetch("GET", WIKI, &[], b"").await.status,
        200,
        "still logged in after an image of the logout"
    );
    let page = world
        .browser()
        .open("http://access.localhost/cdn-cgi/access/callback")
        .await;
    let policy = page
        .response
        .headers
        .one("content-security-policy")
        .unwrap_or_default();
    assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
}

#[tokio::test]
async fn r21_code_stays_out_of_the_url_and_the_referrer() {
    let world = World::start().await;
    let mut browser = world.browser();
    browser.open(WIKI).await;
    for (url, status) in browser.trail.clone() {
        let secret = url
            .query_pairs()
            .any(|(name, _)| matches!(&*name, "code" | "nonce" | "state"));
        if secret && url.host_str() != Some("127.0.0.1") {
            assert!(matches!(status, 302 | 303), "{url} is a page");
        }
    }
    let page = world
        .browser()
        .open("http://access.localhost/cdn-cgi/access/callback?code=x&state=y")
        .await;
    assert_eq!(
        page.response.headers.one("referrer-policy"),
        Some("no-referrer")
    );
}

#[tokio::test]
async fn r22_callback_on_an_application_host_is_not_found() {
    let world = World::start().await;
    let mut browser = world.browser();
    let waiting = browser.open_until(WIKI, &world.idp.issuer).await;
    let mut callback = Url::parse(
        browser
            .request("GET", waiting.as_str(), &[], b"")
            .await
            .location(),
    )
    .unwrap();
    callback.set_host(Some("app.localhost")).unwrap();
    let answer = browser
        .request("GET", callback.as_str(), &["Sec-Fetch-Mode: navigate"], b"")
        .await;
    assert_refused(Some(&answer), "a callback at an application");
    assert_eq!(world.idp.count("/oauth2/v1/token"), 0);
    world
        .origin
        .assert_untouched("a callback at an application");
}

#[tokio::test]
async fn r23_refusal_carries_no_header_of_the_origin() {
    let world = World::start().await;
    for path in [
        "/",
        "/admin",
        "/origin/status/404",
        "/favicon.ico",
        "/robots.txt",
        "/.well-known/x",
    ] {
        let answer = world
            .browser()
            .request("GET", &format!("{APP}{path}"), &[], b"")
            .await;
        assert_refused(Some(&answer), path);
        world.origin.assert_untouched(path);
    }
}

#[tokio::test]
async fn r24_script_of_another_site_cannot_read_the_identity() {
    let world = World::start().await;
    let mut browser = world.signed_in(Person::alice(), WIKI).await;
    let url = "http://wiki.localhost/cdn-cgi/access/get-identity";
    for site in ["cross-site", "same-site"] {
        let lines = [
            format!("Sec-Fetch-Site: {site}"),
            "Sec-Fetch-Mode: cors".into(),
            "Origin: http://app.localhost".into(),
        ];
        let lines: Vec<_> = lines.iter().map(String::as_str).collect();
        let answer = browser.request("GET", url, &lines, b"").await;
        assert!(
            answer.status == 403 || answer.headers.one("access-control-allow-origin").is_none(),
            "{site}: {:?}",
            answer.headers
        );
    }
}

#[tokio::test]
async fn r05_overheard_hand_over_is_used_up() {
    let world = World::start().await;
    let mut owner = world.browser();
    let authorized = owner
        .open_until(WIKI, "http://wiki.localhost/cdn-cgi/access/authorized")
        .await;
    let lines = ["Sec-Fetch-Mode: navigate"];
    let answer = world
        .browser()
        .request("GET", authorized.as_str(), &lines, b"")
        .await;
    assert_no_session(&answer, "a browser without the cookie");
    assert_eq!(
        answer.headers.one("cross-origin-opener-policy"),
        Some("same-origin"),
        "nor does an opener see the page"
    );
    let answer = owner.request("GET", authorized.as_str(), &lines, b"").await;
    assert_no_session(&answer, "what another browser has shown before");
    assert_eq!(
        (answer.status, answer.location()),
        (302, WIKI),
        "the right one begins again"
    );
    let page = owner.open(WIKI).await;
    assert_eq!(
        (page.url.as_str(), page.response.status),
        (WIKI, 200),
        "{:#?}",
        owner.trail
    );
}

/// Whose cookie is another one is sent back to the team domain, and there only the browser of that
/// login gets on to the page.
#[tokio::test]
async fn r05_overheard_hand_over_does_not_reveal_its_page() {
    let world = World::start().await;
    let (mut stranger, mut bob) = (world.browser(), world.browser());
    bob.open_as(WIKI, "bob").await;
    for other in [&mut stranger, &mut bob] {
        other
            .request(
                "GET",
                "http://wiki.localhost/",
                &["Sec-Fetch-Mode: navigate"],
                b"",
            )
            .await;
        let mut owner = world.browser();
        let secret = "http://wiki.localhost/reset?token=secret";
        let authorized = owner
            .open_until(secret, "http://wiki.localhost/cdn-cgi/access/authorized")
            .await;
        let page = other.open(authorized.as_str()).await;
        assert!(
            !format!("{page:?} {:?}", other.trail).contains("secret"),
            "{page:?} {:?}",
            other.trail
        );
    }
}

#[tokio::test]
async fn r05_edge_node_redeems_a_hand_over_once() {
    let world = World::start().await;
    let mut owner = world.browser();
    let redeem = async |authorized: &Url, app_session: &str, host: &str| {
        let mut form: Vec<_> = authorized.query_pairs().into_owned().collect();
        form.extend([
            ("app_session".to_owned(), app_session.to_owned()),
            ("hostname".to_owned(), host.to_owned()),
        ]);
        let form = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(form)
            .finish();
        let url = "http://access.localhost/cdn-cgi/access/authorized";
        let answer = world
            .browser()
            .request("POST", url, &[], form.as_bytes())
            .await;
        (answer.status, answer.json())
    };
    let begin = "http://wiki.localhost/cdn-cgi/access/authorized";
    let authorized = owner.open_until(WIKI, begin).await;
    let cookie = owner
        .cookie("wiki.localhost", "CF_AppSession")
        .unwrap()
        .to_owned();
    let (status, granted) = redeem(&authorized, &cookie, "wiki.localhost").await;
    assert_eq!((status, &granted["redirect_url"]), (200, &json!("/page")));
    assert!(granted["token"].as_str().unwrap().starts_with("ey"));
    let (status, used) = redeem(&authorized, &cookie, "wiki.localhost").await;
    assert_eq!(
        (status, &used["error"], &used["token"]),
        (409, &json!("used"), &Value::Null)
    );
    let answer = owner.request("GET", authorized.as_str(), &[], b"").await;
    assert_no_session(&answer, "what an edge node has redeemed");

    // Whoever shows it wrongly, shows it for the last time.
    for (app_session, host) in [
        ("n0123456789abcdef", "wiki.localhost"),
        (cookie.as_str(), "app.localhost"),
        ("", ""),
    ] {
        let authorized = owner.open_until(WIKI, begin).await;
        let (status, refused) = redeem(&authorized, app_session, host).await;
        let expected = if host == "wiki.localhost" && !app_session.is_empty() {
            "unbound"
        } else {
            "invalid"
        };
        assert_eq!(refused["error"], expected, "{status} {app_session} {host}");
        assert_eq!(
            redeem(&authorized, &cookie, "wiki.localhost").await.0,
            409,
            "{app_session} {host}"
        );
    }
}
