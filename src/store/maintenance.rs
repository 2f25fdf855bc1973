use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::StoreError;
use crate::model::UnixTime;

/// The store's own time, deletion of expired rows, and health.
#[async_trait]
pub trait Maintenance: Send + Sync {
    /// Advances the store's own time towards `now`, by at most [`CLOCK_STEP`], and returns it. It
    /// never runs ahead of `now`. Deletions for age are judged by this time, so that one wrong
    /// reading of a clock deletes nothing.
    async fn advance_clock(&self, now: UnixTime) -> Result<UnixTime, StoreError>;

    /// Deletes expired rows, at most [`BATCH`] of each kind. `now` is the store's own time.
    async fn prune(&self, now: UnixTime) -> Result<Pruned, StoreError>;

    /// Writes as much as a logout does, and removes it again, to find out whether writes succeed.
    async fn probe(&self) -> Result<(), StoreError>;

    /// Returns the cause if the last write failed.
    fn write_failure(&self) -> Option<Arc<str>>;
}

/// The most that [`Maintenance::advance_clock`] advances in one call.
pub const CLOCK_STEP: Duration = Duration::from_secs(3600);

/// The most rows of a kind that one [`Maintenance::prune`] deletes, so that it never delays a login
/// for long.
pub const BATCH: usize = 1_000;

/// The number of rows that a [`Maintenance::prune`] deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Identity records.
    pub identities: u64,
    /// Revocations.
    pub revocations: u64,
    /// Names that were used.
    pub uses: u64,
}

impl Pruned {
    /// Returns `true` if a batch was filled, so that there may be more to delete.
    pub const fn is_full(self) -> bool {
        self.identities >= BATCH as u64
            || self.revocations >= BATCH as u64
            || self.uses >= BATCH as u64
    }
}
