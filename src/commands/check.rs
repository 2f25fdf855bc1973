//! `portcullis check`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use portcullis::app::{self, Finding, Severity};
use portcullis::config::{Loaded, System};

use super::{Level, failed, print};

#[derive(Args)]
pub(crate) struct Check {
    /// The configuration file.
    #[arg(short, long, value_name = "FILE", default_value = "portcullis.toml")]
    config: PathBuf,
    /// Treat warnings as errors.
    #[arg(long)]
    strict: bool,
}

/// Exits with 0 for a valid configuration, else with 2.
pub(crate) fn run(command: &Check) -> ExitCode {
    let file = &command.config;
    let (loaded, certificates) = match app::load(file, &System) {
        Ok(loaded) => loaded,
        Err(errors) => return failed(&errors.to_string()),
    };
    let problems = problems(file, &loaded, &certificates);
    let mut is_valid = true;
    for (level, message) in problems {
        let level = if command.strict { Level::Error } else { level };
        is_valid &= level == Level::Warning;
        print(level, &message);
    }
    if !is_valid {
        return ExitCode::from(2);
    }
    let applications = count(loaded.config.catalog.applications.len(), "application");
    let providers = count(
        loaded.config.catalog.identity_providers.len(),
        "identity provider",
    );
    anstream::eprintln!("{}: valid: {applications}, {providers}", file.display());
    ExitCode::SUCCESS
}

/// Lists the problems of a configuration that could be loaded.
fn problems(file: &Path, loaded: &Loaded, certificates: &[Finding]) -> Vec<(Level, String)> {
    let mut problems: Vec<_> = loaded
        .warnings
        .iter()
        .map(|problem| (Level::Warning, problem.to_string()))
        .collect();
    problems.extend(certificates.iter().map(|finding| {
        let level = match finding.severity {
            Severity::Error => Level::Error,
            Severity::Warning => Level::Warning,
        };
        (level, finding.problem.to_string())
    }));
    problems.extend(app::check_store(&loaded.config).map(|problem| {
        let level = match problem.severity {
            Severity::Error => Level::Error,
            Severity::Warning => Level::Warning,
        };
        let message = format!("{}: store.path: {}", file.display(), problem.message);
        (level, message)
    }));
    problems
}

fn count(number: usize, noun: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{ending}")
}
