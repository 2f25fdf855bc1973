//! Identity records: in memory for the engine, and in the store.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::repositories::Watched;
use super::running::Running;
use crate::engine::{IdentityState, NodeCache};
use crate::model::{Identity, IdentityNonce, UnixTime};
use crate::store::{LoginRepository, StoreError};

/// The identity records behind logins, in memory and in the store.
pub(super) struct Records {
    known: Arc<NodeCache>,
    logins: Watched<dyn LoginRepository>,
    /// One lock for each login. Its holder may write the record, so that no change undoes another,
    /// and concurrent requests share one look-up.
    locks: moka::sync::Cache<IdentityNonce, Arc<tokio::sync::Mutex<()>>>,
    /// Counts changes that were followed, by login. A record that was read before one of them must
    /// not stay.
    changes: moka::sync::Cache<IdentityNonce, u64>,
    /// Counts the times that all records were forgotten.
    resets: AtomicU64,
}

/// The changes of a login's record that this process has followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    changes: u64,
    resets: u64,
}

impl Records {
    pub(super) fn new(running: &Running, logins: Watched<dyn LoginRepository>) -> Self {
        Self {
            known: Arc::clone(running.cache()),
            logins,
            locks: moka::sync::Cache::builder().time_to_idle(LOCK_IDLE).build(),
            changes: moka::sync::Cache::builder().time_to_idle(LOCK_IDLE).build(),
            resets: AtomicU64::new(0),
        }
    }

    /// Waits for the lock of a login's record.
    pub(super) async fn lock(&self, nonce: IdentityNonce) -> tokio::sync::OwnedMutexGuard<()> {
        self.locks.get_with(nonce, Arc::default).lock_owned().await
    }

    /// Returns the changes so far. If they differ after a record was read and published, another
    /// node may have changed it in between.
    pub(super) fn seen(&self, nonce: &IdentityNonce) -> Seen {
        Seen {
            changes: self.changes.get(nonce).unwrap_or_default(),
            resets: self.resets.load(Ordering::Acquire),
        }
    }

    /// Counts a change by another node. Call this before the known record is replaced.
    pub(super) fn note_change(&self, nonce: IdentityNonce) {
        self.changes
            .entry(nonce)
            .and_upsert_with(|before| before.map_or(1, |before| before.into_value() + 1));
    }

    /// Forgets a record that came from the store.
    pub(super) fn forget(&self, nonce: IdentityNonce) {
        if self.known(nonce).is_some() {
            self.known.forget_identity(&nonce);
        }
    }

    /// Forgets all records that came from the store.
    pub(super) fn forget_all(&self) {
        self.resets.fetch_add(1, Ordering::Release);
        for (nonce, _) in self.known.identities() {
            self.known.forget_identity(&nonce);
        }
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
            None => Ok(self.read(nonce).await?.map(Arc::new)),
        }
    }

    /// Reads the record from the store, which may hold an earlier one than the engine knows.
    pub(super) async fn read(&self, nonce: IdentityNonce) -> Result<Option<Identity>, StoreError> {
        self.logins.identity(&nonce).await
    }

    /// Logs and counts an error of the store.
    pub(super) fn failed(&self, error: &StoreError) {
        self.logins.failed(error);
    }

    /// Stores a new login; `None` if a revocation since the revision `began` covers it. No earlier
    /// one does, and every later one of its user does.
    pub(super) async fn insert(
        &self,
        identity: Identity,
        began: u64,
        expires: UnixTime,
    ) -> Result<Option<(IdentityNonce, Arc<Identity>)>, StoreError> {
        let nonce = IdentityNonce::random();
        let inserted = self
            .logins
            .insert_identity(&nonce, &identity, began, expires)
            .await?;
        let Some(revision) = inserted else {
            return Ok(None);
        };
        let identity = Arc::new(Identity {
            revision,
            ..identity
        });
        self.known
            .set_identity(nonce, IdentityState::Known(Arc::clone(&identity)));
        Ok(Some((nonce, identity)))
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
            .logins
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

/// The time after which an unused lock is dropped.
const LOCK_IDLE: Duration = Duration::from_secs(60);
