//! The work of the background tasks, which no request waits for.
//!
//! Decides when changes of other nodes, unpersisted revocations and expired rows are handled.
//! Trusts the store's own time. Never ends because a part fails: the next round tries again.

use std::sync::Arc;

use super::changes::Follower;
use super::identities::Identities;
use super::issuer::TokenIssuer;
use super::revoker::Revoker;
use super::running::Running;
use super::store_watch::StoreWatch;
use crate::model::UnixTime;

/// The parts that the background tasks keep up to date.
pub(super) struct Upkeep {
    pub(super) running: Arc<Running>,
    pub(super) issuer: Arc<TokenIssuer>,
    pub(super) identities: Arc<Identities>,
    pub(super) follower: Follower,
    pub(super) revoker: Arc<Revoker>,
    pub(super) store: Arc<StoreWatch>,
}

impl Upkeep {
    /// Applies the changes of other nodes, then writes the revocations that the store lacks.
    pub(super) async fn follow_changes(&self) {
        match self.follower.follow(self.running.now()).await {
            // Only after a successful read: persisting begins with reads, so each attempt would
            // fail and log a second error. It logs its own errors.
            Ok(()) => drop(self.revoker.persist_revocations().await),
            Err(error) => self.store.failed(&error),
        }
    }

    /// Deletes everything that has expired by the store's own time: one wrong reading of the clock
    /// hardly changes that.
    pub(super) async fn prune(&self, now: UnixTime) {
        let time = match self.store.advance(now).await {
            Ok(time) => time,
            Err(error) => return self.store.failed(&error),
        };
        self.running.forget_revocations(time);
        loop {
            match self.store.prune(time).await {
                Ok(pruned) if pruned.is_full() => {}
                Ok(_) => return,
                Err(error) => return self.store.failed(&error),
            }
        }
    }

    /// Reads the country database again if its file changed.
    pub(super) async fn check_countries(&self) {
        let Some(countries) = self.running.services().countries.clone() else {
            return;
        };
        let looked = tokio::task::spawn_blocking(move || countries.reload_if_changed());
        if let Err(error) = looked.await {
            tracing::error!(%error, "keeping the previous country database");
        }
    }
}
