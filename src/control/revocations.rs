use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

use super::Access;
use crate::engine::Snapshot;
use crate::session::Revocations;
use crate::store::{Revocation, StoreError};

/// The only writer of snapshots. Two changes at the same moment come one after the other, and none is lost.
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
    pub(super) fn publish(&self, snapshot: &ArcSwap<Snapshot>, make: impl FnOnce(Arc<Revocations>) -> Snapshot) {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        snapshot.store(Arc::new(make(Arc::clone(&state.revocations))));
    }

    /// Publishes the running snapshot with other revocations.
    pub(super) fn change(&self, snapshot: &ArcSwap<Snapshot>, change: impl FnOnce(&mut Revocations)) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        change(Arc::make_mut(&mut state.revocations));
        let revocations = Arc::clone(&state.revocations);
        snapshot.store(Arc::new(snapshot.load().with_revocations(revocations)));
    }

    /// Publishes the running snapshot with more revocations.
    pub(super) fn apply(&self, snapshot: &ArcSwap<Snapshot>, more: impl IntoIterator<Item = Revocation>) {
        self.change(snapshot, |all| {
            for revocation in more {
                match revocation {
                    Revocation::Session(nonce) => all.end_session(nonce),
                    Revocation::User { user, before } => all.end_user(user, before),
                    Revocation::Application { aud, before } => all.end_application(aud, before),
                }
            }
        });
    }

    fn revision(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).revision
    }

    fn set_revision(&self, revision: u64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).revision = revision;
    }
}

impl Access {
    /// Applies what other processes revoked since the last call.
    pub(super) async fn tail_revocations(&self) -> Result<(), StoreError> {
        loop {
            let new = self.store.revocations_after(self.publisher.revision()).await?;
            let Some(last) = new.last().map(|revoked| revoked.revision) else { return Ok(()) };
            self.publisher.apply(&self.snapshot, new.into_iter().map(|revoked| revoked.revocation));
            self.publisher.set_revision(last);
        }
    }
}
