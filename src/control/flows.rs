//! Logins in progress, and names that can be used once.

use std::time::Duration;

use moka::policy::EvictionPolicy;
use moka::sync::Cache;

use super::repositories::Watched;
use crate::cookie::SealingKey;
use crate::login::State;
use crate::model::{UnixTime, UserId};
use crate::store::{StoreError, UseRepository};

/// Logins in progress, and names that can be used once.
pub(crate) struct Flows {
    uses: Watched<dyn UseRepository>,
    seal: SealingKey,
    /// Names that this process saw used, for as long as they are valid. The store decides.
    used: Cache<String, ()>,
    /// The last sign-out of each user, for as long as it may explain a missing session.
    signed_out: Cache<UserId, UnixTime>,
    /// The states of logins with a long URL, and of those at a provider that returns only the
    /// flow's name. The browser holds everything but the long URL, too.
    begun: Cache<String, State>,
    /// Permits to verify the signatures of SAML responses, which any client can post.
    verifying: tokio::sync::Semaphore,
}

impl Flows {
    pub(super) fn new(uses: Watched<dyn UseRepository>, seal: SealingKey) -> Self {
        let used = Cache::builder()
            .time_to_live(USED_FOR)
            .max_capacity(MAX_USED);
        let begun = Cache::builder()
            .time_to_live(USED_FOR)
            .weigher(|_, state: &State| u32::try_from(state.size()).unwrap_or(u32::MAX))
            .max_capacity(MAX_BEGUN_BYTES);
        Self {
            uses,
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

    /// Uses up a name for the whole team, until `until`. Returns the store's latest revision, or
    /// `None` if any process on the store used the name before.
    ///
    /// # Errors
    /// If the store does not accept it. The name may be used then, so the caller must grant
    /// nothing.
    pub(crate) async fn use_up(
        &self,
        name: &str,
        until: UnixTime,
    ) -> Result<Option<u64>, StoreError> {
        // Saves a write for a repeated callback. Only the store can prove that a name is unused.
        if self.is_used_up(name) {
            return Ok(None);
        }
        let revision = self
            .uses
            .first_use(name, until.after(CLOCK_DIFFERENCE))
            .await
            .inspect_err(|error| self.uses.failed(error))?;
        self.used.insert(name.to_owned(), ());
        Ok(revision)
    }

    /// Remembers that a user signed out, so that the next login does not count as part of a loop.
    pub(crate) fn remember_sign_out(&self, user: &UserId, now: UnixTime) {
        self.signed_out.insert(user.clone(), now);
    }

    /// Returns the time of the user's last sign-out, if it was at this process within the last
    /// minute.
    pub(crate) fn signed_out(&self, user: &UserId) -> Option<UnixTime> {
        self.signed_out.get(user)
    }

    /// Returns `true` if this process knows that the name was used.
    pub(crate) fn is_used_up(&self, name: &str) -> bool {
        self.used.contains_key(name)
    }

    /// Remembers the state of a login.
    pub(crate) fn remember_begun(&self, state: &State) {
        self.begun.insert(state.flow.clone(), state.clone());
    }

    /// Returns the state of the login of that name, if it began at this process and is remembered.
    pub(crate) fn begun(&self, flow: &str) -> Option<State> {
        self.begun.get(flow)
    }

    /// Runs work that is long on the processor, on a thread for blocking work; `None` if too many
    /// others wait.
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

/// The store forgets a name only after a process with a slow clock considers it expired, too.
const CLOCK_DIFFERENCE: Duration = Duration::from_secs(600);
/// Longer than the lifetime of any flow or hand-over.
const USED_FOR: Duration = Duration::from_secs(1800);
// Bounds the memory only. A name that is evicted is still found in the store.
const MAX_USED: u64 = 1_000_000;
/// Longer than the time in which logins count as a loop.
const SIGNED_OUT_FOR: Duration = Duration::from_secs(60);
// An evicted sign-out costs its user one count in the loop detection and nothing else.
const MAX_SIGNED_OUT: u64 = 100_000;
// Any client can begin logins, so memory is bounded in bytes. A login with a long URL that was
// evicted ends at the front page.
const MAX_BEGUN_BYTES: u64 = 16 << 20;
// Any client can post a response, so verification may occupy two threads only; five seconds cover a
// burst of logins.
const VERIFYING: usize = 2;
const VERIFYING_WAIT: Duration = Duration::from_secs(5);
