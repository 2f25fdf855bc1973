//! Identity records: in memory for the engine, and in the store.

use std::sync::Arc;
use std::time::Duration;

use super::running::Running;
use super::store_watch::WatchedStore;
use crate::engine::{IdentityState, Known};
use crate::model::{Identity, IdentityNonce, UnixTime};
use crate::store::StoreError;

/// The identity records behind logins, in memory and in the store.
pub(super) struct Records {
    known: Arc<Known>,
    store: Arc<WatchedStore>,
    /// One lock for each login: whoever writes its record holds it, so that no change undoes
    /// another, and concurrent requests share one look-up.
    locks: moka::sync::Cache<IdentityNonce, Arc<tokio::sync::Mutex<()>>>,
}

impl Records {
    pub(super) fn new(running: &Running, store: Arc<WatchedStore>) -> Self {
        Self {
            known: Arc::clone(running.known()),
            store,
            locks: moka::sync::Cache::builder().time_to_idle(LOCK_IDLE).build(),
        }
    }

    /// Waits for the lock of a login's record.
    pub(super) async fn lock(&self, nonce: IdentityNonce) -> tokio::sync::OwnedMutexGuard<()> {
        self.locks.get_with(nonce, Arc::default).lock_owned().await
    }

    /// Returns the record that the engine knows, if it is one of our own store.
    pub(super) fn known(&self, nonce: IdentityNonce) -> Option<Arc<Identity>> {
        match self.known.identity(&nonce) {
            Some(IdentityState::Known(identity)) => Some(identity),
            _ => None,
        }
    }

    /// Returns the record as it was written, even if its user has been deactivated since.
    pub(super) async fn stored(
        &self,
        nonce: IdentityNonce,
    ) -> Result<Option<Arc<Identity>>, StoreError> {
        match self.known(nonce) {
            Some(identity) => Ok(Some(identity)),
            None => Ok(self.store.identity(&nonce).await?.map(Arc::new)),
        }
    }

    /// Stores a new login. No revocation so far covers it, and every later one of its user does.
    pub(super) async fn insert(
        &self,
        identity: Identity,
        expires: UnixTime,
    ) -> Result<(IdentityNonce, Arc<Identity>), StoreError> {
        let nonce = IdentityNonce::random();
        let revision = self
            .store
            .insert_identity(&nonce, &identity, expires)
            .await?;
        let identity = Arc::new(Identity {
            revision,
            ..identity
        });
        self.known
            .set_identity(nonce, IdentityState::Known(Arc::clone(&identity)));
        Ok((nonce, identity))
    }

    /// Writes a changed record and publishes it; `None` if the login is over in the store. The
    /// caller holds the lock of the login.
    pub(super) async fn update(
        &self,
        nonce: IdentityNonce,
        identity: Arc<Identity>,
        expires: UnixTime,
    ) -> Result<Option<Arc<Identity>>, StoreError> {
        if self
            .store
            .update_identity(&nonce, &identity, expires)
            .await?
        {
            self.known
                .set_identity(nonce, IdentityState::Known(Arc::clone(&identity)));
            Ok(Some(identity))
        } else {
            // Another process has revoked the login. Its sessions here end now, before that is
            // followed.
            self.known.set_identity(nonce, IdentityState::Missing);
            Ok(None)
        }
    }
}

/// In which no request waits for a lock, before it is dropped.
const LOCK_IDLE: Duration = Duration::from_secs(60);
