//! The tests' own parts, tested: an origin that records too little or a provider that lets everybody in would make every
//! other test worthless.

use serde_json::json;

use crate::support::certs::Certificate;
use crate::support::raw::{self, Connection, Connection2};
use crate::support::wire::Framing;
use crate::support::{Answer, Idp, Okta, Origin, browser};

#[tokio::test]
async fn the_origin_records_header_lines_in_their_order_and_case() {
    let origin = Origin::start().await;
    let request = raw::request("GET", "h", "/a/../b?c", &["x_Odd: 1", "X-Odd:2", "x-odd:  3 "]);
    let answer = raw::exchange(origin.address, request).await.unwrap();
    assert_eq!(answer.json()["target"], "/a/../b?c");
    let seen = origin.last();
    assert_eq!(seen.headers.all("x-odd"), ["2", "3"]);
    assert_eq!(seen.headers.0[1], ("x_Odd".to_owned(), "1".to_owned()));
}

#[tokio::test]
async fn the_origin_streams_only_what_was_released() {
    let origin = Origin::start().await;
    let mut connection = Connection::plain(origin.address).await;
    connection.send(raw::request("GET", "h", "/origin/stream", &[])).await;
    connection.response_head().await.unwrap();
    let mut framing = Framing::Chunked;
    for piece in ["one", "two", "three"] {
        origin.release();
        assert_eq!(connection.piece(&mut framing).await.unwrap(), piece.as_bytes());
    }
    assert_eq!(connection.piece(&mut framing).await, None);
}

#[tokio::test]
async fn the_origin_speaks_grpc_over_tls() {
    let certificate = Certificate::new(&["origin.test"]);
    let origin = Origin::tls(&certificate).await;
    let mut connection = Connection2::tls(origin.address, "origin.test", &certificate.client("h2")).await;
    let request = http::Request::post("https://origin.test/echo.Echo/Say").header("content-type", "application/grpc");
    let answer = connection.request(request.body(()).unwrap(), b"hello").await.unwrap();
    assert_eq!((answer.head.status.as_u16(), answer.body.as_slice()), (200, b"hello".as_slice()));
    assert_eq!(answer.trailers.unwrap()["grpc-status"], "0");
    assert_eq!(origin.last().version, "HTTP/2");
}

#[tokio::test]
async fn the_provider_in_the_test_wants_pkce_the_secret_and_a_fresh_code() {
    let idp = Idp::start().await;
    let address = idp.issuer.trim_start_matches("http://").parse().unwrap();
    // RFC 7636, appendix B.
    let (verifier, challenge) =
        ("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
    let authorize = format!(
        "/oauth2/v1/authorize?client_id=0oaexample&response_type=code&code_challenge={challenge}&code_challenge_method=S256\
         &state=s&nonce=n&redirect_uri=http%3A%2F%2Faccess.localhost%2Fback"
    );
    let basic = "Authorization: Basic MG9hZXhhbXBsZTphLWNsaWVudC1zZWNyZXQtb2YtdGhlLXRlc3RzLW9ubHk=";
    let redeem = async |authorization: &str, code: &str, verifier: &str| {
        let form = format!("grant_type=authorization_code&code={code}&code_verifier={verifier}");
        let length = format!("Content-Length: {}", form.len());
        let request = raw::request("POST", "h", "/oauth2/v1/token", &[authorization, &length]) + &form;
        raw::exchange(address, request).await.unwrap()
    };
    let code = async || {
        let answer = raw::exchange(address, raw::request("GET", "h", &authorize, &[])).await.unwrap();
        let back = url::Url::parse(answer.location()).unwrap();
        back.query_pairs().find(|(name, _)| name == "code").unwrap().1.into_owned()
    };
    assert_eq!(redeem("X-No: secret", &code().await, verifier).await.status, 401);
    assert_eq!(redeem(basic, &code().await, "another-verifier").await.status, 400);
    let code = code().await;
    assert_eq!(redeem(basic, &code, verifier).await.status, 200);
    assert_eq!(redeem(basic, &code, verifier).await.status, 400);
    idp.script(|script| script.keys = Answer::Html);
    let keys = raw::exchange(address, raw::request("GET", "h", "/oauth2/v1/keys", &[])).await.unwrap();
    assert_eq!(keys.headers.one("content-type"), Some("text/html"));
    assert_eq!(idp.count("/oauth2/v1/keys"), 1);
}

#[tokio::test]
async fn okta_is_shaped_like_okta() {
    let okta = Okta::start(&["http://access.localhost/cdn-cgi/access/callback"]);
    let host = okta.issuer.trim_start_matches("http://").to_owned();
    let address = host.parse().unwrap();
    let get = async |target: &str, lines: &[&str]| {
        raw::exchange(address, raw::request("GET", &host, target, lines)).await.unwrap()
    };
    let discovery = get("/.well-known/openid-configuration", &[]).await.json();
    assert_eq!(discovery["issuer"], okta.issuer);
    assert_eq!(discovery["token_endpoint"], format!("{}/oauth2/v1/token", okta.issuer));
    assert_eq!(discovery["authorization_response_iss_parameter_supported"], true);

    let without_pkce = "/oauth2/v1/authorize?client_id=0oaexample&response_type=code&scope=openid&state=s\
                        &redirect_uri=http%3A%2F%2Faccess.localhost%2Fcdn-cgi%2Faccess%2Fcallback";
    assert!(get(without_pkce, &[]).await.location().contains("error=invalid_request"));

    let groups = "/api/v1/users/00u4carol0000000d7/groups";
    assert_eq!(get(groups, &[]).await.status, 401);
    let authorization = "Authorization: SSWS 00example-read-only-token";
    okta.control(json!({ "api": { "pageSize": 100 } })).await;
    let page = get(groups, &[authorization]).await;
    assert_eq!(page.json().as_array().unwrap().len(), 100);
    assert!(page.headers.all("link").iter().any(|link| link.ends_with(r#"rel="next""#)), "{:?}", page.headers);
    okta.control(json!({ "api": { "faults": ["429"] } })).await;
    let refused = get(groups, &[authorization]).await;
    assert_eq!((refused.status, refused.headers.one("x-rate-limit-remaining")), (429, Some("0")));
    assert_eq!(okta.count(groups).await, 3);
}

#[test]
fn a_link_is_found_by_its_text() {
    let html = r#"<a href="/x">Other</a><p><a class="b" href="/y?a=1&amp;b=2"><b>Example Okta</b></a>"#;
    assert_eq!(browser::link(html, "Example Okta").as_deref(), Some("/y?a=1&b=2"));
}
