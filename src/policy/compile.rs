use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::compiled::{
    CompiledClause, CompiledClauses, CompiledPolicy, CompiledRule, Condition, Policies, PolicySet,
};
use super::nesting::{UnknownName, innermost_first};
use super::nets::Nets;
use super::order::in_order;
use super::partial::PartialVerdict;
use super::questions::{Questions, Requester};
use super::rule::{AccessGroup, List, ListItems, Policy, Rule, SharedRules};
use super::trace::Untraced;

/// The result of [`PolicySet::compile`].
pub type Compiled = (PolicySet, Vec<Policies>);

impl PolicySet {
    /// Compiles the lists, the Access groups and each application's policies.
    ///
    /// # Errors
    /// A rule that names no group or no list, and groups that contain themselves.
    pub fn compile<'a>(
        SharedRules { lists, groups }: SharedRules<'_>,
        applications: impl IntoIterator<Item = &'a [Policy]>,
    ) -> Result<Compiled, UnknownName> {
        let ordered = innermost_first(groups)?;
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
            policies.unknown_user = set.user_half(
                &policies.first,
                &policies.groups,
                &unknown_user,
                &mut Untraced,
            );
        }
        Ok((set, applications))
    }

    /// Checks that groups can be compiled.
    ///
    /// # Errors
    ///
    /// A rule that names no group, and groups that contain themselves.
    pub fn check(groups: &[AccessGroup]) -> Result<(), UnknownName> {
        innermost_first(groups).map(|_| ())
    }
}

struct Compiler<'a> {
    lists: &'a [List],
    numbers: HashMap<&'a str, usize>,
    groups: Vec<CompiledClauses>,
    questions: Questions,
    /// By the id of the list.
    nets: HashMap<String, Arc<Nets>>,
}

impl Compiler<'_> {
    fn policies(&mut self, policies: &[Policy]) -> Result<Policies, UnknownName> {
        let (mut first, mut rest) = (Vec::new(), Vec::new());
        for (index, policy) in in_order(policies) {
            let list = if policy.decision.is_early() {
                &mut first
            } else {
                &mut rest
            };
            list.push(CompiledPolicy {
                decision: policy.decision,
                shadow: policy.shadow,
                index,
                clauses: self.clauses(&policy.include, &policy.require, &policy.exclude)?,
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
                        .flat_map(CompiledClauses::groups),
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
    ) -> Result<CompiledClauses, UnknownName> {
        Ok(CompiledClauses {
            include: self.clause(include)?,
            require: self.clause(require)?,
            exclude: self.clause(exclude)?,
        })
    }

    fn clause(&mut self, rules: &[Rule]) -> Result<CompiledClause, UnknownName> {
        let (mut user, mut request) = (Vec::new(), Vec::new());
        for (rule, written) in rules.iter().enumerate() {
            let condition = self.condition(written)?;
            let is_of_user = match &condition {
                Condition::Everyone | Condition::User(_) | Condition::Never => true,
                Condition::Group(number) => !self
                    .groups
                    .get(*number)
                    .is_some_and(CompiledClauses::ask_requests),
                _ => false,
            };
            if is_of_user { &mut user } else { &mut request }
                .push(CompiledRule { condition, rule });
        }
        request.sort_by_key(|test| test.condition.cost());
        Ok(CompiledClause {
            user: user.into(),
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
                Condition::Nets(Arc::clone(nets.or_insert_with(|| Arc::new(Nets::new(ranges.iter().map(|item| item.value.net()))))))
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
