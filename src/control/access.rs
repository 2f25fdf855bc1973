use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use super::audit::Audit;
use super::evaluations::Evaluator;
use super::flows::Flows;
use super::identities::Identities;
use super::issuer::Issuer;
use super::logins::Logins;
use super::records::Records;
use super::revoker::Revoker;
use super::running::Running;
use super::sessions::Sessions;
use super::store_watch::WatchedStore;
use super::{CountryFile, Evaluations, RemoteTeam, SigningKeysError};
use crate::cookie::{SealError, SealingKey};
use crate::engine::{Need, Snapshot};
use crate::http_client::HttpClient;
use crate::idp::Provider;
use crate::model::UnixTime;
use crate::observe::audit::Sample;
use crate::observe::metrics::metrics;
use crate::store::{Store, StoreError};
use crate::token::KeyError;

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
    runtime: tokio::runtime::Handle,
}

/// What the login side needs of a configuration.
pub struct Services {
    /// Where people may come from.
    pub providers: Vec<Provider>,
    /// Another team, whose tokens are good here and where people log in.
    pub remote: Option<RemoteTeam>,
    /// `https://<team domain>`.
    pub team_url: String,
    /// How long an organisation session lasts.
    pub team_session: Duration,
    /// How long an identity record may be asked for after a login.
    pub identity_lifetime: Duration,
    /// How long a token may be presented after it was signed.
    pub token_lifetime: Duration,
    /// How long sessions are good while the store cannot be asked what was revoked; for ever, where
    /// that is not its to say.
    pub revocations_max_stale: Option<Duration>,
    /// How far clocks may differ.
    pub leeway: Duration,
    /// Which allowed requests are written down.
    pub sample: Sample,
    /// Whether the audit events of logins tell groups, authentication methods and claims.
    pub audit_identity: bool,
    /// Whom the applications' policies ask about people at login.
    pub evaluations: Evaluations,
    /// The countries that the snapshot knows, where it knows any.
    pub countries: Option<Arc<CountryFile>>,
    /// Files beside the configuration: it is read again when one of them changes.
    pub watched: Vec<PathBuf>,
}

/// Why the control path cannot start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The store.
    #[error("the store cannot be used")]
    Store(#[from] StoreError),
    /// Signing keys.
    #[error("the signing keys cannot be used")]
    SigningKeys(#[from] SigningKeysError),
    /// What the keys say of themselves.
    #[error("the signing keys cannot be published")]
    Publish(#[from] KeyError),
    /// The secret behind cookies.
    #[error("the sealing key cannot be used")]
    Seal(#[from] SealError),
}

impl Access {
    /// Brings up the control path: keys, revocations, secrets. `runtime` is the runtime that
    /// everything which waits runs on.
    ///
    /// # Errors
    /// Where the store or the keys in it cannot be used. That a provider or a remote team cannot be
    /// reached is no error.
    pub async fn start(
        snapshot: Snapshot,
        services: Services,
        store: Arc<dyn Store>,
        http: HttpClient,
        runtime: tokio::runtime::Handle,
    ) -> Result<Arc<Self>, StartError> {
        let now = UnixTime::now();
        let seal = sealing_key(&*store).await?;
        let store = Arc::new(WatchedStore::start(store, now).await);
        let running = Arc::new(Running::new(snapshot, services));
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
                Arc::clone(&issuer),
                Arc::clone(&identities),
                http,
            ),
            audit: Audit::new(Arc::clone(&running)),
            logins: Arc::new(Logins::new(
                Arc::clone(&running),
                store,
                records,
                revoker,
                Arc::clone(&sessions),
                Arc::clone(&flows),
            )),
            running,
            issuer,
            identities,
            sessions,
            flows,
            runtime,
        };
        access.logins.revoker.tail_revocations(now).await?;
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
        self.issuer.reconfigure(&snapshot, &services);
        self.running.replace(snapshot, services);
    }

    /// Returns `true` if requests can be decided: the team's keys and the revocations are known,
    /// and not too old.
    pub fn is_ready(&self) -> bool {
        self.is_missing().is_none()
    }

    /// Returns the fact that is unknown or too old, if that keeps requests from being decided.
    pub(crate) fn is_missing(&self) -> Option<&'static str> {
        let (snapshot, known, now) = (self.running.load(), self.running.known(), UnixTime::now());
        let keys = known.keys(snapshot.issuer());
        if !keys.is_some_and(|keys| keys.keys.is_some() && now < keys.good_until) {
            return Some("the team's keys are not known");
        }
        (!known.revocations_are_good(now)).then_some("what was revoked is not known")
    }

    /// Returns the cause if the last write to the store failed. Logins and logouts fail then;
    /// sessions go on.
    pub fn store_write_failure(&self) -> Option<Arc<str>> {
        self.logins.store.write_failure()
    }

    /// Learns what a decision needs, on the control runtime: a client that goes away stops nothing
    /// that others wait for.
    pub async fn resolve(self: &Arc<Self>, need: Need) {
        let access = Arc::clone(self);
        let learned = self.runtime.spawn(async move {
            match need {
                Need::Keys => access.issuer.learn_keys().await,
                Need::Identity {
                    nonce,
                    issued,
                    token,
                } => access.identities.learn(nonce, issued, &token).await,
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
            tracing::error!(%error, "learning what a decision needs failed");
        }
    }

    /// The runtime that everything which waits runs on.
    pub(crate) const fn runtime(&self) -> &tokio::runtime::Handle {
        &self.runtime
    }
}

/// What seals everything that a browser or an administrator is given and brings back.
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
