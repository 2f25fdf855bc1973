use std::collections::HashMap;

use super::compile::PolicyIndex;
use super::evaluate::{EarlyVerdict, Verdict};
use super::truth::Truth;

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

/// Receives the results of an evaluation. [`Untraced`] compiles to nothing. With any other trace
/// every rule is evaluated, also if it cannot change the outcome any more.
pub(super) trait Trace {
    const ON: bool = true;
    fn rule(&mut self, at: (Subject, Clause), rule: usize, truth: Truth);
    fn whole(&mut self, subject: Subject, truth: Truth);
}

/// Discards the results.
pub(super) struct Untraced;

impl Trace for Untraced {
    const ON: bool = false;
    fn rule(&mut self, _at: (Subject, Clause), _rule: usize, _truth: Truth) {}
    fn whole(&mut self, _subject: Subject, _truth: Truth) {}
}

/// The result of every rule.
#[derive(Debug, Default)]
pub(super) struct Record {
    rules: HashMap<(Subject, Clause, usize), Truth>,
    wholes: HashMap<Subject, Truth>,
}

impl Trace for Record {
    fn rule(&mut self, (subject, clause): (Subject, Clause), rule: usize, truth: Truth) {
        self.rules.insert((subject, clause, rule), truth);
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
    pub(super) first: Record,
    pub(super) rest: Record,
    /// By their ids.
    pub(super) groups: HashMap<String, usize>,
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

    /// Returns the result of a policy or group; `None` if it was not evaluated, for want of a
    /// session.
    pub fn truth(&self, part: Part<'_>) -> Option<Truth> {
        let subject = self.subject(part)?;
        self.records()
            .find_map(|record| record.wholes.get(&subject))
            .copied()
    }

    /// Returns the result of a rule, given by its index in a clause.
    pub fn rule(&self, part: Part<'_>, clause: Clause, rule: usize) -> Option<Truth> {
        let subject = self.subject(part)?;
        self.records()
            .find_map(|record| record.rules.get(&(subject, clause, rule)))
            .copied()
    }

    /// Returns both records, the later first: a group that both evaluated was known only in the
    /// second.
    fn records(&self) -> impl Iterator<Item = &Record> {
        [&self.rest, &self.first].into_iter()
    }

    fn subject(&self, part: Part<'_>) -> Option<Subject> {
        Some(match part {
            Part::Policy(index) => Subject::Policy(index),
            Part::Group(id) => Subject::Group(*self.groups.get(id)?),
        })
    }
}
