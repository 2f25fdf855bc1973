use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

use super::revoker::Revoker;
use crate::engine::Snapshot;
use crate::model::UnixTime;
use crate::observe::metrics::metrics;
use crate::session::{Revocations, Until};
use crate::store::{Revocation, StoreError, StoredRevocation};

/// The only writer of snapshots. Two changes at the same moment come one after the other, and none
/// is lost.
#[derive(Debug, Default)]
pub(super) struct Publisher(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    revocations: Arc<Revocations>,
    /// The last change of the store that was applied.
    revision: u64,
}

impl Publisher {
    /// Publishes a snapshot with all revocations in it.
    pub(super) fn publish(
        &self,
        snapshot: &ArcSwap<Snapshot>,
        make: impl FnOnce(Arc<Revocations>) -> Snapshot,
    ) {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        snapshot.store(Arc::new(make(Arc::clone(&state.revocations))));
    }

    /// Publishes the running snapshot with other revocations.
    pub(super) fn change(
        &self,
        snapshot: &ArcSwap<Snapshot>,
        change: impl FnOnce(&mut Revocations),
    ) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        change(Arc::make_mut(&mut state.revocations));
        let revocations = Arc::clone(&state.revocations);
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

    /// Publishes the running snapshot without the revocations that concern nothing any more, where
    /// there are such.
    pub(super) fn forget(&self, snapshot: &ArcSwap<Snapshot>, now: UnixTime) {
        if snapshot.load().revocations().are_any_over(now) {
            self.change(snapshot, |all| all.forget(now));
        }
    }

    fn revision(&self) -> u64 {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .revision
    }

    fn set_revision(&self, revision: u64) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .revision = revision;
    }
}

impl Revoker {
    /// Applies what other processes revoked since the last call. Sessions are good from then on for
    /// as long as revocations may be out of date, and no longer where there is no next time.
    pub(super) async fn tail_revocations(&self, now: UnixTime) -> Result<(), StoreError> {
        let publisher = self.running().publisher();
        loop {
            let new = self.store().revocations_after(publisher.revision()).await?;
            let Some(last) = new.last().map(|revoked| revoked.revision) else {
                break;
            };
            self.running().apply_revocations(new);
            publisher.set_revision(last);
        }
        let max_stale = self.running().services().revocations_max_stale;
        self.running().known().set_revocations_good_until(
            max_stale.map_or(UnixTime(u64::MAX), |most| now.after(most)),
        );
        metrics().revocations_followed(now);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
