use std::net::IpAddr;
use std::sync::Arc;

use thiserror::Error;

use super::node_cache::CachedKeys;
use super::required_facts::RequiredFacts;
use super::service_tokens::ServiceTokens;
use super::{Application, ApplicationSettings, ClientCa, NodeCache, Team};
use crate::model::{Aud, ServiceToken};
use crate::policy::{Countries, Country, Facts, PolicySet, SharedRules, UnknownName, Verdict};
use crate::route::Router;
use crate::session::{ApplicationIndex, Context, Revocations, Session};

/// Everything that a decision reads. Immutable: a change makes a new one.
#[derive(Clone, Debug)]
pub struct Snapshot {
    compiled: Arc<Compiled>,
    revocations: Arc<Revocations>,
    cache: Arc<NodeCache>,
    countries: Option<Arc<dyn Countries>>,
    service_tokens: Arc<ServiceTokens>,
    client_cas: Arc<[ClientCa]>,
}

#[derive(Debug)]
struct Compiled {
    generation: u64,
    team: Team,
    issuer: Box<str>,
    router: Router,
    applications: Vec<Arc<Application>>,
    policies: PolicySet,
    keys: Arc<CachedKeys>,
}

/// The reason why a configuration gives no snapshot.
#[derive(Debug, Error)]
#[error(transparent)]
pub struct SnapshotError(#[from] UnknownName);

impl Snapshot {
    /// Compiles a snapshot. `generation` must be another number than that of any earlier one of the
    /// process.
    ///
    /// # Errors
    /// Rules that name no Access group, and groups that contain themselves.
    pub fn compile(
        generation: u64,
        team: Team,
        rules: SharedRules<'_>,
        applications: Vec<ApplicationSettings>,
        cache: Arc<NodeCache>,
    ) -> Result<Self, SnapshotError> {
        let (set, policies) =
            PolicySet::compile(rules, applications.iter().map(|a| a.policies.as_slice()))?;
        let router = Router::new(applications.iter().map(|a| (&a.domain, a.path_case)));
        let asks = RequiredFacts::for_applications(&applications, rules.groups);
        let applications = applications
            .into_iter()
            .zip(policies)
            .zip(asks)
            .enumerate()
            .map(|(i, ((a, p), asks))| Arc::new(Application::new(ApplicationIndex(i), a, p, asks)))
            .collect();
        let issuer: Box<str> = team.url().into();
        let keys = cache.issuer(&issuer);
        let compiled = Compiled {
            generation,
            team,
            issuer,
            router,
            applications,
            policies: set,
            keys,
        };
        Ok(Self {
            compiled: Arc::new(compiled),
            revocations: Arc::default(),
            cache,
            countries: None,
            service_tokens: Arc::default(),
            client_cas: Arc::default(),
        })
    }

    /// Sets the country database.
    #[must_use]
    pub fn with_countries(self, countries: Option<Arc<dyn Countries>>) -> Self {
        Self { countries, ..self }
    }

    /// Replaces the service tokens.
    #[must_use]
    pub fn with_service_tokens(self, tokens: impl IntoIterator<Item = ServiceToken>) -> Self {
        Self {
            service_tokens: Arc::new(ServiceTokens::new(tokens)),
            ..self
        }
    }

    /// Replaces the authorities for client certificates.
    #[must_use]
    pub fn with_client_cas(self, client_cas: impl IntoIterator<Item = ClientCa>) -> Self {
        Self {
            client_cas: client_cas.into_iter().collect(),
            ..self
        }
    }

    pub(super) fn service_tokens(&self) -> &ServiceTokens {
        &self.service_tokens
    }

    /// Returns the authorities for client certificates.
    pub const fn client_cas(&self) -> &Arc<[ClientCa]> {
        &self.client_cas
    }

    /// Returns `true` if clients are asked for a certificate on that host.
    pub fn takes_certificates(&self, host: &str) -> bool {
        super::client_ca::for_host(self.client_cas(), host)
            .next()
            .is_some()
    }

    /// Returns the country database.
    pub fn countries(&self) -> Option<&dyn Countries> {
        self.countries.as_deref()
    }

    /// Returns the country of an IP address, if known.
    pub fn country_of(&self, ip: Option<IpAddr>) -> Option<Country> {
        ip.and_then(|ip| self.countries()?.country(ip))
    }

    /// Returns a snapshot with other revocations.
    #[must_use]
    pub fn with_revocations(&self, revocations: Arc<Revocations>) -> Self {
        Self {
            revocations,
            ..self.clone()
        }
    }

    /// Returns the team.
    pub fn team(&self) -> &Team {
        &self.compiled.team
    }

    /// `https://<team domain>`.
    pub fn issuer(&self) -> &str {
        &self.compiled.issuer
    }

    /// Returns the number of the snapshot.
    pub fn generation(&self) -> u64 {
        self.compiled.generation
    }

    /// Returns all applications.
    pub fn applications(&self) -> &[Arc<Application>] {
        &self.compiled.applications
    }

    /// Returns the application with an audience tag.
    pub fn application(&self, aud: &Aud) -> Option<&Arc<Application>> {
        self.compiled.applications.iter().find(|a| a.aud() == aud)
    }

    /// Returns the routes from host and path to application.
    pub fn router(&self) -> &Router {
        &self.compiled.router
    }

    /// Returns the node's cache.
    pub const fn cache(&self) -> &Arc<NodeCache> {
        &self.cache
    }

    /// Returns the revocations.
    pub const fn revocations(&self) -> &Arc<Revocations> {
        &self.revocations
    }

    /// Returns the compiled Access groups and questions.
    pub fn policies(&self) -> &PolicySet {
        &self.compiled.policies
    }

    /// Evaluates an application's allow and deny policies for a session.
    pub(super) fn evaluate(
        &self,
        application: &Application,
        session: &Session,
        facts: &Facts<'_>,
    ) -> Verdict {
        let (set, policies) = (self.policies(), &application.policies);
        match session.partial_verdict(application.index) {
            Some(partial) => set.evaluate(policies, partial, facts),
            // The session keeps the partial verdict of the application that it was opened at.
            None => {
                let partial = set.partial_verdict(policies, session.answers());
                set.evaluate(policies, &partial, facts)
            }
        }
    }

    /// Returns the keys of the team.
    pub(super) fn keys(&self) -> &CachedKeys {
        &self.compiled.keys
    }

    /// Returns the context of a session. Call it before the reads that it numbers: a change in
    /// between then has the session checked once more.
    pub(super) fn context<'a>(&'a self) -> impl FnOnce(&'a Application) -> Context<'a> {
        let (key_set, identity_changes) = (self.keys().key_set(), self.cache.identity_changes());
        move |application| Context {
            policy_set: &self.compiled.policies,
            generation: self.compiled.generation,
            key_set,
            identity_changes,
            application: application.index,
            policies: &application.policies,
            sent_headers: &application.settings().sent_headers,
        }
    }
}
