use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde_json::Value as Json;

use super::errors::{did_you_mean, instead};
use super::evaluations::Evaluations;
use super::node::{Node, Value};
use super::reader::{Item, Place, Table};
use super::service_tokens;
use crate::model::{Email, EmailDomain};
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

/// The names that rules can refer to.
#[derive(Debug)]
pub(super) struct Names<'a> {
    /// `true` if there is a country database.
    pub(super) countries: bool,
    /// The evaluation services that rules name.
    pub(super) evaluations: Evaluations,
    /// The ids of the identity providers; `None` for a remote team, which has them.
    pub(super) providers: Option<BTreeSet<&'a str>>,
    /// The ids of the Access groups.
    pub(super) groups: BTreeSet<&'a str>,
    /// The ids of the service tokens.
    pub(super) service_tokens: BTreeSet<&'a str>,
    /// The ids of the applications.
    pub(super) applications: BTreeSet<String>,
    /// The claims that logins request of each provider.
    pub(super) claims: BTreeMap<String, Vec<String>>,
    /// The ids of the lists of email addresses.
    pub(super) email_lists: BTreeSet<String>,
    /// The ids of the lists of networks.
    pub(super) ip_lists: BTreeSet<String>,
    /// The groups with rules about users, their own or those of groups in them.
    pub(super) about_identity: HashSet<String>,
}

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
    let Some((_, fields)) = SELECTORS.iter().find(|(known, _)| known == selector) else {
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
    let needed: Vec<&str> = fields
        .iter()
        .copied()
        .filter(|field| !field.starts_with('?'))
        .collect();
    let fields: Vec<&str> = fields
        .iter()
        .map(|field| field.trim_start_matches('?'))
        .collect();
    let body = item.get(selector)?;
    if body.node().as_table().is_none() {
        let fields = fields
            .iter()
            .map(|field| format!("{field} = \"…\""))
            .collect::<Vec<_>>()
            .join(", ");
        body.wrong_type(
            &format!("a table, as in `{selector} = {{ {fields} }}`").replace("{  }", "{}"),
        );
        return None;
    }
    if let Some((key, place)) = body
        .keys()
        .into_iter()
        .find(|(key, _)| !fields.contains(key))
    {
        let meant = did_you_mean(key, fields.iter().copied());
        item.reader()
            .error(&place, &format!("`{selector}` has no `{key}`{meant}"));
        return None;
    }
    if let Some(field) = needed.iter().find(|field| body.get(field).is_none()) {
        body.error(&format!("`{selector}` needs `{field}`"));
        return None;
    }
    for field in fields.iter().filter(|field| !LISTS.contains(field)) {
        if let Some(field) = body.get(field) {
            field.text()?;
        }
    }
    match json(item.node(), 8).map(serde_json::from_value::<Rule>) {
        Some(Ok(rule)) => has_effect(&rule, &body, names).then_some(rule),
        Some(Err(e)) => {
            // A mistake in the only field is reported at the field, otherwise at the table.
            let at = if let [field] = fields.as_slice() {
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

/// Returns `true` if a well-formed rule can have an effect here; reports the reason otherwise.
fn has_effect(rule: &Rule, body: &Item<'_>, names: &Names<'_>) -> bool {
    let wrong = |field: &str, message: Option<String>| match message {
        Some(message) => {
            body.get(field)
                .unwrap_or_else(|| body.clone())
                .error(&message);
            false
        }
        None => true,
    };
    match rule {
        Rule::Everyone {} | Rule::Ip { .. } => true,
        Rule::Email { email } => wrong("email", email_mistake(email)),
        Rule::EmailDomain { domain } => wrong("domain", domain_mistake(domain)),
        Rule::Group { id } => {
            let unknown = || {
                format!(
                    "no group has the id `{id}`{}",
                    instead(id, names.groups.iter().copied())
                )
            };
            wrong("id", (!names.groups.contains(id.as_str())).then(unknown))
        }
        Rule::EmailList { id } => wrong(
            "id",
            unknown_list(id, &names.email_lists, &names.ip_lists, "email addresses"),
        ),
        Rule::IpList { id } => wrong(
            "id",
            unknown_list(id, &names.ip_lists, &names.email_lists, "networks"),
        ),
        Rule::LoginMethod { id } => wrong("id", unknown_provider(&id.0, names)),
        Rule::Okta {
            name: text,
            identity_provider_id: idp,
        }
        | Rule::Saml {
            attribute_name: text,
            identity_provider_id: idp,
            ..
        }
        | Rule::Oidc {
            claim_name: text,
            identity_provider_id: idp,
            ..
        } => {
            let field = match rule {
                Rule::Okta { .. } => "name",
                Rule::Saml { .. } => "attribute_name",
                _ => "claim_name",
            };
            let named = wrong(
                field,
                text.is_empty().then(|| "the name is empty".to_owned()),
            );
            let claims = names
                .claims
                .get(&*idp.0)
                .filter(|_| !matches!(rule, Rule::Okta { .. }) && named);
            let not_requested = claims.filter(|claims| !claims.contains(text)).map(|_| {
                let (what, list) = match rule {
                    Rule::Saml { .. } => ("attribute", "attributes"),
                    _ => ("claim", "claims"),
                };
                format!("the provider `{}` does not request the {what} `{text}`; add it to its `{list}`", idp.0)
            });
            let requested = wrong(field, not_requested);
            wrong("identity_provider_id", unknown_provider(&idp.0, names)) && named && requested
        }
        Rule::AzureAd {
            identity_provider_id: idp,
            ..
        }
        | Rule::GithubOrganization {
            identity_provider_id: idp,
            ..
        }
        | Rule::Gsuite {
            identity_provider_id: idp,
            ..
        }
        | Rule::AuthContext {
            identity_provider_id: idp,
            ..
        } => {
            warn_not_evaluated(rule, body);
            wrong("identity_provider_id", unknown_provider(&idp.0, names))
        }
        Rule::DevicePosture { .. }
        | Rule::UserRiskScore { .. }
        | Rule::CloudflareAccountMember { .. } => {
            warn_not_evaluated(rule, body);
            true
        }
        Rule::PortcullisMethod { methods } => {
            let none = "an empty list matches no method; name at least one, such as `GET`";
            wrong("methods", methods.is_empty().then(|| none.to_owned()))
        }
        Rule::Geo { .. } => {
            let none = "there is no country database; add `[geo]` with `database = \"GeoLite2-Country.mmdb\"`";
            wrong("country_code", (!names.countries).then(|| none.to_owned()))
        }
        Rule::ExternalEvaluation {
            evaluate_url,
            keys_url,
        } => names.evaluations.check(evaluate_url, keys_url, body),
        Rule::ServiceToken { token_id } => {
            wrong("token_id", service_tokens::unknown_token(token_id, names))
        }
        Rule::LinkedAppToken { app_uid } => wrong(
            "app_uid",
            service_tokens::unknown_application(app_uid, names),
        ),
        Rule::CommonName { common_name } => {
            let none = common_name.is_empty() || common_name.chars().any(char::is_control);
            wrong(
                "common_name",
                none.then(|| "no certificate that is taken has such a common name".to_owned()),
            )
        }
        Rule::AuthMethod { .. }
        | Rule::PortcullisTime(_)
        | Rule::Certificate {}
        | Rule::AnyValidServiceToken {} => true,
    }
}

/// Warns about a rule that nothing here can evaluate.
fn warn_not_evaluated(rule: &Rule, body: &Item<'_>) {
    let selector = rule.selector();
    let message = format!(
        "`{selector}` needs a service that only Cloudflare has, so its result is unknown: in `include` and `require` it never matches, in `exclude` it denies every request"
    );
    body.reader().warn(body.place(), &message);
}

fn unknown_list(
    id: &str,
    fitting: &BTreeSet<String>,
    other: &BTreeSet<String>,
    what: &str,
) -> Option<String> {
    if fitting.contains(id) {
        return None;
    }
    if other.contains(id) {
        return Some(format!("the list `{id}` does not contain {what}"));
    }
    let instead = instead(id, fitting.iter().map(String::as_str));
    Some(format!("no list of {what} has the id `{id}`{instead}"))
}

/// Returns a message if no identity provider has the id.
pub(super) fn unknown_provider(id: &str, names: &Names<'_>) -> Option<String> {
    let known = names.providers.as_ref()?;
    (!known.contains(id)).then(|| {
        format!(
            "no identity provider has the id `{id}`{}",
            instead(id, known.iter().copied())
        )
    })
}

/// Returns a message if the text is not an email address.
pub(super) fn email_mistake(email: &str) -> Option<String> {
    if let Some(("" | "*", domain)) = email.rsplit_once('@') {
        let instead = format!("{{ email_domain = {{ domain = \"{domain}\" }} }}");
        return Some(format!(
            "`{email}` is not one address; for the whole domain write `{instead}`"
        ));
    }
    if email.contains('*') {
        return Some(format!(
            "`{email}`: there are no wildcards here; write a rule for each address"
        ));
    }
    let error = Email::parse(email).err()?;
    Some(format!(
        "`{email}` is not an address like `alice@example.com`: {error}"
    ))
}

fn domain_mistake(domain: &str) -> Option<String> {
    if let Some((_, host)) = domain.rsplit_once('@') {
        return Some(format!(
            "`{domain}` must be the part after the `@`; write `{host}`"
        ));
    }
    if domain.contains('*') {
        return Some(format!(
            "`{domain}`: there are no wildcards here; write a rule for each domain"
        ));
    }
    EmailDomain::parse(domain)
        .err()
        .map(|e| format!("`{domain}` is not a domain like `example.com`: {e}"))
}
