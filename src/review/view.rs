use std::collections::HashMap;
use std::net::IpAddr;

use serde::Serialize;

use super::ask::{Answer, World};
use super::compared::compared;
use crate::engine::{Application, Outcome};
use crate::model::Identity;
use crate::policy::{
    AccessGroup, Clause, Country, Part, Policy, PolicyDecision, PolicyIndex, Rule, Truth, Walk,
    in_order,
};

/// An answer for display and for tools: the decision, with every rule.
#[derive(Debug, Serialize)]
pub struct View<'a> {
    /// The request as described, with defaults filled in.
    pub request: RequestView,
    /// The user; null without a session.
    pub person: Option<PersonView<'a>>,
    /// The application that the request is for.
    pub application: Option<ApplicationView<'a>>,
    /// The decision that the proxy would make.
    pub outcome: Outcome,
    /// The id of the reason why the request is not forwarded.
    pub reason: Option<&'static str>,
    /// The name of the policy that decided.
    pub policy: Option<&'a str>,
    /// `true` if an unknown fact prevented another outcome.
    pub unknown: bool,
    /// The shadow policy that would have decided.
    pub shadow: Option<ShadowView<'a>>,
    /// All policies in the order of evaluation.
    pub policies: Vec<PolicyView<'a>>,
    /// The Access groups that they refer to, each after those that it contains.
    pub groups: Vec<GroupView<'a>>,
}

/// The described request.
#[derive(Debug, Serialize)]
pub struct RequestView {
    /// The URL with scheme, host, path and query.
    pub url: String,
    /// The method in upper case; `GET` by default.
    pub method: String,
    /// The client's IP address, if described.
    pub ip: Option<IpAddr>,
    /// The country, if it is known and a rule depends on it.
    pub country: Option<Country>,
    /// The time, in Unix seconds.
    pub at: u64,
}

/// The user of the request.
#[derive(Debug, Serialize)]
pub struct PersonView<'a> {
    /// The canonical email address, as rules compare it.
    pub email: &'a str,
    /// The id of the identity provider.
    pub idp: &'a str,
    /// The names of all groups; null if they are unknown.
    pub groups: Option<Vec<&'a str>>,
}

/// The application of the request.
#[derive(Debug, Serialize)]
pub struct ApplicationView<'a> {
    /// The application's id in Cloudflare's API.
    pub id: &'a str,
    /// Its name.
    pub name: &'a str,
    /// The host and path pattern that it claims, such as `wiki.example.com/admin`.
    pub domain: String,
    /// The less specific domains that cover the URL, too.
    pub over: Vec<String>,
}

/// The shadow policy that would have decided.
#[derive(Debug, Serialize)]
pub struct ShadowView<'a> {
    /// The name of the policy.
    pub policy: &'a str,
    /// The outcome without its `shadow` flag.
    pub outcome: Outcome,
}

/// One policy.
#[derive(Debug, Serialize)]
pub struct PolicyView<'a> {
    /// Its id, if it has one.
    pub id: Option<&'a str>,
    /// Its name.
    pub name: &'a str,
    /// The effect if it applies: `allow`, `deny`, `non_identity` or `bypass`.
    pub decision: PolicyDecision,
    /// `true` for a shadow policy.
    pub shadow: bool,
    /// `true`, `false`, `unknown`, or `not_evaluated` without a session.
    pub applies: Holds,
    /// `true` if it decided.
    pub decides: bool,
    /// The rules of each clause, in the order of the configuration.
    #[serde(flatten)]
    pub rules: Rules<'a>,
}

/// One Access group.
#[derive(Debug, Serialize)]
pub struct GroupView<'a> {
    /// The id that `group` rules refer to.
    pub id: &'a str,
    /// Its name.
    pub name: &'a str,
    /// `true`, `false` or `unknown`, as for a policy.
    pub applies: Holds,
    /// The rules of each clause, in the order of the configuration.
    #[serde(flatten)]
    pub rules: Rules<'a>,
}

/// The rules of a policy or a group.
#[derive(Debug, Serialize)]
pub struct Rules<'a> {
    /// One of these.
    pub include: Vec<RuleView<'a>>,
    /// And all of these.
    pub require: Vec<RuleView<'a>>,
    /// And none of these.
    pub exclude: Vec<RuleView<'a>>,
}

/// One rule.
#[derive(Debug, Serialize)]
pub struct RuleView<'a> {
    /// The rule in the JSON of Cloudflare Access.
    pub rule: &'a Rule,
    /// `true`, `false`, `unknown` or `not_evaluated`.
    pub holds: Holds,
    /// The facts that it was compared with.
    pub compared: String,
}

/// The result of a rule, policy or group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Holds {
    /// It holds or applies.
    True,
    /// It does not.
    False,
    /// It depends on an unknown fact.
    Unknown,
    /// It was not evaluated, for want of a session.
    NotEvaluated,
}

impl From<Option<Truth>> for Holds {
    fn from(truth: Option<Truth>) -> Self {
        match truth {
            Some(Truth::True) => Self::True,
            Some(Truth::False) => Self::False,
            Some(Truth::Unknown) => Self::Unknown,
            None => Self::NotEvaluated,
        }
    }
}

impl<'a> View<'a> {
    /// Creates the view of an answer.
    pub fn new(world: &'a World, answer: &'a Answer) -> Self {
        let explanation = &answer.explanation;
        let verdict = explanation.verdict;
        let view = View {
            request: RequestView::new(answer),
            person: answer.identity.as_ref().map(PersonView::new),
            application: None,
            outcome: explanation.outcome,
            reason: explanation.reason.map(|reason| reason.id()),
            policy: None,
            unknown: verdict.is_some_and(|verdict| verdict.unknown),
            shadow: None,
            policies: Vec::new(),
            groups: Vec::new(),
        };
        let (Some(application), Some(walk)) = (&explanation.application, &explanation.walk) else {
            return view;
        };
        let policies = &application.settings().policies;
        let name = |index: PolicyIndex| {
            policies
                .get(index.0)
                .map_or("", |policy| policy.name.as_str())
        };
        let decided = verdict
            .and_then(|verdict| verdict.policy)
            .filter(|_| explanation.outcome.is_of_policies());
        let shadow = verdict.and_then(|verdict| verdict.shadow);
        let walked = Walked {
            walk,
            world,
            answer,
        };
        Self {
            application: Some(ApplicationView::new(world, answer, application)),
            policy: decided.map(name),
            shadow: shadow.map(|shadow| ShadowView {
                policy: name(shadow.policy),
                outcome: shadow.decision.into(),
            }),
            policies: in_order(policies)
                .map(|(index, policy)| walked.policy(index, policy, decided))
                .collect(),
            groups: walked.groups(),
            ..view
        }
    }
}

impl RequestView {
    fn new(answer: &Answer) -> Self {
        Self {
            url: answer.url.to_string(),
            method: answer.method.to_string(),
            ip: answer.ip,
            country: answer.country,
            at: answer.at.0,
        }
    }
}

impl<'a> ApplicationView<'a> {
    fn new(world: &World, answer: &Answer, application: &'a Application) -> Self {
        let settings = application.settings();
        Self {
            id: &settings.id,
            name: &settings.name,
            domain: settings.domain.to_string(),
            over: world.less_specific(application, &answer.url),
        }
    }
}

impl<'a> PersonView<'a> {
    fn new(identity: &'a Identity) -> Self {
        let groups = identity
            .groups
            .known()
            .map(|groups| groups.iter().map(|group| group.name.as_str()).collect());
        Self {
            email: identity.email.as_str(),
            idp: &identity.idp.id.0,
            groups,
        }
    }
}

/// The results of all rules, with the facts that they were compared with.
struct Walked<'a> {
    walk: &'a Walk,
    world: &'a World,
    answer: &'a Answer,
}

impl<'a> Walked<'a> {
    fn policy(
        &self,
        index: PolicyIndex,
        policy: &'a Policy,
        decided: Option<PolicyIndex>,
    ) -> PolicyView<'a> {
        let part = Part::Policy(index);
        PolicyView {
            id: policy.id.as_deref(),
            name: &policy.name,
            decision: policy.decision,
            shadow: policy.shadow,
            applies: self.walk.truth(part).into(),
            decides: decided == Some(index),
            rules: Rules {
                include: self.rules(part, Clause::Include, &policy.include),
                require: self.rules(part, Clause::Require, &policy.require),
                exclude: self.rules(part, Clause::Exclude, &policy.exclude),
            },
        }
    }

    fn groups(&self) -> Vec<GroupView<'a>> {
        let groups = &self.world.config.catalog.groups;
        let by_id: HashMap<&str, &'a AccessGroup> = groups
            .iter()
            .map(|group| (group.id.as_str(), group))
            .collect();
        let asked = self.walk.groups();
        let asked = asked.into_iter().filter_map(|id| by_id.get(id));
        asked.map(|group| self.group(group)).collect()
    }

    fn group(&self, group: &'a AccessGroup) -> GroupView<'a> {
        let part = Part::Group(&group.id);
        GroupView {
            id: &group.id,
            name: &group.name,
            applies: self.walk.truth(part).into(),
            rules: Rules {
                include: self.rules(part, Clause::Include, &group.include),
                require: self.rules(part, Clause::Require, &group.require),
                exclude: self.rules(part, Clause::Exclude, &group.exclude),
            },
        }
    }

    fn rules(&self, part: Part<'_>, clause: Clause, rules: &'a [Rule]) -> Vec<RuleView<'a>> {
        let view = |(at, rule): (usize, &'a Rule)| RuleView {
            rule,
            holds: self.walk.rule(part, clause, at).into(),
            compared: compared(rule, self.world, self.answer),
        };
        rules.iter().enumerate().map(view).collect()
    }
}
