//! The identities behind logins: from our store, or from the team that signed the token.
//!
//! Decides when an identity is read again. Trusts the store's records and a remote team's answers.
//! Never replaces a known identity because a look-up failed.

mod refresh;

use std::sync::Arc;
use std::time::Duration;

use moka::Entry;
use moka::policy::EvictionPolicy;

use self::refresh::is_behind;
use super::issuer::TokenIssuer;
use super::records::Records;
use super::revoker::Revoker;
use super::running::Running;
use crate::engine::IdentityState;
use crate::model::{Identity, IdentityNonce, Secret, UnixTime};
use crate::store::StoreError;

/// The state of a record that was read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reread {
    /// The store and this process agree, or the record is not known here.
    Current,
    /// This process knows a later login or later groups than the store.
    StoreIsBehind,
}

/// Finds the identities behind logins, and keeps their groups up to date.
pub(crate) struct Identities {
    running: Arc<Running>,
    issuer: Arc<TokenIssuer>,
    records: Arc<Records>,
    revoker: Arc<Revoker>,
    /// Logins that an edge node may have queried, with the end of the session there.
    queried: moka::sync::Cache<IdentityNonce, UnixTime>,
}

impl Identities {
    pub(super) fn new(
        running: Arc<Running>,
        issuer: Arc<TokenIssuer>,
        records: Arc<Records>,
        revoker: Arc<Revoker>,
    ) -> Self {
        let queried = moka::sync::Cache::builder().max_capacity(MAX_QUERIED);
        Self {
            running,
            issuer,
            records,
            revoker,
            queried: queried.eviction_policy(EvictionPolicy::lru()).build(),
        }
    }

    /// Returns the record that the engine knows, if it is one of our own store.
    pub(super) fn known(&self, nonce: IdentityNonce) -> Option<Arc<Identity>> {
        self.records.known(nonce)
    }

    /// Returns the identity record behind a login.
    ///
    /// # Errors
    /// If the store does not answer.
    pub(crate) async fn identity(
        &self,
        nonce: IdentityNonce,
        now: UnixTime,
    ) -> Result<Option<Arc<Identity>>, StoreError> {
        match self.running.cache().identity(&nonce) {
            Some(IdentityState::Known(identity) | IdentityState::Borrowed { identity, .. }) => {
                return Ok(Some(identity));
            }
            Some(IdentityState::Missing | IdentityState::Refused { .. }) => return Ok(None),
            Some(IdentityState::Unavailable { .. }) | None => {}
        }
        // A remote team's records are not in our store, so their absence means nothing.
        if matches!(*self.issuer, TokenIssuer::Remote(_)) {
            return Ok(None);
        }
        let mut result = Ok(None);
        for _ in 0..2 {
            let seen = self.records.seen(&nonce);
            result = self.read(nonce, now).await;
            if self.records.seen(&nonce) == seen {
                break;
            }
            // The record changed while it was read, and this may be the older one. If it changes
            // all the time, the request fails, and the next one reads it again.
            self.records.forget(nonce);
        }
        result
    }

    /// Reads a record from the store, and publishes it to the engine.
    async fn read(
        &self,
        nonce: IdentityNonce,
        now: UnixTime,
    ) -> Result<Option<Arc<Identity>>, StoreError> {
        let found = self
            .records
            .read(nonce)
            .await
            .inspect_err(|error| self.records.failed(error));
        let (state, result) = match found {
            Ok(Some(identity)) => match self.freshened(nonce, Arc::new(identity), now).await {
                Some(identity) => (
                    IdentityState::Known(Arc::clone(&identity)),
                    Ok(Some(identity)),
                ),
                None => (IdentityState::Missing, Ok(None)),
            },
            Ok(None) => (IdentityState::Missing, Ok(None)),
            Err(error) => (
                IdentityState::Unavailable {
                    retry_from: now.after(RETRY_IDENTITY),
                },
                Err(error),
            ),
        };
        self.running.cache().found_identity(nonce, state);
        result
    }

    /// Reads a record that another node changed again, if it is known here.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub(super) async fn reread(
        &self,
        nonce: IdentityNonce,
        now: UnixTime,
    ) -> Result<Reread, StoreError> {
        if self.known(nonce).is_none() {
            return Ok(Reread::Current);
        }
        let _one = self.records.lock(nonce).await;
        let Some(known) = self.known(nonce) else {
            return Ok(Reread::Current);
        };
        let Some(stored) = self.records.read(nonce).await? else {
            self.records.forget(nonce);
            return Ok(Reread::Current);
        };
        let reread = if is_behind(&stored, &known) {
            Reread::StoreIsBehind
        } else {
            Reread::Current
        };
        let newest = self.reconciled(&known, stored, now);
        if newest != *known {
            let newest = IdentityState::Known(Arc::new(newest));
            self.running.cache().set_identity(nonce, newest);
        }
        Ok(reread)
    }

    /// Writes a record to the store again: another node wrote an earlier one over it.
    pub(super) async fn write_back(&self, nonce: IdentityNonce) {
        let _one = self.records.lock(nonce).await;
        let Some(known) = self.known(nonce) else {
            return;
        };
        let expires = known.at.after(self.running.services().identity_lifetime);
        if let Err(error) = self.records.update(nonce, known, expires).await {
            self.records.failed(&error);
        }
    }

    /// Counts a change of a record by another node.
    pub(super) fn note_change(&self, nonce: IdentityNonce) {
        self.records.note_change(nonce);
    }

    /// Returns the number of changes that were noted for a record.
    #[cfg(test)]
    pub(super) fn seen(&self, nonce: &IdentityNonce) -> super::records::Seen {
        self.records.seen(nonce)
    }

    /// Forgets a record, which is read again when it is needed.
    pub(super) fn forget(&self, nonce: IdentityNonce) {
        self.records.forget(nonce);
    }

    /// Forgets all records, which are read again when they are needed.
    pub(super) fn forget_all(&self) {
        self.records.forget_all();
    }

    /// Looks up the identity behind a token: in our store, or at the remote team that signed it.
    /// That team requires the token. Concurrent calls share one look-up.
    pub(crate) async fn look_up(&self, nonce: IdentityNonce, issued: UnixTime, token: &Secret) {
        let _one = self.records.lock(nonce).await;
        let now = self.running.now();
        let last = self.running.cache().identity(&nonce);
        match &last {
            Some(IdentityState::Known(_) | IdentityState::Missing) => return,
            Some(
                IdentityState::Borrowed { recheck: until, .. }
                | IdentityState::Unavailable { retry_from: until },
            ) if now < *until => {
                return;
            }
            Some(IdentityState::Refused {
                issued: refused,
                recheck,
            }) if issued <= *refused && now < *recheck => return,
            _ => {}
        }
        match &*self.issuer {
            // The look-up logs its errors and publishes them to the engine.
            TokenIssuer::Local(_) => drop(self.identity(nonce, now).await),
            TokenIssuer::Remote(remote) => {
                let fetched = remote.identity(token, now).await;
                if let Err(error) = &fetched {
                    tracing::warn!(
                        url = %remote.team().identity_url,
                        error,
                        "an identity could not be fetched from the remote team"
                    );
                }
                let max_stale = remote.team().max_stale;
                let state = remote_state(fetched, last, issued, max_stale, now);
                self.running.cache().set_identity(nonce, state);
            }
        }
    }

    /// Notes that an edge node or an application queries the identity of a session. Groups are
    /// refreshed for it until the session ends.
    pub(crate) fn keep_fresh_until(&self, nonce: IdentityNonce, until: UnixTime) {
        let later = |before: Option<Entry<_, UnixTime>>| {
            before.map_or(until, |before| until.max(before.into_value()))
        };
        self.queried.entry(nonce).and_upsert_with(later);
    }
}

/// Returns the state of an identity after its fetch from a remote team. `issued` is the time of the
/// token that was sent, `max_stale` the age up to which the last answer is used after an error.
fn remote_state(
    fetched: Result<Option<Identity>, String>,
    last: Option<IdentityState>,
    issued: UnixTime,
    max_stale: Duration,
    now: UnixTime,
) -> IdentityState {
    match fetched {
        Ok(Some(identity)) => IdentityState::Borrowed {
            identity: Arc::new(identity),
            recheck: now.after(LOOK_UP_EVERY),
        },
        Ok(None) => {
            let issued = match last {
                Some(IdentityState::Refused { issued: before, .. }) => issued.max(before),
                _ => issued,
            };
            IdentityState::Refused {
                issued,
                recheck: now.after(LOOK_UP_EVERY),
            }
        }
        Err(_) => {
            let recheck = now.after(RETRY_IDENTITY);
            match last {
                Some(IdentityState::Borrowed { identity, .. })
                    if now.since(identity.at) < max_stale =>
                {
                    IdentityState::Borrowed { identity, recheck }
                }
                _ => IdentityState::Unavailable {
                    retry_from: recheck,
                },
            }
        }
    }
}

// Bounds the memory. The groups of an evicted login are no longer refreshed for edge nodes, and
// nothing else changes.
const MAX_QUERIED: u64 = 1_000_000;
// Short, because users wait for the record; long enough that a failing store or team is not called
// for each request.
const RETRY_IDENTITY: Duration = Duration::from_secs(2);
/// The interval of look-ups at a remote team: for a known identity, and for a token that it
/// rejected. A logout at the remote team takes effect here within this time.
const LOOK_UP_EVERY: Duration = Duration::from_secs(15);
