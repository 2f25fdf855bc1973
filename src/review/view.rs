use std::collections::HashMap;
use std::net::IpAddr;

use serde::Serialize;

use super::ask::{Answer, World};
use super::compared::compared;
use crate::engine::Outcome;
use crate::model::Identity;
use crate::policy::{
    AccessGroup, Clause, Country, Part, Policy, PolicyDecision, PolicyIndex, Rule, Truth, Verdict,
    Walk,
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
    pub applies: &'static str,
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
    pub applies: &'static str,
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
    pub holds: &'static str,
    /// The facts that it was compared with.
    pub compared: String,
}

impl<'a> View<'a> {
    /// Creates the view of an answer.
    pub fn new(world: &'a World, answer: &'a Answer) -> Self {
        let explanation = &answer.explanation;
        let request = RequestView {
            url: answer.url.to_string(),
            method: answer.method.to_string(),
            ip: answer.ip,
            country: answer.country,
            at: answer.at.0,
        };
        let verdict = explanation.verdict;
        let mut view = View {
            request,
            person: answer.identity.as_ref().map(person),
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
        let decides = view.outcome.is_of_policies();
        let decided = verdict
            .and_then(|verdict| verdict.policy)
            .filter(|_| decides);
        let shadow = verdict.and_then(|Verdict { shadow, .. }| shadow);
        view.policy = decided.map(name);
        view.shadow = shadow.map(|shadow| ShadowView {
            policy: name(shadow.policy),
            outcome: shadow.outcome.into(),
        });
        let settings = application.settings();
        view.application = Some(ApplicationView {
            id: &settings.id,
            name: &settings.name,
            domain: settings.domain.to_string(),
            over: world.less_specific(application, &answer.url),
        });
        let early = |policy: &Policy| {
            matches!(
                policy.decision,
                PolicyDecision::Bypass | PolicyDecision::NonIdentity
            )
        };
        let mut order: Vec<_> = policies.iter().enumerate().collect();
        order.sort_by_key(|(_, policy)| !early(policy));
        for (index, policy) in order {
            let index = PolicyIndex(index);
            let rules = [&policy.include, &policy.require, &policy.exclude];
            view.policies.push(PolicyView {
                id: policy.id.as_deref(),
                name: &policy.name,
                decision: policy.decision,
                shadow: policy.shadow,
                applies: word(walk.truth(Part::Policy(index))),
                decides: decided == Some(index),
                rules: Rules::new(rules, Part::Policy(index), walk, world, answer),
            });
        }
        view.groups = asked_groups(&world.config.catalog.groups, policies)
            .into_iter()
            .map(|group| GroupView {
                id: &group.id,
                name: &group.name,
                applies: word(walk.truth(Part::Group(&group.id))),
                rules: Rules::new(
                    [&group.include, &group.require, &group.exclude],
                    Part::Group(&group.id),
                    walk,
                    world,
                    answer,
                ),
            })
            .collect();
        view
    }
}

impl<'a> Rules<'a> {
    fn new(
        [include, require, exclude]: [&'a Vec<Rule>; 3],
        part: Part<'_>,
        walk: &Walk,
        world: &World,
        answer: &Answer,
    ) -> Self {
        let views = |rules: &'a Vec<Rule>, clause: Clause| {
            let view = |(at, rule): (usize, &'a Rule)| RuleView {
                rule,
                holds: word(walk.rule(part, clause, at)),
                compared: compared(rule, world, answer),
            };
            rules.iter().enumerate().map(view).collect()
        };
        Self {
            include: views(include, Clause::Include),
            require: views(require, Clause::Require),
            exclude: views(exclude, Clause::Exclude),
        }
    }
}

/// The groups that policies ask for, themselves or through others, each after those that it
/// contains.
fn asked_groups<'a>(groups: &'a [AccessGroup], policies: &[Policy]) -> Vec<&'a AccessGroup> {
    let by_id: HashMap<&str, &AccessGroup> = groups
        .iter()
        .map(|group| (group.id.as_str(), group))
        .collect();
    let named = |rules: [&'_ Vec<Rule>; 3]| -> Vec<String> {
        let id = |rule: &Rule| {
            if let Rule::Group { id } = rule {
                Some(id.clone())
            } else {
                None
            }
        };
        rules.into_iter().flatten().filter_map(id).collect()
    };
    let mut pending: Vec<(String, bool)> = Vec::new();
    let children = |pending: &mut Vec<_>, rules| {
        pending.extend(named(rules).into_iter().rev().map(|id| (id, false)))
    };
    for policy in policies.iter().rev() {
        children(
            &mut pending,
            [&policy.include, &policy.require, &policy.exclude],
        );
    }
    let (mut seen, mut ordered) = (HashMap::new(), Vec::new());
    while let Some((id, is_open)) = pending.pop() {
        let Some(group) = by_id.get(id.as_str()) else {
            continue;
        };
        if is_open {
            ordered.push(*group);
        } else if seen.insert(id.clone(), ()).is_none() {
            pending.push((id, true));
            children(
                &mut pending,
                [&group.include, &group.require, &group.exclude],
            );
        }
    }
    ordered
}

fn person(identity: &Identity) -> PersonView<'_> {
    let groups = identity
        .groups
        .known()
        .map(|groups| groups.iter().map(|group| group.name.as_str()).collect());
    PersonView {
        email: identity.email.as_str(),
        idp: &identity.idp.id.0,
        groups,
    }
}

const fn word(truth: Option<Truth>) -> &'static str {
    match truth {
        Some(Truth::True) => "true",
        Some(Truth::False) => "false",
        Some(Truth::Unknown) => "unknown",
        None => "not_evaluated",
    }
}
