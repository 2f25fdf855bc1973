use std::collections::HashMap;
use std::hash::Hash;

use foldhash::quality::RandomState;
use serde_json::Value;

use super::reach::evaluation_key;
use super::rule::{List, ListItems, Rule};
use super::truth::{Bits, Truth};
use crate::model::{Email, EmailDomain, Group, Groups, Identity, IdpId};

type Map<K, V> = HashMap<K, V, RandomState>;
/// The numbers of a claim's values.
type Values = Map<Box<str>, u32>;

/// The questions of a snapshot's rules about users, numbered, so that a session answers each once.
///
/// Each number belongs to a family of facts that are known or unknown together.
#[derive(Debug, Default)]
pub(super) struct Questions {
    /// The family of each question.
    families: Vec<u32>,
    /// The number of each family.
    known: Map<Family, u32>,
    emails: Map<Box<str>, u32>,
    domains: Map<Box<str>, u32>,
    /// The lists that each address is on.
    listed: Map<Box<str>, Vec<u32>>,
    lists: Map<Box<str>, u32>,
    providers: Map<IdpId, u32>,
    groups: Map<IdpId, Map<Box<str>, u32>>,
    claims: Map<IdpId, Map<Box<str>, Values>>,
    methods: Map<Box<str>, u32>,
    evaluations: Map<Box<str>, u32>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Family {
    Email,
    Provider,
    Groups(IdpId),
    Claims(IdpId, Box<str>),
    Methods,
    Evaluation(Box<str>),
}

/// The answers of one user to a snapshot's questions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserFacts {
    holds: Bits,
    /// Families of unknown facts.
    unknown: Bits,
}

/// A question about users: its number, and the number of its family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Question {
    number: u32,
    family: u32,
}

impl UserFacts {
    pub(super) fn answer(&self, question: Question) -> Truth {
        if self.holds.contains(question.number) {
            Truth::True
        } else if self.unknown.contains(question.family) {
            Truth::Unknown
        } else {
            Truth::False
        }
    }
}

/// The sender of a request.
#[derive(Clone, Copy, Debug)]
pub enum Requester<'a> {
    /// Not yet known.
    Unknown,
    /// A user with a session.
    User {
        /// The canonical address.
        email: &'a Email,
        /// The identity record; `None` if it could not be fetched.
        identity: Option<&'a Identity>,
    },
}

impl Questions {
    /// Returns the question of a rule about users; `None` for other rules.
    pub(super) fn question(&mut self, rule: &Rule, lists: &[List]) -> Option<Question> {
        Some(match rule {
            Rule::Email { email } => self.email(email),
            Rule::EmailDomain { domain } => self.email_domain(domain),
            Rule::EmailList { id } => self.email_list(id, lists),
            Rule::LoginMethod { id } => self.numbered(
                Family::Provider,
                |questions| &mut questions.providers,
                id.clone(),
            ),
            Rule::Okta {
                name,
                identity_provider_id: idp,
            } => self.numbered(
                Family::Groups(idp.clone()),
                |questions| questions.groups.entry(idp.clone()).or_default(),
                name.as_str().into(),
            ),
            Rule::Oidc {
                claim_name: name,
                claim_value: value,
                identity_provider_id: idp,
            }
            | Rule::Saml {
                attribute_name: name,
                attribute_value: value,
                identity_provider_id: idp,
            } => self.claim(idp, name, value),
            Rule::AuthMethod { auth_method } => self.numbered(
                Family::Methods,
                |questions| &mut questions.methods,
                auth_method.as_str().into(),
            ),
            Rule::ExternalEvaluation {
                evaluate_url,
                keys_url,
            } => self.evaluation(evaluate_url, keys_url),
            Rule::Everyone {}
            | Rule::Group { .. }
            | Rule::Ip { .. }
            | Rule::IpList { .. }
            | Rule::Geo { .. }
            | Rule::Certificate {}
            | Rule::CommonName { .. }
            | Rule::ServiceToken { .. }
            | Rule::AnyValidServiceToken {}
            | Rule::LinkedAppToken { .. }
            | Rule::PortcullisMethod { .. }
            | Rule::PortcullisTime(_)
            | Rule::AzureAd { .. }
            | Rule::GithubOrganization { .. }
            | Rule::Gsuite { .. }
            | Rule::AuthContext { .. }
            | Rule::DevicePosture { .. }
            | Rule::UserRiskScore { .. }
            | Rule::CloudflareAccountMember { .. } => return None,
        })
    }

    /// A malformed email address matches no user. The configuration check reports it.
    fn email(&mut self, email: &str) -> Question {
        let email = Email::parse(email).map_or(email.into(), |email| email.as_str().into());
        self.numbered(Family::Email, |questions| &mut questions.emails, email)
    }

    fn email_domain(&mut self, domain: &str) -> Question {
        let domain =
            EmailDomain::parse(domain).map_or(domain.into(), |domain| domain.as_str().into());
        self.numbered(Family::Email, |questions| &mut questions.domains, domain)
    }

    fn email_list(&mut self, id: &str, lists: &[List]) -> Question {
        let is_new = !self.lists.contains_key(id);
        let question = self.numbered(Family::Email, |questions| &mut questions.lists, id.into());
        let list = lists.iter().find(|list| list.id == *id);
        if let Some(ListItems::Email(emails)) = list.map(|list| &list.items)
            && is_new
        {
            let emails = emails.iter().map(|item| Email::parse(&item.value));
            for email in emails.filter_map(Result::ok) {
                let listed = self.listed.entry(email.as_str().into());
                listed.or_default().push(question.number);
            }
        }
        question
    }

    fn claim(&mut self, idp: &IdpId, name: &str, value: &str) -> Question {
        self.numbered(
            Family::Claims(idp.clone(), name.into()),
            |questions| {
                let claims = questions.claims.entry(idp.clone()).or_default();
                claims.entry(name.into()).or_default()
            },
            value.into(),
        )
    }

    fn evaluation(&mut self, evaluate_url: &str, keys_url: &str) -> Question {
        let key: Box<str> = evaluation_key(evaluate_url, keys_url).into();
        self.numbered(
            Family::Evaluation(key.clone()),
            |questions| &mut questions.evaluations,
            key,
        )
    }

    /// Returns the groups of a provider that rules name, sorted.
    pub(super) fn groups(&self, idp: &IdpId) -> Vec<&str> {
        let mut names: Vec<&str> = self
            .groups
            .get(idp)
            .into_iter()
            .flat_map(|questions| questions.keys().map(|n| &**n))
            .collect();
        names.sort_unstable();
        names
    }

    fn numbered<K: Eq + Hash>(
        &mut self,
        family: Family,
        map: impl Fn(&mut Self) -> &mut Map<K, u32>,
        key: K,
    ) -> Question {
        let number = match map(self).get(&key) {
            Some(number) => *number,
            None => {
                let number = self.next(family);
                map(self).insert(key, number);
                number
            }
        };
        self.question_at(number)
    }

    fn next(&mut self, family: Family) -> u32 {
        let families = u32::try_from(self.known.len()).unwrap_or(u32::MAX);
        let family = *self.known.entry(family).or_insert(families);
        self.families.push(family);
        u32::try_from(self.families.len() - 1).unwrap_or(u32::MAX)
    }

    fn question_at(&self, number: u32) -> Question {
        Question {
            number,
            family: self
                .families
                .get(number as usize)
                .copied()
                .unwrap_or(u32::MAX),
        }
    }

    /// Answers all questions for a user. The cost grows with the user's facts, not with the number
    /// of questions.
    pub(super) fn user_facts(&self, who: Requester<'_>) -> UserFacts {
        let mut person = UserFacts {
            holds: Bits::new(self.families.len()),
            unknown: Bits::new(self.known.len()),
        };
        let (email, identity) = match who {
            Requester::Unknown => (None, None),
            Requester::User { email, identity } => (Some(email), identity),
        };
        for (family, number) in &self.known {
            if !is_known(family, email, identity) {
                person.unknown.insert(*number);
            }
        }
        let mut hold = |number: Option<&u32>| {
            number
                .into_iter()
                .for_each(|number| person.holds.insert(*number))
        };
        if let Some(email) = email {
            hold(self.emails.get(email.as_str()));
            hold(self.domains.get(email.domain()));
            self.listed
                .get(email.as_str())
                .into_iter()
                .flatten()
                .for_each(|number| hold(Some(number)));
        }
        let Some(Identity {
            idp,
            groups,
            claims,
            amr,
            evaluations,
            ..
        }) = identity
        else {
            return person;
        };
        hold(self.providers.get(&idp.id));
        if let (Groups::Known(groups), Some(names)) = (groups, self.groups.get(&idp.id)) {
            groups
                .iter()
                .for_each(|Group { name, .. }| hold(names.get(name.as_str())));
        }
        for (name, values) in self.claims.get(&idp.id).into_iter().flatten() {
            for_each_text(claims.get(&**name), |text| hold(values.get(text)));
        }
        amr.iter()
            .flatten()
            .for_each(|method| hold(self.methods.get(method.as_str())));
        for (key, holds) in evaluations {
            if *holds {
                hold(self.evaluations.get(key.as_str()));
            }
        }
        person
    }
}

fn is_known(family: &Family, email: Option<&Email>, identity: Option<&Identity>) -> bool {
    match (family, identity) {
        (Family::Email, _) => email.is_some(),
        (_, None) => false,
        (Family::Provider, Some(_)) => true,
        // Another provider's groups are not this one's, whatever their names, and known not to be.
        (Family::Groups(idp), Some(identity)) => {
            identity.idp.id != *idp || identity.groups != Groups::Unknown
        }
        // Requested claims are present. One is null if the provider's answer is complete and omits
        // it.
        (Family::Claims(idp, name), Some(identity)) => {
            identity.idp.id != *idp || identity.claims.get(&**name).is_some_and(is_comparable)
        }
        (Family::Methods, Some(identity)) => identity.amr.is_some(),
        (Family::Evaluation(key), Some(identity)) => identity.evaluations.contains_key(&**key),
    }
}

/// Returns `true` if rules can compare the value of a claim: null, a scalar, a list of scalars, or
/// an object of names. Rules about any other value are unknown.
pub fn is_comparable(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
        Value::Array(values) => values
            .iter()
            .all(|value| matches!(value, Value::Bool(_) | Value::Number(_) | Value::String(_))),
        Value::Object(names) => names.values().all(is_granted),
    }
}

/// Returns `true` for the value of a key that is a name: a detail, such as the organisations that a
/// role was granted in. Without any it may not be granted.
fn is_granted(detail: &Value) -> bool {
    detail.as_object().is_some_and(|detail| !detail.is_empty())
}

/// Yields the values of a claim for comparison: texts unchanged, numbers and booleans as in JSON,
/// each value of a list, and the keys of an object. Values that can be compared count even if
/// others cannot.
fn for_each_text(value: Option<&Value>, mut each: impl FnMut(&str)) {
    let mut one = |value: &Value| match value {
        Value::String(text) => each(text),
        Value::Number(_) | Value::Bool(_) => each(&value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => {}
    };
    match value {
        Some(Value::Array(values)) => values.iter().for_each(one),
        Some(Value::Object(names)) => names
            .iter()
            .filter(|(_, detail)| is_granted(detail))
            .for_each(|(name, _)| each(name)),
        Some(value) => one(value),
        None => {}
    }
}
