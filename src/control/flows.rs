//! What this process remembers of logins under way.

use std::sync::Arc;
use std::time::Duration;

use moka::policy::EvictionPolicy;
use moka::sync::Cache;

use super::store_watch::WatchedStore;
use crate::cookie::SealingKey;
use crate::login::State;
use crate::model::{UnixTime, UserId};
use crate::store::StoreError;

/// Logins under way, and names that can be used once.
pub(crate) struct Flows {
    store: Arc<WatchedStore>,
    seal: SealingKey,
    /// Names that this process saw used, for as long as they could be used again. The store
    /// decides.
    used: Cache<String, ()>,
    /// When users signed out last, for as long as it may explain a session that is gone.
    signed_out: Cache<UserId, UnixTime>,
    /// States of logins with a long address, or whose provider returns only the name of the flow.
    /// The browser has everything but the long address, too.
    begun: Cache<String, State>,
    /// Turns at the signatures of SAML responses, which anybody may have verified.
    verifying: tokio::sync::Semaphore,
}

impl Flows {
    pub(super) fn new(store: Arc<WatchedStore>, seal: SealingKey) -> Self {
        let used = Cache::builder()
            .time_to_live(USED_FOR)
            .max_capacity(MAX_USED);
        let begun = Cache::builder()
            .time_to_live(USED_FOR)
            .weigher(|_, state: &State| u32::try_from(state.size()).unwrap_or(u32::MAX))
            .max_capacity(MAX_BEGUN_BYTES);
        Self {
            store,
            seal,
            used: used.eviction_policy(EvictionPolicy::lru()).build(),
            signed_out: Cache::builder()
                .time_to_live(SIGNED_OUT_FOR)
                .max_capacity(MAX_SIGNED_OUT)
                .build(),
            begun: begun.eviction_policy(EvictionPolicy::lru()).build(),
            verifying: tokio::sync::Semaphore::new(VERIFYING),
        }
    }

    /// Returns the key that seals everything that a browser carries and brings back.
    pub(crate) const fn seal(&self) -> &SealingKey {
        &self.seal
    }

    /// Uses up a name for the whole team, until `until`. Returns `false` if it was used before, at
    /// any process on the store.
    ///
    /// # Errors
    /// If the store does not accept it. Whether it is used is then unknown, so it must not be
    /// granted anything.
    pub(crate) async fn use_up(&self, name: &str, until: UnixTime) -> Result<bool, StoreError> {
        if self.is_used_up(name) {
            return Ok(false);
        }
        let is_first = self
            .store
            .first_use(name, until.after(CLOCK_DIFFERENCE))
            .await
            .inspect_err(|error| self.store.failed(error))?;
        self.used.insert(name.to_owned(), ());
        Ok(is_first)
    }

    /// Remembers that a user signed out, so that the next login is not taken for one of a loop.
    pub(crate) fn remember_sign_out(&self, user: &UserId, now: UnixTime) {
        self.signed_out.insert(user.clone(), now);
    }

    /// Returns when the user signed out last, if it was in the last minute and at this process.
    pub(crate) fn signed_out(&self, user: &UserId) -> Option<UnixTime> {
        self.signed_out.get(user)
    }

    /// Returns `true` if this process knows that the name was used.
    pub(crate) fn is_used_up(&self, name: &str) -> bool {
        self.used.contains_key(name)
    }

    /// Remembers what a login is for.
    pub(crate) fn remember_begun(&self, state: &State) {
        self.begun.insert(state.flow.clone(), state.clone());
    }

    /// What the login of that name is for, where this node began it and remembers it.
    pub(crate) fn begun(&self, flow: &str) -> Option<State> {
        self.begun.get(flow)
    }

    /// Does what takes the processor for long, out of the way of all that waits; `None` where too
    /// many others do.
    pub(crate) async fn verify<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let _turn = tokio::time::timeout(VERIFYING_WAIT, self.verifying.acquire())
            .await
            .ok()?
            .ok()?;
        tokio::task::spawn_blocking(work).await.ok()
    }
}

/// The store forgets a name only after a process with a slow clock, too, sees that it has expired.
const CLOCK_DIFFERENCE: Duration = Duration::from_secs(600);
/// Longer than any flow or hand-over lives.
const USED_FOR: Duration = Duration::from_secs(1800);
const MAX_USED: u64 = 1_000_000;
/// Longer than logins count as a loop.
const SIGNED_OUT_FOR: Duration = Duration::from_secs(60);
const MAX_SIGNED_OUT: u64 = 100_000;
const MAX_BEGUN_BYTES: u64 = 16 << 20;
const VERIFYING: usize = 2;
const VERIFYING_WAIT: Duration = Duration::from_secs(5);
