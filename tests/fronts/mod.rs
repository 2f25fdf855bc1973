//! A node in each state of the case table, and the answers of a front to its cases.
//!
//! Included by the unit tests of the gate and by the integration tests, which put the cases on the
//! wire. Neither the policy that allowed a request nor the reason for a login page shows in an
//! answer; the engine's own run of the table checks those.

use std::sync::Arc;
use std::time::Duration;

use portcullis::control::{
    Access, Clock, Evaluations, IssuerSettings, RemoteTeam, Resources, Services,
};
use portcullis::engine::{AssertionOf, NodeCache, Origins, Snapshot};
use portcullis::http_client::{HttpClient, Roots, Timeouts};
use portcullis::model::UnixTime;
use portcullis::observe::audit::Sample;
use portcullis::policy::SharedRules;
use portcullis::store::{MemoryStore, Revocation, RevocationRepository as _};
use tokio::net::TcpSocket;
use tokio::runtime::Handle;
use url::Url;

use super::keys;
use super::table::{self, App, Case, LIFETIME, Mint, TEAM_DOMAIN, World, aud};

/// Returns the answer that is due to a case.
///
/// A fact that must be fetched first is missing here: the team is out of reach, and the one attempt
/// to fetch it fails.
pub(crate) fn expected(id: &str, case: &Case) -> String {
    let (_, host, _, _) = case.target();
    let host = host.to_ascii_lowercase();
    let host = host.split(':').next().unwrap().trim_end_matches('.');
    let decision = case.unlearned.as_ref().unwrap_or(&case.expect);
    let words: Vec<_> = decision.split(' ').collect();
    match words.as_slice() {
        ["forward", app, "as", person, ..] => format!("200 of {app} as {person}"),
        ["log", "in", "redirect", _] => format!("302 to the login of {host}"),
        ["log", "in", "page", _] => "401 page".to_owned(),
        ["log", "in", "json", reason] => format!("401 json {reason}"),
        ["log", "in", "upgrade", _] => "401 empty".to_owned(),
        ["log", "in", "grpc", _] => "200 grpc-status 16".to_owned(),
        ["deny", reason] if reason.starts_with("service_token_") => format!("401 json {reason}"),
        ["deny", reason] => format!("403 {reason}"),
        ["unavailable", reason] => format!("503 {reason}"),
        ["preflight", _] => "204 preflight".to_owned(),
        ["refuse", reason] => format!("{} {reason}", refusal_status(id, reason)),
        // The team of this node is out of reach, and the node never received its keys document.
        ["handle", "login", "on", "team"] => "200 page".to_owned(),
        ["handle", "logout"] => "302 to the team's logout".to_owned(),
        ["handle", "certs", ..] => "503".to_owned(),
        ["handle", "get-identity"] => "401 json".to_owned(),
        ["handle", "home", "on", "team"] => "200 page".to_owned(),
        ["handle", "protected-resource"] => "200 json".to_owned(),
        ["handle", "protected-resource", "on", "team"] => "404".to_owned(),
        ["handle", "unknown", ..] => "404".to_owned(),
        _ => panic!("{id}: the answer to `{decision}` is not listed"),
    }
}

fn refusal_status(id: &str, reason: &str) -> u16 {
    match reason {
        "path_ambiguous" | "host_malformed" => 400,
        "no_application" => 404,
        "method_refused" => 405,
        "port_unknown" => 421,
        "headers_too_large" => 431,
        _ => panic!("{id}: the status of `{reason}` is not listed"),
    }
}

/// A response that came from no origin.
pub(crate) struct Answer<'a> {
    pub(crate) status: u16,
    /// Returns a header of the response.
    pub(crate) header: &'a dyn Fn(&str) -> Option<&'a str>,
    pub(crate) body: &'a str,
}

impl Answer<'_> {
    /// Returns the response in the words of [`expected`].
    pub(crate) fn describe(&self) -> String {
        let header = |name| (self.header)(name);
        let kind = header("content-type").unwrap_or_default();
        let location = header("location").unwrap_or_default();
        let is_login = header("cf-access-login-url").is_some();
        let is_page = self.body.contains("<html");
        let what = match (self.status, self.reason(kind)) {
            (302, _) => redirect(location),
            (200, _) if kind == "application/grpc" => {
                format!("grpc-status {}", header("grpc-status").unwrap_or_default())
            }
            (401, None) if is_login && self.body.is_empty() => "empty".to_owned(),
            (401, Some(reason)) if kind == "application/json" => {
                let is_service_client = reason.starts_with("service_token_");
                assert_ne!(is_login, is_service_client, "service clients have no login");
                format!("json {reason}")
            }
            (200 | 401, None) if kind == "application/json" => "json".to_owned(),
            (200, None) if is_page => "page".to_owned(),
            (401, None) if is_login && is_page => "page".to_owned(),
            (204, _) if header("access-control-allow-origin").is_some() => "preflight".to_owned(),
            (_, reason) => reason.unwrap_or_default(),
        };
        format!("{} {what}", self.status).trim_end().to_owned()
    }

    fn reason(&self, kind: &str) -> Option<String> {
        if kind == "application/json" {
            let body: serde_json::Value = serde_json::from_str(self.body).unwrap();
            return body["reason"].as_str().map(str::to_owned);
        }
        let (_, rest) = self.body.split_once("reason <code>")?;
        Some(rest.split_once('<')?.0.to_owned())
    }
}

fn redirect(location: &str) -> String {
    if location.starts_with(LOGOUT) {
        return "to the team's logout".to_owned();
    }
    let location = Url::parse(location).unwrap();
    let is_team = location.origin().ascii_serialization() == format!("https://{TEAM_DOMAIN}");
    match location.path().strip_prefix("/cdn-cgi/access/login/") {
        Some(host) if is_team => format!("to the login of {host}"),
        _ => format!("to {location}"),
    }
}

const LOGOUT: &str = "https://access.example.com/cdn-cgi/access/logout";

/// Returns keys for the tokens of the table, which are made for the present.
pub(crate) fn mint() -> Mint {
    Mint {
        now: UnixTime::now(),
        issuer: format!("https://{TEAM_DOMAIN}"),
        key: keys::signing_key(keys::TEAM),
        stranger: keys::signing_key(keys::STRANGER),
    }
}

/// A team that cannot be reached: its port is taken, and nothing listens there.
pub(crate) struct UnreachableTeam {
    url: String,
    _port: TcpSocket,
}

impl UnreachableTeam {
    pub(crate) fn new() -> Self {
        let port = TcpSocket::new_v4().unwrap();
        port.bind(([127, 0, 0, 1], 0).into()).unwrap();
        Self {
            url: format!("http://{}", port.local_addr().unwrap()),
            _port: port,
        }
    }

    fn remote(&self) -> RemoteTeam {
        let endpoint =
            |path: &str| Url::parse(&format!("{}/cdn-cgi/access/{path}", self.url)).unwrap();
        RemoteTeam {
            certs_url: endpoint("certs"),
            identity_url: endpoint("get-identity"),
            authorized_url: endpoint("authorized"),
            max_stale: LIFETIME,
        }
    }
}

/// Returns a node of that team with the knowledge of a state of the table. A fetch that is not due
/// in this state is not due for longer than the test runs.
pub(crate) async fn node(
    world: &World,
    mint: &Mint,
    state: &str,
    team: &UnreachableTeam,
    origins: impl Fn(&App) -> Origins,
) -> Arc<Access> {
    let store = MemoryStore::new();
    for revocation in revocations(world, mint, state) {
        store
            .revoke(&revocation, mint.now.after(LIFETIME))
            .await
            .unwrap();
    }
    let services = Services {
        providers: Vec::new(),
        issuer: IssuerSettings::Remote(team.remote()),
        team_url: mint.issuer.clone(),
        team_session: LIFETIME,
        identity_lifetime: LIFETIME,
        token_lifetime: LIFETIME,
        revocations_max_stale: None,
        leeway: Duration::from_secs(table::LEEWAY),
        sample: Sample::OFF,
        audit_identity: true,
        evaluations: Evaluations::default(),
        countries: None,
        watched: Vec::new(),
    };
    let resources = Resources {
        store: Arc::new(store),
        http: HttpClient::new(&Roots::default(), Timeouts::default()).unwrap(),
        runtime: Handle::current(),
        clock: Clock::default(),
    };
    let snapshot = snapshot(world, mint, state, origins);
    let access = Access::start(snapshot, services, resources).await.unwrap();
    if state == "revocations stale" {
        access
            .snapshot()
            .cache()
            .set_revocations_good_until(mint.now);
    }
    access
}

fn snapshot(
    world: &World,
    mint: &Mint,
    state: &str,
    origins: impl Fn(&App) -> Origins,
) -> Snapshot {
    let retry_from = mint.now.after(LIFETIME);
    let cache = Arc::new(NodeCache::new(1_000));
    if let Some(keys) = mint.keys(state, retry_from) {
        cache.set_keys(&mint.issuer, keys);
    }
    for person in &world.people {
        if let Some(state) = person.state(retry_from) {
            cache.set_identity(person.nonce(), state);
        }
    }
    let applications = world
        .applications
        .iter()
        .map(|app| app.settings(origins(app)))
        .collect();
    let rules = SharedRules {
        lists: &[],
        groups: &world.groups,
    };
    let snapshot =
        Snapshot::compile(1, table::team(TEAM_DOMAIN), rules, applications, cache).unwrap();
    let tokens = world.service_tokens.iter();
    let snapshot = snapshot.with_service_tokens(tokens.map(|token| token.settings(mint.now)));
    // The node cannot sign assertions. With other keys than these it has no valid ones.
    if state.is_empty() {
        for (aud, name, token) in world.assertions(mint) {
            let issuer = snapshot.issuer();
            let cache = snapshot.cache();
            let of = AssertionOf {
                aud: &aud,
                common_name: &name,
            };
            cache.set_assertion(issuer, of, token, retry_from);
        }
    }
    assert_eq!(snapshot.issuer(), mint.issuer);
    snapshot
}

fn revocations(world: &World, mint: &Mint, state: &str) -> Vec<Revocation> {
    let user = |name: &str| Revocation::User {
        user: world.person(name).user(),
        before: mint.now,
    };
    match state {
        "session revoked" => vec![Revocation::Session(world.person("alice").nonce())],
        // The first has the revision of the logins, the second a later one.
        "user revoked" => vec![user("alice"), user("alice")],
        "user formerly revoked" => vec![user("alice")],
        "heidi revoked" => vec![user("heidi"), user("heidi")],
        "application revoked" => vec![Revocation::Application {
            aud: aud("wiki"),
            before: mint.now,
        }],
        _ => Vec::new(),
    }
}
