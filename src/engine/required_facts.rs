use std::collections::{HashMap, HashSet};

use super::ApplicationSettings;
use crate::model::{IdpId, is_groups};
use crate::policy::{AccessGroup, Policy, PolicyDecision, Rule};
use crate::session::ApplicationIndex;

/// The optional facts that an application's policies depend on. Others are not computed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct RequiredFacts {
    /// `true` if a policy depends on a client certificate.
    pub(super) certificate: bool,
    /// `true` if a Service Auth policy does.
    pub(super) certificate_of_service_clients: bool,
    /// The linked applications: the policies accept their tokens.
    pub(super) linked: Box<[ApplicationIndex]>,
    /// The providers with groups that the policies depend on.
    pub(super) groups: HashSet<IdpId>,
    /// `true` if a policy, or one of a linked application, depends on the method.
    pub(super) method: bool,
    /// `true` if only service clients can be admitted: there is a policy for them, and none for
    /// users.
    pub(super) only_service_clients: bool,
}

impl RequiredFacts {
    /// Returns the facts of each application, in their order. Each group is read once per
    /// application, however groups are nested.
    pub(super) fn for_applications(
        applications: &[ApplicationSettings],
        groups: &[AccessGroup],
    ) -> Vec<Self> {
        let groups: HashMap<&str, &AccessGroup> = groups
            .iter()
            .map(|group| (group.id.as_str(), group))
            .collect();
        let indices: HashMap<&str, ApplicationIndex> = applications
            .iter()
            .enumerate()
            .map(|(index, a)| (a.id.as_str(), ApplicationIndex(index)))
            .collect();
        let mut asks: Vec<Self> = applications
            .iter()
            .map(|application| one(application, &groups, &indices))
            .collect();
        // The policies of a linked application are evaluated with the method of the request.
        let own: Vec<bool> = asks.iter().map(|asks| asks.method).collect();
        for asks in &mut asks {
            asks.method |= asks
                .linked
                .iter()
                .any(|index| own.get(index.0) == Some(&true));
        }
        asks
    }
}

fn one(
    application: &ApplicationSettings,
    groups: &HashMap<&str, &AccessGroup>,
    indices: &HashMap<&str, ApplicationIndex>,
) -> RequiredFacts {
    let mut asks = RequiredFacts::default();
    let mut linked = Vec::new();
    for policy in &application.policies {
        for rule in all_rules(policy, groups) {
            match rule {
                Rule::Certificate {} | Rule::CommonName { .. } => {
                    asks.certificate = true;
                    asks.certificate_of_service_clients |=
                        policy.decision == PolicyDecision::ServiceAuth;
                }
                Rule::Okta {
                    identity_provider_id,
                    ..
                } => {
                    asks.groups.insert(identity_provider_id.clone());
                }
                Rule::Oidc {
                    claim_name: name,
                    identity_provider_id,
                    ..
                }
                | Rule::Saml {
                    attribute_name: name,
                    identity_provider_id,
                    ..
                } if is_groups(name) => {
                    asks.groups.insert(identity_provider_id.clone());
                }
                Rule::PortcullisMethod { .. } => asks.method = true,
                Rule::LinkedAppToken { app_uid } => {
                    linked.extend(indices.get(app_uid.as_str()).copied())
                }
                _ => {}
            }
        }
    }
    linked.sort_unstable_by_key(|index: &ApplicationIndex| index.0);
    linked.dedup();
    let is_enforced = |decision| {
        let mut policies = application.policies.iter();
        policies.any(|policy| policy.decision == decision && !policy.shadow)
    };
    RequiredFacts {
        linked: linked.into(),
        only_service_clients: is_enforced(PolicyDecision::ServiceAuth)
            && !is_enforced(PolicyDecision::Allow),
        ..asks
    }
}

/// Returns the rules of a policy, and those of the groups that it refers to, also through others.
fn all_rules<'a>(policy: &'a Policy, groups: &HashMap<&str, &'a AccessGroup>) -> Vec<&'a Rule> {
    let mut rules: Vec<&Rule> = Vec::new();
    let mut pending = vec![&policy.include, &policy.require, &policy.exclude];
    let mut seen = HashSet::new();
    while let Some(clause) = pending.pop() {
        for rule in clause {
            rules.push(rule);
            if let Rule::Group { id } = rule
                && seen.insert(id.as_str())
                && let Some(group) = groups.get(id.as_str())
            {
                pending.extend([&group.include, &group.require, &group.exclude]);
            }
        }
    }
    rules
}
