use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

tokio::task_local! {
    static CURRENT: Arc<Progress>;
}

/// The progress of a request, for the listener that enforces the time limits of clients.
///
/// [`AccessProxy`](super::AccessProxy) reports to the instance that [`Progress::track`] has set for
/// its task. Without one, the reports go nowhere.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    has_head: AtomicBool,
    /// `true` while a part of the body is still to come.
    has_body: AtomicBool,
    /// The time at which the awaited body last moved, in milliseconds since `START`; 0 if no body is
    /// awaited.
    body_moved: AtomicU64,
}

impl Progress {
    /// Runs the processing of one request, and receives its reports.
    pub(crate) async fn track<F: Future>(self: &Arc<Self>, request: F) -> F::Output {
        CURRENT.scope(Arc::clone(self), request).await
    }

    /// Resets the progress for the next request of the connection.
    pub(crate) fn restart(&self) {
        self.has_head.store(false, Ordering::Relaxed);
        self.end_body();
    }

    fn end_body(&self) {
        self.has_body.store(false, Ordering::Relaxed);
        self.body_moved.store(0, Ordering::Relaxed);
    }

    /// Returns `true` if the head of the request has been read.
    pub(crate) fn has_head(&self) -> bool {
        self.has_head.load(Ordering::Relaxed)
    }

    /// Returns the time since the awaited body last moved, or `None` if no body is awaited.
    pub(crate) fn body_gap(&self) -> Option<Duration> {
        match self.body_moved.load(Ordering::Relaxed) {
            0 => None,
            moved => Some(Duration::from_millis(now().saturating_sub(moved))),
        }
    }

    pub(super) fn report_head(has_body: bool) {
        Self::report(|progress| {
            progress.has_head.store(true, Ordering::Relaxed);
            progress.has_body.store(has_body, Ordering::Relaxed);
            progress.body_moved.store(0, Ordering::Relaxed);
        });
    }

    /// Reports that the body is read from now on. Before that, a client that has filled the windows
    /// cannot continue, so its gap must not count.
    pub(super) fn report_reading() {
        Self::report(|progress| {
            if progress.has_body.load(Ordering::Relaxed) {
                progress.body_moved.store(now(), Ordering::Relaxed);
            }
        });
    }

    /// Reports a part of the body, not the last one.
    pub(super) fn report_body_part() {
        Self::report(|progress| {
            // A body that is no longer awaited is never awaited again.
            if progress.body_moved.load(Ordering::Relaxed) != 0 {
                progress.body_moved.store(now(), Ordering::Relaxed);
            }
        });
    }

    /// Reports the end of the body.
    pub(super) fn report_body_end() {
        Self::report(Self::end_body);
    }

    /// Reports that the origin responds. From here on a client may be idle, because both sides may
    /// take turns, as with gRPC.
    pub(super) fn report_response() {
        Self::report(Self::end_body);
    }

    fn report(change: impl FnOnce(&Self)) {
        // Outside of `track` there is no listener to report to.
        let _untracked = CURRENT.try_with(|progress| change(progress));
    }
}

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Returns the milliseconds since the first call; never 0.
fn now() -> u64 {
    u64::try_from(START.elapsed().as_millis())
        .unwrap_or(u64::MAX)
        .saturating_add(1)
}
