//! Userinfo responses.

use super::*;
use crate::model::UnixTime;

#[test]
fn invalid_characters_in_a_claim_are_repaired() {
    let claims = UserClaims::parse(
        b"\xef\xbb\xbf{\"name\":\"Ada \\ud83d\",\"nick\":\"caf\xe9\",\"groups\":[\"a\"]}",
    )
    .unwrap();
    assert_eq!(claims.get("name"), Some(&json!("Ada \u{fffd}")));
    assert_eq!(claims.get("nick"), Some(&json!("caf\u{fffd}")));
    // Two names that become equal when repaired are still a duplicate.
    assert!(UserClaims::parse(b"{\"a\\ud800\":1,\"a\\ud801\":2}").is_err());
}

#[test]
fn core_5_3_2_signed_userinfo_is_verified() {
    let keys = one_key();
    let expected = |claims: Value, key: &TestKey, header: Value| {
        with_expected(60, |expected| {
            signed_userinfo(
                &key.sign(&header, &claims.to_string()),
                &keys,
                expected,
                "00u1",
            )
        })
    };
    let rs256 = json!({"alg": "RS256", "kid": "a"});
    let good = |claims: Value| expected(claims, &rsa(0), rs256.clone());
    for claims in [
        json!({"sub": "00u1", "iss": ISSUER, "aud": "client"}),
        json!({"sub": "00u1", "iss": ISSUER, "aud": ["other", "client"], "exp": NOW.0 + 60}),
        json!({"sub": "00u1"}),
    ] {
        assert!(good(claims.clone()).is_ok(), "{claims}");
    }
    for (claims, error) in [
        (
            json!({"sub": "00u2", "iss": ISSUER, "aud": "client"}),
            ClaimsError::Subject,
        ),
        (
            json!({"iss": ISSUER, "aud": "client"}),
            ClaimsError::Subject,
        ),
        (
            json!({"sub": "00u1", "iss": "https://evil.example", "aud": "client"}),
            ClaimsError::Foreign,
        ),
        (
            json!({"sub": "00u1", "iss": [ISSUER], "aud": "client"}),
            ClaimsError::Foreign,
        ),
        (
            json!({"sub": "00u1", "iss": ISSUER, "aud": "other"}),
            ClaimsError::Foreign,
        ),
        (
            json!({"sub": "00u1", "iss": ISSUER, "aud": {"client": 1}}),
            ClaimsError::Foreign,
        ),
        (
            json!({"sub": "00u1", "exp": NOW.0 - 3600}),
            ClaimsError::Foreign,
        ),
        (json!({"sub": "00u1", "exp": "soon"}), ClaimsError::Foreign),
        (json!(["sub"]), ClaimsError::Malformed),
    ] {
        assert_eq!(good(claims.clone()), Err(error), "{claims}");
    }
    let claims = json!({"sub": "00u1"});
    assert_eq!(
        expected(claims.clone(), &rsa(1), rs256),
        Err(ClaimsError::Signature)
    );
    let unknown = json!({"alg": "RS256", "kid": "b"});
    assert_eq!(
        expected(claims.clone(), &rsa(0), unknown),
        Err(ClaimsError::Signature)
    );
    for alg in ["none", "HS256"] {
        let header = json!({"alg": alg, "kid": "a"});
        assert_eq!(
            expected(claims.clone(), &rsa(0), header),
            Err(ClaimsError::NotJson),
            "{alg}"
        );
    }
}

#[test]
fn core_5_3_2_userinfo_is_about_the_same_user() {
    assert!(
        userinfo(
            ContentType::Json,
            br#"{"sub":"00u1","email":"a@b.c"}"#,
            "00u1"
        )
        .is_ok()
    );
    for body in [
        r#"{"sub":"00u2"}"#,
        "{}",
        r#"{"sub":null}"#,
        r#"{"sub":["00u1"]}"#,
        r#"{"sub":"00U1"}"#,
    ] {
        assert_eq!(
            userinfo(ContentType::Json, body.as_bytes(), "00u1"),
            Err(ClaimsError::Subject),
            "{body}"
        );
    }
    for body in ["", "[]", "<html>", r#"{"sub":"00u2","sub":"00u1"}"#] {
        assert_eq!(
            userinfo(ContentType::Json, body.as_bytes(), "00u1"),
            Err(ClaimsError::Malformed),
            "{body}"
        );
    }
    // A JSON object is accepted under any content type; a JWT and a web page are not.
    assert!(userinfo(ContentType::Other, br#"{"sub":"00u1"}"#, "00u1").is_ok());
    assert_eq!(
        userinfo(ContentType::Other, br#"{"sub":"00u2"}"#, "00u1"),
        Err(ClaimsError::Subject)
    );
    for body in [
        "eyJhbGciOiJSUzI1NiJ9.e30.AA",
        "<html>",
        "sub=00u1",
        "",
        "[]",
    ] {
        assert_eq!(
            userinfo(ContentType::Other, body.as_bytes(), "00u1"),
            Err(ClaimsError::NotJson),
            "{body}"
        );
    }
    assert_eq!(
        UnixTime(5),
        crate::oidc::claims::numeric_date(&json!(5.9)).unwrap()
    );
}
