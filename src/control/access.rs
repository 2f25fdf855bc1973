use std::sync::Arc;

use super::audit::Audit;
use super::changes::Follower;
use super::evaluator::Evaluator;
use super::flows::Flows;
use super::identities::Identities;
use super::issuer::TokenIssuer;
use super::logins::Logins;
use super::records::Records;
use super::repositories::WatchedStore;
use super::resolver::FactResolver;
use super::revoker::Revoker;
use super::running::Running;
use super::sessions::Sessions;
use super::upkeep::Upkeep;
use super::{Clock, Services, StartError};
use crate::cookie::SealingKey;
use crate::engine::{Need, Snapshot};
use crate::http_client::HttpClient;
use crate::observe::metrics::metrics;
use crate::store::{KeyRepository, Store};

/// Shared state behind every front: the running configuration, and the parts that requests use.
pub struct Access {
    pub(crate) running: Arc<Running>,
    pub(crate) endpoints: EndpointParts,
    resolver: FactResolver,
    /// The parts of the background tasks. No request uses them, except for the store's health.
    pub(super) upkeep: Arc<Upkeep>,
    runtime: tokio::runtime::Handle,
}

/// The parts that our endpoints use.
pub(crate) struct EndpointParts {
    pub(crate) running: Arc<Running>,
    pub(crate) issuer: Arc<TokenIssuer>,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) flows: Arc<Flows>,
    pub(crate) logins: Logins,
    pub(crate) evaluator: Evaluator,
    pub(crate) audit: Audit,
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
        let store = WatchedStore::start(store, now).await;
        let running = Arc::new(Running::new(snapshot, services, clock));
        let issuer = Arc::new(TokenIssuer::start(&running, &store, &http, now).await?);
        let records = Arc::new(Records::new(&running, store.logins()));
        let revoker = Arc::new(Revoker::new(&running, &store, &records));
        let identities = Arc::new(Identities::new(
            Arc::clone(&running),
            Arc::clone(&issuer),
            Arc::clone(&records),
            Arc::clone(&revoker),
        ));
        let upkeep = Arc::new(Upkeep {
            running: Arc::clone(&running),
            issuer: Arc::clone(&issuer),
            identities: Arc::clone(&identities),
            follower: Follower::new(&running, &store, &issuer, &identities),
            revoker: Arc::clone(&revoker),
            store: Arc::clone(store.watch()),
        });
        let endpoints = EndpointParts::new(&upkeep, &store, &records, seal, http);
        let access = Self {
            running,
            endpoints,
            resolver: FactResolver::new(issuer, identities, runtime.clone()),
            upkeep,
            runtime,
        };
        // Before the first request: a session that was revoked while this process was down must not
        // be valid until the first round.
        access.upkeep.follower.follow(now).await?;
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
        self.endpoints.issuer.reconfigure(&snapshot, &services);
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
        self.upkeep.store.write_failure()
    }

    /// Resolves a fact that a decision needs. It runs on the control runtime, so a client that
    /// disconnects does not cancel it for others.
    pub async fn resolve(&self, need: Need) {
        self.resolver.resolve(need).await;
    }

    /// Returns the runtime of all background tasks and I/O.
    pub(crate) const fn runtime(&self) -> &tokio::runtime::Handle {
        &self.runtime
    }
}

impl EndpointParts {
    fn new(
        Upkeep {
            running,
            issuer,
            identities,
            revoker,
            ..
        }: &Upkeep,
        store: &WatchedStore,
        records: &Arc<Records>,
        seal: SealingKey,
        http: HttpClient,
    ) -> Self {
        let sessions = Arc::new(Sessions::new(
            Arc::clone(running),
            Arc::clone(issuer),
            Arc::clone(identities),
        ));
        let flows = Arc::new(Flows::new(store.uses(), seal));
        Self {
            running: Arc::clone(running),
            issuer: Arc::clone(issuer),
            logins: Logins::new(
                Arc::clone(running),
                store.logins(),
                Arc::clone(records),
                Arc::clone(revoker),
                Arc::clone(&sessions),
                Arc::clone(&flows),
            ),
            sessions,
            flows,
            evaluator: Evaluator::new(
                Arc::clone(running),
                Arc::clone(issuer),
                Arc::clone(records),
                Arc::clone(identities),
                http,
            ),
            audit: Audit::new(Arc::clone(running)),
        }
    }
}

/// Loads the key that seals the values that a browser or an administrator carries.
pub(crate) async fn sealing_key(store: &dyn KeyRepository) -> Result<SealingKey, StartError> {
    Ok(SealingKey::new(&*store.secret("seal").await?)?)
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access")
            .field("generation", &self.running.load().generation())
            .finish_non_exhaustive()
    }
}
