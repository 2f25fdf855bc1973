use async_trait::async_trait;

use super::StoreError;
use crate::model::{Identity, IdentityNonce, IdpId, UnixTime, UserId};

/// Users, the identity records of their logins, and logout hints.
#[async_trait]
pub trait LoginRepository: Send + Sync {
    /// Stores the record of a new login and returns its revision: the store's latest, read in the
    /// same transaction, or `began` if that is lower. Every later revocation of the user covers the
    /// login, and no earlier one does. Returns `None`, and stores nothing, if one does already.
    /// `identity.revision` is ignored. From `expires` on the record may be pruned.
    async fn insert_identity(
        &self,
        nonce: &IdentityNonce,
        identity: &Identity,
        began: u64,
        expires: UnixTime,
    ) -> Result<Option<u64>, StoreError>;

    /// Replaces the record of a login, which keeps its revision. Returns `false`, and changes
    /// nothing, if there is no record or if a revocation covers the login: both are checked in the
    /// transaction that writes, so that no update brings a login back.
    async fn update_identity(
        &self,
        nonce: &IdentityNonce,
        identity: &Identity,
        expires: UnixTime,
    ) -> Result<bool, StoreError>;

    /// Returns the record of a login, which may have expired: the token limits the session.
    async fn identity(&self, nonce: &IdentityNonce) -> Result<Option<Identity>, StoreError>;

    /// Stores a sealed value that the provider requires at the logout of that login. Replaces an
    /// earlier one.
    async fn put_logout_hint(
        &self,
        nonce: &IdentityNonce,
        hint: &str,
        expires: UnixTime,
    ) -> Result<(), StoreError>;

    /// Returns the value of [`LoginRepository::put_logout_hint`] and deletes it.
    async fn take_logout_hint(&self, nonce: &IdentityNonce) -> Result<Option<String>, StoreError>;

    /// Returns the user with that subject at the provider: a random UUID, created at the first
    /// call.
    async fn user(&self, idp: &IdpId, subject: &str) -> Result<UserId, StoreError>;
}

/// Returns a new id, made alike in every store.
pub(super) fn new_user() -> UserId {
    let mut bytes = [0_u8; 16];
    crate::model::fill_random(&mut bytes);
    UserId(
        uuid::Builder::from_random_bytes(bytes)
            .into_uuid()
            .to_string()
            .into(),
    )
}
