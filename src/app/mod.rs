//! The composition root of the standalone proxy: configuration in, a running server out.

mod certificates;
mod check_store;
mod clients;
mod health;
mod origins;
mod service_token;
mod shutdown;
mod test_link;
mod tls;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use pingora::apps::HttpServerOptions;
use pingora::listeners::tls::TlsSettings;
use pingora::proxy::ProxyServiceBuilder;
use pingora::server::Server;
use pingora::server::configuration::{Opt, ServerConf};
use pingora::services::ServiceWithDependents;
use thiserror::Error;

use crate::config::{self, Config, Errors, StoreConfig, System};
use crate::control::{Control, ControlError};
use crate::demo::{Demo, PortTaken, Ports};
use crate::front::pingora::{AccessFilter, AccessProxy, FilterSettings};
use crate::token::SigningKeyError;
pub use certificates::{CertificateError, Finding, Severity, load};
pub use check_store::{StoreProblem, check_store};
use origins::Pools;
pub use service_token::NewServiceToken;
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
    let loaded = certificates::load_and_log(&options.config, &System)?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let control = Control::start(&loaded.config, Pools::default())?;
    control.follow(&options.config, certificates::load_and_log);
    if let Some(path) = &loaded.config.server.pid_file {
        // Pingora writes one for daemons only.
        std::fs::write(path, format!("{}\n", std::process::id()))
            .map_err(|source| RunError::PidFile { path: path.clone(), source })?;
    }
    serve(control, &loaded.config, options.upgrade, Vec::new())
}

/// Runs the self-contained demonstration until it is told to stop: everything on the loopback address, nothing kept.
///
/// # Errors
/// Where the port, or one of the two after it, is taken.
pub fn demo(port: u16) -> Result<(), RunError> {
    let ports = Ports::starting_at(port).ok_or(RunError::DemoPort(port))?;
    ports.check()?;
    let demo = Demo::new(ports)?;
    // It weakens what must be weak on one machine without certificates; its warnings are meant for others.
    let config = config::parse(&demo.config(), Path::new("demo.toml"), &System)?.config;
    let control = Control::start(&config, Pools::default())?;
    show(&demo.banner());
    serve(control, &config, false, demo.services())
}

#[expect(clippy::print_stdout, reason = "this is what the person at the terminal reads")]
fn show(text: &str) {
    println!("{text}");
}

fn serve(
    control: Control,
    config: &Config,
    upgrade: bool,
    more: Vec<Box<dyn ServiceWithDependents>>,
) -> Result<(), RunError> {
    let options = Opt { upgrade, ..Opt::default() };
    let mut server = Server::new_with_opt_and_conf(options, server_conf(config));
    server.bootstrap();
    let filter = AccessFilter::new(Arc::clone(control.access()), FilterSettings::from(config));
    let mut proxy = ProxyServiceBuilder::new(&server.configuration, AccessProxy::new(filter))
        .name("proxy")
        .server_options(server_options())
        .build();
    for listen in &config.listen {
        let address = listen.address.to_string();
        match &listen.tls {
            None => proxy.add_tcp(&address),
            Some(files) => {
                let (verifier, after) = clients::of(control.access());
                let mut settings = tls_settings(&address, after)?;
                settings.set_client_cert_verifier(verifier);
                settings.set_cert_resolver(tls::resolver(files, control.access(), control.runtime())?);
                settings.enable_h2();
                proxy.add_tls_with_settings(&address, None, settings);
            }
        }
    }
    let proxy = server.add_service(proxy);
    if let Some(address) = config.metrics {
        // Nobody is told that the proxy is ready before it listens.
        let health = server.add_service(health::service(address, Arc::clone(control.access())));
        health.add_dependency(&proxy);
    }
    server.add_services(more);
    tracing::info!(
        listeners = ?config.listen.iter().map(|l| l.address.to_string()).collect::<Vec<_>>(),
        team = %config.team.url(),
        applications = config.applications.len(),
        "serving",
    );
    shutdown::run(server, config.server.grace_period).map_err(RunError::Thread)?;
    control.stop(Duration::from_secs(1));
    tracing::info!("stopped");
    Ok(())
}

fn server_conf(config: &Config) -> ServerConf {
    // Pingora's own place is in /tmp, where anybody could wait for the listeners; this one stands beside the store.
    let beside = match &config.store {
        StoreConfig::Sqlite { path, .. } => path.clone(),
        StoreConfig::Memory => std::env::temp_dir().join(format!("portcullis-{}", std::process::id())),
    };
    let upgrade = config.server.upgrade_socket.clone().unwrap_or_else(|| beside.with_extension("upgrade"));
    let defaults = ServerConf::default();
    ServerConf {
        threads: config.server.threads,
        // Longer than what `shutdown` waits, which ends the process: nothing is cut off by this.
        grace_period_seconds: Some(config.server.grace_period.as_secs().saturating_add(1)),
        graceful_shutdown_timeout_seconds: Some(5),
        upgrade_sock: upgrade.display().to_string(),
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

fn tls_settings(address: &str, after: clients::AfterHandshake) -> Result<TlsSettings, RunError> {
    TlsSettings::with_callbacks(Box::new(after))
        .map_err(|error| RunError::Listen { address: address.to_owned(), reason: error.to_string() })
}
