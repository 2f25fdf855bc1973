//! A token is good only as it was issued: this algorithm, this key, this application, this kind,
//! this moment.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use super::member;
use crate::support::{Person, World, assert_refused, idp, open_token, raw};

/// Presents a token in each of the two places, and nothing may arrive.
async fn refused(world: &World, token: &str, name: &str) {
    let places = [
        format!("Cookie: CF_Authorization={token}"),
        format!("cf-access-token: {token}"),
    ];
    for line in places {
        for mode in ["Sec-Fetch-Mode: navigate", "Sec-Fetch-Mode: cors"] {
            let answer = world
                .raw(raw::request("GET", "app.localhost", "/", &[&line, mode]))
                .await;
            assert_refused(answer.as_ref(), name);
            world.origin.assert_untouched(name);
        }
    }
}

fn encode(part: &Value) -> String {
    BASE64.encode(part.to_string())
}

/// A good token, and its three parts.
async fn good(world: &World) -> (String, Value, Value, String) {
    let token = member(world)
        .await
        .cookie("app.localhost", "CF_Authorization")
        .unwrap()
        .to_owned();
    let (header, claims) = open_token(&token);
    let signature = token.rsplit('.').next().unwrap().to_owned();
    (token, header, claims, signature)
}

#[tokio::test]
async fn j01_unsigned_token_is_refused() {
    let world = World::start().await;
    let (token, header, claims, signature) = good(&world).await;
    for alg in ["none", "None", "nOnE", "NONE", ""] {
        let mut header = header.clone();
        header["alg"] = json!(alg);
        for signature in ["", &signature, "AA"] {
            refused(
                &world,
                &format!("{}.{}.{signature}", encode(&header), encode(&claims)),
                alg,
            )
            .await;
        }
    }
    let mut header = header.clone();
    header.as_object_mut().unwrap().remove("alg");
    refused(
        &world,
        &format!("{}.{}.{signature}", encode(&header), encode(&claims)),
        "no alg",
    )
    .await;
    let (signed, _) = token.rsplit_once('.').unwrap();
    for bad in [
        format!("{signed}."),
        signed.to_owned(),
        format!("{signed}.{signature}."),
    ] {
        refused(&world, &bad, "an empty signature").await;
    }
}

#[tokio::test]
async fn j02_public_key_is_not_a_shared_secret() {
    let world = World::start().await;
    let (_, mut header, claims, _) = good(&world).await;
    let certs = world
        .browser()
        .get("http://access.localhost/cdn-cgi/access/certs")
        .await
        .json();
    header["alg"] = json!("HS256");
    let header: Header = serde_json::from_value(header).unwrap();
    assert_eq!(header.alg, Algorithm::HS256);
    let mut secrets = vec![certs["keys"][0].to_string()];
    for key in certs["keys"].as_array().unwrap() {
        secrets.push(key["n"].as_str().unwrap().to_owned());
    }
    for certificate in certs["public_certs"].as_array().unwrap() {
        secrets.push(certificate["cert"].as_str().unwrap().to_owned());
    }
    for secret in secrets {
        let token = jsonwebtoken::encode(
            &header,
            &claims,
            &EncodingKey::from_secret(secret.as_bytes()),
        )
        .unwrap();
        refused(&world, &token, "HS256 with what is public").await;
    }
}

#[tokio::test]
async fn j04_critical_token_headers_are_refused() {
    let world = World::start().await;
    let (_, header, claims, signature) = good(&world).await;
    let more = [
        ("crit", json!(["foo"])),
        ("crit", json!([])),
        ("b64", json!(false)),
        ("typ", json!("logout+jwt")),
        ("cty", json!("JWT")),
        ("zip", json!("DEF")),
        ("p2c", json!(2_147_483_648_u64)),
        ("enc", json!("A256GCM")),
        ("jku", json!(format!("{}/oauth2/v1/keys", world.idp.issuer))),
        ("x5u", json!(format!("{}/oauth2/v1/keys", world.idp.issuer))),
        ("jwk", json!({ "kty": "oct", "k": "AA" })),
        ("kid", json!("../../../../dev/null")),
        ("kid", json!(["a"])),
        ("kid", json!(null)),
    ];
    let asked = world.idp.count("/oauth2/v1/keys");
    for (name, value) in more {
        let mut header = header.clone();
        header[name] = value;
        refused(
            &world,
            &format!("{}.{}.{signature}", encode(&header), encode(&claims)),
            name,
        )
        .await;
        let forged = idp::forged(&header, &claims);
        refused(&world, &forged, name).await;
    }
    assert_eq!(
        world.idp.count("/oauth2/v1/keys"),
        asked,
        "a token named a place and it was asked"
    );
    refused(
        &world,
        &format!(
            "{}.e.e.e.e",
            encode(&json!({ "alg": "RSA-OAEP", "enc": "A256GCM" }))
        ),
        "a JWE",
    )
    .await;
}

#[tokio::test]
async fn j04_token_that_is_too_long_is_refused_unread() {
    let world = World::start().await;
    let (_, header, _, signature) = good(&world).await;
    for size in [17 * 1024, 60 * 1024] {
        let claims = json!({ "email": "a".repeat(size) });
        refused(
            &world,
            &format!("{}.{}.{signature}", encode(&header), encode(&claims)),
            "a long token",
        )
        .await;
    }
    refused(&world, &".".repeat(10_000), "dots").await;
    let nested = format!("{}{}", "[".repeat(5_000), "]".repeat(5_000));
    refused(
        &world,
        &format!("{}.{}.{signature}", encode(&header), BASE64.encode(nested)),
        "brackets",
    )
    .await;
}

#[tokio::test]
async fn j05_each_kind_of_token_has_one_use() {
    let world = World::start().await;
    let mut browser = world
        .signed_in(Person::alice(), "http://wiki.localhost/")
        .await;
    browser.open("http://app.localhost/").await;
    world.origin.forget();
    let organisation = browser
        .cookie("access.localhost", "CF_Authorization")
        .unwrap();
    let wiki = browser
        .cookie("wiki.localhost", "CF_Authorization")
        .unwrap();
    refused(
        &world,
        organisation,
        "the organisation token at an application",
    )
    .await;
    refused(&world, wiki, "another application's token").await;
    for given in world.idp.given() {
        refused(&world, &given, "a token of the provider").await;
    }
    for cookie in browser
        .cookies
        .iter()
        .filter(|c| !(c.host == "app.localhost" && c.name == "CF_Authorization"))
    {
        refused(
            &world,
            &cookie.value,
            &format!("the cookie {} of {}", cookie.name, cookie.host),
        )
        .await;
    }
    // And an application token is no organisation session.
    let line = format!("Cookie: CF_Authorization={wiki}");
    let login = "http://access.localhost/cdn-cgi/access/login/app.localhost?redirect_url=%2F";
    let answer = world.browser().request("GET", login, &[&line], b"").await;
    assert!(
        !answer
            .headers
            .one("location")
            .unwrap_or_default()
            .contains("/authorized"),
        "{:?}",
        answer.headers
    );
}

#[tokio::test]
async fn j05_claims_cannot_be_changed() {
    let world = World::start().await;
    let (_, header, claims, signature) = good(&world).await;
    let changes = [
        ("email", json!("alice@example.com")),
        ("exp", json!(9_999_999_999_u64)),
        ("aud", json!(["x"])),
        ("identity_nonce", json!("x")),
    ];
    for (name, value) in changes {
        let mut claims = claims.clone();
        claims[name] = value;
        refused(
            &world,
            &format!("{}.{}.{signature}", encode(&header), encode(&claims)),
            name,
        )
        .await;
        refused(&world, &idp::forged(&header, &claims), name).await;
    }
}

#[tokio::test]
async fn j08_foreign_key_under_a_published_kid_is_refused() {
    let world = World::start().await;
    let (_, header, claims, _) = good(&world).await;
    refused(
        &world,
        &idp::forged(&header, &claims),
        "a forger's signature",
    )
    .await;
    let mut nameless = header.clone();
    nameless.as_object_mut().unwrap().remove("kid");
    refused(
        &world,
        &idp::forged(&nameless, &claims),
        "a forger's signature without a kid",
    )
    .await;
}

#[tokio::test]
async fn j11_key_rotated_between_two_logins_is_fetched() {
    let okta = crate::support::Okta::start(&["http://access.localhost/cdn-cgi/access/callback"]);
    let (proxy, _origin) = crate::support::start(&okta.issuer, |_| ()).await;
    for rotate in [json!({}), json!({ "rotate": "drop" })] {
        okta.control(rotate.clone()).await;
        let mut browser = crate::support::Browser::new(&proxy);
        let page = browser
            .open_as("http://wiki.localhost/", "alice@example.com")
            .await;
        assert_eq!(page.response.status, 200, "{rotate}: {:#?}", browser.trail);
    }
}

#[tokio::test]
async fn j14_token_in_the_url_is_not_a_credential() {
    let world = World::start().await;
    let (token, ..) = good(&world).await;
    for name in [
        "token",
        "access_token",
        "CF_Authorization",
        "cf-access-token",
        "cf_access_token",
    ] {
        let answer = world
            .raw(raw::request(
                "GET",
                "app.localhost",
                &format!("/?{name}={token}"),
                &[],
            ))
            .await;
        assert_refused(answer.as_ref(), name);
        world.origin.assert_untouched(name);
    }
}
