//! Configuration: one TOML file, read into types that need no further checking.
//!
//! Decides what every setting means and what it is where it is left out. Trusts the file and what
//! it refers to: environment variables, secret files, certificates. Never stops at the first
//! mistake: all are collected, each with its place and what would be right; never ignores a key;
//! never shows a secret.

mod applications;
mod certificates;
mod cors;
mod document;
mod errors;
mod evaluations;
mod geo;
mod node;
mod origins;
mod outgoing;
mod policies;
mod provider_urls;
mod providers;
mod reader;
mod rules;
mod saml;
mod secrets;
mod server;
mod service_tokens;
mod source;
mod team;
mod unique;
mod values;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::catalog::Kind;
use crate::policy::Advisor;
use rustls::pki_types::CertificateDer;

pub use crate::catalog::{
    Allowed, Application, ApplicationPolicy, Catalog, ClientAuthority, ClientConfig,
    ClientCredentials, Cors, Domain, EncryptionKey, HealthCheck, IdentityProvider, IdpKind,
    OidcConfig, OktaConfig, Origin, OriginScheme, OriginSettings, SamlConfig, Team,
};
pub use document::{Document, DocumentName};
pub use errors::{Errors, Problem};
pub use geo::Geo;
pub(crate) use origins::UNJUDGED_UPGRADES;
pub use outgoing::Outgoing;
pub use secrets::{Environment, FileContent, Offline, System};
pub use server::{
    Audit, Hsts, Insecure, Limits, Listen, RedirectListener, ServerSettings, StoreConfig, Tls,
};
pub use source::{File, Source};

use evaluations::Evaluations;
use node::Node;
use policies::Reusable;
use reader::{Deployment, Item, Reader, Table};
use rules::Names;
use server::Listener;
use unique::Unique;

/// Everything that a configuration file says, with the defaults filled in and paths made relative
/// to its folder.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The configured objects.
    pub catalog: Catalog,
    /// The store of everything that must survive a restart.
    pub store: StoreConfig,
    /// The listeners; at least one, unless the configuration is for an embedding proxy.
    pub listen: Vec<Listen>,
    /// The listeners that redirect plain HTTP to HTTPS; none by default.
    pub redirects: Vec<RedirectListener>,
    /// The address of metrics and health, on plain HTTP and for every client; none by default.
    pub metrics: Option<SocketAddr>,
    /// The database of countries; none by default.
    pub geo: Option<Geo>,
    /// The settings of calls to identity providers and other services.
    pub outgoing: Outgoing,
    /// The limits of requests.
    pub limits: Limits,
    /// The settings of the process.
    pub server: ServerSettings,
    /// The settings of the audit log.
    pub audit: Audit,
    /// The checks that were switched off.
    pub insecure: Insecure,
}

/// A configuration that can be used, and what is worth knowing about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// In the order of the file.
    pub warnings: Vec<Problem>,
    /// Line and column of each listener's certificate, for messages about it; none for a listener
    /// without TLS.
    pub certificates: Vec<Option<(usize, usize)>>,
    /// The files of certificate authorities, for messages about them.
    pub authorities: Vec<AuthorityFile>,
    /// The origin of each object.
    pub provenance: HashMap<(Kind, String), Provenance>,
}

/// The origin of an object: it can only be changed there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provenance {
    /// The document.
    pub document: DocumentName,
    /// The line, from 1; `None` in JSON.
    pub line: Option<usize>,
}

/// A file of certificate authorities, and the key that names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorityFile {
    /// The way to the key.
    pub key: String,
    /// Line and column of the value.
    pub position: Option<(usize, usize)>,
    /// The file.
    pub path: PathBuf,
    /// Its certificates, in their order.
    pub certificates: Vec<CertificateDer<'static>>,
}

/// Reads a configuration file of at most 4 MiB.
///
/// # Errors
/// Every mistake that was found, in the order of the file.
pub fn load(path: &Path, env: &dyn Environment) -> Result<Loaded, Errors> {
    load_for(path, env, Deployment::Standalone)
}

/// The same for a proxy of one's own, which listens and picks its origins itself: `[[listen]]` and
/// an application's `origin` may be left out. `[team]` then names the scheme and port that browsers
/// use: HTTPS, unless `[insecure] plain_http` is on.
///
/// # Errors
/// As for [`load`].
pub fn load_embedded(path: &Path, env: &dyn Environment) -> Result<Loaded, Errors> {
    load_for(path, env, Deployment::Embedded)
}

fn load_for(path: &Path, env: &dyn Environment, deployment: Deployment) -> Result<Loaded, Errors> {
    check_for(&File::new(path).documents()?, env, deployment)
}

/// Loads a configuration from several sources, one of which has the file.
///
/// # Errors
/// Every source that cannot be read; otherwise every mistake, as for [`check`].
pub fn load_from(sources: &[&dyn Source], env: &dyn Environment) -> Result<Loaded, Errors> {
    let (mut documents, mut problems) = (Vec::new(), Vec::new());
    for source in sources {
        match source.documents() {
            Ok(read) => documents.extend(read),
            Err(Errors(errors)) => problems.extend(errors),
        }
    }
    if problems.is_empty() {
        check(&documents, env)
    } else {
        Err(Errors(problems))
    }
}

/// Reads a configuration from text. `file` is named in messages, and its folder is what relative
/// paths start from.
///
/// # Errors
/// Every mistake that was found, in the order of the file. Where the syntax is wrong, only that:
/// the rest could be misread.
pub fn parse(text: &str, file: &Path, env: &dyn Environment) -> Result<Loaded, Errors> {
    check(&[Document::toml(text.to_owned(), file)?], env)
}

/// Checks a configuration together with objects from other sources, as one whole.
///
/// There is no check of a single object: a change can invalidate another object, as when a group
/// of a bypass policy gets a rule about email addresses. So a change is checked as the
/// configuration that it results in.
///
/// # Errors
/// Every mistake that was found, in the order of the documents. Without a configuration among the
/// documents, the list is empty.
pub fn check(documents: &[Document], env: &dyn Environment) -> Result<Loaded, Errors> {
    check_for(documents, env, Deployment::Standalone)
}

fn check_for(
    documents: &[Document],
    env: &dyn Environment,
    deployment: Deployment,
) -> Result<Loaded, Errors> {
    let reader = Reader::new(documents, env, deployment);
    let read = read(&reader);
    let failed = reader.has_errors();
    let authorities = reader.authorities();
    let provenance = reader.provenance();
    let (errors, warnings) = reader.outcome();
    match read {
        Some((config, certificates)) if !failed => Ok(Loaded {
            config,
            warnings,
            certificates,
            authorities,
            provenance,
        }),
        _ => Err(Errors(errors)),
    }
}

fn read<'a>(reader: &'a Reader<'a>) -> Option<(Config, Vec<Option<(usize, usize)>>)> {
    reader.root(|table| {
        let insecure = table.section("insecure", Insecure::read).unwrap_or_default();
        let Listeners { serving: listen, redirects, unencrypted, redirecting } = listeners(table, &insecure);
        let team = table.needed_section("team", "`[team]` with `domain = \"access.example.com\"`");
        let remote = team.as_ref().is_some_and(|team| team.get("certs_url").is_some());
        let team = team.and_then(|item| item.table(|table| Team::read(table, &insecure)).flatten());
        let team = team.map(|(mut team, place)| {
            team.meet(reader, &place, &listen, &insecure);
            team
        });
        for place in unencrypted.iter().filter(|_| team.as_ref().is_some_and(|team| !team.plain_http)) {
            reader.warn(
                place,
                "the team is on HTTPS, and logins over this listener fail: browsers drop the cookies of plain HTTP; \
                 write `redirect_to_https = true`, or name the proxy in front that has a certificate in `trusted_proxies`",
            );
        }
        for place in redirecting.iter().filter(|_| team.as_ref().is_some_and(|team| team.plain_http)) {
            reader.error(place, "the team is on plain HTTP, so there is no HTTPS to redirect to; leave this listener out");
        }
        let store = table.section("store", |table| StoreConfig::read(table, &insecure));
        let taken: Vec<SocketAddr> =
            listen.iter().map(|l| l.address).chain(redirects.iter().map(|r| r.address)).collect();
        let metrics = table.item("metrics").and_then(|item| item.table(|t| server::metrics(t, &taken)).flatten());
        let geo = table.item("geo");
        let mut names = Names {
            countries: geo.is_some(),
            evaluations: Evaluations::new(insecure.insecure_identity_providers, remote),
            providers: (!remote).then(|| ids(table, "identity_providers")),
            groups: ids(table, "groups"),
            service_tokens: ids(table, "service_tokens"),
            applications: service_tokens::application_ids(table),
            claims: BTreeMap::new(),
            email_lists: BTreeSet::new(),
            ip_lists: BTreeSet::new(),
            about_identity: HashSet::new(),
        };
        let lists = rules::read_lists(table, &mut names);
        let identity_providers = identity_providers(table, &insecure, remote);
        names
            .claims
            .extend(identity_providers.iter().map(|provider| (provider.id.0.to_string(), provider.claims().to_vec())));
        let groups = rules::read_groups(table, &mut names, &lists);
        let reusable = Reusable::read(table, &names, &Advisor::new(&lists));
        let service_tokens = service_tokens::read_all(table, remote);
        let certificates = certificates::read_all(table, &listen);
        let around = applications::Surroundings {
            team: team.as_ref(),
            remote,
            insecure: &insecure,
            listen: &listen,
            names: &names,
            providers: &identity_providers,
            lists: &lists,
            reusable: &reusable,
            certificates: &certificates,
        };
        let applications = applications::read_all(table, &around);
        let geo = geo.and_then(|item| item.table(Geo::read).flatten());
        let outgoing = table.section("outgoing", |table| Outgoing::read(table, &insecure));
        let limits = table.section("limits", Limits::read);
        let server = table.section("server", ServerSettings::read);
        let audit = table.section("audit", Audit::read);
        let certificate_positions = certificate_positions(table);
        let catalog = Catalog {
            team: team?,
            identity_providers,
            applications,
            policies: reusable.into_policies(),
            groups,
            lists,
            service_tokens,
            certificates,
        };
        let config = Config {
            catalog,
            store: store?,
            listen,
            redirects,
            metrics,
            geo,
            outgoing: outgoing?,
            limits: limits?,
            server: server?,
            audit: audit?,
            insecure,
        };
        Some((config, certificate_positions))
    })?
}

/// The `[[listen]]` of a file.
struct Listeners {
    serving: Vec<Listen>,
    redirects: Vec<RedirectListener>,
    /// Listeners that serve applications without TLS and without a trusted proxy in front.
    unencrypted: Vec<reader::Place>,
    redirecting: Vec<reader::Place>,
}

fn listeners(table: &mut Table<'_>, insecure: &Insecure) -> Listeners {
    let mut addresses = Unique::new("listener has the address");
    let example = "`[[listen]]` with `address = \"0.0.0.0:443\"` and `tls = { certificate = \"tls.crt\", key = \"tls.key\" }`";
    let embedded = table.reader().is_embedded();
    let item = if embedded {
        table.item("listen")
    } else {
        table.needed_section("listen", example)
    };
    let list = item.as_ref().and_then(Item::list).unwrap_or_default();
    if let (Some(item), true) = (
        &item,
        list.is_empty()
            && item
                .as_ref()
                .is_some_and(|item| item.node().as_list().is_some()),
    ) {
        item.error("this list is empty; add a listener");
    }
    let mut read = Listeners {
        serving: Vec::new(),
        redirects: Vec::new(),
        unencrypted: Vec::new(),
        redirecting: Vec::new(),
    };
    let mut failed = false;
    for item in &list {
        let Some(listener) = item
            .table(|table| Listener::read(table, insecure))
            .flatten()
        else {
            failed = true;
            continue;
        };
        let place = item
            .get("address")
            .map_or_else(|| item.place().clone(), |item| item.place().clone());
        addresses.claim(item.reader(), &listener.address().to_string(), &place);
        match listener {
            Listener::Serving(listen) => {
                if listen.tls.is_none() && listen.trusted_proxies.is_empty() {
                    read.unencrypted.push(place);
                }
                read.serving.push(listen);
            }
            Listener::Redirecting(redirect) => {
                read.redirecting.push(place);
                read.redirects.push(redirect);
            }
        }
    }
    if let (Some(item), true, false, false) = (
        &item,
        read.serving.is_empty(),
        read.redirects.is_empty(),
        failed,
    ) && !item.reader().is_embedded()
    {
        item.error("every listener here only redirects; add one with `tls` to redirect to");
    }
    read
}

fn identity_providers(
    table: &mut Table<'_>,
    insecure: &Insecure,
    remote: bool,
) -> Vec<IdentityProvider> {
    let item = table.item("identity_providers");
    match item {
        Some(item) if remote => {
            item.error("with `certs_url` people log in at the team that it belongs to; leave one of the two out");
        }
        None if !remote && table.nodes("identity_providers").is_empty() => {
            let example = "`[[identity_providers]]` with `id = \"okta\"`, `name = \"Okta\"`, `type = \"okta\"` and \
                           `config = { client_id = \"…\", client_secret = \"env:OKTA_CLIENT_SECRET\", okta_account = \"https://….okta.com\" }`";
            table.needed_section("identity_providers", example);
        }
        _ => {}
    }
    providers::read_all(table, insecure)
}

/// Returns the position of each listener's certificate.
fn certificate_positions(table: &Table<'_>) -> Vec<Option<(usize, usize)>> {
    let certificate = |listen: &Node| Some(listen.get("tls")?.get("certificate")?.at());
    table
        .nodes("listen")
        .into_iter()
        .map(|listen| table.position(certificate(listen)?))
        .collect()
}

/// Returns the ids of the tables in a list, however much else is wrong with them.
fn ids<'a>(table: &Table<'a>, key: &str) -> BTreeSet<&'a str> {
    let id = |node: &'a Node| node.get("id")?.as_str();
    table.nodes(key).into_iter().filter_map(id).collect()
}

#[cfg(test)]
mod tests;
