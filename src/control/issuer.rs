//! The signer of the team's tokens.
//!
//! Decides which keys are published, and signs. Trusts the store's keys. Never signs for a team
//! that runs elsewhere.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::HeaderValue;
use serde::Serialize;

use super::remote::RemoteIssuer;
use super::running::Running;
use super::store_watch::WatchedStore;
use super::{Services, SigningKeys, StartError};
use crate::engine::{IssuerKeys, Snapshot};
use crate::http_client::HttpClient;
use crate::model::{Aud, UnixTime};
use crate::token::{KeyError, KeySet, Kind, ServiceClaims};

/// The signer of the team's tokens: this process, or a team that runs elsewhere.
pub(crate) enum Issuer {
    /// This process, with the store's keys.
    Local(LocalIssuer),
    /// Another team. Users log in there.
    Remote(RemoteIssuer),
}

/// A team that signs its tokens here.
pub(crate) struct LocalIssuer {
    running: Arc<Running>,
    store: Arc<WatchedStore>,
    signing: ArcSwap<SigningKeys>,
    asserting: tokio::sync::Mutex<()>,
}

impl Issuer {
    /// Loads the signing keys, or prepares to fetch those of the remote team.
    pub(super) async fn start(
        running: &Arc<Running>,
        store: &Arc<WatchedStore>,
        http: &HttpClient,
        now: UnixTime,
    ) -> Result<Self, StartError> {
        Ok(match running.services().remote.clone() {
            None => Self::Local(LocalIssuer::start(running, store, now).await?),
            Some(team) => Self::Remote(RemoteIssuer::new(Arc::clone(running), http.clone(), team)),
        })
    }

    /// Returns the signing keys; a remote team's are not ours.
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
        match (self, &services.remote) {
            // Under another team domain the same keys sign for another issuer.
            (Self::Local(local), _) => {
                let keys = local.signing.load();
                if let Err(error) = publish(&local.running, snapshot.issuer(), &keys) {
                    tracing::error!(%error, "the signing keys could not be published");
                }
            }
            (Self::Remote(remote), Some(team)) => remote.replace(team.clone()),
            (Self::Remote(_), None) => {}
        }
    }
}

impl LocalIssuer {
    async fn start(
        running: &Arc<Running>,
        store: &Arc<WatchedStore>,
        now: UnixTime,
    ) -> Result<Self, StartError> {
        let lifetime = running.services().token_lifetime;
        let keys = SigningKeys::load_or_create(&***store, lifetime, now, store.time());
        let keys = keys.await?;
        publish(running, running.load().issuer(), &keys)?;
        Ok(Self {
            running: Arc::clone(running),
            store: Arc::clone(store),
            signing: ArcSwap::from_pointee(keys),
            asserting: tokio::sync::Mutex::new(()),
        })
    }

    async fn rotate(&self) {
        let (now, lifetime) = (UnixTime::now(), self.running.services().token_lifetime);
        let store = &self.store;
        match SigningKeys::load_or_create(&***store, lifetime, now, store.time()).await {
            Ok(keys) => match publish(&self.running, self.running.load().issuer(), &keys) {
                Ok(()) => self.signing.store(Arc::new(keys)),
                Err(error) => {
                    tracing::error!(%error, "the signing keys could not be published");
                }
            },
            Err(error) => {
                tracing::error!(
                    error = crate::model::chain(&error),
                    "the signing keys could not be refreshed"
                );
            }
        }
    }

    /// Signs the assertion that tells an origin which service client a request is from
    /// (`docs/wire.md` 5.3). Concurrent requests share one signature.
    async fn assert_service_client(&self, aud: &Aud, common_name: &str, expires: UnixTime) {
        let _one = self.asserting.lock().await;
        let (snapshot, now, of) = (self.running.snapshot(), UnixTime::now(), (aud, common_name));
        let known = self.running.known();
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
        // Early enough that an origin which takes its time does not find it too old.
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
    running.known().set_keys(
        issuer,
        IssuerKeys {
            keys: Some(public),
            good_until: never,
            retry_from: never,
        },
    );
    Ok(())
}

const RENEW_BEFORE: Duration = Duration::from_secs(300);
