use super::ask::{Answer, World};
use crate::model::{Groups, Identity};
use crate::policy::{About, Rule, evaluation_key, is_comparable};

/// Returns the facts that a rule was compared with, for display.
pub(super) fn compared(rule: &Rule, world: &World, answer: &Answer) -> String {
    let [service_token, certificate, linked_app] = &answer.presented;
    match (rule, &answer.identity) {
        (Rule::Everyone {}, _) => "every user".to_owned(),
        (Rule::Group { .. }, _) => "see below".to_owned(),
        (Rule::Ip { .. } | Rule::IpList { .. }, _) => answer.ip.map_or_else(
            || "the IP address is unknown".to_owned(),
            |ip| ip.to_string(),
        ),
        (Rule::Geo { .. }, _) => match (answer.country, answer.ip) {
            (Some(country), _) => country.to_string(),
            (None, Some(ip)) if world.snapshot.countries().is_some() => {
                format!("{ip} is not in the database")
            }
            (None, Some(_)) => "no country database is configured".to_owned(),
            (None, None) => "the country is unknown".to_owned(),
        },
        (Rule::PortcullisMethod { .. }, _) => answer.method.to_string(),
        (Rule::PortcullisTime(window), _) => window
            .local(answer.at)
            .unwrap_or_else(|| "the time is unknown".to_owned()),
        (Rule::Certificate {} | Rule::CommonName { .. }, _) => {
            presented(certificate.as_deref(), "client certificate")
        }
        (Rule::ServiceToken { .. } | Rule::AnyValidServiceToken {}, _) => {
            presented(service_token.as_deref(), "service token")
        }
        (Rule::LinkedAppToken { .. }, _) => {
            presented(linked_app.as_deref(), "token of another application")
        }
        (rule, _) if rule.about() == About::Elsewhere => "not supported by Portcullis".to_owned(),
        (_, None) => "not signed in".to_owned(),
        (rule, Some(identity)) => with_person(rule, identity),
    }
}

fn with_person(rule: &Rule, identity: &Identity) -> String {
    let Identity {
        email,
        idp,
        groups,
        claims,
        amr,
        evaluations,
        ..
    } = identity;
    let of = match rule {
        Rule::Okta {
            identity_provider_id,
            ..
        }
        | Rule::Oidc {
            identity_provider_id,
            ..
        }
        | Rule::Saml {
            identity_provider_id,
            ..
        } => Some(identity_provider_id),
        _ => None,
    };
    if of.is_some_and(|of| *of != idp.id) {
        return format!("came through `{}`", idp.id.0);
    }
    match rule {
        Rule::LoginMethod { .. } => idp.id.0.to_string(),
        Rule::Okta { .. } => match groups {
            Groups::Unknown => "the groups are unknown".to_owned(),
            Groups::Known(groups) => some(
                groups.iter().map(|group| group.name.as_str()),
                "in no group",
            ),
        },
        Rule::Oidc {
            claim_name: name, ..
        }
        | Rule::Saml {
            attribute_name: name,
            ..
        } => match claims.get(name) {
            None => format!("`{name}` is unknown"),
            Some(serde_json::Value::Null) => format!("`{name}` is absent"),
            Some(value) if !is_comparable(value) => {
                format!("`{name}` cannot be compared: {}", short(&value.to_string()))
            }
            Some(value) => short(&value.to_string()),
        },
        Rule::AuthMethod { .. } => match amr {
            None => "the methods are unknown".to_owned(),
            Some(methods) => some(methods.iter().map(String::as_str), "no method"),
        },
        Rule::ExternalEvaluation {
            evaluate_url,
            keys_url,
        } => match evaluations.get(&evaluation_key(evaluate_url, keys_url)) {
            None => "the result is unknown".to_owned(),
            Some(answer) => format!("answered {answer}"),
        },
        _ => email.as_str().to_owned(),
    }
}

fn presented(id: Option<&str>, what: &str) -> String {
    id.map_or_else(|| format!("no {what}"), str::to_owned)
}

/// The first few, and how many more there are.
fn some<'a>(names: impl ExactSizeIterator<Item = &'a str>, none: &str) -> String {
    // A report of hundreds of groups would hide the rule that it explains.
    const FEW: usize = 8;
    let (all, names) = (names.len(), names.take(FEW).map(short).collect::<Vec<_>>());
    match all.saturating_sub(names.len()) {
        0 if names.is_empty() => none.to_owned(),
        0 => names.join(", "),
        more => format!("{} and {more} more", names.join(", ")),
    }
}

/// Shortens a text to one line of readable length.
fn short(text: &str) -> String {
    // About one line of a terminal.
    const MOST: usize = 80;
    let mut line: String = text
        .chars()
        .take(MOST)
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect();
    if text.chars().count() > MOST {
        line.push('…');
    }
    line
}
