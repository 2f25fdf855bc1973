//! Claims within claims: `realm_access.roles` is the member `roles` of the claim `realm_access`.

use serde_json::{Map, Value};

use crate::model::is_nearly;

/// The result of a search for a claim.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Found<'a> {
    Value(&'a Value),
    Absent,
    /// A step of the path leads into a value that is not an object.
    Unreadable,
}

/// Finds the member with this whole name, or else the one at the end of the path. `null` counts as
/// absent (OpenID Connect Core 5.3.2).
pub(super) fn find<'a>(object: &'a Map<String, Value>, name: &str) -> Found<'a> {
    if let Some(value) = object.get(name).filter(|value| !value.is_null()) {
        return Found::Value(value);
    }
    let mut outcome = Found::Absent;
    for (dot, _) in name.rmatch_indices('.') {
        let (Some(step), Some(rest)) = (name.get(..dot), name.get(dot + 1..)) else {
            continue;
        };
        match object.get(step) {
            Some(Value::Object(inner)) => match find(inner, rest) {
                Found::Absent => {}
                found => return found,
            },
            None | Some(Value::Null) => {}
            Some(_) => outcome = Found::Unreadable,
        }
    }
    outcome
}

/// Returns `true` if a member, or every step of the path to one, has a similar name.
pub(super) fn has_similar(object: &Map<String, Value>, name: &str) -> bool {
    let mut members = object.iter().filter(|(_, value)| !value.is_null());
    members.any(|(member, value)| {
        let mut steps = name
            .match_indices('.')
            .filter_map(|(dot, _)| Some((name.get(..dot)?, name.get(dot + 1..)?)));
        is_nearly(member, name)
            || steps.any(|(step, rest)| {
                is_nearly(member, step)
                    && value
                        .as_object()
                        .is_none_or(|inner| has_similar(inner, rest))
            })
    })
}
