//! Providers that are down, slow, wrong or have another time: sessions survive, logins fail with a
//! reason, and nothing is allowed by mistake.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::portcullis::free_address;
use crate::support::{
    APPLICATIONS, Answer, Browser, Idp, Okta, Person, World, assert_refused, idp, raw, start,
};

const WIKI: &str = "http://wiki.localhost/page";

#[tokio::test]
async fn proxy_starts_while_the_provider_is_down() {
    let nobody = free_address();
    let (proxy, _origin) = start(&format!("http://{nobody}"), |_| ()).await;
    let mut browser = Browser::new(&proxy);
    assert_eq!(
        browser.open("http://open.localhost/").await.response.status,
        200,
        "open routes are open"
    );
    let page = browser.open(WIKI).await;
    assert_eq!(page.response.status, 503, "{:#?}", browser.trail);
    assert!(page.response.text().contains("<html"), "a page for people");
    assert!(
        page.response.headers.one("retry-after").is_some(),
        "{:?}",
        page.response.headers
    );
    assert_eq!(browser.cookie("wiki.localhost", "CF_Authorization"), None);

    let _idp = Idp::start_at(nobody).await;
    let deadline = Instant::now() + Duration::from_secs(30);
    while browser.open(WIKI).await.response.status != 200 {
        assert!(
            Instant::now() < deadline,
            "thirty seconds after the provider came back: {:#?}",
            browser.trail
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test]
async fn sessions_survive_a_provider_outage() {
    let mut world = World::start().await;
    let mut browser = world.signed_in(Person::alice(), WIKI).await;
    let everything = [
        |s: &mut crate::support::idp::Script, a: Answer| s.discovery = a,
        |s: &mut crate::support::idp::Script, a: Answer| s.keys = a,
        |s: &mut crate::support::idp::Script, a: Answer| s.token = a,
        |s: &mut crate::support::idp::Script, a: Answer| s.userinfo = a,
    ];
    for set in everything {
        world.idp.script(|script| set(script, Answer::Close));
    }
    assert_eq!(browser.get(WIKI).await.status, 200);
    world.proxy.stop().await;
    world.proxy.run().await;
    assert_eq!(browser.get(WIKI).await.status, 200, "after a restart too");
    let page = browser.open("http://app.localhost/").await;
    assert_eq!(
        page.response.status, 200,
        "a second application needs no provider: {:#?}",
        browser.trail
    );
    let page = world.browser().open(WIKI).await;
    assert!(
        matches!(page.response.status, 502 | 503),
        "a new login: {}",
        page.response.status
    );
}

/// Wrong answers of a JWKS endpoint.
fn bad_key_sets() -> Vec<Answer> {
    vec![
        Answer::Html,
        Answer::Close,
        Answer::Text(200, r#"{"keys":[]}"#.into()),
        Answer::Text(200, "{}".into()),
        Answer::Text(200, "null".into()),
        Answer::Text(200, String::new()),
        Answer::Text(200, "\u{0}\u{1}garbage".into()),
        Answer::Text(
            200,
            r#"{"keys":[{"kty":"oct","k":"AA","kid":"provider-key","alg":"HS256"}]}"#.into(),
        ),
        Answer::Text(
            200,
            r#"{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB","kid":"provider-key","alg":"RS256"}]}"#
                .into(),
        ),
        Answer::Text(
            200,
            format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)),
        ),
        Answer::Text(200, format!(r#"{{"keys":["{}"]}}"#, "a".repeat(5_000_000))),
        Answer::Text(404, "{}".into()),
        Answer::Text(500, "{}".into()),
        Answer::Hang,
    ]
}

#[tokio::test]
async fn malformed_key_set_keeps_the_last_valid_one() {
    let world = World::start().await;
    let mut browser = world.signed_in(Person::alice(), WIKI).await;
    for answer in bad_key_sets() {
        let name = format!("{answer:.60?}");
        world.idp.script(|script| script.keys = answer);
        // An unknown `kid` makes the proxy fetch the set again.
        world.idp.script(|script| {
            script.header = Box::new(|header| {
                header.insert("kid".into(), json!("of-tomorrow"));
            });
        });
        let started = Instant::now();
        let page = world.browser().open(WIKI).await;
        assert!(
            matches!(page.response.status, 400 | 401 | 403 | 502 | 503),
            "{name}: {}",
            page.response.status
        );
        assert!(
            started.elapsed() < Duration::from_secs(12),
            "{name} took {:?}",
            started.elapsed()
        );
        world.idp.script(|script| script.header = Box::new(|_| ()));
        let page = world.browser().open(WIKI).await;
        assert_eq!(
            page.response.status, 200,
            "{name}: the last good set is still good"
        );
        assert_eq!(browser.get(WIKI).await.status, 200, "{name}");
    }
}

#[tokio::test]
async fn key_set_that_was_never_valid_fails_every_login() {
    for answer in bad_key_sets() {
        let name = format!("{answer:.60?}");
        let provider = Idp::start().await;
        provider.script(|script| script.keys = answer);
        let (proxy, origin) = start(&provider.issuer, |_| ()).await;
        let mut browser = Browser::new(&proxy);
        let page = browser.open(WIKI).await;
        assert!(
            matches!(page.response.status, 502 | 503),
            "{name}: {} {:#?}",
            page.response.status,
            browser.trail
        );
        origin.assert_untouched(&name);
    }
}

#[tokio::test]
async fn malformed_discovery_document_gets_503() {
    let provider = Idp::start().await;
    let elsewhere = json!({
        "issuer": "http://127.0.0.1:1", "authorization_endpoint": format!("{}/oauth2/v1/authorize", provider.issuer),
        "token_endpoint": format!("{}/oauth2/v1/token", provider.issuer), "jwks_uri": format!("{}/oauth2/v1/keys", provider.issuer),
        "response_types_supported": ["code"], "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
    });
    let answers = [
        Answer::Html,
        Answer::Close,
        Answer::Hang,
        Answer::Text(200, "{}".into()),
        Answer::Text(500, "{}".into()),
        Answer::Text(200, elsewhere.to_string()),
    ];
    for answer in answers {
        let name = format!("{answer:.60?}");
        provider.script(|script| script.discovery = answer);
        let (proxy, origin) = start(&provider.issuer, |_| ()).await;
        let mut browser = Browser::new(&proxy);
        let started = Instant::now();
        let page = browser.open(WIKI).await;
        assert_eq!(page.response.status, 503, "{name}: {:#?}", browser.trail);
        assert!(
            started.elapsed() < Duration::from_secs(12),
            "{name} took {:?}",
            started.elapsed()
        );
        origin.assert_untouched(&name);
    }
    assert_eq!(
        provider.count("/oauth2/v1/authorize"),
        0,
        "no browser is sent to a provider with another issuer"
    );
}

#[tokio::test]
async fn many_unknown_keys_cause_one_fetch() {
    let world = World::start().await;
    let mut browser = world.signed_in(Person::alice(), WIKI).await;
    let before = (
        world.idp.count("/oauth2/v1/keys"),
        world.idp.count("/.well-known/openid-configuration"),
    );
    let started = Instant::now();
    let mut floods = Vec::new();
    for worker in 0..4 {
        let address = world.proxy.address;
        floods.push(tokio::spawn(async move {
            let mut connection = raw::Connection::plain(address).await;
            for i in 0..250 {
                let header = json!({ "alg": "RS256", "typ": "JWT", "kid": format!("{worker:032x}{i:032x}") });
                let claims =
                    json!({ "iss": "http://access.localhost", "aud": ["x"], "exp": idp::now() + 600, "type": "app" });
                let token = idp::forged(&header, &claims);
                let head = "GET / HTTP/1.1\r\nHost: wiki.localhost\r\nSec-Fetch-Mode: cors";
                connection.send(format!("{head}\r\nCookie: CF_Authorization={token}\r\n\r\n")).await;
                let Some(answer) = connection.response("GET").await else {
                    connection = raw::Connection::plain(address).await;
                    continue;
                };
                assert_refused(Some(&answer), "an unknown kid");
            }
        }));
    }
    for flood in floods {
        flood.await.unwrap();
    }
    world.origin.assert_untouched("a flood of unknown keys");
    assert!(
        world.idp.count("/oauth2/v1/keys") <= before.0 + 1,
        "the provider's keys were asked for"
    );
    assert!(world.idp.count("/.well-known/openid-configuration") <= before.1 + 1);
    assert_eq!(
        browser.get(WIKI).await.status,
        200,
        "in {:?}",
        started.elapsed()
    );
}

#[tokio::test]
async fn unknown_keys_cause_one_fetch_per_cooldown() {
    let world = World::start().await;
    world.signed_in(Person::alice(), WIKI).await;
    let before = world.idp.count("/oauth2/v1/keys");
    world.idp.script(|script| {
        script.header = Box::new(|header| {
            header.insert("kid".into(), json!("unknown"));
        });
    });
    for _ in 0..10 {
        let page = world.browser().open(WIKI).await;
        assert!(
            matches!(page.response.status, 400 | 401 | 403 | 502 | 503),
            "{}",
            page.response.status
        );
    }
    let fetched = world.idp.count("/oauth2/v1/keys") - before;
    assert!(
        fetched <= 2,
        "{fetched} fetches for ten logins in one cooldown"
    );
}

#[tokio::test]
async fn clock_skew_is_accepted_up_to_the_leeway() {
    let okta = Okta::start(&["http://access.localhost/cdn-cgi/access/callback"]);
    let (proxy, origin) = start(&okta.issuer, |_| ()).await;
    // An hour of lifetime makes a slow clock harmless; a fast one issues tokens from the future.
    for (skew, allowed) in [(30, true), (-30, true), (-300, true), (301, false)] {
        okta.control(json!({ "skew": skew })).await;
        origin.forget();
        let mut browser = Browser::new(&proxy);
        let page = browser.open_as(WIKI, "alice@example.com").await;
        if allowed {
            assert_eq!(
                page.response.status, 200,
                "skew {skew}: {:#?}",
                browser.trail
            );
        } else {
            assert!(
                matches!(page.response.status, 400 | 401 | 403 | 502 | 503),
                "skew {skew}: {}",
                page.response.status
            );
            origin.assert_untouched("a token of another time");
        }
    }
}

#[tokio::test]
async fn malformed_callbacks_are_refused() {
    let world = World::start().await;
    let huge = "a".repeat(30_000);
    let queries = [
        "",
        "?",
        "?code=x",
        "?state=x",
        "?code=&state=",
        "?code=x&state=x&state=y",
        "?code=x&code=y&state=z",
        "?code=%ff&state=%ff",
        "?code[]=x&state[]=y",
        "?error=access_denied",
        "?error=access_denied&state=x",
        "?%00=%00",
        "?code=x;state=y",
        &format!("?code={huge}&state={huge}"),
    ];
    for endpoint in [
        "callback",
        "authorized",
        "login",
        "login/",
        "login/unknown.localhost",
        "login/wiki.localhost/../x",
        "logout",
        "certs",
        "nothing",
        "",
    ] {
        for host in ["access.localhost", "wiki.localhost"] {
            for query in queries {
                let target = format!("/cdn-cgi/access/{endpoint}{query}");
                for method in ["GET", "HEAD", "POST", "DELETE"] {
                    let lines: &[&str] = if method == "POST" {
                        &["Content-Length: 0"]
                    } else {
                        &[]
                    };
                    let answer = world.raw(raw::request(method, host, &target, lines)).await;
                    let Some(answer) = answer else { continue };
                    assert!(
                        answer.status < 500,
                        "{method} {host}{target:.100}: {}",
                        answer.status
                    );
                    let session = answer
                        .headers
                        .all("set-cookie")
                        .iter()
                        .any(|c| c.starts_with("CF_Authorization=ey"));
                    assert!(!session, "{method} {host}{target:.100}");
                }
            }
        }
    }
    world.origin.assert_untouched("malformed callbacks");
}

#[tokio::test]
async fn sessions_wait_while_revocations_are_unknown() {
    let world = World::with(APPLICATIONS, |config| config.store = "max_stale = \"10s\"").await;
    let mut alice = world.signed_in(Person::alice(), WIKI).await;
    let database = world.proxy.database().await;
    let until = async |alice: &mut Browser, status: u16| {
        let began = Instant::now();
        loop {
            let answer = alice.get(WIKI).await;
            if answer.status == status {
                return answer;
            }
            assert!(
                matches!(answer.status, 200 | 503) && began.elapsed() < Duration::from_secs(20),
                "{}",
                answer.text()
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    sqlx::query("ALTER TABLE revocations RENAME TO elsewhere")
        .execute(&database)
        .await
        .unwrap();
    assert_eq!(alice.get(WIKI).await.status, 200, "not at once");
    let answer = until(&mut alice, 503).await;
    assert!(
        answer.text().contains("revocations_unavailable"),
        "{}",
        answer.text()
    );
    let open = raw::request("GET", "open.localhost", "/", &[]);
    assert_eq!(
        world.raw(open).await.unwrap().status,
        200,
        "open routes are open"
    );
    let ready = raw::exchange(
        world.proxy.metrics,
        raw::request("GET", "localhost", "/readyz", &[]),
    )
    .await;
    let ready = ready.unwrap();
    assert_eq!(
        (ready.status, ready.text().as_str()),
        (503, "revocations are unknown or too old\n")
    );
    sqlx::query("ALTER TABLE elsewhere RENAME TO revocations")
        .execute(&database)
        .await
        .unwrap();
    until(&mut alice, 200).await;
}
