mod audience;
mod callback;
mod claims;
mod documents;
mod email;
mod id_token;
mod userinfo;

use std::time::Duration;

use serde_json::{Value, json};
use url::Url;

use super::testing::{NOW, TestKey, b64, ec, ed, jwks, rsa};
use super::*;
use crate::model::Secret;

const ISSUER: &str = "https://acme.okta.com";
const ACCESS_TOKEN: &str = "access-token";

fn claims() -> Value {
    json!({
        "iss": ISSUER, "sub": "00u1", "aud": "client", "iat": NOW.0, "exp": NOW.0 + 3600, "nonce": "n-0",
        "auth_time": 1_799_999_990.5, "ver": 1,
    })
}

fn with_expected<T>(leeway: u64, check: impl FnOnce(&Expected<'_>) -> T) -> T {
    check(&Expected {
        issuer: ISSUER,
        client_id: "client",
        trusted_audiences: None,
        nonce: &Secret::new("n-0"),
        access_token: ACCESS_TOKEN,
        now: NOW,
        max_age: None,
        leeway: Duration::from_secs(leeway),
    })
}

fn check_with(token: &str, keys: &KeySet, leeway: u64) -> Result<VerifiedIdToken, IdTokenError> {
    with_expected(leeway, |expected| verify(token, keys, expected))
}

fn check(token: &str, keys: &KeySet) -> Result<VerifiedIdToken, IdTokenError> {
    check_with(token, keys, 60)
}

fn keys(all: &[Value]) -> KeySet {
    KeySet::from_jwks(jwks(all).as_bytes()).unwrap()
}

fn one_key() -> KeySet {
    one_key_named("a")
}

fn one_key_named(kid: &str) -> KeySet {
    keys(&[rsa(0).jwk(Some(kid))])
}

fn signed(claims: &Value) -> String {
    rsa(0).sign(&json!({"alg": "RS256", "kid": "a"}), &claims.to_string())
}

/// The valid claims with one of them changed or removed.
fn changed(name: &str, value: Option<Value>) -> String {
    let mut claims = claims();
    match value {
        Some(value) => claims[name] = value,
        None => drop(claims.as_object_mut().unwrap().remove(name)),
    }
    signed(&claims)
}

fn document() -> Value {
    json!({
        "issuer": ISSUER, "authorization_endpoint": format!("{ISSUER}/oauth2/v1/authorize?brand=1"),
        "token_endpoint": format!("{ISSUER}/oauth2/v1/token"), "userinfo_endpoint": format!("{ISSUER}/oauth2/v1/userinfo"),
        "jwks_uri": format!("{ISSUER}/oauth2/v1/keys"), "response_types_supported": ["code"],
        "subject_types_supported": ["public"], "id_token_signing_alg_values_supported": ["RS256"],
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post", "private_key_jwt"],
    })
}

fn secret() -> Credentials {
    Credentials::Secret(Secret::new("s"))
}

fn metadata(changes: &[(&str, Value)]) -> Result<Metadata, MetadataError> {
    let mut document = document();
    for (name, value) in changes {
        document[*name] = value.clone();
    }
    Metadata::read(document.to_string().as_bytes(), ISSUER)
}

#[test]
fn authorization_request_is_complete() {
    let secrets = FlowSecrets::random(Secret::new("state"));
    let redirect = Url::parse("https://team.example/cdn-cgi/access/callback").unwrap();
    let client = client(
        &metadata(&[]).unwrap(),
        "client",
        &secret(),
        None,
        &redirect,
    )
    .unwrap();
    let scopes = ["openid", "profile", "email", "groups"].map(str::to_owned);
    let url = authorization_url(&client, &secrets, &scopes, Hints::default());
    let query: Vec<(String, String)> = url.query_pairs().into_owned().collect();
    let get = |name: &str| {
        let mut all = query
            .iter()
            .filter(|(key, _)| key == name)
            .map(|(_, value)| value.as_str());
        (all.next(), all.next())
    };
    let digest = aws_lc_rs::digest::digest(
        &aws_lc_rs::digest::SHA256,
        secrets.pkce_verifier.expose().as_bytes(),
    );
    for (name, value) in [
        ("brand", "1"),
        ("response_type", "code"),
        ("client_id", "client"),
        ("redirect_uri", redirect.as_str()),
        ("scope", "openid profile email groups"),
        ("state", secrets.state.expose()),
        ("nonce", secrets.nonce.expose()),
        ("code_challenge_method", "S256"),
        ("code_challenge", &b64(digest.as_ref())),
    ] {
        assert_eq!(get(name), (Some(value), None), "{name}");
    }
    assert_eq!(get("prompt"), (None, None));
    assert!(
        url.as_str()
            .starts_with("https://acme.okta.com/oauth2/v1/authorize?")
            && !url.as_str().contains("plain")
    );
    assert_eq!(secrets.pkce_verifier.expose().len(), 43, "RFC 7636 §4.1");
    assert_ne!(
        FlowSecrets::random(Secret::new("state")),
        FlowSecrets::random(Secret::new("state"))
    );
    let hints = Hints {
        prompt: Some(openidconnect::core::CoreAuthPrompt::Login),
        login_hint: Some("a@b.c&prompt=none".into()),
        max_age: Some(Duration::from_secs(3600)),
    };
    let url = authorization_url(&client, &secrets, &scopes, hints).to_string();
    assert!(
        url.contains("max_age=3600")
            && url.contains("prompt=login")
            && url.contains("login_hint=a%40b.c%26prompt%3Dnone"),
        "{url}"
    );
}
