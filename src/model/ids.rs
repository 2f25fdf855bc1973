use std::fmt;

use aws_lc_rs::rand;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The id of an identity provider, unique in a configuration. Rules and `allowed_idps` refer to it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct IdpId(pub Box<str>);

impl fmt::Display for IdpId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A user, stable per team and provider subject: the `sub` of our tokens.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UserId(pub Box<str>);

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An identifier that does not have the shape it must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the identifier is malformed")]
pub struct InvalidId;

/// An application's audience tag: 64 lower-case hexadecimal digits, the `aud` of its tokens.
///
/// Held in place, not on the heap: it is compared on every request.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Aud([u8; 64]);

impl Aud {
    /// Reads a tag.
    ///
    /// # Errors
    ///
    /// It is not 64 lower-case hexadecimal digits.
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        let digits: [u8; 64] = text.as_bytes().try_into().map_err(|_| InvalidId)?;
        if digits
            .iter()
            .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        {
            Ok(Self(digits))
        } else {
            Err(InvalidId)
        }
    }

    /// The tag of an application that was given none: the same for the same words, on every node
    /// and after every restart.
    pub fn derive(words: &[&str]) -> Self {
        let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
        for word in words {
            context.update(&(word.len() as u64).to_be_bytes());
            context.update(word.as_bytes());
        }
        let mut digits = [b'0'; 64];
        for (place, digit) in digits
            .iter_mut()
            .zip(hex(context.finish().as_ref()).bytes())
        {
            *place = digit;
        }
        Self(digits)
    }

    /// The 64 digits.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl TryFrom<String> for Aud {
    type Error = InvalidId;
    fn try_from(text: String) -> Result<Self, InvalidId> {
        Self::parse(&text)
    }
}

impl From<Aud> for String {
    fn from(aud: Aud) -> Self {
        aud.as_str().to_owned()
    }
}

impl fmt::Debug for Aud {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Aud({})", self.as_str())
    }
}

impl fmt::Display for Aud {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The name of one login: the key of its identity record. A logout revokes it. Sixteen characters,
/// 95 bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IdentityNonce([u8; 16]);

impl TryFrom<String> for IdentityNonce {
    type Error = InvalidId;

    fn try_from(text: String) -> Result<Self, InvalidId> {
        Self::parse(&text)
    }
}

impl From<IdentityNonce> for String {
    fn from(nonce: IdentityNonce) -> Self {
        nonce.as_str().to_owned()
    }
}

impl IdentityNonce {
    /// A new one, from the operating system's randomness.
    pub fn random() -> Self {
        let mut bytes = [0_u8; 16];
        // 64 letters: every byte's low six bits choose one without bias.
        let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789aZ";
        fill_random(&mut bytes);
        Self(bytes.map(|b| alphabet.get(usize::from(b & 63)).copied().unwrap_or(b'a')))
    }

    /// Reads one from a claim.
    ///
    /// # Errors
    ///
    /// It is not 16 ASCII letters and digits.
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        let bytes: [u8; 16] = text.as_bytes().try_into().map_err(|_| InvalidId)?;
        if bytes.iter().all(u8::is_ascii_alphanumeric) {
            Ok(Self(bytes))
        } else {
            Err(InvalidId)
        }
    }

    /// The sixteen characters.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Debug for IdentityNonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IdentityNonce({})", self.as_str())
    }
}

/// Names one request in logs, audit events and on pages: 16 hexadecimal digits, like a Ray ID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestId(u64);

impl RequestId {
    /// A new one.
    pub fn random() -> Self {
        let mut bytes = [0_u8; 8];
        fill_random(&mut bytes);
        Self(u64::from_le_bytes(bytes))
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Fills with the operating system's randomness.
#[expect(
    clippy::panic,
    reason = "aws-lc aborts rather than fail here; going on with known bytes would be worse"
)]
pub(crate) fn fill_random(bytes: &mut [u8]) {
    if rand::fill(bytes).is_err() {
        panic!("the operating system returned no random bytes");
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aud_is_64_hex_digits_and_stable() {
        let aud = Aud::derive(&["access.example.com", "wiki.example.com"]);
        assert_eq!(
            aud,
            Aud::derive(&["access.example.com", "wiki.example.com"])
        );
        assert_ne!(
            aud,
            Aud::derive(&["access.example.comw", "iki.example.com"]),
            "words are told apart"
        );
        assert_eq!(Aud::parse(aud.as_str()).unwrap(), aud);
        assert!(Aud::parse("ABC").is_err() && Aud::parse(&"g".repeat(64)).is_err());
    }

    #[test]
    fn nonce_reads_back() {
        let nonce = IdentityNonce::random();
        assert_eq!(IdentityNonce::parse(nonce.as_str()).unwrap(), nonce);
        assert!(
            IdentityNonce::parse("short").is_err()
                && IdentityNonce::parse("0123456789abcde/").is_err()
        );
    }
}
