use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

/// Seals small values into text that only this team can read, for one purpose (AES-256-GCM, random
/// nonces).
///
/// The purpose is associated data, so a value sealed for one purpose cannot be opened for another.
pub struct SealingKey(RandomizedNonceKey);

/// A text that this key did not seal for this purpose. All such texts look the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the sealed value cannot be opened")]
pub struct SealError;

impl SealingKey {
    /// A key from 32 secret bytes.
    ///
    /// # Errors
    /// Never with 32 bytes.
    pub fn new(secret: &[u8; 32]) -> Result<Self, SealError> {
        RandomizedNonceKey::new(&AES_256_GCM, secret)
            .map(Self)
            .map_err(|_| SealError)
    }

    /// Seals a value: base64url of nonce, ciphertext and tag.
    ///
    /// # Errors
    ///
    /// The value cannot be written as JSON, or the operating system provides no randomness.
    pub fn seal(&self, purpose: &str, value: &impl Serialize) -> Result<String, SealError> {
        let mut data = serde_json::to_vec(value).map_err(|_| SealError)?;
        let nonce = self
            .0
            // The purpose is authenticated and not stored, so a value cannot be relabelled.
            .seal_in_place_append_tag(Aad::from(purpose.as_bytes()), &mut data)
            .map_err(|_| SealError)?;
        let mut sealed = nonce.as_ref().to_vec();
        sealed.append(&mut data);
        Ok(URL_SAFE_NO_PAD.encode(sealed))
    }

    /// Opens a value that [`SealingKey::seal`] made for the same purpose.
    ///
    /// # Errors
    ///
    /// Any other text.
    pub fn open<T: DeserializeOwned>(&self, purpose: &str, text: &str) -> Result<T, SealError> {
        let mut sealed = URL_SAFE_NO_PAD.decode(text).map_err(|_| SealError)?;
        let (nonce, data) = sealed.split_at_mut_checked(NONCE_BYTES).ok_or(SealError)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealError)?;
        let plain = self
            .0
            .open_in_place(nonce, Aad::from(purpose.as_bytes()), data)
            .map_err(|_| SealError)?;
        // Only bytes that this team sealed are parsed.
        serde_json::from_slice(plain).map_err(|_| SealError)
    }
}

// The length of nonces in AES-GCM (NIST SP 800-38D 5.2.1.1).
const NONCE_BYTES: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s01_value_sealed_for_another_purpose_is_rejected() {
        let key = SealingKey::new(&[7; 32]).unwrap();
        let sealed = key.seal("flow", &"secret").unwrap();
        assert_ne!(sealed, key.seal("flow", &"secret").unwrap());
        assert_eq!(key.open::<String>("flow", &sealed).unwrap(), "secret");
        assert!(key.open::<String>("code", &sealed).is_err());
        assert!(
            SealingKey::new(&[8; 32])
                .unwrap()
                .open::<String>("flow", &sealed)
                .is_err()
        );
        for at in 0..sealed.len() {
            let mut bytes = sealed.clone().into_bytes();
            bytes[at] ^= 1;
            assert!(
                key.open::<String>("flow", std::str::from_utf8(&bytes).unwrap())
                    .is_err(),
                "byte {at}"
            );
            assert!(
                key.open::<String>("flow", sealed.split_at(at).0).is_err(),
                "cut at {at}"
            );
        }
    }
}
