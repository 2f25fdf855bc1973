use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::de::{Error, IntoDeserializer, Visitor};
use serde::{Deserialize, Deserializer};
use toml::Spanned;

use super::ask::{Answer, Asked, Moment, World};
use super::people::Person;
use crate::engine::Outcome;
use crate::model::{Identity, UnixTime};
use crate::policy::{Country, Verb};

/// Policy tests: users, requests and expected outcomes. One TOML file.
#[derive(Debug)]
pub struct Suite {
    file: PathBuf,
    text: String,
    document: Document,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    /// The configuration, relative to the file.
    #[serde(default)]
    config: Option<PathBuf>,
    #[serde(default)]
    people: BTreeMap<String, Person>,
    tests: Vec<Spanned<Test>>,
}

/// One test. It runs for each of its users with each of its URLs.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Test {
    name: String,
    /// Names from `people`; without one there is no session.
    #[serde(default)]
    person: Option<Several>,
    url: Several,
    #[serde(default)]
    method: Option<Verb>,
    #[serde(default)]
    ip: Option<IpAddr>,
    #[serde(default)]
    country: Option<Country>,
    #[serde(default)]
    at: Option<Moment>,
    #[serde(default)]
    service_token: Option<String>,
    #[serde(default)]
    certificate: Option<String>,
    #[serde(default)]
    linked_app: Option<String>,
    #[serde(deserialize_with = "outcome")]
    expect: Outcome,
    /// The name of the policy that decides.
    #[serde(default)]
    policy: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "this is text in quotes, or a list of such texts"
)]
enum Several {
    One(String),
    Many(Vec<String>),
}

impl Several {
    fn as_slice(&self) -> &[String] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
}

/// Reads an outcome in quotes. The derived implementation would also accept a table with the
/// outcome as its key.
fn outcome<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Outcome, D::Error> {
    struct Text;

    impl Visitor<'_> for Text {
        type Value = Outcome;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(
                "an outcome in quotes, as `expect = \"allow\"`; the policy that decides is a key beside it, `policy`",
            )
        }

        fn visit_str<E: Error>(self, name: &str) -> Result<Outcome, E> {
            Outcome::deserialize(name.into_deserializer())
        }
    }

    deserializer.deserialize_any(Text)
}

/// The result of one test for one user and one URL.
#[derive(Debug)]
pub struct Ended {
    /// The test's name, with the user and the URL if it has several.
    pub name: String,
    /// The line of the test in its file.
    pub line: usize,
    /// The outcome and the policy that were expected.
    pub expected: String,
    /// The failure; `None` if it passed.
    pub failure: Option<Failure>,
}

/// The failure of a test.
#[derive(Debug)]
pub enum Failure {
    /// Another outcome, or another policy.
    Otherwise(Box<Answer>, String),
    /// Its description is malformed.
    Malformed(String),
}

impl Suite {
    /// Reads a file of tests.
    ///
    /// # Errors
    ///
    /// The mistake in it, with its line.
    pub fn read(file: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(file)
            .map_err(|e| format!("cannot read `{}`: {e}", file.display()))?;
        Self::parse(file, text)
    }

    pub(super) fn parse(file: &Path, text: String) -> Result<Self, String> {
        let document: Document = toml::from_str(&text).map_err(|e| {
            let line = e.span().map_or(1, |span| line(&text, span.start));
            format!(
                "{}:{line}: {}",
                file.display(),
                e.message().replace('\n', ", ")
            )
        })?;
        let is_empty = |several: &Several| several.as_slice().is_empty();
        for test in &document.tests {
            let (at, test) = (line(&text, test.span().start), test.get_ref());
            if is_empty(&test.url) || test.person.as_ref().is_some_and(is_empty) {
                return Err(format!(
                    "{}:{at}: `{}` tests nothing: a list in it is empty",
                    file.display(),
                    test.name
                ));
            }
        }
        if document.tests.is_empty() {
            return Err(format!(
                "{}: the file contains no tests; add `[[tests]]`",
                file.display()
            ));
        }
        Ok(Self {
            file: file.into(),
            text,
            document,
        })
    }

    /// Returns the configuration that it names.
    pub fn config(&self) -> Option<PathBuf> {
        let folder = self.file.parent().unwrap_or(Path::new(""));
        self.document
            .config
            .as_ref()
            .map(|config| folder.join(config))
    }

    /// Its file.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Runs every test, and adds the policies that decided one, with their applications, to
    /// `decided`.
    pub fn run(
        &self,
        world: &World,
        now: UnixTime,
        decided: &mut HashSet<(String, String)>,
    ) -> Vec<Ended> {
        let person =
            |(name, person): (&String, &Person)| (name.clone(), person.identity(&world.config));
        let people: BTreeMap<String, Result<Identity, String>> =
            self.document.people.iter().map(person).collect();
        let mut all = Vec::new();
        for test in &self.document.tests {
            let line = line(&self.text, test.span().start);
            let test = test.get_ref();
            let visitors = test.person.as_ref().map_or(vec![None], |people| {
                people.as_slice().iter().map(Some).collect()
            });
            let (urls, several) = (
                test.url.as_slice(),
                visitors.len() * test.url.as_slice().len() > 1,
            );
            for (visitor, url) in visitors
                .iter()
                .flat_map(|visitor| urls.iter().map(move |url| (visitor, url)))
            {
                let name = match visitor {
                    Some(person) if several => format!("{}: {person}, {url}", test.name),
                    None if several => format!("{}: {url}", test.name),
                    _ => test.name.clone(),
                };
                let identity = match visitor.map(|name| (name, people.get(name))) {
                    None => Ok(None),
                    Some((_, Some(Ok(identity)))) => Ok(Some(identity)),
                    Some((name, Some(Err(message)))) => {
                        Err(format!("the user `{name}`: {message}"))
                    }
                    Some((name, None)) => Err(format!("`people` has no `{name}`")),
                };
                let answer =
                    identity.and_then(|identity| world.ask(identity, &test.asked(url), now));
                let failure = match answer {
                    Err(message) => Some(Failure::Malformed(message)),
                    Ok(answer) => {
                        let (outcome, policy) = (answer.explanation.outcome, answer.policy());
                        if let (Some(application), Some(policy)) =
                            (&answer.explanation.application, policy)
                        {
                            decided.insert((application.settings().id.clone(), policy.to_owned()));
                        }
                        let fits = outcome == test.expect
                            && test
                                .policy
                                .as_deref()
                                .is_none_or(|expected| policy == Some(expected));
                        let was = in_words(outcome, policy);
                        (!fits).then(|| Failure::Otherwise(Box::new(answer), was))
                    }
                };
                all.push(Ended {
                    name,
                    line,
                    expected: in_words(test.expect, test.policy.as_deref()),
                    failure,
                });
            }
        }
        all
    }
}

impl Test {
    fn asked(&self, url: &str) -> Asked {
        Asked {
            url: url.to_owned(),
            method: self.method.clone(),
            ip: self.ip,
            country: self.country,
            at: self.at,
            service_token: self.service_token.clone(),
            certificate: self.certificate.clone(),
            linked_app: self.linked_app.clone(),
        }
    }
}

/// Returns the policies that decided no test, each after its application. Shadow policies decide
/// nothing.
pub fn untested(world: &World, decided: &HashSet<(String, String)>) -> Vec<(String, String)> {
    let mut untested = Vec::new();
    for application in world.snapshot.applications() {
        let settings = application.settings();
        for policy in settings.policies.iter().filter(|policy| !policy.shadow) {
            let key = (settings.id.clone(), policy.name.clone());
            if !decided.contains(&key) {
                untested.push(key);
            }
        }
    }
    untested
}

/// An outcome and its policy, in words.
pub(super) fn in_words(outcome: Outcome, policy: Option<&str>) -> String {
    policy.map_or_else(
        || outcome.to_string(),
        |policy| format!("{outcome} by `{policy}`"),
    )
}

fn line(text: &str, offset: usize) -> usize {
    text.get(..offset).unwrap_or_default().matches('\n').count() + 1
}
