//! The commands about identity providers.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use portcullis::app;
use portcullis::config::{self, Config, IdentityProvider, Offline};

use super::{failed, warn};

/// What `idp` takes.
#[derive(Subcommand)]
pub(crate) enum Idp {
    /// Make a link, good for ten minutes, to a login that tries an identity provider out and shows what comes of it.
    Test(Test),
}

#[derive(Args)]
pub(crate) struct Test {
    /// The ids of identity providers; all of them, where nothing is said.
    #[arg(value_name = "ID")]
    ids: Vec<String>,
    /// The configuration file.
    #[arg(short, long, default_value = "portcullis.toml")]
    config: PathBuf,
}

pub(crate) fn run(command: Idp) -> ExitCode {
    let outcome = match command {
        Idp::Test(command) => test(&command),
    };
    outcome.unwrap_or_else(|message| failed(&message))
}

fn test(command: &Test) -> Result<ExitCode, String> {
    // The link needs no secret of the configuration's, so whoever makes it need not have them.
    let loaded = config::load(&command.config, &Offline).map_err(|errors| errors.to_string())?;
    warn(&loaded.warnings);
    let providers = chosen(&loaded.config, &command.ids)?;
    let ids: Vec<_> = providers.iter().map(|provider| provider.id.clone()).collect();
    let links = app::test_links(&loaded.config, &ids).map_err(|error| crate::chain(&error))?;
    anstream::println!("Open this within ten minutes, and sign in as somebody who may. No session comes of it.");
    for (provider, link) in providers.iter().zip(links) {
        anstream::println!("\n{}\n  {link}", provider.name);
    }
    Ok(ExitCode::SUCCESS)
}

/// The providers of these ids; all of them, for none.
fn chosen<'a>(config: &'a Config, ids: &[String]) -> Result<Vec<&'a IdentityProvider>, String> {
    let all = &config.identity_providers;
    if ids.is_empty() {
        return Ok(all.iter().collect());
    }
    let one = |id: &String| {
        let known = || all.iter().map(|provider| format!("`{}`", provider.id.0)).collect::<Vec<_>>().join(", ");
        let found = all.iter().find(|provider| *provider.id.0 == **id);
        found.ok_or_else(|| format!("there is no identity provider `{id}`; there is {}", known()))
    };
    ids.iter().map(one).collect()
}
