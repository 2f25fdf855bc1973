//! A plain implementation of the policy language of `docs/policies.md`, without compilation or
//! caches. `None` is unknown.

use std::net::IpAddr;

use http::Method;
use serde_json::Value;

use crate::model::{Email, Groups, Host, Identity, UnixTime};
use crate::policy::values::TimeWindowText;
use crate::policy::{AccessGroup, Country, Fact, List, ListItems, Policy, PolicyDecision, Rule};

/// All facts of the reference evaluation.
pub(super) struct World<'a> {
    pub(super) lists: &'a [List],
    pub(super) groups: &'a [AccessGroup],
}

/// A user and a request.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    /// The user; `None` before any login.
    pub(super) person: Option<(Email, Option<Identity>)>,
    pub(super) ip: Option<IpAddr>,
    pub(super) method: Method,
    pub(super) now: UnixTime,
    pub(super) country: Option<Country>,
    pub(super) service_token: Fact<&'static str>,
    pub(super) certificate: Fact<&'static str>,
    pub(super) linked_app: Fact<&'static str>,
}

/// The decision, the policy that made it, `true` if an unknown fact prevented another one, and
/// the shadow verdict.
pub(super) type Answer = (
    PolicyDecision,
    Option<usize>,
    bool,
    Option<(usize, PolicyDecision)>,
);

impl World<'_> {
    /// Evaluates every bypass and Service Auth policy from top to bottom, then every allow and
    /// deny; else deny.
    pub(super) fn answer(&self, policies: &[Policy], asked: &Asked) -> Answer {
        // Not by `in_order`, which is under test.
        let early = |policy: &Policy| {
            matches!(
                policy.decision,
                PolicyDecision::Bypass | PolicyDecision::ServiceAuth
            )
        };
        let nobody = Asked {
            person: None,
            ..asked.clone()
        };
        let (mut unknown, mut shadow) = (false, None);
        for first in [true, false] {
            for (place, policy) in policies
                .iter()
                .enumerate()
                .filter(|(_, policy)| early(policy) == first)
            {
                let holds = self.clauses(
                    [&policy.include, &policy.require, &policy.exclude],
                    if first { &nobody } else { asked },
                );
                let decision = policy.decision;
                match (decision, holds) {
                    (_, Some(true)) | (PolicyDecision::Deny, None) => {}
                    (PolicyDecision::Allow, None) => {
                        unknown |= !policy.shadow;
                        continue;
                    }
                    _ => continue,
                }
                if policy.shadow {
                    shadow = shadow.or(Some((place, decision)));
                } else {
                    let unknown = decision == PolicyDecision::Deny && (unknown || holds.is_none());
                    return (decision, Some(place), unknown, shadow);
                }
            }
        }
        (PolicyDecision::Deny, None, unknown, shadow)
    }

    fn clauses(&self, [include, require, exclude]: [&Vec<Rule>; 3], asked: &Asked) -> Option<bool> {
        let truths = |rules: &Vec<Rule>| {
            rules
                .iter()
                .map(|rule| self.rule(rule, asked))
                .collect::<Vec<_>>()
        };
        and(&[
            any(&truths(include)),
            and(&truths(require)),
            any(&truths(exclude)).map(|found| !found),
        ])
    }

    fn rule(&self, rule: &Rule, asked: &Asked) -> Option<bool> {
        let email = asked.person.as_ref().map(|(email, _)| email);
        let identity = asked
            .person
            .as_ref()
            .and_then(|(_, identity)| identity.as_ref());
        match rule {
            Rule::Everyone {} => Some(true),
            Rule::Email { email: wanted } => Some(Email::parse(wanted).as_ref() == Ok(email?)),
            Rule::EmailDomain { domain } => Some(
                Host::parse(domain).is_ok_and(|d| Some(d.as_str()) == email.map(Email::domain)),
            )
            .filter(|_| email.is_some()),
            Rule::EmailList { id } => {
                let list = self.lists.iter().find(|list| list.id == *id)?;
                let ListItems::Email(emails) = &list.items else {
                    return None;
                };
                let email = email?;
                Some(
                    emails
                        .iter()
                        .any(|listed| Email::parse(&listed.value).as_ref() == Ok(email)),
                )
            }
            Rule::Ip { ip } => Some(ip.net().contains(&asked.ip?)),
            Rule::IpList { id } => {
                let list = self.lists.iter().find(|list| list.id == *id)?;
                let ListItems::Ip(ranges) = &list.items else {
                    return None;
                };
                let ip = asked.ip?;
                Some(ranges.iter().any(|range| range.value.net().contains(&ip)))
            }
            Rule::Geo { country_code } => Some(asked.country? == *country_code),
            Rule::Group { id } => {
                let group = self.groups.iter().find(|group| group.id == *id)?;
                self.clauses([&group.include, &group.require, &group.exclude], asked)
            }
            Rule::Okta {
                name,
                identity_provider_id,
            } => {
                let identity = identity?;
                if identity.idp.id != *identity_provider_id {
                    return Some(false);
                }
                let Groups::Known(groups) = &identity.groups else {
                    return None;
                };
                Some(groups.iter().any(|group| group.name == *name))
            }
            Rule::Oidc {
                claim_name: name,
                claim_value: value,
                identity_provider_id: idp,
            }
            | Rule::Saml {
                attribute_name: name,
                attribute_value: value,
                identity_provider_id: idp,
            } => {
                let identity = identity?;
                let is = |found: &Value| match found {
                    Value::String(text) => text == value,
                    Value::Bool(flag) => value == if *flag { "true" } else { "false" },
                    Value::Number(number) => *value == *number.to_string(),
                    _ => false,
                };
                if identity.idp.id != *idp {
                    return Some(false);
                }
                let found = identity.claims.get(name)?;
                let is_scalar =
                    |found: &Value| !(found.is_null() || found.is_array() || found.is_object());
                let detail =
                    |found: &Value| found.as_object().is_some_and(|detail| !detail.is_empty());
                let (holds, all) = match found {
                    Value::Null => (false, true),
                    Value::Array(values) => (values.iter().any(is), values.iter().all(is_scalar)),
                    Value::Object(names) => (
                        names.get(value).is_some_and(detail),
                        names.values().all(detail),
                    ),
                    one => (is(one), true),
                };
                if holds || all { Some(holds) } else { None }
            }
            Rule::LoginMethod { id } => Some(identity?.idp.id == *id),
            Rule::AuthMethod { auth_method } => Some(identity?.amr.as_ref()?.contains(auth_method)),
            Rule::ExternalEvaluation {
                evaluate_url,
                keys_url,
            } => identity?
                .evaluations
                .get(&format!("{evaluate_url} {keys_url}"))
                .copied(),
            Rule::Certificate {} => fact(asked.certificate, |_| true),
            Rule::CommonName { common_name } => fact(asked.certificate, |name| name == common_name),
            Rule::AnyValidServiceToken {} => fact(asked.service_token, |_| true),
            Rule::ServiceToken { token_id } => fact(asked.service_token, |id| id == token_id),
            Rule::LinkedAppToken { app_uid } => fact(asked.linked_app, |id| id == app_uid),
            Rule::PortcullisMethod { methods } => {
                Some(methods.iter().any(|verb| verb.0 == asked.method))
            }
            Rule::PortcullisTime(window) => within(&window.clone().into(), asked.now),
            _ => None,
        }
    }
}

fn within(window: &TimeWindowText, now: UnixTime) -> Option<bool> {
    const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
    let local = jiff::tz::TimeZone::get(&window.time_zone).ok()?;
    let local = local.to_datetime(jiff::Timestamp::from_second(now.0.try_into().ok()?).ok()?);
    let clock = local.strftime("%H:%M").to_string();
    let today = usize::try_from(local.weekday().to_sunday_zero_offset()).ok()?;
    let begins = |day: usize| {
        window.days.is_empty() || window.days.iter().any(|named| *named == DAYS[day % 7])
    };
    let (from, to) = (window.from <= clock, clock < window.to);
    Some(if window.from < window.to {
        begins(today) && from && to
    } else {
        begins(today) && from || begins(today + 6) && to
    })
}

fn fact(fact: Fact<&str>, holds: impl Fn(&str) -> bool) -> Option<bool> {
    match fact {
        Fact::Unknown => None,
        Fact::Absent => Some(false),
        Fact::Present(fact) => Some(holds(fact)),
    }
}

fn any(truths: &[Option<bool>]) -> Option<bool> {
    if truths.contains(&Some(true)) {
        Some(true)
    } else if truths.contains(&None) {
        None
    } else {
        Some(false)
    }
}

fn and(truths: &[Option<bool>]) -> Option<bool> {
    if truths.contains(&Some(false)) {
        Some(false)
    } else if truths.contains(&None) {
        None
    } else {
        Some(true)
    }
}
