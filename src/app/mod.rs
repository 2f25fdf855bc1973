//! The composition root of the standalone proxy: configuration in, a running server out.

mod certificates;
mod check_store;
mod clients;
mod health;
mod listeners;
mod origins;
mod service_token;
mod shutdown;
mod test_link;
mod tls;

use std::fs::File;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
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
use rustls::ServerConfig;
use thiserror::Error;

use crate::config::{self, Config, Errors, StoreConfig, System};
use crate::control::{Control, ControlError, Vital};
use crate::demo::{Demo, PortTaken, Ports};
use crate::front::pingora::{
    AccessFilter, AccessProxy, Cuttable, FilterSettings, HstsListener, ProxySettings,
};
use crate::token::SigningKeyError;
pub use certificates::{CertificateError, Finding, Severity, load};
pub use check_store::{StoreProblem, check_store};
use health::Health;
use listeners::{
    Descriptors, ListenerGroup, Redirect, SocketTable, Sockets, Terms, Timeouts, Watched,
};
pub use listeners::{ListenError, TakeOverError};
use origins::Pools;
pub use service_token::NewServiceToken;
use shutdown::{End, Lifecycle, Signals};
pub use test_link::{TestLinkError, test_links};

/// Why the proxy did not start.
#[derive(Debug, Error)]
pub enum RunError {
    /// The configuration file. Each mistake stands on lines of its own.
    #[error(transparent)]
    Config(#[from] Errors),
    /// The control path.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The file for the process id.
    #[error("`{}` cannot be written", path.display())]
    PidFile {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The thread that the server runs on.
    #[error("the server's thread cannot be made")]
    Thread(#[source] std::io::Error),
    /// A certificate or its key.
    #[error(transparent)]
    Tls(#[from] CertificateError),
    /// There are no two ports after it.
    #[error("the demo needs three ports, and {0} is not the first of three")]
    DemoPort(u16),
    /// One of the demo's ports.
    #[error(transparent)]
    PortTaken(#[from] PortTaken),
    /// The demo provider's key.
    #[error("the demo provider has no key")]
    DemoKey(#[from] SigningKeyError),
    /// Addresses.
    #[error(transparent)]
    Bind(#[from] ListenError),
    /// The listeners of a running process.
    #[error(transparent)]
    TakeOver(#[from] TakeOverError),
    /// A thread or task, while the proxy served or before.
    #[error("`{0}` has ended, which the proxy cannot do without; the lines before say why")]
    Lost(&'static str),
    /// A listener.
    #[error("the listener on {address} cannot be made: {reason}")]
    Listen {
        /// Where.
        address: String,
        /// What Pingora said.
        reason: String,
    },
}

/// How to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The configuration file.
    pub config: PathBuf,
    /// Whether to take the listeners over from a running process, which then ends (see
    /// `conf/portcullis.toml`, `[server]`).
    pub upgrade: bool,
}

/// Runs the proxy of a configuration file until it is told to stop.
///
/// # Errors
/// See [`RunError`]; once it serves, only [`RunError::Lost`].
pub fn run(options: &Options) -> Result<(), RunError> {
    let loaded = certificates::load_and_log(&options.config, &System)?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    // A certificate that cannot be served ends the start before a client can connect, and before a
    // store is made.
    for files in loaded
        .config
        .listen
        .iter()
        .filter_map(|listen| listen.tls.as_ref())
    {
        certificates::read(files, &System)?;
    }
    let descriptors = Descriptors::raise();
    // Before the store is touched: a second process by mistake ends here.
    let sockets = if options.upgrade {
        None
    } else {
        Some(Sockets::bind(&addresses(&loaded.config))?)
    };
    let control = Control::start(&loaded.config, Pools::default())?;
    control.follow(&options.config, certificates::load_and_log);
    // Everything that can fail comes before the take-over of the listeners.
    let prepared = Prepared::new(&loaded.config, &control)?;
    let sockets = match sockets {
        Some(sockets) => sockets,
        None => Sockets::take_over(&upgrade_socket(&loaded.config), &addresses(&loaded.config))?,
    };
    serve(
        control,
        &loaded.config,
        prepared,
        sockets,
        descriptors,
        Vec::new(),
    )
}

/// Runs the self-contained demonstration until it is told to stop: everything on the loopback
/// address, nothing kept.
///
/// # Errors
/// Where the port, or one of the two after it, is taken.
pub fn demo(port: u16) -> Result<(), RunError> {
    let ports = Ports::starting_at(port).ok_or(RunError::DemoPort(port))?;
    ports.check()?;
    let demo = Demo::new(ports)?;
    // It weakens what must be weak on one machine without certificates; its warnings are meant for
    // others.
    let config = config::parse(&demo.config(), Path::new("demo.toml"), &System)?.config;
    let descriptors = Descriptors::raise();
    let sockets = Sockets::bind(&addresses(&config))?;
    let control = Control::start(&config, Pools::default())?;
    let prepared = Prepared::new(&config, &control)?;
    show(&demo.banner());
    serve(
        control,
        &config,
        prepared,
        sockets,
        descriptors,
        demo.services(),
    )
}

/// Everything that may fail and needs no listeners.
struct Prepared {
    /// The TLS sides of `[[listen]]`, in its order.
    acceptors: Vec<Option<Acceptor>>,
    pid_file: Option<PidFile>,
}

impl Prepared {
    fn new(config: &Config, control: &Control) -> Result<Self, RunError> {
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

/// The file for the process id. Pingora writes one for daemons only.
struct PidFile {
    path: PathBuf,
    file: File,
}

impl PidFile {
    /// Opens the file, and leaves its content: a failed upgrade must not change it.
    fn open(path: &Path) -> Result<Self, RunError> {
        let opened = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(path);
        let file = opened.map_err(|source| RunError::PidFile {
            path: path.to_owned(),
            source,
        })?;
        Ok(Self {
            path: path.to_owned(),
            file,
        })
    }

    fn write(mut self) -> Result<(), RunError> {
        let written = self
            .file
            .set_len(0)
            .and_then(|()| writeln!(self.file, "{}", std::process::id()));
        written.map_err(|source| RunError::PidFile {
            path: self.path,
            source,
        })
    }
}

/// Every address that the process listens on.
fn addresses(config: &Config) -> Vec<SocketAddr> {
    let serving = config.listen.iter().map(|listen| listen.address);
    serving
        .chain(config.redirects.iter().map(|redirect| redirect.address))
        .chain(config.metrics)
        .collect()
}

#[expect(
    clippy::print_stdout,
    reason = "this is what the person at the terminal reads"
)]
fn show(text: &str) {
    println!("{text}");
}

fn serve(
    mut control: Control,
    config: &Config,
    prepared: Prepared,
    sockets: Sockets,
    descriptors: Descriptors,
    more: Vec<Box<dyn ServiceWithDependents>>,
) -> Result<(), RunError> {
    let served = serve_until_the_end(&mut control, config, prepared, sockets, descriptors, more);
    control.stop(Duration::from_secs(1));
    if served.is_ok() {
        tracing::info!("stopped");
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
    mut sockets: Sockets,
    descriptors: Descriptors,
    more: Vec<Box<dyn ServiceWithDependents>>,
) -> Result<(), RunError> {
    let successor = sockets.successor();
    let mut server = Server::new_with_opt_and_conf(Opt::default(), server_conf(config));
    server.bootstrap();
    let (lifecycle, sockets, descriptors) = (
        Arc::new(Lifecycle::default()),
        Arc::new(SocketTable::new(sockets)),
        Arc::new(descriptors),
    );
    let terms = |tls, proxies: Option<&Vec<IpNet>>, descriptors: Option<&Arc<Descriptors>>| Terms {
        timeouts: Timeouts::from(&config.limits),
        tls,
        proxies: proxies.cloned(),
        descriptors: descriptors.cloned(),
        draining: lifecycle.draining(),
    };
    let filter = AccessFilter::new(Arc::clone(control.access()), FilterSettings::from(config));
    let proxy = AccessProxy::new(filter)
        .with_settings(proxy_settings(config, &descriptors))
        .with_connector_options(ConnectorOptions::from_server_conf(&server.configuration));
    let proxy = Arc::new(Cuttable::new(http_proxy(&server.configuration, proxy)));
    let mut front =
        ListenerGroup::new("proxy", None, Arc::clone(&sockets), control.vital().clone());
    for (listen, tls) in config.listen.iter().zip(acceptors) {
        let proxies = listen.proxy_protocol.then_some(&listen.trusted_proxies);
        front.add(
            listen.address,
            Arc::clone(&proxy),
            terms(tls, proxies, Some(&descriptors)),
        );
    }
    for listen in &config.redirects {
        let redirect = Arc::new(Redirect::new(
            Arc::clone(control.access()),
            listen.acme_challenges.clone(),
        ));
        let proxies = listen.proxy_protocol.then_some(&listen.trusted_proxies);
        front.add(
            listen.address,
            redirect,
            terms(None, proxies, Some(&descriptors)),
        );
    }
    let front = server.add_service(front);
    if let Some(address) = config.metrics {
        let health = Health {
            access: Arc::clone(control.access()),
            lifecycle: Arc::clone(&lifecycle),
        };
        // Its own thread: it answers also while the proxy's are busy.
        let mut group = ListenerGroup::new(
            "health",
            Some(1),
            Arc::clone(&sockets),
            control.vital().clone(),
        );
        group.add(address, Arc::new(health), terms(None, None, None));
        // Nobody is told that the proxy is ready before it listens.
        server.add_service(group).add_dependency(&front);
    }
    for service in more {
        server.add_service(Watched::new(service, control.vital().clone()));
    }
    if let Some(file) = pid_file {
        file.write()?;
    }
    tracing::info!(
        listeners = ?config.listen.iter().map(|l| l.address.to_string()).collect::<Vec<_>>(),
        team = %config.catalog.team.url(),
        applications = config.catalog.applications.len(),
        "serving",
    );
    let lame_duck = config.server.lame_duck;
    let signals = Signals {
        lifecycle,
        lame_duck,
        upgrade_socket: upgrade_socket(config),
        sockets,
        successor,
    };
    let (_, closed) = Vital::new();
    let ended = control.ended().unwrap_or(closed);
    match shutdown::run(
        server,
        signals,
        config.server.grace_period,
        (control.vital(), ended),
        control.runtime(),
    ) {
        Ok(End::Stopped) => Ok(()),
        Ok(End::Lost(name)) => Err(RunError::Lost(name)),
        Err(error) => Err(RunError::Thread(error)),
    }
}

/// The TLS side of a listener.
fn acceptor(
    address: SocketAddr,
    files: &config::Tls,
    control: &Control,
) -> Result<Acceptor, RunError> {
    let (verifier, after) = clients::of(control.access());
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
    // Pingora offers HTTP/2 and 1.1. Clients of HTTP/1.0 that name it would get no connection
    // otherwise (RFC 7301 3.2).
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

/// Returns the socket for upgrades, beside the store. Pingora's default is in /tmp, where any user
/// could wait for the listeners.
fn upgrade_socket(config: &Config) -> PathBuf {
    let beside = match &config.store {
        StoreConfig::Sqlite { path, .. } => path.clone(),
        StoreConfig::Memory => {
            std::env::temp_dir().join(format!("portcullis-{}", std::process::id()))
        }
    };
    config
        .server
        .upgrade_socket
        .clone()
        .unwrap_or_else(|| beside.with_extension("upgrade"))
}

fn server_conf(config: &Config) -> ServerConf {
    ServerConf {
        threads: config.server.threads,
        // Longer than what `shutdown` waits, which ends the process: nothing is cut off by this.
        grace_period_seconds: Some(config.server.grace_period.as_secs().saturating_add(1)),
        graceful_shutdown_timeout_seconds: Some(5),
        upgrade_sock: upgrade_socket(config).display().to_string(),
        upstream_keepalive_pool_size: 512,
        ..ServerConf::default()
    }
}
