use std::collections::BTreeSet;

use super::errors::instead;
use super::node::{Node, Value};
use super::reader::{Item, Place, Reader, Table};
use super::rules::Names;
use super::team::TokenIssuer;
use super::unique::Unique;
use super::values;
use crate::catalog::{Domain, Kind};
use crate::model::{ClientId, SecretDigest, ServiceToken, UnixTime};
use crate::policy::{Policy, PolicyDecision, Rule};

/// Reads `[[service_tokens]]`.
pub(super) fn read_all(table: &mut Table<'_>, issuer: TokenIssuer) -> Vec<ServiceToken> {
    if let (TokenIssuer::Remote, Some(item)) = (issuer, table.item("service_tokens")) {
        item.error(
            "origins identify a service client by a token of the team, and with `certs_url` none can be signed here; remove \
             this, and let service clients use a node of the team itself",
        );
    }
    let mut seen = Seen {
        ids: Unique::new("service token has the id"),
        names: Unique::new("service token has the name"),
        clients: Unique::new("service token has the client id"),
    };
    let list = table.list("service_tokens");
    list.iter()
        .filter_map(|item| {
            let token = item.table(|table| read(table, &mut seen)).flatten()?;
            item.record(Kind::ServiceToken, &token.id);
            Some(token)
        })
        .collect()
}

struct Seen {
    ids: Unique,
    names: Unique,
    clients: Unique,
}

fn read(table: &mut Table<'_>, seen: &mut Seen) -> Option<ServiceToken> {
    table.ignore_read_only();
    table.foreign(&[
        (
            "client_secret",
            "only the client keeps the secret; write its SHA-256 as `client_secret_sha256`",
        ),
        (
            "duration",
            "write the end as a time, such as `expires_at = \"2027-01-01T00:00:00Z\"`",
        ),
    ]);
    let id = table
        .needed("id", "\"ci\"")
        .and_then(|item| item.claim(values::id, &mut seen.ids));
    let name = table
        .item("name")
        .map(|item| item.claim(values::label, &mut seen.names));
    let client_id = table.needed("client_id", "\"<32 hexadecimal digits>.access\"").and_then(|item| {
        let read = |text: &str| {
            ClientId::parse(text).map_err(|_| {
                format!("`{text}` is not a client id; it has 32 digits of `0`-`9` and `a`-`f`, and then `.access`")
            })
        };
        let client_id = item.parse(read)?;
        seen.clients.claim(item.reader(), client_id.as_str(), item.place());
        Some(client_id)
    });
    let secrets = secrets(table);
    let expires_at = table.item("expires_at").map(|item| moment(&item));
    let enabled = table.flag("enabled", true);
    let expires_at = match expires_at {
        Some(read) => Some(read?),
        None => None,
    };
    let id = id?;
    let name = name.unwrap_or_else(|| Some(id.clone()))?;
    Some(ServiceToken {
        id: id.into(),
        name: name.into(),
        client_id: client_id?,
        secrets: secrets?,
        expires_at,
        enabled,
    })
}

/// Reads the digests: one, or two during a rotation.
fn secrets(table: &mut Table<'_>) -> Option<Vec<SecretDigest>> {
    let item = table.needed("client_secret_sha256", "\"<64 hexadecimal digits>\"")?;
    let list = if item.node().as_list().is_some() {
        item.list()?
    } else {
        vec![item.clone()]
    };
    if !(1..=2).contains(&list.len()) {
        let found = list.len();
        item.error(&format!(
            "these are {found}; write one, or two during a rotation"
        ));
        return None;
    }
    let digests: Vec<_> = list.iter().map(|item| item.parse(digest)).collect();
    digests.into_iter().collect()
}

/// Parses a digest. No message shows the text: it may be the secret itself.
fn digest(text: &str) -> Result<SecretDigest, &'static str> {
    match SecretDigest::parse(text) {
        Ok(digest) if digest == SecretDigest::sha256(b"") => {
            Err("this is the SHA-256 of an empty secret: the client id alone would be enough")
        }
        Ok(digest) => Ok(digest),
        Err(_) => Err(
            "this is not a SHA-256, which has 64 hexadecimal digits; `portcullis service-token \
             new` makes a pair",
        ),
    }
}

/// Reads a time with its offset (RFC 3339), as text or as a TOML date.
fn moment(item: &Item<'_>) -> Option<UnixTime> {
    let text = match item.node().value() {
        Value::Date(moment) => moment.clone(),
        _ => item.text()?.to_owned(),
    };
    let read = text
        .parse::<jiff::Timestamp>()
        .ok()
        .and_then(|at| u64::try_from(at.as_second()).ok());
    if read.is_none() {
        item.error(&format!(
            "`{text}` is not a time like `2027-01-01T00:00:00Z` (RFC 3339, with its offset)"
        ));
    }
    read.map(UnixTime)
}

/// Returns the ids of the applications, also those derived from a domain, however much else is
/// wrong with them.
pub(super) fn application_ids(table: &Table<'_>) -> BTreeSet<String> {
    let id = |item: &Node| {
        let text = |key| item.get(key)?.as_str();
        text("id")
            .map(str::to_owned)
            .or_else(|| Some(Domain::parse(text("domain")?).ok()?.canonical()))
    };
    table
        .nodes("applications")
        .into_iter()
        .filter_map(id)
        .collect()
}

/// Returns a message if no service token has the id.
pub(super) fn unknown_token(id: &str, names: &Names<'_>) -> Option<String> {
    let instead = || instead(id, names.service_tokens.iter().copied());
    (!names.service_tokens.contains(id))
        .then(|| format!("no service token has the id `{id}`{}", instead()))
}

/// Returns a message if no application has the id.
pub(super) fn unknown_application(id: &str, names: &Names<'_>) -> Option<String> {
    let instead = || instead(id, names.applications.iter().map(String::as_str));
    (!names.applications.contains(id))
        .then(|| format!("no application has the id `{id}`{}", instead()))
}

/// Reports rules about service clients that have no effect in this policy.
pub(super) fn report_misplaced(
    reader: &Reader<'_>,
    policy: &Policy,
    place: &Place,
    issuer: TokenIssuer,
) {
    let rules = policy
        .include
        .iter()
        .chain(&policy.require)
        .chain(&policy.exclude);
    let is_service_auth = policy.decision == PolicyDecision::NonIdentity;
    let needs_login = matches!(
        policy.decision,
        PolicyDecision::Allow | PolicyDecision::Deny
    );
    for rule in rules {
        let selector = rule.selector();
        match rule {
            Rule::LinkedAppToken { .. } if !is_service_auth => {
                reader.error(
                    place,
                    &format!(
                        "`{selector}` is for service clients; the decision must be `non_identity`"
                    ),
                );
            }
            Rule::ServiceToken { .. } | Rule::AnyValidServiceToken {} if needs_login => {
                let message = format!(
                    "only `non_identity` and `bypass` policies are evaluated for a service token, so \
                     `{selector}` never matches here"
                );
                reader.warn(place, &message);
            }
            Rule::Certificate {} | Rule::CommonName { .. }
                if is_service_auth && issuer == TokenIssuer::Remote =>
            {
                let message = format!(
                    "origins identify a service client by a token of the team, and with `certs_url` none can be signed \
                     here; use `{selector}` in an `allow` policy, or let service clients use a node of the team itself"
                );
                reader.error(place, &message);
            }
            _ => {}
        }
    }
}
