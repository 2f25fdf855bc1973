mod groups;
mod pages;
mod token;

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
