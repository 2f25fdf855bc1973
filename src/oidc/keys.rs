use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, ED25519,
    EcdsaVerificationAlgorithm, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaParameters, RsaPublicKeyComponents,
};
use serde_json::Value;
use thiserror::Error;

use super::callback::one_line;
use crate::token::UnusableKey;
use crate::token::jwk::{self, Jwk, Rsa};

/// The keys that a provider signs ID tokens with. It never contains symmetric keys.
#[derive(Clone)]
pub struct KeySet {
    keys: Vec<Key>,
    unreadable: Vec<String>,
}

/// The reason why a JWKS document provides no keys.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum KeysError {
    /// Not a JWKS (RFC 7517 5).
    #[error("the document is not a JWKS")]
    Malformed,
    /// No key can verify a signature of an accepted algorithm. Holds the first reasons.
    #[error("the JWKS contains no key that ID tokens may be signed with{}", because(.0))]
    NoUsableKey(Vec<String>),
}

fn because(reasons: &[String]) -> String {
    if reasons.is_empty() {
        String::new()
    } else {
        format!(": {}", reasons.join("; "))
    }
}

/// The accepted signature algorithms for ID tokens (RFC 7518 3.1, RFC 8037, RFC 9864).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    Es512,
    Ed25519,
}

/// The names of all accepted algorithms, for messages. `EdDSA` is accepted with Ed25519 keys.
pub const ALGORITHMS: &str =
    "RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512 or EdDSA";

#[derive(Clone)]
struct Key {
    kid: Option<Box<str>>,
    /// The key's own algorithm. If it is stated, the key verifies no other.
    algorithm: Option<Algorithm>,
    material: Material,
}

#[derive(Clone)]
enum Material {
    Rsa(RsaPublicKeyComponents<Box<[u8]>>),
    /// The curve determines the algorithm.
    Curve(Algorithm, ParsedPublicKey),
}

/// The result of a signature check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verification {
    Valid,
    Invalid,
    /// No key has this name or supports the algorithm. The set may be out of date.
    UnknownKey,
    /// The token names no key, and more than one supports the algorithm.
    Ambiguous,
}

impl KeySet {
    /// Reads a JWKS, each key on its own. Weak, malformed and unrelated keys are skipped without
    /// affecting the others.
    ///
    /// # Errors
    /// If the document is not a JWKS, or contains no usable key.
    pub fn from_jwks(document: &[u8]) -> Result<Self, KeysError> {
        let elements = jwk::elements(document).map_err(|_| KeysError::Malformed)?;
        let (mut keys, mut unreadable, mut foreign) = (Vec::new(), Vec::new(), Vec::new());
        for (index, element) in elements.iter().enumerate() {
            match parse_key(element) {
                Ok(key) if keys.len() < MAX_KEYS => keys.push(key),
                Ok(_) => break,
                Err(reason) => {
                    let reasons = if matches!(reason, UnusableKey::Purpose(_)) {
                        &mut foreign
                    } else {
                        &mut unreadable
                    };
                    if reasons.len() < MAX_REASONS {
                        let kid = element
                            .get("kid")
                            .and_then(Value::as_str)
                            .map(|kid| format!(" (`{}`)", one_line(kid, 64)));
                        reasons.push(format!(
                            "key {}{}: {reason}",
                            index + 1,
                            kid.unwrap_or_default()
                        ));
                    }
                }
            }
        }
        if keys.is_empty() {
            unreadable.append(&mut foreign);
            return Err(KeysError::NoUsableKey(unreadable));
        }
        Ok(Self { keys, unreadable })
    }

    /// Returns the unusable keys and the reasons, for the log. Keys for other purposes are not
    /// listed. At most the first few.
    pub fn unreadable(&self) -> &[String] {
        &self.unreadable
    }

    /// Returns the algorithm of each key, or `RSA` if the key does not restrict it.
    pub fn algorithms(&self) -> Vec<&'static str> {
        let name = |key: &Key| match (&key.material, key.algorithm) {
            (Material::Curve(own, _), _) => own.as_str(),
            (Material::Rsa(_), Some(own)) => own.as_str(),
            (Material::Rsa(_), None) => "RSA",
        };
        self.keys.iter().map(name).collect()
    }

    /// Verifies a signature.
    ///
    /// Without a `kid`, exactly one key may support the algorithm (OpenID Connect Core 10.1);
    /// duplicates of a key count once. Among keys with the same name, at most [`MAX_TRIED`] are
    /// tried. If no key has the name, keys without a name are tried.
    pub(super) fn verify(
        &self,
        algorithm: Algorithm,
        kid: Option<&str>,
        message: &[u8],
        signature: &[u8],
    ) -> Verification {
        let mut fitting = self.fitting(algorithm, |key| {
            kid.is_none_or(|kid| key.kid.as_deref() == Some(kid))
        });
        if fitting.is_empty() {
            fitting = self.fitting(algorithm, |key| key.kid.is_none());
        }
        match fitting.as_slice() {
            [] => Verification::UnknownKey,
            [_, _, ..] if kid.is_none() => Verification::Ambiguous,
            keys if keys
                .iter()
                .take(MAX_TRIED)
                .any(|key| key.verify(algorithm, message, signature)) =>
            {
                Verification::Valid
            }
            _ => Verification::Invalid,
        }
    }

    /// Returns the distinct keys that support the algorithm.
    fn fitting(&self, algorithm: Algorithm, is_wanted: impl Fn(&Key) -> bool) -> Vec<&Key> {
        let mut fitting: Vec<&Key> = Vec::new();
        for key in self
            .keys
            .iter()
            .filter(|key| key.fits(algorithm) && is_wanted(key))
        {
            if !fitting
                .iter()
                .any(|known| known.material.bytes() == key.material.bytes())
            {
                fitting.push(key);
            }
        }
        fitting
    }
}

impl Material {
    /// The public key.
    fn bytes(&self) -> (&[u8], &[u8]) {
        match self {
            Self::Rsa(RsaPublicKeyComponents { n, e }) => (n, e),
            Self::Curve(_, key) => (key.as_ref(), &[]),
        }
    }
}

impl std::fmt::Debug for KeySet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.keys.iter().map(|key| &key.kid))
            .finish()
    }
}

impl Key {
    fn fits(&self, algorithm: Algorithm) -> bool {
        self.algorithm.is_none_or(|own| own == algorithm)
            && match &self.material {
                Material::Rsa(_) => algorithm.rsa().is_some(),
                Material::Curve(own, _) => *own == algorithm,
            }
    }

    fn verify(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        match (&self.material, algorithm.rsa()) {
            (Material::Rsa(key), Some(parameters)) => {
                key.verify(parameters, message, signature).is_ok()
            }
            (Material::Curve(own, key), None) if *own == algorithm => {
                key.verify_sig(message, signature).is_ok()
            }
            _ => false,
        }
    }
}

impl Algorithm {
    /// Parses an algorithm name. Names are case-sensitive; `none` and HMAC are not accepted.
    pub(super) fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "RS256" => Self::Rs256,
            "RS384" => Self::Rs384,
            "RS512" => Self::Rs512,
            "PS256" => Self::Ps256,
            "PS384" => Self::Ps384,
            "PS512" => Self::Ps512,
            "ES256" => Self::Es256,
            "ES384" => Self::Es384,
            "ES512" => Self::Es512,
            // RFC 9864 2.2 gives Ed25519, the only curve in use, a name of its own.
            "EdDSA" | "Ed25519" => Self::Ed25519,
            _ => return None,
        })
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Es512 => "ES512",
            Self::Ed25519 => "EdDSA",
        }
    }

    /// Returns the hash for `at_hash` (OpenID Connect Core 3.1.3.6). For Ed25519, it is the hash
    /// inside the signature algorithm.
    pub(super) fn digest(self) -> &'static aws_lc_rs::digest::Algorithm {
        match self {
            Self::Rs256 | Self::Ps256 | Self::Es256 => &aws_lc_rs::digest::SHA256,
            Self::Rs384 | Self::Ps384 | Self::Es384 => &aws_lc_rs::digest::SHA384,
            Self::Rs512 | Self::Ps512 | Self::Es512 | Self::Ed25519 => &aws_lc_rs::digest::SHA512,
        }
    }

    fn rsa(self) -> Option<&'static RsaParameters> {
        match self {
            Self::Rs256 => Some(&RSA_PKCS1_2048_8192_SHA256),
            Self::Rs384 => Some(&RSA_PKCS1_2048_8192_SHA384),
            Self::Rs512 => Some(&RSA_PKCS1_2048_8192_SHA512),
            Self::Ps256 => Some(&RSA_PSS_2048_8192_SHA256),
            Self::Ps384 => Some(&RSA_PSS_2048_8192_SHA384),
            Self::Ps512 => Some(&RSA_PSS_2048_8192_SHA512),
            Self::Es256 | Self::Es384 | Self::Es512 | Self::Ed25519 => None,
        }
    }
}

fn parse_key(key: &Value) -> Result<Key, UnusableKey> {
    let jwk = Jwk::new(key)?;
    jwk.verifies_signatures()?;
    let algorithm = match jwk.text("alg")? {
        Some(name) => Some(Algorithm::parse(name).ok_or(UnusableKey::Purpose("alg"))?),
        None => None,
    };
    let material = match jwk.text("kty")?.ok_or(UnusableKey::Member("kty"))? {
        "RSA" => rsa(jwk)?,
        "EC" => ec(jwk)?,
        "OKP" => okp(jwk)?,
        _ => return Err(UnusableKey::Purpose("kty")),
    };
    Ok(Key {
        kid: jwk.text("kid")?.map(Into::into),
        algorithm,
        material,
    })
}

/// Reads an RSA key. Verification checks the size of the modulus too, but an unusable key should
/// not be stored at all.
fn rsa(jwk: Jwk<'_>) -> Result<Material, UnusableKey> {
    let Rsa { n, e } = jwk.rsa()?;
    Ok(Material::Rsa(RsaPublicKeyComponents {
        n: n.into(),
        e: e.into(),
    }))
}

/// Reads a point, which must lie on its curve.
fn ec(jwk: Jwk<'_>) -> Result<Material, UnusableKey> {
    let (algorithm, parameters, width): (_, &'static EcdsaVerificationAlgorithm, _) =
        match curve(jwk)? {
            "P-256" => (Algorithm::Es256, &ECDSA_P256_SHA256_FIXED, 32),
            "P-384" => (Algorithm::Es384, &ECDSA_P384_SHA384_FIXED, 48),
            "P-521" => (Algorithm::Es512, &ECDSA_P521_SHA512_FIXED, 66),
            _ => return Err(UnusableKey::Purpose("crv")),
        };
    let key =
        ParsedPublicKey::new(parameters, jwk.point(width)?).map_err(|_| UnusableKey::Point)?;
    Ok(Material::Curve(algorithm, key))
}

/// Reads an Ed25519 key (RFC 8037 2). Ed448 is not supported by our library, and X25519 does not
/// sign.
fn okp(jwk: Jwk<'_>) -> Result<Material, UnusableKey> {
    if curve(jwk)? != "Ed25519" {
        return Err(UnusableKey::Purpose("crv"));
    }
    // The value is little-endian, so a shorter one has not merely lost leading zeros.
    let x = jwk.bytes("x").and_then(|x| {
        if x.len() == 32 {
            Ok(x)
        } else {
            Err(UnusableKey::Member("x"))
        }
    })?;
    let key = ParsedPublicKey::new(&ED25519, x).map_err(|_| UnusableKey::Point)?;
    Ok(Material::Curve(Algorithm::Ed25519, key))
}

fn curve(jwk: Jwk<'_>) -> Result<&str, UnusableKey> {
    jwk.text("crv")?.ok_or(UnusableKey::Member("crv"))
}

/// Ample for any rotation; bounds the memory that a hostile document can occupy.
const MAX_KEYS: usize = 1024;

/// The maximum number of keys tried for one ID token.
const MAX_TRIED: usize = 4;

/// The maximum number of keys named in the log and in an error.
const MAX_REASONS: usize = 3;
