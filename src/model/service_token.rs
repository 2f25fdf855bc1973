use std::fmt;

use aws_lc_rs::error::Unspecified;
use aws_lc_rs::{digest, rand};
use subtle::{Choice, ConstantTimeEq as _};
use zeroize::Zeroizing;

use super::ids::hex;
use super::{InvalidId, Secret, UnixTime};

/// The credential of a service client: `CF-Access-Client-Id` and `CF-Access-Client-Secret`.
///
/// Only the client has the secret. It is random, so its plain hash reveals nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceToken {
    /// The name in rules, logs and metrics.
    pub id: Box<str>,
    /// The display name.
    pub name: Box<str>,
    /// The client id, which is also the `common_name` for origins.
    pub client_id: ClientId,
    /// The digests of its secret; two during a rotation.
    pub secrets: Vec<SecretDigest>,
    /// The first second at which it is expired; `None` if it never expires.
    pub expires_at: Option<UnixTime>,
    /// `false` if it is disabled.
    pub enabled: bool,
}

impl ServiceToken {
    /// Generates a client id, and a secret of 256 random bits.
    ///
    /// # Errors
    ///
    /// The operating system provides no randomness.
    pub fn new_pair() -> Result<(ClientId, Secret), Unspecified> {
        let (mut id, mut secret) = ([0; 16], Zeroizing::new([0; 32]));
        rand::fill(&mut id)?;
        rand::fill(&mut *secret)?;
        Ok((
            ClientId(format!("{}.access", hex(&id)).into()),
            Secret::new(hex(&*secret)),
        ))
    }

    /// Returns `true` if that is the digest of a secret of this token, in constant time.
    pub fn has_secret(&self, presented: &SecretDigest) -> bool {
        // All secrets are compared, so the time does not show which one is right. A rotation has
        // two.
        let found = self.secrets.iter().fold(Choice::from(0), |found, secret| {
            found | secret.0.ct_eq(&presented.0)
        });
        found.into()
    }

    /// Returns `true` if it has expired.
    pub fn has_expired(&self, now: UnixTime) -> bool {
        self.expires_at.is_some_and(|at| now >= at)
    }
}

/// The public half of a service token: 32 lower-case hexadecimal digits and `.access`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClientId(Box<str>);

impl ClientId {
    /// Reads a client id.
    ///
    /// # Errors
    ///
    /// It has another form.
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        let digits = text
            .strip_suffix(".access")
            // The form of Access. Origins distinguish service tokens from certificates by it.
            .filter(|digits| digits.len() == 32)
            .ok_or(InvalidId)?;
        let lower_hex = digits
            .bytes()
            .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if lower_hex {
            Ok(Self(text.into()))
        } else {
            Err(InvalidId)
        }
    }

    /// Returns the text of the header.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// SHA-256 of a service token's secret.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretDigest([u8; 32]);

impl SecretDigest {
    /// Reads 64 hexadecimal digits.
    ///
    /// # Errors
    ///
    /// The text is anything else.
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        let (pairs, []) = text.as_bytes().as_chunks::<2>() else {
            return Err(InvalidId);
        };
        let digit = |b: u8| {
            char::from(b)
                .to_digit(16)
                .and_then(|digit| u8::try_from(digit).ok())
        };
        let byte = |[high, low]: &[u8; 2]| Some(digit(*high)? << 4 | digit(*low)?);
        let bytes: Vec<u8> = pairs
            .iter()
            .map(byte)
            .collect::<Option<_>>()
            .ok_or(InvalidId)?;
        bytes.try_into().map(Self).map_err(|_| InvalidId)
    }

    /// That of a secret.
    pub fn sha256(secret: &[u8]) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest::digest(&digest::SHA256, secret).as_ref());
        Self(bytes)
    }

    /// The 64 hexadecimal digits, in lower case.
    pub fn to_hex(&self) -> String {
        hex(&self.0)
    }
}

impl fmt::Debug for SecretDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretDigest(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_service_token_is_accepted() {
        let (id, secret) = ServiceToken::new_pair().unwrap();
        assert_eq!(ClientId::parse(id.as_str()), Ok(id.clone()));
        assert_eq!(secret.expose().len(), 64);
        let digest = SecretDigest::sha256(secret.expose().as_bytes());
        assert_eq!(SecretDigest::parse(&digest.to_hex()), Ok(digest.clone()));
        assert_eq!(
            SecretDigest::parse(&digest.to_hex().to_uppercase()),
            Ok(digest.clone())
        );
        let other = SecretDigest::sha256(b"another");
        let token = |secrets: Vec<SecretDigest>| ServiceToken {
            id: "ci".into(),
            name: "CI".into(),
            client_id: id.clone(),
            secrets,
            expires_at: Some(UnixTime(10)),
            enabled: true,
        };
        let has = |secrets| token(secrets).has_secret(&digest);
        assert!(has(vec![digest.clone()]) && has(vec![other.clone(), digest.clone()]));
        assert!(has(vec![digest.clone(), other.clone()]));
        assert!(!has(vec![other.clone()]) && !has(vec![]));
        assert!(
            !token(vec![other.clone()]).has_expired(UnixTime(9))
                && token(vec![other]).has_expired(UnixTime(10))
        );
        assert!(
            !format!("{:?}", SecretDigest::sha256(b"x")).contains("2d71"),
            "{:?}",
            SecretDigest::sha256(b"x")
        );
    }

    #[test]
    fn malformed_client_id_or_digest_is_rejected() {
        let digits = "0123456789abcdef0123456789abcdef";
        assert!(ClientId::parse(&format!("{digits}.access")).is_ok());
        for wrong in [
            digits.to_owned(),
            format!("{digits}.access "),
            format!("{digits}0.access"),
            format!("{}.access", digits.to_uppercase()),
            format!("{digits}.access.example.com"),
            ".access".to_owned(),
            String::new(),
        ] {
            assert!(ClientId::parse(&wrong).is_err(), "{wrong}");
        }
        for wrong in [
            "",
            "00",
            &"0".repeat(63),
            &"0".repeat(65),
            &"g".repeat(64),
            &"é".repeat(32),
        ] {
            assert!(SecretDigest::parse(wrong).is_err(), "{wrong}");
        }
    }
}
