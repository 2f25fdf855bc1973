//! The verification of ID tokens.

use super::*;

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
        check(&"a".repeat(crate::oidc::id_token::MAX_ID_TOKEN + 1), &keys).unwrap_err(),
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
