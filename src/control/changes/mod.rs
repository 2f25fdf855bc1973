//! Following the store's change log: a change by one node takes effect at all others.
//!
//! Decides when revocations, identity records and signing keys of other nodes replace those known
//! here. Trusts the order of the log. Never skips a change: if entries are missing, everything is
//! read again, and sessions are stale until that has succeeded.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::identities::{Identities, Reread};
use super::issuer::TokenIssuer;
use super::repositories::{Watched, WatchedStore};
use super::running::Running;
use crate::model::{IdentityNonce, UnixTime};
use crate::observe::metrics::metrics;
use crate::store::{Change, ChangeLog, Changes, Position, RevocationRepository, StoreError};

/// Follows the change log.
pub(super) struct Follower {
    running: Arc<Running>,
    log: Watched<dyn ChangeLog>,
    revocations: Watched<dyn RevocationRepository>,
    issuer: Arc<TokenIssuer>,
    identities: Arc<Identities>,
    progress: tokio::sync::Mutex<Progress>,
}

/// The position in the log, and the changes before it that are not in effect yet. They survive a
/// round that fails.
#[derive(Default)]
struct Progress {
    /// `None` if everything has to be read.
    position: Option<Position>,
    /// The last revision that was followed, also before a gap.
    revision: u64,
    records: Outdated,
    keys_changed: bool,
}

/// The identity records that may differ from those in the store.
enum Outdated {
    Some(HashSet<IdentityNonce>),
    All,
}

impl Default for Outdated {
    fn default() -> Self {
        Self::Some(HashSet::new())
    }
}

impl Follower {
    pub(super) fn new(
        running: &Arc<Running>,
        store: &WatchedStore,
        issuer: &Arc<TokenIssuer>,
        identities: &Arc<Identities>,
    ) -> Self {
        Self {
            running: Arc::clone(running),
            log: store.changes(),
            revocations: store.revocations(),
            issuer: Arc::clone(issuer),
            identities: Arc::clone(identities),
            progress: tokio::sync::Mutex::default(),
        }
    }

    /// Applies the changes since the last call. After that, sessions are valid for `max_stale`: if
    /// no later call succeeds, they end then.
    ///
    /// # Errors
    /// If the store cannot be read. The next call goes on from there.
    pub(super) async fn follow(&self, now: UnixTime) -> Result<(), StoreError> {
        let mut progress = self.progress.lock().await;
        // All revocations take effect first: reading records and keys may take longer.
        self.read_log(&mut progress).await?;
        self.apply_records(&mut progress, now).await;
        if progress.keys_changed {
            self.issuer.reload_keys(now).await?;
            progress.keys_changed = false;
        }
        let max_stale = self.running.services().revocations_max_stale;
        self.running.cache().set_revocations_good_until(
            max_stale.map_or(UnixTime(u64::MAX), |most| now.after(most)),
        );
        metrics().revocations_followed(now);
        Ok(())
    }

    /// Reads the log to its end and applies the revocations in it.
    async fn read_log(&self, progress: &mut Progress) -> Result<(), StoreError> {
        let mut position = match progress.position {
            Some(position) => position,
            None => self.read_all(progress).await?,
        };
        loop {
            match self.log.changes_after(position).await? {
                Changes::Next { position: last, .. } if last == position => return Ok(()),
                Changes::Next {
                    changes,
                    position: last,
                } => {
                    self.apply(progress, changes);
                    position = last;
                    progress.position = Some(last);
                    progress.revision = last.revision;
                }
                Changes::Gap => {
                    tracing::warn!(
                        revision = position.revision,
                        "the store's change log was pruned or restored since it was last read; \
                         reading everything again"
                    );
                    progress.position = None;
                    progress.records = Outdated::All;
                    progress.keys_changed = true;
                    position = self.read_all(progress).await?;
                }
            }
        }
    }

    /// Reads all revocations and returns the position up to which they are complete.
    async fn read_all(&self, progress: &mut Progress) -> Result<Position, StoreError> {
        // The position comes first: a revocation that is added in the meantime is read twice and
        // never missed.
        let position = self.log.newest_position(progress.revision).await?;
        let mut revision = 0;
        loop {
            let page = self.revocations.revocations_after(revision).await?;
            let Some(last) = page.last() else { break };
            revision = last.revision;
            self.running.apply_revocations(page);
        }
        progress.position = Some(position);
        progress.revision = position.revision;
        Ok(position)
    }

    /// Applies the revocations among the changes, and notes the others.
    fn apply(&self, progress: &mut Progress, changes: Vec<Change>) {
        let mut revocations = Vec::new();
        for change in changes {
            match change {
                Change::Revocation(revocation) => revocations.push(revocation),
                Change::Identity(nonce) => match &mut progress.records {
                    Outdated::Some(nonces) => drop(nonces.insert(nonce)),
                    Outdated::All => {}
                },
                Change::SigningKeys => progress.keys_changed = true,
            }
        }
        if !revocations.is_empty() {
            self.running.apply_revocations(revocations);
        }
    }

    /// Reads changed records again. Those that cannot be read in a short time are forgotten, and
    /// read when a request needs them: they must not delay the next revocation.
    async fn apply_records(&self, progress: &mut Progress, now: UnixTime) {
        let nonces = match std::mem::take(&mut progress.records) {
            Outdated::All => return self.identities.forget_all(),
            Outdated::Some(nonces) => nonces,
        };
        let mut deadline = Instant::from_std(self.running.clock().instant()) + READING;
        for nonce in nonces {
            self.identities.note_change(nonce);
            let read = tokio::time::timeout_at(deadline, self.identities.reread(nonce, now));
            match read.await {
                Ok(Ok(Reread::Current)) => continue,
                Ok(Ok(Reread::StoreIsBehind)) => {
                    // In a task of its own: a write may wait for other processes.
                    let identities = Arc::clone(&self.identities);
                    tokio::spawn(async move { identities.write_back(nonce).await });
                    continue;
                }
                Ok(Err(error)) => {
                    self.log.failed(&error);
                    deadline = Instant::from_std(self.running.clock().instant());
                }
                Err(_) => {}
            }
            self.identities.forget(nonce);
        }
    }
}

/// The time for reading records in one round.
const READING: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests;
