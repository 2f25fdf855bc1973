//! Forged identity and forwarding headers, which must decide nothing. `headers.rs` tests the
//! headers that reach the origin.

use serde_json::json;

use super::{cookie_line, member};
use crate::support::{World, assert_refused, idp, leads_to_login, raw};

#[tokio::test]
async fn h01_forwarded_uri_is_ignored() {
    let world = World::start().await;
    let cookie = cookie_line(&member(&world).await);
    let names = [
        "X-Forwarded-Uri",
        "X-Original-URL",
        "X-Original-URI",
        "X-Rewrite-URL",
        "X-Forwarded-Path",
        "X-Envoy-Original-Path",
    ];
    for name in names {
        for lines in [
            vec![format!("{name}: /public/a")],
            vec![format!("{name}: /public/a"), cookie.clone()],
        ] {
            let lines: Vec<_> = lines.iter().map(String::as_str).collect();
            let answer = world
                .raw(raw::request("GET", "app.localhost", "/admin", &lines))
                .await;
            assert_refused(answer.as_ref(), name);
            world.origin.assert_untouched(name);
        }
    }
}

#[tokio::test]
async fn h04_redirects_are_built_from_the_configuration() {
    let world = World::start().await;
    let lines = [
        "X-Forwarded-Host: evil.example",
        "X-Forwarded-Proto: https",
        "X-Forwarded-Port: 444",
        "X-Forwarded-Prefix: //evil.example",
        "Forwarded: host=evil.example;proto=https",
        "X-Host: evil.example",
    ];
    let mut url = "http://wiki.localhost/".to_owned();
    let mut browser = world.browser();
    for _ in 0..3 {
        let answer = browser.request("GET", &url, &lines, b"").await;
        assert_eq!(answer.status, 302, "{url}");
        assert!(
            !answer.location().contains("evil") && !answer.location().contains(":444"),
            "{}",
            answer.location()
        );
        url = url::Url::parse(&url)
            .unwrap()
            .join(answer.location())
            .unwrap()
            .into();
        if url.starts_with(&world.idp.issuer) {
            assert!(
                url.contains(
                    "redirect_uri=http%3A%2F%2Faccess.localhost%2Fcdn-cgi%2Faccess%2Fcallback"
                ),
                "{url}"
            );
            return;
        }
    }
    panic!("the provider was not reached: {url}");
}

#[tokio::test]
async fn h05_forwarded_host_does_not_choose_the_application() {
    let world = World::start().await;
    for name in ["X-Forwarded-Host", "X-Host", "X-Original-Host", "Forwarded"] {
        let line = if name == "Forwarded" {
            "Forwarded: host=open.localhost".into()
        } else {
            format!("{name}: open.localhost")
        };
        let answer = world
            .raw(raw::request("GET", "wiki.localhost", "/", &[&line]))
            .await
            .unwrap();
        assert!(leads_to_login(&answer), "{line}: {}", answer.status);
        world.origin.assert_untouched(&line);
    }
}

#[tokio::test]
async fn h08_identity_headers_are_not_credentials() {
    let world = World::start().await;
    let forged = idp::forged(
        &json!({ "alg": "RS256", "typ": "JWT", "kid": "0".repeat(64) }),
        &json!({ "iss": "http://access.localhost", "email": "alice@example.com", "type": "app", "exp": idp::now() + 600 }),
    );
    let lines = [
        format!("Cf-Access-Jwt-Assertion: {forged}"),
        "Cf-Access-Authenticated-User-Email: alice@example.com".into(),
        format!("Authorization: Bearer {forged}"),
        format!("cf-access-token: {forged}"),
        format!("CF-Access-Token: {forged}"),
    ];
    for line in &lines {
        let answer = world
            .raw(raw::request("GET", "wiki.localhost", "/", &[line]))
            .await;
        assert_refused(answer.as_ref(), line);
    }
    let all: Vec<_> = lines.iter().map(String::as_str).collect();
    let answer = world
        .raw(raw::request("GET", "wiki.localhost", "/", &all))
        .await;
    assert_refused(answer.as_ref(), "all of them");
    world.origin.assert_untouched("forged identity");
}

#[tokio::test]
async fn h08_stolen_assertion_header_is_not_a_credential() {
    let world = World::start().await;
    let browser = member(&world).await;
    let token = browser.cookie("app.localhost", "CF_Authorization").unwrap();
    let answer = world
        .raw(raw::request(
            "GET",
            "app.localhost",
            "/",
            &[&format!("Cf-Access-Jwt-Assertion: {token}")],
        ))
        .await;
    assert_refused(answer.as_ref(), "the assertion as a credential");
    world
        .origin
        .assert_untouched("the assertion as a credential");
}

#[tokio::test]
async fn h13_malformed_header_lines_are_refused() {
    let world = World::start().await;
    let lines: &[&[u8]] = &[
        b"X-Forwarded-User : admin",
        b" X-Folded: first",
        b"X-Folded: a\r\n b",
        b"X-Nul: a\0b",
        b"X-Bare: a\rb",
        b"no colon at all",
        b": no name",
        b"X Y: blank in the name",
    ];
    for line in lines {
        let name = String::from_utf8_lossy(line).into_owned();
        let request = [
            b"GET /public/ HTTP/1.1\r\nHost: app.localhost\r\n",
            *line,
            b"\r\nConnection: close\r\n\r\n",
        ]
        .concat();
        let answer = world.raw(request).await;
        assert!(
            answer.as_ref().is_none_or(|a| a.status == 400),
            "{name:?}: {answer:?}"
        );
        world.origin.assert_untouched(&name);
    }
}

#[tokio::test]
async fn h17_request_is_decided_by_its_host_and_not_by_the_sni() {
    let world = World::with(crate::support::APPLICATIONS, |config| config.tls = true).await;
    let mut connection = world.proxy.connect("open.test").await;
    connection
        .send(raw::request("GET", "app.test", "/admin", &[]))
        .await;
    let answer = connection.response("GET").await;
    assert_refused(answer.as_ref(), "another host than the handshake's");
    world
        .origin
        .assert_untouched("another host than the handshake's");
}
