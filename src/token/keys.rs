use aws_lc_rs::signature::{ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{AlgorithmParameters, Jwk, JwkSet, KeyAlgorithm, PublicKeyUse};
use thiserror::Error;

/// The verification keys of one issuer, parsed once.
#[derive(Clone)]
pub struct KeySet {
    /// Parsed for good: jsonwebtoken would parse the key again for every token, half as much work as the verification itself.
    keys: Vec<(Box<str>, ParsedPublicKey)>,
}

/// The same keys under the same names in the same order; a new key under an old name is another set.
impl PartialEq for KeySet {
    fn eq(&self, other: &Self) -> bool {
        let all =
            |set: &Self| set.keys.iter().map(|(kid, key)| (kid.clone(), key.as_ref().to_vec())).collect::<Vec<_>>();
        all(self) == all(other)
    }
}

impl Eq for KeySet {}

/// Why a JWKS document gives no keys.
#[derive(Debug, Error)]
pub enum KeyError {
    /// Not a JWKS at all.
    #[error("the document is not a JWKS")]
    Malformed(#[source] serde_json::Error),
    /// A JWKS in which no key is an RSA signature key of at least 2048 bits with a `kid`.
    #[error("the JWKS holds no RS256 signature key of 2048 bits or more")]
    NoUsableKey,
}

impl KeySet {
    /// Reads a JWKS (RFC 7517). Keys for other algorithms or uses, too small ones and ones without a `kid` are passed over.
    ///
    /// # Errors
    /// Where it is not a JWKS, or where nothing is left.
    pub fn from_jwks(document: &[u8]) -> Result<Self, KeyError> {
        let set: JwkSet = serde_json::from_slice(document).map_err(KeyError::Malformed)?;
        let keys: Vec<_> = set.keys.iter().filter_map(usable).take(MAX_KEYS).collect();
        if keys.is_empty() { Err(KeyError::NoUsableKey) } else { Ok(Self { keys }) }
    }

    /// The key of that name.
    pub(super) fn find(&self, kid: &str) -> Option<&ParsedPublicKey> {
        self.keys.iter().find(|(name, _)| **name == *kid).map(|(_, key)| key)
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

fn usable(jwk: &Jwk) -> Option<(Box<str>, ParsedPublicKey)> {
    let kid = jwk.common.key_id.as_deref().filter(|kid| !kid.is_empty())?;
    let signs = matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature));
    let rs256 = matches!(jwk.common.key_algorithm, None | Some(KeyAlgorithm::RS256));
    let AlgorithmParameters::RSA(rsa) = &jwk.algorithm else { return None };
    let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).ok();
    let (n, e) = (decode(&rsa.n)?, decode(&rsa.e)?);
    if !signs || !rs256 || !sound(&n, &e) {
        return None;
    }
    let components = RsaPublicKeyComponents { n, e };
    components.to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256).ok().map(|key| (kid.into(), key))
}

/// 2048 to 8192 bits, and an exponent that is odd and not 1.
fn sound(n: &[u8], e: &[u8]) -> bool {
    let leading = n.iter().take_while(|b| **b == 0).count();
    let bits = (n.len() - leading) * 8 - n.get(leading).map_or(0, |b| b.leading_zeros() as usize);
    let exponent = e.len() <= 4 && e.last().is_some_and(|b| b & 1 == 1) && e.iter().rev().skip(1).any(|b| *b != 0)
        || e.len() == 1 && e.first().is_some_and(|b| b & 1 == 1 && *b >= 3);
    (2048..=8192).contains(&bits) && exponent
}

/// Enough for any rotation, and a bound on what a hostile document can make us hold.
const MAX_KEYS: usize = 64;
