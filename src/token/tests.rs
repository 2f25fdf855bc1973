use std::sync::LazyLock;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::keys as fixed;
use crate::token::{KeyError, SigningKey};

const NOW: UnixTime = UnixTime(1_800_000_000);
const ISSUER: &str = "https://access.example.com";

static KEY: LazyLock<SigningKey> = LazyLock::new(|| fixed::signing_key(fixed::TEAM));
static OTHER: LazyLock<SigningKey> = LazyLock::new(|| fixed::signing_key(fixed::STRANGER));

fn keys() -> KeySet {
    jwks(json!([KEY.to_jwk()])).unwrap()
}

fn jwks(keys: Value) -> Result<KeySet, KeyError> {
    KeySet::from_jwks(json!({ "keys": keys }).to_string().as_bytes())
}

fn good() -> Value {
    json!({"iss": ISSUER, "aud": ["a"], "exp": NOW.0 + 60, "iat": NOW.0, "nbf": NOW.0, "type": "app", "sub": "u", "email": "a@b.c", "identity_nonce": "0123456789abcdef"})
}

fn with(key: &str, value: Value) -> Value {
    let mut claims = good();
    claims[key] = value;
    claims
}

fn verify(token: &str) -> Result<VerifiedToken, TokenError> {
    UnverifiedToken::parse(token)?.verify(&keys(), ISSUER, NOW, 60)
}

fn signed(claims: &Value) -> Result<VerifiedToken, TokenError> {
    verify(&KEY.sign(claims).unwrap())
}

/// The token with another header, signed again as an insider could.
fn with_header(header: &Value) -> String {
    let payload = URL_SAFE_NO_PAD.encode(good().to_string());
    let message = format!("{}.{payload}", URL_SAFE_NO_PAD.encode(header.to_string()));
    let pkcs8 = URL_SAFE_NO_PAD
        .decode(KEY.to_pkcs8().unwrap().expose())
        .unwrap();
    let pair = aws_lc_rs::signature::RsaKeyPair::from_pkcs8(&pkcs8).unwrap();
    let mut signature = vec![0; pair.public_modulus_len()];
    let rng = aws_lc_rs::rand::SystemRandom::new();
    pair.sign(
        &aws_lc_rs::signature::RSA_PKCS1_SHA256,
        &rng,
        message.as_bytes(),
        &mut signature,
    )
    .unwrap();
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

#[test]
fn signed_token_verifies() {
    let token = signed(&good()).unwrap();
    assert_eq!(token.claims().email.as_deref(), Some("a@b.c"));
    assert_eq!(token.claims().kind, Kind::App);
    assert_eq!(
        signed(&with("aud", json!("a"))).unwrap().claims().aud,
        ["a"]
    );
}

use crate::token::Kind;

#[test]
fn j01_j02_j04_headers_refused() {
    let kid = KEY.kid();
    assert!(
        verify(&with_header(
            &json!({"alg": "RS256", "kid": kid, "typ": "JWT"})
        ))
        .is_ok()
    );
    assert!(verify(&with_header(&json!({"alg": "RS256", "kid": kid}))).is_ok());
    for header in [
        json!({"alg": "none", "kid": kid}),
        json!({"alg": "None", "kid": kid}),
        json!({"alg": "nOnE", "kid": kid}),
        json!({"alg": "HS256", "kid": kid}),
        json!({"alg": "RS512", "kid": kid}),
        json!({"alg": "PS256", "kid": kid}),
        json!({"alg": "rs256", "kid": kid}),
        json!({"alg": "RS256", "kid": kid, "crit": ["foo"]}),
        json!({"alg": "RS256", "kid": kid, "crit": []}),
        json!({"alg": "RS256", "kid": kid, "b64": false}),
        json!({"alg": "RS256", "kid": kid, "zip": "DEF"}),
        json!({"alg": "RS256", "kid": kid, "cty": "JWT"}),
        json!({"alg": "RS256", "kid": kid, "typ": "logout+jwt"}),
        json!({"alg": "RS256", "kid": kid, "typ": "at+jwt"}),
    ] {
        assert_eq!(
            verify(&with_header(&header)).unwrap_err(),
            TokenError::Header,
            "{header}"
        );
    }
    for header in [
        json!({"kid": kid}),
        json!({"alg": 1, "kid": kid}),
        json!({"alg": "RS256", "kid": 1}),
        json!([]),
        json!("x"),
    ] {
        assert_eq!(
            verify(&with_header(&header)).unwrap_err(),
            TokenError::Malformed,
            "{header}"
        );
    }
    for header in [
        json!({"alg": "RS256"}),
        json!({"alg": "RS256", "kid": ""}),
        json!({"alg": "RS256", "kid": "../../x"}),
    ] {
        assert_eq!(
            verify(&with_header(&header)).unwrap_err(),
            TokenError::UnknownKey,
            "{header}"
        );
    }
    let unsigned = |alg: &str| {
        let header = URL_SAFE_NO_PAD.encode(json!({"alg": alg, "kid": kid}).to_string());
        format!("{header}.{}.", URL_SAFE_NO_PAD.encode(good().to_string()))
    };
    assert_eq!(
        verify(&unsigned("none")).unwrap_err(),
        TokenError::Malformed
    );
    assert_eq!(
        verify(&format!("{}AA", unsigned("RS256"))).unwrap_err(),
        TokenError::Signature
    );
}

#[test]
fn foreign_keys_are_refused() {
    let token = OTHER.sign(&good()).unwrap();
    assert_eq!(verify(&token).unwrap_err(), TokenError::UnknownKey);
    let mut forged = OTHER.to_jwk();
    forged["kid"] = json!(KEY.kid());
    let parsed = UnverifiedToken::parse(&token).unwrap();
    assert!(
        parsed
            .verify(&jwks(json!([OTHER.to_jwk()])).unwrap(), ISSUER, NOW, 0)
            .is_ok()
    );
    let ours = KEY.sign(&good()).unwrap();
    let parsed = UnverifiedToken::parse(&ours).unwrap();
    assert_eq!(
        parsed
            .verify(&jwks(json!([forged])).unwrap(), ISSUER, NOW, 0)
            .unwrap_err(),
        TokenError::Signature
    );
}

#[test]
fn rfc7519_4_1_times_and_issuer() {
    let refused = |key: &str, value: Value| signed(&with(key, value)).unwrap_err();
    assert_eq!(refused("exp", json!(NOW.0)), TokenError::Expired);
    assert_eq!(refused("exp", json!(NOW.0 - 1)), TokenError::Expired);
    assert_eq!(refused("nbf", json!(NOW.0 + 61)), TokenError::NotYet);
    assert_eq!(refused("iat", json!(NOW.0 + 61)), TokenError::NotYet);
    assert!(signed(&with("iat", json!(NOW.0 + 60))).is_ok());
    for iss in [
        "https://access.example.com/",
        "https://ACCESS.example.com",
        "",
        "https://evil.example",
    ] {
        assert_eq!(refused("iss", json!(iss)), TokenError::Issuer);
    }
}

#[test]
fn claim_of_a_wrong_type_is_rejected() {
    for (key, value) in [
        ("iss", json!([ISSUER, "x"])),
        ("iss", json!(1)),
        ("iss", Value::Null),
        ("aud", json!(1)),
        ("aud", json!([1])),
        ("aud", Value::Null),
        ("exp", json!("1900000000")),
        ("exp", json!(-1)),
        ("exp", Value::Null),
        ("iat", json!("x")),
        ("exp", json!(-0.5)),
        ("exp", json!(1e300)),
        ("exp", json!([1_900_000_000])),
        ("iat", json!(-1.5)),
        ("nbf", json!(true)),
        ("nbf", json!("x")),
        ("type", json!("id")),
        ("type", json!(1)),
        ("type", Value::Null),
        ("email", json!(["a@b.c"])),
        ("sub", json!(1)),
        ("identity_nonce", json!(7)),
        ("custom", json!("x")),
    ] {
        assert_eq!(
            signed(&with(key, value.clone())).unwrap_err(),
            TokenError::Malformed,
            "{key}: {value}"
        );
    }
    for key in ["iss", "aud", "exp", "iat", "type"] {
        let mut claims = good();
        claims.as_object_mut().unwrap().remove(key);
        assert_eq!(
            signed(&claims).unwrap_err(),
            TokenError::Malformed,
            "no {key}"
        );
    }
    struct Twice;
    impl serde::Serialize for Twice {
        fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
            use serde::ser::SerializeMap as _;
            let mut map = s.serialize_map(None)?;
            for (key, value) in good().as_object().unwrap() {
                map.serialize_entry(key, value)?;
            }
            map.serialize_entry("aud", &["b"])?;
            map.end()
        }
    }
    assert_eq!(
        verify(&KEY.sign(&Twice).unwrap()).unwrap_err(),
        TokenError::Malformed
    );
}

#[test]
fn rfc7519_2_dates_may_have_a_fraction() {
    let now = 1_800_000_000.0;
    let verified = |name: &str, value: f64| signed(&with(name, json!(value)));
    assert_eq!(
        verified("exp", now + 59.5).unwrap().claims().exp,
        UnixTime(NOW.0 + 59)
    );
    assert_eq!(
        verified("exp", now + 0.9).unwrap_err(),
        TokenError::Expired,
        "the fraction extends nothing"
    );
    assert_eq!(
        verified("iat", now - 0.25).unwrap().claims().iat,
        UnixTime(NOW.0 - 1)
    );
    assert_eq!(verified("nbf", now + 0.5).unwrap().claims().nbf, Some(NOW));
    assert_eq!(verified("nbf", now + 61.5).unwrap_err(), TokenError::NotYet);
    assert!(
        signed(&with("nbf", Value::Null))
            .unwrap()
            .claims()
            .nbf
            .is_none()
    );
}

#[test]
fn array_in_place_of_claims_or_header_is_rejected() {
    let claims = json!([
        ISSUER,
        ["a"],
        NOW.0 + 60,
        NOW.0,
        NOW.0,
        "app",
        "u",
        "a@b.c",
        "0123456789abcdef",
        null,
        null
    ]);
    assert!(
        serde_json::from_value::<Claims>(claims.clone()).is_ok(),
        "serde alone takes it"
    );
    assert_eq!(signed(&claims).unwrap_err(), TokenError::Malformed);
    let header = with_header(&json!(["RS256", KEY.kid(), null, null, null, null, null]));
    assert_eq!(verify(&header).unwrap_err(), TokenError::Malformed);
}

#[test]
fn malformed_elements_of_a_jwks_spoil_no_other_key() {
    let good = KEY.to_jwk();
    let (n, e) = (good["n"].clone(), good["e"].clone());
    let odd = json!([
        1, null, "key", [], {}, ["RSA", KEY.kid()], {"kid": 7, "kty": "RSA", "n": n, "e": e},
        {"kty": 5, "kid": "k"}, {"kty": "RSA", "kid": KEY.kid(), "n": 7, "e": e}, {"kty": "RSA", "kid": KEY.kid(), "n": n, "e": null},
        {"kty": "RSA", "kid": KEY.kid(), "n": n, "e": e, "use": ["sig"]}, {"kty": "RSA", "kid": KEY.kid(), "n": n, "e": e, "alg": 1},
        {"kty": "RSA", "kid": KEY.kid(), "n": n, "e": e, "key_ops": "sign"}, {"kty": "AKP", "kid": "pq", "alg": "ML-DSA-65"},
        {"kty": "OKP", "crv": "Ed25519", "kid": "ed", "x": "AAAA"},
    ]);
    let mut all = odd.as_array().unwrap().clone();
    assert!(matches!(jwks(odd), Err(KeyError::NoUsableKey)));
    all.push(good);
    let set = jwks(Value::Array(all)).unwrap();
    assert_eq!(set.kids().collect::<Vec<_>>(), [KEY.kid()]);
    let token = KEY.sign(&with("sub", json!("u"))).unwrap();
    assert!(
        UnverifiedToken::parse(&token)
            .unwrap()
            .verify(&set, ISSUER, NOW, 60)
            .is_ok()
    );
    let document = format!("\u{feff}{}", json!({"keys": [KEY.to_jwk()], "more": 1}));
    assert!(KeySet::from_jwks(document.as_bytes()).is_ok());
}

#[test]
fn spellings_of_a_key_are_one_key() {
    use base64::engine::general_purpose::{STANDARD, URL_SAFE};
    let good = KEY.to_jwk();
    let modulus = URL_SAFE_NO_PAD.decode(good["n"].as_str().unwrap()).unwrap();
    let zero = [vec![0], modulus.clone()].concat();
    for n in [
        URL_SAFE.encode(&modulus),
        STANDARD.encode(&modulus),
        STANDARD.encode(&modulus).trim_end_matches('=').to_owned(),
        URL_SAFE_NO_PAD.encode(&zero),
    ] {
        let mut key = good.clone();
        key["n"] = json!(n);
        assert_eq!(jwks(json!([key])).unwrap(), keys(), "{n}");
    }
}

#[test]
fn j08_weak_keys_are_not_loaded() {
    let jwk = |n: &str, e: &str| json!({"kty": "RSA", "kid": "k", "n": n, "e": e});
    let n = KEY.to_jwk()["n"].as_str().unwrap().to_owned();
    assert!(jwks(json!([jwk(&n, "AQAB")])).is_ok() && jwks(json!([jwk(&n, "Aw")])).is_ok());
    let padded = URL_SAFE_NO_PAD.encode([vec![0; 200], vec![0xff; 64]].concat());
    for bad in [
        jwk(&n, "AQ"),
        jwk(&n, "Ag"),
        jwk(&n, ""),
        jwk(&n, "AAAAAQ"),
        jwk(&n, "AQAAAAAB"),
        jwk("AQAB", "AQAB"),
        jwk("", "AQAB"),
        jwk(&padded, "AQAB"),
        jwk(&URL_SAFE_NO_PAD.encode([0xff; 64]), "AQAB"),
        jwk(&URL_SAFE_NO_PAD.encode([0xff; 2000]), "AQAB"),
        jwk("!", "AQAB"),
        json!({"kty": "RSA", "n": n, "e": "AQAB"}),
        json!({"kty": "RSA", "kid": "", "n": n, "e": "AQAB"}),
        json!({"kty": "RSA", "kid": "k", "n": n, "e": "AQAB", "use": "enc"}),
        json!({"kty": "RSA", "kid": "k", "n": n, "e": "AQAB", "alg": "PS256"}),
        json!({"kty": "oct", "kid": "k", "k": "c2VjcmV0", "alg": "HS256"}),
        json!({"kty": "EC", "kid": "k", "crv": "P-256", "x": "AAAA", "y": "AAAA"}),
        json!({"kty": "ML-DSA", "kid": "k"}),
    ] {
        assert!(
            matches!(jwks(json!([bad])), Err(KeyError::NoUsableKey)),
            "{bad}"
        );
    }
    for garbage in ["", "{}", "[]", "<html>", r#"{"keys":1}"#, r#"{"keys":[1]}"#] {
        assert!(KeySet::from_jwks(garbage.as_bytes()).is_err(), "{garbage}");
    }
}

#[test]
fn s01_every_flipped_bit_is_refused() {
    let token = KEY.sign(&good()).unwrap();
    for at in 0..token.len() {
        let mut bytes = token.clone().into_bytes();
        bytes[at] ^= 1;
        let Ok(text) = String::from_utf8(bytes) else {
            continue;
        };
        assert!(verify(&text).is_err(), "byte {at}");
    }
    for cut in 0..token.len() {
        assert!(verify(token.split_at(cut).0).is_err(), "cut at {cut}");
    }
    let (head, tail) = token.split_at(token.len() / 2);
    for mangled in [
        format!("{tail}{head}"),
        format!("{token}="),
        format!("{token}\n"),
        format!(" {token}"),
        format!("{token}.{token}"),
        format!("{token}."),
    ] {
        assert!(verify(&mangled).is_err(), "{mangled}");
    }
    assert_eq!(
        UnverifiedToken::parse(&"a.".repeat(9000)).err(),
        Some(TokenError::TooLong)
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Every token that we accept is accepted by the crate's own `decode`, too.
    #[test]
    fn no_laxer_than_jsonwebtoken(exp in 0_u64..4_000_000_000, iat in 0_u64..4_000_000_000, iss in "(https://access.example.com|x)") {
        let claims = json!({"iss": iss, "aud": ["a"], "exp": exp, "iat": iat, "type": "app"});
        let token = KEY.sign(&claims).unwrap();
        if verify(&token).is_ok() {
            let mut validation = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::RS256);
            validation.set_issuer(&[ISSUER]);
            validation.set_audience(&["a"]);
            validation.validate_exp = false;
            prop_assert!(exp > NOW.0);
            let jwk = serde_json::from_value(KEY.to_jwk()).unwrap();
            let key = jsonwebtoken::DecodingKey::from_jwk(&jwk).unwrap();
            prop_assert!(jsonwebtoken::decode::<Value>(&token, &key, &validation).is_ok());
        }
    }

    #[test]
    fn no_input_panics(text in "[A-Za-z0-9_.\\-=]{0,80}") {
        prop_assert!(verify(&text).is_err());
    }
}
