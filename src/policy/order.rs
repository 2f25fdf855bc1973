use std::collections::HashMap;

use thiserror::Error;

use super::rule::{AccessGroup, Rule};

/// A rule with an unknown name, or a group that contains itself.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum UnknownName {
    /// No such group.
    #[error("no Access group has the id `{0}`")]
    Group(String),
    /// No such list, or one of the other kind.
    #[error("no list for such a rule has the id `{0}`")]
    List(String),
    /// The group is part of itself; the ids on the way.
    #[error("the Access group contains itself: {}", .0.join(" → "))]
    Cycle(Vec<String>),
}

#[derive(Clone, Copy, PartialEq)]
enum Mark {
    New,
    Open,
    Done,
}

/// Sorts groups so that each comes after those that it contains.
///
/// Depth first and without recursion: a file may nest groups to any depth.
///
/// # Errors
///
/// A rule that names no group, and groups that contain themselves.
pub(super) fn order(groups: &[AccessGroup]) -> Result<Vec<&AccessGroup>, UnknownName> {
    let places: HashMap<&str, usize> = groups
        .iter()
        .enumerate()
        .map(|(at, group)| (group.id.as_str(), at))
        .collect();
    let children = |group: &AccessGroup| -> Result<Vec<usize>, UnknownName> {
        let rules = group
            .include
            .iter()
            .chain(&group.require)
            .chain(&group.exclude);
        rules
            .filter_map(|rule| {
                if let Rule::Group { id } = rule {
                    Some(id)
                } else {
                    None
                }
            })
            .map(|id| {
                places
                    .get(id.as_str())
                    .copied()
                    .ok_or_else(|| UnknownName::Group(id.clone()))
            })
            .collect()
    };
    let mut marks = vec![Mark::New; groups.len()];
    let set = |marks: &mut Vec<Mark>, at: usize, mark: Mark| {
        marks.get_mut(at).into_iter().for_each(|m| *m = mark)
    };
    let mut ordered = Vec::with_capacity(groups.len());
    for start in 0..groups.len() {
        if marks.get(start) != Some(&Mark::New) {
            continue;
        }
        let mut path: Vec<(usize, Vec<usize>)> = Vec::new();
        let mut next = Some(start);
        loop {
            if let Some(at) = next.take() {
                set(&mut marks, at, Mark::Open);
                path.push((
                    at,
                    groups
                        .get(at)
                        .map(children)
                        .transpose()?
                        .unwrap_or_default(),
                ));
            }
            let Some((at, pending)) = path.last_mut() else {
                break;
            };
            match pending.pop() {
                Some(child) if marks.get(child) == Some(&Mark::Open) => {
                    let name =
                        |at: &usize| groups.get(*at).map(|g| g.id.clone()).unwrap_or_default();
                    let on_path = path.iter().map(|(at, _)| at).skip_while(|at| **at != child);
                    return Err(UnknownName::Cycle(
                        on_path.chain([&child]).map(name).collect(),
                    ));
                }
                Some(child) if marks.get(child) == Some(&Mark::New) => next = Some(child),
                Some(_) => {}
                None => {
                    set(&mut marks, *at, Mark::Done);
                    ordered.extend(groups.get(*at));
                    path.pop();
                }
            }
        }
    }
    Ok(ordered)
}
