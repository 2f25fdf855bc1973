use async_trait::async_trait;
use zeroize::Zeroizing;

use super::StoreError;
use crate::model::{Secret, UnixTime};

/// Sealing secrets and signing keys.
#[async_trait]
pub trait KeyRepository: Send + Sync {
    /// Returns the 32 random bytes of that name, and creates them at the first call. All nodes get
    /// the same bytes.
    async fn secret(&self, name: &str) -> Result<Zeroizing<[u8; 32]>, StoreError>;

    /// Returns the team's signing keys, newest first.
    async fn signing_keys(&self) -> Result<Vec<StoredKey>, StoreError>;

    /// Stores a key, or replaces the one with the same `kid`.
    async fn put_signing_key(&self, key: &StoredKey) -> Result<(), StoreError>;

    /// Deletes a key. An unknown `kid` is not an error.
    async fn delete_signing_key(&self, kid: &str) -> Result<(), StoreError>;
}

/// A signing key with its private half.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredKey {
    /// 64 hexadecimal digits.
    pub kid: Box<str>,
    /// The private key, as `SigningKey::to_pkcs8` encodes it.
    pub pkcs8: Secret,
    /// The self-signed X.509 certificate of the public key.
    pub certificate_pem: String,
    /// When it was created.
    pub made: UnixTime,
    /// The moment from which it signs no new token; it may be in the future. `None` for a key that
    /// has not signed yet.
    pub retired: Option<UnixTime>,
}

pub(super) fn new_secret() -> Zeroizing<[u8; 32]> {
    let mut bytes = Zeroizing::new([0_u8; 32]);
    crate::model::fill_random(bytes.as_mut());
    bytes
}
