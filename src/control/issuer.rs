//! The signer of the team's tokens.
//!
//! Decides which keys are published, and signs. Trusts the store's keys. Never signs for a team
//! that runs elsewhere.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::HeaderValue;
use serde::Serialize;

use super::remote::RemoteIssuer;
use super::repositories::{Watched, WatchedStore};
use super::running::Running;
use super::store_watch::StoreWatch;
use super::{IssuerSettings, Services, SigningKeys, SigningKeysError, StartError};
use crate::engine::{IssuerKeys, Snapshot};
use crate::http_client::HttpClient;
use crate::model::{Aud, UnixTime};
use crate::store::{KeyRepository, StoreError};
use crate::token::{KeyError, KeySet, Kind, ServiceClaims};

/// The signer of the team's tokens: this process, or a team that runs elsewhere.
pub(crate) enum TokenIssuer {
    /// This process, with the store's keys.
    Local(LocalIssuer),
    /// Another team. Users log in there.
    Remote(RemoteIssuer),
}

/// A team that signs its tokens here.
pub(crate) struct LocalIssuer {
    running: Arc<Running>,
    keys: Watched<dyn KeyRepository>,
    store_watch: Arc<StoreWatch>,
    signing: ArcSwap<SigningKeys>,
    asserting: tokio::sync::Mutex<()>,
    /// Counts reloads. Keys that were read before one of them are not published after it.
    reloads: Mutex<u64>,
}

impl TokenIssuer {
    /// Loads the signing keys, or prepares to fetch those of the remote team.
    pub(super) async fn start(
        running: &Arc<Running>,
        store: &WatchedStore,
        http: &HttpClient,
        now: UnixTime,
    ) -> Result<Self, StartError> {
        Ok(match running.services().issuer.clone() {
            IssuerSettings::Local => Self::Local(LocalIssuer::start(running, store, now).await?),
            IssuerSettings::Remote(team) => {
                Self::Remote(RemoteIssuer::new(Arc::clone(running), http.clone(), team))
            }
        })
    }

    /// Returns the signing keys; `None` for a remote team.
    pub(crate) fn signing(&self) -> Option<Arc<SigningKeys>> {
        match self {
            Self::Local(issuer) => Some(issuer.signing.load_full()),
            Self::Remote(_) => None,
        }
    }

    /// Returns the `certs` document.
    pub(crate) fn jwks(&self) -> Option<Bytes> {
        match self {
            Self::Local(issuer) => Some(issuer.signing.load().jwks()),
            Self::Remote(issuer) => issuer.jwks(),
        }
    }

    /// Signs claims; `None` if that fails, or if the team's keys are elsewhere.
    pub(super) fn sign(&self, claims: &impl Serialize) -> Option<String> {
        match self {
            Self::Local(issuer) => issuer.sign(claims),
            Self::Remote(_) => None,
        }
    }

    /// Rotates the signing keys, or fetches those of the remote team.
    pub(super) async fn keep_keys_fresh(&self) {
        match self {
            Self::Local(issuer) => issuer.rotate().await,
            Self::Remote(issuer) => issuer.refresh_keys().await,
        }
    }

    /// Reads our own keys again, which another node has changed.
    ///
    /// # Errors
    /// If the store cannot be read. If a key in it cannot be used, the last keys stay.
    pub(super) async fn reload_keys(&self, now: UnixTime) -> Result<(), StoreError> {
        match self {
            Self::Local(issuer) => issuer.reload(now).await,
            Self::Remote(_) => Ok(()),
        }
    }

    /// Fetches the remote team's keys. Our own are always known.
    pub(super) async fn learn_keys(&self) {
        match self {
            Self::Local(_) => {}
            Self::Remote(issuer) => issuer.refresh_keys().await,
        }
    }

    /// Signs the assertion about a service client for an application. A node without signing keys
    /// signs none, so it admits no such service client.
    pub(super) async fn assert_service_client(
        &self,
        aud: &Aud,
        common_name: &str,
        expires: UnixTime,
    ) {
        match self {
            Self::Local(issuer) => {
                issuer
                    .assert_service_client(aud, common_name, expires)
                    .await
            }
            Self::Remote(_) => {}
        }
    }

    /// Prepares for a configuration that is about to be put in place.
    pub(super) fn reconfigure(&self, snapshot: &Snapshot, services: &Services) {
        match (self, &services.issuer) {
            // Under another team domain the same keys sign for another issuer.
            (Self::Local(local), _) => {
                let keys = local.signing.load();
                if let Err(error) = publish(&local.running, snapshot.issuer(), &keys) {
                    tracing::error!(%error, "the signing keys could not be published");
                }
            }
            (Self::Remote(remote), IssuerSettings::Remote(team)) => remote.replace(team.clone()),
            (Self::Remote(_), IssuerSettings::Local) => {}
        }
    }
}

impl LocalIssuer {
    async fn start(
        running: &Arc<Running>,
        store: &WatchedStore,
        now: UnixTime,
    ) -> Result<Self, StartError> {
        let (keys, store_watch) = (store.keys(), Arc::clone(store.watch()));
        let lifetime = running.services().token_lifetime;
        let signing = SigningKeys::load_or_create(&*keys, lifetime, now, store_watch.time());
        let signing = signing.await?;
        publish(running, running.load().issuer(), &signing)?;
        Ok(Self {
            running: Arc::clone(running),
            keys,
            store_watch,
            signing: ArcSwap::from_pointee(signing),
            asserting: tokio::sync::Mutex::new(()),
            reloads: Mutex::new(0),
        })
    }

    async fn rotate(&self) {
        let (now, lifetime) = (self.running.now(), self.running.services().token_lifetime);
        let seen = self.store_watch.time();
        let before = *self.reloads();
        match SigningKeys::load_or_create(&*self.keys, lifetime, now, seen).await {
            Ok(keys) => {
                let reloads = self.reloads();
                if *reloads == before {
                    self.replace(keys);
                }
            }
            Err(error) => {
                tracing::error!(
                    error = crate::model::chain(&error),
                    "the signing keys could not be refreshed"
                );
            }
        }
    }

    async fn reload(&self, now: UnixTime) -> Result<(), StoreError> {
        *self.reloads() += 1;
        match SigningKeys::load(&*self.keys, now).await {
            Ok(keys) => {
                let _one = self.reloads();
                self.replace(keys);
                Ok(())
            }
            Err(SigningKeysError::Store(error))
                if !matches!(error, StoreError::Malformed { .. }) =>
            {
                Err(error)
            }
            Err(error) => {
                tracing::error!(
                    error = crate::model::chain(&error),
                    "the signing keys in the store cannot be used; keeping the previous keys"
                );
                Ok(())
            }
        }
    }

    fn replace(&self, keys: SigningKeys) {
        match publish(&self.running, self.running.load().issuer(), &keys) {
            Ok(()) => self.signing.store(Arc::new(keys)),
            Err(error) => tracing::error!(%error, "the signing keys could not be published"),
        }
    }

    fn reloads(&self) -> MutexGuard<'_, u64> {
        self.reloads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Signs the assertion that identifies the service client of a request to the origin
    /// (`docs/wire.md` 5.3). Concurrent requests share one signature.
    async fn assert_service_client(&self, aud: &Aud, common_name: &str, expires: UnixTime) {
        let _one = self.asserting.lock().await;
        let (snapshot, now, of) = (
            self.running.snapshot(),
            self.running.now(),
            (aud, common_name),
        );
        let known = self.running.cache();
        if known.has_assertion(snapshot.issuer(), of, now) {
            return;
        }
        let claims = ServiceClaims {
            iss: snapshot.issuer(),
            aud: [aud.as_str()],
            exp: expires,
            iat: now,
            kind: Kind::App,
            common_name,
            sub: "",
        };
        let Some(token) = self
            .sign(&claims)
            .and_then(|token| HeaderValue::try_from(token).ok())
        else {
            return;
        };
        // Renewed early, so that a slow origin does not receive an expired one.
        let margin = (expires.since(now) / 4).min(RENEW_BEFORE);
        let renew_from = UnixTime(expires.0.saturating_sub(margin.as_secs()));
        known.set_assertion(snapshot.issuer(), of, token, renew_from);
    }

    fn sign(&self, claims: &impl Serialize) -> Option<String> {
        self.signing
            .load()
            .sign(claims)
            .map_err(|error| tracing::error!(%error, "a token could not be signed"))
            .ok()
    }
}

/// Publishes the public halves to the engine. They are never too old: we sign with them.
fn publish(running: &Running, issuer: &str, keys: &SigningKeys) -> Result<(), KeyError> {
    let never = UnixTime(u64::MAX);
    let public = KeySet::from_jwks(&keys.jwks())?;
    running.cache().set_keys(
        issuer,
        IssuerKeys {
            keys: Some(public),
            good_until: never,
            retry_from: never,
        },
    );
    Ok(())
}

// Five minutes cover a slow origin and a difference between clocks.
const RENEW_BEFORE: Duration = Duration::from_secs(300);
