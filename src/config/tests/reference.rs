//! Checks that `docs/configuration.md` has every key of the configuration and no other, with its
//! type, range and default.

use std::collections::BTreeSet;
use std::path::Path;

use toml::{Table, Value};

use super::super::reader::{Deployment, Reader};
use super::super::{Config, Document, Errors, Offline};

const PAGE: &str = include_str!("../../../docs/configuration.md");

/// One row of the page.
#[derive(Debug)]
struct Row {
    /// The table, such as `applications.policies`.
    table: String,
    key: String,
    kind: String,
    default: String,
    range: String,
}

/// Returns the rows for a configuration with a provider of that type.
fn rows(provider: &str) -> Vec<Row> {
    let (mut tables, mut rows) = (Vec::new(), Vec::new());
    for line in PAGE.lines() {
        if line.starts_with('#') {
            let spans: Vec<&str> = line.split('`').skip(1).step_by(2).collect();
            let types: Vec<&str> = spans
                .iter()
                .filter_map(|span| span.strip_prefix("type = "))
                .collect();
            let applies =
                types.is_empty() || types.iter().any(|name| name.trim_matches('"') == provider);
            tables = spans
                .into_iter()
                .filter(|span| span.starts_with('[') && applies)
                .collect();
        }
        if !line.starts_with("| `") {
            continue;
        }
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [key, kind, default, range, meaning, change] = cells.as_slice() else {
            panic!("{line}")
        };
        assert!(
            !meaning.is_empty() && matches!(*change, "reload" | "restart"),
            "{line}"
        );
        for table in &tables {
            rows.push(Row {
                table: table.trim_matches(['[', ']']).to_owned(),
                key: key.trim_matches('`').to_owned(),
                kind: (*kind).to_owned(),
                default: (*default).to_owned(),
                range: (*range).to_owned(),
            });
        }
    }
    rows
}

/// A configuration with every table that can be written, and in it what is required.
fn complete(provider: &str) -> Table {
    let certificate = include_str!("../../../tests/saml/keys/idp.crt");
    let config = match provider {
        "okta" => {
            "client_id = 'x'\nclient_secret = 'env:X'\nokta_account = 'https://acme.okta.com'"
                .to_owned()
        }
        "oidc" => "client_id = 'x'\nclient_secret = 'env:X'\nissuer = 'https://login.example.com'"
            .to_owned(),
        _ => format!(
            "issuer_url = 'https://login.example.com'\nsso_target_url = 'https://login.example.com/sso'\n\
             idp_public_certs = ['''{certificate}''']\n\
             header_attributes = [{{ attribute_name = 'department', header_name = 'X-Department' }}]\n\
             encryption_keys = [{{ key = 'env:X', certificate = '''{certificate}''' }}]"
        ),
    };
    let text = format!(
        "[team]\ndomain = 'access.example.com'\n\
         [[listen]]\naddress = '127.0.0.1:443'\ntls = {{ certificate = 'x', key = 'x' }}\nhsts = {{}}\n\
         [[listen]]\naddress = '127.0.0.1:80'\nredirect_to_https = true\n\
         [metrics]\naddress = '127.0.0.1:9090'\n\
         [[identity_providers]]\nid = 'idp'\nname = 'Idp'\ntype = '{provider}'\n[identity_providers.config]\n{config}\n\
         [[applications]]\ndomain = 'wiki.example.com'\norigin = 'http://127.0.0.1:1'\n\
         [applications.cors_headers]\nallowed_origins = ['https://app.example.com']\n\
         [applications.origin_settings.health_check]\npath = '/'\n\
         [[applications.policies]]\nname = 'staff'\ndecision = 'allow'\ninclude = [{{ group = {{ id = 'staff' }} }}]\n\
         [[policies]]\nid = 'staff'\nname = 'staff'\ndecision = 'allow'\ninclude = [{{ everyone = {{}} }}]\n\
         [[groups]]\nid = 'staff'\ninclude = [{{ everyone = {{}} }}]\n\
         [[lists]]\nid = 'offices'\nips = ['203.0.113.0/24']\n\
         [[service_tokens]]\nid = 'ci'\nclient_id = '0123456789abcdef0123456789abcdef.access'\n\
         client_secret_sha256 = '2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824'\n\
         [[certificates]]\nname = 'devices'\nca = 'x'\nassociated_hostnames = ['wiki.example.com']\n\
         [geo]\ndatabase = 'x'\n"
    );
    text.parse().unwrap()
}

fn parse(document: &Table) -> Result<Config, Errors> {
    let text = toml::to_string(document).unwrap();
    super::super::parse(&text, Path::new("portcullis.toml"), &Offline).map(|loaded| loaded.config)
}

/// Returns the configuration with a key set, or removed, in each of the tables of that name.
fn changed(document: &Table, row: &Row, value: Option<&Value>) -> Vec<Table> {
    fn change(at: Value, way: &[&str], key: &str, value: Option<&Value>) -> Vec<Value> {
        match (at, way) {
            (Value::Array(items), way) => {
                let one = |place: usize, item: Value| {
                    let mut items = items.clone();
                    items[place] = item;
                    Value::Array(items)
                };
                let all = items.iter().enumerate();
                all.flat_map(|(i, item)| {
                    change(item.clone(), way, key, value)
                        .into_iter()
                        .map(move |c| (i, c))
                })
                .map(|(i, item)| one(i, item))
                .collect()
            }
            (Value::Table(mut table), []) => {
                match value {
                    Some(value) => table.insert(key.to_owned(), value.clone()),
                    None => table.remove(key),
                };
                vec![Value::Table(table)]
            }
            (Value::Table(table), [first, rest @ ..]) => {
                let below = table
                    .get(*first)
                    .cloned()
                    .unwrap_or_else(|| Value::Table(Table::new()));
                let with = |below: Value| {
                    let mut table = table.clone();
                    table.insert((*first).to_owned(), below);
                    Value::Table(table)
                };
                change(below, rest, key, value)
                    .into_iter()
                    .map(with)
                    .collect()
            }
            _ => Vec::new(),
        }
    }
    let way: Vec<&str> = row.table.split('.').collect();
    let changed = change(Value::Table(document.clone()), &way, &row.key, value);
    changed
        .into_iter()
        .map(|value| value.as_table().unwrap().clone())
        .collect()
}

/// Returns what is reported of a key that has this value.
fn messages(document: &Table, row: &Row, value: &Value) -> Vec<String> {
    let errors = changed(document, row, Some(value))
        .into_iter()
        .filter_map(|document| parse(&document).err());
    let of_key = |problem: &super::super::Problem| {
        let last = problem.key.rsplit('.').next().unwrap_or_default();
        last.split('[').next() == Some(&row.key)
    };
    errors
        .flat_map(|Errors(all)| all)
        .filter(of_key)
        .map(|problem| problem.message)
        .collect()
}

fn providers() -> &'static [&'static str] {
    &["okta", "oidc", "saml"]
}

#[test]
fn page_has_every_key_and_no_other() {
    for provider in providers() {
        let text = toml::to_string(&complete(provider)).unwrap();
        let documents = [Document::toml(text, Path::new("portcullis.toml")).unwrap()];
        let reader = Reader::new(&documents, &Offline, Deployment::Standalone);
        super::super::read(&reader);
        assert!(!reader.has_errors(), "{:?}", reader.outcome().0);
        let read = reader.asked();
        let rows = rows(provider);
        let tops = rows
            .iter()
            .map(|row| row.table.split('.').next().unwrap().to_owned());
        let page: BTreeSet<String> = rows
            .iter()
            .map(|row| format!("{}.{}", row.table, row.key))
            .chain(tops)
            .collect();
        let missing: Vec<_> = read.difference(&page).collect();
        let unknown: Vec<_> = page.difference(&read).collect();
        assert!(
            missing.is_empty(),
            "{provider}: not in docs/configuration.md: {missing:?}"
        );
        assert!(
            unknown.is_empty(),
            "{provider}: in docs/configuration.md, and no key: {unknown:?}"
        );
        for row in rows.iter().filter(|row| row.kind.contains("table")) {
            let table = format!("{}.{}", row.table, row.key);
            assert!(
                rows.iter().any(|row| row.table == table),
                "`[{table}]` has no keys"
            );
        }
    }
}

#[test]
fn type_of_every_key_is_right() {
    for provider in providers() {
        let document = complete(provider);
        for row in rows(provider) {
            let phrases: &[&str] = match row.kind.as_str() {
                "text" | "path" | "secret" | "duration" => &["must be text in quotes"],
                "boolean" => &["must be `true` or `false`"],
                "table" => &["must be a table"],
                "list" | "list of tables" => &["must be a list"],
                "text or list" => &["must be text in quotes", "must be a list"],
                "integer" | "integer or list" => &[
                    "must be a whole number",
                    "must be a number of seconds",
                    "a status",
                ],
                "size" => &["must be a number of bytes"],
                "number" => &["must be a number from"],
                kind => panic!("`{}.{}` has the type {kind}", row.table, row.key),
            };
            let mut document = document.clone();
            if row.key == "private_key_id" {
                // It is read beside a key only.
                let config = document["identity_providers"][0]["config"]
                    .as_table_mut()
                    .unwrap();
                config.insert("private_key".to_owned(), Value::String("file:x".to_owned()));
            }
            let said = messages(&document, &row, &Value::Float(1.5));
            let right = said
                .iter()
                .any(|message| phrases.iter().any(|phrase| message.contains(phrase)));
            assert!(right, "{row:?}: {said:?}");
        }
    }
}

#[test]
fn range_of_every_number_and_duration_is_right() {
    let mut checked = 0;
    for provider in providers() {
        let document = complete(provider);
        for row in rows(provider)
            .iter()
            .filter(|row| row.range.contains("` to `"))
        {
            let (value, range) = match row.kind.as_str() {
                "duration" => (Value::String("90000h".to_owned()), row.range.clone()),
                "integer" | "integer or list" => {
                    (Value::Integer(9_999_999_999), row.range.replace('`', ""))
                }
                "size" => (Value::Integer(0), row.range.replace('`', "")),
                "number" => (Value::Float(1.5), row.range.replace('`', "")),
                _ => continue,
            };
            // The least of this one is another key's value.
            let range = range.replace("`groups_refresh`", "`0s`");
            let (least, most) = range.split_once(" to ").unwrap();
            let bytes = |text: &str| match (text.strip_suffix("KiB"), text.strip_suffix("MiB")) {
                (Some(number), _) => (number.parse::<u64>().unwrap() << 10).to_string(),
                (_, Some(number)) => (number.parse::<u64>().unwrap() << 20).to_string(),
                _ => text.to_owned(),
            };
            let said = messages(&document, row, &value);
            let from = [
                format!("from {} to {}", bytes(least), bytes(most)),
                format!("from {least} (none) to {most} (all)"),
            ];
            let right = said
                .iter()
                .any(|message| from.iter().any(|from| message.contains(from)));
            assert!(right, "{row:?}: {said:?}");
            checked += 1;
        }
    }
    assert!(checked > 50, "{checked}");
}

#[test]
fn default_of_every_key_is_right() {
    let mut checked = 0;
    for provider in providers() {
        let document = complete(provider);
        for row in &rows(provider) {
            if row.default == "required" {
                let without = changed(&document, row, None);
                assert!(
                    without.iter().any(|document| parse(document).is_err()),
                    "{row:?} is optional"
                );
                continue;
            }
            let Some(default) = row
                .default
                .strip_prefix('`')
                .and_then(|rest| rest.strip_suffix('`'))
            else {
                assert!(
                    !row.default.is_empty() && !row.default.contains('`')
                        || row.key == "groups_max_stale",
                    "{row:?}"
                );
                continue;
            };
            let written = match row.kind.as_str() {
                "text" | "path" | "duration" => format!("\"{default}\""),
                "size" if default.contains('B') => format!("\"{default}\""),
                _ => default.to_owned(),
            };
            let value = format!("x = {written}")
                .parse::<Table>()
                .unwrap()
                .remove("x")
                .unwrap();
            let (with, without) = (
                changed(&document, row, Some(&value)),
                changed(&document, row, None),
            );
            let is_same = |(with, without)| matches!((parse(with), parse(without)), (Ok(with), Ok(without)) if with == without);
            let same = with.iter().zip(&without).any(is_same);
            assert!(same, "{row:?}: {:?}", messages(&document, row, &value));
            checked += 1;
        }
    }
    assert!(checked > 100, "{checked}");
}
