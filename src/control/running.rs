//! The running configuration: the snapshot that decides, and the services that were compiled with
//! it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::{ArcSwap, Guard};

use super::revocations::Publisher;
use super::{Clock, Services};
use crate::engine::{NodeCache, Snapshot};
use crate::model::UnixTime;
use crate::observe::audit::RunningSample;
use crate::session::Revocations;
use crate::store::StoredRevocation;

/// The running configuration, and the clock by which it decides. A reload replaces the
/// configuration; sessions and known facts survive.
pub(crate) struct Running {
    snapshot: ArcSwap<Snapshot>,
    services: ArcSwap<Services>,
    publisher: Publisher,
    known: Arc<NodeCache>,
    sample: RunningSample,
    generation: AtomicU64,
    clock: Clock,
}

impl Running {
    pub(super) fn new(snapshot: Snapshot, services: Services, clock: Clock) -> Self {
        let sample = RunningSample::default();
        sample.set(services.sample);
        Self {
            sample,
            generation: AtomicU64::new(snapshot.generation()),
            known: Arc::clone(snapshot.cache()),
            snapshot: ArcSwap::from_pointee(snapshot),
            services: ArcSwap::from_pointee(services),
            publisher: Publisher::default(),
            clock,
        }
    }

    /// Loads the snapshot for a moment: quicker than [`Running::snapshot`], and not to be kept.
    pub(crate) fn load(&self) -> Guard<Arc<Snapshot>> {
        self.snapshot.load()
    }

    /// Returns the snapshot that decides.
    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    pub(crate) fn services(&self) -> Arc<Services> {
        self.services.load_full()
    }

    pub(super) const fn cache(&self) -> &Arc<NodeCache> {
        &self.known
    }

    /// Returns the time by which requests are decided.
    pub(crate) fn now(&self) -> UnixTime {
        self.clock.now()
    }

    pub(super) const fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Returns `true` if this allowed request is to be audited.
    pub(crate) fn samples(&self) -> bool {
        self.sample.hit()
    }

    /// Returns the number of the next snapshot.
    pub(super) fn next_generation(&self) -> u64 {
        self.generation.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(super) fn replace(&self, snapshot: Snapshot, services: Services) {
        self.sample.set(services.sample);
        // Before the snapshot: a login that the new snapshot begins must find the identity
        // providers and terms of the same configuration.
        self.services.store(Arc::new(services));
        self.publisher.publish(&self.snapshot, |revocations| {
            snapshot.with_revocations(revocations)
        });
    }

    /// Publishes the running snapshot with other revocations.
    pub(super) fn change_revocations(&self, change: impl FnOnce(&mut Revocations)) {
        self.publisher.change(&self.snapshot, change);
    }

    /// Publishes the running snapshot with more revocations of the store.
    pub(super) fn apply_revocations(&self, more: impl IntoIterator<Item = StoredRevocation>) {
        self.publisher.apply(&self.snapshot, more);
    }

    /// Publishes the running snapshot without the revocations that cover nothing any more.
    pub(super) fn forget_revocations(&self, now: UnixTime) {
        self.publisher.forget(&self.snapshot, now);
    }
}
