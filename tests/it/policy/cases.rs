//! The case table over real sockets: what the engine answers, the proxy answers too.
//!
//! One Pingora server with a service for each state that the table puts a node in, and a recording
//! origin for each application. A case is put on the wire, and what came back and what the origins
//! saw is compared with what its decision looks like from outside: whatever is not forwarded must
//! not have arrived anywhere. By which policy a request was let through, and why a page or a
//! redirect asks for a login, does not show on the wire; the engine's own run of the table sees to
//! those.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use pingora::proxy::http_proxy_service;
use pingora::server::configuration::{Opt, ServerConf};
use pingora::server::{RunArgs, Server, ShutdownSignal, ShutdownSignalWatch};
use portcullis::control::{Access, Background, Evaluations, RemoteTeam, Services, Vital};
use portcullis::engine::{Known, Origins, Snapshot};
use portcullis::front::pingora::{
    AccessFilter, AccessProxy, FilterSettings, ListenerSettings, OriginContext, OriginPool,
    PoolSettings, Protocol, Target,
};
use portcullis::http_client::{HttpClient, Roots, Timeouts};
use portcullis::model::UnixTime;
use portcullis::observe::audit::Sample;
use portcullis::store::{MemoryStore, Revocation, RevocationRepository as _};
use portcullis::token::SigningKey;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use url::Url;

use self::table::{Case, LIFETIME, Mint, TEAM_DOMAIN, World, aud};
use crate::support::portcullis::free_address;
use crate::support::{Origin, Response, open_token, raw};

#[path = "../../cases/mod.rs"]
mod table;

/// Cases that Pingora turns away on its own, with the status that is due but before the check sees
/// them, so that no reason shows. All others are answered by the check. This list may only become
/// shorter, and a case that does not belong on it fails.
const TURNED_AWAY_BEFORE: &[&str] = &[
    // No URI, so there is no request.
    "p17 user information",
    // Pingora proxies no tunnels.
    "p21 connect",
];

#[tokio::test]
async fn every_case_is_answered_as_the_engine_decides_it() {
    let world = table::world();
    let mut mint = mint();
    let start = mint.now;
    let front = Front::start(&world, &mint).await;
    let mut wrong = Vec::new();
    for id in TURNED_AWAY_BEFORE {
        assert!(world.cases.contains_key(*id), "`{id}` is no case");
        eprintln!("turned away before the check: {id}");
    }
    for (id, case) in &world.cases {
        let expected = shown(id, case);
        let seen = if case
            .with
            .iter()
            .any(|with| with.ends_with(" ending") || with.ends_with(" early"))
        {
            front.within_a_second(&world, case, &mut mint).await
        } else {
            mint.now = start;
            front.ask(&world, case, &mint).await
        };
        if seen != expected {
            wrong.push(format!(
                "{id}: `{}` is due as `{expected}` and came as `{seen}`",
                case.send
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {} cases:\n{}",
        wrong.len(),
        world.cases.len(),
        wrong.join("\n")
    );
}

/// Two keys, and the clock of the world: the front reads no other.
fn mint() -> Mint {
    let key = || SigningKey::generate().unwrap();
    Mint {
        now: UnixTime::now(),
        issuer: format!("https://{TEAM_DOMAIN}"),
        key: key(),
        stranger: key(),
    }
}

/// What the decision of a case looks like from outside. Where something must be learned first, it
/// cannot be here: the team is out of reach, and the front's one attempt to learn fails.
fn shown(id: &str, case: &Case) -> String {
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
        ["refuse", reason] => {
            let status = match *reason {
                "path_ambiguous" | "host_malformed" => 400,
                "no_application" => 404,
                "method_refused" => 405,
                "port_unknown" => 421,
                "headers_too_large" => 431,
                _ => panic!("{id}: no status is known for `{reason}`"),
            };
            if TURNED_AWAY_BEFORE.contains(&id) {
                format!("{status}")
            } else {
                format!("{status} {reason}")
            }
        }
        // What the endpoints of a node say whose team is out of reach, and which never had the
        // team's keys as a document.
        ["handle", "login", "on", "team"] => "200 page".to_owned(),
        ["handle", "logout"] => "302 to the team's logout".to_owned(),
        ["handle", "certs", ..] => "503".to_owned(),
        ["handle", "get-identity"] => "401 json".to_owned(),
        ["handle", "home", "on", "team"] => "200 page".to_owned(),
        ["handle", "protected-resource"] => "200 json".to_owned(),
        ["handle", "protected-resource", "on", "team"] => "404".to_owned(),
        ["handle", "unknown", ..] => "404".to_owned(),
        _ => panic!("{id}: nobody knows how `{decision}` looks from outside"),
    }
}

/// The same of an answer that did not come from an origin.
fn describe(answer: &Response) -> String {
    let status = answer.status;
    let text = answer.text();
    let kind = answer.headers.one("content-type").unwrap_or_default();
    let reason = match kind {
        "application/json" => answer.json()["reason"].as_str().map(str::to_owned),
        _ => text
            .split_once("reason <code>")
            .and_then(|(_, rest)| Some(rest.split_once('<')?.0.to_owned())),
    };
    let with_login = answer.headers.one("cf-access-login-url").is_some();
    let what = match (status, reason) {
        (302, _) if answer.location().starts_with(LOGOUT) => "to the team's logout".to_owned(),
        (302, _) => {
            let location = Url::parse(answer.location()).unwrap();
            let host = location.path().strip_prefix("/cdn-cgi/access/login/");
            match host.filter(|_| {
                location.origin().ascii_serialization() == format!("https://{TEAM_DOMAIN}")
            }) {
                Some(host) => format!("to the login of {host}"),
                None => format!("to {location}"),
            }
        }
        (200, _) if kind == "application/grpc" => {
            format!(
                "grpc-status {}",
                answer.headers.one("grpc-status").unwrap_or_default()
            )
        }
        (401, None) if with_login && text.is_empty() => "empty".to_owned(),
        (401, Some(reason)) if kind == "application/json" => {
            assert_ne!(
                with_login,
                reason.starts_with("service_token_"),
                "programs log in nowhere"
            );
            format!("json {reason}")
        }
        (401, None) if kind == "application/json" => "json".to_owned(),
        (401, None) if with_login && text.contains("<html") => "page".to_owned(),
        (200, None) if text.contains("<html") => "page".to_owned(),
        (200, None) if kind == "application/json" => "json".to_owned(),
        (204, _) if answer.headers.one("access-control-allow-origin").is_some() => {
            "preflight".to_owned()
        }
        (_, Some(reason)) => reason,
        (_, None) => String::new(),
    };
    format!("{status} {what}").trim_end().to_owned()
}

/// The proxy, in all states that the table names.
struct Front {
    /// By the state of the node.
    services: BTreeMap<String, SocketAddr>,
    /// By the application's name.
    origins: BTreeMap<String, Origin>,
    /// Bound, so that nobody else takes it, and not listening.
    _team: tokio::net::TcpSocket,
    _served: Served,
}

impl Front {
    async fn start(world: &World, mint: &Mint) -> Self {
        let team = tokio::net::TcpSocket::new_v4().unwrap();
        team.bind(([127, 0, 0, 1], 0).into()).unwrap();
        let team_url = format!("http://{}", team.local_addr().unwrap());
        let mut origins = BTreeMap::new();
        for app in &world.applications {
            origins.insert(app.name.clone(), Origin::start().await);
        }
        let states: BTreeSet<_> = world
            .cases
            .values()
            .map(|case| case.node.as_str())
            .collect();
        let (mut services, mut proxies) = (BTreeMap::new(), Vec::new());
        for state in states {
            let access = node(world, mint, state, &origins, &team_url).await;
            let address = free_address();
            let trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()];
            let listeners = vec![ListenerSettings {
                address,
                trusted_proxies,
            }];
            let filter = AccessFilter::new(
                access,
                FilterSettings {
                    listeners,
                    ..FilterSettings::default()
                },
            );
            services.insert(state.to_owned(), address);
            proxies.push((address, AccessProxy::new(filter)));
        }
        Self {
            services,
            origins,
            _team: team,
            _served: Served::start(proxies).await,
        }
    }

    /// Sends a case as a client does that comes through a proxy which says where it came from; and
    /// says what came of it.
    async fn ask(&self, world: &World, case: &Case, mint: &Mint) -> String {
        let (method, host, path, query) = case.target();
        let target = query.map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
        let mut lines: Vec<_> = world
            .headers(case, mint)
            .iter()
            .map(|(n, v)| format!("{n}: {}", v.to_str().unwrap()))
            .collect();
        lines.push(format!(
            "X-Forwarded-For: {}",
            case.from.unwrap_or(world.client)
        ));
        let lines: Vec<_> = lines.iter().map(String::as_str).collect();
        let mut request = raw::request(method, host, &target, &lines);
        if case.headers.contains_key("upgrade") {
            request = request.replace("Connection: close\r\n", "");
        }
        let Some(answer) = raw::exchange(self.services[&case.node], request).await else {
            return "no answer".to_owned();
        };
        let mut arrived = Vec::new();
        for (app, origin) in &self.origins {
            arrived.extend(origin.seen().into_iter().map(|seen| (app, seen)));
            origin.forget();
        }
        let from_origin = answer.headers.one("x-from").is_some();
        match arrived.as_slice() {
            [] if !from_origin => describe(&answer),
            [(app, seen)] if from_origin => {
                let person = seen
                    .headers
                    .one("cf-access-authenticated-user-email")
                    .map(str::to_owned);
                let told = seen.assertion().map(|token| open_token(token).1);
                let program = told
                    .as_ref()
                    .and_then(|told| Some(told["common_name"].as_str()?.to_owned()));
                assert_eq!(
                    person.is_some() || program.is_some(),
                    told.is_some(),
                    "{}: {:?}",
                    case.send,
                    seen.headers
                );
                assert!(
                    !format!("{:?}", seen.headers).contains("the secret of"),
                    "{}: {:?}",
                    case.send,
                    seen.headers
                );
                format!(
                    "{} of {app} as {}",
                    answer.status,
                    person.or(program).as_deref().unwrap_or("nobody")
                )
            }
            _ => format!("{} while the origins received {arrived:?}", answer.status),
        }
    }

    /// The same for a token that is good or not within one second only: an answer counts where the
    /// clock stood still.
    async fn within_a_second(&self, world: &World, case: &Case, mint: &mut Mint) -> String {
        for _ in 0..50 {
            mint.now = UnixTime::now();
            let seen = self.ask(world, case, mint).await;
            if UnixTime::now() == mint.now {
                return seen;
            }
        }
        "no answer within a second, in fifty attempts".to_owned()
    }
}

/// A Pingora server in this process. Ends when dropped.
pub struct Served {
    stop: Option<oneshot::Sender<()>>,
    server: Option<JoinHandle<()>>,
}

impl Served {
    /// Serves each at its address.
    pub async fn start(proxies: Vec<(SocketAddr, AccessProxy)>) -> Self {
        let addresses: Vec<_> = proxies.iter().map(|(address, _)| *address).collect();
        let (stop, stopped) = oneshot::channel();
        let server = std::thread::spawn(move || serve(proxies, stopped));
        let served = Self {
            stop: Some(stop),
            server: Some(server),
        };
        let began = Instant::now();
        for address in addresses {
            while tokio::net::TcpStream::connect(address).await.is_err() {
                assert!(
                    began.elapsed() < Duration::from_secs(30),
                    "nothing listens on {address}"
                );
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        served
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.stop.take());
        let ended = self
            .server
            .take()
            .is_some_and(|server| server.join().is_ok());
        assert!(ended || std::thread::panicking(), "the server ended badly");
    }
}

fn serve(proxies: Vec<(SocketAddr, AccessProxy)>, stopped: oneshot::Receiver<()>) {
    let conf = ServerConf {
        threads: 1,
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(Opt::default(), conf);
    server.bootstrap();
    for (address, proxy) in proxies {
        let mut service = http_proxy_service(&server.configuration, proxy);
        service.add_tcp(&address.to_string());
        server.add_service(service);
    }
    server.run(RunArgs {
        shutdown_signal: Box::new(Stop(Mutex::new(Some(stopped)))),
    });
}

/// Ends the server when the other end of the channel is dropped.
struct Stop(Mutex<Option<oneshot::Receiver<()>>>);

#[async_trait]
impl ShutdownSignalWatch for Stop {
    async fn recv(&self) -> ShutdownSignal {
        let stopped = self.0.lock().unwrap().take();
        if let Some(stopped) = stopped {
            let _dropped = stopped.await;
        }
        ShutdownSignal::FastShutdown
    }
}

/// A node of a team that is out of reach, with what it knows in a state of the table. Whatever it
/// may not ask for again, it may not for longer than the test takes.
async fn node(
    world: &World,
    mint: &Mint,
    state: &str,
    origins: &BTreeMap<String, Origin>,
    team: &str,
) -> Arc<Access> {
    let retry_from = mint.now.after(LIFETIME);
    let known = Arc::new(Known::new(1_000));
    if let Some(keys) = mint.keys(state, retry_from) {
        known.set_keys(&mint.issuer, keys);
    }
    for person in &world.people {
        if let Some(state) = person.state(retry_from) {
            known.set_identity(person.nonce(), state);
        }
    }
    let mut applications = Vec::new();
    for app in &world.applications {
        applications.push(app.settings(Origins::new(pool(origins[&app.name].address))));
    }
    let snapshot = Snapshot::compile(
        1,
        table::team(TEAM_DOMAIN),
        (&[], &world.groups),
        applications,
        known,
    )
    .unwrap();
    let snapshot = snapshot.with_service_tokens(
        world
            .service_tokens
            .iter()
            .map(|token| token.settings(mint.now)),
    );
    // It can sign nothing itself, and says so where what it was told is of other keys.
    for (aud, name, token) in world
        .assertions(mint)
        .into_iter()
        .filter(|_| state.is_empty())
    {
        snapshot
            .known()
            .set_assertion(snapshot.issuer(), (&aud, &name), token, retry_from);
    }
    assert_eq!(snapshot.issuer(), mint.issuer);

    let store = MemoryStore::new();
    let alice = world.person("alice");
    let user = |name: &str| Revocation::User {
        user: world.person(name).user(),
        before: mint.now,
    };
    let ended = match state {
        "session revoked" => vec![Revocation::Session(alice.nonce())],
        // The first has the revision of the logins, the second a later one.
        "user revoked" => vec![user("alice"), user("alice")],
        "user formerly revoked" => vec![user("alice")],
        "heidi revoked" => vec![user("heidi"), user("heidi")],
        "application revoked" => vec![Revocation::Application {
            aud: aud("wiki"),
            before: mint.now,
        }],
        _ => Vec::new(),
    };
    for ended in ended {
        store.revoke(&ended, retry_from).await.unwrap();
    }
    let url = |path: &str| Url::parse(&format!("{team}/cdn-cgi/access/{path}")).unwrap();
    let remote = RemoteTeam {
        certs_url: url("certs"),
        identity_url: url("get-identity"),
        authorized_url: url("authorized"),
        max_stale: LIFETIME,
    };
    let services = Services {
        providers: Vec::new(),
        remote: Some(remote),
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
    let http = HttpClient::new(&Roots::default(), Timeouts::default()).unwrap();
    let access = Access::start(snapshot, services, Arc::new(store), http, Handle::current())
        .await
        .unwrap();
    if state == "revocations stale" {
        access
            .snapshot()
            .known()
            .set_revocations_good_until(mint.now);
    }
    access
}

/// One origin, as a front has it.
pub fn pool(origin: SocketAddr) -> Arc<OriginPool> {
    let patience = Duration::from_secs(10);
    let target = Target {
        host: origin.ip().to_string(),
        port: origin.port(),
        protocol: Protocol::Http,
    };
    let settings = PoolSettings {
        application: "Wiki".to_owned(),
        targets: vec![target],
        connect_timeout: patience,
        read_timeout: patience,
        idle_timeout: patience,
        tunnel_timeout: patience,
        upgrades: Vec::new(),
        host_header: None,
        tls_verify: true,
        tls_server_name: None,
        trust: None,
        health_check: None,
        max_body: None,
    };
    OriginPool::start(
        settings,
        &OriginContext::default(),
        &Background::new(Handle::current(), Vital::new().0),
    )
}

const LOGOUT: &str = "https://access.example.com/cdn-cgi/access/logout";
