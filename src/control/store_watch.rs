//! The health of the store and its time.
//!
//! Decides nothing about requests: sessions go on while the store takes no writes. Trusts the
//! store's own time, and not one reading of this machine's clock, for everything that is deleted
//! for its age.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::model::{UnixTime, chain};
use crate::observe::metrics::metrics;
use crate::store::{Maintenance, Pruned, StoreError};

/// The store's time as it was last read, and its health.
pub(super) struct StoreWatch {
    store: Arc<dyn Maintenance>,
    time: AtomicU64,
    lags: AtomicBool,
    rounds: AtomicU32,
    /// The number of probes in a row that failed.
    failures: AtomicU32,
}

impl StoreWatch {
    /// Reads the store's time. If that fails, nothing counts as old until it succeeds.
    pub(super) async fn start(store: Arc<dyn Maintenance>, now: UnixTime) -> Self {
        let watch = Self {
            store,
            time: AtomicU64::default(),
            lags: AtomicBool::default(),
            rounds: AtomicU32::default(),
            failures: AtomicU32::default(),
        };
        if let Err(error) = watch.advance(now).await {
            tracing::error!(
                error = chain(&error),
                "the store's time could not be read; expired rows are not deleted"
            );
        }
        watch
    }

    /// The store's own time, which is never later than the clock was when it was read.
    pub(super) fn time(&self) -> UnixTime {
        UnixTime(self.time.load(Ordering::Relaxed))
    }

    /// Advances the store's time towards the clock.
    pub(super) async fn advance(&self, now: UnixTime) -> Result<UnixTime, StoreError> {
        let time = self.store.advance_clock(now).await?;
        self.time.store(time.0, Ordering::Relaxed);
        let behind = now.since(time);
        let lags = behind >= LAG;
        if lags != self.lags.swap(lags, Ordering::Relaxed) {
            let hours = behind.as_secs() / 3600;
            match lags {
                true => tracing::warn!(
                    hours,
                    "the clock is ahead of the store's last recorded time; expired rows are not \
                     deleted until the \
                     store's time catches up, by an hour every ten minutes"
                ),
                false => tracing::info!("the store's time has caught up with the clock"),
            }
        }
        Ok(time)
    }

    /// Deletes at most one batch of rows that have expired by the store's time.
    pub(super) async fn prune(&self, time: UnixTime) -> Result<Pruned, StoreError> {
        self.store.prune(time).await
    }

    /// Logs and counts an error of the store.
    pub(super) fn failed(&self, error: &StoreError) {
        metrics().store_error(error);
        self.show_health();
        tracing::error!(error = %chain(error), "the store did not respond");
    }

    /// Probes the store with a write: on every call while the store takes none, else on every
    /// third. Logs at once and then once a minute while it does not.
    pub(super) async fn check_health(&self) {
        let round = self.rounds.fetch_add(1, Ordering::Relaxed);
        if self.store.write_failure().is_none() && !round.is_multiple_of(PROBE_EVERY) {
            return self.show_health();
        }
        let probed = self.store.probe().await;
        let failures = &self.failures;
        match probed {
            Ok(()) => {
                if failures.swap(0, Ordering::Relaxed) > 0 {
                    tracing::info!("writing to the store works again");
                }
            }
            Err(error) => {
                if failures
                    .fetch_add(1, Ordering::Relaxed)
                    .is_multiple_of(LOG_EVERY)
                {
                    let error = chain(&error);
                    tracing::error!(
                        error,
                        "cannot write to the store: logins and logouts fail, sessions continue"
                    );
                }
            }
        }
        self.show_health();
    }

    /// Returns the cause if the last write to the store failed. Logins and logouts fail then;
    /// sessions go on.
    pub(super) fn write_failure(&self) -> Option<Arc<str>> {
        self.store.write_failure()
    }

    fn show_health(&self) {
        metrics().store_writable(self.store.write_failure().is_none());
    }
}

/// The least difference that is logged: machines may be off for shorter times.
const LAG: Duration = Duration::from_secs(24 * 3600);

/// The number of calls between probes: half a minute.
const PROBE_EVERY: u32 = 3;

/// The number of failed probes between log lines: a minute.
const LOG_EVERY: u32 = 6;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MemoryStore;

    #[tokio::test]
    async fn time_lags_behind_a_clock_that_jumps_and_catches_up() {
        let start = UnixTime(1_800_000_000);
        let watch = StoreWatch::start(Arc::new(MemoryStore::new()), start).await;
        assert_eq!(watch.time(), start);
        let jumped = start.after(Duration::from_secs(10_000));
        let mut times = Vec::new();
        for _ in 0..4 {
            watch.advance(jumped).await.unwrap();
            times.push(watch.time().since(start).as_secs());
        }
        assert_eq!(times, [3600, 7200, 10_000, 10_000]);
    }
}
