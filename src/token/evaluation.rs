use serde::{Deserialize, Serialize};
use serde_json::Value;
use subtle::ConstantTimeEq as _;
use thiserror::Error;

use super::{KeySet, TokenError, UnverifiedToken};
use crate::model::{UnixTime, json};

/// The claims of a request to an evaluation service (`docs/wire.md` 10).
///
/// The key also signs session tokens, so nothing may mistake this for one: `aud` is the service and
/// no application, there is no `type`, and the user is named within `identity` only.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct EvaluationClaims<'a> {
    /// `https://<team domain>`.
    pub iss: &'a str,
    /// The address that it is sent to.
    pub aud: [&'a str; 1],
    /// Now.
    pub iat: UnixTime,
    /// [`EVALUATION_LIFETIME`] later.
    pub exp: UnixTime,
    /// To be repeated in the answer.
    pub nonce: &'a str,
    /// The `get-identity` document (`docs/wire.md` 2.6).
    pub identity: &'a Value,
}

/// The lifetime of question and answer, in seconds.
pub const EVALUATION_LIFETIME: u64 = 60;

/// An answer that cannot be used. None of these is a no, because in an `exclude` or a deny policy a
/// no would grant access.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum EvaluationError {
    /// None of the keys signed it.
    #[error("the response is not properly signed: {0}")]
    Token(TokenError),
    /// `success`, `iat`, `exp` or `nonce` is missing, occurs twice or has another type.
    #[error("the response has no valid `success`, `iat`, `exp` and `nonce`")]
    Claims,
    /// The answer to another question.
    #[error("the response has a different `nonce` from the request")]
    Nonce,
    /// It has expired, is not valid yet, or has a lifetime of more than a minute.
    #[error("the response is not valid at this time, or is valid for too long")]
    Time,
}

/// Reads the answer to the question with that nonce: the signature first, then the claims.
///
/// `leeway` is the tolerated difference between clocks, in seconds.
///
/// # Errors
///
/// See [`EvaluationError`]. The keys may have changed if [`TokenError::may_be_rotation`].
pub fn read_evaluation(
    token: &str,
    keys: &KeySet,
    nonce: &str,
    now: UnixTime,
    leeway: u64,
) -> Result<bool, EvaluationError> {
    #[derive(Deserialize)]
    struct Answer {
        success: bool,
        #[serde(deserialize_with = "super::claims::date")]
        iat: UnixTime,
        #[serde(deserialize_with = "super::claims::date")]
        exp: UnixTime,
        nonce: String,
    }
    let signed = UnverifiedToken::parse(token)
        .and_then(|token| token.signed(keys))
        .map_err(EvaluationError::Token)?;
    let answer: Answer = json::object(&signed).map_err(|_| EvaluationError::Claims)?;
    // The nonce binds the answer to this user and call: a yes for another user must not count.
    let same: bool = answer.nonce.as_bytes().ct_eq(nonce.as_bytes()).into();
    if !same {
        return Err(EvaluationError::Nonce);
    }
    let (latest, longest) = (
        now.0.saturating_add(leeway),
        // An answer that lasts longer than its question could be used for a later one.
        now.0.saturating_add(leeway + EVALUATION_LIFETIME),
    );
    let begun = answer.iat.0 <= latest && answer.iat <= answer.exp;
    if !begun || answer.exp.0.saturating_add(leeway) <= now.0 || answer.exp.0 > longest {
        return Err(EvaluationError::Time);
    }
    Ok(answer.success)
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use serde_json::json;

    use super::*;
    use crate::keys as fixed;
    use crate::token::{SigningKey, UnverifiedToken};

    const NOW: UnixTime = UnixTime(1_800_000_000);
    static KEY: LazyLock<SigningKey> = LazyLock::new(|| fixed::signing_key(fixed::TEAM));
    static OTHER: LazyLock<SigningKey> = LazyLock::new(|| fixed::signing_key(fixed::STRANGER));

    fn keys() -> KeySet {
        // As the Web Crypto API exports them.
        let mut key = KEY.to_jwk();
        key["ext"] = json!(true);
        key["key_ops"] = json!(["verify"]);
        KeySet::from_jwks(json!({ "keys": [key] }).to_string().as_bytes()).unwrap()
    }

    fn good() -> Value {
        json!({"success": true, "iat": NOW.0, "exp": NOW.0 + 60, "nonce": "n"})
    }

    fn read(token: &str) -> Result<bool, EvaluationError> {
        read_evaluation(token, &keys(), "n", NOW, 30)
    }

    fn with(name: &str, value: Value) -> Result<bool, EvaluationError> {
        let mut claims = good();
        claims[name] = value;
        read(&KEY.sign(&claims).unwrap())
    }

    #[test]
    fn yes_and_no_are_answers() {
        assert_eq!(read(&KEY.sign(&good()).unwrap()), Ok(true));
        assert_eq!(with("success", json!(false)), Ok(false));
        assert_eq!(with("anything", json!(["else"])), Ok(true));
        assert_eq!(with("iat", json!(1_800_000_000.25)), Ok(true));
    }

    #[test]
    fn answer_other_than_yes_or_no_is_rejected() {
        for success in [
            json!("true"),
            json!(1),
            json!(null),
            json!([true]),
            json!({}),
        ] {
            assert_eq!(
                with("success", success.clone()),
                Err(EvaluationError::Claims),
                "{success}"
            );
        }
        for name in ["success", "iat", "exp", "nonce"] {
            let mut claims = good();
            claims.as_object_mut().unwrap().remove(name);
            assert_eq!(
                read(&KEY.sign(&claims).unwrap()),
                Err(EvaluationError::Claims),
                "no {name}"
            );
        }
        assert_eq!(
            with("exp", json!("1800000060")),
            Err(EvaluationError::Claims)
        );
        assert_eq!(with("iat", json!(-1.5)), Err(EvaluationError::Claims));
        let array = json!([true, NOW.0, NOW.0 + 60, "n"]);
        assert_eq!(
            read(&KEY.sign(&array).unwrap()),
            Err(EvaluationError::Claims)
        );
        assert_eq!(with("nonce", json!(["n"])), Err(EvaluationError::Claims));
        for nonce in ["", "N", "n ", "nn"] {
            assert_eq!(
                with("nonce", json!(nonce)),
                Err(EvaluationError::Nonce),
                "{nonce}"
            );
        }
        struct Twice;
        impl Serialize for Twice {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                use serde::ser::SerializeMap as _;
                let mut map = s.serialize_map(None)?;
                for (key, value) in good().as_object().unwrap() {
                    map.serialize_entry(key, value)?;
                }
                map.serialize_entry("success", &true)?;
                map.end()
            }
        }
        assert_eq!(
            read(&KEY.sign(&Twice).unwrap()),
            Err(EvaluationError::Claims)
        );
    }

    #[test]
    fn answer_expires_after_a_minute() {
        for (iat, exp, expected) in [
            (0, 60, Ok(true)),
            (30, 90, Ok(true)),
            (-89, -29, Ok(true)),
            (-90, -30, Err(EvaluationError::Time)),
            (31, 60, Err(EvaluationError::Time)),
            (0, 91, Err(EvaluationError::Time)),
            (0, 86_400, Err(EvaluationError::Time)),
            (10, 5, Err(EvaluationError::Time)),
        ] {
            let mut claims = good();
            claims["iat"] = json!(NOW.0.saturating_add_signed(iat));
            claims["exp"] = json!(NOW.0.saturating_add_signed(exp));
            assert_eq!(
                read(&KEY.sign(&claims).unwrap()),
                expected,
                "{iat} to {exp}"
            );
        }
        assert_eq!(with("exp", json!(u64::MAX)), Err(EvaluationError::Time));
        assert_eq!(with("iat", json!(u64::MAX)), Err(EvaluationError::Time));
    }

    #[test]
    fn answer_signed_with_another_key_is_rejected() {
        let token = OTHER.sign(&good()).unwrap();
        assert_eq!(
            read(&token),
            Err(EvaluationError::Token(TokenError::UnknownKey))
        );
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let header = |alg: &str| json!({"alg": alg, "kid": KEY.kid()});
        let (_, foreign) = token.rsplit_once('.').unwrap();
        let unsigned = format!("{}.{}", part(&header("RS256")), part(&good()));
        assert_eq!(
            read(&format!("{unsigned}.{foreign}")),
            Err(EvaluationError::Token(TokenError::Signature))
        );
        let none = format!("{}.{}.AA", part(&header("none")), part(&good()));
        assert_eq!(read(&none), Err(EvaluationError::Token(TokenError::Header)));
        assert_eq!(
            read(&format!("{}.{}.", part(&header("none")), part(&good()))),
            Err(EvaluationError::Token(TokenError::Malformed))
        );
        // The public key is no secret: signed with it as one.
        let message = format!("{}.{}", part(&header("HS256")), part(&good()));
        let jwk = KEY.to_jwk().to_string();
        let secret = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, jwk.as_bytes());
        let tag = URL_SAFE_NO_PAD.encode(aws_lc_rs::hmac::sign(&secret, message.as_bytes()));
        assert_eq!(
            read(&format!("{message}.{tag}")),
            Err(EvaluationError::Token(TokenError::Header))
        );
        for garbage in ["", "a", "a.b.c", "null"] {
            assert!(
                matches!(read(garbage), Err(EvaluationError::Token(_))),
                "{garbage}"
            );
        }
    }

    #[test]
    fn question_to_a_service_is_no_session() {
        let claims = EvaluationClaims {
            iss: "https://access.example.com",
            aud: ["https://eval.example.com/"],
            iat: NOW,
            exp: UnixTime(NOW.0 + EVALUATION_LIFETIME),
            nonce: "n",
            identity: &json!({"email": "alice@example.com"}),
        };
        let token = KEY.sign(&claims).unwrap();
        let verified = UnverifiedToken::parse(&token).unwrap().verify(
            &keys(),
            "https://access.example.com",
            NOW,
            0,
        );
        assert_eq!(verified.unwrap_err(), TokenError::Malformed);
    }
}
