//! The two kinds of proxies, each in its own process: bare Pingora, and the product.
//!
//! Both have the same worker threads, connection pool, listener protocols, timeouts of client and
//! peer, and allocator.
#![expect(
    clippy::disallowed_types,
    reason = "the bare proxy is a `ProxyHttp` of its own"
)]

use std::error::Error;
use std::io::BufRead as _;
use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora::apps::HttpServerOptions;
use pingora::prelude::{HttpPeer, ProxyHttp, Session};
use pingora::protocols::ALPN;
use pingora::proxy::ProxyServiceBuilder;
use pingora::server::configuration::{Opt, ServerConf};
use pingora::server::{RunArgs, Server};
use portcullis::config::Config;
use portcullis::control::{Access, Background, Clock, Resources, Tasks, Vital, compile};
use portcullis::engine::{NodeCache, Origins};
use portcullis::front::pingora::{
    AccessFilter, AccessProxy, FilterSettings, OriginContext, OriginPool, PoolSettings, Protocol,
    Target,
};
use portcullis::http_client::{HttpClient, Roots, Timeouts};
use portcullis::model::{IdentityNonce, Secret, UnixTime};
use portcullis::store::{KeyRepository as _, LoginRepository as _, MemoryStore, StoredKey};

use super::people::{self, Person};

/// A proxy's process. It ends on drop.
pub(crate) struct Proxy {
    child: Child,
    pub(crate) port: u16,
}

impl Proxy {
    /// Starts this program as a proxy, through `wrapper` if that is not empty. `checked` gets the
    /// keys and the users.
    pub(crate) fn start(
        origin: u16,
        checked: Option<(&[StoredKey], &[Person])>,
        wrapper: &[String],
    ) -> Result<Self, Box<dyn Error>> {
        // The system assigns ports in turn, so a port that was just free is not reused at once.
        let port = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
            .local_addr()?
            .port();
        let me = std::env::current_exe()?;
        let mut command = match wrapper.split_first() {
            Some((program, arguments)) => {
                let mut command = Command::new(program);
                command.args(arguments).arg(me);
                command
            }
            None => Command::new(me),
        };
        let variant = if checked.is_some() { "checked" } else { "bare" };
        command
            .args(["proxy", variant, &port.to_string(), &origin.to_string()])
            .stdin(Stdio::piped());
        let mut proxy = Self {
            child: command.spawn()?,
            port,
        };
        if let (Some((keys, people)), Some(stdin)) = (checked, proxy.child.stdin.as_mut()) {
            tell(stdin, keys, people)?;
        }
        Ok(proxy)
    }

    /// Ends the process with a signal that lets it write its output.
    pub(crate) fn finish(&mut self) -> std::io::Result<()> {
        drop(self.child.stdin.take());
        self.child.wait().map(|_| ())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn tell(to: impl std::io::Write, keys: &[StoredKey], people: &[Person]) -> std::io::Result<()> {
    use std::io::Write as _;
    let mut to = std::io::BufWriter::new(to);
    for StoredKey {
        kid,
        pkcs8,
        certificate_pem: _,
        made,
        retired,
    } in keys
    {
        writeln!(
            to,
            "key {kid} {made} {} {}",
            retired.map_or(u64::MAX, |at| at.0),
            pkcs8.expose()
        )?;
    }
    for Person { nonce, number } in people {
        writeln!(to, "person {} {number}", nonce.as_str())?;
    }
    writeln!(to, "end")?;
    to.flush()
}

/// Runs a proxy until the parent process ends.
pub(crate) fn run(arguments: &[String]) -> Result<(), Box<dyn Error>> {
    let [variant, port, origin] = arguments else {
        return Err("proxy VARIANT PORT ORIGIN".into());
    };
    let (port, origin) = (port.parse()?, origin.parse()?);
    let config = people::config(port, origin)?;
    match variant.as_str() {
        "bare" => {
            let peer = bare_peer(&config, origin).ok_or("no application")?;
            serve(Bare { peer }, port);
        }
        _ => checked(&config, port)?,
    }
    Ok(())
}

/// A proxy without the check.
struct Bare {
    peer: HttpPeer,
}

#[async_trait]
impl ProxyHttp for Bare {
    type CTX = ();
    fn new_ctx(&self) {}
    async fn upstream_peer(
        &self,
        session: &mut Session,
        _ctx: &mut (),
    ) -> pingora::Result<Box<HttpPeer>> {
        session.set_read_timeout(Some(CLIENT_TIMEOUT));
        session.set_write_timeout(Some(CLIENT_TIMEOUT));
        Ok(Box::new(self.peer.clone()))
    }
}

/// Returns a peer with the timeouts of the product's pool.
fn bare_peer(config: &Config, origin: u16) -> Option<HttpPeer> {
    let settings = &config.catalog.applications.first()?.origin_settings;
    let mut peer = HttpPeer::new((Ipv4Addr::LOCALHOST, origin), false, "127.0.0.1".to_owned());
    peer.options.connection_timeout = Some(settings.connect_timeout);
    peer.options.total_connection_timeout = Some(settings.connect_timeout);
    peer.options.read_timeout = Some(settings.read_timeout);
    peer.options.write_timeout = Some(settings.read_timeout);
    peer.options.idle_timeout = Some(settings.idle_timeout);
    peer.options.alpn = ALPN::H1;
    Some(peer)
}

/// Runs the product, composed as in its binary, with existing sessions.
fn checked(config: &Config, port: u16) -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("control")
        .enable_all()
        .build()?;
    let store = MemoryStore::new();
    runtime.block_on(furnish(&store))?;
    let http = HttpClient::new(&Roots::default(), Timeouts::default())?;
    let known = Arc::new(NodeCache::new(usize::try_from(
        config.server.sessions_cached,
    )?));
    let application = config
        .catalog
        .applications
        .first()
        .ok_or("no application")?;
    let background = Background::new(runtime.handle().clone(), Vital::new().0);
    let pool = OriginPool::start(
        pool_settings(application),
        &OriginContext::default(),
        &background,
    );
    let entered = runtime.enter();
    let (snapshot, services) =
        compile(config, 1, known, &http, |_| Origins::new(Arc::clone(&pool)))?;
    let started = Access::start(
        snapshot,
        services,
        Resources {
            store: Arc::new(store),
            http,
            runtime: runtime.handle().clone(),
            clock: Clock::default(),
        },
    );
    let access = runtime.block_on(started)?;
    let _tasks = Tasks::spawn(&access, &Vital::new().0);
    drop(entered);
    serve(
        AccessProxy::new(AccessFilter::new(access, FilterSettings::from(config))),
        port,
    );
    Ok(())
}

fn pool_settings(application: &portcullis::config::Application) -> PoolSettings {
    let origin = &application.origin_settings;
    let target = |o: &portcullis::config::Origin| Target {
        host: o.host.clone(),
        port: o.port,
        protocol: Protocol::Http,
    };
    PoolSettings {
        application: application.name.clone(),
        targets: application.origins.iter().map(target).collect(),
        connect_timeout: origin.connect_timeout,
        read_timeout: origin.read_timeout,
        idle_timeout: origin.idle_timeout,
        tunnel_timeout: origin.idle_timeout,
        upgrades: Vec::new(),
        host_header: None,
        tls_verify: true,
        tls_server_name: None,
        trust: None,
        health_check: None,
        max_body: None,
    }
}

/// Reads users and keys from standard input, and stores them as logins would.
async fn furnish(store: &MemoryStore) -> Result<(), Box<dyn Error>> {
    let expires = UnixTime::now().after(Duration::from_secs(48 * 3600));
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        match line.split(' ').collect::<Vec<_>>().as_slice() {
            ["key", kid, made, retired, pkcs8] => {
                let retired = UnixTime(retired.parse()?);
                let key = StoredKey {
                    kid: (*kid).into(),
                    pkcs8: Secret::new(*pkcs8),
                    certificate_pem: String::new(),
                    made: UnixTime(made.parse()?),
                    retired: (retired.0 != u64::MAX).then_some(retired),
                };
                store.put_signing_key(&key).await?;
            }
            ["person", nonce, number] => {
                let identity = people::identity(number.parse()?)?;
                store
                    .insert_identity(&IdentityNonce::parse(nonce)?, &identity, u64::MAX, expires)
                    .await?;
            }
            _ => return Ok(()),
        }
    }
    Err("the standard input ended early".into())
}

fn serve<P: ProxyHttp + Send + Sync + 'static>(proxy: P, port: u16)
where
    P::CTX: Send + Sync,
{
    std::thread::spawn(end_with_parent);
    let conf = ServerConf {
        threads: 1,
        upstream_keepalive_pool_size: 512,
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(Opt::default(), conf);
    server.bootstrap();
    let mut options = HttpServerOptions::default();
    options.h2c = true;
    let mut service = ProxyServiceBuilder::new(&server.configuration, proxy)
        .server_options(options)
        .build();
    service.add_tcp(&format!("127.0.0.1:{port}"));
    server.add_service(service);
    server.run(RunArgs::default());
}

/// Waits until standard input closes, which means that the parent process has ended.
#[expect(
    clippy::exit,
    reason = "there is nobody left to tell, and nothing to keep"
)]
fn end_with_parent() {
    let mut rest = String::new();
    while std::io::stdin()
        .lock()
        .read_line(&mut rest)
        .is_ok_and(|read| read > 0)
    {
        rest.clear();
    }
    std::process::exit(0);
}

const CLIENT_TIMEOUT: Duration = Duration::from_secs(60);
