use std::cell::OnceCell;
use std::net::IpAddr;

use http::Method;
use smallvec::SmallVec;

use super::compile::{
    Clause, Clauses, CompiledPolicy, CompiledRule, Condition, Policies, PolicyIndex, PolicySet,
};
use super::questions::{Requester, UserFacts};
use super::rule::PolicyDecision;
use super::trace::{Clause as Kind, Record, Subject, Trace, Untraced, Walk};
use super::truth::{Bits, Truth};
use super::values::Country;
use crate::model::{Reason, UnixTime};

/// A fact about a request that may be present, absent or unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fact<T> {
    /// It could not be determined.
    Unknown,
    /// The request has none.
    Absent,
    /// The request has this one.
    Present(T),
}

impl<T> Fact<T> {
    fn is(&self, holds: impl FnOnce(&T) -> bool) -> Truth {
        match self {
            Self::Unknown => Truth::Unknown,
            Self::Absent => Truth::False,
            Self::Present(fact) => holds(fact).into(),
        }
    }
}

/// A database of the countries of IP addresses.
pub trait Countries: std::fmt::Debug + Send + Sync {
    /// Returns the country of an IP address; `None` if it is unknown.
    fn country(&self, ip: IpAddr) -> Option<Country>;
}

/// The facts about a request, apart from the user.
#[derive(Debug)]
pub struct Facts<'a> {
    /// The client's IP address in canonical form, so an IPv4-mapped address is IPv4; `None` if a
    /// description leaves it open.
    pub ip: Option<IpAddr>,
    /// Its method.
    pub method: &'a Method,
    /// Its time.
    pub now: UnixTime,
    /// The id of the service token that it presents.
    pub service_token: Fact<&'a str>,
    /// The common name of the client certificate that it presents.
    pub certificate: Fact<&'a str>,
    /// The id of the linked application that issued a token in the request.
    pub linked_app: Fact<&'a str>,
    /// The country database; all are unknown without it.
    pub countries: Option<&'a dyn Countries>,
    /// The country, looked up when the first rule depends on it.
    pub country: OnceCell<Option<Country>>,
}

impl<'a> Facts<'a> {
    /// Creates facts with unknown credentials: the caller fills in the service token, the
    /// certificate and the linked application if it read them.
    pub const fn new(
        ip: IpAddr,
        method: &'a Method,
        now: UnixTime,
        countries: Option<&'a dyn Countries>,
    ) -> Self {
        Self {
            ip: Some(ip),
            method,
            now,
            service_token: Fact::Unknown,
            certificate: Fact::Unknown,
            linked_app: Fact::Unknown,
            countries,
            country: OnceCell::new(),
        }
    }

    fn is_in(&self, country: Country) -> Truth {
        let found = self.country.get_or_init(|| {
            self.countries
                .and_then(|countries| countries.country(self.ip?))
        });
        found.map(|found| found == country).into()
    }
}

/// The part of a verdict that depends on the user alone, for one application. Rules about the user
/// are evaluated once and not on every request. It is valid for the snapshot and the user facts
/// that it was made from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartialVerdict {
    /// The policies that could still apply, by their places among the first ones or the rest, with
    /// their settled halves.
    policies: SmallVec<[(usize, UserPart); 2]>,
    /// The groups that requests can make a difference to, by number.
    groups: SmallVec<[(usize, UserPart); 1]>,
}

/// The results of the rules about the user, per clause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct UserPart {
    include: Truth,
    require: Truth,
    exclude: Truth,
}

impl UserPart {
    /// Returns the result if no request can change it any more.
    const fn settled(self, clauses_ask_requests: bool, include_asks: bool) -> Option<Truth> {
        if !clauses_ask_requests {
            return Some(self.include.and(self.require).and(self.exclude.not()));
        }
        // An include that is false so far may become true through a rule about the request. The
        // other two clauses only become stricter.
        let never = matches!(self.include, Truth::False) && !include_asks
            || matches!(self.require, Truth::False)
            || matches!(self.exclude, Truth::True);
        if never { Some(Truth::False) } else { None }
    }
}

/// The outcome of the policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Forward, with identity.
    Allow,
    /// Forward, without a login: Service Auth.
    ServiceAuth,
    /// Forward, without any check.
    Bypass,
    /// Refuse.
    Deny,
}

impl Outcome {
    /// Returns the name in logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::ServiceAuth => "non_identity",
            Self::Bypass => "bypass",
            Self::Deny => "deny",
        }
    }
}

/// The outcome of the policies, with the policy that decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The outcome.
    pub outcome: Outcome,
    /// The policy that decided; `None` if none applied.
    pub policy: Option<PolicyIndex>,
    /// `true` if an unknown fact prevented another outcome. Such a denial is no judgement of the
    /// user.
    pub unknown: bool,
    /// The shadow policy that would have decided before this.
    pub shadow: Option<ShadowVerdict>,
}

/// The decision that a shadow policy would have made, had it been enforced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShadowVerdict {
    /// The shadow policy.
    pub policy: PolicyIndex,
    /// The outcome without its `shadow` flag.
    pub outcome: Outcome,
}

/// The verdict of the bypass and Service Auth policies, which come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EarlyVerdict {
    /// The verdict, if one of them applies.
    pub verdict: Option<Verdict>,
    /// The shadow policy among them that would have decided.
    pub shadow: Option<ShadowVerdict>,
}

impl From<Verdict> for EarlyVerdict {
    fn from(found: Verdict) -> Self {
        let decides = matches!(found.outcome, Outcome::Bypass | Outcome::ServiceAuth);
        Self {
            verdict: decides.then_some(found),
            shadow: found.shadow,
        }
    }
}

impl EarlyVerdict {
    /// Returns the early verdict, or else the verdict of the allow and deny policies.
    #[must_use]
    pub fn or_else(self, later: impl FnOnce() -> Verdict) -> Verdict {
        self.verdict.unwrap_or_else(|| {
            let later = later();
            Verdict {
                shadow: self.shadow.or(later.shadow),
                ..later
            }
        })
    }
}

impl Reason {
    /// Returns the reason of a verdict that denies.
    pub const fn of_denial(verdict: &Verdict) -> Self {
        match verdict {
            Verdict { unknown: true, .. } => Self::IdentityIncomplete,
            Verdict {
                policy: Some(_), ..
            } => Self::PolicyDenied,
            Verdict { policy: None, .. } => Self::NoPolicyApplied,
        }
    }
}

impl PolicySet {
    /// Returns the answers to all questions of this snapshot's rules about a user.
    pub fn user_facts(&self, who: Requester<'_>) -> UserFacts {
        self.questions.user_facts(who)
    }

    /// Evaluates the rules about the user in an application's allow and deny policies.
    ///
    /// A policy that is false while a fact is unknown stays false when the fact is known, so it can
    /// be left out.
    pub fn partial_verdict(&self, policies: &Policies, person: &UserFacts) -> PartialVerdict {
        self.stand(&policies.rest, &policies.groups, person, &mut Untraced)
    }

    pub(super) fn early_partial_verdict(
        &self,
        policies: &Policies,
        person: &UserFacts,
    ) -> PartialVerdict {
        self.stand(&policies.first, &policies.groups, person, &mut Untraced)
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
        self.decide(
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
        self.decide(&policies.rest, partial, facts, &mut Untraced)
    }

    /// Returns the verdict with the result of every rule: the same evaluation, with a trace.
    /// `person`, the user, is `None` for a request without a session. Then there is a verdict only if it needs
    /// no login.
    pub fn walk(&self, policies: &Policies, person: Option<&UserFacts>, facts: &Facts<'_>) -> Walk {
        let mut first = Record::default();
        let unknown_user = self.stand(
            &policies.first,
            &policies.groups,
            &self.user_facts(Requester::Unknown),
            &mut first,
        );
        let early = self
            .decide(&policies.first, &unknown_user, facts, &mut first)
            .into();
        let mut rest = Record::default();
        let later = person.map(|person| {
            let partial = self.stand(&policies.rest, &policies.groups, person, &mut rest);
            self.decide(&policies.rest, &partial, facts, &mut rest)
        });
        let groups = policies
            .groups
            .iter()
            .map(|number| (self.group_id(*number).into(), *number))
            .collect();
        Walk {
            early,
            later,
            first,
            rest,
            groups,
        }
    }

    pub(super) fn stand<T: Trace>(
        &self,
        policies: &[CompiledPolicy],
        groups: &[usize],
        person: &UserFacts,
        trace: &mut T,
    ) -> PartialVerdict {
        // Each group comes after those that it contains.
        let mut settled: SmallVec<[(usize, Truth); 8]> = SmallVec::new();
        let mut partial = PartialVerdict::default();
        for number in groups {
            let Some(clauses) = self.groups.get(*number) else {
                continue;
            };
            let half = half(clauses, person, &settled, Subject::Group(*number), trace);
            match half.settled(clauses.ask_requests(), !clauses.include.request.is_empty()) {
                Some(truth) if !clauses.ask_requests() => {
                    trace.whole(Subject::Group(*number), truth);
                    settled.push((*number, truth));
                }
                // Keep it even if already false: the per-request pass expects every
                // request-dependent group.
                _ => partial.groups.push((*number, half)),
            }
        }
        for (position, policy) in policies.iter().enumerate() {
            let clauses = &policy.clauses;
            let half = half(
                clauses,
                person,
                &settled,
                Subject::Policy(policy.index),
                trace,
            );
            let truth = half.settled(clauses.ask_requests(), !clauses.include.request.is_empty());
            // A policy that no request can make true is dropped here, once per session and not per
            // request. A trace reports it nevertheless.
            if T::ON || truth != Some(Truth::False) {
                partial.policies.push((position, half));
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
        let need = |clauses: &Clauses, needed: &mut Bits| {
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

    pub(super) fn decide<T: Trace>(
        &self,
        policies: &[CompiledPolicy],
        partial: &PartialVerdict,
        facts: &Facts<'_>,
        trace: &mut T,
    ) -> Verdict {
        let mut groups: Groups = SmallVec::new();
        for (number, half) in &partial.groups {
            let truth = match self.groups.get(*number) {
                Some(clauses) => whole(
                    clauses,
                    *half,
                    facts,
                    &groups,
                    Subject::Group(*number),
                    trace,
                ),
                None => Truth::Unknown,
            };
            groups.push((*number, truth));
        }
        let (mut unknown, mut shadow, mut verdict) = (false, None, None);
        for (position, half) in &partial.policies {
            let Some(policy) = policies.get(*position) else {
                continue;
            };
            let truth = whole(
                &policy.clauses,
                *half,
                facts,
                &groups,
                Subject::Policy(policy.index),
                trace,
            );
            let outcome = match (policy.decision, truth) {
                (PolicyDecision::Allow, Truth::True) => Outcome::Allow,
                (PolicyDecision::Bypass, Truth::True) => Outcome::Bypass,
                (PolicyDecision::NonIdentity, Truth::True) => Outcome::ServiceAuth,
                // A deny applies if its facts are unknown: an outage of a source of facts must not
                // lift it.
                (PolicyDecision::Deny, Truth::True | Truth::Unknown) => Outcome::Deny,
                (_, Truth::Unknown) => {
                    // The unknown policy might have allowed the request, so a later denial is not a
                    // judgement of the user.
                    unknown |= !policy.shadow;
                    continue;
                }
                _ => continue,
            };
            if policy.shadow {
                shadow = shadow.or(Some(ShadowVerdict {
                    policy: policy.index,
                    outcome,
                }));
                continue;
            }
            let unknown = outcome == Outcome::Deny && (unknown || truth == Truth::Unknown);
            // A trace evaluates every policy; `or` keeps the first verdict.
            verdict = verdict.or(Some(Verdict {
                outcome,
                policy: Some(policy.index),
                unknown,
                shadow,
            }));
            if !T::ON {
                break;
            }
        }
        verdict.unwrap_or(Verdict {
            outcome: Outcome::Deny,
            policy: None,
            unknown,
            shadow,
        })
    }
}

/// Groups that depend on the request, by number, in ascending order.
type Groups = SmallVec<[(usize, Truth); 4]>;

fn half<T: Trace>(
    clauses: &Clauses,
    person: &UserFacts,
    groups: &[(usize, Truth)],
    subject: Subject,
    trace: &mut T,
) -> UserPart {
    let ask = |test: &CompiledRule| match &test.condition {
        Condition::Everyone => Truth::True,
        Condition::User(question) => person.answer(*question),
        Condition::Group(number) => known(groups, *number),
        _ => Truth::Unknown,
    };
    let mut any = |kind, clause: &Clause| match kind {
        Kind::Require => all(&clause.person, Truth::True, ask, (subject, kind), trace),
        Kind::Include | Kind::Exclude => {
            any(&clause.person, Truth::False, ask, (subject, kind), trace)
        }
    };
    UserPart {
        include: any(Kind::Include, &clauses.include),
        require: any(Kind::Require, &clauses.require),
        exclude: any(Kind::Exclude, &clauses.exclude),
    }
}

/// Evaluates a group or policy for one request.
fn whole<T: Trace>(
    clauses: &Clauses,
    half: UserPart,
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
    let include = any(
        &clauses.include.request,
        half.include,
        ask,
        (subject, Kind::Include),
        trace,
    );
    if include == Truth::False && !T::ON {
        return Truth::False;
    }
    let require = all(
        &clauses.require.request,
        half.require,
        ask,
        (subject, Kind::Require),
        trace,
    );
    let exclude = any(
        &clauses.exclude.request,
        half.exclude,
        ask,
        (subject, Kind::Exclude),
        trace,
    );
    let truth = include.and(require).and(exclude.not());
    trace.whole(subject, truth);
    truth
}

/// Returns `known` or any of the rules. Stops at the first that holds.
fn any<T: Trace>(
    tests: &[CompiledRule],
    mut known: Truth,
    ask: impl Fn(&CompiledRule) -> Truth,
    at: (Subject, Kind),
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
    at: (Subject, Kind),
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
