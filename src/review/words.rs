//! Rules, outcomes and times as text.

use serde_json::Value;

use crate::engine::Outcome;
use crate::model::UnixTime;
use crate::policy::Rule;

/// Returns a time in UTC, as text.
pub(super) fn moment(at: u64) -> String {
    let moment = i64::try_from(at)
        .ok()
        .and_then(|at| jiff::Timestamp::from_second(at).ok());
    moment.map_or_else(|| UnixTime(at).to_string(), |moment| moment.to_string())
}

const PROVIDER: &str = "identity_provider_id";

/// Returns a rule in a few words: the selector and its values.
pub(super) fn brief(rule: &Rule) -> String {
    let json = serde_json::to_value(rule).unwrap_or_default();
    let fields = json
        .as_object()
        .and_then(|rule| rule.values().next())
        .and_then(Value::as_object);
    let mut text = rule.selector().to_owned();
    let mut fields: Vec<_> = fields.into_iter().flatten().collect();
    fields.sort_by_key(|(name, _)| *name == PROVIDER);
    for (name, value) in fields {
        let value = match value {
            Value::String(text) => text.clone(),
            Value::Array(list) => list
                .iter()
                .filter_map(Value::as_str)
                .collect::<Vec<_>>()
                .join(", "),
            other => other.to_string(),
        };
        let quoted = if value.contains(' ') {
            format!("`{value}`")
        } else {
            value
        };
        let between = if name == PROVIDER { " of " } else { " " };
        text.push_str(between);
        text.push_str(&quoted);
    }
    text
}

/// Returns an outcome and its policy, in words.
pub(super) fn in_words(outcome: Outcome, policy: Option<&str>) -> String {
    policy.map_or_else(
        || outcome.to_string(),
        |policy| format!("{outcome} by `{policy}`"),
    )
}
