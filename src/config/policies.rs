use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use super::errors::{did_you_mean, instead};
use super::node::Integer;
use super::reader::{Item, Place, Reader, Table};
use super::rules::{Clauses, Names, bare, depends_on_user};
use super::unique::Unique;
use super::values;
use crate::catalog::{ApplicationPolicy, Kind};
use crate::model::duration;
use crate::policy::{Advisor, List, Policy, PolicyDecision, Rule};

/// The policies that applications share (`[[policies]]`).
pub(super) struct Reusable {
    by_id: HashMap<String, Policy>,
    /// All of them, in the order of the documents.
    all: Vec<Policy>,
    /// The ids of all of them, also of those with mistakes.
    ids: BTreeSet<String>,
}

impl Reusable {
    pub(super) fn read(table: &mut Table<'_>, names: &Names<'_>, advisor: &Advisor<'_>) -> Self {
        let mut seen = Unique::new("policy has the id");
        let mut reusable = Self {
            by_id: HashMap::new(),
            all: Vec::new(),
            ids: BTreeSet::new(),
        };
        for item in table.list("policies") {
            let policy = item.table(|table| {
                table
                    .needed("id", "\"staff\"")
                    .and_then(|item| item.claim(values::id, &mut seen));
                policy(table, names)
            });
            reusable.ids.extend(
                item.get("id")
                    .and_then(|id| id.node().as_str().map(str::to_owned)),
            );
            if let Some(policy) = policy.flatten() {
                advise(&item, &policy, advisor);
                if let Some(id) = policy.id.clone() {
                    item.record(Kind::Policy, &id);
                    reusable.all.push(policy.clone());
                    reusable.by_id.insert(id, policy);
                }
            }
        }
        reusable
    }

    /// Returns all of them, in the order of the documents.
    pub(super) fn into_policies(self) -> Vec<Policy> {
        self.all
    }

    /// Returns the policy that an application refers to; reports an unknown id.
    fn named(&self, id: &Item<'_>) -> Option<Policy> {
        let text = id.text()?;
        if !self.ids.contains(text) {
            let instead = instead(text, self.ids.iter().map(String::as_str));
            id.error(&format!(
                "no policy of `[[policies]]` has the id `{text}`{instead}"
            ));
        }
        self.by_id.get(text).cloned()
    }
}

/// An application's policy as it is evaluated, and as it was written.
pub(super) struct Entry {
    pub(super) policy: Policy,
    pub(super) written: ApplicationPolicy,
    pub(super) place: Place,
}

/// Reads an application's policies in the order of their evaluation. Each is a policy of its own, or
/// the id of a shared one.
pub(super) fn read_all(
    table: &mut Table<'_>,
    names: &Names<'_>,
    lists: &[List],
    shared: &Reusable,
) -> Vec<Entry> {
    let reader = table.reader();
    let advisor = Advisor::new(lists);
    let list = table.list("policies");
    if list.is_empty() {
        let message = "this application has no policies, so every request is denied; add `[[applications.policies]]`";
        reader.warn(table.place(), message);
    }
    report_disorder(&list);
    let entries: Vec<Entry> = list
        .iter()
        .filter_map(|item| entry(item, names, shared, &advisor))
        .collect();
    let policies: Vec<Policy> = entries.iter().map(|entry| entry.policy.clone()).collect();
    for (index, advice) in advisor.order(&policies) {
        if let Some(entry) = entries.get(index) {
            reader.warn(&entry.place, &advice);
        }
    }
    entries
}

fn entry(
    item: &Item<'_>,
    names: &Names<'_>,
    shared: &Reusable,
    advisor: &Advisor<'_>,
) -> Option<Entry> {
    let place = item.place().clone();
    if let Some(id) = link(item) {
        let policy = shared.named(&id)?;
        let written = ApplicationPolicy::Shared(id.text()?.to_owned());
        return Some(Entry {
            policy,
            written,
            place,
        });
    }
    let policy = item.table(|table| policy(table, names)).flatten()?;
    advise(item, &policy, advisor);
    let written = ApplicationPolicy::Own(policy.clone());
    Some(Entry {
        policy,
        written,
        place,
    })
}

/// Returns the id if the entry is a link: an id alone, or a table with nothing else. Access's links
/// also have a `precedence`.
fn link<'a>(item: &Item<'a>) -> Option<Item<'a>> {
    if item.node().as_str().is_some() {
        return Some(item.clone());
    }
    let id = item.get("id")?;
    let is_link = item
        .keys()
        .iter()
        .all(|(key, _)| *key == "id" || (item.is_access() && *key == "precedence"));
    is_link.then_some(id)
}

/// Reports a `precedence` that contradicts the order of the list, which is the order of evaluation.
fn report_disorder(list: &[Item<'_>]) {
    let mut last = 0;
    for item in list.iter().filter(|item| item.is_access()) {
        let Some(precedence) = item.get("precedence") else {
            continue;
        };
        match precedence.node().as_integer().and_then(Integer::get::<u64>) {
            // Terraform's older provider sends 0 for a policy without a precedence.
            Some(0) => {}
            Some(number) if number > last => last = number,
            Some(_) => precedence.error(
                "policies are evaluated in the order of this list; sort them by `precedence`, each its own",
            ),
            None => precedence.wrong_type("a whole number"),
        }
    }
}

fn advise(item: &Item<'_>, policy: &Policy, advisor: &Advisor<'_>) {
    advisor.policy(policy).inspect(|advice| item.warn(advice));
}

/// Reads a policy.
fn policy(table: &mut Table<'_>, names: &Names<'_>) -> Option<Policy> {
    if table.is_access() {
        table.ignore_read_only();
        table.ignore(&["precedence", "reusable", "app_count"]);
    }
    table.foreign(&[
        (
            "precedence",
            "policies are evaluated in the order of the file; remove this",
        ),
        (
            "isolation_required",
            "browser isolation needs Cloudflare's browsers; remove this",
        ),
        (
            "purpose_justification_required",
            "purpose justification is not supported yet; remove this",
        ),
        (
            "approval_required",
            "approval is not supported yet; remove this",
        ),
    ]);
    let id = table.item("id").map(|item| item.parse(values::id));
    let name = table
        .needed("name", "\"engineers\"")
        .and_then(|item| item.parse(values::label));
    let decision = table
        .needed("decision", "\"allow\"")
        .and_then(|item| item.parse(decision));
    let session_duration = session_duration(table);
    let clauses = Clauses::read(table, names);
    if matches!(
        decision,
        Some(PolicyDecision::Bypass | PolicyDecision::NonIdentity)
    ) {
        refuse_identity(table.reader(), &clauses, names);
    }
    let shadow = table.flag("shadow", false);
    let Clauses {
        include,
        require,
        exclude,
    } = clauses;
    Some(Policy {
        id: id.flatten(),
        name: name?,
        decision: decision?,
        include: bare(include),
        require: bare(require),
        exclude: bare(exclude),
        session_duration,
        shadow,
    })
}

fn decision(text: &str) -> Result<PolicyDecision, String> {
    match text {
        "allow" => Ok(PolicyDecision::Allow),
        "deny" => Ok(PolicyDecision::Deny),
        "bypass" => Ok(PolicyDecision::Bypass),
        "block" => Err("`block` is called `deny`".to_owned()),
        "non_identity" => Ok(PolicyDecision::NonIdentity),
        "service_auth" => Err("`service_auth` is called `non_identity`".to_owned()),
        _ => {
            let meant = did_you_mean(text, ["allow", "deny", "non_identity", "bypass"]);
            Err(format!(
                "`{text}` is not one of `allow`, `deny`, `non_identity`, `bypass`{meant}"
            ))
        }
    }
}

/// Reads the session duration, from one minute to 30 days.
pub(super) fn session_duration(table: &mut Table<'_>) -> Option<Duration> {
    let item = table.item("session_duration")?;
    if item
        .node()
        .as_str()
        .is_some_and(|text| duration::parse(text).is_ok_and(|d| d.is_zero()))
    {
        item.error("`0s` would end every session before its first page; the least is `1m`");
        return None;
    }
    let minute = Duration::from_secs(60);
    Some(table.duration(
        "session_duration",
        minute,
        minute..=Duration::from_secs(30 * 86_400),
    ))
}

/// Reports rules about users in a bypass or Service Auth policy, which is evaluated before the
/// login.
fn refuse_identity(reader: &Reader<'_>, clauses: &Clauses, names: &Names<'_>) {
    for (rule, place) in clauses.all() {
        let remedy = "and this policy is evaluated before the login; use `allow`";
        match rule {
            Rule::Group { id } if names.about_identity.contains(id) => {
                reader.error(
                    place,
                    &format!("the group `{id}` has rules about users, {remedy}, or a group without such rules"),
                );
            }
            rule if depends_on_user(rule) => {
                reader.error(
                    place,
                    &format!(
                        "`{}` is a rule about users, {remedy}, or a rule such as `ip`",
                        rule.selector()
                    ),
                );
            }
            _ => {}
        }
    }
}
