use std::time::Duration;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use subtle::ConstantTimeEq as _;
use thiserror::Error;

use super::KeySet;
use super::claims::{ClaimsError, ContentType, UserClaims, numeric_date};
use super::keys::{Algorithm, Verification};
use crate::model::{Secret, UnixTime, json};

/// The facts that an ID token must match to complete a login.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// The provider's issuer, byte for byte.
    pub issuer: &'a str,
    /// Our client ID.
    pub client_id: &'a str,
    /// The other clients that a token may also be issued for; `None` allows any client.
    pub trusted_audiences: Option<&'a [String]>,
    /// The nonce of the login request.
    pub nonce: &'a Secret,
    /// The access token of the same token response.
    pub access_token: &'a str,
    /// The current time.
    pub now: UnixTime,
    /// The maximum age of the user's authentication, if the login requested one.
    pub max_age: Option<Duration>,
    /// The accepted clock difference in either direction, at most 300 s.
    pub leeway: Duration,
}

/// A verified ID token.
#[derive(Clone, Debug)]
pub struct VerifiedIdToken {
    /// The user's identifier at this provider (`sub`).
    pub subject: String,
    /// All claims of the token.
    pub claims: UserClaims,
}

/// The reason why an ID token is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum IdTokenError {
    /// Longer than 128 KiB.
    #[error("the ID token is too long")]
    TooLong,
    /// Not three base64url parts with JSON objects, or a claim occurs twice.
    #[error("the ID token is malformed")]
    Malformed,
    /// Unsigned, encrypted, of another kind, or signed with an algorithm that is not among
    /// [`ALGORITHMS`](super::ALGORITHMS).
    #[error("the header is not that of a signed ID token")]
    Header,
    /// Signed with a key that is not in the JWKS. The provider may have rotated its keys.
    #[error("the ID token was signed with a key that the provider does not publish")]
    UnknownKey,
    /// The signature is invalid. The provider may have reused the name of an old key.
    #[error("the signature of the ID token is invalid")]
    Signature,
    /// The token names no key, and several could have signed it (OpenID Connect Core 10.1).
    #[error(
        "the ID token names no key (`kid`), and the provider publishes several that may have signed it"
    )]
    AmbiguousKey,
    /// A required claim is missing or has the wrong type.
    #[error("the ID token has no valid `{0}`")]
    Claim(&'static str),
    /// The token is from another issuer.
    #[error("the ID token is from another issuer")]
    Issuer,
    /// `aud` does not contain this client.
    #[error("the ID token is for another client")]
    Audience,
    /// `azp` names another client, or is absent although `aud` contains several.
    #[error("the ID token {}", if *.absent { "is for several clients, and has no `azp`" } else { "was issued to another client (`azp`)" })]
    AuthorizedParty {
        /// `true` if the token has no `azp`.
        absent: bool,
    },
    /// `aud` contains a client that is not among the trusted audiences.
    #[error("the ID token is also for a client that `trusted_audiences` does not name")]
    UntrustedAudience,
    /// The token has expired or is not yet valid.
    #[error("the ID token has expired or is not yet valid: this machine's clock is about {} s {}", .seconds.unsigned_abs(), side(.seconds))]
    Time {
        /// The clock difference, if the token was issued just now. Negative if our clock is behind.
        seconds: i64,
    },
    /// The provider did not ask for credentials, although the user's last authentication is older
    /// than `max_age`.
    #[error("the user's authentication at the provider is older than `max_age`")]
    LoginTooOld,
    /// The token belongs to another login.
    #[error("the ID token belongs to another login")]
    Nonce,
    /// The ID token was issued with another access token.
    #[error("the access token does not belong to the ID token")]
    AccessToken,
}

const fn side(seconds: &i64) -> &'static str {
    if *seconds < 0 {
        "behind the provider's"
    } else {
        "ahead of the provider's"
    }
}

impl IdTokenError {
    /// Returns `true` if fetching the keys again may help.
    pub const fn may_be_rotation(self) -> bool {
        matches!(self, Self::UnknownKey | Self::Signature)
    }

    /// Returns a remedy for the operator, if there is one.
    pub fn advice(self) -> Option<&'static str> {
        Some(match self {
            Self::TooLong => {
                "have the provider put fewer claims, especially groups, into the ID token"
            }
            Self::Header => {
                "have the provider sign ID tokens, without encryption, with RS256, RS384, RS512, PS256, PS384, PS512, ES256, \
                 ES384, ES512 or EdDSA"
            }
            Self::UnknownKey | Self::Signature => {
                "if the provider has just changed its keys several times, this ends within 30 s; otherwise the keys may be those \
                 of another authorization server: check `authorization_server_id`, or `certs_url`"
            }
            Self::AmbiguousKey => {
                "have the provider name its key in the header of ID tokens (`kid`), or publish one key"
            }
            Self::Issuer => "configure the issuer that the provider's tokens name, byte for byte",
            Self::Audience => {
                "`client_id` must be that of the application that the tokens are issued for"
            }
            Self::AuthorizedParty { absent: true } => {
                "have the provider put only `client_id` into `aud`, or send `azp` with the value of `client_id`; \
                 `trusted_audiences` does not replace `azp`"
            }
            Self::AuthorizedParty { absent: false } => {
                "`client_id` must be that of the application that the tokens are issued to: compare it with `azp`"
            }
            Self::UntrustedAudience => {
                "add the other audience of the provider's tokens to `trusted_audiences`, or remove that setting to accept any"
            }
            Self::Claim("auth_time") => {
                "with `max_age`, the provider must send the time of the user's authentication (`auth_time`)"
            }
            Self::LoginTooOld => {
                "the provider did not reauthenticate the user: make its own session shorter than \
                 `max_age`"
            }
            Self::Time { .. } => "synchronise both clocks with NTP",
            Self::Malformed | Self::Claim(_) | Self::Nonce | Self::AccessToken => return None,
        })
    }
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    typ: Option<String>,
    crit: Option<IgnoredAny>,
    b64: Option<IgnoredAny>,
    zip: Option<IgnoredAny>,
    cty: Option<IgnoredAny>,
    enc: Option<IgnoredAny>,
}

/// Verifies the signature of a token. Returns its payload and the signature algorithm.
fn verify_signature(token: &str, keys: &KeySet) -> Result<(Algorithm, Vec<u8>), IdTokenError> {
    if token.len() > MAX_ID_TOKEN {
        return Err(IdTokenError::TooLong);
    }
    let (message, signature) = token.rsplit_once('.').ok_or(IdTokenError::Malformed)?;
    let (header, payload) = message.split_once('.').ok_or(IdTokenError::Malformed)?;
    if payload.contains('.') {
        return Err(IdTokenError::Malformed);
    }
    let header: Header = json::object(&decode(header)?).map_err(|_| IdTokenError::Malformed)?;
    // (1) Encrypted tokens are rejected, and so is every other extension of JWS.
    let extended = [
        &header.crit,
        &header.b64,
        &header.zip,
        &header.cty,
        &header.enc,
    ]
    .iter()
    .any(|m| m.is_some());
    let foreign = header.typ.as_deref().is_some_and(|typ| {
        !(typ.eq_ignore_ascii_case("JWT") || typ.eq_ignore_ascii_case("application/jwt"))
    });
    if extended || foreign {
        return Err(IdTokenError::Header);
    }
    // (7) (8) Only asymmetric algorithms are accepted: a client secret is not a key.
    let algorithm = Algorithm::parse(&header.alg).ok_or(IdTokenError::Header)?;
    // (6)
    match keys.verify(
        algorithm,
        header.kid.as_deref(),
        message.as_bytes(),
        &decode(signature)?,
    ) {
        Verification::Valid => Ok((algorithm, decode(payload)?)),
        Verification::UnknownKey => Err(IdTokenError::UnknownKey),
        Verification::Invalid => Err(IdTokenError::Signature),
        Verification::Ambiguous => Err(IdTokenError::AmbiguousKey),
    }
}

/// Verifies a userinfo response that is a signed token (OpenID Connect Core 5.3.2). It must be
/// signed by the provider and issued for this client.
///
/// # Errors
/// [`ClaimsError::Signature`] if the keys may be out of date; see [`ClaimsError`] for the others.
pub fn signed_userinfo(
    token: &str,
    keys: &KeySet,
    expected: &Expected<'_>,
    subject: &str,
) -> Result<UserClaims, ClaimsError> {
    let (_, payload) = verify_signature(token, keys).map_err(|error| match error {
        error if error.may_be_rotation() => ClaimsError::Signature,
        IdTokenError::Malformed | IdTokenError::TooLong => ClaimsError::Malformed,
        _ => ClaimsError::NotJson,
    })?;
    let claims = super::userinfo(ContentType::Json, &payload, subject)?;
    let is_ours = |audience: &Value| match audience {
        Value::String(one) => one == expected.client_id,
        Value::Array(all) => all.iter().any(|one| one == expected.client_id),
        _ => false,
    };
    // `iss` and `aud` should be present, but some providers sign a response without them.
    let is_foreign = claims
        .get("iss")
        .is_some_and(|iss| iss.as_str() != Some(expected.issuer))
        || claims.get("aud").is_some_and(|audience| !is_ours(audience));
    let is_over = claims.get("exp").is_some_and(|exp| {
        numeric_date(exp)
            .is_none_or(|exp| exp.after(expected.leeway.min(MAX_LEEWAY)) <= expected.now)
    });
    if is_foreign || is_over {
        Err(ClaimsError::Foreign)
    } else {
        Ok(claims)
    }
}

/// Verifies an ID token (OpenID Connect Core 3.1.3.7). The signature is verified first, so no claim
/// of an unsigned token is read.
///
/// # Errors
/// See [`IdTokenError`].
pub fn verify(
    token: &str,
    keys: &KeySet,
    expected: &Expected<'_>,
) -> Result<VerifiedIdToken, IdTokenError> {
    let (algorithm, payload) = verify_signature(token, keys)?;
    let claims = UserClaims::parse(&payload).map_err(|_| IdTokenError::Malformed)?;
    // (2)
    if string_claim(&claims, "iss")? != expected.issuer {
        return Err(IdTokenError::Issuer);
    }
    check_audience(&claims, expected)?;
    check_times(&claims, expected)?;
    check_nonce(&claims, expected)?;
    check_authentication_age(&claims, expected)?;
    check_access_token(&claims, algorithm, expected)?;
    Ok(VerifiedIdToken {
        subject: subject(&claims)?,
        claims,
    })
}

/// Checks the audience (OpenID Connect Core 3.1.3.7, steps 3 to 5). A token for several clients is
/// accepted if `azp` names this one.
fn check_audience(claims: &UserClaims, expected: &Expected<'_>) -> Result<(), IdTokenError> {
    let audiences = match claims.get("aud") {
        Some(Value::Array(all)) => all.as_slice(),
        Some(one @ Value::String(_)) => std::slice::from_ref(one),
        _ => return Err(IdTokenError::Claim("aud")),
    };
    let audiences: Option<Vec<&str>> = audiences.iter().map(Value::as_str).collect();
    let audiences = audiences.ok_or(IdTokenError::Audience)?;
    if !audiences.contains(&expected.client_id) {
        return Err(IdTokenError::Audience);
    }
    let mut others = audiences
        .iter()
        .filter(|audience| **audience != expected.client_id)
        .peekable();
    match claims.get("azp").filter(|azp| azp.as_str() != Some("")) {
        None if others.peek().is_some() => {
            return Err(IdTokenError::AuthorizedParty { absent: true });
        }
        None => {}
        Some(Value::String(azp)) if azp == expected.client_id => {}
        Some(_) => return Err(IdTokenError::AuthorizedParty { absent: false }),
    }
    match expected.trusted_audiences {
        Some(trusted) if !others.all(|other| trusted.iter().any(|name| name == other)) => {
            Err(IdTokenError::UntrustedAudience)
        }
        _ => Ok(()),
    }
}

/// Checks the times (OpenID Connect Core 3.1.3.7, steps 9 and 10). The token comes directly
/// from the provider, so `iat` is the current time of its clock.
fn check_times(claims: &UserClaims, expected: &Expected<'_>) -> Result<(), IdTokenError> {
    let time = |name| match claims.get(name) {
        None => Ok(None),
        Some(value) => numeric_date(value)
            .map(Some)
            .ok_or(IdTokenError::Claim(name)),
    };
    let iat = time("iat")?.ok_or(IdTokenError::Claim("iat"))?;
    let exp = time("exp")?.ok_or(IdTokenError::Claim("exp"))?;
    let nbf = time("nbf")?.unwrap_or(iat);
    let leeway = expected.leeway.min(MAX_LEEWAY);
    let latest = expected.now.after(leeway);
    // The token expired before it was issued, so neither clock is at fault.
    if exp <= iat && exp.after(leeway) <= expected.now && iat.after(leeway) > expected.now {
        return Err(IdTokenError::Claim("exp"));
    }
    if iat > latest || nbf > latest || exp.after(leeway) <= expected.now {
        let seconds = |time: UnixTime| i64::try_from(time.0).unwrap_or(i64::MAX);
        let stamp = if nbf > latest { iat.max(nbf) } else { iat };
        return Err(IdTokenError::Time {
            seconds: seconds(expected.now).saturating_sub(seconds(stamp)),
        });
    }
    Ok(())
}

/// Checks the nonce (OpenID Connect Core 3.1.3.7, step 11).
fn check_nonce(claims: &UserClaims, expected: &Expected<'_>) -> Result<(), IdTokenError> {
    let nonce = string_claim(claims, "nonce").map_err(|_| IdTokenError::Nonce)?;
    if constant_time_eq(nonce, expected.nonce.expose()) {
        Ok(())
    } else {
        Err(IdTokenError::Nonce)
    }
}

/// Checks the age of the authentication, if one was requested (OpenID Connect Core 3.1.3.7, steps
/// 12 and 13).
fn check_authentication_age(
    claims: &UserClaims,
    expected: &Expected<'_>,
) -> Result<(), IdTokenError> {
    // (12) No `acr` is requested. (13) Without `auth_time`, the age is unknown.
    let Some(max_age) = expected.max_age else {
        return Ok(());
    };
    let authenticated = claims
        .get("auth_time")
        .and_then(numeric_date)
        .ok_or(IdTokenError::Claim("auth_time"))?;
    let latest = authenticated
        .after(max_age)
        .after(expected.leeway.min(MAX_LEEWAY));
    if expected.now > latest {
        Err(IdTokenError::LoginTooOld)
    } else {
        Ok(())
    }
}

/// Checks the hash of the access token (OpenID Connect Core 3.1.3.8). `at_hash` is optional, but
/// must match if it is present.
fn check_access_token(
    claims: &UserClaims,
    algorithm: Algorithm,
    expected: &Expected<'_>,
) -> Result<(), IdTokenError> {
    if claims
        .get("at_hash")
        .is_none_or(|hash| hash.as_str() == Some(""))
    {
        return Ok(());
    }
    let hash = digest::digest(algorithm.digest(), expected.access_token.as_bytes());
    let half = hash
        .as_ref()
        .get(..hash.as_ref().len() / 2)
        .unwrap_or_default();
    if constant_time_eq(
        string_claim(claims, "at_hash")?,
        &URL_SAFE_NO_PAD.encode(half),
    ) {
        Ok(())
    } else {
        Err(IdTokenError::AccessToken)
    }
}

/// Returns `sub`: at most 255 ASCII characters (OpenID Connect Core 2).
fn subject(claims: &UserClaims) -> Result<String, IdTokenError> {
    let subject = string_claim(claims, "sub")?;
    let is_valid = (1..=255).contains(&subject.len())
        && subject.bytes().all(|byte| matches!(byte, 0x20..=0x7e));
    if is_valid {
        Ok(subject.to_owned())
    } else {
        Err(IdTokenError::Claim("sub"))
    }
}

fn string_claim<'a>(claims: &'a UserClaims, name: &'static str) -> Result<&'a str, IdTokenError> {
    claims
        .get(name)
        .and_then(Value::as_str)
        .ok_or(IdTokenError::Claim(name))
}

fn constant_time_eq(a: &str, b: &str) -> bool {
    a.as_bytes().ct_eq(b.as_bytes()).into()
}

fn decode(part: &str) -> Result<Vec<u8>, IdTokenError> {
    URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|_| IdTokenError::Malformed)
}

/// Leaves room for hundreds of groups.
pub(crate) const MAX_ID_TOKEN: usize = 128 * 1024;

/// RFC 7519 4.1.4 allows a leeway of "no more than a few minutes".
pub(crate) const MAX_LEEWAY: Duration = Duration::from_secs(300);
