use std::net::IpAddr;
use std::sync::Arc;

use thiserror::Error;

use super::node_cache::CachedKeys;
use super::required_facts::RequiredFacts;
use super::service_clients::ServiceTokens;
use super::{Application, ApplicationSettings, ClientCa, NodeCache};
use crate::model::{Aud, Host, ServiceToken, Support};
use crate::policy::{
    AccessGroup, Countries, Country, Facts, List, PolicySet, Requester, UnknownName, Verdict,
};
use crate::route::Router;
use crate::session::{ApplicationIndex, Context, Revocations, Session};

/// The team: the issuer of accepted tokens, and the host of logins.
#[derive(Clone, Debug)]
pub struct Team {
    /// The display name.
    pub name: String,
    /// The team domain.
    pub domain: Host,
    /// The port that browsers use on every host, unless it is the scheme's default.
    pub port: Option<u16>,
    /// `true` if browsers use plain HTTP.
    pub plain_http: bool,
    /// The tolerated difference between clocks, in seconds.
    pub leeway: u64,
    /// The contact for users.
    pub support: Option<Arc<Support>>,
}

impl Team {
    /// `https://<team domain>`: the issuer of its tokens, and the beginning of its URLs.
    pub fn url(&self) -> String {
        self.url_of(self.domain.as_str())
    }

    /// The same for another host of the team.
    pub fn url_of(&self, host: &str) -> String {
        let scheme = if self.plain_http { "http" } else { "https" };
        match self.port {
            Some(port) => format!("{scheme}://{host}:{port}"),
            None => format!("{scheme}://{host}"),
        }
    }

    /// Returns `true` if clients may use that port.
    pub fn is_served_on(&self, port: u16) -> bool {
        port == self.port.unwrap_or(if self.plain_http { 80 } else { 443 })
    }
}

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
        (lists, groups): (&[List], &[AccessGroup]),
        applications: Vec<ApplicationSettings>,
        cache: Arc<NodeCache>,
    ) -> Result<Self, SnapshotError> {
        let (set, policies) = PolicySet::compile(
            lists,
            groups,
            applications.iter().map(|a| a.policies.as_slice()),
        )?;
        let router = Router::new(applications.iter().map(|a| (&a.domain, a.path_case)));
        let asks = RequiredFacts::for_applications(&applications, groups);
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

    /// Evaluates an application's policies for a user: bypass and Service Auth, then the rest.
    pub fn judge(
        &self,
        application: &Application,
        user: Requester<'_>,
        facts: &Facts<'_>,
    ) -> Verdict {
        let (set, policies) = (self.policies(), &application.policies);
        set.early_verdict(policies, facts).or_else(|| {
            let partial = set.partial_verdict(policies, &set.user_facts(user));
            set.evaluate(policies, &partial, facts)
        })
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
