use std::collections::{HashMap, HashSet};
use std::time::Duration;

use serde_json::Value;
use toml::de::DeValue;

use super::errors::did_you_mean;
use super::reader::{self, Item, Place, Reader, Table, Unique};
use crate::model::{Email, Host, duration};
use crate::policy::{AccessGroup, Policy, PolicyDecision, PolicySet, Rule, UnknownGroup};

/// The selectors there are, each with its fields.
pub(super) const SELECTORS: &[(&str, &[&str])] = &[
    ("email", &["email"]),
    ("email_domain", &["domain"]),
    ("everyone", &[]),
    ("ip", &["ip"]),
    ("okta", &["name", "identity_provider_id"]),
    ("group", &["id"]),
    ("login_method", &["id"]),
];

/// Selectors that Cloudflare Access has besides.
const ELSEWHERE: &[&str] = &[
    "email_list",
    "ip_list",
    "geo",
    "saml",
    "oidc",
    "azureAD",
    "github-organization",
    "gsuite",
    "auth_method",
    "auth_context",
    "certificate",
    "common_name",
    "service_token",
    "any_valid_service_token",
    "device_posture",
    "external_evaluation",
    "linked_app_token",
    "user_risk_score",
    "cloudflare_account_member",
];

/// More than this many cycles are one mistake made often.
const MOST_CYCLES: usize = 20;

/// What rules may refer to.
#[derive(Debug)]
pub(super) struct Names<'a> {
    /// The ids of the identity providers; none where they are another team's, and not known here.
    pub(super) providers: Option<Vec<&'a str>>,
    /// The ids of the Access groups.
    pub(super) groups: Vec<&'a str>,
    /// Those of them that ask, themselves or through others, who somebody is.
    pub(super) about_identity: HashSet<String>,
}

struct Clauses {
    include: Vec<(Rule, Place)>,
    require: Vec<(Rule, Place)>,
    exclude: Vec<(Rule, Place)>,
}

impl Clauses {
    fn read(table: &mut Table<'_>, names: &Names<'_>) -> Self {
        let item = table.needed("include", "[{ everyone = {} }]");
        if item.as_ref().and_then(|item| item.value().as_array()).is_some_and(|list| list.is_empty()) {
            let message = "an empty list includes nobody; name at least one rule, such as `{ everyone = {} }`";
            item.as_ref().inspect(|item| item.error(message));
        }
        let rules = |list: Vec<Item<'_>>| -> Vec<(Rule, Place)> {
            list.iter().filter_map(|item| Some((rule(item, names)?, item.place().clone()))).collect()
        };
        let include = rules(item.and_then(|item| item.list()).unwrap_or_default());
        Self { include, require: rules(table.list("require")), exclude: rules(table.list("exclude")) }
    }

    fn all(&self) -> impl Iterator<Item = &(Rule, Place)> {
        self.include.iter().chain(&self.require).chain(&self.exclude)
    }
}

fn bare(rules: Vec<(Rule, Place)>) -> Vec<Rule> {
    rules.into_iter().map(|(rule, _)| rule).collect()
}

/// Reads the Access groups, and notes which of them ask about identity.
pub(super) fn read_groups(table: &mut Table<'_>, names: &mut Names<'_>) -> Vec<AccessGroup> {
    let reader = table.reader();
    let (mut ids, mut labels) = (Unique::new("group has the id"), Unique::new("group has the name"));
    let mut groups = Vec::new();
    let mut places = HashMap::new();
    for item in table.list("groups") {
        let group = item.table(|table| {
            let id = table.needed("id", "\"engineers\"").and_then(|item| item.claim(reader::id, &mut ids));
            let label = table.item("name").map(|item| item.claim(reader::label, &mut labels));
            let clauses = Clauses::read(table, names);
            let id = id?;
            let name = label.unwrap_or_else(|| Some(id.clone()))?;
            let Clauses { include, require, exclude } = clauses;
            let group =
                AccessGroup { id, name, include: bare(include), require: bare(require), exclude: bare(exclude) };
            Some(group)
        });
        if let Some(group) = group.flatten() {
            places.entry(group.id.clone()).or_insert_with(|| item.place().clone());
            groups.push(group);
        }
    }
    report_cycles(reader, &groups, &places);
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
        let Err(UnknownGroup::Cycle(way)) = PolicySet::compile(&groups, []) else { return };
        let [.., from, to] = way.as_slice() else { return };
        if let Some(place) = places.get(to) {
            reader.error(place, &format!("this group contains itself: {}", way.join(" → ")));
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
        for rule in group.include.iter().chain(&group.require).chain(&group.exclude) {
            match rule {
                Rule::Group { id } => parents.entry(id).or_default().push(&group.id),
                rule if rule.is_about_identity() => pending.push(group.id.as_str()),
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

/// Reads one policy. The place is that of its table, for warnings.
pub(super) fn policy(table: &mut Table<'_>, names: &Names<'_>) -> Option<(Policy, Place)> {
    table.foreign(&[
        ("precedence", "policies are asked in the order they are written in; leave this out"),
        ("isolation_required", "browser isolation needs Cloudflare's browsers; leave this out"),
        ("purpose_justification_required", "asking for a reason is not there yet; leave this out"),
        ("approval_required", "asking for approval is not there yet; leave this out"),
    ]);
    let id = table.item("id").map(|item| item.parse(reader::id));
    let name = table.needed("name", "\"engineers\"").and_then(|item| item.parse(reader::label));
    let decision = table.needed("decision", "\"allow\"").and_then(|item| item.parse(decision));
    let session_duration = session_duration(table);
    let clauses = Clauses::read(table, names);
    if decision == Some(PolicyDecision::Bypass) {
        refuse_identity(table.reader(), &clauses, names);
    }
    let place = table.place().clone();
    let Clauses { include, require, exclude } = clauses;
    let policy = Policy {
        id: id.flatten(),
        name: name?,
        decision: decision?,
        include: bare(include),
        require: bare(require),
        exclude: bare(exclude),
        session_duration,
    };
    Some((policy, place))
}

fn decision(text: &str) -> Result<PolicyDecision, String> {
    match text {
        "allow" => Ok(PolicyDecision::Allow),
        "deny" => Ok(PolicyDecision::Deny),
        "bypass" => Ok(PolicyDecision::Bypass),
        "block" => Err("`block` is called `deny`".to_owned()),
        "non_identity" | "service_auth" => Err(format!("`{text}`, for service tokens, is not there yet")),
        _ => {
            let meant = did_you_mean(text, ["allow", "deny", "bypass"]);
            Err(format!("`{text}` is none of `allow`, `deny`, `bypass`{meant}"))
        }
    }
}

/// From one minute to 30 days.
pub(super) fn session_duration(table: &mut Table<'_>) -> Option<Duration> {
    let item = table.item("session_duration")?;
    if item.value().as_str().is_some_and(|text| duration::parse(text).is_ok_and(|d| d.is_zero())) {
        item.error("`0s` would end every session before its first page; the least is `1m`");
        return None;
    }
    let minute = Duration::from_secs(60);
    Some(table.duration("session_duration", minute, minute..=Duration::from_secs(30 * 86_400)))
}

/// A bypass applies before anybody has logged in.
fn refuse_identity(reader: &Reader<'_>, clauses: &Clauses, names: &Names<'_>) {
    for (rule, place) in clauses.all() {
        let asks = "who somebody is, and a bypass is decided before anybody logs in; use `allow`";
        match rule {
            Rule::Group { id } if names.about_identity.contains(id) => {
                reader.error(place, &format!("the group `{id}` asks {asks}, or a group without such rules"));
            }
            rule if rule.is_about_identity() => {
                reader.error(place, &format!("`{}` asks {asks}, or a rule such as `ip`", rule.selector()));
            }
            _ => {}
        }
    }
}

/// Reads one rule; whatever is wrong with it is one error.
fn rule(item: &Item<'_>, names: &Names<'_>) -> Option<Rule> {
    let Some(table) = item.value().as_table() else {
        item.wrong_type("a rule, such as `{ email = { email = \"alice@example.com\" } }`");
        return None;
    };
    let keys = item.keys();
    let [(selector, place)] = keys.as_slice() else {
        let found = table.len();
        item.error(&format!("a rule has exactly one selector and this has {found}; write a rule for each"));
        return None;
    };
    let Some((_, fields)) = SELECTORS.iter().find(|(known, _)| known == selector) else {
        let message = if ELSEWHERE.contains(selector) {
            format!("the selector `{selector}` is not there yet")
        } else {
            let meant = did_you_mean(selector, SELECTORS.iter().map(|(known, _)| *known));
            format!("there is no selector `{selector}`{meant}")
        };
        item.reader().error(place, &message);
        return None;
    };
    let body = item.get(selector)?;
    if !body.value().is_table() {
        let fields = fields.iter().map(|field| format!("{field} = \"…\"")).collect::<Vec<_>>().join(", ");
        body.wrong_type(&format!("a table, as in `{selector} = {{ {fields} }}`").replace("{  }", "{}"));
        return None;
    }
    if let Some((key, place)) = body.keys().into_iter().find(|(key, _)| !fields.contains(key)) {
        let meant = did_you_mean(key, fields.iter().copied());
        item.reader().error(&place, &format!("`{selector}` has no `{key}`{meant}"));
        return None;
    }
    if let Some(field) = fields.iter().find(|field| body.get(field).is_none()) {
        body.error(&format!("`{selector}` needs `{field}`"));
        return None;
    }
    for field in *fields {
        body.get(field)?.text()?;
    }
    match json(item.value(), 8).map(serde_json::from_value::<Rule>) {
        Some(Ok(rule)) => meaning(&rule, &body, names).then_some(rule),
        Some(Err(e)) => {
            // One field is one place; where there are more, their table is.
            let at = if let [field] = fields { body.get(field) } else { None };
            at.unwrap_or(body).error(&e.to_string());
            None
        }
        None => {
            body.error("this is no rule");
            None
        }
    }
}

fn json(value: &DeValue<'_>, depth: usize) -> Option<Value> {
    let depth = depth.checked_sub(1)?;
    Some(match value {
        DeValue::String(text) => Value::String(text.clone().into_owned()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix()).ok()?.into(),
        DeValue::Float(number) => number.as_str().parse::<f64>().ok()?.into(),
        DeValue::Boolean(flag) => Value::Bool(*flag),
        DeValue::Datetime(date) => Value::String(date.to_string()),
        DeValue::Array(list) => list.iter().map(|v| json(v.get_ref(), depth)).collect::<Option<Vec<_>>>()?.into(),
        DeValue::Table(table) => {
            let entry = |(k, v): (&toml::Spanned<_>, &toml::Spanned<DeValue<'_>>)| {
                let key: &std::borrow::Cow<'_, str> = k.get_ref();
                Some((key.clone().into_owned(), json(v.get_ref(), depth)?))
            };
            Value::Object(table.iter().map(entry).collect::<Option<_>>()?)
        }
    })
}

/// Whether a rule that reads well can mean anything; reports why not.
fn meaning(rule: &Rule, body: &Item<'_>, names: &Names<'_>) -> bool {
    let wrong = |field: &str, message: Option<String>| match message {
        Some(message) => {
            body.get(field).unwrap_or_else(|| body.clone()).error(&message);
            false
        }
        None => true,
    };
    match rule {
        Rule::Everyone {} | Rule::Ip { .. } => true,
        Rule::Email { email } => wrong("email", email_mistake(email)),
        Rule::EmailDomain { domain } => wrong("domain", domain_mistake(domain)),
        Rule::Group { id } => {
            let unknown = || format!("no group has the id `{id}`{}", did_you_mean(id, names.groups.iter().copied()));
            wrong("id", (!names.groups.contains(&id.as_str())).then(unknown))
        }
        Rule::LoginMethod { id } => wrong("id", unknown_provider(&id.0, names)),
        Rule::Okta { name, identity_provider_id } => {
            let empty = name.is_empty().then(|| "the name of the group is empty".to_owned());
            let name = wrong("name", empty);
            wrong("identity_provider_id", unknown_provider(&identity_provider_id.0, names)) && name
        }
    }
}

/// What to say of an identity provider that there is not.
pub(super) fn unknown_provider(id: &str, names: &Names<'_>) -> Option<String> {
    let known = names.providers.as_ref()?;
    let meant = did_you_mean(id, known.iter().copied());
    (!known.contains(&id)).then(|| format!("no identity provider has the id `{id}`{meant}"))
}

fn email_mistake(email: &str) -> Option<String> {
    if let Some(("" | "*", domain)) = email.rsplit_once('@') {
        let instead = format!("{{ email_domain = {{ domain = \"{domain}\" }} }}");
        return Some(format!("`{email}` is not one address; for everybody there write `{instead}`"));
    }
    if email.contains('*') {
        return Some(format!("`{email}`: there are no wildcards here; write a rule for each address"));
    }
    let error = Email::parse(email).err()?;
    Some(format!("`{email}` is not an address like `alice@example.com`: {error}"))
}

fn domain_mistake(domain: &str) -> Option<String> {
    if let Some((_, host)) = domain.rsplit_once('@') {
        return Some(format!("`{domain}` must be what stands after the `@`; write `{host}`"));
    }
    if domain.contains('*') {
        return Some(format!("`{domain}`: there are no wildcards here; write a rule for each domain"));
    }
    Host::parse(domain).err().map(|e| format!("`{domain}` is not a domain like `example.com`: {e}"))
}
