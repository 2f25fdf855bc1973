use std::sync::Arc;
use std::time::Duration;

use http::Method;

use super::nets::Nets;
use super::order::PolicyIndex;
use super::partial::PartialVerdict;
use super::questions::{Question, Questions};
use super::rule::PolicyDecision;
use super::values::{Country, TimeWindow};
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
    pub(super) const fn cost(&self) -> u8 {
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
pub(super) struct CompiledClause {
    pub(super) user: Box<[CompiledRule]>,
    pub(super) request: Box<[CompiledRule]>,
}

/// `include`, `require` and `exclude`, compiled.
#[derive(Debug, Default)]
pub(super) struct CompiledClauses {
    pub(super) include: CompiledClause,
    pub(super) require: CompiledClause,
    pub(super) exclude: CompiledClause,
}

impl CompiledClauses {
    /// Returns `true` if the clauses depend on the request.
    pub(super) fn ask_requests(&self) -> bool {
        [&self.include, &self.require, &self.exclude]
            .iter()
            .any(|clause| !clause.request.is_empty())
    }

    fn tests(&self) -> impl Iterator<Item = &CompiledRule> {
        [&self.include, &self.require, &self.exclude]
            .into_iter()
            .flat_map(|clause| clause.user.iter().chain(&clause.request))
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

#[derive(Debug)]
pub(super) struct CompiledPolicy {
    pub(super) decision: PolicyDecision,
    pub(super) shadow: bool,
    pub(super) index: PolicyIndex,
    pub(super) clauses: CompiledClauses,
}

/// The parts that all policies of a snapshot share: the Access groups and the questions about
/// users.
#[derive(Debug, Default)]
pub struct PolicySet {
    pub(super) groups: Box<[CompiledClauses]>,
    pub(super) group_ids: Box<[Box<str>]>,
    pub(super) questions: Questions,
}

/// One application's policies. Evaluated together with the [`PolicySet`] that made them.
#[derive(Debug)]
pub struct Policies {
    /// Bypass and Service Auth, in the configured order; they come first (`docs/wire.md` 9).
    pub(super) first: Box<[CompiledPolicy]>,
    /// Allow and deny.
    pub(super) rest: Box<[CompiledPolicy]>,
    /// The groups that the policies refer to, also through others; each comes after those that it
    /// contains.
    pub(super) groups: Box<[usize]>,
    /// The partial verdict of `first` for an unknown user.
    pub(super) unknown_user: PartialVerdict,
    pub(super) names: Box<[(Box<str>, Option<Duration>)]>,
}

impl PolicySet {
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
