use std::collections::HashMap;

use super::compile::PolicyIndex;
use super::evaluate::{EarlyVerdict, Verdict};
use super::truth::Truth;

/// What a rule belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Subject {
    /// A policy of the application.
    Policy(PolicyIndex),
    /// The Access group of that number.
    Group(usize),
}

/// Which list a rule is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Clause {
    /// One of these must hold.
    Include,
    /// All of these must hold.
    Require,
    /// None of these may hold.
    Exclude,
}

/// Looks on while policies are evaluated. With [`Untraced`] nothing of it is left after
/// compilation; while anything else looks on, every rule is asked, also those whose answer makes no
/// difference any more.
pub(super) trait Trace {
    const ON: bool = true;
    fn rule(&mut self, at: (Subject, Clause), rule: usize, truth: Truth);
    fn whole(&mut self, subject: Subject, truth: Truth);
}

/// Nobody looks on.
pub(super) struct Untraced;

impl Trace for Untraced {
    const ON: bool = false;
    fn rule(&mut self, _at: (Subject, Clause), _rule: usize, _truth: Truth) {}
    fn whole(&mut self, _subject: Subject, _truth: Truth) {}
}

/// Every rule with what it came to.
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

/// The way to a verdict: what every rule, policy and Access group came to.
#[derive(Debug)]
pub struct Walk {
    /// The verdict of the bypass and Service Auth policies.
    pub early: EarlyVerdict,
    /// The verdict of the allow and deny policies; `None` if nobody has logged in.
    pub later: Option<Verdict>,
    pub(super) first: Record,
    pub(super) rest: Record,
    /// By their ids.
    pub(super) groups: HashMap<String, usize>,
}

/// What rules belong to, as it is written.
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

    /// What a policy or group came to; `None` where it was not asked, because nobody has logged in.
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

    /// Groups may have been asked twice; what is known of the person is in the second.
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
