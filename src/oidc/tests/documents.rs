//! Discovery documents and key sets, in the spellings that providers use.

use proptest::prelude::*;

use super::*;

#[test]
fn jwks_with_bad_keys_keeps_the_good_ones() {
    let good = rsa(0).jwk(Some("a"));
    let broken = [
        json!({"kty": "oct", "kid": "a", "k": "c2VjcmV0"}),
        json!({"kty": "RSA", "kid": "a"}),
        json!({"kty": "RSA", "kid": "a", "n": "AQAB", "e": "AQAB"}),
        json!({"kty": "RSA", "kid": "a", "n": good["n"], "e": "AQ"}),
        json!({"kty": "RSA", "kid": "a", "n": good["n"], "e": "AQAC"}),
        json!({"kty": "RSA", "kid": "a", "use": "enc", "n": good["n"], "e": "AQAB"}),
        json!({"kty": "RSA", "kid": "a", "key_ops": ["sign"], "n": good["n"], "e": "AQAB"}),
        json!({"kty": "RSA", "kid": "a", "key_ops": "sign", "n": good["n"], "e": "AQAB"}),
        json!({"kty": "RSA", "kid": "a", "alg": "RSA-OAEP", "n": good["n"], "e": "AQAB"}),
        json!({"kty": "EC", "kid": "a", "crv": "P-256", "x": b64(&[1; 32]), "y": b64(&[1; 32])}),
        json!({"kty": "EC", "kid": "a", "crv": "P-256", "x": "AQAB", "y": "AQAB"}),
        json!({"kty": "AKP", "kid": "a"}),
        json!({"kid": 7}),
        json!("key"),
    ];
    for jwk in &broken {
        let error = KeySet::from_jwks(jwks(std::slice::from_ref(jwk)).as_bytes()).unwrap_err();
        assert!(
            matches!(&error, KeysError::NoUsableKey(reasons) if reasons.len() == 1),
            "{jwk}: {error}"
        );
    }
    assert!(check(&signed(&claims()), &keys(&[&broken[..], &[good]].concat())).is_ok());
    // A large set with the matching key at the end.
    let mut many: Vec<Value> = (0..300)
        .map(|n| rsa(1).jwk(Some(&format!("k{n}"))))
        .collect();
    many.push(rsa(0).jwk(Some("a")));
    assert!(check(&signed(&claims()), &keys(&many)).is_ok());
    for document in ["", "{}", "[]", "<html>", "{\"keys\":{}}", "null"] {
        assert_eq!(
            KeySet::from_jwks(document.as_bytes()).unwrap_err(),
            KeysError::Malformed,
            "{document}"
        );
    }
}

#[test]
fn unusable_keys_are_named_in_the_log() {
    let good = rsa(0).jwk(Some("a"));
    let mut broken = good.clone();
    broken["n"] = json!("!");
    broken["kid"] = json!("b\n\u{202e}");
    let set = keys(&[
        json!({"kty": "oct", "k": "AA"}),
        json!(7),
        broken.clone(),
        good,
    ]);
    assert_eq!(
        set.unreadable(),
        [
            "key 2: it is not an object",
            "key 3 (`b  `): `n` is missing or cannot be read"
        ]
    );
    let error = KeySet::from_jwks(jwks(&[broken, json!({"kty": "oct", "k": "AA"})]).as_bytes())
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "the JWKS contains no key that ID tokens may be signed with: key 1 (`b  `): `n` is missing or cannot be read; key 2: \
         `kty` names another purpose or algorithm"
    );
}

#[test]
fn spellings_of_a_jwk_give_the_same_key() {
    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
    let decode = |value: &Value| URL_SAFE_NO_PAD.decode(value.as_str().unwrap()).unwrap();
    let good = rsa(0).jwk(Some("a"));
    let n = decode(&good["n"]);
    let lines = format!("{}\r\n", good["n"].as_str().unwrap().replace('A', "A\n "));
    let changed = |members: &[(&str, Value)]| {
        let mut jwk = good.clone();
        for (name, value) in members {
            jwk[*name] = value.clone();
        }
        keys(&[jwk])
    };
    for members in [
        vec![("n", json!(URL_SAFE.encode(&n)))],
        vec![("n", json!(STANDARD.encode(&n)))],
        vec![("n", json!(STANDARD_NO_PAD.encode(&n)))],
        vec![
            (
                "n",
                json!(URL_SAFE_NO_PAD.encode([vec![0], n.clone()].concat())),
            ),
            ("e", json!("AAEAAQ")),
        ],
        vec![
            ("use", json!("")),
            ("alg", json!("")),
            ("key_ops", Value::Null),
        ],
        vec![
            ("use", Value::Null),
            ("alg", Value::Null),
            ("x5c", json!([""])),
            ("exp", json!("")),
            ("crv", json!("")),
        ],
        vec![("key_ops", json!(["verify", 7])), ("x5t", json!(7))],
        vec![("key_ops", json!([]))],
        vec![("key_ops", json!("verify"))],
        vec![("kid", Value::Null)],
        vec![("n", json!(lines))],
    ] {
        assert!(
            check(&signed(&claims()), &changed(&members)).is_ok(),
            "{members:?}"
        );
    }
    // One in 128 points has a coordinate with a leading zero byte, which some libraries omit.
    for alg in ["ES256", "ES384", "ES512"] {
        let (key, name, short) = std::iter::repeat_with(|| ec(alg))
            .take(20_000)
            .find_map(|key| {
                let jwk = key.jwk(Some("a"));
                let begins = |name: &str| decode(&jwk[name]).first() == Some(&0);
                let name = ["x", "y"].into_iter().find(|name| begins(name))?;
                let bytes: Vec<u8> = decode(&jwk[name])
                    .into_iter()
                    .skip_while(|byte| *byte == 0)
                    .collect();
                Some((key, name, bytes))
            })
            .unwrap();
        let token = key.sign(&json!({"alg": alg, "kid": "a"}), &claims().to_string());
        for spelling in [
            URL_SAFE_NO_PAD.encode(&short),
            URL_SAFE_NO_PAD.encode([vec![0; 20], short.clone()].concat()),
        ] {
            let mut jwk = key.jwk(Some("a"));
            jwk[name] = json!(spelling);
            assert!(check(&token, &keys(&[jwk])).is_ok(), "{alg} {spelling}");
        }
        let mut long = key.jwk(Some("a"));
        long[name] = json!(URL_SAFE_NO_PAD.encode([vec![1; 70], short].concat()));
        assert!(KeySet::from_jwks(jwks(&[long]).as_bytes()).is_err());
    }
}

#[test]
fn discovery_4_3_and_rfc9700_2_1_1() {
    assert!(metadata(&[]).is_ok());
    let promises =
        |metadata: &Metadata| metadata.response_issuer() == ResponseIssuer::Named(ISSUER);
    assert!(!promises(&metadata(&[]).unwrap()));
    for (name, value) in [
        ("issuer", json!("https://acme.okta.com/")),
        ("issuer", json!("https://acme.okta.com/oauth2/default")),
        ("issuer", json!("https://ACME.okta.com")),
    ] {
        assert!(
            matches!(
                metadata(&[(name, value.clone())]),
                Err(MetadataError::Issuer { .. })
            ),
            "{value}"
        );
    }
    for name in [
        "authorization_endpoint",
        "token_endpoint",
        "userinfo_endpoint",
        "jwks_uri",
    ] {
        for url in [
            "http://acme.okta.com/x",
            "javascript:alert(1)",
            "file:///etc/passwd",
        ] {
            assert_eq!(
                metadata(&[(name, json!(url))]).unwrap_err(),
                MetadataError::Insecure(name)
            );
        }
        for odd in [
            json!("/relative"),
            json!(7),
            json!(["https://acme.okta.com/x"]),
            json!({}),
        ] {
            let Err(MetadataError::Malformed(said)) = metadata(&[(name, odd.clone())]) else {
                panic!("{name} {odd}")
            };
            assert!(said.contains(&format!("`{name}`")), "{said}");
        }
    }
    for (name, value) in [
        ("code_challenge_methods_supported", json!(["plain"])),
        ("code_challenge_methods_supported", json!("plain")),
        ("code_challenge_methods_supported", json!("plain S512")),
        ("code_challenge_methods_supported", json!(["plain S256"])),
        ("code_challenge_methods_supported", json!(["plain", null])),
        ("token_endpoint", Value::Null),
    ] {
        assert!(
            matches!(
                metadata(&[(name, value)]),
                Err(MetadataError::Unsupported(_))
            ),
            "{name}"
        );
    }
    for listed in [
        json!(["plain", "S256"]),
        json!("S256"),
        json!([null, "S256"]),
        json!(7),
    ] {
        assert!(
            metadata(&[("code_challenge_methods_supported", listed.clone())]).is_ok(),
            "{listed}"
        );
    }
    // RFC 9207 3: an unreadable promise counts as a promise.
    for (promise, promised) in [
        (json!(true), true),
        (json!("True"), true),
        (json!(1), true),
        (json!([true]), true),
        (json!("yes"), true),
        (json!(false), false),
        (json!("false"), false),
        (json!(null), false),
    ] {
        let read = metadata(&[(
            "authorization_response_iss_parameter_supported",
            promise.clone(),
        )])
        .unwrap();
        assert_eq!(promises(&read), promised, "{promise}");
    }
    for garbage in ["", "<html>", "[]", "{}", "null"] {
        assert!(matches!(
            Metadata::read(garbage.as_bytes(), ISSUER),
            Err(MetadataError::Malformed(_))
        ));
    }
    let location = |issuer| Metadata::location(issuer).unwrap().to_string();
    assert_eq!(
        location("https://a.example"),
        "https://a.example/.well-known/openid-configuration"
    );
    assert_eq!(
        location("https://a.example/oauth2/default"),
        "https://a.example/oauth2/default/.well-known/openid-configuration"
    );
}

#[test]
fn unused_discovery_members_cannot_prevent_a_login() {
    for (name, value) in [
        ("op_policy_uri", json!("")),
        ("op_tos_uri", json!("not a URL")),
        ("service_documentation", json!(7)),
        ("acr_values_supported", json!([1])),
        ("subject_types_supported", Value::Null),
        ("response_types_supported", Value::Null),
        ("response_types_supported", json!("code")),
        ("id_token_signing_alg_values_supported", Value::Null),
        ("id_token_signing_alg_values_supported", json!(["XS256", 7])),
        ("claims_supported", json!({})),
        ("scopes_supported", json!("openid")),
        ("registration_endpoint", json!("")),
        ("ui_locales_supported", json!([null])),
        ("claims_parameter_supported", json!("true")),
        ("userinfo_endpoint", Value::Null),
        ("userinfo_endpoint", json!("")),
        ("code_challenge_methods_supported", Value::Null),
        ("code_challenge_methods_supported", json!("S256")),
        // RFC 8414 2: empty lists are omitted.
        ("code_challenge_methods_supported", json!([])),
        ("code_challenge_methods_supported", json!([""])),
        ("code_challenge_methods_supported", json!("plain S256")),
        ("code_challenge_methods_supported", json!(["S256", "S256"])),
        ("token_endpoint_auth_methods_supported", json!([])),
        (
            "token_endpoint_auth_methods_supported",
            json!("client_secret_post"),
        ),
    ] {
        let read = metadata(&[(name, value.clone())])
            .unwrap_or_else(|error| panic!("{name} = {value}: {error}"));
        assert!(
            read.unreadable().is_empty(),
            "{name} = {value}: {:?}",
            read.unreadable()
        );
    }
    for (name, value, json_type) in [
        ("end_session_endpoint", json!("/logout"), "a string"),
        (
            "end_session_endpoint",
            json!("http://acme.okta.com/logout"),
            "a string",
        ),
        ("end_session_endpoint", json!(7), "a number"),
        (
            "pushed_authorization_request_endpoint",
            json!(["x"]),
            "a list of strings",
        ),
        (
            "token_endpoint_auth_methods_supported",
            json!({}),
            "an object",
        ),
        (
            "token_endpoint_auth_methods_supported",
            json!([1]),
            "a list with a number in it",
        ),
        (
            "code_challenge_methods_supported",
            json!([null]),
            "a list with null in it",
        ),
        (
            "authorization_response_iss_parameter_supported",
            json!(1),
            "a number",
        ),
        (
            "require_pushed_authorization_requests",
            json!("yes"),
            "a string",
        ),
    ] {
        let read = metadata(&[(name, value.clone())]).unwrap();
        assert_eq!(
            read.unreadable(),
            [format!("`{name}`: {json_type}")],
            "{value}"
        );
        assert_eq!(
            (read.end_session(), read.pushed(PushedRequests::IfRequired)),
            (None, Ok(None))
        );
    }
    // An unreadable endpoint is an error only when it is needed.
    let odd = metadata(&[("pushed_authorization_request_endpoint", json!(7))]).unwrap();
    assert!(odd.pushed(PushedRequests::Always).is_err());
    let promise = metadata(&[(
        "authorization_response_iss_parameter_supported",
        json!("True"),
    )]);
    assert_eq!(
        promise.unwrap().response_issuer(),
        ResponseIssuer::Named(ISSUER)
    );
    let bom = format!("\u{feff}{}", document());
    assert!(Metadata::read(bom.as_bytes(), ISSUER).is_ok());
    let credentials = |value: Value| {
        let read = metadata(&[("token_endpoint_auth_methods_supported", value)]).unwrap();
        read.auth_type(&secret()).map(|kind| format!("{kind:?}"))
    };
    assert_eq!(
        credentials(json!("client_secret_post")).as_deref(),
        Ok("RequestBody")
    );
    assert_eq!(
        credentials(json!({})).as_deref(),
        Ok("BasicAuth"),
        "unknown is not none"
    );
    assert_eq!(credentials(json!([])).as_deref(), Ok("BasicAuth"));
    assert_eq!(credentials(json!([""])).as_deref(), Ok("BasicAuth"));
    assert_eq!(
        credentials(json!("none client_secret_post")).as_deref(),
        Ok("RequestBody")
    );
    assert!(credentials(json!(["none"])).is_err());
    let odd = document()
        .to_string()
        .replacen('{', r#"{"op_name": "Caf\ud83d","#, 1)
        .into_bytes();
    assert!(Metadata::read(&odd, ISSUER).is_ok());
    let latin1: Vec<u8> = odd
        .iter()
        .map(|byte| if *byte == b'C' { 0xe9 } else { *byte })
        .collect();
    assert!(Metadata::read(&latin1, ISSUER).is_ok());
}

proptest! {
    #[test]
    fn no_jwks_panics(text in r#"\{"keys":\[(\{("(kty|kid|use|alg|n|e|crv|x|y|key_ops)":("(RSA|EC|OKP|P-256|Ed25519|sig|AQAB|=|\+/)?"|1|null|\[\]|\{\}),?){0,6}\},?|1,?){0,3}\]\}|\PC{0,30}"#) {
        let _ = KeySet::from_jwks(text.as_bytes());
    }

    #[test]
    fn no_discovery_document_panics(name in "[a-z_]{0,40}|issuer|jwks_uri|userinfo_endpoint|end_session_endpoint|token_endpoint_auth_methods_supported", value in odd_value(), text in "\\PC{0,40}") {
        let _ = metadata(&[(name.as_str(), value)]);
        let _ = Metadata::read(text.as_bytes(), ISSUER);
    }
}

/// Any JSON value, including the significant words.
pub(super) fn odd_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,12}|https://a\\.example/x|true|S256".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map("[a-z]{0,6}|groups", inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}
