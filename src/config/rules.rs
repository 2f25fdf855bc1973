use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde_json::Value as Json;

use super::errors::{did_you_mean, instead};
use super::evaluations::Evaluations;
use super::node::{Node, Value};
use super::reader::{Item, Place, Reader, Table};
use super::service_tokens;
use super::unique::Unique;
use super::values;
use crate::catalog::Kind;
use crate::model::{Email, EmailDomain};
use crate::policy::{
    About, AccessGroup, Advisor, IpRange, List, ListItems, PolicySet, Rule, UnknownName,
};

/// The selectors there are, each with its fields; a question mark stands before one that may be
/// left out.
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

/// Fields of selectors that are lists of texts; all others are texts.
const LISTS: &[&str] = &["methods", "days", "user_risk_score"];

/// More than this many cycles are one mistake made often.
const MOST_CYCLES: usize = 20;

/// What rules may refer to.
#[derive(Debug)]
pub(super) struct Names<'a> {
    /// Whether there is a database of countries.
    pub(super) countries: bool,
    /// The services that rules ask.
    pub(super) evaluations: Evaluations,
    /// The ids of the identity providers; none where they are another team's, and not known here.
    pub(super) providers: Option<BTreeSet<&'a str>>,
    /// The ids of the Access groups.
    pub(super) groups: BTreeSet<&'a str>,
    /// The ids of the service tokens.
    pub(super) service_tokens: BTreeSet<&'a str>,
    /// The ids of the applications.
    pub(super) applications: BTreeSet<String>,
    /// The claims that each provider is asked for, where that is known here.
    pub(super) claims: BTreeMap<String, Vec<String>>,
    /// The ids of the lists of people's addresses.
    pub(super) email_lists: BTreeSet<String>,
    /// The ids of the lists of networks.
    pub(super) ip_lists: BTreeSet<String>,
    /// Those of the groups that ask, themselves or through others, who somebody is.
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
            let message = "an empty list includes nobody; name at least one rule, such as `{ everyone = {} }`";
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

/// Reads the lists, and notes what each of them holds.
pub(super) fn read_lists(table: &mut Table<'_>, names: &mut Names<'_>) -> Vec<List> {
    let (mut ids, mut labels) = (
        Unique::new("list has the id"),
        Unique::new("list has the name"),
    );
    let mut lists = Vec::new();
    for item in table.list("lists") {
        let list = item.table(|table| {
            let id = table
                .needed("id", "\"contractors\"")
                .and_then(|item| item.claim(values::id, &mut ids));
            let label = table
                .item("name")
                .map(|item| item.claim(values::label, &mut labels));
            let items = list_items(table);
            let id = id?;
            let name = label.unwrap_or_else(|| Some(id.clone()))?;
            Some(List {
                id,
                name,
                items: items?,
            })
        });
        if let Some(list) = list.flatten() {
            item.record(Kind::List, &list.id);
            lists.push(list);
        }
    }
    for List { id, items, .. } in &lists {
        match items {
            ListItems::Email(_) => names.email_lists.insert(id.clone()),
            ListItems::Ip(_) => names.ip_lists.insert(id.clone()),
        };
    }
    lists
}

/// Reads the items of a list: `emails` or `ips` in the file, `type` and `items` in Access.
fn list_items(table: &mut Table<'_>) -> Option<ListItems> {
    if table.is_access() {
        return access_list_items(table);
    }
    let emails = table.item("emails").is_some().then(|| table.list("emails"));
    let ips = table.item("ips").is_some().then(|| table.list("ips"));
    match (emails, ips) {
        (Some(emails), None) => Some(ListItems::Email(
            emails.iter().filter_map(list_email).collect(),
        )),
        (None, Some(ips)) => Some(ListItems::Ip(ips.iter().filter_map(list_range).collect())),
        _ => {
            table
                .reader()
                .error(table.place(), "a list has either `emails` or `ips`");
            None
        }
    }
}

fn access_list_items(table: &mut Table<'_>) -> Option<ListItems> {
    table.ignore_read_only();
    table.ignore(&["count"]);
    let kind = table.needed("type", "\"EMAIL\"")?;
    let items = table.list("items");
    let values = items.iter().filter_map(|item| {
        item.table(|table| {
            table.ignore(&["created_at"]);
            table.needed("value", "\"alice@example.com\"")
        })?
    });
    match kind.text()? {
        "EMAIL" => Some(ListItems::Email(
            values.filter_map(|item| list_email(&item)).collect(),
        )),
        "IP" => Some(ListItems::Ip(
            values.filter_map(|item| list_range(&item)).collect(),
        )),
        other => {
            kind.error(&format!("`{other}` is none of `EMAIL`, `IP`"));
            None
        }
    }
}

fn list_email(item: &Item<'_>) -> Option<String> {
    item.parse(|text| email_mistake(text).map_or_else(|| Ok(text.to_owned()), Err))
}

fn list_range(item: &Item<'_>) -> Option<IpRange> {
    item.parse(|text| IpRange::try_from(text.to_owned()))
}

/// Reads the Access groups, and notes which of them ask about identity.
pub(super) fn read_groups(
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

/// Finds each cycle by taking the last step out of the one before.
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

/// Whether it asks who somebody is, or what only services elsewhere know of them.
pub(super) fn is_about_people(rule: &Rule) -> bool {
    matches!(rule.about(), About::Person | About::Elsewhere)
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
                rule if is_about_people(rule) => pending.push(group.id.as_str()),
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

/// Reads one rule; whatever is wrong with it is one error.
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
        Some(Ok(rule)) => meaning(&rule, &body, names).then_some(rule),
        Some(Err(e)) => {
            // One field is one place; where there are more, their table is.
            let at = if let [field] = fields.as_slice() {
                body.get(field)
            } else {
                None
            };
            at.unwrap_or(body).error(&e.to_string());
            None
        }
        None => {
            body.error("this is no rule");
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

/// Whether a rule that reads well can mean anything; reports why not.
fn meaning(rule: &Rule, body: &Item<'_>, names: &Names<'_>) -> bool {
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
            let not_asked = claims.filter(|claims| !claims.contains(text)).map(|_| {
                let (what, list) = match rule {
                    Rule::Saml { .. } => ("attribute", "attributes"),
                    _ => ("claim", "claims"),
                };
                format!("the provider `{}` is not asked for the {what} `{text}`; add it to its `{list}`", idp.0)
            });
            let asked = wrong(field, not_asked);
            wrong("identity_provider_id", unknown_provider(&idp.0, names)) && named && asked
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
            elsewhere(rule, body);
            wrong("identity_provider_id", unknown_provider(&idp.0, names))
        }
        Rule::DevicePosture { .. }
        | Rule::UserRiskScore { .. }
        | Rule::CloudflareAccountMember { .. } => {
            elsewhere(rule, body);
            true
        }
        Rule::PortcullisMethod { methods } => {
            let none = "an empty list is no request's method; name at least one, such as `GET`";
            wrong("methods", methods.is_empty().then(|| none.to_owned()))
        }
        Rule::Geo { .. } => {
            let none = "nothing here knows which country an address is in; add `[geo]` with `database = \"GeoLite2-Country.mmdb\"`";
            wrong("country_code", (!names.countries).then(|| none.to_owned()))
        }
        Rule::ExternalEvaluation {
            evaluate_url,
            keys_url,
        } => names.evaluations.meaning(evaluate_url, keys_url, body),
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

/// Says of a rule that nobody here can ever answer what it does.
fn elsewhere(rule: &Rule, body: &Item<'_>) {
    let selector = rule.selector();
    let message = format!(
        "`{selector}` asks a service that is not here, so its answer is unknown: in `include` and `require` it lets nobody in, in `exclude` it keeps everybody out"
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
        return Some(format!("the list `{id}` does not hold {what}"));
    }
    let instead = instead(id, fitting.iter().map(String::as_str));
    Some(format!("no list of {what} has the id `{id}`{instead}"))
}

/// What to say of an identity provider that there is not.
pub(super) fn unknown_provider(id: &str, names: &Names<'_>) -> Option<String> {
    let known = names.providers.as_ref()?;
    (!known.contains(id)).then(|| {
        format!(
            "no identity provider has the id `{id}`{}",
            instead(id, known.iter().copied())
        )
    })
}

fn email_mistake(email: &str) -> Option<String> {
    if let Some(("" | "*", domain)) = email.rsplit_once('@') {
        let instead = format!("{{ email_domain = {{ domain = \"{domain}\" }} }}");
        return Some(format!(
            "`{email}` is not one address; for everybody there write `{instead}`"
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
            "`{domain}` must be what stands after the `@`; write `{host}`"
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
