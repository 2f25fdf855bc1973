//! The subcommands that do not run the proxy.

pub(crate) mod check;
pub(crate) mod diff;
pub(crate) mod explain;
pub(crate) mod idp;
mod terminal;
pub(crate) mod test;

use std::path::Path;
use std::process::ExitCode;

use portcullis::config::Errors;
use portcullis::review::World;

pub(crate) use self::terminal::{Level, print};

fn load(file: &Path) -> Result<World, String> {
    let world = World::load(file).map_err(|errors: Errors| errors.to_string())?;
    warn(&world.notes);
    Ok(world)
}

fn warn(warnings: &[impl ToString]) {
    for warning in warnings {
        print(Level::Warning, &warning.to_string());
    }
}

/// Prints the error, and returns the exit code of a command that could not run.
fn failed(message: &str) -> ExitCode {
    print(Level::Error, message);
    ExitCode::from(2)
}
