use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Serialize;

use super::ask::{Answer, Asked, World};
use super::people::Person;
use super::replay::Log;
use super::suite::told;
use super::witness::{NOWHERE, Witness, stranger, witnesses};
use crate::model::{Identity, UnixTime};

/// What changes from one configuration to another.
#[derive(Debug, Default, Serialize)]
pub struct Diff {
    /// By application, then by what changes.
    pub changes: Vec<Change>,
    /// How many people and requests were tried.
    pub tried: usize,
    /// How many of them are decided by another policy, with the same outcome.
    pub same_outcome: usize,
    /// What could not be tried, in words.
    pub notes: Vec<String>,
}

/// One change of outcome, and whom it touches.
#[derive(Debug, Serialize)]
pub struct Change {
    /// The application's name; the URL where none claims it.
    pub application: String,
    /// The outcome so far, and the policy.
    pub old: String,
    /// The outcome from now on, and the policy.
    pub new: String,
    /// Whether they get in who did not, or the other way around.
    pub access: Access,
    /// Who, or what request, in words, with how often where a log says so.
    pub who: BTreeMap<String, usize>,
}

/// What a change does for those whom it touches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// They get in who did not.
    Gained,
    /// They got in, and do not any more.
    Lost,
    /// Neither.
    Other,
}

/// By application, old and new.
type Found = BTreeMap<(String, Access, String, String), BTreeMap<Label, usize>>;

/// Whom a change touches, or what request.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Label {
    /// Somebody by their address.
    Person(String),
    /// Nobody who is known, with what of the request makes a difference.
    Nobody(BTreeSet<String>),
    /// Whoever comes through a provider, and what makes them different from anybody.
    Through(Option<String>, BTreeSet<String>),
}

impl Label {
    fn in_words(self, several_providers: bool) -> String {
        let (who, rules) = match self {
            Self::Person(email) => return email,
            Self::Nobody(rules) => ("nobody logged in".to_owned(), rules),
            Self::Through(_, rules) if !rules.is_empty() => return Vec::from_iter(rules).join(" + "),
            Self::Through(Some(idp), rules) if several_providers => (format!("anybody through {idp}"), rules),
            Self::Through(_, rules) => ("anybody".to_owned(), rules),
        };
        [who].into_iter().chain(rules).collect::<Vec<_>>().join(" + ")
    }

    /// Whether whatever holds for the other holds for this one all the more.
    fn is_more_than(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Nobody(more), Self::Nobody(less)) => more.is_superset(less) && more != less,
            (Self::Through(a, more), Self::Through(b, less)) => a == b && more.is_superset(less) && more != less,
            _ => false,
        }
    }
}

impl Diff {
    /// Tries everybody whom the two configurations name, at every application that they name.
    ///
    /// # Errors
    /// Where an application's domain gives no URL.
    pub fn of_names(old: &World, new: &World, now: UnixTime) -> Result<Self, String> {
        let mut comparison = Comparison::new(old, new, now);
        let mut places = BTreeMap::new();
        for world in [old, new] {
            for application in world.snapshot.applications() {
                let (page, settings) = (world.first_page(application)?.to_string(), application.settings());
                let (named, is_all) = witnesses(&world.config, &settings.policies, now);
                let all: &mut BTreeMap<BTreeSet<String>, Witness> = places.entry(page).or_default();
                all.extend(named.into_iter().map(|witness| (witness.rules.clone(), witness)));
                if !is_all {
                    let name = &settings.name;
                    comparison
                        .diff
                        .notes
                        .push(format!("`{name}` names more people than were tried; replay an audit log, too"));
                }
            }
        }
        for (page, named) in &places {
            for (label, person, asked) in visitors(old, new, named.values(), page) {
                comparison.ask(person.as_ref(), &asked, label)?;
            }
        }
        comparison.found.values_mut().for_each(forget_more);
        Ok(comparison.finish())
    }

    /// Asks again what was asked according to an audit log.
    ///
    /// # Errors
    /// Where the log cannot be read, or holds no audit events.
    pub fn of_log(old: &World, new: &World, log: &Path, now: UnixTime) -> Result<Self, String> {
        let Log { requests, strangers } = Log::read(log)?;
        let mut comparison = Comparison::new(old, new, now);
        let mut unreadable = 0;
        for replayed in &requests {
            let label =
                replayed.person.as_ref().map_or(Label::Nobody(BTreeSet::new()), |p| Label::Person(p.email.clone()));
            let asked = comparison.ask(replayed.person.as_ref(), &replayed.asked, label);
            unreadable += usize::from(asked.is_err());
        }
        let mut diff = comparison.finish();
        if strangers > 0 {
            diff.notes.push(format!("{strangers} requests were not tried: their people's logins are not in the log, or without groups (`[audit] identity`)"));
        }
        if unreadable > 0 {
            diff.notes.push(format!("{unreadable} requests were not tried: their application or identity provider is in neither configuration"));
        }
        Ok(diff)
    }
}

/// A comparison under way.
struct Comparison<'a> {
    old: &'a World,
    new: &'a World,
    now: UnixTime,
    diff: Diff,
    found: Found,
}

impl<'a> Comparison<'a> {
    fn new(old: &'a World, new: &'a World, now: UnixTime) -> Self {
        Self { old, new, now, diff: Diff::default(), found: Found::new() }
    }

    /// Asks one question of both.
    fn ask(&mut self, person: Option<&Person>, asked: &Asked, label: Label) -> Result<(), String> {
        let (old, new, now) = (self.old, self.new, self.now);
        let identity = person.map(|person| person.identity(&old.config).or_else(|_| person.identity(&new.config)));
        let identity = identity.transpose()?;
        let (was, is) = answers(old, new, identity.as_ref(), asked, now)?;
        self.diff.tried += 1;
        let outcome = |answer: &Answer| {
            (answer.explanation.outcome, answer.explanation.reason.filter(|_| answer.policy().is_none()))
        };
        if outcome(&was).0 == outcome(&is).0 {
            self.diff.same_outcome += usize::from(was.policy() != is.policy());
            return Ok(());
        }
        let in_words = |answer: &Answer| match outcome(answer) {
            (outcome @ ("deny" | "refuse" | "unavailable"), Some(reason)) => format!("{outcome} ({reason})"),
            (outcome, _) => told(outcome, answer.policy()),
        };
        let opens = |answer: &Answer| matches!(answer.explanation.outcome, "allow" | "bypass" | "non_identity");
        let access = match (opens(&was), opens(&is)) {
            (false, true) => Access::Gained,
            (true, false) => Access::Lost,
            _ => Access::Other,
        };
        let named = [&was, &is].into_iter().find_map(|answer| answer.explanation.application.as_ref());
        let application = named.map_or_else(|| was.url.to_string(), |application| application.settings().name.clone());
        let who = self.found.entry((application, access, in_words(&was), in_words(&is))).or_default();
        *who.entry(label).or_default() += 1;
        Ok(())
    }

    fn finish(mut self) -> Diff {
        let several = providers(self.old, self.new).len() > 1;
        self.diff.changes = self
            .found
            .into_iter()
            .map(|((application, access, old, new), who)| {
                let who = who.into_iter().map(|(label, times)| (label.in_words(several), times)).collect();
                Change { application, old, new, access, who }
            })
            .collect();
        self.diff
    }
}

/// Both answers to one question. What only one of them knows by its name is asked of the other by its URL.
fn answers(
    old: &World,
    new: &World,
    identity: Option<&Identity>,
    asked: &Asked,
    now: UnixTime,
) -> Result<(Answer, Answer), String> {
    match old.ask(identity, asked, now) {
        Ok(was) => {
            let asked = Asked { url: was.url.to_string(), ..asked.clone() };
            Ok((was, new.ask(identity, &asked, now)?))
        }
        Err(_) => {
            let is = new.ask(identity, asked, now)?;
            let asked = Asked { url: is.url.to_string(), ..asked.clone() };
            Ok((old.ask(identity, &asked, now)?, is))
        }
    }
}

fn providers(old: &World, new: &World) -> BTreeSet<String> {
    [old, new].iter().flat_map(|world| &world.config.identity_providers).map(|idp| idp.id.0.to_string()).collect()
}

/// Who is tried at a page: anybody, through each provider; nobody; and those whom rules name.
fn visitors<'a>(
    old: &World,
    new: &World,
    named: impl Iterator<Item = &'a Witness>,
    page: &str,
) -> Vec<(Label, Option<Person>, Asked)> {
    let providers = providers(old, new);
    let plain = Asked { url: page.to_owned(), ip: Some(NOWHERE), ..Asked::default() };
    let mut all = vec![(Label::Nobody(BTreeSet::new()), None, plain.clone())];
    for provider in &providers {
        let person = Person { idp: Some(provider.clone()), ..stranger() };
        all.push((Label::Through(person.idp.clone(), BTreeSet::new()), Some(person), plain.clone()));
    }
    for Witness { rules, person, asked, is_request } in named {
        let (mut person, asked) = (person.clone(), Asked { url: page.to_owned(), ..asked.clone() });
        if *is_request {
            all.push((Label::Nobody(rules.clone()), None, asked.clone()));
        }
        person.idp = person.idp.or_else(|| providers.first().cloned());
        all.push((Label::Through(person.idp.clone(), rules.clone()), Some(person), asked));
    }
    all
}

/// Whoever is touched for a few reasons is not told again with more of them.
fn forget_more(who: &mut BTreeMap<Label, usize>) {
    if who.len() > MOST_COMPARED {
        return;
    }
    let all: Vec<Label> = who.keys().cloned().collect();
    who.retain(|label, _| !all.iter().any(|other| label.is_more_than(other)));
}

/// Each is compared with each.
const MOST_COMPARED: usize = 2_000;
