use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::KeyPair as _;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use serde_json::json;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::model::Secret;

/// One of the team's RSA-2048 signing keys.
pub struct SigningKey {
    pair: KeyPair,
    kid: Box<str>,
}

/// The reason why there is no signing key, or no signature.
#[derive(Debug, Error)]
#[error("the signing key {0}")]
pub struct SigningKeyError(&'static str);

impl SigningKey {
    /// Generates a key. It takes a good part of a second, too long for a thread that serves
    /// requests.
    ///
    /// # Errors
    ///
    /// The operating system provides no randomness.
    pub fn generate() -> Result<Self, SigningKeyError> {
        let pair = KeyPair::generate(KeySize::Rsa2048)
            .map_err(|_| SigningKeyError("could not be generated"))?;
        Ok(Self::with_pair(pair))
    }

    /// Reads a key that [`SigningKey::to_pkcs8`] wrote.
    ///
    /// # Errors
    ///
    /// It is not a base64 PKCS#8 RSA key.
    pub fn from_pkcs8(text: &Secret) -> Result<Self, SigningKeyError> {
        let malformed = SigningKeyError("is not a base64 PKCS#8 RSA key");
        let der = Zeroizing::new(
            URL_SAFE_NO_PAD
                .decode(text.expose())
                .map_err(|_| malformed)?,
        );
        let pair = KeyPair::from_pkcs8(&der)
            .map_err(|_| SigningKeyError("is not a base64 PKCS#8 RSA key"))?;
        Ok(Self::with_pair(pair))
    }

    fn with_pair(pair: KeyPair) -> Self {
        // The id is the hash of the key, so two nodes never give one id to two keys.
        let digest =
            aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, pair.public_key().as_ref());
        let kid = crate::model::hex(digest.as_ref()).into();
        Self { pair, kid }
    }

    /// Returns the key as base64 PKCS#8, for the store.
    ///
    /// # Errors
    ///
    /// The key cannot be exported.
    pub fn to_pkcs8(&self) -> Result<Secret, SigningKeyError> {
        let der: Pkcs8V1Der<'_> = self
            .pair
            .as_der()
            .map_err(|_| SigningKeyError("could not be serialized"))?;
        Ok(Secret::new(URL_SAFE_NO_PAD.encode(der.as_ref())))
    }

    /// 64 hexadecimal digits, the SHA-256 of the public key.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// Returns the public key in the form of the JWKS.
    pub fn to_jwk(&self) -> serde_json::Value {
        let public = self.pair.public_key();
        let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        json!({
            "kid": self.kid, "kty": "RSA", "alg": "RS256", "use": "sig",
            "e": part(public.exponent().big_endian_without_leading_zero()),
            "n": part(public.modulus().big_endian_without_leading_zero()),
        })
    }

    /// Signs claims as a compact JWS (RFC 7515 7.1).
    ///
    /// # Errors
    ///
    /// The claims are not JSON or the signature fails; neither happens with a valid key.
    pub fn sign(&self, claims: &impl Serialize) -> Result<String, SigningKeyError> {
        let failed = |_| SigningKeyError("could not sign");
        let header = json!({"alg": "RS256", "kid": self.kid, "typ": "JWT"});
        let payload = serde_json::to_vec(claims).map_err(failed)?;
        let mut token = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(header.to_string()),
            URL_SAFE_NO_PAD.encode(payload)
        );
        let signature = self.sign_bytes(token.as_bytes())?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Ok(token)
    }

    /// Signs bytes with RSASSA-PKCS1-v1_5 and SHA-256.
    ///
    /// # Errors
    ///
    /// The signature fails, which does not happen with a valid key.
    pub(crate) fn sign_bytes(&self, message: &[u8]) -> Result<Vec<u8>, SigningKeyError> {
        let mut signature = vec![0; self.pair.public_modulus_len()];
        let random = aws_lc_rs::rand::SystemRandom::new();
        self.pair
            .sign(
                &aws_lc_rs::signature::RSA_PKCS1_SHA256,
                &random,
                message,
                &mut signature,
            )
            .map_err(|_| SigningKeyError("could not sign"))?;
        Ok(signature)
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SigningKey({})", self.kid)
    }
}
