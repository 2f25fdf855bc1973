use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::HeaderMap;
use serde_json::Value;

use super::*;
use crate::demo::users::USERS;
use crate::token::KeySet;

const ISSUER: &str = "http://idp.localhost:8001";
const CALLBACK: &str = "http://team.localhost:8000/cdn-cgi/access/callback";
const NOW: UnixTime = UnixTime(1_800_000_000);
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
/// The challenge of that verifier in RFC 7636, appendix B.
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

fn provider() -> DemoProvider {
    DemoProvider::new(
        ISSUER.to_owned(),
        CALLBACK.to_owned(),
        Credentials::random(),
    )
    .unwrap()
}

/// The parameters of a valid authorization request.
fn authorization() -> Vec<(&'static str, &'static str)> {
    vec![
        ("client_id", "0oademo"),
        ("redirect_uri", CALLBACK),
        ("response_type", "code"),
        ("scope", "openid profile email groups"),
        ("state", "the state & more"),
        ("nonce", "the nonce"),
        ("code_challenge", CHALLENGE),
        ("code_challenge_method", "S256"),
    ]
}

fn with<'a>(
    mut params: Vec<(&'a str, &'a str)>,
    name: &'a str,
    value: &'a str,
) -> Vec<(&'a str, &'a str)> {
    params.retain(|(each, _)| *each != name);
    params.push((name, value));
    params
}

fn form(params: &[(&str, &str)]) -> String {
    url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(params)
        .finish()
}

impl DemoProvider {
    fn get(&self, target: &str, authorization: Option<&str>, now: UnixTime) -> Response<Bytes> {
        let mut request = Request::get(target).header("host", "idp.localhost:8001");
        if let Some(value) = authorization {
            request = request.header("authorization", value);
        }
        self.handle(&request.body(Bytes::new()).unwrap(), now)
    }

    fn ask(&self, params: &[(&str, &str)]) -> Response<Bytes> {
        self.get(&format!("/oauth2/v1/authorize?{}", form(params)), None, NOW)
    }

    fn code_for(&self, login: &str) -> String {
        answered(&self.ask(&with(authorization(), "user", login)))["code"].clone()
    }

    fn basic(&self) -> String {
        let secret = self.credentials.client_secret.expose();
        format!("Basic {}", STANDARD.encode(format!("0oademo:{secret}")))
    }

    fn redeem(
        &self,
        params: &[(&str, &str)],
        authorization: &str,
        now: UnixTime,
    ) -> Response<Bytes> {
        let request = Request::post("/oauth2/v1/token")
            .header("host", "idp.localhost:8001")
            .header("content-type", "application/x-www-form-urlencoded")
            .header("authorization", authorization)
            .body(Bytes::from(form(params)))
            .unwrap();
        self.handle(&request, now)
    }

    fn api_token(&self) -> String {
        format!("SSWS {}", self.credentials.api_token.expose())
    }

    /// Logs the user in, and returns the groups in userinfo.
    fn userinfo_of(&self, login: &str) -> Value {
        let code = self.code_for(login);
        let tokens = read(&self.redeem(&exchange(&code), &self.basic(), NOW));
        let bearer = format!("Bearer {}", tokens["access_token"].as_str().unwrap());
        read(&self.get("/oauth2/v1/userinfo", Some(&bearer), NOW))
    }
}

fn exchange(code: &str) -> Vec<(&str, &str)> {
    vec![
        ("grant_type", "authorization_code"),
        ("code", code),
        ("redirect_uri", CALLBACK),
        ("code_verifier", VERIFIER),
    ]
}

fn read(response: &Response<Bytes>) -> Value {
    assert_eq!(response.headers()["content-type"], "application/json");
    serde_json::from_slice(response.body()).unwrap()
}

fn body(response: &Response<Bytes>) -> &str {
    std::str::from_utf8(response.body()).unwrap()
}

/// Returns the parameters of a redirect to the client.
fn answered(response: &Response<Bytes>) -> HashMap<String, String> {
    assert_eq!(response.status(), StatusCode::FOUND, "{}", body(response));
    let location = response.headers()["location"].to_str().unwrap();
    let url = url::Url::parse(location).unwrap();
    assert!(location.starts_with(&format!("{CALLBACK}?")), "{location}");
    url.query_pairs().into_owned().collect()
}

#[track_caller]
fn refused(response: &Response<Bytes>, status: u16, error: &str) {
    assert_eq!(response.status(), status);
    assert_eq!(read(response)["error"], error);
}

#[test]
fn login_works_from_discovery_to_userinfo() {
    let provider = provider();
    let discovery = read(&provider.get("/.well-known/openid-configuration", None, NOW));
    assert_eq!(discovery["issuer"], ISSUER);
    let path = |endpoint: &str| {
        discovery[endpoint]
            .as_str()
            .unwrap()
            .strip_prefix(ISSUER)
            .unwrap()
            .to_owned()
    };

    // The page has a link for each user.
    let page = provider.get(
        &format!(
            "{}?{}",
            path("authorization_endpoint"),
            form(&authorization())
        ),
        None,
        NOW,
    );
    assert_eq!(page.status(), StatusCode::OK);
    for user in &USERS {
        assert!(
            body(&page).contains(user.name) && body(&page).contains(user.about),
            "{}",
            body(&page)
        );
    }
    assert!(body(&page).contains("no password required"));
    let link = body(&page)
        .split("href=\"")
        .map(|rest| rest.split('"').next().unwrap());
    let link = link
        .into_iter()
        .find(|href| href.ends_with("user=alice"))
        .unwrap()
        .replace("&#38;", "&");

    let answer = answered(&provider.get(&link, None, NOW));
    assert_eq!(answer["state"], "the state & more");
    assert_eq!(answer["iss"], ISSUER, "RFC 9207");

    assert_eq!(path("token_endpoint"), "/oauth2/v1/token");
    let response = provider.redeem(&exchange(&answer["code"]), &provider.basic(), NOW);
    assert_eq!(
        response.headers()["cache-control"],
        "no-store",
        "RFC 6749 5.1"
    );
    let tokens = read(&response);
    assert_eq!(tokens["token_type"], "Bearer");
    let access_token = tokens["access_token"].as_str().unwrap();

    let jwks = read(&provider.get(&path("jwks_uri"), None, NOW));
    let claims = verified(tokens["id_token"].as_str().unwrap(), &jwks);
    assert_eq!(
        (claims["iss"].as_str(), claims["aud"].as_str()),
        (Some(ISSUER), Some("0oademo"))
    );
    assert_eq!(claims["nonce"], "the nonce");
    assert_eq!(claims["email"], "alice@demo.example");
    assert_eq!(
        claims["at_hash"],
        URL_SAFE_NO_PAD.encode(&sha256(access_token).as_ref()[..16]),
        "OIDC Core 3.1.3.6"
    );
    assert!(
        claims.get("groups").is_none() && claims.get("email_verified").is_none(),
        "thin"
    );

    let bearer = format!("Bearer {access_token}");
    let userinfo = read(&provider.get(&path("userinfo_endpoint"), Some(&bearer), NOW));
    assert_eq!(userinfo["sub"], claims["sub"], "OIDC Core 5.3.2");
    assert_eq!(userinfo["groups"], json!(["Everyone", "Engineering"]));
    assert_eq!(userinfo["email_verified"], true);

    let late = provider.get("/oauth2/v1/userinfo", Some(&bearer), NOW.after(ACCESS_LIFE));
    refused(&late, 401, "invalid_token");
    refused(
        &provider.get("/oauth2/v1/userinfo", None, NOW),
        401,
        "invalid_token",
    );
}

/// Returns the claims of a token that one of these keys signed.
fn verified(token: &str, jwks: &Value) -> Value {
    let keys: jsonwebtoken::jwk::JwkSet = serde_json::from_value(jwks.clone()).unwrap();
    assert!(KeySet::from_jwks(jwks.to_string().as_bytes()).is_ok());
    let kid = jsonwebtoken::decode_header(token).unwrap().kid.unwrap();
    let key = jsonwebtoken::DecodingKey::from_jwk(keys.find(&kid).unwrap()).unwrap();
    let mut rules = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::RS256);
    rules.validate_exp = false;
    rules.validate_aud = false;
    jsonwebtoken::decode::<Value>(token, &key, &rules)
        .unwrap()
        .claims
}

#[test]
fn groups_claim_is_cut_at_a_hundred_and_omitted_if_empty() {
    let provider = provider();
    let carol = provider.userinfo_of("carol");
    let groups = carol["groups"].as_array().unwrap();
    assert_eq!(groups.len(), 100);
    assert!(!groups.contains(&"Vault keepers".into()));
    assert!(provider.userinfo_of("zed").get("groups").is_none());
    assert_eq!(provider.userinfo_of("una")["email_verified"], false);
}

#[test]
fn claims_follow_the_requested_scopes() {
    let provider = provider();
    let code = answered(&provider.ask(&with(
        with(authorization(), "scope", "openid"),
        "user",
        "alice",
    )))["code"]
        .clone();
    let tokens = read(&provider.redeem(&exchange(&code), &provider.basic(), NOW));
    let bearer = format!("Bearer {}", tokens["access_token"].as_str().unwrap());
    let userinfo = read(&provider.get("/oauth2/v1/userinfo", Some(&bearer), NOW));
    assert_eq!(userinfo, json!({"sub": USERS[0].subject()}));
}

#[test]
fn rfc6749_4_1_2_code_works_once_and_for_a_minute() {
    let provider = provider();
    let code = provider.code_for("alice");
    assert_eq!(
        provider
            .redeem(&exchange(&code), &provider.basic(), NOW)
            .status(),
        StatusCode::OK
    );
    refused(
        &provider.redeem(&exchange(&code), &provider.basic(), NOW),
        400,
        "invalid_grant",
    );

    let code = provider.code_for("alice");
    refused(
        &provider.redeem(&exchange(&code), &provider.basic(), NOW.after(CODE_LIFE)),
        400,
        "invalid_grant",
    );

    // A code that was tried with the wrong verifier is spent.
    let code = provider.code_for("alice");
    let wrong = "w".repeat(43);
    refused(
        &provider.redeem(
            &with(exchange(&code), "code_verifier", &wrong),
            &provider.basic(),
            NOW,
        ),
        400,
        "invalid_grant",
    );
    refused(
        &provider.redeem(&exchange(&code), &provider.basic(), NOW),
        400,
        "invalid_grant",
    );
}

#[test]
fn rfc7636_4_6_verifier_must_match() {
    let provider = provider();
    for verifier in [
        String::new(),
        "short".to_owned(),
        CHALLENGE.to_owned(),
        "w".repeat(128),
        format!("{VERIFIER}é"),
    ] {
        let code = provider.code_for("alice");
        let params = with(exchange(&code), "code_verifier", &verifier);
        refused(
            &provider.redeem(&params, &provider.basic(), NOW),
            400,
            "invalid_grant",
        );
    }
}

#[test]
fn code_of_another_client_or_redirect_uri_is_rejected() {
    let (provider, other) = (provider(), provider());
    let code = provider.code_for("alice");
    refused(
        &other.redeem(&exchange(&code), &other.basic(), NOW),
        400,
        "invalid_grant",
    );
    refused(
        &provider.redeem(
            &with(exchange(&code), "client_id", "0oaother"),
            &provider.basic(),
            NOW,
        ),
        400,
        "invalid_grant",
    );
    for address in [
        "",
        "http://team.localhost:8000/",
        "http://evil.example/cdn-cgi/access/callback",
    ] {
        let code = provider.code_for("alice");
        let params = with(exchange(&code), "redirect_uri", address);
        refused(
            &provider.redeem(&params, &provider.basic(), NOW),
            400,
            "invalid_grant",
        );
    }
}

#[test]
fn client_must_authenticate() {
    let provider = provider();
    let code = provider.code_for("alice");
    let secret = provider.credentials.client_secret.expose();
    let basic = |text: &str| format!("Basic {}", STANDARD.encode(text));
    let wrong = [
        String::new(),
        "Basic".to_owned(),
        "Basic !".to_owned(),
        format!("Bearer {secret}"),
        basic("0oademo"),
        basic("0oademo:"),
        basic("0oademo:wrong"),
        basic(&format!("0oaother:{secret}")),
        basic(&format!("0oademo:{secret} ")),
    ];
    for authorization in &wrong {
        let response = provider.redeem(&exchange(&code), authorization, NOW);
        refused(&response, 401, "invalid_client");
        assert!(
            response.headers().contains_key("www-authenticate"),
            "RFC 6749 5.2"
        );
    }
    // A wrong client does not spend the code. RFC 6749 2.3.1: the parts may be form-encoded.
    let encoded = basic(&format!("%30oademo:{}", secret.replace('-', "%2D")));
    assert_eq!(
        provider.redeem(&exchange(&code), &encoded, NOW).status(),
        StatusCode::OK
    );
}

#[test]
fn token_request_must_be_a_form_without_duplicates() {
    let provider = provider();
    let code = provider.code_for("alice");
    let twice = [exchange(&code), vec![("code", "other")]].concat();
    refused(
        &provider.redeem(&twice, &provider.basic(), NOW),
        400,
        "invalid_request",
    );
    refused(
        &provider.redeem(&with(exchange(&code), "code", ""), &provider.basic(), NOW),
        400,
        "invalid_request",
    );
    let grant = with(exchange(&code), "grant_type", "refresh_token");
    refused(
        &provider.redeem(&grant, &provider.basic(), NOW),
        400,
        "unsupported_grant_type",
    );
    let json = Request::post("/oauth2/v1/token")
        .header("host", "idp.localhost:8001")
        .header("content-type", "application/json")
        .header("authorization", provider.basic())
        .body(Bytes::from(form(&exchange(&code))))
        .unwrap();
    refused(&provider.handle(&json, NOW), 400, "invalid_request");
    assert_eq!(
        provider.get("/oauth2/v1/token", None, NOW).status(),
        StatusCode::METHOD_NOT_ALLOWED
    );
}

#[test]
fn unknown_client_or_redirect_uri_is_not_redirected() {
    let provider = provider();
    let wrong = [
        ("client_id", "0oaother"),
        ("client_id", ""),
        ("redirect_uri", "http://evil.example/"),
        (
            "redirect_uri",
            "http://team.localhost:8000/cdn-cgi/access/callback/",
        ),
        ("redirect_uri", ""),
        ("user", "mallory"),
        ("user", "alice&user=bob"),
    ];
    for (name, value) in wrong {
        let response = provider.ask(&with(with(authorization(), "user", "alice"), name, value));
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{name}={value}");
        assert!(!response.headers().contains_key("location"));
    }
    let twice = [
        authorization(),
        vec![("redirect_uri", "http://evil.example/")],
    ]
    .concat();
    assert_eq!(provider.ask(&twice).status(), StatusCode::BAD_REQUEST);
    let long = "a".repeat(17_000);
    assert_eq!(
        provider
            .ask(&with(authorization(), "state", &long))
            .status(),
        StatusCode::BAD_REQUEST
    );
}

#[test]
fn unsupported_parameters_are_reported_to_the_client() {
    let provider = provider();
    for (name, value, error) in [
        ("response_type", "token", "unsupported_response_type"),
        ("response_mode", "fragment", "invalid_request"),
        ("scope", "profile openidx", "invalid_scope"),
        ("code_challenge", "", "invalid_request"),
        ("code_challenge", "short", "invalid_request"),
        ("code_challenge_method", "plain", "invalid_request"),
        ("code_challenge_method", "", "invalid_request"),
        ("prompt", "none", "login_required"),
        ("request", "eyJ", "request_not_supported"),
        (
            "request_uri",
            "http://evil.example/",
            "request_uri_not_supported",
        ),
        ("user", "cancel", "access_denied"),
    ] {
        let answer =
            answered(&provider.ask(&with(with(authorization(), "user", "alice"), name, value)));
        assert_eq!(answer["error"], error, "{name}={value}");
        assert_eq!(
            (answer["state"].as_str(), answer["iss"].as_str()),
            ("the state & more", ISSUER)
        );
        assert!(!answer.contains_key("code"));
    }
}

/// Returns the names on a page of the groups API, and the URL of the next page.
fn page(response: &Response<Bytes>) -> (Vec<String>, Option<String>) {
    assert_eq!(response.status(), StatusCode::OK, "{}", body(response));
    let groups: Vec<Value> = serde_json::from_slice(response.body()).unwrap();
    let names = groups
        .iter()
        .map(|group| group["profile"]["name"].as_str().unwrap().to_owned())
        .collect();
    let links: Vec<_> = response
        .headers()
        .get_all("link")
        .iter()
        .map(|link| link.to_str().unwrap())
        .collect();
    assert!(
        links.iter().any(|link| link.ends_with(">; rel=\"self\"")),
        "{links:?}"
    );
    let next = links
        .iter()
        .find_map(|link| link.strip_suffix(">; rel=\"next\""));
    (
        names,
        next.map(|link| {
            link.strip_prefix('<')
                .unwrap()
                .strip_prefix(ISSUER)
                .unwrap()
                .to_owned()
        }),
    )
}

#[test]
fn groups_api_returns_all_groups_in_pages() {
    let provider = provider();
    let token = provider.api_token();
    let carol = User::by_login("carol").unwrap();
    let all: Vec<_> = carol.groups().into_iter().map(|group| group.name).collect();
    let target = format!("/api/v1/users/{}/groups", carol.subject());
    for (limit, pages) in [
        ("", 1),
        ("?limit=200", 1),
        ("?limit=1000", 1),
        ("?limit=150", 1),
        ("?limit=100", 2),
        ("?limit=7", 22),
    ] {
        let (mut seen, mut turned, mut next) = (Vec::new(), 0, Some(format!("{target}{limit}")));
        while let Some(target) = next {
            assert!(turned < 30);
            let (names, following) = page(&provider.get(&target, Some(&token), NOW));
            seen.extend(names);
            turned += 1;
            next = following;
        }
        assert_eq!((turned, &seen), (pages, &all), "{limit}");
    }
    let zed = format!(
        "/api/v1/users/{}/groups",
        User::by_login("zed").unwrap().subject()
    );
    assert_eq!(
        page(&provider.get(&zed, Some(&token), NOW)),
        (Vec::new(), None)
    );
}

#[test]
fn groups_api_reports_errors_as_okta_does() {
    let provider = provider();
    let token = provider.api_token();
    let target = format!("/api/v1/users/{}/groups", USERS[0].subject());
    let bearer = token.replace("SSWS", "Bearer");
    for wrong in [
        None,
        Some("SSWS wrong"),
        Some("SSWS"),
        Some(bearer.as_str()),
    ] {
        let response = provider.get(&target, wrong, NOW);
        assert_eq!(
            (response.status().as_u16(), &read(&response)["errorCode"]),
            (401, &"E0000011".into())
        );
    }
    for (target, status, code) in [
        ("/api/v1/users/00unobody/groups".to_owned(), 404, "E0000007"),
        (format!("{target}?limit=0"), 400, "E0000001"),
        (format!("{target}?limit=-1"), 400, "E0000001"),
        (format!("{target}?after=00gnone"), 400, "E0000001"),
        (format!("{target}?limit=1&limit=2"), 400, "E0000001"),
    ] {
        let response = provider.get(&target, Some(&token), NOW);
        assert_eq!(
            (response.status().as_u16(), &read(&response)["errorCode"]),
            (status, &code.into()),
            "{target}"
        );
    }
    assert_eq!(
        provider.get("/api/v1/users", Some(&token), NOW).status(),
        StatusCode::NOT_FOUND
    );
}

#[test]
fn logout_redirects_to_the_team_domain_only() {
    let provider = provider();
    let ask = |uri: &str| {
        provider.get(
            &format!(
                "/oauth2/v1/logout?{}",
                form(&[("post_logout_redirect_uri", uri), ("state", "s")])
            ),
            None,
            NOW,
        )
    };
    let response = ask("http://team.localhost:8000/bye");
    assert_eq!(
        response.headers()["location"],
        "http://team.localhost:8000/bye?state=s"
    );
    for elsewhere in [
        "http://evil.example/",
        "http://team.localhost:8000.evil.example/",
        "//evil.example/",
    ] {
        assert_eq!(
            ask(elsewhere).status(),
            StatusCode::BAD_REQUEST,
            "{elsewhere}"
        );
    }
    assert_eq!(
        provider.get("/oauth2/v1/logout", None, NOW).status(),
        StatusCode::OK
    );
}

#[test]
fn requests_to_another_host_are_rejected() {
    let provider = provider();
    for host in [
        "evil.example",
        "localhost:8001",
        "127.0.0.1:8001",
        "idp.localhost",
    ] {
        let request = Request::get("/.well-known/openid-configuration")
            .header("host", host)
            .body(Bytes::new())
            .unwrap();
        assert_eq!(
            provider.handle(&request, NOW).status(),
            StatusCode::MISDIRECTED_REQUEST,
            "{host}"
        );
    }
}

#[test]
fn pages_escape_and_run_no_script() {
    let provider = provider();
    let page = provider.ask(&with(
        authorization(),
        "state",
        "\"><script>alert(1)</script>",
    ));
    assert!(!body(&page).contains("<script"), "{}", body(&page));
    // Other clients may encode differently.
    let page = provider.authorize(&format!("{}&x='\"><b>", form(&authorization())), NOW);
    assert_eq!(page.status(), StatusCode::OK);
    assert!(
        !body(&page).contains("<b>") && body(&page).contains("&#62;&#60;b&#62;"),
        "{}",
        body(&page)
    );
    strict(page.headers());
    strict(provider.get("/nothing", None, NOW).headers());
}

fn strict(headers: &HeaderMap) {
    let policy = headers["content-security-policy"].to_str().unwrap();
    assert!(
        policy.starts_with("default-src 'none'; style-src 'sha256-"),
        "{policy}"
    );
    assert!(
        !policy.contains("unsafe") && policy.contains("frame-ancestors 'none'"),
        "{policy}"
    );
    assert_eq!(headers["x-content-type-options"], "nosniff");
    assert_eq!(headers["cache-control"], "no-store");
}

#[test]
fn number_of_stored_values_is_bounded() {
    let mut live = Expiring::new(Duration::from_secs(60));
    let first = live.insert(0, NOW);
    for value in 1..=256 {
        live.insert(value, NOW);
    }
    assert_eq!(live.get(&first, NOW), None, "the oldest went");
    let last = live.insert(1000, NOW);
    assert_eq!(live.get(&last, NOW), Some(&1000));
    assert_eq!(live.take(&last, NOW), Some(1000));
    assert_eq!(live.take(&last, NOW), None);
}
