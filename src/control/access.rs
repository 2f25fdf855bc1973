use std::sync::Arc;

use super::audit::Audit;
use super::changes::Follower;
use super::evaluator::Evaluator;
use super::flows::Flows;
use super::identities::Identities;
use super::issuer::Issuer;
use super::logins::Logins;
use super::records::Records;
use super::revoker::Revoker;
use super::running::Running;
use super::sessions::Sessions;
use super::store_watch::WatchedStore;
use super::{Clock, Services, StartError};
use crate::cookie::SealingKey;
use crate::engine::{Need, Snapshot};
use crate::http_client::HttpClient;
use crate::observe::metrics::metrics;
use crate::store::Store;

/// Shared state behind every front: the running configuration, and the parts that keep it up to
/// date.
pub struct Access {
    pub(crate) running: Arc<Running>,
    pub(crate) issuer: Arc<Issuer>,
    pub(crate) identities: Arc<Identities>,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) logins: Arc<Logins>,
    pub(crate) flows: Arc<Flows>,
    pub(crate) evaluator: Evaluator,
    pub(crate) audit: Audit,
    pub(super) follower: Follower,
    pub(super) store: Arc<WatchedStore>,
    pub(super) revoker: Arc<Revoker>,
    runtime: tokio::runtime::Handle,
}

/// The resources of the control path, beside its configuration.
pub struct Resources {
    /// The store.
    pub store: Arc<dyn Store>,
    /// The client of all outgoing calls.
    pub http: HttpClient,
    /// The runtime of all background tasks and I/O.
    pub runtime: tokio::runtime::Handle,
    /// The clock.
    pub clock: Clock,
}

impl Access {
    /// Starts the control path: loads keys, revocations and secrets.
    ///
    /// # Errors
    /// If the store, or a key in it, cannot be used. An unreachable identity provider or remote
    /// team is not an error.
    pub async fn start(
        snapshot: Snapshot,
        services: Services,
        resources: Resources,
    ) -> Result<Arc<Self>, StartError> {
        let Resources {
            store,
            http,
            runtime,
            clock,
        } = resources;
        let now = clock.now();
        let seal = sealing_key(&*store).await?;
        let store = Arc::new(WatchedStore::start(store, now).await);
        let running = Arc::new(Running::new(snapshot, services, clock));
        let issuer = Arc::new(Issuer::start(&running, &store, &http, now).await?);
        let records = Arc::new(Records::new(&running, Arc::clone(&store)));
        let revoker = Arc::new(Revoker::new(&running, &store, &records));
        let identities = Arc::new(Identities::new(
            Arc::clone(&running),
            Arc::clone(&store),
            Arc::clone(&issuer),
            Arc::clone(&records),
            Arc::clone(&revoker),
        ));
        let sessions = Arc::new(Sessions::new(
            Arc::clone(&running),
            Arc::clone(&issuer),
            Arc::clone(&identities),
        ));
        let flows = Arc::new(Flows::new(Arc::clone(&store), seal));
        let access = Self {
            evaluator: Evaluator::new(
                Arc::clone(&running),
                Arc::clone(&store),
                Arc::clone(&issuer),
                Arc::clone(&records),
                Arc::clone(&identities),
                http,
            ),
            audit: Audit::new(Arc::clone(&running)),
            follower: Follower::new(
                Arc::clone(&running),
                Arc::clone(&store),
                Arc::clone(&issuer),
                Arc::clone(&identities),
            ),
            logins: Arc::new(Logins::new(
                Arc::clone(&running),
                Arc::clone(&store),
                records,
                Arc::clone(&revoker),
                Arc::clone(&sessions),
                Arc::clone(&flows),
            )),
            running,
            issuer,
            identities,
            sessions,
            flows,
            store,
            revoker,
            runtime,
        };
        // Before the first request: a session that was revoked while this process was down must not
        // be valid until the first round.
        access.follower.follow(now).await?;
        metrics().generation(access.running.load().generation());
        Ok(Arc::new(access))
    }

    /// Returns the snapshot that decides.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.running.snapshot()
    }

    /// Returns the number of the next snapshot.
    pub fn next_generation(&self) -> u64 {
        self.running.next_generation()
    }

    /// Puts a new configuration in place. Sessions and known facts survive.
    pub fn replace(&self, snapshot: Snapshot, services: Services) {
        metrics().generation(snapshot.generation());
        // Keys before the snapshot: a request under the new issuer must find them.
        self.issuer.reconfigure(&snapshot, &services);
        self.running.replace(snapshot, services);
    }

    /// Returns `true` if requests can be decided: the team's keys and the revocations are known,
    /// and not too old.
    pub fn is_ready(&self) -> bool {
        self.missing_fact().is_none()
    }

    /// Returns the fact that is unknown or too old, if that keeps requests from being decided.
    pub(crate) fn missing_fact(&self) -> Option<&'static str> {
        let (snapshot, known, now) = (
            self.running.load(),
            self.running.cache(),
            self.running.now(),
        );
        let keys = known.keys(snapshot.issuer());
        if !keys.is_some_and(|keys| keys.keys.is_some() && now < keys.good_until) {
            return Some("the team's keys are unknown or too old");
        }
        (!known.revocations_are_good(now)).then_some("revocations are unknown or too old")
    }

    /// Returns the cause if the last write to the store failed. Logins and logouts fail then;
    /// sessions go on.
    pub fn store_write_failure(&self) -> Option<Arc<str>> {
        self.store.write_failure()
    }

    /// Resolves a fact that a decision needs. It runs on the control runtime, so a client that
    /// disconnects does not cancel it for others.
    pub async fn resolve(self: &Arc<Self>, need: Need) {
        let access = Arc::clone(self);
        let learned = self.runtime.spawn(async move {
            match need {
                Need::Keys => access.issuer.learn_keys().await,
                Need::Identity {
                    nonce,
                    issued,
                    token,
                } => access.identities.look_up(nonce, issued, &token).await,
                Need::Assertion {
                    aud,
                    common_name,
                    expires,
                } => {
                    access
                        .issuer
                        .assert_service_client(&aud, &common_name, expires)
                        .await;
                }
            }
        });
        if let Err(error) = learned.await {
            tracing::error!(%error, "resolving a fact for a decision failed");
        }
    }

    /// Returns the runtime of all background tasks and I/O.
    pub(crate) const fn runtime(&self) -> &tokio::runtime::Handle {
        &self.runtime
    }
}

/// Loads the key that seals the values that a browser or an administrator carries.
pub(crate) async fn sealing_key(store: &dyn Store) -> Result<SealingKey, StartError> {
    Ok(SealingKey::new(&*store.secret("seal").await?)?)
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access")
            .field("generation", &self.running.load().generation())
            .finish_non_exhaustive()
    }
}
