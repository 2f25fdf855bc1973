use std::collections::{HashMap, HashSet};

use super::names::Names;
use super::reader::{Place, Reader, Table, Unique};
use super::rules::{Clauses, bare, depends_on_user};
use super::values;
use crate::catalog::Kind;
use crate::policy::{AccessGroup, Advisor, List, PolicySet, Rule, UnknownName};

/// The most cycles to report: more of them have a common cause.
const MOST_CYCLES: usize = 20;

/// Reads the Access groups, and adds those with rules about users to the names.
pub(super) fn read_all(
    table: &mut Table<'_>,
    names: &mut Names<'_>,
    lists: &[List],
) -> Vec<AccessGroup> {
    let reader = table.reader();
    let (mut ids, mut labels) = (
        Unique::new("group has the id"),
        Unique::new("group has the name"),
    );
    let mut groups = Vec::new();
    let mut places = HashMap::new();
    for item in table.list("groups") {
        let group = item.table(|table| {
            let id = table
                .needed("id", "\"engineers\"")
                .and_then(|item| item.claim(values::id, &mut ids));
            let label = table
                .item("name")
                .map(|item| item.claim(values::label, &mut labels));
            table.ignore_read_only();
            let clauses = Clauses::read(table, names);
            let id = id?;
            let name = label.unwrap_or_else(|| Some(id.clone()))?;
            let Clauses {
                include,
                require,
                exclude,
            } = clauses;
            let group = AccessGroup {
                id,
                name,
                include: bare(include),
                require: bare(require),
                exclude: bare(exclude),
            };
            Some(group)
        });
        if let Some(group) = group.flatten() {
            item.record(Kind::Group, &group.id);
            places
                .entry(group.id.clone())
                .or_insert_with(|| item.place().clone());
            groups.push(group);
        }
    }
    report_cycles(reader, &groups, &places);
    let advisor = Advisor::new(lists);
    for (group, place) in groups
        .iter()
        .filter_map(|group| Some((group, places.get(&group.id)?)))
    {
        advisor
            .group(group)
            .inspect(|advice| reader.warn(place, advice));
    }
    names.about_identity = about_identity(&groups);
    groups
}

/// Reports each cycle of groups: removes the last step of the one found before, and searches again.
fn report_cycles(reader: &Reader<'_>, groups: &[AccessGroup], places: &HashMap<String, Place>) {
    let mut groups = groups.to_vec();
    for group in &mut groups {
        let known = |rule: &Rule| !matches!(rule, Rule::Group { id } if !places.contains_key(id));
        for list in [&mut group.include, &mut group.require, &mut group.exclude] {
            list.retain(known);
        }
    }
    for _ in 0..MOST_CYCLES {
        let Err(UnknownName::Cycle(way)) = PolicySet::check(&groups) else {
            return;
        };
        let [.., from, to] = way.as_slice() else {
            return;
        };
        if let Some(place) = places.get(to) {
            reader.error(
                place,
                &format!("this group contains itself: {}", way.join(" → ")),
            );
        }
        for group in groups.iter_mut().filter(|group| group.id == *from) {
            for list in [&mut group.include, &mut group.require, &mut group.exclude] {
                list.retain(|rule| !matches!(rule, Rule::Group { id } if id == to));
            }
        }
    }
}

fn about_identity(groups: &[AccessGroup]) -> HashSet<String> {
    let mut parents: HashMap<&str, Vec<&str>> = HashMap::new();
    let mut pending = Vec::new();
    for group in groups {
        for rule in group
            .include
            .iter()
            .chain(&group.require)
            .chain(&group.exclude)
        {
            match rule {
                Rule::Group { id } => parents.entry(id).or_default().push(&group.id),
                rule if depends_on_user(rule) => pending.push(group.id.as_str()),
                _ => {}
            }
        }
    }
    let mut found = HashSet::new();
    while let Some(id) = pending.pop() {
        if found.insert(id.to_owned()) {
            pending.extend(parents.get(id).into_iter().flatten());
        }
    }
    found
}
