use std::time::{Duration, Instant};

/// Limits the fetches that messages of others cause: [`FetchBudget::BURST`] at once, then one in
/// each interval.
#[derive(Debug)]
pub(crate) struct FetchBudget {
    interval: Duration,
    left: u32,
    /// When the next fetch begins to be earned.
    since: Instant,
}

impl FetchBudget {
    /// One fetch finds a change of keys, and a second one finds the next change soon after it.
    // Two, because keys can rotate just after a fetch. The second fetch then finds the new ones at
    // once.
    pub(crate) const BURST: u32 = 2;

    pub(crate) const fn new(interval: Duration, now: Instant) -> Self {
        Self {
            interval,
            left: Self::BURST,
            since: now,
        }
    }

    /// Takes one fetch. Returns `false` if none is left.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        self.earn(now);
        // The interval begins with the first use, so an idle budget does not save up more than the
        // burst.
        if self.left == Self::BURST {
            self.since = now;
        }
        let Some(left) = self.left.checked_sub(1) else {
            return false;
        };
        self.left = left;
        true
    }

    /// Returns the time until there is a fetch to take; zero if there is one.
    pub(crate) fn wait(&mut self, now: Instant) -> Duration {
        self.earn(now);
        if self.left > 0 {
            Duration::ZERO
        } else {
            (self.since + self.interval).saturating_duration_since(now)
        }
    }

    fn earn(&mut self, now: Instant) {
        while self.left < Self::BURST && now.saturating_duration_since(self.since) >= self.interval
        {
            self.left += 1;
            self.since += self.interval;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budget_allows_a_burst_and_then_one_fetch_in_each_interval() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut budget = FetchBudget::new(Duration::from_secs(30), start);
        assert!(budget.take(at(1000)) && budget.take(at(1001)));
        assert!(!budget.take(at(1002)));
        assert_eq!(budget.wait(at(1010)), Duration::from_secs(20));
        assert!(!budget.take(at(1029)));
        assert!(budget.take(at(1030)) && !budget.take(at(1031)) && !budget.take(at(1059)));
        assert!(budget.take(at(1060)) && !budget.take(at(1060)));
        // A quiet time earns the burst again and no more.
        assert_eq!(budget.wait(at(9000)), Duration::ZERO);
        assert!(budget.take(at(9000)) && budget.take(at(9000)) && !budget.take(at(9000)));
        // A hundred calls in each of a hundred seconds.
        let taken = (10_000..10_100)
            .map(|second| (0..100).filter(|_| budget.take(at(second))).count())
            .sum::<usize>();
        assert_eq!(taken, 2 + 100 / 30);
    }
}
