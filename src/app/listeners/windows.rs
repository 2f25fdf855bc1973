//! HTTP/2 windows: the number of bytes of request bodies that are buffered for the origin.
//!
//! Decides the window of each new connection. Trusts no client: each may fill its window. Never
//! grants more than [`TOTAL`] to all connections together, beyond the least window that HTTP/2
//! gives to each.

use std::sync::atomic::{AtomicU32, Ordering};

/// The windows of this process.
pub(super) static WINDOWS: Budget = Budget::new(TOTAL);

/// Bytes that may still be granted.
pub(super) struct Budget(AtomicU32);

/// The window of a connection. Bytes beyond the least window return to the budget on drop.
pub(super) struct Window<'a> {
    budget: &'a Budget,
    extra: u32,
}

impl Budget {
    const fn new(total: u32) -> Self {
        Self(AtomicU32::new(total))
    }

    /// Grants a fixed share of the remaining budget, so more connections have smaller windows.
    pub(super) fn grant(&self) -> Window<'_> {
        let share = |left: u32| (left / SHARE).min(MOST - LEAST);
        let taken = self
            .0
            // Relaxed: the budget is one number, and no other memory depends on it.
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                Some(left - share(left))
            });
        Window {
            budget: self,
            extra: taken.map_or(0, share),
        }
    }
}

impl Window<'_> {
    /// In bytes.
    pub(super) const fn size(&self) -> u32 {
        LEAST + self.extra
    }
}

impl Drop for Window<'_> {
    fn drop(&mut self) {
        self.budget.0.fetch_add(self.extra, Ordering::Relaxed);
    }
}

/// RFC 9113 6.9.2: every connection begins with this.
const LEAST: u32 = 65_535;
// One upload may fill its stream's window, so the connection's is larger than that.
const MOST: u32 = 8 * 1024 * 1024;
// The most memory, beyond the least windows, that clients can fill with bodies that no origin
// reads.
const TOTAL: u32 = 512 * 1024 * 1024;
/// With this, the first connection has [`MOST`], the 100th 1.7 MiB and the 300th 140 KiB.
const SHARE: u32 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_shrink_with_their_number_and_return_when_dropped() {
        let budget = Budget::new(TOTAL);
        let windows: Vec<_> = (0..10_000).map(|_| budget.grant()).collect();
        let sizes: Vec<_> = windows.iter().map(Window::size).collect();
        assert_eq!(sizes[0], MOST);
        assert!(sizes.is_sorted_by(|a, b| a >= b));
        assert!((1_700_000..1_900_000).contains(&sizes[99]), "{}", sizes[99]);
        assert!((130_000..150_000).contains(&sizes[299]), "{}", sizes[299]);
        let total: u64 = sizes.iter().map(|size| u64::from(*size)).sum();
        assert!(
            total <= u64::from(TOTAL) + 10_000 * u64::from(LEAST),
            "{total}"
        );
        drop(windows);
        assert_eq!(budget.grant().size(), MOST);
    }
}
