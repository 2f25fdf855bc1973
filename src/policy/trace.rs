use std::collections::HashMap;

use super::truth::Truth;

/// What a rule belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Subject {
    /// The policy at that place of the application's list.
    Policy(usize),
    /// The Access group of that number.
    Group(usize),
}

/// Which list a rule is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum ClauseKind {
    Include,
    Require,
    Exclude,
}

/// Looks on while policies are evaluated. With [`Untraced`] nothing of it is left after compilation; while anything else looks
/// on, every rule is asked, also those whose answer makes no difference any more.
pub(super) trait Trace {
    const ON: bool = true;
    fn rule(&mut self, at: (Subject, ClauseKind), rule: usize, truth: Truth);
    fn whole(&mut self, subject: Subject, truth: Truth);
}

/// Nobody looks on.
pub(super) struct Untraced;

impl Trace for Untraced {
    const ON: bool = false;
    fn rule(&mut self, _at: (Subject, ClauseKind), _rule: usize, _truth: Truth) {}
    fn whole(&mut self, _subject: Subject, _truth: Truth) {}
}

/// Every rule with what it came to.
#[derive(Debug, Default)]
pub(super) struct Record {
    rules: HashMap<(Subject, ClauseKind, usize), Truth>,
    wholes: HashMap<Subject, Truth>,
}

impl Trace for Record {
    fn rule(&mut self, (subject, clause): (Subject, ClauseKind), rule: usize, truth: Truth) {
        self.rules.insert((subject, clause, rule), truth);
    }

    fn whole(&mut self, subject: Subject, truth: Truth) {
        self.wholes.insert(subject, truth);
    }
}
