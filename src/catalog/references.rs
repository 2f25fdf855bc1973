//! References between objects, for use counts.

use super::{Application, ApplicationPolicy, Kind, Object};
use crate::policy::Rule;

/// A reference: the kind and the id of an object.
type Reference<'c> = (Kind, &'c str);

impl<'c> Object<'c> {
    /// Returns the objects that this one refers to itself, each once.
    pub fn references(self) -> Vec<Reference<'c>> {
        let mut found = match self {
            Self::Application(application) => of_application(application),
            Self::Policy(policy) => {
                of_rules([&policy.include, &policy.require, &policy.exclude]).collect()
            }
            Self::Group(group) => {
                of_rules([&group.include, &group.require, &group.exclude]).collect()
            }
            Self::IdentityProvider(_)
            | Self::List(_)
            | Self::ServiceToken(_)
            | Self::Certificate(_) => Vec::new(),
        };
        let mut seen = std::collections::HashSet::new();
        found.retain(|reference| seen.insert(*reference));
        found
    }
}

fn of_application(application: &Application) -> Vec<Reference<'_>> {
    let providers = application.allowed_idps.iter();
    let mut found: Vec<_> = providers
        .map(|id| (Kind::IdentityProvider, &*id.0))
        .collect();
    for entry in &application.policies {
        match entry {
            ApplicationPolicy::Own(policy) => {
                found.extend(of_rules([
                    &policy.include,
                    &policy.require,
                    &policy.exclude,
                ]));
            }
            ApplicationPolicy::Shared(id) => found.push((Kind::Policy, id)),
        }
    }
    found
}

fn of_rules<'c>(clauses: [&'c Vec<Rule>; 3]) -> impl Iterator<Item = Reference<'c>> {
    clauses.into_iter().flatten().filter_map(of_rule)
}

fn of_rule(rule: &Rule) -> Option<Reference<'_>> {
    Some(match rule {
        Rule::Group { id } => (Kind::Group, id),
        Rule::EmailList { id } | Rule::IpList { id } => (Kind::List, id),
        Rule::ServiceToken { token_id } => (Kind::ServiceToken, token_id),
        Rule::LinkedAppToken { app_uid } => (Kind::Application, app_uid),
        Rule::LoginMethod { id }
        | Rule::Okta {
            identity_provider_id: id,
            ..
        }
        | Rule::Saml {
            identity_provider_id: id,
            ..
        }
        | Rule::Oidc {
            identity_provider_id: id,
            ..
        }
        | Rule::AzureAd {
            identity_provider_id: id,
            ..
        }
        | Rule::GithubOrganization {
            identity_provider_id: id,
            ..
        }
        | Rule::Gsuite {
            identity_provider_id: id,
            ..
        }
        | Rule::AuthContext {
            identity_provider_id: id,
            ..
        } => (Kind::IdentityProvider, &id.0),
        Rule::Email { .. }
        | Rule::EmailDomain { .. }
        | Rule::Everyone {}
        | Rule::Ip { .. }
        | Rule::Geo { .. }
        | Rule::AuthMethod { .. }
        | Rule::Certificate {}
        | Rule::CommonName { .. }
        | Rule::AnyValidServiceToken {}
        | Rule::ExternalEvaluation { .. }
        | Rule::DevicePosture { .. }
        | Rule::UserRiskScore { .. }
        | Rule::CloudflareAccountMember { .. }
        | Rule::PortcullisMethod { .. }
        | Rule::PortcullisTime(_) => return None,
    })
}
