//! Reads single members of provider documents: tolerant of spelling, strict about meaning.

use serde_json::Value;

/// Reads a boolean, or a string with its name in upper or lower case, which some providers send.
/// `None` for anything else.
pub(super) fn boolean(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(value) => Some(*value),
        Value::String(text) if text.eq_ignore_ascii_case("true") => Some(true),
        Value::String(text) if text.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

/// Reads an array of strings, or a single string in place of an array with one entry.
pub(super) fn strings(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::String(one) => Some(vec![one.clone()]),
        Value::Array(all) => all
            .iter()
            .map(|one| one.as_str().map(str::to_owned))
            .collect(),
        _ => None,
    }
}

/// Reads a list of names in a discovery document, like [`strings`]. A string may hold several
/// names, separated by spaces.
///
/// `Some(None)` is an empty list, which means the same as no list (RFC 8414 2).
pub(super) fn names(value: &Value) -> Option<Option<Vec<String>>> {
    let all = match value {
        Value::String(text) => text.split_ascii_whitespace().map(str::to_owned).collect(),
        _ => strings(value)?,
    };
    let all: Vec<String> = all.into_iter().filter(|name| !name.is_empty()).collect();
    Some(Some(all).filter(|all| !all.is_empty()))
}

/// Describes the type of a value and, for a list, its first element that is not a string. Never
/// contains the value itself.
pub(super) fn json_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Object(_) => "an object",
        Value::Array(all) => match all.iter().find(|one| !one.is_string()) {
            None => "a list of strings",
            Some(Value::Null) => "a list with null in it",
            Some(Value::Bool(_)) => "a list with a boolean in it",
            Some(Value::Array(_)) => "a list with a list in it",
            Some(Value::Object(_)) => "a list with an object in it",
            Some(_) => "a list with a number in it",
        },
    }
}
