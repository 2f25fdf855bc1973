//! Configuration: one TOML file, read into types that need no further checking.
//!
//! Decides what every setting means and what it is where it is left out. Trusts the file and what
//! it refers to: environment variables, secret files, certificates. Never stops at the first
//! mistake: all are collected, each with its place and what would be right; never ignores a key;
//! never shows a secret.

mod applications;
mod certificates;
mod cors;
mod domain;
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
mod team;
mod values;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use rustls::pki_types::CertificateDer;
use toml::de::DeTable;

use crate::model::ServiceToken;
use crate::policy::{AccessGroup, Advisor, List};

pub use applications::Application;
pub use certificates::ClientAuthority;
pub use cors::{Allowed, Cors};
pub use domain::Domain;
pub use errors::{Errors, Problem};
pub use geo::Geo;
pub(crate) use origins::UNJUDGED_UPGRADES;
pub use origins::{HealthCheck, Origin, OriginScheme, OriginSettings};
pub use outgoing::Outgoing;
pub use providers::{
    ClientConfig, ClientCredentials, IdentityProvider, IdpKind, OidcConfig, OktaConfig,
};
pub use saml::{EncryptionKey, SamlConfig};
pub use secrets::{Environment, FileContent, Offline, System};
pub use server::{
    Audit, Hsts, Insecure, Limits, Listen, RedirectListener, ServerSettings, StoreConfig, Tls,
};
pub use team::Team;

use evaluations::Evaluations;
use node::Node;
use policies::Reusable;
use reader::{Item, Reader, Table};
use rules::Names;
use server::Listener;

/// Everything that a configuration file says, with the defaults filled in and paths made relative
/// to its folder.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The issuer of tokens.
    pub team: Team,
    /// The store of everything that must survive a restart.
    pub store: StoreConfig,
    /// The listeners; at least one, unless the configuration is for an embedding proxy.
    pub listen: Vec<Listen>,
    /// The listeners that redirect plain HTTP to HTTPS; none by default.
    pub redirects: Vec<RedirectListener>,
    /// The address of metrics and health, on plain HTTP and for every client; none by default.
    pub metrics: Option<SocketAddr>,
    /// The identity providers; none for a remote team.
    pub identity_providers: Vec<IdentityProvider>,
    /// The applications.
    pub applications: Vec<Application>,
    /// Lists, for use in rules.
    pub lists: Vec<List>,
    /// Access groups, for use in policies. None is part of itself, and those that rules name are
    /// all here.
    pub groups: Vec<AccessGroup>,
    /// The database of countries; none by default.
    pub geo: Option<Geo>,
    /// The service tokens; none for a remote team.
    pub service_tokens: Vec<ServiceToken>,
    /// The authorities of client certificates, and the hosts that these count for.
    pub certificates: Vec<ClientAuthority>,
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
    load_for(path, env, false)
}

/// The same for a proxy of one's own, which listens and picks its origins itself: `[[listen]]` and
/// an application's `origin` may be left out. `[team]` then names the scheme and port that browsers
/// use: HTTPS, unless `[insecure] plain_http` is on.
///
/// # Errors
/// As for [`load`].
pub fn load_embedded(path: &Path, env: &dyn Environment) -> Result<Loaded, Errors> {
    load_for(path, env, true)
}

fn load_for(path: &Path, env: &dyn Environment, embedded: bool) -> Result<Loaded, Errors> {
    let of_file = |message: &str| Errors(vec![Problem::of_file(path, message)]);
    let unreadable =
        |e: std::io::Error| of_file(&format!("the file cannot be read: {}", secrets::plain(&e)));
    if std::fs::metadata(path).map_err(unreadable)?.len() > secrets::LARGEST_FILE {
        return Err(of_file("the file is larger than 4 MiB"));
    }
    let bytes = std::fs::read(path).map_err(unreadable)?;
    let text = String::from_utf8(bytes).map_err(|_| of_file("the file is not UTF-8"))?;
    parse_for(&text, path, env, embedded)
}

/// Reads a configuration from text. `file` is named in messages, and its folder is what relative
/// paths start from.
///
/// # Errors
/// Every mistake that was found, in the order of the file. Where the syntax is wrong, only that:
/// the rest could be misread.
pub fn parse(text: &str, file: &Path, env: &dyn Environment) -> Result<Loaded, Errors> {
    parse_for(text, file, env, false)
}

fn parse_for(
    text: &str,
    file: &Path,
    env: &dyn Environment,
    embedded: bool,
) -> Result<Loaded, Errors> {
    let reader = Reader::new(text, file, env, embedded);
    let (document, mistakes) = DeTable::parse_recoverable(text);
    for mistake in &mistakes {
        let offset = mistake.span().map_or(text.len(), |span| span.start);
        reader.syntax(offset, &format!("this is not TOML: {}", mistake.message()));
    }
    let document = Node::from_toml(document);
    let config = if mistakes.is_empty() {
        read(&reader, &document)
    } else {
        None
    };
    let failed = reader.has_errors();
    let certificates = certificate_places(&document)
        .map(|at| at.map(|at| reader.position(at)))
        .collect();
    let authorities = reader.authorities();
    let (errors, warnings) = reader.outcome();
    match config {
        Some(config) if !failed => Ok(Loaded {
            config,
            warnings,
            certificates,
            authorities,
        }),
        _ => Err(Errors(errors)),
    }
}

fn read<'a>(reader: &'a Reader<'a>, document: &'a Node) -> Option<Config> {
    reader.root(document, |table| {
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
            providers: (!remote).then(|| ids(document, "identity_providers")),
            groups: ids(document, "groups"),
            service_tokens: ids(document, "service_tokens"),
            applications: service_tokens::application_ids(document),
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
        Some(Config {
            team: team?,
            store: store?,
            listen,
            redirects,
            metrics,
            identity_providers,
            applications,
            lists,
            groups,
            geo,
            service_tokens,
            certificates,
            outgoing: outgoing?,
            limits: limits?,
            server: server?,
            audit: audit?,
            insecure,
        })
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
    let mut addresses = reader::Unique::new("listener has the address");
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
        None if !remote => {
            let example = "`[[identity_providers]]` with `id = \"okta\"`, `name = \"Okta\"`, `type = \"okta\"` and \
                           `config = { client_id = \"…\", client_secret = \"env:OKTA_CLIENT_SECRET\", okta_account = \"https://….okta.com\" }`";
            table.needed_section("identity_providers", example);
        }
        _ => {}
    }
    providers::read_all(table, insecure)
}

/// The byte in the file at which each listener's certificate is named.
fn certificate_places(document: &Node) -> impl Iterator<Item = Option<usize>> {
    let list = document.get("listen").and_then(Node::as_list);
    let certificate = |listen: &Node| Some(listen.get("tls")?.get("certificate")?.at());
    list.into_iter().flatten().map(certificate)
}

/// The ids that tables in a list have, however much else is wrong with them.
fn ids<'a>(document: &'a Node, key: &str) -> BTreeSet<&'a str> {
    let list = document.get(key).and_then(Node::as_list);
    let id = |item: &'a Node| item.get("id")?.as_str();
    list.map(|list| list.iter().filter_map(id).collect())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests;
