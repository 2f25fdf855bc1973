//! The composition root of the standalone proxy: configuration in, a running server out.

mod health;
mod origins;
mod tls;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use pingora::apps::HttpServerOptions;
use pingora::listeners::tls::TlsSettings;
use pingora::proxy::ProxyServiceBuilder;
use pingora::server::configuration::{Opt, ServerConf};
use pingora::server::{RunArgs, Server};
use pingora::services::ServiceWithDependents;
use thiserror::Error;

use crate::config::{self, Config, Errors, StoreConfig, System};
use crate::control::{Access, CompileError, StartError, Tasks, compile, watch_configuration};
use crate::demo::{Demo, PortTaken, Ports};
use crate::engine::Known;
use crate::front::pingora::{AccessFilter, AccessProxy, FilterSettings, ListenerSettings};
use crate::http_client::{HttpClient, Roots, RootsError, Timeouts};
use crate::model::UnixTime;
use crate::observe::metrics::{Reload, metrics};
use crate::store::{MemoryStore, SqliteStore, Store, StoreError};
use crate::token::SigningKeyError;

/// Why the proxy did not start.
#[derive(Debug, Error)]
pub enum RunError {
    /// The configuration file. Each mistake stands on lines of its own.
    #[error("{0}")]
    Config(#[from] Errors),
    /// What it says cannot be put together.
    #[error("the configuration cannot be run")]
    Compile(#[from] CompileError),
    /// The store file.
    #[error("the store cannot be used")]
    Store(#[from] StoreError),
    /// The control path.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A certificate or its key.
    #[error(transparent)]
    Tls(#[from] tls::TlsError),
    /// Outgoing connections.
    #[error("the HTTP client cannot be made")]
    Http(#[from] RootsError),
    /// The runtime of the control path.
    #[error("the control runtime cannot be made")]
    Runtime(#[source] std::io::Error),
    /// There are no two ports after it.
    #[error("the demo needs three ports, and {0} is not the first of three")]
    DemoPort(u16),
    /// One of the demo's ports.
    #[error(transparent)]
    PortTaken(#[from] PortTaken),
    /// The demo provider's key.
    #[error("the demo provider has no key")]
    DemoKey(#[from] SigningKeyError),
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
    /// Whether to take the listeners over from a running process, which then ends (see `conf/portcullis.toml`, `[server]`).
    pub upgrade: bool,
}

/// Runs the proxy of a configuration file until it is told to stop.
///
/// # Errors
/// See [`RunError`]; once it serves, nothing ends it but a signal.
pub fn run(options: &Options) -> Result<(), RunError> {
    let loaded = config::load(&options.config, &System)?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let running = Running::start(&loaded.config)?;
    running.reload_on_change(&options.config);
    running.serve(&loaded.config, options.upgrade, Vec::new())
}

/// Runs the self-contained demonstration until it is told to stop: everything on the loopback address, nothing kept.
///
/// # Errors
/// Where the port, or one of the two after it, is taken.
pub fn demo(port: u16) -> Result<(), RunError> {
    let ports = Ports::starting_at(port).ok_or(RunError::DemoPort(port))?;
    ports.check()?;
    let demo = Demo::new(ports, UnixTime::now())?;
    // It weakens what must be weak on one machine without certificates; its warnings are meant for others.
    let config = config::parse(&demo.config(), Path::new("demo.toml"), &System)?.config;
    let running = Running::start(&config)?;
    show(&demo.banner());
    running.serve(&config, false, demo.services())
}

#[expect(clippy::print_stdout, reason = "this is what the person at the terminal reads")]
fn show(text: &str) {
    println!("{text}");
}

/// The control path of a configuration, started.
pub(crate) struct Running {
    runtime: tokio::runtime::Runtime,
    access: Arc<Access>,
    http: HttpClient,
    _tasks: Tasks,
}

impl Running {
    pub(crate) fn start(config: &Config) -> Result<Self, RunError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("control")
            .enable_all()
            .build()
            .map_err(RunError::Runtime)?;
        let http = HttpClient::new(&Roots::default(), Timeouts::default())?;
        let known = Arc::new(Known::new(usize::try_from(config.server.sessions_cached).unwrap_or(usize::MAX)));
        let pools = runtime.block_on(origins::pools(config, runtime.handle()));
        let (snapshot, services) = {
            let _within = runtime.enter();
            compile(config, 1, known, &http, |application| pools.of(application))?
        };
        let store: Arc<dyn Store> = match &config.store {
            StoreConfig::Memory => Arc::new(MemoryStore::new()),
            StoreConfig::Sqlite { path } => Arc::new(runtime.block_on(SqliteStore::open(path))?),
        };
        let started = Access::start(snapshot, services, store, http.clone(), runtime.handle().clone());
        let access = runtime.block_on(started)?;
        let tasks = {
            let _within = runtime.enter();
            Tasks::spawn(&access)
        };
        Ok(Self { runtime, access, http, _tasks: tasks })
    }

    /// Puts a changed file in place of the running configuration, or says why not.
    fn reload_on_change(&self, file: &Path) {
        let (access, http, handle) = (Arc::clone(&self.access), self.http.clone(), self.runtime.handle().clone());
        let file = file.to_owned();
        self.runtime.spawn(async move {
            let changed = || {
                let (access, http, handle, file) = (Arc::clone(&access), http.clone(), handle.clone(), file.clone());
                async move { reload(&access, &http, &handle, &file).await }
            };
            watch_configuration(&file, changed).await;
        });
    }

    pub(crate) fn serve(
        self,
        config: &Config,
        upgrade: bool,
        more: Vec<Box<dyn ServiceWithDependents>>,
    ) -> Result<(), RunError> {
        let options = Opt { upgrade, ..Opt::default() };
        let mut server = Server::new_with_opt_and_conf(options, server_conf(config));
        server.bootstrap();
        let filter = AccessFilter::new(Arc::clone(&self.access), filter_settings(config));
        let mut proxy = ProxyServiceBuilder::new(&server.configuration, AccessProxy::new(filter))
            .name("proxy")
            .server_options(server_options())
            .build();
        for listen in &config.listen {
            let address = listen.address.to_string();
            match &listen.tls {
                None => proxy.add_tcp(&address),
                Some(files) => {
                    let mut settings = tls_settings(&address)?;
                    settings.set_cert_resolver(tls::resolver(files, self.runtime.handle())?);
                    settings.enable_h2();
                    proxy.add_tls_with_settings(&address, None, settings);
                }
            }
        }
        let proxy = server.add_service(proxy);
        if let Some(address) = config.metrics {
            // Nobody is told that the proxy is ready before it listens.
            let health = server.add_service(health::service(address, Arc::clone(&self.access)));
            health.add_dependency(&proxy);
        }
        server.add_services(more);
        tracing::info!(
            listeners = ?config.listen.iter().map(|l| l.address.to_string()).collect::<Vec<_>>(),
            team = %config.team.url(),
            applications = config.applications.len(),
            "serving",
        );
        server.run(RunArgs::default());
        self.runtime.shutdown_timeout(Duration::from_secs(1));
        Ok(())
    }
}

async fn reload(access: &Arc<Access>, http: &HttpClient, handle: &tokio::runtime::Handle, file: &Path) {
    let loaded = match config::load(file, &System) {
        Ok(loaded) => loaded,
        Err(errors) => {
            metrics().reload(Reload::Rejected);
            tracing::error!("the configuration was not reloaded, the running one stays:\n{errors}");
            return;
        }
    };
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let pools = origins::pools(&loaded.config, handle).await;
    let known = Arc::clone(access.snapshot().known());
    match compile(&loaded.config, access.next_generation(), known, http, |application| pools.of(application)) {
        Ok((snapshot, services)) => {
            access.replace(snapshot, services);
            metrics().reload(Reload::Applied);
            tracing::info!(applications = loaded.config.applications.len(), "the configuration was reloaded");
        }
        Err(error) => {
            metrics().reload(Reload::Rejected);
            tracing::error!(%error, "the configuration was not reloaded, the running one stays");
        }
    }
}

fn filter_settings(config: &Config) -> FilterSettings {
    let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    let listeners = config.listen.iter().map(|listen| ListenerSettings {
        address: listen.address,
        trusted_proxies: listen.trusted_proxies.clone(),
        tls: listen.tls.is_some(),
    });
    FilterSettings {
        listeners: listeners.collect(),
        max_header_bytes: size(config.limits.header_bytes),
        max_headers: size(config.limits.header_count),
        max_target_bytes: size(config.limits.target_bytes),
    }
}

fn server_conf(config: &Config) -> ServerConf {
    let private = |path: &Option<PathBuf>, otherwise: &str| {
        path.as_ref().map_or_else(|| otherwise.to_owned(), |path| path.display().to_string())
    };
    let defaults = ServerConf::default();
    ServerConf {
        threads: config.server.threads,
        grace_period_seconds: Some(config.server.grace_period.as_secs()),
        graceful_shutdown_timeout_seconds: Some(5),
        pid_file: private(&config.server.pid_file, &defaults.pid_file),
        upgrade_sock: private(&config.server.upgrade_socket, &defaults.upgrade_sock),
        ca_file: origins::ca_file(config).map(|path| path.display().to_string()),
        upstream_keepalive_pool_size: 512,
        ..defaults
    }
}

fn server_options() -> HttpServerOptions {
    let mut options = HttpServerOptions::default();
    // HTTP/2 without TLS, with prior knowledge: gRPC clients and sidecars speak it on plain listeners.
    options.h2c = true;
    options
}

fn tls_settings(address: &str) -> Result<TlsSettings, RunError> {
    TlsSettings::intermediate("", "")
        .map_err(|error| RunError::Listen { address: address.to_owned(), reason: error.to_string() })
}
