//! The clock of the control path, the gate and the portal.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::model::UnixTime;

/// The time: the system's, or one that a test sets.
#[derive(Clone, Debug, Default)]
pub struct Clock(Source);

#[derive(Clone, Debug, Default)]
enum Source {
    #[default]
    System,
    Manual(Arc<ManualClock>),
}

/// A clock for tests. It moves only by [`ManualClock::advance`].
#[derive(Debug)]
pub struct ManualClock {
    start: UnixTime,
    epoch: Instant,
    /// In milliseconds.
    advanced: AtomicU64,
}

impl Clock {
    /// Returns the wall-clock time.
    pub fn now(&self) -> UnixTime {
        match &self.0 {
            Source::System => UnixTime::now(),
            Source::Manual(clock) => clock.start.after(clock.advanced()),
        }
    }

    /// Returns the monotonic time, for intervals within this process.
    pub(crate) fn instant(&self) -> Instant {
        match &self.0 {
            Source::System => Instant::now(),
            Source::Manual(clock) => clock.epoch + clock.advanced(),
        }
    }
}

impl From<Arc<ManualClock>> for Clock {
    fn from(clock: Arc<ManualClock>) -> Self {
        Self(Source::Manual(clock))
    }
}

impl ManualClock {
    /// Returns a clock that shows `start`.
    pub fn new(start: UnixTime) -> Arc<Self> {
        Arc::new(Self {
            start,
            epoch: Instant::now(),
            advanced: AtomicU64::new(0),
        })
    }

    /// Moves the clock forward. Fractions of a millisecond are dropped.
    pub fn advance(&self, by: Duration) {
        let by = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        self.advanced.fetch_add(by, Ordering::Relaxed);
    }

    fn advanced(&self) -> Duration {
        Duration::from_millis(self.advanced.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manual_clock_moves_only_when_it_is_advanced() {
        let manual = ManualClock::new(UnixTime(1_800_000_000));
        let clock = Clock::from(Arc::clone(&manual));
        let before = clock.instant();
        assert_eq!(clock.now(), UnixTime(1_800_000_000));
        manual.advance(Duration::from_millis(90_500));
        assert_eq!(clock.now(), UnixTime(1_800_000_090));
        assert_eq!(clock.instant() - before, Duration::from_millis(90_500));
    }
}
