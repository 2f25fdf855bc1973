//! Reads a whole configuration: the settings of the node, and the objects of all documents.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::applications::{self, Context};
use super::certificates;
use super::evaluations::Evaluations;
use super::groups;
use super::listeners::{self, Listeners};
use super::lists;
use super::node::Node;
use super::policies::Reusable;
use super::providers;
use super::reader::{Reader, Table};
use super::rules::Names;
use super::server::{self, Audit, Insecure, Limits, ServerSettings, StoreConfig};
use super::service_tokens;
use super::team::TokenIssuer;
use super::{Config, Geo, Outgoing};
use crate::catalog::{Catalog, IdentityProvider, Team};
use crate::policy::Advisor;

/// A configuration, and line and column of each listener's certificate.
type Whole = (Config, Vec<Option<(usize, usize)>>);

/// Reads the documents; `None` if a mistake leaves nothing to return.
pub(super) fn read<'a>(reader: &'a Reader<'a>) -> Option<Whole> {
    reader.root(read_root)?
}

fn read_root(table: &mut Table<'_>) -> Option<Whole> {
    let insecure = table
        .section("insecure", Insecure::read)
        .unwrap_or_default();
    let listeners = listeners::read_all(table, &insecure);
    let (team, issuer) = team(table, &listeners, &insecure);
    if let Some(team) = &team {
        listeners.report_scheme(table.reader(), team);
    }
    let store = table.section("store", |table| StoreConfig::read(table, &insecure));
    let taken = listeners.addresses();
    let metrics = table.item("metrics");
    let metrics =
        metrics.and_then(|item| item.table(|table| server::metrics(table, &taken)).flatten());
    let geo = table.item("geo");
    let surroundings = Surroundings {
        team,
        issuer,
        insecure: &insecure,
        listeners: &listeners,
        has_countries: geo.is_some(),
    };
    let catalog = catalog(table, surroundings);
    let geo = geo.and_then(|item| item.table(Geo::read).flatten());
    let outgoing = table.section("outgoing", |table| Outgoing::read(table, &insecure));
    let limits = table.section("limits", Limits::read);
    let server = table.section("server", ServerSettings::read);
    let audit = table.section("audit", Audit::read);
    let config = Config {
        catalog: catalog?,
        store: store?,
        listen: listeners.serving,
        redirects: listeners.redirects,
        metrics,
        geo,
        outgoing: outgoing?,
        limits: limits?,
        server: server?,
        audit: audit?,
        insecure,
    };
    Some((config, certificate_positions(table)))
}

fn team(
    table: &mut Table<'_>,
    listeners: &Listeners,
    insecure: &Insecure,
) -> (Option<Team>, TokenIssuer) {
    let item = table.needed_section("team", "`[team]` with `domain = \"access.example.com\"`");
    let Some(item) = item else {
        return (None, TokenIssuer::Local);
    };
    let issuer = match item.get("certs_url") {
        Some(_) => TokenIssuer::Remote,
        None => TokenIssuer::Local,
    };
    let team = item.table(|table| Team::read(table, insecure)).flatten();
    let team = team.map(|(mut team, place)| {
        team.follow_listeners(item.reader(), &place, &listeners.serving, insecure);
        team
    });
    (team, issuer)
}

/// The settings that objects are checked against.
struct Surroundings<'s> {
    team: Option<Team>,
    issuer: TokenIssuer,
    insecure: &'s Insecure,
    listeners: &'s Listeners,
    has_countries: bool,
}

/// Reads the objects of all documents, so that every mistake is reported; `None` without a team.
fn catalog(table: &mut Table<'_>, around: Surroundings<'_>) -> Option<Catalog> {
    let Surroundings {
        team,
        issuer,
        insecure,
        listeners,
        has_countries,
    } = around;
    let mut names = Names {
        countries: has_countries,
        evaluations: Evaluations::new(insecure, issuer),
        providers: (issuer == TokenIssuer::Local).then(|| ids(table, "identity_providers")),
        groups: ids(table, "groups"),
        service_tokens: ids(table, "service_tokens"),
        applications: service_tokens::application_ids(table),
        claims: BTreeMap::new(),
        email_lists: BTreeSet::new(),
        ip_lists: BTreeSet::new(),
        about_identity: HashSet::new(),
    };
    let lists = lists::read_all(table, &mut names);
    let identity_providers = identity_providers(table, insecure, issuer);
    for provider in &identity_providers {
        names
            .claims
            .insert(provider.id.0.to_string(), provider.claims().to_vec());
    }
    let groups = groups::read_all(table, &mut names, &lists);
    let reusable = Reusable::read(table, &names, &Advisor::new(&lists));
    let service_tokens = service_tokens::read_all(table, issuer);
    let certificates = certificates::read_all(table, &listeners.serving);
    let context = Context {
        team: team.as_ref(),
        issuer,
        insecure,
        listen: &listeners.serving,
        names: &names,
        providers: &identity_providers,
        lists: &lists,
        reusable: &reusable,
        certificates: &certificates,
    };
    let applications = applications::read_all(table, &context);
    Some(Catalog {
        team: team?,
        identity_providers,
        applications,
        policies: reusable.into_policies(),
        groups,
        lists,
        service_tokens,
        certificates,
    })
}

fn identity_providers(
    table: &mut Table<'_>,
    insecure: &Insecure,
    issuer: TokenIssuer,
) -> Vec<IdentityProvider> {
    let item = table.item("identity_providers");
    match item {
        Some(item) if issuer == TokenIssuer::Remote => {
            item.error("with `certs_url` users sign in at the other team; remove one of the two");
        }
        None if issuer == TokenIssuer::Local && table.nodes("identity_providers").is_empty() => {
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
