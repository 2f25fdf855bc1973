//! `portcullis explain`.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use portcullis::model::{Identity, UnixTime};
use portcullis::policy::{Country, Verb};
use portcullis::review::{Asked, Moment, Person, View, World};
use serde_json::{Map, Value};

use super::{failed, load};

#[derive(Args)]
pub(crate) struct Explain {
    /// The URL of a page, or the id or name of an application.
    #[arg(value_name = "URL|APPLICATION")]
    target: String,
    /// The configuration file.
    #[arg(short, long, value_name = "FILE", default_value = "portcullis.toml")]
    config: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    user: UserArgs,
    #[command(flatten)]
    request: RequestArgs,
}

#[derive(Args)]
#[command(next_help_heading = "User (unspecified facts are unknown)")]
struct UserArgs {
    /// The email address.
    #[arg(long)]
    email: Option<String>,
    /// A file with the response of `/cdn-cgi/access/get-identity`; `-` for standard input.
    #[arg(long, value_name = "FILE", conflicts_with = "email")]
    identity: Option<PathBuf>,
    /// The id of the identity provider.
    #[arg(long)]
    idp: Option<String>,
    /// A group name; repeatable.
    #[arg(long = "group", value_name = "NAME")]
    groups: Vec<String>,
    /// The user has no groups.
    #[arg(long, conflicts_with = "groups")]
    no_groups: bool,
    /// A claim or attribute; repeatable. If given, all other claims are absent.
    #[arg(long = "claim", value_name = "NAME=VALUE", value_parser = claim)]
    claims: Vec<(String, String)>,
    /// An authentication method, such as `mfa`; repeatable.
    #[arg(long, value_name = "METHOD")]
    amr: Vec<String>,
    /// The result of the `external_evaluation` service at this URL; repeatable.
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
    /// The country [default: from the IP address].
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

/// Exits with 0, or with 2 if there is no decision to explain.
pub(crate) fn run(command: Explain) -> ExitCode {
    match explain(command) {
        Ok(text) => {
            anstream::print!("{text}");
            ExitCode::SUCCESS
        }
        Err(message) => failed(&message),
    }
}

fn explain(command: Explain) -> Result<String, String> {
    let Explain {
        target,
        config,
        json,
        user,
        request,
    } = command;
    let world = load(&config)?;
    let identity = user.identity(&world)?;
    let answer = world.ask(identity.as_ref(), &request.asked(target)?, UnixTime::now())?;
    let view = View::new(&world, &answer);
    if json {
        serde_json::to_string_pretty(&view)
            .map(|json| json + "\n")
            .map_err(|e| e.to_string())
    } else {
        Ok(view.to_string())
    }
}

impl UserArgs {
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
                return Err("specify the user with `--email` or `--identity`".to_owned());
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
    let text = text.map_err(|e| format!("cannot read `{}`: {e}", file.display()))?;
    let document = serde_json::from_str(&text)
        .map_err(|e| format!("`{}` is not JSON: {e}", file.display()))?;
    Person::from_identity(&document).map_err(|e| format!("`{}`: {e}", file.display()))
}

fn claim(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected `name=value`")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn evaluation(text: &str) -> Result<(String, bool), String> {
    let (url, answer) = text
        .rsplit_once('=')
        .ok_or("expected `https://…=true` or `https://…=false`")?;
    Ok((
        url.to_owned(),
        answer
            .parse()
            .map_err(|_| "the result must be `true` or `false`")?,
    ))
}
