use aws_lc_rs::signature::ParsedPublicKey;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use thiserror::Error;

use super::{Claims, KeySet};
use crate::model::{UnixTime, json};

/// The longest string that is read as a token, in bytes. A cookie holds 4 KiB; the header may hold
/// more.
pub const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// The reason why a string is no valid token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TokenError {
    /// Longer than [`MAX_TOKEN_BYTES`].
    #[error("the token is too long")]
    TooLong,
    /// Not three base64url parts, or a header or claims that are not the JSON they must be.
    #[error("the token is malformed")]
    Malformed,
    /// Another algorithm than RS256, a critical extension, a `typ` of another kind of token.
    #[error("the header is not that of an Access token")]
    Header,
    /// Signed with a key that is not in the set. Fetching the keys again may mend that.
    #[error("the token was signed with an unknown key")]
    UnknownKey,
    /// The signature is invalid. A new fetch may help: the issuer may have reused a key id.
    #[error("the signature is invalid")]
    Signature,
    /// From another issuer.
    #[error("the token is from another issuer")]
    Issuer,
    /// It has expired.
    #[error("the token has expired")]
    Expired,
    /// It is not valid yet.
    #[error("the token is not valid yet")]
    NotYet,
}

/// A string with the outer form of a token. Its claims cannot be read before verification.
#[derive(Clone, Copy)]
pub struct UnverifiedToken<'a> {
    message: &'a str,
    header: &'a str,
    payload: &'a str,
    signature: &'a str,
}

/// The expected result of a verification, from a token's own header and claims. It decides only
/// which tokens are verified, because an unverified token may contain anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outlook {
    /// The token cannot verify for this issuer and audience, with any key.
    Hopeless,
    /// It is expired and cannot verify any more.
    Expired,
    /// It names a key that is not in the set.
    UnknownKey,
    /// Depends on the signature.
    Open,
}

/// A token with a verified signature, issuer and times.
#[derive(Clone, Debug)]
pub struct VerifiedToken {
    claims: Claims,
}

impl VerifiedToken {
    /// Returns its claims.
    pub const fn claims(&self) -> &Claims {
        &self.claims
    }

    /// Returns its claims by value.
    pub fn into_claims(self) -> Claims {
        self.claims
    }
}

/// The relevant members of a JOSE header. Others may not change the meaning of the signed content,
/// unless `crit` names them.
#[derive(Deserialize)]
struct Header<'a> {
    #[serde(borrow)]
    alg: std::borrow::Cow<'a, str>,
    #[serde(borrow, default)]
    kid: Option<std::borrow::Cow<'a, str>>,
    #[serde(borrow, default)]
    typ: Option<std::borrow::Cow<'a, str>>,
    #[serde(default)]
    crit: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    b64: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    zip: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    cty: Option<serde::de::IgnoredAny>,
}

impl TokenError {
    /// Returns `true` if the issuer may have changed its keys, so that fetching them again may mend
    /// it.
    pub const fn may_be_rotation(self) -> bool {
        matches!(self, Self::UnknownKey | Self::Signature)
    }
}

impl<'a> UnverifiedToken<'a> {
    /// Looks at length and outer shape only.
    ///
    /// # Errors
    /// [`TokenError::TooLong`], [`TokenError::Malformed`].
    pub fn parse(text: &'a str) -> Result<Self, TokenError> {
        if text.len() > MAX_TOKEN_BYTES {
            return Err(TokenError::TooLong);
        }
        let (message, signature) = text.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, payload) = message.split_once('.').ok_or(TokenError::Malformed)?;
        if payload.contains('.')
            || [header, payload, signature]
                .iter()
                .any(|part| part.is_empty())
        {
            return Err(TokenError::Malformed);
        }
        Ok(Self {
            message,
            header,
            payload,
            signature,
        })
    }

    /// Returns the best result that [`UnverifiedToken::verify`] can have, at a fraction of its
    /// cost.
    ///
    /// `fits` judges the claims beside `iss` and `exp`.
    pub fn outlook(
        &self,
        keys: &KeySet,
        issuer: &str,
        fits: impl FnOnce(&Claims) -> bool,
        now: UnixTime,
    ) -> Outlook {
        let payload = decode(self.payload).ok();
        let claims = payload.and_then(|payload| serde_json::from_slice::<Claims>(&payload).ok());
        let (Ok(key), Some(claims)) = (self.key(keys), claims) else {
            return Outlook::Hopeless;
        };
        if claims.iss != issuer
            || !fits(&claims)
            || !SIGNATURE_LENGTHS.contains(&self.signature.len())
        {
            return Outlook::Hopeless;
        }
        match key {
            _ if now >= claims.exp => Outlook::Expired,
            None => Outlook::UnknownKey,
            Some(_) => Outlook::Open,
        }
    }

    /// RFC 7519 §7.2, with RS256 as the only algorithm: header, key, signature, then the claims.
    ///
    /// `leeway` seconds of difference between the clocks are forgiven for `nbf` and `iat`, none for
    /// `exp`: how long a session lasts is our own promise.
    ///
    /// # Errors
    /// See [`TokenError`].
    pub fn verify(
        self,
        keys: &KeySet,
        issuer: &str,
        now: UnixTime,
        leeway: u64,
    ) -> Result<VerifiedToken, TokenError> {
        // RFC 7519 §7.2 (10)
        let claims: Claims =
            json::object(&self.signed(keys)?).map_err(|_| TokenError::Malformed)?;
        if claims.iss != issuer {
            return Err(TokenError::Issuer);
        }
        if now >= claims.exp {
            return Err(TokenError::Expired);
        }
        let latest = UnixTime(now.0.saturating_add(leeway));
        if claims.iat > latest || claims.nbf.is_some_and(|nbf| nbf > latest) {
            return Err(TokenError::NotYet);
        }
        Ok(VerifiedToken { claims })
    }

    /// Verifies the signature (RFC 7515 5.2), with RS256 as the only algorithm, and returns the
    /// signed bytes.
    ///
    /// # Errors
    ///
    /// [`TokenError::Malformed`], [`TokenError::Header`], [`TokenError::UnknownKey`],
    /// [`TokenError::Signature`].
    pub(super) fn signed(self, keys: &KeySet) -> Result<Vec<u8>, TokenError> {
        let key = self.key(keys)?.ok_or(TokenError::UnknownKey)?;
        // RFC 7515 §5.2 (8)
        let signature = decode(self.signature)?;
        key.verify_sig(self.message.as_bytes(), &signature)
            .map_err(|_| TokenError::Signature)?;
        decode(self.payload)
    }

    /// Reads the header; `None` if no key of the set has the name in it.
    fn key(self, keys: &KeySet) -> Result<Option<&ParsedPublicKey>, TokenError> {
        // RFC 7515 §5.2 (2)-(4)
        let header = decode(self.header)?;
        let header: Header<'_> = json::object(&header).map_err(|_| TokenError::Malformed)?;
        let extended = [&header.crit, &header.b64, &header.zip, &header.cty]
            .iter()
            .any(|member| member.is_some());
        let foreign = header
            .typ
            .as_deref()
            .is_some_and(|typ| !typ.eq_ignore_ascii_case("JWT"));
        if header.alg != "RS256" || extended || foreign {
            return Err(TokenError::Header);
        }
        Ok(header.kid.as_deref().and_then(|kid| keys.find(kid)))
    }
}

/// The lengths of an RS256 signature in base64url, of keys of 2048 to 8192 bits.
const SIGNATURE_LENGTHS: std::ops::RangeInclusive<usize> = 342..=1366;

fn decode(part: &str) -> Result<Vec<u8>, TokenError> {
    URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|_| TokenError::Malformed)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
