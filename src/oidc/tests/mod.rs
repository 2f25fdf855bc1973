mod audience;
mod claims;
mod documents;

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

#[test]
fn r08_core_3_1_3_7_each_step_is_checked() {
    use IdTokenError::{AccessToken, Audience, AuthorizedParty, Claim, Issuer, Nonce};
    let (absent, other) = (
        AuthorizedParty { absent: true },
        AuthorizedParty { absent: false },
    );
    let keys = one_key();
    assert_eq!(check(&signed(&claims()), &keys).unwrap().subject, "00u1");
    for (name, value, error) in [
        ("iss", Some(json!("https://acme.okta.com/")), Issuer),
        ("iss", Some(json!("https://evil.okta.com")), Issuer),
        ("iss", Some(json!([ISSUER])), Claim("iss")),
        ("iss", None, Claim("iss")),
        ("aud", Some(json!("other")), Audience),
        ("aud", Some(json!([])), Audience),
        ("aud", Some(json!(["client", "other"])), absent),
        ("aud", Some(json!(["client", 1])), Audience),
        ("aud", Some(json!(1)), Claim("aud")),
        ("aud", None, Claim("aud")),
        ("azp", Some(json!("other")), other),
        ("azp", Some(json!(["client"])), other),
        ("iat", None, Claim("iat")),
        ("iat", Some(json!("1800000000")), Claim("iat")),
        ("exp", None, Claim("exp")),
        ("exp", Some(json!(-1)), Claim("exp")),
        // Expired before it was issued, which no clock difference explains.
        ("exp", Some(json!(NOW.0 - 400)), Claim("exp")),
        ("nbf", Some(json!("soon")), Claim("nbf")),
        ("nonce", None, Nonce),
        ("nonce", Some(json!("n-1")), Nonce),
        ("nonce", Some(json!(["n-0"])), Nonce),
        ("nonce", Some(json!("")), Nonce),
        ("sub", None, Claim("sub")),
        ("sub", Some(json!("")), Claim("sub")),
        ("sub", Some(json!(7)), Claim("sub")),
        ("sub", Some(json!("a".repeat(256))), Claim("sub")),
        ("sub", Some(json!("a\nb")), Claim("sub")),
        (
            "at_hash",
            Some(json!("AAAAAAAAAAAAAAAAAAAAAA")),
            AccessToken,
        ),
        ("at_hash", Some(json!(1)), Claim("at_hash")),
    ] {
        let token = changed(name, value.clone());
        assert_eq!(
            check(&token, &keys).unwrap_err(),
            error,
            "{name} = {value:?}"
        );
    }
    for (name, value) in [
        ("aud", json!(["client"])),
        ("aud", json!(["client", "client"])),
        ("azp", json!("client")),
        ("iat", json!(1_799_999_999.75)),
        ("auth_time", json!(0)),
        ("azp", json!("")),
        ("exp", json!(NOW.0 - 30)),
        ("at_hash", json!("")),
        ("name", json!(null)),
        ("locale", json!(["not", "a", "locale"])),
    ] {
        assert!(
            check(&changed(name, Some(value.clone())), &keys).is_ok(),
            "{name} = {value}"
        );
    }
}

#[test]
fn core_3_1_3_8_at_hash_uses_the_tokens_algorithm() {
    for (alg, hash) in [
        ("RS256", &aws_lc_rs::digest::SHA256),
        ("RS384", &aws_lc_rs::digest::SHA384),
        ("RS512", &aws_lc_rs::digest::SHA512),
        ("PS256", &aws_lc_rs::digest::SHA256),
        ("PS384", &aws_lc_rs::digest::SHA384),
        ("PS512", &aws_lc_rs::digest::SHA512),
        ("EdDSA", &aws_lc_rs::digest::SHA512),
    ] {
        let key = if alg == "EdDSA" { ed() } else { rsa(0) };
        let digest = aws_lc_rs::digest::digest(hash, ACCESS_TOKEN.as_bytes());
        let mut claims = claims();
        claims["at_hash"] = json!(b64(&digest.as_ref()[..digest.as_ref().len() / 2]));
        let token = key.sign(&json!({"alg": alg, "kid": "a"}), &claims.to_string());
        assert!(check(&token, &keys(&[key.jwk(Some("a"))])).is_ok(), "{alg}");
    }
}

#[test]
fn times_have_a_leeway_and_report_the_skew() {
    let token = |iat: u64, exp: u64| {
        let mut claims = claims();
        (claims["iat"], claims["exp"]) = (json!(iat), json!(exp));
        signed(&claims)
    };
    let (keys, now) = (one_key(), NOW.0);
    for (iat, exp) in [
        (now + 60, now + 3660),
        (now - 3600, now - 59),
        (now - 300, now),
    ] {
        assert!(check(&token(iat, exp), &keys).is_ok(), "{iat} {exp}");
    }
    let skew = |seconds| IdTokenError::Time { seconds };
    assert_eq!(
        check(&token(now + 61, now + 3660), &keys).unwrap_err(),
        skew(-61)
    );
    assert_eq!(
        check(&token(now - 360, now - 60), &keys).unwrap_err(),
        skew(360)
    );
    assert_eq!(
        check(&changed("nbf", Some(json!(now + 100))), &keys).unwrap_err(),
        skew(-100)
    );
    assert!(
        skew(-61)
            .to_string()
            .ends_with("this machine's clock is about 61 s behind the provider's")
    );
    assert!(
        skew(360)
            .to_string()
            .ends_with("about 360 s ahead of the provider's")
    );
    // A leeway above 300 s is capped.
    assert!(check_with(&token(now + 300, now + 3600), &keys, 100_000).is_ok());
    assert_eq!(
        check_with(&token(now + 301, now + 3600), &keys, 100_000).unwrap_err(),
        skew(-301)
    );
    assert!(check(&changed("exp", Some(json!(u64::MAX))), &keys).is_ok());
    assert_eq!(
        check(&changed("exp", Some(json!(1e300))), &keys).unwrap_err(),
        IdTokenError::Claim("exp")
    );
}

#[test]
fn j01_j02_only_asymmetric_signatures_are_accepted() {
    let keys = one_key();
    let (payload, rs256) = (claims().to_string(), json!({"alg": "RS256", "kid": "a"}));
    for alg in [
        "none", "None", "nOnE", "", "HS256", "HS384", "HS512", "rs256", "RS1", "EdDSA", "Ed448",
        "ES256K", "dir",
    ] {
        let header = json!({"alg": alg, "kid": "a"});
        for token in [
            rsa(0).sign(&header, &payload),
            format!(
                "{}.{}.",
                b64(header.to_string().as_bytes()),
                b64(payload.as_bytes())
            ),
        ] {
            assert!(check(&token, &keys).is_err(), "{alg}");
        }
    }
    // The public key as an HMAC secret.
    let Value::String(n) = &rsa(0).jwk(None)["n"] else {
        panic!()
    };
    let message = format!(
        "{}.{}",
        b64(json!({"alg": "HS256", "kid": "a"}).to_string().as_bytes()),
        b64(payload.as_bytes())
    );
    let secret = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, n.as_bytes());
    let token = format!(
        "{message}.{}",
        b64(aws_lc_rs::hmac::sign(&secret, message.as_bytes()).as_ref())
    );
    assert_eq!(check(&token, &keys).unwrap_err(), IdTokenError::Header);
    // Without a signature, with half of one, with another key's, with one over other claims.
    let good = rsa(0).sign(&rs256, &payload);
    let (message, signature) = good.rsplit_once('.').unwrap();
    let other = signed(&json!({"sub": "root"}));
    for token in [
        format!("{message}."),
        format!("{message}.{}", signature.get(..168).unwrap()),
        rsa(1).sign(&rs256, &payload),
        format!("{}.{signature}", other.rsplit_once('.').unwrap().0),
    ] {
        assert_eq!(check(&token, &keys).unwrap_err(), IdTokenError::Signature);
    }
}

#[test]
fn j04_header_extensions_are_rejected() {
    let (keys, payload) = (one_key(), claims().to_string());
    for (name, value) in [
        ("crit", json!(["foo"])),
        ("b64", json!(false)),
        ("zip", json!("DEF")),
        ("cty", json!("JWT")),
        ("enc", json!("A256GCM")),
        ("typ", json!("at+jwt")),
        ("typ", json!("logout+jwt")),
    ] {
        let mut header = json!({"alg": "RS256", "kid": "a"});
        header[name] = value;
        assert_eq!(
            check(&rsa(0).sign(&header, &payload), &keys).unwrap_err(),
            IdTokenError::Header,
            "{header}"
        );
    }
    assert!(
        check(
            &rsa(0).sign(&json!({"alg": "RS256", "kid": "a", "typ": "jwt"}), &payload),
            &keys
        )
        .is_ok()
    );
    assert_eq!(
        check(&"a".repeat(id_token::MAX_ID_TOKEN + 1), &keys).unwrap_err(),
        IdTokenError::TooLong
    );
    let twice = payload.replacen('{', "{\"sub\":\"root\",", 1);
    assert_eq!(
        check(
            &rsa(0).sign(&json!({"alg": "RS256", "kid": "a"}), &twice),
            &keys
        )
        .unwrap_err(),
        IdTokenError::Malformed
    );
    for token in [
        "",
        ".",
        "..",
        "a.b",
        "a.b.c",
        "a.b.c.d",
        "e30.e30.e30",
        "e30.e30",
        "\u{e4}.\u{e4}.\u{e4}",
    ] {
        assert!(check(token, &keys).is_err(), "{token}");
    }
}

#[test]
fn j08_each_algorithm_requires_its_own_key() {
    let sign = |key: &TestKey, alg: &str| {
        key.sign(&json!({"alg": alg, "kid": "k"}), &claims().to_string())
    };
    for alg in ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"] {
        let mut jwk = rsa(0).jwk(Some("k"));
        assert!(
            check(&sign(&rsa(0), alg), &keys(std::slice::from_ref(&jwk))).is_ok(),
            "{alg}"
        );
        jwk["alg"] = json!(alg);
        assert!(check(&sign(&rsa(0), alg), &keys(&[jwk])).is_ok(), "{alg}");
        // Signed with one algorithm and labelled with another.
        for other in ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"]
            .into_iter()
            .filter(|other| *other != alg)
        {
            let (message, signature) = (sign(&rsa(0), alg), sign(&rsa(0), other));
            let mixed = format!(
                "{}.{}",
                message.rsplit_once('.').unwrap().0,
                signature.rsplit_once('.').unwrap().1
            );
            assert_eq!(
                check(&mixed, &one_key_named("k")).unwrap_err(),
                IdTokenError::Signature,
                "{alg} as {other}"
            );
        }
    }
    let key = ed();
    let set = keys(&[key.jwk(Some("k"))]);
    for alg in ["EdDSA", "Ed25519"] {
        assert!(check(&sign(&key, alg), &set).is_ok(), "{alg}");
        assert_eq!(
            check(&sign(&ed(), alg), &set).unwrap_err(),
            IdTokenError::Signature,
            "{alg}"
        );
        let zero = sign(&key, alg).rsplit_once('.').unwrap().0.to_owned() + "." + &b64(&[0; 64]);
        assert!(check(&zero, &set).is_err());
    }
    assert_eq!(
        check(&sign(&key, "ES256"), &set).unwrap_err(),
        IdTokenError::UnknownKey
    );
    for (name, value) in [
        ("crv", json!("Ed448")),
        ("crv", json!("X25519")),
        ("x", json!(b64(&[1; 31]))),
        ("x", json!("AAAA")),
    ] {
        let mut jwk = key.jwk(Some("k"));
        jwk[name] = value.clone();
        assert!(
            KeySet::from_jwks(jwks(&[jwk]).as_bytes()).is_err(),
            "{name} = {value}"
        );
    }
    for alg in ["ES256", "ES384", "ES512"] {
        let key = ec(alg);
        let set = keys(&[key.jwk(Some("k"))]);
        assert!(check(&sign(&key, alg), &set).is_ok(), "{alg}");
        for other in ["ES256", "ES384", "ES512", "RS256"]
            .into_iter()
            .filter(|other| *other != alg)
        {
            assert_eq!(
                check(&sign(&key, other), &set).unwrap_err(),
                IdTokenError::UnknownKey,
                "{alg} as {other}"
            );
        }
        let zero = sign(&key, alg).rsplit_once('.').unwrap().0.to_owned() + "." + &b64(&[0; 64]);
        assert!(check(&zero, &set).is_err());
    }
    // A key with a stated algorithm verifies no other.
    let mut jwk = rsa(0).jwk(Some("k"));
    jwk["alg"] = json!("RS256");
    assert!(check(&sign(&rsa(0), "RS256"), &keys(&[jwk.clone()])).is_ok());
    assert_eq!(
        check(&sign(&rsa(0), "RS512"), &keys(&[jwk])).unwrap_err(),
        IdTokenError::UnknownKey
    );
}

#[test]
fn j11_token_without_kid() {
    let token = rsa(0).sign(&json!({"alg": "RS256"}), &claims().to_string());
    let (good, other) = (rsa(0).jwk(Some("a")), rsa(1).jwk(Some("b")));
    assert!(check(&token, &keys(std::slice::from_ref(&good))).is_ok());
    assert!(check(&token, &keys(&[rsa(0).jwk(None)])).is_ok());
    // A key that cannot have signed the token causes no ambiguity.
    let mut encryption = other.clone();
    encryption["use"] = json!("enc");
    let mut ps512 = other.clone();
    ps512["alg"] = json!("PS512");
    assert!(
        check(
            &token,
            &keys(&[encryption, ps512, ec("ES256").jwk(None), good.clone()])
        )
        .is_ok()
    );
    // OpenID Connect Core 10.1: the token must name its key if several may have signed it.
    for several in [
        vec![other.clone(), good.clone()],
        vec![good.clone(), other.clone()],
        vec![good.clone(), rsa(1).jwk(None)],
    ] {
        assert_eq!(
            check(&token, &keys(&several)).unwrap_err(),
            IdTokenError::AmbiguousKey
        );
    }
    // A key that is listed twice counts once.
    for twice in [
        vec![good.clone(), good.clone()],
        vec![good.clone(), rsa(0).jwk(Some("b")), rsa(0).jwk(None)],
    ] {
        assert!(check(&token, &keys(&twice)).is_ok());
    }
    let named = rsa(0).sign(&json!({"alg": "RS256", "kid": "a"}), &claims().to_string());
    assert!(check(&named, &keys(&[other.clone(), good])).is_ok());
    assert!(
        check(&token, &keys(std::slice::from_ref(&other)))
            .unwrap_err()
            .may_be_rotation()
    );
    // A key without a name may be the named one.
    assert!(check(&named, &keys(&[other.clone(), rsa(0).jwk(None)])).is_ok());
    assert!(
        check(&named, &keys(&[rsa(1).jwk(None)]))
            .unwrap_err()
            .may_be_rotation()
    );
    assert_eq!(
        check(&named, &keys(&[rsa(1).jwk(Some("a")), rsa(0).jwk(None)])).unwrap_err(),
        IdTokenError::Signature
    );
    // A new key with the name of an old one.
    let old = keys(&[rsa(1).jwk(Some("a"))]);
    assert!(check(&named, &old).unwrap_err().may_be_rotation());
}

/// Returns the code of a callback that must be for the login `s-0` at this issuer.
fn code_from(query: &str, issuer: ResponseIssuer<'_>) -> Result<String, CallbackError> {
    Callback::parse(query)?
        .code(&Secret::new("s-0"), issuer)
        .map(|code| code.expose().to_owned())
}

fn code(query: &str) -> Result<String, CallbackError> {
    code_from(query, ResponseIssuer::MayBeNamed(ISSUER))
}

fn code_of_named_issuer(query: &str) -> Result<String, CallbackError> {
    code_from(query, ResponseIssuer::Named(ISSUER))
}

#[test]
fn callback_of_the_login_yields_its_code() {
    let plus = code("code=c%2B1&state=s-0&session_state=x");
    assert_eq!(plus.as_deref(), Ok("c+1"));
    let named = code_of_named_issuer("code=c&state=s-0&iss=https%3A%2F%2Facme.okta.com");
    assert_eq!(named.as_deref(), Ok("c"));
    // RFC 6749 3.1
    let empty = code("code=c&state=s-0&error=&iss=");
    assert_eq!(empty.as_deref(), Ok("c"));
    let debug = format!(
        "{:?}",
        Callback::parse("code=topsecret&state=verysecret").unwrap()
    );
    assert!(!debug.contains("topsecret") && !debug.contains("verysecret"));
}

#[test]
fn r02_callback_of_another_login_is_rejected() {
    for query in [
        "code=c&state=s-1",
        "code=c&state=s-",
        "code=c&state=s-00",
        "error=access_denied&state=evil",
    ] {
        assert_eq!(code(query), Err(CallbackError::State), "{query}");
    }
}

#[test]
fn r02_malformed_callback_is_rejected() {
    for query in [
        "",
        "code=c",
        "state=s-0",
        "code=&state=s-0",
        "code=c&state=",
        "code=c&code=c&state=s-0",
        "code=c&state=s-0&state=s-1",
        "code=c&error=e&state=s-0",
        "code=c&state=s-0&iss=a&iss=b",
        "%00=&&&=",
    ] {
        assert!(
            matches!(code(query), Err(CallbackError::Parameter(_))),
            "{query}"
        );
    }
    assert_eq!(
        code(&format!("code={}&state=s-0", "c".repeat(9000))),
        Err(CallbackError::TooLong)
    );
}

#[test]
fn rfc9207_callback_of_another_issuer_is_rejected() {
    for query in ["code=c&state=s-0", "code=c&state=s-0&iss="] {
        assert_eq!(
            code_of_named_issuer(query),
            Err(CallbackError::Issuer),
            "{query}"
        );
    }
    for iss in [
        "https%3A%2F%2Fevil.example",
        "https%3A%2F%2Facme.okta.com%2F",
    ] {
        for answer in ["code=c", "error=access_denied"] {
            let query = format!("{answer}&state=s-0&iss={iss}");
            assert_eq!(code(&query), Err(CallbackError::Issuer), "{query}");
        }
    }
}

#[test]
fn r04_error_of_the_provider_is_cut_and_on_one_line() {
    let denied = CallbackError::Provider {
        error: "access_denied".into(),
        description: None,
    };
    assert_eq!(
        code("error=access_denied&error_description=&state=s-0"),
        Err(denied)
    );
    let error = |query: &str| match code(query) {
        Err(CallbackError::Provider { error, description }) => (error, description.unwrap()),
        other => panic!("{other:?}"),
    };
    let (name, description) = error(
        "error=<script>alert(1)</script>&error_description=%0d%0aSet-Cookie:x=1%E2%80%AE&state=s-0",
    );
    assert_eq!(name, "<script>alert(1)</script>");
    assert_eq!(description, "  Set-Cookie:x=1 ");
    let (name, description) = error(&format!(
        "error={0}&error_description={0}&state=s-0",
        "\u{e4}".repeat(2000)
    ));
    assert_eq!(
        (name.chars().count(), description.chars().count()),
        (64, 300)
    );
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
