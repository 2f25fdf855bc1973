use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use super::errors::{did_you_mean, instead};
use super::reader::{Item, Place, Reader, Table, Unique};
use super::rules::{Clauses, Names, bare, is_about_people};
use super::values;
use crate::model::duration;
use crate::policy::{Advisor, List, Policy, PolicyDecision, Rule};

/// Policies that applications refer to by their ids (`[[policies]]`).
pub(super) struct Reusable {
    by_id: HashMap<String, Policy>,
    /// Those that are written, however much else is wrong with them.
    ids: BTreeSet<String>,
}

impl Reusable {
    pub(super) fn read(table: &mut Table<'_>, names: &Names<'_>, advisor: &Advisor<'_>) -> Self {
        let mut seen = Unique::new("policy has the id");
        let mut reusable = Self {
            by_id: HashMap::new(),
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
                reusable
                    .by_id
                    .extend(policy.id.clone().map(|id| (id, policy)));
            }
        }
        reusable
    }

    /// The policy that an application refers to; reports where there is none.
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

/// Reads an application's policies, in the order in which they are asked among their kind: each is
/// written here, or is the id of one that applications share.
pub(super) fn read_all(
    table: &mut Table<'_>,
    names: &Names<'_>,
    lists: &[List],
    shared: &Reusable,
) -> Vec<(Policy, Place)> {
    let reader = table.reader();
    let advisor = Advisor::new(lists);
    let list = table.list("policies");
    if list.is_empty() {
        let message = "this application has no policies, so nobody may reach it; add `[[applications.policies]]`";
        reader.warn(table.place(), message);
    }
    let mut policies = Vec::new();
    for item in list {
        let keys: Vec<&str> = item.keys().into_iter().map(|(key, _)| key).collect();
        let policy = match (item.node().as_str(), keys.as_slice(), item.get("id")) {
            (Some(_), ..) => shared.named(&item),
            (None, ["id"], Some(id)) => shared.named(&id),
            _ => {
                let policy = item.table(|table| policy(table, names)).flatten();
                policy.inspect(|policy| advise(&item, policy, &advisor))
            }
        };
        if let Some(policy) = policy {
            policies.push((policy, item.place().clone()));
        }
    }
    let bare: Vec<Policy> = policies.iter().map(|(policy, _)| policy.clone()).collect();
    for (place, advice) in advisor.order(&bare) {
        policies
            .get(place)
            .into_iter()
            .for_each(|(_, place)| reader.warn(place, &advice));
    }
    policies
}

fn advise(item: &Item<'_>, policy: &Policy, advisor: &Advisor<'_>) {
    advisor.policy(policy).inspect(|advice| item.warn(advice));
}

/// Reads one policy.
fn policy(table: &mut Table<'_>, names: &Names<'_>) -> Option<Policy> {
    table.foreign(&[
        (
            "precedence",
            "policies are asked in the order they are written in; leave this out",
        ),
        (
            "isolation_required",
            "browser isolation needs Cloudflare's browsers; leave this out",
        ),
        (
            "purpose_justification_required",
            "asking for a reason is not there yet; leave this out",
        ),
        (
            "approval_required",
            "asking for approval is not there yet; leave this out",
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
                "`{text}` is none of `allow`, `deny`, `non_identity`, `bypass`{meant}"
            ))
        }
    }
}

/// From one minute to 30 days.
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

/// A bypass or a Service Auth policy applies before anybody has logged in.
fn refuse_identity(reader: &Reader<'_>, clauses: &Clauses, names: &Names<'_>) {
    for (rule, place) in clauses.all() {
        let asks =
            "who somebody is, and this policy is decided before anybody logs in; use `allow`";
        match rule {
            Rule::Group { id } if names.about_identity.contains(id) => {
                reader.error(
                    place,
                    &format!("the group `{id}` asks {asks}, or a group without such rules"),
                );
            }
            rule if is_about_people(rule) => {
                reader.error(
                    place,
                    &format!("`{}` asks {asks}, or a rule such as `ip`", rule.selector()),
                );
            }
            _ => {}
        }
    }
}
