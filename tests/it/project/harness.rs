//! Tests of the test support: an origin that records too little, or a provider that accepts every
//! login, would make all other tests worthless.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::support::certs::Certificate;
use crate::support::raw::{self, Connection, Connection2};
use crate::support::wire::Framing;
use crate::support::{Answer, Browser, Idp, Okta, Origin, browser, open_token};

// RFC 7636, appendix B.
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
/// The tests' client and its secret.
const BASIC: &str =
    "Authorization: Basic MG9hZXhhbXBsZTphLWNsaWVudC1zZWNyZXQtb2YtdGhlLXRlc3RzLW9ubHk=";

#[tokio::test]
async fn origin_records_header_lines_unchanged() {
    let origin = Origin::start().await;
    let request = raw::request(
        "GET",
        "h",
        "/a/../b?c",
        &["x_Odd: 1", "X-Odd:2", "x-odd:  3 "],
    );
    let answer = raw::exchange(origin.address, request).await.unwrap();
    assert_eq!(answer.json()["target"], "/a/../b?c");
    let seen = origin.last();
    assert_eq!(seen.headers.all("x-odd"), ["2", "3"]);
    assert_eq!(seen.headers.0[1], ("x_Odd".to_owned(), "1".to_owned()));
}

#[tokio::test]
async fn origin_streams_only_released_pieces() {
    let origin = Origin::start().await;
    let mut connection = Connection::plain(origin.address).await;
    connection
        .send(raw::request("GET", "h", "/origin/stream", &[]))
        .await;
    connection.response_head().await.unwrap();
    let mut framing = Framing::Chunked;
    for piece in ["one", "two", "three"] {
        origin.release();
        assert_eq!(
            connection.piece(&mut framing).await.unwrap(),
            piece.as_bytes()
        );
    }
    assert_eq!(connection.piece(&mut framing).await, None);
}

#[tokio::test]
async fn origin_speaks_grpc_over_tls() {
    let certificate = Certificate::new(&["origin.test"]);
    let origin = Origin::tls(&certificate).await;
    let mut connection =
        Connection2::tls(origin.address, "origin.test", &certificate.client("h2")).await;
    let request = http::Request::post("https://origin.test/echo.Echo/Say")
        .header("content-type", "application/grpc");
    let answer = connection
        .request(request.body(()).unwrap(), b"hello")
        .await
        .unwrap();
    assert_eq!(
        (answer.head.status.as_u16(), answer.body.as_slice()),
        (200, b"hello".as_slice())
    );
    assert_eq!(answer.trailers.unwrap()["grpc-status"], "0");
    assert_eq!(origin.last().version, "HTTP/2");
}

#[tokio::test]
async fn provider_requires_pkce_the_secret_and_a_new_code() {
    let idp = Idp::start().await;
    let address = idp.issuer.trim_start_matches("http://").parse().unwrap();
    let authorize = format!(
        "/oauth2/v1/authorize?client_id=0oaexample&response_type=code&code_challenge={CHALLENGE}&code_challenge_method=S256\
         &state=s&nonce=n&redirect_uri=http%3A%2F%2Faccess.localhost%2Fback"
    );
    let redeem = async |authorization: &str, code: &str, verifier: &str| {
        let form = format!("grant_type=authorization_code&code={code}&code_verifier={verifier}");
        let length = format!("Content-Length: {}", form.len());
        let request =
            raw::request("POST", "h", "/oauth2/v1/token", &[authorization, &length]) + &form;
        raw::exchange(address, request).await.unwrap()
    };
    let code = async || {
        let answer = raw::exchange(address, raw::request("GET", "h", &authorize, &[]))
            .await
            .unwrap();
        let back = url::Url::parse(answer.location()).unwrap();
        back.query_pairs()
            .find(|(name, _)| name == "code")
            .unwrap()
            .1
            .into_owned()
    };
    assert_eq!(
        redeem("X-No: secret", &code().await, VERIFIER).await.status,
        401
    );
    assert_eq!(
        redeem(BASIC, &code().await, "another-verifier")
            .await
            .status,
        400
    );
    let code = code().await;
    assert_eq!(redeem(BASIC, &code, VERIFIER).await.status, 200);
    assert_eq!(redeem(BASIC, &code, VERIFIER).await.status, 400);
    idp.script(|script| script.keys = Answer::Html);
    let keys = raw::exchange(address, raw::request("GET", "h", "/oauth2/v1/keys", &[]))
        .await
        .unwrap();
    assert_eq!(keys.headers.one("content-type"), Some("text/html"));
    assert_eq!(idp.count("/oauth2/v1/keys"), 1);
}

#[tokio::test]
async fn okta_has_the_endpoints_of_okta() {
    let okta = Okta::start(&["http://access.localhost/cdn-cgi/access/callback"]);
    let host = okta.issuer.trim_start_matches("http://").to_owned();
    let address = host.parse().unwrap();
    let get = async |target: &str, lines: &[&str]| {
        raw::exchange(address, raw::request("GET", &host, target, lines))
            .await
            .unwrap()
    };
    let discovery = get("/.well-known/openid-configuration", &[]).await.json();
    assert_eq!(discovery["issuer"], okta.issuer);
    assert_eq!(
        discovery["token_endpoint"],
        format!("{}/oauth2/v1/token", okta.issuer)
    );
    assert_eq!(
        discovery["authorization_response_iss_parameter_supported"],
        true
    );

    let without_pkce = "/oauth2/v1/authorize?client_id=0oaexample&response_type=code&scope=openid&state=s\
                        &redirect_uri=http%3A%2F%2Faccess.localhost%2Fcdn-cgi%2Faccess%2Fcallback";
    assert!(
        get(without_pkce, &[])
            .await
            .location()
            .contains("error=invalid_request")
    );

    let groups = "/api/v1/users/00u4carol0000000d7/groups";
    assert_eq!(get(groups, &[]).await.status, 401);
    let authorization = "Authorization: SSWS 00example-read-only-token";
    okta.control(json!({ "api": { "pageSize": 100 } })).await;
    let page = get(groups, &[authorization]).await;
    assert_eq!(page.json().as_array().unwrap().len(), 100);
    assert!(
        page.headers
            .all("link")
            .iter()
            .any(|link| link.ends_with(r#"rel="next""#)),
        "{:?}",
        page.headers
    );
    okta.control(json!({ "api": { "faults": ["429"] } })).await;
    let refused = get(groups, &[authorization]).await;
    assert_eq!(
        (
            refused.status,
            refused.headers.one("x-rate-limit-remaining")
        ),
        (429, Some("0"))
    );
    assert_eq!(okta.count(groups).await, 3);
}

#[tokio::test]
async fn okta_sends_thin_tokens_and_groups_at_userinfo() {
    let okta = Okta::start(&["http://access.localhost/cdn-cgi/access/callback"]);
    let callback = Origin::start().await;
    let trust = Certificate::new(&["access.test"]).client("http/1.1");
    let host = okta.issuer.trim_start_matches("http://").to_owned();
    let authorize = format!(
        "{}/oauth2/v1/authorize?client_id=0oaexample&response_type=code&scope=openid+profile+email+groups&state=s&nonce=n\
         &code_challenge={CHALLENGE}&code_challenge_method=S256&redirect_uri=http%3A%2F%2Faccess.localhost%2Fcdn-cgi%2Faccess%2Fcallback",
        okta.issuer
    );
    let log_in = async |login: &str| {
        let mut browser = Browser::at(callback.address, trust.clone());
        let page = browser.open_as(&authorize, login).await;
        let back: HashMap<_, _> = page.url.query_pairs().into_owned().collect();
        assert_eq!(
            (back["state"].as_str(), &back["iss"]),
            ("s", &okta.issuer),
            "{:#?}",
            browser.trail
        );
        let Some(code) = back.get("code") else {
            return back["error_description"].clone();
        };
        let form = format!(
            "grant_type=authorization_code&code={code}&code_verifier={VERIFIER}\
             &redirect_uri=http%3A%2F%2Faccess.localhost%2Fcdn-cgi%2Faccess%2Fcallback"
        );
        let lines = [
            BASIC,
            "Content-Type: application/x-www-form-urlencoded",
            &format!("Content-Length: {}", form.len()),
        ];
        let request = raw::request("POST", &host, "/oauth2/v1/token", &lines) + &form;
        let answer = raw::exchange(host.parse().unwrap(), request)
            .await
            .unwrap()
            .json();
        let Some(id_token) = answer["id_token"].as_str() else {
            return answer["error_description"].to_string();
        };
        let bearer = format!(
            "Authorization: Bearer {}",
            answer["access_token"].as_str().unwrap()
        );
        let request = raw::request("GET", &host, "/oauth2/v1/userinfo", &[&bearer]);
        let userinfo = raw::exchange(host.parse().unwrap(), request)
            .await
            .unwrap()
            .json();
        let count = |claims: &Value| {
            claims["groups"]
                .as_array()
                .map_or("none".to_owned(), |groups| groups.len().to_string())
        };
        format!(
            "{} and {}",
            count(&open_token(id_token).1),
            count(&userinfo)
        )
    };
    assert_eq!(log_in("alice@example.com").await, "none and 5");
    assert_eq!(log_in("zero@example.com").await, "none and none");
    okta.control(json!({ "thin": false })).await;
    assert_eq!(log_in("alice@example.com").await, "5 and 5");
    for (over_limit, outcome) in [
        ("truncate", "100 and 100"),
        ("omit", "none and none"),
        ("all", "150 and 150"),
    ] {
        okta.control(json!({ "overLimit": over_limit })).await;
        assert_eq!(log_in("carol@example.com").await, outcome, "{over_limit}");
    }
    for over_limit in ["error-token", "error-authorize"] {
        okta.control(json!({ "overLimit": over_limit })).await;
        assert!(
            log_in("carol@example.com")
                .await
                .contains("matched too many groups"),
            "{over_limit}"
        );
    }
    okta.control(json!({ "disable": "alice@example.com", "rotate": "drop", "skew": 300 }))
        .await;
    assert!(log_in("alice@example.com").await.contains("not assigned"));
    assert_eq!(log_in("bob@example.com").await, "2 and 2");
}

#[test]
fn link_is_found_by_its_text() {
    let html =
        r#"<a href="/x">Other</a><p><a class="b" href="/y?a=1&amp;b=2"><b>Example Okta</b></a>"#;
    assert_eq!(
        browser::link(html, "Example Okta").as_deref(),
        Some("/y?a=1&b=2")
    );
}
