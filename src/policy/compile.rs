use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use foldhash::quality::RandomState;
use ipnet::IpNet;
use thiserror::Error;

use super::evaluate::{Bits, Facts, Membership, Outcome, Shortlist, Truth, Verdict};
use super::rule::{AccessGroup, Policy, PolicyDecision, Rule};
use crate::model::{Email, Group, Groups, Host, IdpId};

/// Numbers for the names that rules mention, made once for a snapshot.
#[derive(Debug, Default)]
pub struct Interner {
    providers: HashMap<IdpId, u32, RandomState>,
    /// Per provider: group name to bit.
    groups: HashMap<u32, HashMap<Box<str>, u32, RandomState>, RandomState>,
    bits: u32,
}

impl Interner {
    fn provider(&mut self, id: &IdpId) -> u32 {
        let next = u32::try_from(self.providers.len()).unwrap_or(u32::MAX);
        *self.providers.entry(id.clone()).or_insert(next)
    }

    fn group(&mut self, provider: &IdpId, name: &str) -> u32 {
        let provider = self.provider(provider);
        let bits = &mut self.bits;
        let bit = self.groups.entry(provider).or_default().entry(name.into()).or_insert_with(|| {
            *bits += 1;
            *bits - 1
        });
        *bit
    }

    /// The number of a provider, where any rule mentions it. One that none mentions has a number that no rule has.
    pub fn provider_number(&self, id: &IdpId) -> u32 {
        self.providers.get(id).copied().unwrap_or(u32::MAX)
    }

    /// A person's groups as a set; `None` where they are unknown.
    pub fn membership(&self, provider: &IdpId, groups: &Groups) -> Option<Membership> {
        let Groups::Known(groups) = groups else { return None };
        let mut set = Membership::new(self.bits as usize);
        if let Some(names) = self.groups.get(&self.provider_number(provider)) {
            for bit in groups.iter().filter_map(|Group { name, .. }| names.get(name.as_str())) {
                set.insert(*bit);
            }
        }
        Some(set)
    }
}

/// A rule that names an Access group which does not exist, or one that contains itself.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum UnknownGroup {
    /// No such group.
    #[error("no Access group has the id `{0}`")]
    Missing(String),
    /// The group is part of itself; the ids on the way.
    #[error("the Access group contains itself: {}", .0.join(" → "))]
    Cycle(Vec<String>),
}

#[derive(Debug)]
enum Test {
    Everyone,
    Email(Box<str>),
    EmailDomain(Box<str>),
    Ip(IpNet),
    OktaGroup { provider: u32, bit: u32 },
    AccessGroup(usize),
    LoginMethod(u32),
}

/// `include`, `require` and `exclude`, compiled.
#[derive(Debug, Default)]
struct Clauses {
    include: Box<[Test]>,
    require: Box<[Test]>,
    exclude: Box<[Test]>,
}

#[derive(Debug)]
struct CompiledPolicy {
    decision: PolicyDecision,
    clauses: Clauses,
}

/// All policies of a snapshot: the Access groups, which they share, and the names.
#[derive(Debug, Default)]
pub struct PolicySet {
    groups: Vec<Clauses>,
    interner: Interner,
}

/// One application's policies. Evaluated together with the [`PolicySet`] that made them.
#[derive(Debug)]
pub struct Policies {
    /// Bypass first, then the rest, each in the order written (§7.1); with the place in that order.
    bypass: Box<[Placed]>,
    rest: Box<[Placed]>,
    names: Box<[(Box<str>, Option<Duration>)]>,
}

type Placed = (usize, CompiledPolicy);

/// What [`PolicySet::compile`] makes.
pub type Compiled = (PolicySet, Vec<Policies>);

impl PolicySet {
    /// Compiles the Access groups and each application's policies.
    ///
    /// # Errors
    /// A rule that names no group, and groups that contain themselves.
    pub fn compile<'a>(
        groups: &[AccessGroup],
        applications: impl IntoIterator<Item = &'a [Policy]>,
    ) -> Result<Compiled, UnknownGroup> {
        let numbers: HashMap<&str, usize> = groups.iter().enumerate().map(|(i, g)| (g.id.as_str(), i)).collect();
        refuse_cycles(groups, &numbers)?;
        let mut interner = Interner::default();
        let mut compiler = Compiler { numbers: &numbers, interner: &mut interner };
        let compiled = groups
            .iter()
            .map(|g| compiler.clauses(&g.include, &g.require, &g.exclude))
            .collect::<Result<Vec<_>, _>>()?;
        let applications = applications.into_iter().map(|p| compiler.policies(p)).collect::<Result<Vec<_>, _>>()?;
        Ok((Self { groups: compiled, interner }, applications))
    }

    /// The names that facts are made with.
    pub const fn interner(&self) -> &Interner {
        &self.interner
    }

    /// The first bypass policy that applies. It may ask nothing about identity, so nobody's is known here.
    pub fn bypass(&self, policies: &Policies, facts: &Facts<'_>) -> Option<Verdict> {
        let applies = |(_, policy): &&Placed| self.clauses(&policy.clauses, facts, Some(facts.ip)) == Truth::True;
        let (place, _) = policies.bypass.iter().find(applies)?;
        Some(Verdict { outcome: Outcome::Bypass, policy: Some(*place), unknown: false })
    }

    /// The first allow or deny policy that applies; deny where none does (§7.1).
    ///
    /// An allow applies where its clauses are true; a deny applies unless they are false.
    pub fn evaluate(&self, policies: &Policies, facts: &Facts<'_>) -> Verdict {
        self.first_of(policies.rest.iter(), facts)
    }

    /// The same, for somebody whose shortlist is known.
    pub fn evaluate_shortlist(&self, policies: &Policies, shortlist: &Shortlist, facts: &Facts<'_>) -> Verdict {
        self.first_of(shortlist.0.iter().filter_map(|i| policies.rest.get(i)), facts)
    }

    /// Which allow and deny policies could apply to somebody, wherever the requests come from: the address in `facts` is
    /// not looked at. What is false while a fact is unknown stays false when it is learned, so nothing is lost.
    pub fn shortlist(&self, policies: &Policies, facts: &Facts<'_>) -> Shortlist {
        let mut list = Bits::new(policies.rest.len());
        for (i, (_, policy)) in policies.rest.iter().enumerate() {
            if self.clauses(&policy.clauses, facts, None) != Truth::False {
                list.insert(i);
            }
        }
        Shortlist(list)
    }

    fn first_of<'a>(&self, policies: impl Iterator<Item = &'a Placed>, facts: &Facts<'_>) -> Verdict {
        let mut unknown = false;
        for (place, policy) in policies {
            let truth = self.clauses(&policy.clauses, facts, Some(facts.ip));
            let outcome = match (policy.decision, truth) {
                (PolicyDecision::Allow, Truth::True) => Outcome::Allow,
                (PolicyDecision::Deny, Truth::True | Truth::Unknown) => Outcome::Deny,
                (PolicyDecision::Allow, Truth::Unknown) => {
                    unknown = true;
                    continue;
                }
                _ => continue,
            };
            let unknown = outcome == Outcome::Deny && (unknown || truth == Truth::Unknown);
            return Verdict { outcome, policy: Some(*place), unknown };
        }
        Verdict { outcome: Outcome::Deny, policy: None, unknown }
    }

    fn clauses(&self, clauses: &Clauses, facts: &Facts<'_>, ip: Option<IpAddr>) -> Truth {
        let test = |test: &Test| self.test(test, facts, ip);
        let include = Truth::any(clauses.include.iter().map(test));
        if include == Truth::False {
            return Truth::False;
        }
        let require = Truth::all(clauses.require.iter().map(test));
        let exclude = Truth::any(clauses.exclude.iter().map(test));
        Truth::all([include, require, exclude.not()].into_iter())
    }

    fn test(&self, test: &Test, facts: &Facts<'_>, ip: Option<IpAddr>) -> Truth {
        let known = |fact: Option<bool>| fact.map_or(Truth::Unknown, Truth::from);
        match test {
            Test::Everyone => Truth::True,
            Test::Email(email) => known(facts.email.map(|e| *e == **email)),
            Test::EmailDomain(domain) => {
                known(facts.email.map(|e| e.rsplit_once('@').is_some_and(|(_, d)| *d == **domain)))
            }
            Test::Ip(net) => known(ip.map(|ip| net.contains(&ip))),
            Test::OktaGroup { provider, bit } => match facts.idp {
                // Another provider's groups are not this one's, whatever their names, and known not to be.
                Some(idp) if idp != *provider => Truth::False,
                Some(_) => known(facts.groups.map(|groups| groups.contains(*bit))),
                None => Truth::Unknown,
            },
            Test::AccessGroup(number) => {
                self.groups.get(*number).map_or(Truth::Unknown, |clauses| self.clauses(clauses, facts, ip))
            }
            Test::LoginMethod(provider) => known(facts.idp.map(|idp| idp == *provider)),
        }
    }
}

impl Policies {
    /// The name of the policy at a place, and the session duration it sets.
    pub fn describe(&self, place: usize) -> Option<(&str, Option<Duration>)> {
        self.names.get(place).map(|(name, duration)| (name.as_ref(), *duration))
    }

    /// Whether anybody can get in without logging in.
    pub fn can_bypass(&self) -> bool {
        !self.bypass.is_empty()
    }
}

struct Compiler<'a> {
    numbers: &'a HashMap<&'a str, usize>,
    interner: &'a mut Interner,
}

impl Compiler<'_> {
    fn policies(&mut self, policies: &[Policy]) -> Result<Policies, UnknownGroup> {
        let (mut bypass, mut rest) = (Vec::new(), Vec::new());
        for (place, policy) in policies.iter().enumerate() {
            let clauses = self.clauses(&policy.include, &policy.require, &policy.exclude)?;
            let list = if policy.decision == PolicyDecision::Bypass { &mut bypass } else { &mut rest };
            list.push((place, CompiledPolicy { decision: policy.decision, clauses }));
        }
        let names = policies.iter().map(|p| (p.name.as_str().into(), p.session_duration)).collect();
        Ok(Policies { bypass: bypass.into(), rest: rest.into(), names })
    }

    fn clauses(&mut self, include: &[Rule], require: &[Rule], exclude: &[Rule]) -> Result<Clauses, UnknownGroup> {
        let mut list = |rules: &[Rule]| rules.iter().map(|rule| self.test(rule)).collect::<Result<Box<[_]>, _>>();
        Ok(Clauses { include: list(include)?, require: list(require)?, exclude: list(exclude)? })
    }

    fn test(&mut self, rule: &Rule) -> Result<Test, UnknownGroup> {
        Ok(match rule {
            Rule::Everyone {} => Test::Everyone,
            // What is no address equals none; configuration reports it.
            Rule::Email { email } => {
                Test::Email(Email::parse(email).map_or(email.as_str().into(), |e| e.as_str().into()))
            }
            Rule::EmailDomain { domain } => {
                Test::EmailDomain(Host::parse(domain).map_or(domain.as_str().into(), |h| h.as_str().into()))
            }
            Rule::Ip { ip } => Test::Ip(ip.net()),
            Rule::Okta { name, identity_provider_id } => Test::OktaGroup {
                provider: self.interner.provider(identity_provider_id),
                bit: self.interner.group(identity_provider_id, name),
            },
            Rule::LoginMethod { id } => Test::LoginMethod(self.interner.provider(id)),
            Rule::Group { id } => {
                let number = self.numbers.get(id.as_str()).copied();
                Test::AccessGroup(number.ok_or_else(|| UnknownGroup::Missing(id.clone()))?)
            }
        })
    }
}

/// Depth first, without recursion: groups may be nested as deeply as a file can say.
fn refuse_cycles(groups: &[AccessGroup], numbers: &HashMap<&str, usize>) -> Result<(), UnknownGroup> {
    #[derive(Clone, Copy, PartialEq)]
    enum Mark {
        New,
        Open,
        Done,
    }
    let children = |group: &AccessGroup| -> Result<Vec<usize>, UnknownGroup> {
        let rules = group.include.iter().chain(&group.require).chain(&group.exclude);
        rules
            .filter_map(|rule| if let Rule::Group { id } = rule { Some(id) } else { None })
            .map(|id| numbers.get(id.as_str()).copied().ok_or_else(|| UnknownGroup::Missing(id.clone())))
            .collect()
    };
    let mut marks = vec![Mark::New; groups.len()];
    let set = |marks: &mut Vec<Mark>, at: usize, mark: Mark| {
        if let Some(slot) = marks.get_mut(at) {
            *slot = mark;
        }
    };
    for start in 0..groups.len() {
        if marks.get(start) != Some(&Mark::New) {
            continue;
        }
        let mut path: Vec<(usize, Vec<usize>)> = Vec::new();
        let mut next = Some(start);
        loop {
            if let Some(at) = next.take() {
                set(&mut marks, at, Mark::Open);
                path.push((at, groups.get(at).map(children).transpose()?.unwrap_or_default()));
            }
            let Some((at, pending)) = path.last_mut() else { break };
            match pending.pop() {
                Some(child) if marks.get(child) == Some(&Mark::Open) => {
                    let name = |at: &usize| groups.get(*at).map(|g| g.id.clone()).unwrap_or_default();
                    let on_path = path.iter().map(|(at, _)| at).skip_while(|at| **at != child);
                    return Err(UnknownGroup::Cycle(on_path.chain([&child]).map(name).collect()));
                }
                Some(child) if marks.get(child) == Some(&Mark::New) => next = Some(child),
                Some(_) => {}
                None => {
                    set(&mut marks, *at, Mark::Done);
                    path.pop();
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
