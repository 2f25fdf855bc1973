//! The server: its listeners and services, from the configuration and the control path.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use ipnet::IpNet;
use pingora::connectors::ConnectorOptions;
use pingora::listeners::tls::{Acceptor, TlsSettings};
use pingora::proxy::http_proxy;
use pingora::server::Server;
use pingora::server::configuration::{Opt, ServerConf};
use pingora::services::ServiceWithDependents;
use pingora::time::ToTimeout as _;
use pingora::time::fast_timeout::FastTimeout;
use rustls::ServerConfig;

use super::health::Health;
use super::listeners::{
    Descriptors, ListenerGroup, Redirect, SocketTable, Sockets, Terms, Timeouts, Watched,
};
use super::panics::PanicGuard;
use super::pid_file::PidFile;
use super::shutdown::{self, End, Lifecycle, Signals};
use super::{RunError, clients, tls};
use crate::config::{self, Config, StoreConfig};
use crate::control::{Control, Vital};
use crate::front::pingora::{
    AccessFilter, AccessProxy, Cuttable, FilterSettings, HstsListener, ProxySettings,
};

/// The parts of a start that can fail and need no listeners.
pub(super) struct Prepared {
    /// The TLS acceptors of `[[listen]]`, in its order.
    acceptors: Vec<Option<Acceptor>>,
    pid_file: Option<PidFile>,
}

impl Prepared {
    pub(super) fn new(config: &Config, control: &Control) -> Result<Self, RunError> {
        let of = |listen: &config::Listen| {
            listen
                .tls
                .as_ref()
                .map(|files| acceptor(listen.address, files, control))
                .transpose()
        };
        let acceptors = config.listen.iter().map(of).collect::<Result<_, _>>()?;
        let pid_file = config
            .server
            .pid_file
            .as_deref()
            .map(PidFile::open)
            .transpose()?;
        Ok(Self {
            acceptors,
            pid_file,
        })
    }
}

/// The sockets of the process and its limits of file descriptors.
pub(super) struct Resources {
    pub(super) sockets: Sockets,
    pub(super) descriptors: Descriptors,
}

/// Serves until the process has to end, with `more` services beside the proxy. `panics` is dropped
/// once the process serves.
pub(super) fn serve(
    mut control: Control,
    config: &Config,
    prepared: Prepared,
    resources: Resources,
    more: Vec<Box<dyn ServiceWithDependents>>,
    panics: PanicGuard,
) -> Result<(), RunError> {
    let served = serve_until_the_end(&mut control, config, prepared, resources, more, panics);
    control.stop(Duration::from_secs(1));
    if served.is_ok() {
        tracing::info!(target: LOG_TARGET, "stopped");
    }
    served
}

fn serve_until_the_end(
    control: &mut Control,
    config: &Config,
    Prepared {
        acceptors,
        pid_file,
    }: Prepared,
    Resources {
        mut sockets,
        descriptors,
    }: Resources,
    more: Vec<Box<dyn ServiceWithDependents>>,
    panics: PanicGuard,
) -> Result<(), RunError> {
    let successor = sockets.successor();
    let mut server = Server::new_with_opt_and_conf(Opt::default(), server_conf(config));
    server.bootstrap();
    start_timers();
    let listeners = Listeners {
        config,
        control,
        sockets: Arc::new(SocketTable::new(sockets)),
        descriptors: Arc::new(descriptors),
        lifecycle: Arc::new(Lifecycle::default()),
    };
    let front = listeners.front(&server.configuration, acceptors);
    let front = server.add_service(front);
    if let Some(health) = listeners.health() {
        // `/readyz` must not succeed before the proxy listens.
        server.add_service(health).add_dependency(&front);
    }
    for service in more {
        server.add_service(Watched::new(service, control.vital().clone()));
    }
    if let Some(file) = pid_file {
        file.write()?;
    }
    tracing::info!(
        target: LOG_TARGET,
        listeners = ?config.listen.iter().map(|l| l.address.to_string()).collect::<Vec<_>>(),
        team = %config.catalog.team.url(),
        applications = config.catalog.applications.len(),
        "serving",
    );
    let signals = Signals {
        lifecycle: listeners.lifecycle,
        lame_duck: config.server.lame_duck,
        upgrade_socket: upgrade_socket(config),
        sockets: listeners.sockets,
        successor,
    };
    let (_, closed) = Vital::new();
    let ended = control.ended().unwrap_or(closed);
    match shutdown::run(
        server,
        signals,
        config.server.grace_period,
        control,
        ended,
        panics,
    ) {
        Ok(End::Stopped) => Ok(()),
        Ok(End::Lost(name)) => Err(RunError::Lost(name)),
        Err(error) => Err(RunError::Thread(error)),
    }
}

/// Starts the thread of Pingora's timers.
// By default the first connection starts it. If that fails, Pingora's timers panic from then on, in
// the task of every connection, and the process runs without serving. Here it fails the start.
fn start_timers() {
    drop(FastTimeout::create(Duration::from_millis(1)).timeout());
}

/// The listeners of the configuration, and the state that they share.
struct Listeners<'a> {
    config: &'a Config,
    control: &'a Control,
    sockets: Arc<SocketTable>,
    descriptors: Arc<Descriptors>,
    lifecycle: Arc<Lifecycle>,
}

impl Listeners<'_> {
    /// The listeners of the proxy, and those that redirect to HTTPS.
    fn front(&self, server: &Arc<ServerConf>, acceptors: Vec<Option<Acceptor>>) -> ListenerGroup {
        let access = self.control.access();
        let filter = AccessFilter::new(Arc::clone(access), FilterSettings::from(self.config));
        let proxy = AccessProxy::new(filter)
            .with_settings(proxy_settings(self.config, &self.descriptors))
            .with_connector_options(ConnectorOptions::from_server_conf(server));
        let proxy = Arc::new(Cuttable::new(http_proxy(server, proxy)));
        let mut group = self.group("proxy", None);
        for (listen, tls) in self.config.listen.iter().zip(acceptors) {
            let proxies = listen.proxy_protocol.then_some(&listen.trusted_proxies);
            let terms = self.terms(tls, proxies, Some(&self.descriptors));
            group.add(listen.address, Arc::clone(&proxy), terms);
        }
        for listen in &self.config.redirects {
            let redirect = Redirect::new(Arc::clone(access), listen.acme_challenges.clone());
            let proxies = listen.proxy_protocol.then_some(&listen.trusted_proxies);
            let terms = self.terms(None, proxies, Some(&self.descriptors));
            group.add(listen.address, Arc::new(redirect), terms);
        }
        group
    }

    /// The listener of metrics and health checks, if configured. It has a thread of its own, so it
    /// answers even if the proxy's threads are busy.
    fn health(&self) -> Option<ListenerGroup> {
        let address = self.config.metrics?;
        let health = Health {
            access: Arc::clone(self.control.access()),
            lifecycle: Arc::clone(&self.lifecycle),
        };
        let mut group = self.group("health", Some(1));
        group.add(address, Arc::new(health), self.terms(None, None, None));
        Some(group)
    }

    fn group(&self, name: &'static str, threads: Option<usize>) -> ListenerGroup {
        let vital = self.control.vital().clone();
        ListenerGroup::new(name, threads, Arc::clone(&self.sockets), vital)
    }

    fn terms(
        &self,
        tls: Option<Acceptor>,
        proxies: Option<&Vec<IpNet>>,
        descriptors: Option<&Arc<Descriptors>>,
    ) -> Terms {
        Terms {
            timeouts: Timeouts::from(&self.config.limits),
            tls,
            proxies: proxies.cloned(),
            descriptors: descriptors.cloned(),
            draining: self.lifecycle.draining(),
        }
    }
}

/// Returns the TLS acceptor of a listener.
fn acceptor(
    address: SocketAddr,
    files: &config::Tls,
    control: &Control,
) -> Result<Acceptor, RunError> {
    let (verifier, after) = clients::tls_hooks(control.access());
    let mut settings =
        TlsSettings::with_callbacks(Box::new(after)).map_err(|error| RunError::Listen {
            address: address.to_string(),
            reason: error.to_string(),
        })?;
    settings.set_client_cert_verifier(verifier);
    settings.set_cert_resolver(tls::resolver(
        files,
        Arc::downgrade(control.access()),
        &control.background(),
    )?);
    settings.enable_h2();
    let mut acceptor = settings.build();
    // Pingora offers HTTP/2 and HTTP/1.1 only. A client that offers just HTTP/1.0 would fail the
    // handshake (RFC 7301 3.2).
    let mut tls = ServerConfig::clone(acceptor.acceptor.config());
    tls.alpn_protocols.push(b"http/1.0".to_vec());
    acceptor.acceptor = Arc::new(tls).into();
    Ok(acceptor)
}

fn proxy_settings(config: &Config, descriptors: &Descriptors) -> ProxySettings {
    let hsts = config.listen.iter().filter_map(|listen| {
        let hsts = listen.hsts.filter(|_| listen.tls.is_some())?;
        let subdomains = if hsts.include_subdomains {
            "; includeSubDomains"
        } else {
            ""
        };
        let header =
            HeaderValue::try_from(format!("max-age={}{subdomains}", hsts.max_age.as_secs()))
                .ok()?;
        Some(HstsListener {
            address: listen.address,
            header,
        })
    });
    ProxySettings {
        body_timeout: config.limits.body_timeout,
        hsts: hsts.collect(),
        reserved_descriptor: Some(descriptors.first_reserved()),
    }
}

fn server_conf(config: &Config) -> ServerConf {
    ServerConf {
        threads: config.server.threads,
        // `shutdown` ends the process earlier, so Pingora never cuts requests off.
        grace_period_seconds: Some(config.server.grace_period.as_secs().saturating_add(1)),
        graceful_shutdown_timeout_seconds: Some(5),
        upgrade_sock: upgrade_socket(config).display().to_string(),
        upstream_keepalive_pool_size: 512,
        ..ServerConf::default()
    }
}

/// Returns the path of the upgrade socket, by default beside the store. Pingora's default is in
/// `/tmp`, where any local user could receive the listeners.
pub(super) fn upgrade_socket(config: &Config) -> PathBuf {
    let default = match &config.store {
        StoreConfig::Sqlite { path, .. } => path.clone(),
        StoreConfig::Memory => {
            std::env::temp_dir().join(format!("portcullis-{}", std::process::id()))
        }
    };
    config
        .server
        .upgrade_socket
        .clone()
        .unwrap_or_else(|| default.with_extension("upgrade"))
}

/// The target of log lines about the whole process. The demo's log shows them at INFO.
const LOG_TARGET: &str = "portcullis::app";
