//! The `portcullis idp` command: check and trial of providers.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::styling::{AnsiColor, Style};
use clap::{Args, Subcommand};
use portcullis::config::{self, Config, IdentityProvider, Offline, System};
use portcullis::http_client::HttpClient;
use portcullis::idp::Provider;
use portcullis::idp::check::{Finding, Registration, Status};
use portcullis::model::{UnixTime, chain};
use portcullis::{app, control};
use serde::Serialize;

use super::{failed, warn};

#[derive(Subcommand)]
pub(crate) enum Idp {
    /// Check the configuration of identity providers without a login.
    Check(Check),
    /// Print a link to a test login, valid for ten minutes.
    Test(Test),
}

#[derive(Args)]
pub(crate) struct Check {
    /// Ids of identity providers [default: all].
    #[arg(value_name = "ID")]
    ids: Vec<String>,
    /// The configuration file.
    #[arg(short, long, value_name = "FILE", default_value = "portcullis.toml")]
    config: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(crate) struct Test {
    /// Ids of identity providers [default: all].
    #[arg(value_name = "ID")]
    ids: Vec<String>,
    /// The configuration file.
    #[arg(short, long, value_name = "FILE", default_value = "portcullis.toml")]
    config: PathBuf,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Text,
    Json,
}

/// The result of the check of one provider.
#[derive(Serialize)]
struct Checked<'a> {
    id: &'a str,
    name: &'a str,
    #[serde(rename = "type")]
    kind: String,
    good: bool,
    steps: Vec<Finding>,
    register: Registration,
}

pub(crate) fn run(command: Idp) -> ExitCode {
    let outcome = match command {
        Idp::Check(command) => check(&command),
        Idp::Test(command) => test(&command),
    };
    outcome.unwrap_or_else(|message| failed(&message))
}

/// Exits with 0 if the check finds no failure, else with 1.
fn check(command: &Check) -> Result<ExitCode, String> {
    let mut config = config::load(&command.config, &System)
        .map_err(|errors| errors.to_string())?
        .config;
    if config.catalog.team.certs_url.is_some() {
        return Err(
            "with `certs_url`, users sign in at another team; run this command on a node of that team"
                .to_owned(),
        );
    }
    config.catalog.identity_providers = chosen(&config, &command.ids)?
        .into_iter()
        .cloned()
        .collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|e| format!("cannot start the runtime: {e}"))?;
    let http = control::http_client(&config).map_err(|e| chain(&e))?;
    let good = runtime.block_on(async {
        let providers = control::providers(&config, &http).map_err(|e| chain(&e))?;
        let format = if command.json {
            Format::Json
        } else {
            Format::Text
        };
        check_all(&providers, &http, format).await
    });
    // A DNS lookup may still run; do not wait for it.
    runtime.shutdown_background();
    good.map(|good| {
        if good {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    })
}

fn test(command: &Test) -> Result<ExitCode, String> {
    // The link needs no secret of the configuration, so the command works without them.
    let loaded = config::load(&command.config, &Offline).map_err(|errors| errors.to_string())?;
    warn(&loaded.warnings);
    let providers = chosen(&loaded.config, &command.ids)?;
    let ids: Vec<_> = providers
        .iter()
        .map(|provider| provider.id.clone())
        .collect();
    let links = app::trial_links(&loaded.config, &ids).map_err(|error| chain(&error))?;
    anstream::println!(
        "Open the link within ten minutes and sign in. It only tests the connection; you will not be signed in."
    );
    for (provider, link) in providers.iter().zip(links) {
        anstream::println!("\n{}\n  {link}", provider.name);
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns the providers with these ids, or all providers if there are no ids.
fn chosen<'a>(config: &'a Config, ids: &[String]) -> Result<Vec<&'a IdentityProvider>, String> {
    let all = &config.catalog.identity_providers;
    if ids.is_empty() {
        return Ok(all.iter().collect());
    }
    let one = |id: &String| {
        let known = || {
            all.iter()
                .map(|provider| format!("`{}`", provider.id.0))
                .collect::<Vec<_>>()
                .join(", ")
        };
        let found = all.iter().find(|provider| *provider.id.0 == **id);
        found.ok_or_else(|| {
            format!(
                "identity provider `{id}` not found; configured: {}",
                known()
            )
        })
    };
    ids.iter().map(one).collect()
}

/// Checks the providers one by one, and returns `true` if none has a failure.
async fn check_all(
    providers: &[Provider],
    http: &HttpClient,
    format: Format,
) -> Result<bool, String> {
    let is_text = format == Format::Text;
    let mut all = Vec::new();
    for (index, provider) in providers.iter().enumerate() {
        let kind = provider.idp_ref().kind;
        if is_text {
            let gap = if index == 0 { "" } else { "\n" };
            anstream::println!("{gap}{} (`{}`, {kind})", provider.name(), provider.id().0);
        }
        let mut steps: Vec<Finding> = Vec::new();
        let mut report = |finding: Finding| {
            if is_text {
                show(&finding);
            }
            steps.push(finding);
        };
        provider.check(http, UnixTime::now(), &mut report).await;
        let register = provider.registration();
        if is_text {
            show_registration(&register);
        }
        let good = steps
            .iter()
            .all(|finding| finding.outcome != Status::Failed);
        all.push(Checked {
            id: &provider.id().0,
            name: provider.name(),
            kind,
            good,
            steps,
            register,
        });
    }
    if !is_text {
        let text = serde_json::to_string_pretty(&all).map_err(|e| e.to_string())?;
        anstream::println!("{text}");
    }
    Ok(all.iter().all(|checked| checked.good))
}

fn show(finding: &Finding) {
    let (mark, style) = match finding.outcome {
        Status::Good => ("✓", AnsiColor::Green.on_default()),
        Status::Warning => ("!", AnsiColor::Yellow.on_default().bold()),
        Status::Failed => ("✗", AnsiColor::Red.on_default().bold()),
        Status::Skipped => ("–", Style::new().dimmed()),
    };
    anstream::println!(
        "  {style}{mark}{style:#} {:<18} {}",
        finding.step.as_str(),
        finding.found
    );
    if let Some(advice) = &finding.advice {
        anstream::println!("      → {advice}");
    }
}

fn show_registration(registration: &Registration) {
    let lines = match registration {
        Registration::Oidc {
            sign_in_redirect_uri,
            sign_out_redirect_uri,
        } => vec![
            ("Sign-in redirect URI", Some(sign_in_redirect_uri.as_str())),
            (
                "Sign-out redirect URI",
                sign_out_redirect_uri.as_ref().map(|url| url.as_str()),
            ),
        ],
        Registration::Saml {
            acs_url,
            entity_id,
            metadata_url,
        } => vec![
            ("Single sign-on URL (ACS)", Some(acs_url.as_str())),
            ("Audience (SP entity id)", Some(entity_id.as_str())),
            ("SP metadata", metadata_url.as_ref().map(|url| url.as_str())),
        ],
    };
    anstream::println!("  Register at the provider:");
    for (name, value) in lines {
        if let Some(value) = value {
            anstream::println!("    {name:<25} {value}");
        }
    }
}
