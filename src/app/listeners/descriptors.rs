use std::os::fd::RawFd;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// The file descriptors that connections from clients and to origins may use.
///
/// A new descriptor has the lowest free number. So a number at or above the limit shows that all
/// below are in use, and nothing has to be counted.
#[derive(Debug)]
pub(in crate::app) struct Descriptors {
    first_reserved: RawFd,
    reported: Mutex<Option<Instant>>,
}

impl Descriptors {
    /// Raises the soft limit of the process to the hard one, and reserves the last descriptors for
    /// the listener of the metrics.
    pub(in crate::app) fn raise() -> Self {
        let limit = getrlimit(Resource::RLIMIT_NOFILE).map(|(soft, hard)| {
            match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
                // Services often start with a soft limit of 1024, which two connections per request
                // use up.
                Ok(()) => hard,
                Err(error) => {
                    tracing::warn!(%error, soft, hard, "cannot raise the limit of open files");
                    soft
                }
            }
        });
        let limit = limit
            .ok()
            .and_then(|limit| RawFd::try_from(limit).ok())
            // Without a known limit nothing is reserved.
            .unwrap_or(RawFd::MAX);
        Self {
            first_reserved: limit.saturating_sub(RESERVED),
            reported: Mutex::new(None),
        }
    }

    /// Returns the first descriptor that connections from clients and to origins may not use.
    pub(in crate::app) const fn first_reserved(&self) -> RawFd {
        self.first_reserved
    }

    /// Returns `true` if the connection with this descriptor has to be closed. A warning is logged
    /// at most once a minute.
    pub(super) fn is_reserved(&self, descriptor: RawFd) -> bool {
        if descriptor < self.first_reserved {
            return false;
        }
        let mut reported = self
            .reported
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if reported.is_none_or(|at| at.elapsed() > Duration::from_secs(60)) {
            *reported = Some(Instant::now());
            tracing::warn!(
                limit = self.first_reserved.saturating_add(RESERVED),
                "closing new connections: the process has no file descriptors left; raise its limit (systemd: `LimitNOFILE=`)",
            );
        }
        true
    }
}

/// Enough for a scraper, health checks and the files of the control path.
const RESERVED: RawFd = 32;
