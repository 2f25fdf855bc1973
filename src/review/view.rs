use std::collections::HashMap;
use std::net::IpAddr;

use serde::Serialize;

use super::ask::{Answer, World};
use super::compared::compared;
use crate::model::Identity;
use crate::policy::{
    AccessGroup, Clause, Country, Part, Policy, PolicyDecision, Rule, Truth, Verdict, Walk,
};

/// An answer for people and tools: the decision, and the walk to it.
#[derive(Debug, Serialize)]
pub struct View<'a> {
    /// The request.
    pub request: RequestView,
    /// Who asked; null for nobody who is known.
    pub person: Option<PersonView<'a>>,
    /// The application that the request is for.
    pub application: Option<ApplicationView<'a>>,
    /// `allow`, `non_identity`, `bypass`, `deny`, `log_in`, `handle`, `refuse` or `unavailable`.
    pub outcome: &'static str,
    /// The id of the reason, where the request is not forwarded.
    pub reason: Option<&'static str>,
    /// The name of the policy that decided.
    pub policy: Option<&'a str>,
    /// Whether something unknown stood in the way of another outcome.
    pub unknown: bool,
    /// The shadow policy that would have decided, and how.
    pub shadow: Option<ShadowView<'a>>,
    /// All policies in the order in which they are asked.
    pub policies: Vec<PolicyView<'a>>,
    /// The Access groups that they ask for, each after those that it contains.
    pub groups: Vec<GroupView<'a>>,
}

/// The request that was asked about.
#[derive(Debug, Serialize)]
pub struct RequestView {
    /// The whole URL.
    pub url: String,
    /// The method.
    pub method: String,
    /// Where it came from, where that was said.
    pub ip: Option<IpAddr>,
    /// The country, where it is known and was asked for.
    pub country: Option<Country>,
    /// When, in Unix seconds.
    pub at: u64,
}

/// The person who asked.
#[derive(Debug, Serialize)]
pub struct PersonView<'a> {
    /// The canonical address.
    pub email: &'a str,
    /// The id of the identity provider.
    pub idp: &'a str,
    /// The names of all groups; null where they are not known.
    pub groups: Option<Vec<&'a str>>,
}

/// Whose policies were asked.
#[derive(Debug, Serialize)]
pub struct ApplicationView<'a> {
    /// Its id.
    pub id: &'a str,
    /// For people.
    pub name: &'a str,
    /// Where it is.
    pub domain: String,
    /// The less specific ones that cover the place too.
    pub over: Vec<String>,
}

/// The shadow policy that would have decided.
#[derive(Debug, Serialize)]
pub struct ShadowView<'a> {
    /// Its name.
    pub policy: &'a str,
    /// What it would have done.
    pub outcome: &'static str,
}

/// One policy.
#[derive(Debug, Serialize)]
pub struct PolicyView<'a> {
    /// Its id, where it has one.
    pub id: Option<&'a str>,
    /// Its name.
    pub name: &'a str,
    /// What it does with those whom it applies to.
    pub decision: PolicyDecision,
    /// Whether it only tells.
    pub shadow: bool,
    /// `true`, `false`, `unknown`, or `not asked`, where nobody has logged in.
    pub applies: &'static str,
    /// Whether it decided.
    pub decides: bool,
    /// Its rules.
    #[serde(flatten)]
    pub rules: Rules<'a>,
}

/// One Access group.
#[derive(Debug, Serialize)]
pub struct GroupView<'a> {
    /// Its id.
    pub id: &'a str,
    /// For people.
    pub name: &'a str,
    /// As for a policy.
    pub applies: &'static str,
    /// Its rules.
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
    /// As it is written.
    pub rule: &'a Rule,
    /// `true`, `false`, `unknown` or `not asked`.
    pub holds: &'static str,
    /// What it was compared with.
    pub compared: String,
}

impl<'a> View<'a> {
    /// Puts an answer of that configuration into words.
    pub fn new(world: &'a World, answer: &'a Answer) -> Self {
        let explanation = &answer.explanation;
        let request = RequestView {
            url: answer.url.to_string(),
            method: answer.method.to_string(),
            ip: answer.ip,
            country: answer.country,
            at: answer.at.0,
        };
        let verdict = explanation.walk.as_ref().and_then(|walk| walk.verdict);
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
        let name = |place: usize| {
            policies
                .get(place)
                .map_or("", |policy| policy.name.as_str())
        };
        let decides = matches!(view.outcome, "allow" | "non_identity" | "bypass" | "deny");
        let decided = verdict
            .and_then(|verdict| verdict.policy)
            .filter(|_| decides);
        let shadow = verdict.and_then(|Verdict { shadow, .. }| shadow);
        view.policy = decided.map(name);
        view.shadow = shadow.map(|(place, outcome)| ShadowView {
            policy: name(place),
            outcome: outcome.as_str(),
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
        for (place, policy) in order {
            let rules = [&policy.include, &policy.require, &policy.exclude];
            view.policies.push(PolicyView {
                id: policy.id.as_deref(),
                name: &policy.name,
                decision: policy.decision,
                shadow: policy.shadow,
                applies: word(walk.truth(Part::Policy(place))),
                decides: decided == Some(place),
                rules: Rules::new(rules, Part::Policy(place), walk, world, answer),
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
        None => "not asked",
    }
}
