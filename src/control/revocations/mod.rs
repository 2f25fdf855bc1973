//! The publication of snapshots, with the revocations in them.
//!
//! Decides the order in which concurrent changes take effect. Trusts the revocations of the store
//! and their expiry. Never lets a reload undo a revocation that was applied at the same moment.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

use crate::engine::Snapshot;
use crate::model::UnixTime;
use crate::session::{Revocations, Until};
use crate::store::{Revocation, StoredRevocation};

/// The only writer of snapshots. Concurrent changes are applied one after the other, and none is
/// lost.
#[derive(Debug, Default)]
pub(super) struct Publisher(Mutex<Arc<Revocations>>);

impl Publisher {
    /// Publishes a snapshot with all revocations in it.
    pub(super) fn publish(
        &self,
        snapshot: &ArcSwap<Snapshot>,
        make: impl FnOnce(Arc<Revocations>) -> Snapshot,
    ) {
        // The lock is held during the store: a revocation in between would be missing in the new
        // snapshot.
        let revocations = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        snapshot.store(Arc::new(make(Arc::clone(&revocations))));
    }

    /// Publishes the running snapshot with other revocations.
    pub(super) fn change(
        &self,
        snapshot: &ArcSwap<Snapshot>,
        change: impl FnOnce(&mut Revocations),
    ) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        change(Arc::make_mut(&mut all));
        let revocations = Arc::clone(&all);
        snapshot.store(Arc::new(snapshot.load().with_revocations(revocations)));
    }

    /// Publishes the running snapshot with more revocations of the store.
    pub(super) fn apply(
        &self,
        snapshot: &ArcSwap<Snapshot>,
        more: impl IntoIterator<Item = StoredRevocation>,
    ) {
        self.change(snapshot, |all| {
            for StoredRevocation {
                revision,
                revocation,
                ordered,
                expires,
            } in more
            {
                match revocation {
                    Revocation::Session(nonce) => all.end_session(nonce, expires),
                    Revocation::User { user, before } => {
                        // Earlier releases stored no order, so their revocations compare seconds.
                        let until = if ordered {
                            Until::Revision(revision)
                        } else {
                            Until::Second(before)
                        };
                        all.end_user(user, until, expires);
                    }
                    Revocation::Application { aud, before } => {
                        all.end_application(aud, before, expires)
                    }
                }
            }
        });
    }

    /// Publishes the running snapshot without expired revocations, if there are any.
    pub(super) fn forget(&self, snapshot: &ArcSwap<Snapshot>, now: UnixTime) {
        // Checked without the lock, because a change copies the recent revocations.
        if snapshot.load().revocations().are_any_over(now) {
            self.change(snapshot, |all| all.forget(now));
        }
    }
}

#[cfg(test)]
mod tests;
