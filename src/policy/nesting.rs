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

/// Sorts groups so that each comes after those that it contains.
///
/// Depth first and without recursion: a file may nest groups to any depth.
///
/// # Errors
///
/// A rule that names no group, and groups that contain themselves.
pub(super) fn innermost_first(groups: &[AccessGroup]) -> Result<Vec<&AccessGroup>, UnknownName> {
    let mut sort = Sort {
        groups,
        indices: groups
            .iter()
            .enumerate()
            .map(|(index, group)| (group.id.as_str(), index))
            .collect(),
        marks: vec![Mark::New; groups.len()],
        path: Vec::new(),
        sorted: Vec::with_capacity(groups.len()),
    };
    for start in 0..groups.len() {
        sort.visit(start)?;
    }
    Ok(sort.sorted)
}

/// A depth-first search under way.
struct Sort<'a> {
    groups: &'a [AccessGroup],
    indices: HashMap<&'a str, usize>,
    marks: Vec<Mark>,
    path: Vec<Open>,
    sorted: Vec<&'a AccessGroup>,
}

#[derive(Clone, Copy, PartialEq)]
enum Mark {
    New,
    Open,
    Done,
}

/// A group on the path, and the groups in it that are not visited yet.
struct Open {
    group: usize,
    pending: Vec<usize>,
}

impl Sort<'_> {
    /// Sorts a group and all groups that it contains.
    fn visit(&mut self, start: usize) -> Result<(), UnknownName> {
        self.open(start)?;
        while let Some(Open { group, pending }) = self.path.last_mut() {
            let group = *group;
            match pending.pop() {
                Some(child) if self.marks.get(child) == Some(&Mark::Open) => {
                    return Err(self.cycle(child));
                }
                Some(child) => self.open(child)?,
                None => {
                    self.mark(group, Mark::Done);
                    self.sorted.extend(self.groups.get(group));
                    self.path.pop();
                }
            }
        }
        Ok(())
    }

    /// Puts a group on the path, unless it was visited before.
    fn open(&mut self, index: usize) -> Result<(), UnknownName> {
        if self.marks.get(index) != Some(&Mark::New) {
            return Ok(());
        }
        self.mark(index, Mark::Open);
        let pending = self.children(index)?;
        self.path.push(Open {
            group: index,
            pending,
        });
        Ok(())
    }

    fn mark(&mut self, index: usize, mark: Mark) {
        if let Some(slot) = self.marks.get_mut(index) {
            *slot = mark;
        }
    }

    fn children(&self, index: usize) -> Result<Vec<usize>, UnknownName> {
        let Some(group) = self.groups.get(index) else {
            return Ok(Vec::new());
        };
        let clauses = [&group.include, &group.require, &group.exclude];
        let ids = clauses.into_iter().flatten().filter_map(|rule| match rule {
            Rule::Group { id } => Some(id),
            _ => None,
        });
        ids.map(|id| {
            let index = self.indices.get(id.as_str()).copied();
            index.ok_or_else(|| UnknownName::Group(id.clone()))
        })
        .collect()
    }

    /// Returns the error for a group on the path that contains itself.
    fn cycle(&self, group: usize) -> UnknownName {
        let on_path = self.path.iter().map(|open| open.group);
        let on_cycle = on_path.skip_while(|index| *index != group).chain([group]);
        let id = |index: usize| self.groups.get(index).map(|group| group.id.clone());
        UnknownName::Cycle(on_cycle.filter_map(id).collect())
    }
}
