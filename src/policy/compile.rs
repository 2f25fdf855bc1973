use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use http::Method;

use super::evaluate::PartialVerdict;
use super::nets::Nets;
use super::order::{UnknownName, order};
use super::questions::{Question, Questions, Requester};
use super::rule::{AccessGroup, List, ListItems, Policy, PolicyDecision, Rule};
use super::values::{Country, IpRange, TimeWindow};
use crate::model::IdpId;

/// One rule, compiled.
#[derive(Debug)]
pub(super) struct CompiledRule {
    pub(super) condition: Condition,
    /// Its index in the configured clause.
    pub(super) rule: usize,
}

/// The condition of a rule.
#[derive(Debug)]
pub(super) enum Condition {
    Everyone,
    User(Question),
    /// The number of an Access group. Groups have higher numbers than those that they contain.
    Group(usize),
    Method(Box<[Method]>),
    Nets(Arc<Nets>),
    Certificate,
    CommonName(Box<str>),
    AnyServiceToken,
    ServiceToken(Box<str>),
    LinkedApp(Box<str>),
    Time(Box<TimeWindow>),
    Country(Country),
    /// Always unknown here.
    Never,
}

impl Condition {
    /// Ranks conditions, so that cheap ones are evaluated first. The outcome does not depend on the
    /// order.
    const fn cost(&self) -> u8 {
        match self {
            Self::Everyone | Self::User(_) => 0,
            Self::Method(_) | Self::Nets(_) => 1,
            Self::Certificate | Self::CommonName(_) | Self::AnyServiceToken => 2,
            Self::ServiceToken(_) | Self::LinkedApp(_) => 2,
            Self::Group(_) => 3,
            Self::Time(_) => 4,
            Self::Country(_) => 5,
            Self::Never => 6,
        }
    }
}

/// The rules of one clause: those that are evaluated once per user, and those that are evaluated on
/// every request.
#[derive(Debug, Default)]
pub(super) struct Clause {
    pub(super) person: Box<[CompiledRule]>,
    pub(super) request: Box<[CompiledRule]>,
}

/// `include`, `require` and `exclude`, compiled.
#[derive(Debug, Default)]
pub(super) struct Clauses {
    pub(super) include: Clause,
    pub(super) require: Clause,
    pub(super) exclude: Clause,
}

impl Clauses {
    /// Returns `true` if the clauses depend on the request.
    pub(super) fn ask_requests(&self) -> bool {
        [&self.include, &self.require, &self.exclude]
            .iter()
            .any(|clause| !clause.request.is_empty())
    }

    fn tests(&self) -> impl Iterator<Item = &CompiledRule> {
        [&self.include, &self.require, &self.exclude]
            .into_iter()
            .flat_map(|clause| clause.person.iter().chain(&clause.request))
    }

    pub(super) fn groups(&self) -> impl Iterator<Item = usize> {
        self.tests().filter_map(|test| {
            if let Condition::Group(number) = test.condition {
                Some(number)
            } else {
                None
            }
        })
    }
}

/// The index of a policy in its application's list, in the order that was configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PolicyIndex(pub usize);

#[derive(Debug)]
pub(super) struct CompiledPolicy {
    pub(super) decision: PolicyDecision,
    pub(super) shadow: bool,
    pub(super) index: PolicyIndex,
    pub(super) clauses: Clauses,
}

/// The parts that all policies of a snapshot share: the Access groups and the questions about
/// users.
#[derive(Debug, Default)]
pub struct PolicySet {
    pub(super) groups: Box<[Clauses]>,
    group_ids: Box<[Box<str>]>,
    pub(super) questions: Questions,
}

/// One application's policies. Evaluated together with the [`PolicySet`] that made them.
#[derive(Debug)]
pub struct Policies {
    /// Bypass and Service Auth, in the order written; they come first (`docs/wire.md` 9).
    pub(super) first: Box<[CompiledPolicy]>,
    /// Allow and deny.
    pub(super) rest: Box<[CompiledPolicy]>,
    /// The groups that the policies refer to, also through others; each comes after those that it
    /// contains.
    pub(super) groups: Box<[usize]>,
    /// The partial verdict of `first` for an unknown user.
    pub(super) unknown_user: PartialVerdict,
    names: Box<[(Box<str>, Option<Duration>)]>,
}

/// The result of [`PolicySet::compile`].
pub type Compiled = (PolicySet, Vec<Policies>);

impl PolicySet {
    /// Compiles the lists, the Access groups and each application's policies.
    ///
    /// # Errors
    /// A rule that names no group or no list, and groups that contain themselves.
    pub fn compile<'a>(
        lists: &[List],
        groups: &[AccessGroup],
        applications: impl IntoIterator<Item = &'a [Policy]>,
    ) -> Result<Compiled, UnknownName> {
        let ordered = order(groups)?;
        let mut compiler = Compiler {
            lists,
            numbers: ordered
                .iter()
                .enumerate()
                .map(|(number, group)| (group.id.as_str(), number))
                .collect(),
            groups: Vec::with_capacity(ordered.len()),
            questions: Questions::default(),
            nets: HashMap::new(),
        };
        for group in &ordered {
            let clauses = compiler.clauses(&group.include, &group.require, &group.exclude)?;
            compiler.groups.push(clauses);
        }
        let mut applications = applications
            .into_iter()
            .map(|policies| compiler.policies(policies))
            .collect::<Result<Vec<_>, _>>()?;
        let group_ids = ordered
            .iter()
            .map(|group| group.id.as_str().into())
            .collect();
        let set = Self {
            groups: compiler.groups.into(),
            group_ids,
            questions: compiler.questions,
        };
        let unknown_user = set.user_facts(Requester::Unknown);
        for policies in &mut applications {
            policies.unknown_user = set.early_partial_verdict(policies, &unknown_user);
        }
        Ok((set, applications))
    }

    /// Checks that groups can be compiled.
    ///
    /// # Errors
    ///
    /// A rule that names no group, and groups that contain themselves.
    pub fn check(groups: &[AccessGroup]) -> Result<(), UnknownName> {
        order(groups).map(|_| ())
    }

    /// Returns the groups of a provider that rules name, sorted.
    pub fn group_names(&self, idp: &IdpId) -> Vec<&str> {
        self.questions.groups(idp)
    }

    /// Returns the id of a group.
    pub(super) fn group_id(&self, number: usize) -> &str {
        self.group_ids.get(number).map_or("", |id| id)
    }
}

impl Policies {
    /// Returns a policy's name, and the session duration it sets.
    pub fn describe(&self, index: PolicyIndex) -> Option<(&str, Option<Duration>)> {
        self.names
            .get(index.0)
            .map(|(name, duration)| (name.as_ref(), *duration))
    }
}

struct Compiler<'a> {
    lists: &'a [List],
    numbers: HashMap<&'a str, usize>,
    groups: Vec<Clauses>,
    questions: Questions,
    /// By the id of the list.
    nets: HashMap<String, Arc<Nets>>,
}

impl Compiler<'_> {
    fn policies(&mut self, policies: &[Policy]) -> Result<Policies, UnknownName> {
        let (mut first, mut rest) = (Vec::new(), Vec::new());
        for (index, policy) in policies.iter().enumerate() {
            let clauses = self.clauses(&policy.include, &policy.require, &policy.exclude)?;
            let early = matches!(
                policy.decision,
                PolicyDecision::Bypass | PolicyDecision::NonIdentity
            );
            let list = if early { &mut first } else { &mut rest };
            list.push(CompiledPolicy {
                decision: policy.decision,
                shadow: policy.shadow,
                index: PolicyIndex(index),
                clauses,
            });
        }
        let mut pending: Vec<usize> = first
            .iter()
            .chain(&rest)
            .flat_map(|policy| policy.clauses.groups())
            .collect();
        let mut groups = BTreeSet::new();
        while let Some(number) = pending.pop() {
            if groups.insert(number) {
                pending.extend(
                    self.groups
                        .get(number)
                        .into_iter()
                        .flat_map(Clauses::groups),
                );
            }
        }
        let names = policies
            .iter()
            .map(|p| (p.name.as_str().into(), p.session_duration))
            .collect();
        let groups = groups.into_iter().collect();
        Ok(Policies {
            first: first.into(),
            rest: rest.into(),
            groups,
            unknown_user: PartialVerdict::default(),
            names,
        })
    }

    fn clauses(
        &mut self,
        include: &[Rule],
        require: &[Rule],
        exclude: &[Rule],
    ) -> Result<Clauses, UnknownName> {
        Ok(Clauses {
            include: self.clause(include)?,
            require: self.clause(require)?,
            exclude: self.clause(exclude)?,
        })
    }

    fn clause(&mut self, rules: &[Rule]) -> Result<Clause, UnknownName> {
        let (mut person, mut request) = (Vec::new(), Vec::new());
        for (rule, written) in rules.iter().enumerate() {
            let condition = self.condition(written)?;
            let of_person = match &condition {
                Condition::Everyone | Condition::User(_) | Condition::Never => true,
                Condition::Group(number) => {
                    !self.groups.get(*number).is_some_and(Clauses::ask_requests)
                }
                _ => false,
            };
            if of_person { &mut person } else { &mut request }
                .push(CompiledRule { condition, rule });
        }
        request.sort_by_key(|test| test.condition.cost());
        Ok(Clause {
            person: person.into(),
            request: request.into(),
        })
    }

    fn condition(&mut self, rule: &Rule) -> Result<Condition, UnknownName> {
        if let Rule::EmailList { id } = rule {
            let listed = self
                .lists
                .iter()
                .any(|list| list.id == *id && matches!(list.items, ListItems::Email(_)));
            listed
                .then_some(())
                .ok_or_else(|| UnknownName::List(id.clone()))?;
        }
        if let Some(question) = self.questions.question(rule, self.lists) {
            return Ok(Condition::User(question));
        }
        Ok(match rule {
            Rule::Everyone {} => Condition::Everyone,
            Rule::Group { id } => {
                let number = self.numbers.get(id.as_str()).copied();
                Condition::Group(number.ok_or_else(|| UnknownName::Group(id.clone()))?)
            }
            Rule::Ip { ip } => Condition::Nets(Arc::new(Nets::new([ip.net()]))),
            Rule::IpList { id } => {
                let list = self.lists.iter().find(|list| list.id == *id);
                let Some(List { items: ListItems::Ip(ranges), .. }) = list else {
                    return Err(UnknownName::List(id.clone()));
                };
                let nets = self.nets.entry(id.clone());
                Condition::Nets(Arc::clone(nets.or_insert_with(|| Arc::new(Nets::new(ranges.iter().map(IpRange::net))))))
            }
            Rule::Geo { country_code } => Condition::Country(*country_code),
            Rule::Certificate {} => Condition::Certificate,
            Rule::CommonName { common_name } => Condition::CommonName(common_name.as_str().into()),
            Rule::ServiceToken { token_id } => Condition::ServiceToken(token_id.as_str().into()),
            Rule::AnyValidServiceToken {} => Condition::AnyServiceToken,
            Rule::LinkedAppToken { app_uid } => Condition::LinkedApp(app_uid.as_str().into()),
            Rule::PortcullisMethod { methods } => Condition::Method(methods.iter().map(|verb| verb.0.clone()).collect()),
            Rule::PortcullisTime(window) => Condition::Time(Box::new(window.clone())),
            // Conditions on the user, see above.
            Rule::Email { .. }
            | Rule::EmailDomain { .. }
            | Rule::EmailList { .. }
            | Rule::LoginMethod { .. }
            | Rule::Okta { .. }
            | Rule::Saml { .. }
            | Rule::Oidc { .. }
            | Rule::AuthMethod { .. }
            | Rule::ExternalEvaluation { .. }
            // Known to services that are not here.
            | Rule::AzureAd { .. }
            | Rule::GithubOrganization { .. }
            | Rule::Gsuite { .. }
            | Rule::AuthContext { .. }
            | Rule::DevicePosture { .. }
            | Rule::UserRiskScore { .. }
            | Rule::CloudflareAccountMember { .. } => Condition::Never,
        })
    }
}
