//! The commands that look at policies and run nothing: what they take, and what they print.

mod idp;

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use portcullis::config::Errors;
use portcullis::model::{Identity, UnixTime};
use portcullis::policy::{Country, Verb};
use portcullis::review::{self, Asked, Diff, Moment, Person, Suite, View, World};
use serde_json::{Map, Value};

pub(crate) use self::idp::{Idp, run as idp};
use crate::{Level, say};

/// What `explain` takes.
#[derive(Args)]
pub(crate) struct Explain {
    /// The URL of a page, or the id or name of an application.
    what: String,
    /// The configuration file.
    #[arg(short, long, default_value = "portcullis.toml")]
    config: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    who: WhoArgs,
    #[command(flatten)]
    request: RequestArgs,
}

#[derive(Args)]
#[command(next_help_heading = "User (unspecified facts are unknown)")]
struct WhoArgs {
    /// The email address.
    #[arg(long)]
    email: Option<String>,
    /// A file with the output of `/cdn-cgi/access/get-identity`; `-` for standard input.
    #[arg(long, value_name = "FILE", conflicts_with = "email")]
    identity: Option<PathBuf>,
    /// The id of the identity provider.
    #[arg(long)]
    idp: Option<String>,
    /// A group; repeatable.
    #[arg(long = "group", value_name = "NAME")]
    groups: Vec<String>,
    /// The user is in no group.
    #[arg(long, conflicts_with = "groups")]
    no_groups: bool,
    /// A claim or attribute; repeatable. With it, all other claims are absent.
    #[arg(long = "claim", value_name = "NAME=VALUE", value_parser = claim)]
    claims: Vec<(String, String)>,
    /// An authentication method, such as `mfa`; repeatable.
    #[arg(long, value_name = "METHOD")]
    amr: Vec<String>,
    /// The answer of the service at this URL at login (`external_evaluation`); repeatable.
    #[arg(long = "evaluation", value_name = "URL=true|false", value_parser = evaluation)]
    evaluations: Vec<(String, bool)>,
}

#[derive(Args)]
#[command(next_help_heading = "Request")]
struct RequestArgs {
    /// The method [default: GET].
    #[arg(long)]
    method: Option<String>,
    /// The client's IP address.
    #[arg(long)]
    ip: Option<IpAddr>,
    /// The country [default: that of the IP address].
    #[arg(long)]
    country: Option<String>,
    /// The time, such as `2026-05-04T08:30:00Z` [default: now].
    #[arg(long)]
    at: Option<jiff::Timestamp>,
    /// The id of the service token in the request.
    #[arg(long, value_name = "ID")]
    service_token: Option<String>,
    /// The common name of the client certificate.
    #[arg(long, value_name = "NAME")]
    certificate: Option<String>,
    /// The id of the application that issued the token in the request.
    #[arg(long, value_name = "ID")]
    linked_app: Option<String>,
}

/// What `test` takes.
#[derive(Args)]
pub(crate) struct Test {
    /// Test files.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// The configuration file, instead of the one named in the test file.
    #[arg(short, long)]
    config: Option<PathBuf>,
    /// Also write a JUnit XML report to FILE.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
}

/// What `diff` takes.
#[derive(Args)]
pub(crate) struct Compare {
    /// The old configuration file.
    old: PathBuf,
    /// The new configuration file.
    new: PathBuf,
    /// Replay the requests of this JSON audit log [default: try all users that the configurations
    /// distinguish].
    #[arg(long, value_name = "FILE")]
    audit: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Explains one decision.
pub(crate) fn explain(command: Explain) -> ExitCode {
    match explained(command) {
        Ok(text) => {
            anstream::print!("{text}");
            ExitCode::SUCCESS
        }
        Err(message) => failed(&message),
    }
}

fn explained(command: Explain) -> Result<String, String> {
    let Explain {
        what,
        config,
        json,
        who,
        request,
    } = command;
    let world = load(&config)?;
    let identity = who.identity(&world)?;
    let answer = world.ask(identity.as_ref(), &request.asked(what)?, UnixTime::now())?;
    let view = View::new(&world, &answer);
    if json {
        serde_json::to_string_pretty(&view)
            .map(|json| json + "\n")
            .map_err(|e| e.to_string())
    } else {
        Ok(view.to_string())
    }
}

/// Makes policy tests.
pub(crate) fn test(command: Test) -> ExitCode {
    match tested(command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => failed(&message),
    }
}

/// Whether all of them passed.
fn tested(command: Test) -> Result<bool, String> {
    let Test {
        files,
        config,
        junit,
    } = command;
    let suites = files
        .iter()
        .map(|file| Suite::read(file))
        .collect::<Result<Vec<_>, _>>()?;
    let mut worlds: BTreeMap<PathBuf, (World, HashSet<(String, String)>)> = BTreeMap::new();
    let of = |suite: &Suite| {
        config
            .clone()
            .or_else(|| suite.config())
            .unwrap_or_else(|| "portcullis.toml".into())
    };
    for file in suites.iter().map(of) {
        if !worlds.contains_key(&file) {
            worlds.insert(file.clone(), (load(&file)?, HashSet::new()));
        }
    }
    let now = UnixTime::now();
    let (mut ended, mut passed, mut failed) = (Vec::new(), 0, 0);
    for suite in &suites {
        let Some((world, decided)) = worlds.get_mut(&of(suite)) else {
            continue;
        };
        anstream::println!("{}", suite.file().display());
        let results = suite.run(world, now, decided);
        for result in &results {
            if result.failure.is_none() {
                passed += 1
            } else {
                failed += 1
            }
            anstream::println!(
                "{}",
                review::Line {
                    suite,
                    world,
                    result
                }
            );
        }
        ended.push((suite, results));
    }
    for (world, decided) in worlds.values() {
        for (application, policy) in review::untested(world, decided) {
            anstream::println!(
                "note: no test of `{application}` is decided by the policy `{policy}`"
            );
        }
    }
    if let Some(file) = junit {
        let world = |suite: &Suite| worlds.get(&of(suite)).map(|(world, _)| world);
        let report = ended
            .into_iter()
            .filter_map(|(suite, ended)| Some((suite, world(suite)?, ended)));
        let report = review::junit(&report.collect::<Vec<_>>())?;
        std::fs::write(&file, report)
            .map_err(|e| format!("`{}` cannot be written: {e}", file.display()))?;
    }
    anstream::println!("{passed} passed, {failed} failed");
    Ok(failed == 0)
}

/// Says what changes from one configuration to another: 0 where nothing does, 1 where something
/// does.
pub(crate) fn diff(command: Compare) -> ExitCode {
    let Compare {
        old,
        new,
        audit,
        json,
    } = command;
    let diff =
        load(&old)
            .and_then(|old| Ok((old, load(&new)?)))
            .and_then(|(old, new)| match audit {
                Some(log) => Diff::of_log(&old, &new, &log, UnixTime::now()),
                None => Diff::of_names(&old, &new, UnixTime::now()),
            });
    let told = diff.and_then(|diff| {
        let json = json
            .then(|| serde_json::to_string_pretty(&diff).map(|json| json + "\n"))
            .transpose();
        json.map(|json| {
            (
                diff.changes.is_empty(),
                json.unwrap_or_else(|| diff.to_string()),
            )
        })
        .map_err(|e| e.to_string())
    });
    match told {
        Ok((same, text)) => {
            anstream::print!("{text}");
            if same {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Err(message) => failed(&message),
    }
}

impl WhoArgs {
    fn identity(self, world: &World) -> Result<Option<Identity>, String> {
        let Self {
            email,
            identity,
            idp,
            groups,
            no_groups,
            claims,
            amr,
            evaluations,
        } = self;
        let mut person = match (&email, &identity) {
            (Some(email), _) => Person {
                email: email.clone(),
                ..Person::default()
            },
            (None, Some(file)) => document(file)?,
            (None, None)
                if idp.is_some()
                    || no_groups
                    || !(groups.is_empty() && claims.is_empty() && amr.is_empty()) =>
            {
                return Err("say who it is, with `--email` or `--identity`".to_owned());
            }
            (None, None) => return Ok(None),
        };
        if no_groups || !groups.is_empty() {
            person.groups = Some(groups);
        }
        if !amr.is_empty() {
            person.amr = Some(amr);
        }
        if !claims.is_empty() {
            let known = person.claims.get_or_insert_with(Map::new);
            for (name, value) in claims {
                let values = known
                    .entry(name)
                    .or_insert_with(|| Value::Array(Vec::new()));
                match values {
                    Value::Array(values) => values.push(value.into()),
                    other => *other = Value::Array(vec![other.take(), value.into()]),
                }
            }
        }
        person.evaluations.extend(evaluations);
        person.idp = idp.or(person.idp);
        person.identity(&world.config).map(Some)
    }
}

impl RequestArgs {
    fn asked(self, url: String) -> Result<Asked, String> {
        let Self {
            method,
            ip,
            country,
            at,
            service_token,
            certificate,
            linked_app,
        } = self;
        Ok(Asked {
            url,
            method: method.map(Verb::try_from).transpose()?,
            ip,
            country: country.map(Country::try_from).transpose()?,
            at: at.map(Moment),
            service_token,
            certificate,
            linked_app,
        })
    }
}

fn document(file: &Path) -> Result<Person, String> {
    let text = if file == Path::new("-") {
        std::io::read_to_string(std::io::stdin())
    } else {
        std::fs::read_to_string(file)
    };
    let text = text.map_err(|e| format!("`{}` cannot be read: {e}", file.display()))?;
    let document = serde_json::from_str(&text)
        .map_err(|e| format!("`{}` is not JSON: {e}", file.display()))?;
    Person::from_identity(&document).map_err(|e| format!("`{}`: {e}", file.display()))
}

fn claim(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write it as `name=value`")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn evaluation(text: &str) -> Result<(String, bool), String> {
    let (url, answer) = text
        .rsplit_once('=')
        .ok_or("write it as `https://…=true`")?;
    Ok((
        url.to_owned(),
        answer
            .parse()
            .map_err(|_| "the answer is `true` or `false`")?,
    ))
}

fn load(file: &Path) -> Result<World, String> {
    let world = World::load(file).map_err(|errors: Errors| errors.to_string())?;
    warn(&world.notes);
    Ok(world)
}

fn warn(warnings: &[impl ToString]) {
    warnings
        .iter()
        .for_each(|warning| say(Level::Warning, &warning.to_string()));
}

fn failed(message: &str) -> ExitCode {
    say(Level::Error, message);
    ExitCode::from(2)
}
