//! Providers and clients that differ from Okta's usual setup.

use serde_json::json;

use crate::support::okta::{
    ALICE, CALLBACK, CLIENT_ID, CLIENT_SECRET, IDENTITY, LOGOUT, Okta, WIKI, with,
};
use crate::support::{APPLICATIONS, Browser, application};

/// A private key as PEM, and its public half as a JWK called `key-1`.
pub fn key_pair() -> (String, String) {
    use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
    use aws_lc_rs::rsa::{KeyPair, KeySize};
    use aws_lc_rs::signature::KeyPair as _;
    use base64::Engine as _;
    use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
    let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
    let der = AsDer::<Pkcs8V1Der<'_>>::as_der(&pair)
        .unwrap()
        .as_ref()
        .to_vec();
    let pem = format!(
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
        BASE64_STANDARD.encode(der)
    );
    let public = pair.public_key();
    let b64 = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
    let jwk = json!({
        "kty": "RSA", "use": "sig", "alg": "RS256", "kid": "key-1",
        "n": b64(public.modulus().big_endian_without_leading_zero()),
        "e": b64(public.exponent().big_endian_without_leading_zero()),
    });
    (pem, jwk.to_string())
}

#[tokio::test]
async fn login_works_with_private_key_jwt_and_par() {
    let (pem, jwk) = key_pair();
    let okta = Okta::start_with(&[CALLBACK], &["--client-key", &jwk]);
    let (proxy, okta, _origin) = with(okta, |config| {
        config.files = vec![("client.pem", pem)];
        config.credentials =
            r#"private_key = "file:client.pem", private_key_id = "key-1""#.to_owned();
        config.provider =
            r#", pushed_requests = true, max_age = "8h", prompt = "login""#.to_owned();
    })
    .await;
    let sent = Browser::new(&proxy).open_until(WIKI, &okta.issuer).await;
    let names: Vec<_> = sent
        .query_pairs()
        .map(|(name, _)| name.into_owned())
        .collect();
    assert_eq!(
        names,
        ["client_id", "request_uri"],
        "the browser carries nothing of the request"
    );
    let mut browser = Browser::new(&proxy);
    let page = browser.open_as(WIKI, ALICE).await;
    assert_eq!(
        page.response.status,
        200,
        "{:#?}\n{}",
        browser.trail,
        page.response.text()
    );
    assert_eq!(okta.count("/oauth2/v1/par").await, 2);
}

#[tokio::test]
async fn login_works_with_a_custom_authorization_server() {
    let okta = Okta::start_with(&[CALLBACK], &["--server", "default"]);
    let account = okta.issuer.trim_end_matches("/oauth2/default").to_owned();
    let (proxy, _okta, origin) = with(okta, |config| {
        config.issuer = account;
        config.provider =
            r#", authorization_server_id = "default", claims = ["zoneinfo", "missing"], email_claim_name = "preferred_username""#
                .to_owned();
    })
    .await;
    let page = Browser::new(&proxy)
        .open_as(WIKI, "upper@example.com")
        .await;
    assert_eq!(page.response.status, 200, "{}", page.response.text());
    let seen = origin.last();
    assert_eq!(
        seen.headers.one("cf-access-authenticated-user-email"),
        Some("upper@example.com")
    );
    let claims = crate::support::open_token(seen.assertion().unwrap()).1;
    assert_eq!(
        claims["custom"],
        json!({ "zoneinfo": "Europe/Berlin" }),
        "{claims}"
    );
}

/// The same server as any OpenID Connect provider: another type, and everything by its standard
/// alone.
#[tokio::test]
async fn login_works_with_a_plain_oidc_provider() {
    let okta = Okta::start(&[CALLBACK]);
    let issuer = okta.issuer.clone();
    let (proxy, _okta, _origin) = with(okta, |config| {
        let generic = format!(
            r#"
[[identity_providers]]
id = "generic"
name = "Generic"
type = "oidc"
config = {{ client_id = "{CLIENT_ID}", client_secret = "{CLIENT_SECRET}", issuer = "{issuer}", scopes = ["openid", "email", "groups"], claims = ["groups"] }}
"#
        );
        let applications = APPLICATIONS
            .replace(r#"allowed_idps = ["okta"]"#, r#"allowed_idps = ["generic"]"#)
            .replace(r#"okta = { name = "Engineering", identity_provider_id = "okta" }"#, r#"oidc = { claim_name = "groups", claim_value = "Engineering", identity_provider_id = "generic" }"#);
        config.rest = generic + &applications;
    })
    .await;
    let mut browser = Browser::new(&proxy);
    let page = browser.open_as(WIKI, ALICE).await;
    assert_eq!(
        page.response.status,
        200,
        "{:#?}\n{}",
        browser.trail,
        page.response.text()
    );
    let identity = browser.get(IDENTITY).await.json();
    assert_eq!(identity["idp"], json!({ "id": "generic", "type": "oidc" }));
    assert_eq!(
        Browser::new(&proxy)
            .open_as(WIKI, "bob@example.com")
            .await
            .response
            .status,
        403
    );
}

/// Applications for people of one provider each, in one browser: the one must not sign out of the
/// other.
#[tokio::test]
async fn two_providers_work_in_one_browser() {
    let okta = Okta::start(&[CALLBACK]);
    let issuer = okta.issuer.clone();
    let (proxy, okta, _origin) = with(okta, |config| {
        config.rest = format!(
            r#"
[[identity_providers]]
id = "other"
name = "Other"
type = "oidc"
config = {{ client_id = "{CLIENT_ID}", client_secret = "{CLIENT_SECRET}", issuer = "{issuer}" }}
{}{}"#,
            application("wiki", "okta", r#"{ login_method = { id = "okta" } }"#),
            application("other", "other", r#"{ login_method = { id = "other" } }"#),
        );
    })
    .await;
    let mut browser = Browser::new(&proxy);
    assert_eq!(browser.open_as(WIKI, ALICE).await.response.status, 200);
    assert_eq!(
        browser
            .open_as("http://other.localhost/", ALICE)
            .await
            .response
            .status,
        200
    );
    for _ in 0..4 {
        assert_eq!(
            browser.get(WIKI).await.status,
            200,
            "signed out of the first"
        );
        assert_eq!(browser.get("http://other.localhost/").await.status, 200);
    }
    assert_eq!(okta.count("/oauth2/v1/token").await, 2);
    // Signing out is out of both.
    browser.open(LOGOUT).await;
    assert_eq!(browser.get("http://other.localhost/").await.status, 401);
    assert_eq!(browser.get(WIKI).await.status, 401, "still in the first");
}
