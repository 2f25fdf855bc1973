//! The composition root of the standalone proxy: turns a configuration into a running server.

mod certificates;
mod check_store;
mod clients;
mod health;
mod listeners;
mod origins;
mod panics;
mod pid_file;
mod provider_trial;
mod server;
mod service_token;
mod shutdown;
mod tls;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::config::{self, Config, Errors, System};
use crate::control::{Control, ControlError, FileWatch};
use crate::demo::{Demo, PortTaken, Ports};
use crate::token::SigningKeyError;
pub use certificates::{CertificateError, Finding, Severity, load};
pub use check_store::{StoreProblem, check_store};
use listeners::{Descriptors, Sockets};
pub use listeners::{ListenError, TakeOverError};
use origins::Pools;
use panics::PanicGuard;
pub use provider_trial::{TrialLinkError, trial_links};
use server::{Prepared, Resources, serve, upgrade_socket};
pub use service_token::NewServiceToken;

/// A failure to start the proxy, or the loss of a part that it needs.
#[derive(Debug, Error)]
pub enum RunError {
    /// Mistakes in the configuration file, each on its own lines.
    #[error(transparent)]
    Config(#[from] Errors),
    /// The control path could not start.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The file with the process id could not be written.
    #[error("cannot write `{}`", path.display())]
    PidFile {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The thread of the server, or the reception of signals, could not be started.
    #[error("cannot start the server")]
    Thread(#[source] std::io::Error),
    /// A certificate or its key cannot be served.
    #[error(transparent)]
    Tls(#[from] CertificateError),
    /// The demo's first port does not leave room for two more.
    #[error("the demo needs three consecutive ports; {0} cannot be the first (choose 1 to 65533)")]
    DemoPort(u16),
    /// One of the demo's ports is in use.
    #[error(transparent)]
    PortTaken(#[from] PortTaken),
    /// The demo provider's key could not be generated.
    #[error("cannot generate the demo provider's key")]
    DemoKey(#[from] SigningKeyError),
    /// An address cannot be listened on.
    #[error(transparent)]
    Bind(#[from] ListenError),
    /// The listeners of the running process could not be taken over.
    #[error(transparent)]
    TakeOver(#[from] TakeOverError),
    /// A thread or task that the proxy needs has ended.
    #[error(
        "`{0}` has ended, and the proxy cannot run without it; see the log lines above for the cause"
    )]
    Lost(&'static str),
    /// The TLS settings of a listener were rejected.
    #[error("cannot create the listener on {address}: {reason}")]
    Listen {
        /// The listener's address.
        address: String,
        /// Pingora's message.
        reason: String,
    },
}

/// Options of [`run`].
#[derive(Clone, Debug)]
pub struct Options {
    /// The configuration file.
    pub config: PathBuf,
    /// The origin of the listeners.
    pub start: Start,
}

/// The origin of the listeners at a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Bind all addresses.
    Fresh,
    /// Take the listeners over from the running process, which then ends (see
    /// `conf/portcullis.toml`, `[server]`).
    Upgrade,
}

/// Runs the proxy with a configuration file until a signal stops it.
///
/// Installs a panic hook: until the proxy serves, a panic in any thread ends the process.
///
/// # Errors
/// See [`RunError`]; once it serves, only [`RunError::Lost`].
pub fn run(options: &Options) -> Result<(), RunError> {
    let panics = PanicGuard::install();
    // Before the file is read, so that no change is missed while the process starts.
    let watch = FileWatch::start(&options.config);
    let loaded = certificates::load_and_log(&options.config, &System)?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    // A certificate that cannot be served ends the start before a client can connect, and before
    // the store is created.
    for files in loaded
        .config
        .listen
        .iter()
        .filter_map(|listen| listen.tls.as_ref())
    {
        certificates::read(files, &System)?;
    }
    let descriptors = Descriptors::raise();
    // Bind before the store is opened: an accidental second process ends here.
    let sockets = match options.start {
        Start::Fresh => Some(Sockets::bind(&addresses(&loaded.config))?),
        Start::Upgrade => None,
    };
    let control = Control::start(&loaded.config, Pools::default())?;
    control.follow_watch(watch, certificates::load_and_log);
    // Take the listeners over last: if anything else fails, the running process keeps them.
    let prepared = Prepared::new(&loaded.config, &control)?;
    let sockets = match sockets {
        Some(sockets) => sockets,
        None => Sockets::take_over(&upgrade_socket(&loaded.config), &addresses(&loaded.config))?,
    };
    serve(
        control,
        &loaded.config,
        prepared,
        Resources {
            sockets,
            descriptors,
        },
        Vec::new(),
        panics,
    )
}

/// Runs the demo until a signal stops it, on loopback addresses only and without stored data.
///
/// Installs the same panic hook as [`run`].
///
/// # Errors
/// If the port or one of the next two is in use; see [`RunError`] for other errors.
pub fn demo(port: u16) -> Result<(), RunError> {
    let panics = PanicGuard::install();
    let ports = Ports::starting_at(port).ok_or(RunError::DemoPort(port))?;
    ports.check()?;
    let demo = Demo::new(ports)?;
    // The warnings about `[insecure]` are dropped: the demo needs plain HTTP and a store in memory.
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
        Resources {
            sockets,
            descriptors,
        },
        demo.services(),
        panics,
    )
}

/// Returns every address that the process listens on.
fn addresses(config: &Config) -> Vec<SocketAddr> {
    let serving = config.listen.iter().map(|listen| listen.address);
    serving
        .chain(config.redirects.iter().map(|redirect| redirect.address))
        .chain(config.metrics)
        .collect()
}

#[expect(
    clippy::print_stdout,
    reason = "the instructions are for the terminal, not for the log"
)]
fn show(text: &str) {
    println!("{text}");
}
