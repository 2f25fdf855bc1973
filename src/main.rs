//! The `portcullis` command.

mod commands;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::builder::styling::AnsiColor;
use clap::{Parser, Subcommand};
use portcullis::app::{self, Finding, NewServiceToken, Options, Severity};
use portcullis::config::System;
use portcullis::model::chain;
use portcullis::observe::logging::{self, Format};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A self-hosted access proxy that speaks the wire of Cloudflare Access.
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
        #[arg(short, long, default_value = "portcullis.toml")]
        config: PathBuf,
        /// Take over the listeners of the running process (then send it SIGQUIT).
        #[arg(long)]
        upgrade: bool,
        /// Write the log as text instead of JSON.
        #[arg(long)]
        text_log: bool,
    },
    /// Validate a configuration file and report every mistake.
    Check {
        /// The configuration file.
        #[arg(short, long, default_value = "portcullis.toml")]
        config: PathBuf,
        /// Treat warnings as mistakes.
        #[arg(long)]
        strict: bool,
    },
    /// Show how a request would be decided, and why.
    Explain(Box<commands::Explain>),
    /// Run policy tests.
    Test(commands::Test),
    /// Show who gains or loses access between two configurations.
    Diff(commands::Compare),
    /// Check and test identity providers.
    Idp {
        #[command(subcommand)]
        command: commands::Idp,
    },
    /// Create service tokens.
    ServiceToken {
        #[command(subcommand)]
        command: ServiceToken,
    },
    /// Run the proxy, four applications and an identity provider on this machine.
    Demo {
        /// First of three loopback ports: proxy, identity provider, applications.
        #[arg(short, long, default_value_t = 8000)]
        port: u16,
    },
}

#[derive(Subcommand)]
enum ServiceToken {
    /// Create a service token; print its secret (once) and its configuration section.
    New {
        /// The name in logs.
        name: String,
    },
}

fn main() -> ExitCode {
    // The one place that chooses the cryptography of the whole process. A second choice is none:
    // nothing came before.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let outcome = match Cli::parse().command {
        Command::Run {
            config,
            upgrade,
            text_log,
        } => {
            let format = if text_log { Format::Text } else { Format::Json };
            logged(format, || app::run(&Options { config, upgrade }))
        }
        Command::Check { config, strict } => return check(&config, strict),
        Command::Explain(command) => return commands::explain(*command),
        Command::Test(command) => return commands::test(command),
        Command::Diff(command) => return commands::diff(command),
        Command::Idp { command } => return commands::idp(command),
        Command::ServiceToken {
            command: ServiceToken::New { name },
        } => match NewServiceToken::new(&name) {
            Ok(token) => {
                anstream::print!("{token}");
                Ok(())
            }
            Err(_) => Err("the operating system gives no randomness".to_owned()),
        },
        Command::Demo { port } => logged(Format::Short, || app::demo(port)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            say(Level::Error, &message);
            ExitCode::from(2)
        }
    }
}

fn logged<E: std::error::Error>(
    format: Format,
    run: impl FnOnce() -> Result<(), E>,
) -> Result<(), String> {
    let logging = logging::init(format).map_err(|e| chain(&e))?;
    let outcome = run().map_err(|e| chain(&e));
    logging.flush(Duration::from_secs(1));
    outcome
}

fn check(file: &std::path::Path, strict: bool) -> ExitCode {
    match app::load(file, &System) {
        Ok((loaded, certificates)) => {
            let warning = if strict { Level::Error } else { Level::Warning };
            for problem in &loaded.warnings {
                say(warning, &problem.to_string());
            }
            for Finding { severity, problem } in &certificates {
                say(
                    if *severity == Severity::Error {
                        Level::Error
                    } else {
                        warning
                    },
                    &problem.to_string(),
                );
            }
            let store = app::check_store(&loaded.config);
            if let Some(problem) = &store {
                let level = if problem.is_error {
                    Level::Error
                } else {
                    warning
                };
                say(
                    level,
                    &format!("{}: store.path: {}", file.display(), problem.message),
                );
            }
            let broken = certificates
                .iter()
                .any(|finding| finding.severity == Severity::Error)
                || store.as_ref().is_some_and(|problem| problem.is_error);
            if broken
                || strict
                    && !(loaded.warnings.is_empty() && certificates.is_empty() && store.is_none())
            {
                return ExitCode::from(2);
            }
            let applications = count(loaded.config.catalog.applications.len(), "application");
            let providers = count(
                loaded.config.catalog.identity_providers.len(),
                "identity provider",
            );
            anstream::eprintln!("{}: good: {applications}, {providers}", file.display());
            ExitCode::SUCCESS
        }
        Err(errors) => {
            say(Level::Error, &errors.to_string());
            ExitCode::from(2)
        }
    }
}

fn count(number: usize, what: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{number} {what}{ending}")
}

#[derive(Clone, Copy)]
enum Level {
    Warning,
    Error,
}

/// For the person at the terminal; each line of the text is a message of its own. In colour where
/// that is wanted.
fn say(level: Level, text: &str) {
    let (word, colour) = match level {
        Level::Warning => ("warning", AnsiColor::Yellow),
        Level::Error => ("error", AnsiColor::Red),
    };
    let style = colour.on_default().bold();
    for line in text.lines() {
        anstream::eprintln!("{style}{word}{style:#}: {line}");
    }
}
