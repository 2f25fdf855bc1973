use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use serde_json::{Map, Value};

use super::ask::Asked;
use super::people::Person;
use super::text::brief;
use crate::config::Config;
use crate::model::UnixTime;
use crate::policy::{About, AccessGroup, IpRange, List, ListItems, Policy, Rule, Verb};

/// Somebody, or some request, that a configuration names: what makes chosen rules of it true, and nothing else.
#[derive(Clone, Debug)]
pub(super) struct Witness {
    /// The rules that hold, in words; none for anybody at all.
    pub(super) rules: BTreeSet<String>,
    /// Who they are, if they log in.
    pub(super) person: Person,
    /// What they ask for; the URL is to be filled in.
    pub(super) asked: Asked,
    /// Whether anything of it is about the request, so that it makes a difference to those who have not logged in.
    pub(super) is_request: bool,
}

/// More alternatives than this of one policy are not tried, and more witnesses than this of one application.
const MOST_ALTERNATIVES: usize = 2_000;
const MOST_WITNESSES: usize = 20_000;
/// Deeper than anybody nests groups.
const DEEPEST: usize = 32;

/// The witnesses of an application's policies, without those who make no rule true; and whether that is all of them.
pub(super) fn witnesses(config: &Config, policies: &[Policy], now: UnixTime) -> (Vec<Witness>, bool) {
    let names = Names {
        groups: config.groups.iter().map(|group| (group.id.as_str(), group)).collect(),
        lists: config.lists.iter().map(|list| (list.id.as_str(), list)).collect(),
    };
    let mut chosen: Vec<Vec<Leaf>> = Vec::new();
    let policies: Vec<_> = policies.iter().map(|policy| names.policy(policy)).collect();
    for (at, ways) in policies.iter().enumerate() {
        for way in &ways.in_ {
            chosen.push(way.clone());
            chosen.extend(ways.out.iter().map(|out| [way.as_slice(), out].concat()));
            // Two policies may meet in one person.
            let others = policies.iter().enumerate().filter(|(other, _)| *other != at);
            chosen.extend(others.filter_map(|(_, other)| Some([way.as_slice(), other.in_.first()?].concat())));
            if chosen.len() > MOST_WITNESSES {
                break;
            }
        }
        // Those whom one requirement keeps out.
        if let Some(way) = ways.in_.first() {
            chosen.extend((0..way.len()).map(|left_out| {
                way.iter().enumerate().filter(|(at, _)| *at != left_out).map(|(_, leaf)| leaf.clone()).collect()
            }));
        }
    }
    let is_all = chosen.len() <= MOST_WITNESSES && policies.iter().all(|ways| ways.in_.len() < MOST_ALTERNATIVES);
    chosen.truncate(MOST_WITNESSES);
    let witnesses = chosen.iter().map(|leaves| witness(leaves, now)).filter(|witness| !witness.rules.is_empty());
    (witnesses.collect(), is_all)
}

/// A rule about one thing, with the item that was chosen where it names a list.
type Leaf = Rule;

/// How a policy or a group can be made to apply: each way a list of rules that must all hold. And what keeps one out.
struct Ways {
    in_: Vec<Vec<Leaf>>,
    out: Vec<Vec<Leaf>>,
}

struct Names<'a> {
    groups: HashMap<&'a str, &'a AccessGroup>,
    lists: HashMap<&'a str, &'a List>,
}

impl Names<'_> {
    fn policy(&self, policy: &Policy) -> Ways {
        self.clauses(&policy.include, &policy.require, &policy.exclude, DEEPEST)
    }

    fn clauses(&self, include: &[Rule], require: &[Rule], exclude: &[Rule], depth: usize) -> Ways {
        let required: Vec<Leaf> =
            require.iter().filter_map(|rule| self.ways(rule, depth).into_iter().next()).flatten().collect();
        let mut in_ = Vec::new();
        for rule in include {
            for way in self.ways(rule, depth) {
                in_.push([way.as_slice(), &required].concat());
            }
            if in_.len() >= MOST_ALTERNATIVES {
                in_.truncate(MOST_ALTERNATIVES);
                break;
            }
        }
        let out = exclude.iter().flat_map(|rule| self.ways(rule, depth)).take(MOST_ALTERNATIVES).collect();
        Ways { in_, out }
    }

    /// The ways in which one rule holds.
    fn ways(&self, rule: &Rule, depth: usize) -> Vec<Vec<Leaf>> {
        match rule {
            Rule::Everyone {} => vec![Vec::new()],
            Rule::Group { id } => match (self.groups.get(id.as_str()), depth.checked_sub(1)) {
                (Some(group), Some(depth)) => self.clauses(&group.include, &group.require, &group.exclude, depth).in_,
                _ => Vec::new(),
            },
            Rule::EmailList { id } | Rule::IpList { id } => match self.lists.get(id.as_str()).map(|list| &list.items) {
                Some(ListItems::Email(emails)) => {
                    emails.iter().map(|email| vec![Rule::Email { email: email.clone() }]).collect()
                }
                Some(ListItems::Ip(ranges)) => ranges.iter().flat_map(|ip| ends(ip.net())).collect(),
                None => Vec::new(),
            },
            Rule::Ip { ip } => ends(ip.net()),
            Rule::PortcullisMethod { methods } => {
                let one = |verb: &Verb| vec![Rule::PortcullisMethod { methods: vec![verb.clone()] }];
                methods.iter().map(one).collect()
            }
            rule => vec![vec![rule.clone()]],
        }
    }
}

/// What makes all of these rules true, if anything does.
fn witness(leaves: &[Leaf], now: UnixTime) -> Witness {
    let mut person = stranger();
    let (mut asked, mut is_request) = (Asked { ip: Some(NOWHERE), ..Asked::default() }, false);
    let rules = leaves.iter().map(brief).collect();
    for rule in leaves {
        is_request |= rule.about() == About::Request;
        match rule {
            Rule::Email { email } => person.email.clone_from(email),
            Rule::EmailDomain { domain } => person.email = format!("anyone@{domain}"),
            Rule::Okta { name, identity_provider_id: idp } => {
                person.idp = Some(idp.0.to_string());
                person.groups.get_or_insert_default().push(name.clone());
            }
            Rule::Oidc { claim_name: name, claim_value: value, identity_provider_id: idp }
            | Rule::Saml { attribute_name: name, attribute_value: value, identity_provider_id: idp } => {
                person.idp = Some(idp.0.to_string());
                let values =
                    person.claims.get_or_insert_default().entry(name).or_insert_with(|| Value::Array(Vec::new()));
                values.as_array_mut().into_iter().for_each(|values| values.push(value.as_str().into()));
            }
            Rule::LoginMethod { id } => person.idp = Some(id.0.to_string()),
            Rule::AuthMethod { auth_method } => person.amr.get_or_insert_default().push(auth_method.clone()),
            Rule::ExternalEvaluation { evaluate_url, .. } => {
                person.evaluations.insert(evaluate_url.clone(), true);
            }
            Rule::Ip { ip } => asked.ip = Some(ip.net().addr()),
            Rule::Geo { country_code } => asked.country = Some(*country_code),
            Rule::PortcullisMethod { methods } => asked.method = methods.first().cloned(),
            Rule::PortcullisTime(window) => {
                // A week has every hour of every day.
                let moments = (0..7 * 96).map(|quarter| UnixTime(now.0 + quarter * 900));
                let within = moments.into_iter().find(|moment| window.holds(*moment) == Some(true));
                let at = within.and_then(|moment| jiff::Timestamp::from_second(i64::try_from(moment.0).ok()?).ok());
                asked.at = at.or(asked.at);
            }
            Rule::Certificate {} => asked.certificate = Some("client.example".to_owned()),
            Rule::CommonName { common_name } => asked.certificate = Some(common_name.clone()),
            Rule::ServiceToken { token_id } => asked.service_token = Some(token_id.clone()),
            Rule::AnyValidServiceToken {} => asked.service_token = Some("any".to_owned()),
            Rule::LinkedAppToken { app_uid } => asked.linked_app = Some(app_uid.clone()),
            _ => {}
        }
    }
    Witness { rules, person, asked, is_request }
}

/// Somebody of whom everything is known and nothing special.
pub(super) fn stranger() -> Person {
    Person {
        email: "somebody@elsewhere.invalid".to_owned(),
        groups: Some(Vec::new()),
        amr: Some(Vec::new()),
        claims: Some(Map::new()),
        ..Person::default()
    }
}

/// An address for documentation (RFC 5737), which no network has.
pub(super) const NOWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 254));

/// The first and the last address of a network: another network differs in one of them.
fn ends(net: IpNet) -> Vec<Vec<Leaf>> {
    let range = |ip: IpAddr| IpRange::try_from(ip.to_string()).ok().map(|ip| vec![Rule::Ip { ip }]);
    let mut ends: Vec<_> = [net.network(), net.broadcast()].into_iter().filter_map(range).collect();
    ends.dedup();
    ends
}
