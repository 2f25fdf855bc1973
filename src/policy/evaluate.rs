//! One evaluation for requests and for explanations: they differ in the [`Trace`] alone.

use smallvec::SmallVec;

use super::compiled::{
    CompiledClause, CompiledClauses, CompiledPolicy, CompiledRule, Condition, Policies, PolicySet,
};
use super::facts::Facts;
use super::partial::{PartialVerdict, UserPart};
use super::questions::{Requester, UserFacts};
use super::rule::PolicyDecision;
use super::trace::{Clause, ClauseOf, Record, Subject, Trace, Untraced, Walk};
use super::truth::{Bits, Truth};
use super::verdict::{EarlyVerdict, ShadowVerdict, Verdict};

impl PolicySet {
    /// Returns the answers to all questions of this snapshot's rules about a user.
    pub fn user_facts(&self, who: Requester<'_>) -> UserFacts {
        self.questions.user_facts(who)
    }

    /// Evaluates the rules about the user in an application's allow and deny policies.
    ///
    /// A policy that is false while a fact is unknown stays false when the fact is known, so it can
    /// be left out.
    pub fn partial_verdict(&self, policies: &Policies, user: &UserFacts) -> PartialVerdict {
        self.user_half(&policies.rest, &policies.groups, user, &mut Untraced)
    }

    /// Returns the verdict of the first bypass or Service Auth policy that applies. Neither may
    /// depend on the user, so the user is unknown here.
    pub fn early_verdict(&self, policies: &Policies, facts: &Facts<'_>) -> EarlyVerdict {
        if policies.first.is_empty() {
            return EarlyVerdict {
                verdict: None,
                shadow: None,
            };
        }
        self.request_half(
            &policies.first,
            &policies.unknown_user,
            facts,
            &mut Untraced,
        )
        .into()
    }

    /// Returns the verdict of the first allow or deny policy that applies; deny if none does
    /// (`docs/wire.md` 9).
    ///
    /// An allow applies if its clauses are true. A deny applies unless they are false.
    pub fn evaluate(
        &self,
        policies: &Policies,
        partial: &PartialVerdict,
        facts: &Facts<'_>,
    ) -> Verdict {
        self.request_half(&policies.rest, partial, facts, &mut Untraced)
    }

    /// Returns the verdict of all policies about a user without a partial verdict: bypass and
    /// Service Auth, then the rest.
    pub fn verdict(&self, policies: &Policies, user: Requester<'_>, facts: &Facts<'_>) -> Verdict {
        self.early_verdict(policies, facts).or_else(|| {
            let user = self.user_facts(user);
            self.both_halves(&policies.rest, policies, &user, facts, &mut Untraced)
        })
    }

    /// Returns the verdict with the result of every rule: the same evaluation, with a trace.
    ///
    /// `user` is `None` for a request without a session. Then there is a verdict only if it needs
    /// no login.
    pub fn walk(
        &self,
        policies: &Policies,
        user: Option<Requester<'_>>,
        facts: &Facts<'_>,
    ) -> Walk {
        let mut record = Record::default();
        let unknown = self.user_facts(Requester::Unknown);
        let early = self
            .both_halves(&policies.first, policies, &unknown, facts, &mut record)
            .into();
        // After the early policies: their groups are recorded again, with the facts about the user.
        let later = user.map(|user| {
            let user = self.user_facts(user);
            self.both_halves(&policies.rest, policies, &user, facts, &mut record)
        });
        let groups = policies.groups.iter();
        Walk {
            early,
            later,
            record,
            groups: groups
                .map(|number| (self.group_id(*number).into(), *number))
                .collect(),
        }
    }

    fn both_halves<T: Trace>(
        &self,
        which: &[CompiledPolicy],
        policies: &Policies,
        user: &UserFacts,
        facts: &Facts<'_>,
        trace: &mut T,
    ) -> Verdict {
        let partial = self.user_half(which, &policies.groups, user, trace);
        self.request_half(which, &partial, facts, trace)
    }

    /// Evaluates the rules about the user.
    pub(super) fn user_half<T: Trace>(
        &self,
        policies: &[CompiledPolicy],
        groups: &[usize],
        user: &UserFacts,
        trace: &mut T,
    ) -> PartialVerdict {
        // Each group comes after those that it contains.
        let mut settled: SmallVec<[(usize, Truth); 8]> = SmallVec::new();
        let mut partial = PartialVerdict::default();
        for number in groups {
            let Some(clauses) = self.groups.get(*number) else {
                continue;
            };
            let part = user_part(clauses, user, &settled, Subject::Group(*number), trace);
            match part.settled(clauses) {
                Some(truth) if !clauses.ask_requests() => {
                    trace.whole(Subject::Group(*number), truth);
                    settled.push((*number, truth));
                }
                // Keep it even if already false: the per-request pass expects every
                // request-dependent group.
                _ => partial.groups.push((*number, part)),
            }
        }
        for (position, policy) in policies.iter().enumerate() {
            let subject = Subject::Policy(policy.index);
            let part = user_part(&policy.clauses, user, &settled, subject, trace);
            // A policy that no request can make true is dropped here, once per session and not per
            // request. A trace reports it nevertheless.
            if T::ON || part.settled(&policy.clauses) != Some(Truth::False) {
                partial.policies.push((position, part));
            }
        }
        if !T::ON {
            self.forget_unneeded(policies, &mut partial);
        }
        partial
    }

    /// Drops groups that no remaining policy depends on.
    fn forget_unneeded(&self, policies: &[CompiledPolicy], partial: &mut PartialVerdict) {
        if partial.groups.is_empty() {
            return;
        }
        let mut needed = Bits::new(self.groups.len());
        let need = |clauses: &CompiledClauses, needed: &mut Bits| {
            clauses
                .groups()
                .filter_map(|number| u32::try_from(number).ok())
                .for_each(|number| needed.insert(number));
        };
        for policy in partial
            .policies
            .iter()
            .filter_map(|(position, _)| policies.get(*position))
        {
            need(&policy.clauses, &mut needed);
        }
        let is_needed =
            |needed: &Bits, number: usize| u32::try_from(number).is_ok_and(|n| needed.contains(n));
        // Those that contain a group come after it.
        for (number, _) in partial.groups.iter().rev() {
            if let (true, Some(clauses)) = (is_needed(&needed, *number), self.groups.get(*number)) {
                need(clauses, &mut needed);
            }
        }
        partial
            .groups
            .retain(|(number, _)| is_needed(&needed, *number));
    }

    /// Evaluates the rules about the request, and returns the verdict of the first policy that
    /// applies; deny if none does.
    fn request_half<T: Trace>(
        &self,
        policies: &[CompiledPolicy],
        partial: &PartialVerdict,
        facts: &Facts<'_>,
        trace: &mut T,
    ) -> Verdict {
        let groups = self.groups_of_request(partial, facts, trace);
        let (mut unknown, mut shadow, mut verdict) = (false, None, None);
        for (position, part) in &partial.policies {
            let Some(policy) = policies.get(*position) else {
                continue;
            };
            let subject = Subject::Policy(policy.index);
            let truth = whole(&policy.clauses, *part, facts, &groups, subject, trace);
            let decision = policy.decision;
            match (decision, truth) {
                // A deny applies if its facts are unknown: an outage of a source of facts must not
                // lift it.
                (_, Truth::True) | (PolicyDecision::Deny, Truth::Unknown) => {}
                (_, Truth::Unknown) => {
                    // The unknown policy might have allowed the request, so a later denial is not a
                    // judgement of the user.
                    unknown |= !policy.shadow;
                    continue;
                }
                (_, Truth::False) => continue,
            }
            if policy.shadow {
                shadow = shadow.or(Some(ShadowVerdict {
                    policy: policy.index,
                    decision,
                }));
                continue;
            }
            let unknown = decision == PolicyDecision::Deny && (unknown || truth == Truth::Unknown);
            // A trace evaluates every policy; `or` keeps the first verdict.
            verdict = verdict.or(Some(Verdict {
                decision,
                policy: Some(policy.index),
                unknown,
                shadow,
            }));
            if !T::ON {
                break;
            }
        }
        verdict.unwrap_or(Verdict {
            decision: PolicyDecision::Deny,
            policy: None,
            unknown,
            shadow,
        })
    }

    /// Evaluates the groups that depend on the request.
    fn groups_of_request<T: Trace>(
        &self,
        partial: &PartialVerdict,
        facts: &Facts<'_>,
        trace: &mut T,
    ) -> Groups {
        let mut groups: Groups = SmallVec::new();
        for (number, part) in &partial.groups {
            let subject = Subject::Group(*number);
            let truth = match self.groups.get(*number) {
                Some(clauses) => whole(clauses, *part, facts, &groups, subject, trace),
                None => Truth::Unknown,
            };
            groups.push((*number, truth));
        }
        groups
    }
}

/// Groups that depend on the request, by number, in ascending order.
type Groups = SmallVec<[(usize, Truth); 4]>;

impl UserPart {
    /// Returns the result if no request can change it any more.
    fn settled(self, clauses: &CompiledClauses) -> Option<Truth> {
        if !clauses.ask_requests() {
            return Some(self.include.and(self.require).and(self.exclude.not()));
        }
        // An include that is false so far may become true through a rule about the request. The
        // other two clauses only become stricter.
        let never = self.include == Truth::False && clauses.include.request.is_empty()
            || self.require == Truth::False
            || self.exclude == Truth::True;
        never.then_some(Truth::False)
    }
}

/// Evaluates the rules about the user in a group or policy.
fn user_part<T: Trace>(
    clauses: &CompiledClauses,
    user: &UserFacts,
    groups: &[(usize, Truth)],
    subject: Subject,
    trace: &mut T,
) -> UserPart {
    let ask = |test: &CompiledRule| match &test.condition {
        Condition::Everyone => Truth::True,
        Condition::User(question) => user.answer(*question),
        Condition::Group(number) => known(groups, *number),
        _ => Truth::Unknown,
    };
    let mut part = |clause, rules: &CompiledClause| {
        let at = ClauseOf { subject, clause };
        match clause {
            Clause::Require => all(&rules.user, Truth::True, ask, at, trace),
            Clause::Include | Clause::Exclude => any(&rules.user, Truth::False, ask, at, trace),
        }
    };
    UserPart {
        include: part(Clause::Include, &clauses.include),
        require: part(Clause::Require, &clauses.require),
        exclude: part(Clause::Exclude, &clauses.exclude),
    }
}

/// Evaluates a group or policy for one request.
fn whole<T: Trace>(
    clauses: &CompiledClauses,
    part: UserPart,
    facts: &Facts<'_>,
    groups: &Groups,
    subject: Subject,
    trace: &mut T,
) -> Truth {
    let ask = |test: &CompiledRule| match &test.condition {
        Condition::Method(methods) => methods.contains(facts.method).into(),
        Condition::Nets(nets) => facts.ip.map(|ip| nets.contain(ip)).into(),
        Condition::Certificate => facts.certificate.is(|_| true),
        Condition::CommonName(name) => facts.certificate.is(|found| **found == **name),
        Condition::AnyServiceToken => facts.service_token.is(|_| true),
        Condition::ServiceToken(id) => facts.service_token.is(|found| **found == **id),
        Condition::LinkedApp(id) => facts.linked_app.is(|found| **found == **id),
        Condition::Group(number) => known(groups, *number),
        Condition::Time(window) => window.holds(facts.now).into(),
        Condition::Country(country) => facts.is_in(*country),
        Condition::Everyone | Condition::User(_) | Condition::Never => Truth::Unknown,
    };
    let at = |clause| ClauseOf { subject, clause };
    let include = &clauses.include.request;
    let include = any(include, part.include, ask, at(Clause::Include), trace);
    if include == Truth::False && !T::ON {
        return Truth::False;
    }
    let require = &clauses.require.request;
    let require = all(require, part.require, ask, at(Clause::Require), trace);
    let exclude = &clauses.exclude.request;
    let exclude = any(exclude, part.exclude, ask, at(Clause::Exclude), trace);
    let truth = include.and(require).and(exclude.not());
    trace.whole(subject, truth);
    truth
}

/// Returns `known` or any of the rules. Stops at the first that holds.
fn any<T: Trace>(
    tests: &[CompiledRule],
    mut known: Truth,
    ask: impl Fn(&CompiledRule) -> Truth,
    at: ClauseOf,
    trace: &mut T,
) -> Truth {
    for test in tests {
        if known == Truth::True && !T::ON {
            return known;
        }
        let truth = ask(test);
        trace.rule(at, test.rule, truth);
        known = known.or(truth);
    }
    known
}

/// Returns `known` and all of the rules. Stops at the first that does not hold.
fn all<T: Trace>(
    tests: &[CompiledRule],
    mut known: Truth,
    ask: impl Fn(&CompiledRule) -> Truth,
    at: ClauseOf,
    trace: &mut T,
) -> Truth {
    for test in tests {
        if known == Truth::False && !T::ON {
            return known;
        }
        let truth = ask(test);
        trace.rule(at, test.rule, truth);
        known = known.and(truth);
    }
    known
}

fn known(groups: &[(usize, Truth)], number: usize) -> Truth {
    groups
        .binary_search_by_key(&number, |(n, _)| *n)
        .ok()
        .and_then(|at| groups.get(at))
        .map_or(Truth::Unknown, |g| g.1)
}
