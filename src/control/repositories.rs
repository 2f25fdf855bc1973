//! The repositories of the store, one for each part that uses it.
//!
//! Decides nothing. Hands a part the repositories that it uses and no other. Never hides an error:
//! the caller gets it, and [`Watched::failed`] logs and counts it.

use std::ops::Deref;
use std::sync::Arc;

use super::store_watch::StoreWatch;
use crate::model::UnixTime;
use crate::store::{
    ChangeLog, KeyRepository, LoginRepository, RevocationRepository, Store, StoreError,
    UseRepository,
};

/// The store and its watch, from which the parts of the control path get their repositories.
pub(super) struct WatchedStore {
    store: Arc<dyn Store>,
    watch: Arc<StoreWatch>,
}

impl WatchedStore {
    pub(super) async fn start(store: Arc<dyn Store>, now: UnixTime) -> Self {
        let watch = Arc::new(StoreWatch::start(Arc::clone(&store) as _, now).await);
        Self { store, watch }
    }

    /// Returns the store's time and health.
    pub(super) const fn watch(&self) -> &Arc<StoreWatch> {
        &self.watch
    }

    pub(super) fn keys(&self) -> Watched<dyn KeyRepository> {
        self.watched(Arc::clone(&self.store) as _)
    }

    pub(super) fn logins(&self) -> Watched<dyn LoginRepository> {
        self.watched(Arc::clone(&self.store) as _)
    }

    pub(super) fn revocations(&self) -> Watched<dyn RevocationRepository> {
        self.watched(Arc::clone(&self.store) as _)
    }

    pub(super) fn uses(&self) -> Watched<dyn UseRepository> {
        self.watched(Arc::clone(&self.store) as _)
    }

    pub(super) fn changes(&self) -> Watched<dyn ChangeLog> {
        self.watched(Arc::clone(&self.store) as _)
    }

    fn watched<R: ?Sized>(&self, repository: Arc<R>) -> Watched<R> {
        Watched {
            repository,
            watch: Arc::clone(&self.watch),
        }
    }
}

/// A repository of the store, with the watch that its failures are reported to.
pub(super) struct Watched<R: ?Sized> {
    repository: Arc<R>,
    watch: Arc<StoreWatch>,
}

impl<R: ?Sized> Watched<R> {
    /// Logs and counts an error of the store.
    pub(super) fn failed(&self, error: &StoreError) {
        self.watch.failed(error);
    }
}

impl<R: ?Sized> Deref for Watched<R> {
    type Target = R;

    fn deref(&self) -> &R {
        &self.repository
    }
}
