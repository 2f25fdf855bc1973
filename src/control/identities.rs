//! The identities behind logins: from the store, or from the team that signed a token.

use std::sync::Arc;
use std::time::Duration;

use moka::Entry;
use moka::policy::EvictionPolicy;

use super::issuer::Issuer;
use super::records::Records;
use super::revoker::Revoker;
use super::running::Running;
use super::store_watch::WatchedStore;
use crate::engine::IdentityState;
use crate::model::{Identity, IdentityNonce, Secret, UnixTime};
use crate::store::StoreError;

/// Finds the identities behind logins, and keeps their groups up to date.
pub(crate) struct Identities {
    pub(super) running: Arc<Running>,
    pub(super) store: Arc<WatchedStore>,
    pub(super) issuer: Arc<Issuer>,
    pub(super) records: Arc<Records>,
    pub(super) revoker: Arc<Revoker>,
    /// Logins that an edge node may have asked about, with the end of the session there.
    pub(super) asked_about: moka::sync::Cache<IdentityNonce, UnixTime>,
}

impl Identities {
    pub(super) fn new(
        running: Arc<Running>,
        store: Arc<WatchedStore>,
        issuer: Arc<Issuer>,
        records: Arc<Records>,
        revoker: Arc<Revoker>,
    ) -> Self {
        let asked_about = moka::sync::Cache::builder().max_capacity(MAX_ASKED_ABOUT);
        Self {
            running,
            store,
            issuer,
            records,
            revoker,
            asked_about: asked_about.eviction_policy(EvictionPolicy::lru()).build(),
        }
    }

    /// Returns the record that the engine knows, if it is one of our own store.
    pub(super) fn known(&self, nonce: IdentityNonce) -> Option<Arc<Identity>> {
        self.records.known(nonce)
    }

    /// The identity record behind a login.
    ///
    /// # Errors
    /// Where the store does not answer.
    pub(crate) async fn identity(
        &self,
        nonce: IdentityNonce,
        now: UnixTime,
    ) -> Result<Option<Arc<Identity>>, StoreError> {
        match self.running.known().identity(&nonce) {
            Some(IdentityState::Known(identity) | IdentityState::Borrowed { identity, .. }) => {
                return Ok(Some(identity));
            }
            Some(IdentityState::Missing | IdentityState::Refused { .. }) => return Ok(None),
            Some(IdentityState::Unavailable { .. }) | None => {}
        }
        // A remote team's records are not in our store, and that they are not there says nothing.
        if matches!(*self.issuer, Issuer::Remote(_)) {
            return Ok(None);
        }
        let found = self
            .store
            .identity(&nonce)
            .await
            .inspect_err(|error| self.store.failed(error));
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
        self.running.known().found_identity(nonce, state);
        result
    }

    /// Learns the identity behind a token: from the store, or from the team that signed it, which
    /// wants to see the token.
    pub(crate) async fn learn(&self, nonce: IdentityNonce, issued: UnixTime, token: &Secret) {
        let _one = self.records.lock(nonce).await;
        let now = UnixTime::now();
        let last = self.running.known().identity(&nonce);
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
        let Issuer::Remote(remote) = &*self.issuer else {
            // What went wrong is known to the engine and written down.
            let _ = self.identity(nonce, now).await;
            return;
        };
        let state = match remote.identity(token, now).await {
            Ok(Some(identity)) => IdentityState::Borrowed {
                identity: Arc::new(identity),
                recheck: now.after(ASK_AGAIN),
            },
            Ok(None) => {
                let issued = match last {
                    Some(IdentityState::Refused { issued: before, .. }) => issued.max(before),
                    _ => issued,
                };
                IdentityState::Refused {
                    issued,
                    recheck: now.after(ASK_AGAIN),
                }
            }
            Err(error) => {
                tracing::warn!(url = %remote.team().identity_url, error, "an identity could not be learned");
                let recheck = now.after(RETRY_IDENTITY);
                match last {
                    // The last answer stays until its bound.
                    Some(IdentityState::Borrowed { identity, .. })
                        if now.since(identity.at) < remote.team().max_stale =>
                    {
                        IdentityState::Borrowed { identity, recheck }
                    }
                    _ => IdentityState::Unavailable {
                        retry_from: recheck,
                    },
                }
            }
        };
        self.running.known().set_identity(nonce, state);
    }

    /// Somebody asks who is behind a session, as edge nodes do: it lives there until it ends.
    pub(crate) fn ask_about(&self, nonce: IdentityNonce, until: UnixTime) {
        let later = |before: Option<Entry<_, UnixTime>>| {
            before.map_or(until, |before| until.max(before.into_value()))
        };
        self.asked_about.entry(nonce).and_upsert_with(later);
    }
}

const MAX_ASKED_ABOUT: u64 = 1_000_000;
const RETRY_IDENTITY: Duration = Duration::from_secs(2);
/// How late it is noticed here that the team ended a login, and how often the team is shown a token
/// that it did not take.
const ASK_AGAIN: Duration = Duration::from_secs(15);
