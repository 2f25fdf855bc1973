//! The `portcullis` command.

mod commands;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use commands::{Level, check, diff, explain, idp, print, test};
use portcullis::app::{self, NewServiceToken, Options, Start};
use portcullis::model::chain;
use portcullis::observe::logging::{self, Format};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Self-hosted access proxy, compatible with applications made for Cloudflare Access.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the proxy.
    Run {
        /// The configuration file.
        #[arg(short, long, value_name = "FILE", default_value = "portcullis.toml")]
        config: PathBuf,
        /// Take over the listeners of the running process; send it SIGQUIT afterwards.
        #[arg(long)]
        upgrade: bool,
        /// Write the log as text instead of JSON.
        #[arg(long)]
        text_log: bool,
    },
    /// Validate a configuration file and report every error.
    Check(check::Check),
    /// Show how a request would be decided, and why.
    Explain(Box<explain::Explain>),
    /// Run policy tests.
    Test(test::Test),
    /// Show how access changes between two configurations.
    Diff(diff::DiffArgs),
    /// Check and test identity providers.
    Idp {
        #[command(subcommand)]
        command: idp::Idp,
    },
    /// Create service tokens.
    ServiceToken {
        #[command(subcommand)]
        command: ServiceToken,
    },
    /// Run a demo: the proxy with an identity provider and four applications.
    Demo {
        /// The first of three consecutive ports: proxy, identity provider, applications.
        #[arg(short, long, default_value_t = 8000)]
        port: u16,
    },
}

#[derive(Subcommand)]
enum ServiceToken {
    /// Create a service token and print its secret (shown only once) and configuration section.
    New {
        /// The name of the token, shown in logs.
        name: String,
    },
}

fn main() -> ExitCode {
    // Installs the process-wide crypto provider. The error (already installed) cannot occur here.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let outcome = match Cli::parse().command {
        Command::Run {
            config,
            upgrade,
            text_log,
        } => {
            let format = if text_log { Format::Text } else { Format::Json };
            let start = if upgrade {
                Start::Upgrade
            } else {
                Start::Fresh
            };
            logged(format, || app::run(&Options { config, start }))
        }
        Command::Check(command) => return check::run(&command),
        Command::Explain(command) => return explain::run(*command),
        Command::Test(command) => return test::run(command),
        Command::Diff(command) => return diff::run(&command),
        Command::Idp { command } => return idp::run(command),
        Command::ServiceToken {
            command: ServiceToken::New { name },
        } => match NewServiceToken::new(&name) {
            Ok(token) => {
                anstream::print!("{token}");
                Ok(())
            }
            Err(_) => Err("the operating system's random number generator failed".to_owned()),
        },
        Command::Demo { port } => logged(Format::Short, || app::demo(port)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            print(Level::Error, &message);
            ExitCode::from(2)
        }
    }
}

/// Sets up the log, and writes it out completely at the end.
fn logged<E: std::error::Error>(
    format: Format,
    run: impl FnOnce() -> Result<(), E>,
) -> Result<(), String> {
    let logging = logging::init(format).map_err(|e| chain(&e))?;
    let outcome = run().map_err(|e| chain(&e));
    logging.flush(Duration::from_secs(1));
    outcome
}
