use aws_lc_rs::signature::{ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents};
use serde_json::Value;
use thiserror::Error;

use super::UnusableKey;
use super::jwk::{self, Jwk, Rsa};

/// The verification keys of one issuer, parsed once.
#[derive(Clone)]
pub struct KeySet {
    /// Parsed once: jsonwebtoken would parse the key again for every token, half as much work as
    /// the verification itself.
    keys: Vec<(Box<str>, ParsedPublicKey)>,
}

/// The same keys under the same names in the same order; a new key under an old name is another
/// set.
impl PartialEq for KeySet {
    fn eq(&self, other: &Self) -> bool {
        let all = |set: &Self| {
            set.keys
                .iter()
                .map(|(kid, key)| (kid.clone(), key.as_ref().to_vec()))
                .collect::<Vec<_>>()
        };
        all(self) == all(other)
    }
}

impl Eq for KeySet {}

/// The reason why a JWKS document gives no keys.
#[derive(Debug, Error)]
pub enum KeyError {
    /// Not a JWKS at all.
    #[error("the document is not a JWKS")]
    Malformed(#[source] serde_json::Error),
    /// A JWKS in which no key is an RSA signature key of at least 2048 bits with a `kid`.
    #[error("the JWKS contains no RS256 signature key of 2048 bits or more")]
    NoUsableKey,
}

impl KeySet {
    /// Reads a JWKS (RFC 7517), each key by itself. Keys for other algorithms or uses, unreadable
    /// ones, too small ones and ones without a `kid` are skipped.
    ///
    /// # Errors
    ///
    /// It is not a JWKS, or no key is left.
    pub fn from_jwks(document: &[u8]) -> Result<Self, KeyError> {
        let elements = jwk::elements(document).map_err(KeyError::Malformed)?;
        let keys: Vec<_> = elements
            .iter()
            .filter_map(|key| usable(key).ok())
            .take(MAX_KEYS)
            .collect();
        if keys.is_empty() {
            Err(KeyError::NoUsableKey)
        } else {
            Ok(Self { keys })
        }
    }

    /// The key of that name.
    pub(super) fn find(&self, kid: &str) -> Option<&ParsedPublicKey> {
        self.keys
            .iter()
            .find(|(name, _)| **name == *kid)
            .map(|(_, key)| key)
    }

    /// The names of all keys, in the order of the document.
    pub fn kids(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().map(|(name, _)| name.as_ref())
    }
}

impl std::fmt::Debug for KeySet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.kids()).finish()
    }
}

fn usable(key: &Value) -> Result<(Box<str>, ParsedPublicKey), UnusableKey> {
    let jwk = Jwk::new(key)?;
    jwk.verifies_signatures()?;
    let kid = jwk
        .text("kid")?
        .filter(|kid| !kid.is_empty())
        .ok_or(UnusableKey::Member("kid"))?;
    if jwk.text("kty")? != Some("RSA") {
        return Err(UnusableKey::Purpose("kty"));
    }
    if jwk.text("alg")?.is_some_and(|alg| alg != "RS256") {
        return Err(UnusableKey::Purpose("alg"));
    }
    let Rsa { n, e } = jwk.rsa()?;
    let key = RsaPublicKeyComponents { n, e }.to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256);
    key.map(|key| (kid.into(), key))
        .map_err(|_| UnusableKey::Weak)
}

/// Enough for any rotation, and a bound on the memory for a hostile document.
const MAX_KEYS: usize = 64;
