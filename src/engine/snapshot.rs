use std::net::IpAddr;
use std::sync::Arc;

use thiserror::Error;

use super::node_cache::Issuer;
use super::required_facts::RequiredFacts;
use super::service_clients::ServiceTokens;
use super::{Application, ApplicationSettings, ClientCa, NodeCache};
use crate::model::{Aud, Host, ServiceToken, Support};
use crate::policy::{
    AccessGroup, Countries, Country, Facts, List, PolicySet, Requester, UnknownName, Verdict,
};
use crate::route::Router;
use crate::session::{ApplicationIndex, Context, Revocations, Session};

/// The team: whose tokens are good here, and where people log in.
#[derive(Clone, Debug)]
pub struct Team {
    /// For people.
    pub name: String,
    /// The team domain.
    pub domain: Host,
    /// The port that browsers use on every host, where it is not the scheme's own.
    pub port: Option<u16>,
    /// Whether browsers come over plain HTTP.
    pub plain_http: bool,
    /// Seconds of difference between clocks that are forgiven.
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

    /// Whether a client may name that port.
    pub fn is_served_on(&self, port: u16) -> bool {
        port == self.port.unwrap_or(if self.plain_http { 80 } else { 443 })
    }
}

/// Everything a decision reads. Immutable: a change is a new one.
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
    keys: Arc<Issuer>,
}

/// Why no snapshot could be made.
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

    /// The same with a place to look countries up.
    #[must_use]
    pub fn with_countries(self, countries: Option<Arc<dyn Countries>>) -> Self {
        Self { countries, ..self }
    }

    /// The same with these service tokens and no others.
    #[must_use]
    pub fn with_service_tokens(self, tokens: impl IntoIterator<Item = ServiceToken>) -> Self {
        Self {
            service_tokens: Arc::new(ServiceTokens::new(tokens)),
            ..self
        }
    }

    /// The same with these authorities for client certificates and no others.
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

    /// The authorities for client certificates.
    pub const fn client_cas(&self) -> &Arc<[ClientCa]> {
        &self.client_cas
    }

    /// Whether clients are asked for a certificate on that host.
    pub fn takes_certificates(&self, host: &str) -> bool {
        super::client_ca::for_host(self.client_cas(), host)
            .next()
            .is_some()
    }

    /// Where countries are looked up.
    pub fn countries(&self) -> Option<&dyn Countries> {
        self.countries.as_deref()
    }

    /// The country that an address is in, where it is known.
    pub fn country_of(&self, ip: Option<IpAddr>) -> Option<Country> {
        ip.and_then(|ip| self.countries()?.country(ip))
    }

    /// The same with other revocations.
    #[must_use]
    pub fn with_revocations(&self, revocations: Arc<Revocations>) -> Self {
        Self {
            revocations,
            ..self.clone()
        }
    }

    /// The team.
    pub fn team(&self) -> &Team {
        &self.compiled.team
    }

    /// `https://<team domain>`.
    pub fn issuer(&self) -> &str {
        &self.compiled.issuer
    }

    /// Its number.
    pub fn generation(&self) -> u64 {
        self.compiled.generation
    }

    /// All applications.
    pub fn applications(&self) -> &[Arc<Application>] {
        &self.compiled.applications
    }

    /// The application with that audience tag.
    pub fn application(&self, aud: &Aud) -> Option<&Arc<Application>> {
        self.compiled.applications.iter().find(|a| a.aud() == aud)
    }

    /// Which host and path belong to whom.
    pub fn router(&self) -> &Router {
        &self.compiled.router
    }

    /// What this node has seen.
    pub const fn cache(&self) -> &Arc<NodeCache> {
        &self.cache
    }

    /// What was ended before its time.
    pub const fn revocations(&self) -> &Arc<Revocations> {
        &self.revocations
    }

    /// Access groups and names.
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

    /// The keys of the team.
    pub(super) fn keys(&self) -> &Issuer {
        &self.compiled.keys
    }

    /// To be taken before what it counts is read: a change in between then makes the session be
    /// looked at once more.
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
