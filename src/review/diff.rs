use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Serialize;

use super::ask::{Answer, Asked, World};
use super::people::Person;
use super::replay::Log;
use super::suite::in_words;
use super::witness::{Witness, witnesses};
use crate::engine::Outcome;
use crate::model::{Identity, UnixTime};

/// The changes of access between two configurations.
#[derive(Debug, Default, Serialize)]
pub struct Diff {
    /// The changes, by application, then by outcome.
    pub changes: Vec<Change>,
    /// The number of users and requests that were tried.
    pub tried: usize,
    /// The number of them with the same outcome by another policy.
    pub same_outcome: usize,
    /// Notes about requests that were not tried.
    pub notes: Vec<String>,
}

/// A change of outcome, and the users and requests that it affects.
#[derive(Debug, Serialize)]
pub struct Change {
    /// The application's name; the URL if no application claims it.
    pub application: String,
    /// The outcome so far, and the policy.
    pub old: String,
    /// The outcome from now on, and the policy.
    pub new: String,
    /// The effect of the change.
    pub access: Access,
    /// The users and requests, with their number in the log.
    pub who: BTreeMap<String, usize>,
}

/// The effect of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// Access is gained.
    Gained,
    /// Access is lost.
    Lost,
    /// Neither.
    Other,
}

/// By application, old and new.
type Found = BTreeMap<(String, Access, String, String), BTreeMap<Label, usize>>;

/// A user or request that a change affects.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Label {
    /// A user, by email address.
    Person(String),
    /// A request without a session, with the rules that it satisfies.
    Nobody(BTreeSet<String>),
    /// A user of a provider, with the rules that the user satisfies.
    Through(Option<String>, BTreeSet<String>),
}

impl Label {
    fn in_words(self, several_providers: bool) -> String {
        let (who, rules) = match self {
            Self::Person(email) => return email,
            Self::Nobody(rules) => ("not signed in".to_owned(), rules),
            Self::Through(idp, rules) if !rules.is_empty() => {
                let through = idp
                    .filter(|_| several_providers)
                    .map(|idp| format!(" through {idp}"));
                return Vec::from_iter(rules).join(" + ") + &through.unwrap_or_default();
            }
            Self::Through(Some(idp), rules) if several_providers => {
                (format!("any user through {idp}"), rules)
            }
            Self::Through(_, rules) => ("any user".to_owned(), rules),
        };
        [who]
            .into_iter()
            .chain(rules)
            .collect::<Vec<_>>()
            .join(" + ")
    }

    /// Returns `true` if this label is a special case of the other.
    fn is_more_than(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Nobody(more), Self::Nobody(less)) => more.is_superset(less) && more != less,
            (Self::Through(a, more), Self::Through(b, less)) => {
                a == b && more.is_superset(less) && more != less
            }
            _ => false,
        }
    }
}

impl Diff {
    /// Tries every user and request that either configuration names, at every application.
    ///
    /// # Errors
    ///
    /// An application's domain has no URL.
    pub fn of_names(old: &World, new: &World, now: UnixTime) -> Result<Self, String> {
        let mut comparison = Comparison::new(old, new, now);
        let worlds = [old, new];
        let mut pages = BTreeSet::new();
        for world in worlds {
            for application in world.snapshot.applications() {
                pages.insert(world.first_page(application)?.to_string());
            }
        }
        let several = providers(old, new);
        for page in &pages {
            // The application of a page may change, too.
            let asked = Asked {
                url: page.clone(),
                ..Asked::default()
            };
            let owner = |world: &World| {
                Ok::<_, String>(world.ask(None, &asked, now)?.explanation.application)
            };
            let owners = [owner(old)?, owner(new)?];
            let written: Vec<_> = worlds
                .iter()
                .zip(&owners)
                .filter_map(|(world, owner)| {
                    Some((
                        &world.config,
                        owner.as_ref()?.settings().policies.as_slice(),
                    ))
                })
                .collect();
            let (named, is_all) = witnesses(&written, now);
            if !is_all {
                let note = format!(
                    "{page}: its policies name more combinations than were compared; also replay \
                     an audit log (`--audit`)"
                );
                comparison.diff.notes.push(note);
            }
            for witness in &named {
                for (label, person, asked) in visitors(&several, witness, page) {
                    comparison.ask(person.as_ref(), &asked, label)?;
                }
            }
        }
        comparison.found.values_mut().for_each(forget_more);
        Ok(comparison.finish())
    }

    /// Replays the requests of an audit log.
    ///
    /// # Errors
    ///
    /// The log cannot be read, or has no audit events.
    pub fn of_log(old: &World, new: &World, log: &Path, now: UnixTime) -> Result<Self, String> {
        let Log {
            requests,
            strangers,
            linked,
        } = Log::read(log)?;
        let mut comparison = Comparison::new(old, new, now);
        let mut unreadable = 0;
        for replayed in &requests {
            let label = replayed
                .person
                .as_ref()
                .map_or(Label::Nobody(BTreeSet::new()), |p| {
                    Label::Person(p.email.clone())
                });
            let asked = comparison.ask(replayed.person.as_ref(), &replayed.asked, label);
            unreadable += usize::from(asked.is_err());
        }
        let mut diff = comparison.finish();
        if strangers > 0 {
            diff.notes.push(format!("{strangers} requests were not compared: the log lacks the logins of their users, or the groups (`[audit] identity`)"));
        }
        if linked > 0 {
            diff.notes.push(format!(
                "{linked} requests with the token of another application were not compared"
            ));
        }
        if unreadable > 0 {
            diff.notes.push(format!("{unreadable} requests were not compared: their application or identity provider is in neither configuration"));
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
        let notes = old
            .notes
            .iter()
            .chain(new.notes.iter().filter(|note| !old.notes.contains(note)));
        let diff = Diff {
            notes: notes.cloned().collect(),
            ..Diff::default()
        };
        Self {
            old,
            new,
            now,
            diff,
            found: Found::new(),
        }
    }

    /// Decides one request with both.
    fn ask(&mut self, person: Option<&Person>, asked: &Asked, label: Label) -> Result<(), String> {
        let (old, new, now) = (self.old, self.new, self.now);
        // Each configuration has its own providers, claims and services. A provider that only one
        // has still has users.
        let identity = |one: &World, other: &World| {
            person
                .map(|person| {
                    person
                        .identity(&one.config)
                        .or_else(|_| person.identity(&other.config))
                })
                .transpose()
        };
        let (was, is) = answers(
            (old, identity(old, new)?),
            (new, identity(new, old)?),
            asked,
            now,
        )?;
        self.diff.tried += 1;
        let outcome = |answer: &Answer| {
            (
                answer.explanation.outcome,
                answer
                    .explanation
                    .reason
                    .filter(|_| answer.policy().is_none()),
            )
        };
        if outcome(&was).0 == outcome(&is).0 {
            self.diff.same_outcome += usize::from(was.policy() != is.policy());
            return Ok(());
        }
        let words = |answer: &Answer| match outcome(answer) {
            (outcome @ (Outcome::Deny | Outcome::Refuse | Outcome::Unavailable), Some(reason)) => {
                format!("{outcome} ({reason})")
            }
            (outcome, _) => in_words(outcome, answer.policy()),
        };
        let opens = |answer: &Answer| answer.explanation.outcome.is_forwarded();
        let access = match (opens(&was), opens(&is)) {
            (false, true) => Access::Gained,
            (true, false) => Access::Lost,
            _ => Access::Other,
        };
        let named = [&was, &is]
            .into_iter()
            .find_map(|answer| answer.explanation.application.as_ref());
        let application = named.map_or_else(
            || was.url.to_string(),
            |application| application.settings().name.clone(),
        );
        let who = self
            .found
            .entry((application, access, words(&was), words(&is)))
            .or_default();
        *who.entry(label).or_default() += 1;
        Ok(())
    }

    fn finish(mut self) -> Diff {
        let several = providers(self.old, self.new).len() > 1;
        self.diff.changes = self
            .found
            .into_iter()
            .map(|((application, access, old, new), who)| {
                let who = who
                    .into_iter()
                    .map(|(label, times)| (label.in_words(several), times))
                    .collect();
                Change {
                    application,
                    old,
                    new,
                    access,
                    who,
                }
            })
            .collect();
        self.diff
    }
}

/// Returns both answers for one request. An application that only one configuration names is tried
/// in the other by its URL.
fn answers(
    (old, was_identity): (&World, Option<Identity>),
    (new, is_identity): (&World, Option<Identity>),
    asked: &Asked,
    now: UnixTime,
) -> Result<(Answer, Answer), String> {
    match old.ask(was_identity.as_ref(), asked, now) {
        Ok(was) => {
            let asked = Asked {
                url: was.url.to_string(),
                ..asked.clone()
            };
            Ok((was, new.ask(is_identity.as_ref(), &asked, now)?))
        }
        Err(_) => {
            let is = new.ask(is_identity.as_ref(), asked, now)?;
            let asked = Asked {
                url: is.url.to_string(),
                ..asked.clone()
            };
            Ok((old.ask(was_identity.as_ref(), &asked, now)?, is))
        }
    }
}

fn providers(old: &World, new: &World) -> BTreeSet<String> {
    [old, new]
        .iter()
        .flat_map(|world| &world.config.catalog.identity_providers)
        .map(|idp| idp.id.0.to_string())
        .collect()
}

/// Returns the visitors to try for a witness: a user of its provider, or of each provider if it
/// names none, and a request without a session if a rule depends on the request.
fn visitors(
    providers: &BTreeSet<String>,
    witness: &Witness,
    page: &str,
) -> Vec<(Label, Option<Person>, Asked)> {
    let Witness {
        rules,
        person,
        asked,
        is_request,
    } = witness;
    let asked = Asked {
        url: page.to_owned(),
        ..asked.clone()
    };
    let mut all = Vec::new();
    if *is_request || rules.is_empty() {
        all.push((Label::Nobody(rules.clone()), None, asked.clone()));
    }
    let through = person
        .idp
        .as_ref()
        .map_or_else(|| Vec::from_iter(providers), |idp| vec![idp]);
    for idp in through {
        let person = Person {
            idp: Some(idp.clone()),
            ..person.clone()
        };
        all.push((
            Label::Through(person.idp.clone(), rules.clone()),
            Some(person),
            asked.clone(),
        ));
    }
    all
}

/// Drops labels that are a special case of others.
fn forget_more(who: &mut BTreeMap<Label, usize>) {
    if who.len() > MOST_COMPARED {
        return;
    }
    let all: Vec<Label> = who.keys().cloned().collect();
    who.retain(|label, _| !all.iter().any(|other| label.is_more_than(other)));
}

/// A bound on the comparison of each label with each.
const MOST_COMPARED: usize = 2_000;
