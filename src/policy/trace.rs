use std::collections::HashMap;

use super::order::PolicyIndex;
use super::truth::Truth;
use super::verdict::{EarlyVerdict, Verdict};

/// The owner of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Subject {
    /// A policy of the application.
    Policy(PolicyIndex),
    /// The Access group of that number.
    Group(usize),
}

/// The list of a policy or a group that a rule is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Clause {
    /// One of these must hold.
    Include,
    /// All of these must hold.
    Require,
    /// None of these may hold.
    Exclude,
}

/// A clause of one policy or group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct ClauseOf {
    pub(super) subject: Subject,
    pub(super) clause: Clause,
}

/// Receives the results of an evaluation. [`Untraced`] compiles to nothing. With any other trace
/// every rule is evaluated, also if it cannot change the outcome any more.
pub(super) trait Trace {
    const ON: bool = true;
    /// Receives the result of a rule, given by its index in the clause.
    fn rule(&mut self, at: ClauseOf, rule: usize, truth: Truth);
    /// Receives the result of a policy or group.
    fn whole(&mut self, subject: Subject, truth: Truth);
}

/// Discards the results.
pub(super) struct Untraced;

impl Trace for Untraced {
    const ON: bool = false;
    fn rule(&mut self, _at: ClauseOf, _rule: usize, _truth: Truth) {}
    fn whole(&mut self, _subject: Subject, _truth: Truth) {}
}

/// The last result of every rule.
#[derive(Debug, Default)]
pub(super) struct Record {
    rules: HashMap<(ClauseOf, usize), Truth>,
    wholes: HashMap<Subject, Truth>,
}

impl Trace for Record {
    fn rule(&mut self, at: ClauseOf, rule: usize, truth: Truth) {
        self.rules.insert((at, rule), truth);
    }

    fn whole(&mut self, subject: Subject, truth: Truth) {
        self.wholes.insert(subject, truth);
    }
}

/// A verdict with the result of every rule, policy and Access group.
#[derive(Debug)]
pub struct Walk {
    /// The verdict of the bypass and Service Auth policies.
    pub early: EarlyVerdict,
    /// The verdict of the allow and deny policies; `None` without a session.
    pub later: Option<Verdict>,
    pub(super) record: Record,
    /// The numbers of the groups, by their ids.
    pub(super) groups: HashMap<Box<str>, usize>,
}

/// The owner of a rule, by its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// A policy of the application.
    Policy(PolicyIndex),
    /// The Access group with that id.
    Group(&'a str),
}

impl Walk {
    /// Returns the verdict; `None` if it depends on who logs in.
    pub fn verdict(&self) -> Option<Verdict> {
        match self.later {
            Some(later) => Some(self.early.or_else(|| later)),
            None => self.early.verdict,
        }
    }

    /// Returns the ids of the groups that the policies refer to, also through others. Each comes
    /// after those that it contains.
    pub fn groups(&self) -> Vec<&str> {
        let mut groups: Vec<(usize, &str)> = self
            .groups
            .iter()
            .map(|(id, number)| (*number, &**id))
            .collect();
        groups.sort_unstable();
        groups.into_iter().map(|(_, id)| id).collect()
    }

    /// Returns the result of a policy or group; `None` if it was not evaluated, for want of a
    /// session.
    pub fn truth(&self, part: Part<'_>) -> Option<Truth> {
        self.record.wholes.get(&self.subject(part)?).copied()
    }

    /// Returns the result of a rule, given by its index in a clause.
    pub fn rule(&self, part: Part<'_>, clause: Clause, rule: usize) -> Option<Truth> {
        let subject = self.subject(part)?;
        let at = ClauseOf { subject, clause };
        self.record.rules.get(&(at, rule)).copied()
    }

    fn subject(&self, part: Part<'_>) -> Option<Subject> {
        Some(match part {
            Part::Policy(index) => Subject::Policy(index),
            Part::Group(id) => Subject::Group(*self.groups.get(id)?),
        })
    }
}
