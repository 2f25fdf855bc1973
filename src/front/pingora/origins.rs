use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use http::{Extensions, HeaderValue, Uri};
use pingora::lb::discovery::ServiceDiscovery;
use pingora::lb::health_check::{HealthCheck, HttpHealthCheck, TcpHealthCheck};
use pingora::lb::{Backend, Backends};
use pingora::prelude::{Error, ErrorType, HttpPeer, Result};
use pingora::protocols::ALPN;
use pingora::protocols::l4::socket::SocketAddr;
use pingora::protocols::tls::CaType;

/// The origins of one application: round robin over those that are healthy, names looked up again as they change.
pub struct OriginPool {
    backends: Backends,
    settings: PoolSettings,
    /// A peer for each that is healthy, made when that changes rather than for each request.
    ready: ArcSwap<Vec<HttpPeer>>,
    turn: AtomicUsize,
}

/// How the origins of an application are spoken to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolSettings {
    /// At least one.
    pub targets: Vec<Target>,
    /// Until a connection, with its TLS handshake, stands.
    pub connect_timeout: Duration,
    /// Between two pieces of an answer.
    pub read_timeout: Duration,
    /// How long an unused connection is kept.
    pub idle_timeout: Duration,
    /// The `Host` that the origin is sent; the client's where `None`.
    pub host_header: Option<HeaderValue>,
    /// Whether the origin's certificate is checked.
    pub tls_verify: bool,
    /// Whom the origin's certificate must come from; those of the connector where `None`.
    pub trust: Option<Trust>,
    /// How to find out which of them work.
    pub health_check: Option<Check>,
    /// The longest request body, in bytes.
    pub max_body: Option<u64>,
}

/// The certificate authorities of one application's origins, which vouch for nobody else's.
#[derive(Clone)]
pub struct Trust {
    authorities: Arc<CaType>,
    fingerprint: [u8; 32],
}

impl Trust {
    /// These authorities, in the form of Pingora's TLS back end, with a hash of all of them: it says which pools are the same,
    /// and which connections may serve whom. Where there are none, no origin is trusted.
    pub const fn new(authorities: Arc<CaType>, fingerprint: [u8; 32]) -> Self {
        Self { authorities, fingerprint }
    }

    /// Pingora tells pooled connections apart by this and not by the authorities that they were checked against.
    const fn group(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.fingerprint;
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }

    fn set(trust: Option<&Self>, peer: &mut HttpPeer) {
        peer.options.ca = trust.map(|trust| Arc::clone(&trust.authorities));
        peer.group_key = trust.map_or(0, Self::group);
    }
}

impl PartialEq for Trust {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint
    }
}

impl Eq for Trust {}

impl std::fmt::Debug for Trust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Trust").field(&self.authorities.len()).finish()
    }
}

/// One origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// What it speaks.
    pub protocol: Protocol,
}

/// What an origin speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1 in clear.
    Http,
    /// HTTP/2 or HTTP/1.1 over TLS, as the origin chooses.
    Https,
    /// HTTP/2 in clear, with prior knowledge.
    H2c,
    /// HTTP/2 over TLS and nothing else.
    H2,
}

/// A health check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// A path that must answer 200; a TCP connection is enough where `None`.
    pub path: Option<Uri>,
    /// How often.
    pub interval: Duration,
}

/// Rides with a backend to where the peer is made.
#[derive(Clone)]
struct Place(usize);

impl OriginPool {
    /// A pool that looks names up and checks health on `runtime`, for as long as it lives. The first look-up is awaited here.
    pub async fn start(settings: PoolSettings, runtime: &tokio::runtime::Handle) -> Arc<Self> {
        let mut backends = Backends::new(Box::new(Names(settings.targets.clone())));
        if let (Some(check), Some(first)) = (&settings.health_check, settings.targets.first()) {
            backends.set_health_check(health_check(check, first, &settings));
        }
        let pool = Self { backends, settings, ready: ArcSwap::default(), turn: AtomicUsize::new(0) };
        pool.look_up().await;
        pool.settle();
        let pool = Arc::new(pool);
        runtime.spawn(tend(Arc::downgrade(&pool)));
        pool
    }

    /// The next origin's peer; `None` where none is healthy.
    pub(super) fn next(&self) -> Option<Box<HttpPeer>> {
        let ready = self.ready.load();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed).checked_rem(ready.len())?;
        ready.get(turn).cloned().map(Box::new)
    }

    /// The last answer stays where there is none now.
    async fn look_up(&self) {
        if let Err(error) = self.backends.update(|_| {}).await {
            tracing::warn!(%error, "an origin's name could not be looked up");
        }
    }

    /// Lets requests see what look-ups and checks have found.
    fn settle(&self) {
        let backends = self.backends.get_backend();
        let healthy = backends.iter().filter(|backend| self.backends.ready(backend));
        self.ready.store(Arc::new(healthy.filter_map(|backend| self.peer(backend)).collect()));
    }

    fn peer(&self, backend: &Backend) -> Option<HttpPeer> {
        let place = backend.ext.get::<Place>().map_or(0, |place| place.0);
        let target = self.settings.targets.get(place)?;
        let tls = matches!(target.protocol, Protocol::Https | Protocol::H2);
        let mut peer = HttpPeer::new(backend.addr.as_inet()?, tls, target.host.clone());
        let options = &mut peer.options;
        options.connection_timeout = Some(self.settings.connect_timeout);
        options.total_connection_timeout = Some(self.settings.connect_timeout);
        options.read_timeout = Some(self.settings.read_timeout);
        options.write_timeout = Some(self.settings.read_timeout);
        options.idle_timeout = Some(self.settings.idle_timeout);
        options.alpn = match target.protocol {
            Protocol::Http => ALPN::H1,
            Protocol::Https => ALPN::H2H1,
            Protocol::H2c | Protocol::H2 => ALPN::H2,
        };
        options.verify_cert = self.settings.tls_verify;
        options.verify_hostname = self.settings.tls_verify;
        Trust::set(self.settings.trust.as_ref(), &mut peer);
        Some(peer)
    }

    /// How they are spoken to.
    pub const fn settings(&self) -> &PoolSettings {
        &self.settings
    }
}

/// Looks names up and checks health until the pool is gone.
async fn tend(pool: Weak<OriginPool>) {
    let mut since_lookup = Duration::ZERO;
    loop {
        let Some(pool) = pool.upgrade() else { return };
        let interval = pool.settings.health_check.as_ref().map_or(LOOKUP_EVERY, |check| check.interval);
        if pool.settings.health_check.is_some() {
            pool.backends.run_health_check(true).await;
        }
        if since_lookup >= LOOKUP_EVERY {
            since_lookup = Duration::ZERO;
            pool.look_up().await;
        }
        pool.settle();
        drop(pool);
        tokio::time::sleep(interval).await;
        since_lookup += interval;
    }
}

fn health_check(
    check: &Check,
    first: &Target,
    settings: &PoolSettings,
) -> Box<dyn HealthCheck + Send + Sync + 'static> {
    let tls = matches!(first.protocol, Protocol::Https | Protocol::H2);
    match &check.path {
        None => TcpHealthCheck::new(),
        Some(path) => {
            let mut check = HttpHealthCheck::new(&first.host, tls);
            check.req.set_uri(path.clone());
            check.peer_template.options.verify_cert = settings.tls_verify;
            check.peer_template.options.verify_hostname = settings.tls_verify;
            Trust::set(settings.trust.as_ref(), &mut check.peer_template);
            Box::new(check)
        }
    }
}

/// The names of the configuration as addresses. Names under `localhost` are this machine (RFC 6761 §6.3).
struct Names(Vec<Target>);

#[async_trait]
impl ServiceDiscovery for Names {
    async fn discover(&self) -> Result<(BTreeSet<Backend>, HashMap<u64, bool>)> {
        let (mut backends, mut failed) = (BTreeSet::new(), None);
        for (place, target) in self.0.iter().enumerate() {
            let local = target.host == "localhost" || target.host.ends_with(".localhost");
            let host = if local { "127.0.0.1" } else { target.host.trim_matches(['[', ']']) };
            let found = tokio::net::lookup_host((host, target.port)).await;
            let found = match found {
                Ok(found) => found,
                Err(error) => {
                    tracing::warn!(%error, host = target.host, "an origin's name could not be looked up");
                    failed = Some(Error::because(ErrorType::ConnectNoRoute, target.host.clone(), error));
                    continue;
                }
            };
            for addr in found {
                let mut ext = Extensions::new();
                ext.insert(Place(place));
                backends.insert(Backend { addr: SocketAddr::Inet(addr), weight: 1, ext });
            }
        }
        match failed {
            Some(error) if backends.is_empty() => Err(error),
            _ => Ok((backends, HashMap::new())),
        }
    }
}

impl std::fmt::Debug for OriginPool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("OriginPool").field(&self.settings.targets).finish()
    }
}

const LOOKUP_EVERY: Duration = Duration::from_secs(15);
