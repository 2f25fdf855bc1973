//! `portcullis diff`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use portcullis::model::UnixTime;
use portcullis::review::Diff;

use super::{failed, load};

#[derive(Args)]
pub(crate) struct DiffArgs {
    /// The old configuration file.
    old: PathBuf,
    /// The new configuration file.
    new: PathBuf,
    /// Compare the requests in this JSON audit log [default: all users that the configurations
    /// distinguish].
    #[arg(long, value_name = "FILE")]
    audit: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Exits with 0 if access does not change, with 1 if it does, and with 2 if the configurations
/// could not be compared.
pub(crate) fn run(command: &DiffArgs) -> ExitCode {
    compare(command).unwrap_or_else(|message| failed(&message))
}

fn compare(command: &DiffArgs) -> Result<ExitCode, String> {
    let (old, new) = (load(&command.old)?, load(&command.new)?);
    let now = UnixTime::now();
    let diff = match &command.audit {
        Some(log) => Diff::of_log(&old, &new, log, now)?,
        None => Diff::of_names(&old, &new, now)?,
    };
    if command.json {
        let json = serde_json::to_string_pretty(&diff).map_err(|e| e.to_string())?;
        anstream::println!("{json}");
    } else {
        anstream::print!("{diff}");
    }
    Ok(if diff.changes.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
