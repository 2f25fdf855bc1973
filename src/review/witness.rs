use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;

use ipnet::IpNet;
use serde_json::{Map, Value};

use super::ask::{Asked, Moment};
use super::people::Person;
use super::text::brief;
use crate::config::Config;
use crate::model::UnixTime;
use crate::policy::{About, AccessGroup, Country, IpRange, List, ListItems, Policy, Rule, Verb};

/// A user or request that makes chosen rules of a configuration true, and no others.
#[derive(Clone, Debug)]
pub(super) struct Witness {
    /// The rules that it satisfies, in words; empty for an arbitrary user.
    pub(super) rules: BTreeSet<String>,
    /// The user, if there is a login.
    pub(super) person: Person,
    /// The request; the caller fills in the URL.
    pub(super) asked: Asked,
    /// `true` if a rule depends on the request, so that it matters without a session, too.
    pub(super) is_request: bool,
}

/// The bounds: ways into one policy or group, rules, witnesses.
const MOST_WAYS: usize = 64;
// The bounds keep the time and memory of a review finite. The report states that it is incomplete
// if one is reached.
const MOST_TRAITS: usize = 5_000;
const MOST_WITNESSES: usize = 30_000;
/// Deeper than real configurations nest groups.
const DEEPEST: usize = 32;

/// The policies of one application, with the configuration that they are from.
type Written<'a> = (&'a Config, &'a [Policy]);

/// Returns the witnesses of policies: one for each way in which a policy, or two together, can
/// apply. Each is varied by every single rule, true and false. Returns also `true` if that is all
/// of them.
pub(super) fn witnesses(written: &[Written<'_>], now: UnixTime) -> (Vec<Witness>, bool) {
    let (mut seeds, mut traits, mut is_all) = (vec![Chosen::new()], BTreeMap::new(), true);
    for (config, policies) in written {
        let mut names = Names::new(config, now);
        is_all &= names.traits(policies, &mut traits);
        let ways: Vec<Vec<Chosen>> = policies
            .iter()
            .map(|policy| names.ways_into(policy))
            .collect();
        is_all &= ways.iter().all(|ways| ways.len() < MOST_WAYS);
        // The most important ones come first.
        let firsts: Vec<&Chosen> = ways.iter().filter_map(|ways| ways.first()).collect();
        seeds.extend(firsts.iter().copied().cloned());
        seeds.extend(ways.iter().flat_map(|ways| ways.iter().skip(1)).cloned());
        let pairs = firsts
            .iter()
            .flat_map(|one| firsts.iter().map(move |other| (*one, *other)));
        for (one, other) in pairs {
            if seeds.len() > MOST_WITNESSES {
                is_all = false;
                break;
            }
            let mut both = one.clone();
            both.extend(
                other
                    .iter()
                    .map(|(slot, quality)| (slot.clone(), Rc::clone(quality))),
            );
            seeds.push(both);
        }
    }
    let world = Neutral::new(&traits, written);
    let mut all: BTreeMap<BTreeSet<String>, Witness> = BTreeMap::new();
    // Of many policies, most pairs have the same properties: those of one slot replace each other.
    let mut seen = HashSet::new();
    for seed in &seeds {
        if !seen.insert(labels(seed)) {
            continue;
        }
        if all.len() > MOST_WITNESSES {
            is_all = false;
            break;
        }
        let mut keep = |chosen: &Chosen| {
            let witness = world.witness(chosen);
            all.entry(witness.rules.clone()).or_insert(witness);
        };
        keep(seed);
        for (label, quality) in &traits {
            let mut chosen = seed.clone();
            chosen.insert(quality.slot.clone(), Rc::clone(quality));
            keep(&chosen);
            if seed
                .get(&quality.slot)
                .is_some_and(|had| had.label == *label)
            {
                chosen.remove(&quality.slot);
                keep(&chosen);
            }
        }
    }
    (all.into_values().collect(), is_all)
}

/// A property of a user or a request.
#[derive(Debug)]
struct Quality {
    /// Description for the report.
    label: String,
    /// A user has one property per slot.
    slot: String,
    rule: Rule,
    /// `true` if the rule holds, `false` for its opposite.
    holds: bool,
    /// The time, if the rule depends on it.
    at: Option<Moment>,
}

impl Quality {
    fn new(rule: Rule, holds: bool, now: UnixTime) -> Rc<Self> {
        let not = if holds { "" } else { "not " };
        let label = format!("{not}{}", brief(&rule));
        let slot = match &rule {
            Rule::Email { .. } | Rule::EmailDomain { .. } => "email",
            Rule::CommonName { .. } | Rule::Certificate {} => "certificate",
            Rule::ServiceToken { .. } | Rule::AnyValidServiceToken {} => "service_token",
            Rule::Ip { .. }
            | Rule::Geo { .. }
            | Rule::LoginMethod { .. }
            | Rule::LinkedAppToken { .. }
            | Rule::PortcullisMethod { .. }
            | Rule::PortcullisTime(_) => rule.selector(),
            _ => &label,
        };
        let at = if let Rule::PortcullisTime(window) = &rule {
            // A week has every minute of every day.
            let mut moments =
                (0..7 * 24 * 60).map(|minute| UnixTime(now.0.saturating_add(minute * 60)));
            let moment = moments.find(|moment| window.holds(*moment) == Some(holds));
            moment
                .and_then(|moment| jiff::Timestamp::from_second(i64::try_from(moment.0).ok()?).ok())
                .map(Moment)
        } else {
            None
        };
        Rc::new(Self {
            slot: slot.to_owned(),
            label: label.clone(),
            rule,
            holds,
            at,
        })
    }
}

/// The chosen properties of a user, by slot.
type Chosen = BTreeMap<String, Rc<Quality>>;

fn labels(chosen: &Chosen) -> Vec<&str> {
    chosen
        .values()
        .map(|quality| quality.label.as_str())
        .collect()
}

/// The groups and lists of one configuration.
struct Names<'a> {
    groups: HashMap<&'a str, &'a AccessGroup>,
    lists: HashMap<&'a str, &'a List>,
    /// The ways into groups, each found once.
    ways: HashMap<&'a str, Vec<Chosen>>,
    now: UnixTime,
}

impl<'a> Names<'a> {
    fn new(config: &'a Config, now: UnixTime) -> Self {
        Self {
            groups: config
                .catalog
                .groups
                .iter()
                .map(|group| (group.id.as_str(), group))
                .collect(),
            lists: config
                .catalog
                .lists
                .iter()
                .map(|list| (list.id.as_str(), list))
                .collect(),
            ways: HashMap::new(),
            now,
        }
    }

    /// Everything that policies name, themselves or through groups; whether there was room for all
    /// of it.
    fn traits(&self, policies: &'a [Policy], traits: &mut BTreeMap<String, Rc<Quality>>) -> bool {
        let clauses = |policy: &'a Policy| {
            policy
                .include
                .iter()
                .chain(&policy.require)
                .chain(&policy.exclude)
        };
        let mut pending: Vec<&Rule> = policies.iter().flat_map(clauses).collect();
        let mut seen = HashSet::new();
        while let Some(rule) = pending.pop() {
            if let Rule::Group { id } = rule {
                let group = self
                    .groups
                    .get(id.as_str())
                    .filter(|_| seen.insert(id.as_str()));
                pending.extend(
                    group
                        .iter()
                        .flat_map(|g| g.include.iter().chain(&g.require).chain(&g.exclude)),
                );
                continue;
            }
            for quality in self.qualities(rule) {
                if traits.len() >= MOST_TRAITS {
                    return false;
                }
                traits.insert(quality.label.clone(), quality);
            }
        }
        true
    }

    /// Returns properties that make a rule true, and near misses: the ends of its networks, one of
    /// its methods and another, a time within and one outside.
    fn qualities(&self, rule: &Rule) -> Vec<Rc<Quality>> {
        let holds = |rule: Rule| Quality::new(rule, true, self.now);
        match rule {
            Rule::Everyone {} | Rule::Group { .. } => Vec::new(),
            Rule::EmailList { id } | Rule::IpList { id } => {
                match self.lists.get(id.as_str()).map(|list| &list.items) {
                    Some(ListItems::Email(emails)) => emails
                        .iter()
                        .map(|email| {
                            holds(Rule::Email {
                                email: email.clone(),
                            })
                        })
                        .collect(),
                    Some(ListItems::Ip(ranges)) => ranges
                        .iter()
                        .flat_map(|range| ends(range.net()))
                        .map(holds)
                        .collect(),
                    None => Vec::new(),
                }
            }
            Rule::Ip { ip } => ends(ip.net()).map(holds).collect(),
            Rule::PortcullisMethod { methods } => {
                let one = |verb: &Verb| {
                    holds(Rule::PortcullisMethod {
                        methods: vec![verb.clone()],
                    })
                };
                methods
                    .iter()
                    .map(one)
                    .chain([Quality::new(rule.clone(), false, self.now)])
                    .collect()
            }
            Rule::PortcullisTime(_) => vec![
                holds(rule.clone()),
                Quality::new(rule.clone(), false, self.now),
            ],
            rule => vec![holds(rule.clone())],
        }
    }

    fn ways_into(&mut self, policy: &'a Policy) -> Vec<Chosen> {
        self.clauses(&policy.include, &policy.require, DEEPEST)
    }

    /// For every way in which a rule of `include` holds, that with the first way of each rule of
    /// `require`.
    fn clauses(&mut self, include: &'a [Rule], require: &'a [Rule], depth: usize) -> Vec<Chosen> {
        let mut required = Chosen::new();
        for rule in require {
            required.extend(
                self.ways(rule, depth)
                    .into_iter()
                    .next()
                    .unwrap_or_default(),
            );
        }
        let mut ways = Vec::new();
        for rule in include {
            for mut way in self.ways(rule, depth) {
                way.extend(
                    required
                        .iter()
                        .map(|(slot, quality)| (slot.clone(), Rc::clone(quality))),
                );
                ways.push(way);
            }
            if ways.len() >= MOST_WAYS {
                ways.truncate(MOST_WAYS);
                break;
            }
        }
        ways
    }

    fn ways(&mut self, rule: &'a Rule, depth: usize) -> Vec<Chosen> {
        let Rule::Group { id } = rule else {
            let one = |quality: Rc<Quality>| Chosen::from([(quality.slot.clone(), quality)]);
            return match rule {
                Rule::Everyone {} => vec![Chosen::new()],
                rule => self
                    .qualities(rule)
                    .into_iter()
                    .filter(|quality| quality.holds)
                    .map(one)
                    .collect(),
            };
        };
        if let Some(ways) = self.ways.get(id.as_str()) {
            return ways.clone();
        }
        let (Some(group), Some(depth)) =
            (self.groups.get(id.as_str()).copied(), depth.checked_sub(1))
        else {
            return Vec::new();
        };
        let ways = self.clauses(&group.include, &group.require, depth);
        self.ways.insert(id, ways.clone());
        ways
    }
}

/// Returns a user with no unknown fact, who satisfies no rule.
struct Neutral {
    person: Person,
    asked: Asked,
}

impl Neutral {
    fn new(traits: &BTreeMap<String, Rc<Quality>>, written: &[Written<'_>]) -> Self {
        let mut person = stranger();
        let mut countries = HashSet::new();
        for quality in traits.values() {
            match &quality.rule {
                Rule::ExternalEvaluation { evaluate_url, .. } => {
                    person.evaluations.insert(evaluate_url.clone(), false);
                }
                // An attribute that an assertion does not have is one of which nothing is known.
                Rule::Saml { attribute_name, .. } => {
                    let claims = person.claims.get_or_insert_default();
                    claims
                        .entry(attribute_name)
                        .or_insert_with(|| Value::Array(Vec::new()));
                }
                Rule::Geo { country_code } => drop(countries.insert(*country_code)),
                _ => {}
            }
        }
        // Codes that ISO 3166-1 leaves to its users.
        let country =
            (b'A'..=b'Z').filter_map(|letter| Country::parse(&format!("X{}", char::from(letter))));
        let country = country
            .into_iter()
            .find(|country| !countries.contains(country));
        let asks = written.iter().any(|(config, _)| config.geo.is_some());
        let asked = Asked {
            ip: Some(NOWHERE),
            country: country.filter(|_| asks),
            ..Asked::default()
        };
        Self { person, asked }
    }

    fn witness(&self, chosen: &Chosen) -> Witness {
        let (mut person, mut asked) = (self.person.clone(), self.asked.clone());
        for quality in chosen.values() {
            apply(quality, &mut person, &mut asked);
        }
        let is_request = chosen
            .values()
            .any(|quality| quality.rule.about() == About::Request);
        Witness {
            rules: chosen
                .values()
                .map(|quality| quality.label.clone())
                .collect(),
            person,
            asked,
            is_request,
        }
    }
}

fn apply(
    Quality {
        rule, holds, at, ..
    }: &Quality,
    person: &mut Person,
    asked: &mut Asked,
) {
    match rule {
        Rule::Email { email } => person.email.clone_from(email),
        Rule::EmailDomain { domain } => person.email = format!("anyone@{domain}"),
        Rule::Okta {
            name,
            identity_provider_id: idp,
        } => {
            person.idp = Some(idp.0.to_string());
            person.groups.get_or_insert_default().push(name.clone());
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
            person.idp = Some(idp.0.to_string());
            let values = person
                .claims
                .get_or_insert_default()
                .entry(name)
                .or_insert_with(|| Value::Array(Vec::new()));
            values
                .as_array_mut()
                .into_iter()
                .for_each(|values| values.push(value.as_str().into()));
        }
        Rule::LoginMethod { id } => person.idp = Some(id.0.to_string()),
        Rule::AuthMethod { auth_method } => {
            person.amr.get_or_insert_default().push(auth_method.clone())
        }
        Rule::ExternalEvaluation { evaluate_url, .. } => {
            person.evaluations.insert(evaluate_url.clone(), true);
        }
        Rule::Ip { ip } => asked.ip = Some(ip.net().addr()),
        Rule::Geo { country_code } => asked.country = Some(*country_code),
        Rule::PortcullisMethod { methods } if *holds => asked.method = methods.first().cloned(),
        Rule::PortcullisMethod { methods } => {
            let others = ["GET", "POST", "DELETE", "PURGE"]
                .iter()
                .filter_map(|verb| Verb::try_from((*verb).to_owned()).ok());
            asked.method = others
                .into_iter()
                .find(|verb| !methods.contains(verb))
                .or(asked.method.take());
        }
        Rule::PortcullisTime(_) => asked.at = *at,
        Rule::Certificate {} => asked.certificate = Some("client.example".to_owned()),
        Rule::CommonName { common_name } => asked.certificate = Some(common_name.clone()),
        Rule::ServiceToken { token_id } => asked.service_token = Some(token_id.clone()),
        Rule::AnyValidServiceToken {} => asked.service_token = Some("any".to_owned()),
        Rule::LinkedAppToken { app_uid } => asked.linked_app = Some(app_uid.clone()),
        // Not chosen by themselves, or always unknown.
        Rule::Everyone {}
        | Rule::Group { .. }
        | Rule::EmailList { .. }
        | Rule::IpList { .. }
        | Rule::AzureAd { .. }
        | Rule::GithubOrganization { .. }
        | Rule::Gsuite { .. }
        | Rule::AuthContext { .. }
        | Rule::DevicePosture { .. }
        | Rule::UserRiskScore { .. }
        | Rule::CloudflareAccountMember { .. } => {}
    }
}

/// Returns a user with no unknown fact and no special property.
fn stranger() -> Person {
    Person {
        email: "somebody@elsewhere.invalid".to_owned(),
        groups: Some(Vec::new()),
        amr: Some(Vec::new()),
        claims: Some(Map::new()),
        ..Person::default()
    }
}

/// An address for documentation (RFC 5737), which no network has.
const NOWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 254));

/// The first and the last address of a network: another network differs in one of them.
fn ends(net: IpNet) -> impl Iterator<Item = Rule> {
    let last = (net.network() != net.broadcast()).then(|| net.broadcast());
    let ends = [net.network()].into_iter().chain(last);
    ends.filter_map(|ip| {
        Some(Rule::Ip {
            ip: IpRange::try_from(ip.to_string()).ok()?,
        })
    })
}
