//! The case table over real sockets: the proxy answers as the engine decides.
//!
//! One Pingora server with a service for each state that the table puts a node in, and a recording
//! origin for each application. A case is put on the wire, and the answer and the requests at the
//! origins are compared with its decision. A request that is not forwarded must not arrive
//! anywhere.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use pingora::proxy::http_proxy_service;
use pingora::server::configuration::{Opt, ServerConf};
use pingora::server::{RunArgs, Server, ShutdownSignal, ShutdownSignalWatch};
use portcullis::control::{Background, Vital};
use portcullis::engine::Origins;
use portcullis::front::pingora::{
    AccessFilter, AccessProxy, FilterSettings, ListenerSettings, OriginContext, OriginPool,
    PoolSettings, Protocol, Target,
};
use portcullis::model::UnixTime;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use self::fronts::{Answer, UnreachableTeam};
use self::table::{App, Case, Mint, World};
use crate::support::portcullis::free_address;
use crate::support::{Origin, Response, keys, open_token, raw};

#[path = "../../fronts/mod.rs"]
mod fronts;
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
async fn every_case_over_sockets_matches_the_decision() {
    let world = table::world();
    let mut mint = fronts::mint();
    let start = mint.now;
    let front = Front::start(&world, &mint).await;
    let mut wrong = Vec::new();
    for id in TURNED_AWAY_BEFORE {
        assert!(world.cases.contains_key(*id), "`{id}` is no case");
        eprintln!("turned away before the check: {id}");
    }
    for (id, case) in &world.cases {
        let expected = expected(id, case);
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

/// The answer that is due to a case over real sockets.
fn expected(id: &str, case: &Case) -> String {
    let expected = fronts::expected(id, case);
    match expected.split_once(' ') {
        Some((status, _)) if TURNED_AWAY_BEFORE.contains(&id) => status.to_owned(),
        _ => expected,
    }
}

/// The answer in the words of [`fronts::expected`].
fn describe(response: &Response) -> String {
    let answer = Answer {
        status: response.status,
        header: &|name| response.headers.one(name),
        body: &response.text(),
    };
    answer.describe()
}

/// The proxy, in all states that the table names.
struct Front {
    /// By the state of the node.
    services: BTreeMap<String, SocketAddr>,
    /// By the application's name.
    origins: BTreeMap<String, Origin>,
    _team: UnreachableTeam,
    _served: Served,
}

impl Front {
    async fn start(world: &World, mint: &Mint) -> Self {
        let team = UnreachableTeam::new();
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
            let pools = |app: &App| Origins::new(pool(origins[&app.name].address));
            let access = fronts::node(world, mint, state, &team, pools).await;
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

    /// Sends a case through a trusted proxy that names the client, and returns the answer.
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
                    person.or(program).as_deref().unwrap_or("anonymous")
                )
            }
            _ => format!("{} while the origins received {arrived:?}", answer.status),
        }
    }

    /// The same for a token that is valid or invalid for one second only. An answer counts if the
    /// second did not change.
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
