//! The users of the load: a team, its configuration and sessions.

use std::error::Error;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use portcullis::config::{self, Config, System};
use portcullis::control::SigningKeys;
use portcullis::model::{
    Aud, Email, Group, Groups, Identity, IdentityNonce, IdpId, IdpRef, UnixTime, UserId,
};
use portcullis::token::{Claims, Kind};

pub(crate) const HOST: &str = "wiki.bench.localhost";
const GROUPS: usize = 20;

/// One login: the name of its record, and the number of its user.
pub(crate) struct Person {
    pub(crate) nonce: IdentityNonce,
    pub(crate) number: usize,
}

/// The number of the user who is in no group.
pub(crate) const OUTSIDER: usize = usize::MAX;

/// Returns a configuration with one application and one policy, which requires one of the user's
/// twenty groups.
pub(crate) fn config(listen: u16, origin: u16) -> Result<Config, Box<dyn Error>> {
    let text = format!(
        r#"
[team]
domain = "team.bench.localhost"
[insecure]
plain_http = true
inline_secrets = true
memory_store = true
[store]
memory = true
[[listen]]
address = "127.0.0.1:{listen}"
[[identity_providers]]
id = "okta"
name = "Okta"
type = "okta"
[identity_providers.config]
client_id = "bench"
client_secret = "nobody logs in here"
okta_account = "https://okta.bench.localhost"
[[applications]]
name = "Wiki"
domain = "{HOST}"
origin = "http://127.0.0.1:{origin}"
[[applications.policies]]
name = "The eighteenth group"
decision = "allow"
include = [{{ okta = {{ name = "{}", identity_provider_id = "okta" }} }}]
"#,
        group_name(17),
    );
    Ok(config::parse(&text, Path::new("throughput.toml"), &System)?.config)
}

fn group_name(number: usize) -> String {
    format!("Engineering / Team {number:02}")
}

fn email(number: usize) -> String {
    if number == OUTSIDER {
        "outsider@example.com".to_owned()
    } else {
        format!("person.{number:06}@example.com")
    }
}

fn user(number: usize) -> UserId {
    UserId(format!("3f0c9a52-5d1e-4c57-9d3b-{:012x}", number & 0xffff_ffff_ffff).into())
}

/// Returns the record of a login.
pub(crate) fn identity(number: usize) -> Result<Identity, Box<dyn Error>> {
    let group = |number| Group {
        id: format!("00g{number:017}"),
        name: group_name(number),
    };
    Ok(Identity {
        user: user(number),
        subject: format!("00u{number:017}"),
        email: Email::parse(&email(number))?,
        name: Some(format!("Person {number}")),
        idp: IdpRef {
            id: IdpId("okta".into()),
            kind: "okta".to_owned(),
        },
        groups: Groups::Known(if number == OUTSIDER {
            Vec::new()
        } else {
            (0..GROUPS).map(group).collect()
        }),
        groups_seen: None,
        amr: Some(vec!["pwd".to_owned(), "mfa".to_owned()]),
        evaluations: std::collections::BTreeMap::new(),
        linked_logins: Vec::new(),
        session_ends: None,
        claims: serde_json::Map::new(),
        headers: Vec::new(),
        at: UnixTime::now(),
        ip: None,
        revision: 0,
    })
}

/// Returns an application token as `authorized` issues it.
pub(crate) fn token(
    keys: &SigningKeys,
    config: &Config,
    aud: &Aud,
    person: &Person,
) -> Result<String, Box<dyn Error>> {
    let now = UnixTime::now();
    let claims = Claims {
        iss: config.catalog.team.url(),
        aud: vec![aud.as_str().to_owned()],
        exp: now.after(Duration::from_secs(24 * 3600)),
        iat: now,
        nbf: Some(now),
        kind: Kind::App,
        sub: user(person.number).0.into(),
        email: Some(email(person.number)),
        identity_nonce: Some(person.nonce.as_str().to_owned()),
        country: None,
        custom: None,
    };
    Ok(keys.sign(&claims)?)
}

/// Returns a token for each login, in order. A signature takes about a millisecond, so this uses all
/// cores.
pub(crate) fn tokens(
    keys: &SigningKeys,
    config: &Config,
    aud: &Aud,
    people: &[Person],
    progress: impl Fn(usize) + Sync,
) -> Result<Vec<String>, Box<dyn Error>> {
    let threads = std::thread::available_parallelism()?.get();
    let done = AtomicUsize::new(0);
    let sign = |part: &[Person]| {
        let one = |person| {
            let token = token(keys, config, aud, person).map_err(|error| error.to_string());
            progress(done.fetch_add(1, Ordering::Relaxed) + 1);
            token
        };
        part.iter().map(one).collect::<Result<Vec<_>, String>>()
    };
    let parts: Vec<Result<Vec<String>, String>> = std::thread::scope(|scope| {
        let parts = people.chunks(people.len().div_ceil(threads).max(1));
        let running: Vec<_> = parts.map(|part| scope.spawn(|| sign(part))).collect();
        running
            .into_iter()
            .map(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|_| Err("a thread died".to_owned()))
            })
            .collect()
    });
    Ok(parts
        .into_iter()
        .collect::<Result<Vec<_>, String>>()?
        .concat())
}
