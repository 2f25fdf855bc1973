use serde_json::Value as Json;

use super::errors::did_you_mean;
use super::names::Names;
use super::node::{Node, Value};
use super::reader::{Item, Place, Table};
use super::rule_effects::has_effect;
use crate::policy::{About, Rule};

/// The selectors, each with its fields; a question mark precedes an optional one.
pub(super) const SELECTORS: &[(&str, &[&str])] = &[
    ("email", &["email"]),
    ("email_domain", &["domain"]),
    ("email_list", &["id"]),
    ("everyone", &[]),
    ("ip", &["ip"]),
    ("ip_list", &["id"]),
    ("geo", &["country_code"]),
    ("group", &["id"]),
    ("okta", &["name", "identity_provider_id"]),
    (
        "saml",
        &["attribute_name", "attribute_value", "identity_provider_id"],
    ),
    (
        "oidc",
        &["claim_name", "claim_value", "identity_provider_id"],
    ),
    ("azureAD", &["id", "identity_provider_id"]),
    (
        "github-organization",
        &["name", "?team", "identity_provider_id"],
    ),
    ("gsuite", &["email", "identity_provider_id"]),
    ("login_method", &["id"]),
    ("auth_method", &["auth_method"]),
    ("auth_context", &["id", "ac_id", "identity_provider_id"]),
    ("certificate", &[]),
    ("common_name", &["common_name"]),
    ("service_token", &["token_id"]),
    ("any_valid_service_token", &[]),
    ("external_evaluation", &["evaluate_url", "keys_url"]),
    ("linked_app_token", &["app_uid"]),
    ("device_posture", &["integration_uid"]),
    ("user_risk_score", &["user_risk_score"]),
    ("cloudflare_account_member", &["account_id"]),
    ("portcullis_method", &["methods"]),
    ("portcullis_time", &["from", "to", "?days", "time_zone"]),
];

/// The fields that are lists of texts; all others are texts.
const LISTS: &[&str] = &["methods", "days", "user_risk_score"];

pub(super) struct Clauses {
    pub(super) include: Vec<(Rule, Place)>,
    pub(super) require: Vec<(Rule, Place)>,
    pub(super) exclude: Vec<(Rule, Place)>,
}

impl Clauses {
    pub(super) fn read(table: &mut Table<'_>, names: &Names<'_>) -> Self {
        let item = table.needed(
            "include",
            "[{ email_domain = { domain = \"example.com\" } }]",
        );
        if item
            .as_ref()
            .and_then(|item| item.node().as_list())
            .is_some_and(<[_]>::is_empty)
        {
            let message = "an empty list matches no request; name at least one rule, such as `{ everyone = {} }`";
            item.as_ref().inspect(|item| item.error(message));
        }
        let rules = |list: Vec<Item<'_>>| -> Vec<(Rule, Place)> {
            list.iter()
                .filter_map(|item| Some((rule(item, names)?, item.place().clone())))
                .collect()
        };
        let include = rules(item.and_then(|item| item.list()).unwrap_or_default());
        Self {
            include,
            require: rules(table.list("require")),
            exclude: rules(table.list("exclude")),
        }
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &(Rule, Place)> {
        self.include
            .iter()
            .chain(&self.require)
            .chain(&self.exclude)
    }
}

pub(super) fn bare(rules: Vec<(Rule, Place)>) -> Vec<Rule> {
    rules.into_iter().map(|(rule, _)| rule).collect()
}

/// Returns `true` if the rule depends on the user, or on a service that exists only at Cloudflare.
pub(super) fn depends_on_user(rule: &Rule) -> bool {
    matches!(rule.about(), About::User | About::Elsewhere)
}

/// Reads a rule; reports at most one mistake.
fn rule(item: &Item<'_>, names: &Names<'_>) -> Option<Rule> {
    let (body, fields) = selected(item)?;
    has_fields(&body, &fields)?;
    match json(item.node(), 8).map(serde_json::from_value::<Rule>) {
        Some(Ok(rule)) => has_effect(&rule, &body, names).then_some(rule),
        Some(Err(e)) => {
            // A mistake in the only field is reported at the field, otherwise at the table.
            let at = if let [field] = fields.all.as_slice() {
                body.get(field)
            } else {
                None
            };
            at.unwrap_or(body).error(&e.to_string());
            None
        }
        None => {
            body.error("this is not a valid rule");
            None
        }
    }
}

/// The fields of a selector.
struct Fields {
    selector: &'static str,
    needed: Vec<&'static str>,
    all: Vec<&'static str>,
}

impl Fields {
    fn of(selector: &str) -> Option<Self> {
        let (selector, fields) = SELECTORS.iter().find(|(known, _)| *known == selector)?;
        let needed = fields.iter().filter(|field| !field.starts_with('?'));
        Some(Self {
            selector,
            needed: needed.copied().collect(),
            all: fields
                .iter()
                .map(|field| field.trim_start_matches('?'))
                .collect(),
        })
    }
}

/// Reads the only selector of a rule.
fn selected<'a>(item: &Item<'a>) -> Option<(Item<'a>, Fields)> {
    let Some(table) = item.node().as_table() else {
        item.wrong_type("a rule, such as `{ email = { email = \"alice@example.com\" } }`");
        return None;
    };
    let keys = item.keys();
    let [(selector, place)] = keys.as_slice() else {
        let found = table.len();
        item.error(&format!(
            "a rule has exactly one selector and this has {found}; write a rule for each"
        ));
        return None;
    };
    let Some(fields) = Fields::of(selector) else {
        let meant = did_you_mean(selector, SELECTORS.iter().map(|(known, _)| *known));
        let meant = if meant.is_empty() {
            "; docs/policies.md lists them"
        } else {
            &meant
        };
        let message = format!("there is no selector `{selector}`{meant}");
        item.reader().error(place, &message);
        return None;
    };
    Some((item.get(selector)?, fields))
}

/// Returns `Some` if the body has every field that the selector needs, and no other; reports the
/// mistake otherwise.
fn has_fields(body: &Item<'_>, fields: &Fields) -> Option<()> {
    let Fields {
        selector,
        needed,
        all,
    } = fields;
    if body.node().as_table().is_none() {
        let fields = all
            .iter()
            .map(|field| format!("{field} = \"…\""))
            .collect::<Vec<_>>()
            .join(", ");
        body.wrong_type(
            &format!("a table, as in `{selector} = {{ {fields} }}`").replace("{  }", "{}"),
        );
        return None;
    }
    if let Some((key, place)) = body.keys().into_iter().find(|(key, _)| !all.contains(key)) {
        let meant = did_you_mean(key, all.iter().copied());
        body.reader()
            .error(&place, &format!("`{selector}` has no `{key}`{meant}"));
        return None;
    }
    if let Some(field) = needed.iter().find(|field| body.get(field).is_none()) {
        body.error(&format!("`{selector}` needs `{field}`"));
        return None;
    }
    for field in all.iter().filter(|field| !LISTS.contains(field)) {
        if let Some(field) = body.get(field) {
            field.text()?;
        }
    }
    Some(())
}

/// Converts a rule for its deserializer.
fn json(node: &Node, depth: usize) -> Option<Json> {
    let depth = depth.checked_sub(1)?;
    Some(match node.value() {
        Value::Null => Json::Null,
        Value::Text(text) | Value::Date(text) => Json::String(text.clone()),
        Value::Integer(number) => number.get::<i64>()?.into(),
        Value::Float(number) => (*number).into(),
        Value::Boolean(flag) => Json::Bool(*flag),
        Value::List(list) => list
            .iter()
            .map(|item| json(item, depth))
            .collect::<Option<Vec<_>>>()?
            .into(),
        Value::Table(table) => table
            .iter()
            .map(|(key, entry)| Some((key.to_owned(), json(&entry.node, depth)?)))
            .collect::<Option<serde_json::Map<_, _>>>()?
            .into(),
    })
}
