use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, EcdsaVerificationAlgorithm,
    ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA512, RsaParameters,
    RsaPublicKeyComponents,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;

/// The keys that a provider signs ID tokens with. Symmetric ones are never among them.
#[derive(Clone)]
pub struct KeySet {
    keys: Vec<Key>,
}

/// Why a JWKS document gives no keys.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum KeysError {
    /// Not a JWKS at all (RFC 7517 §5).
    #[error("the document is not a JWKS")]
    Malformed,
    /// None of its keys verifies a signature of an algorithm that we take.
    #[error("the JWKS holds no key that ID tokens may be signed with")]
    NoUsableKey,
}

/// The algorithms that an ID token may be signed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    Rs256,
    Rs512,
    Ps512,
    Es256,
    Es384,
    Es512,
}

#[derive(Clone)]
struct Key {
    kid: Option<Box<str>>,
    /// Where the key says it, a signature of another algorithm is not tried.
    algorithm: Option<Algorithm>,
    material: Material,
}

#[derive(Clone)]
enum Material {
    Rsa(RsaPublicKeyComponents<Box<[u8]>>),
    /// One curve has one algorithm.
    Ec(Algorithm, ParsedPublicKey),
}

/// How a search for the key went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verification {
    Good,
    Bad,
    /// No key has the name, or none fits the algorithm. The set may be old.
    UnknownKey,
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<Value>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    n: Option<String>,
    e: Option<String>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl KeySet {
    /// Reads a JWKS. Keys for other purposes, weak ones and broken ones are passed over: one of them does not take the
    /// others with it.
    ///
    /// # Errors
    /// Where it is not a JWKS, or where nothing is left.
    pub fn from_jwks(document: &[u8]) -> Result<Self, KeysError> {
        let document: Document = serde_json::from_slice(document).map_err(|_| KeysError::Malformed)?;
        let keys: Vec<_> = document
            .keys
            .into_iter()
            .filter_map(|key| serde_json::from_value::<Jwk>(key).ok())
            .filter_map(|jwk| usable(&jwk))
            .take(MAX_KEYS)
            .collect();
        if keys.is_empty() { Err(KeysError::NoUsableKey) } else { Ok(Self { keys }) }
    }

    /// What each key is for: an algorithm, or `RSA` where that is open.
    pub fn algorithms(&self) -> Vec<&'static str> {
        let name = |key: &Key| match (&key.material, key.algorithm) {
            (Material::Ec(own, _), _) => own.as_str(),
            (Material::Rsa(_), Some(own)) => own.as_str(),
            (Material::Rsa(_), None) => "RSA",
        };
        self.keys.iter().map(name).collect()
    }

    /// Without a `kid`, at most [`MAX_TRIED`] keys that fit the algorithm are tried.
    pub(super) fn verify(
        &self,
        algorithm: Algorithm,
        kid: Option<&str>,
        message: &[u8],
        signature: &[u8],
    ) -> Verification {
        let fits = |key: &&Key| kid.is_none_or(|kid| key.kid.as_deref() == Some(kid)) && key.fits(algorithm);
        let mut tried = self.keys.iter().filter(fits).take(MAX_TRIED).peekable();
        if tried.peek().is_none() {
            return Verification::UnknownKey;
        }
        if tried.any(|key| key.verify(algorithm, message, signature)) { Verification::Good } else { Verification::Bad }
    }
}

impl std::fmt::Debug for KeySet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|key| &key.kid)).finish()
    }
}

impl Key {
    fn fits(&self, algorithm: Algorithm) -> bool {
        self.algorithm.is_none_or(|own| own == algorithm)
            && match &self.material {
                Material::Rsa(_) => algorithm.rsa().is_some(),
                Material::Ec(own, _) => *own == algorithm,
            }
    }

    fn verify(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        match (&self.material, algorithm.rsa()) {
            (Material::Rsa(key), Some(parameters)) => key.verify(parameters, message, signature).is_ok(),
            (Material::Ec(own, key), None) if *own == algorithm => key.verify_sig(message, signature).is_ok(),
            _ => false,
        }
    }
}

impl Algorithm {
    /// RFC 7518 §3.1. The names are case-sensitive, and `none` and the HMACs are not among them.
    pub(super) fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "RS256" => Self::Rs256,
            "RS512" => Self::Rs512,
            "PS512" => Self::Ps512,
            "ES256" => Self::Es256,
            "ES384" => Self::Es384,
            "ES512" => Self::Es512,
            _ => return None,
        })
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs512 => "RS512",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Es512 => "ES512",
        }
    }

    /// The hash that `at_hash` is made with (OpenID Connect Core 3.1.3.6).
    pub(super) fn digest(self) -> &'static aws_lc_rs::digest::Algorithm {
        match self {
            Self::Rs256 | Self::Es256 => &aws_lc_rs::digest::SHA256,
            Self::Es384 => &aws_lc_rs::digest::SHA384,
            Self::Rs512 | Self::Ps512 | Self::Es512 => &aws_lc_rs::digest::SHA512,
        }
    }

    fn rsa(self) -> Option<&'static RsaParameters> {
        match self {
            Self::Rs256 => Some(&RSA_PKCS1_2048_8192_SHA256),
            Self::Rs512 => Some(&RSA_PKCS1_2048_8192_SHA512),
            Self::Ps512 => Some(&RSA_PSS_2048_8192_SHA512),
            Self::Es256 | Self::Es384 | Self::Es512 => None,
        }
    }
}

fn usable(jwk: &Jwk) -> Option<Key> {
    let signs = jwk.usage.as_deref().is_none_or(|usage| usage == "sig")
        && jwk.key_ops.as_ref().is_none_or(|ops| ops.iter().any(|op| op == "verify"));
    let algorithm = match jwk.alg.as_deref() {
        Some(name) => Some(Algorithm::parse(name)?),
        None => None,
    };
    let material = match jwk.kty.as_str() {
        _ if !signs => return None,
        "RSA" => rsa(jwk)?,
        "EC" => ec(jwk)?,
        _ => return None,
    };
    Some(Key { kid: jwk.kid.as_deref().map(Into::into), algorithm, material })
}

/// The signature algorithm looks at the size of the modulus again; a key that could never verify should not be held.
fn rsa(jwk: &Jwk) -> Option<Material> {
    let integer = |text: &Option<String>| -> Option<Box<[u8]>> {
        let bytes = URL_SAFE_NO_PAD.decode(text.as_deref()?).ok()?;
        Some(bytes.into_iter().skip_while(|byte| *byte == 0).collect())
    };
    let (n, e) = (integer(&jwk.n)?, integer(&jwk.e)?);
    let odd = e.last().is_some_and(|byte| byte & 1 == 1);
    let sound = (256..=1024).contains(&n.len()) && (1..=4).contains(&e.len()) && odd && *e != [1];
    sound.then_some(Material::Rsa(RsaPublicKeyComponents { n, e }))
}

/// An uncompressed point (SEC 1 §2.3.3), which must lie on its curve.
fn ec(jwk: &Jwk) -> Option<Material> {
    let (algorithm, parameters, width): (_, &'static EcdsaVerificationAlgorithm, _) = match jwk.crv.as_deref()? {
        "P-256" => (Algorithm::Es256, &ECDSA_P256_SHA256_FIXED, 32),
        "P-384" => (Algorithm::Es384, &ECDSA_P384_SHA384_FIXED, 48),
        "P-521" => (Algorithm::Es512, &ECDSA_P521_SHA512_FIXED, 66),
        _ => return None,
    };
    let mut point = vec![4];
    for coordinate in [&jwk.x, &jwk.y] {
        let bytes = URL_SAFE_NO_PAD.decode(coordinate.as_deref()?).ok().filter(|bytes| bytes.len() == width)?;
        point.extend(bytes);
    }
    ParsedPublicKey::new(parameters, point).ok().map(|key| Material::Ec(algorithm, key))
}

/// Enough for any rotation, and a bound on what a hostile document can make us hold.
const MAX_KEYS: usize = 64;

/// How many keys one ID token may be tried with.
const MAX_TRIED: usize = 4;
