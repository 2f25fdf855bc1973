use super::names::Names;
use super::reader::{Item, Table, Unique};
use super::rule_effects::email_mistake;
use super::values;
use crate::catalog::Kind;
use crate::policy::{IpRange, List, ListItem, ListItems};

/// Reads the lists, and adds their ids to the names.
pub(super) fn read_all(table: &mut Table<'_>, names: &mut Names<'_>) -> Vec<List> {
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
    match kind.text()? {
        "EMAIL" => Some(ListItems::Email(
            items.iter().filter_map(described_email).collect(),
        )),
        "IP" => Some(ListItems::Ip(
            items.iter().filter_map(described_range).collect(),
        )),
        other => {
            kind.error(&format!("`{other}` is not one of `EMAIL`, `IP`"));
            None
        }
    }
}

/// Reads an item of the file: its value, or a table with a description.
fn list_email(item: &Item<'_>) -> Option<ListItem<String>> {
    if item.node().as_table().is_some() {
        return described_email(item);
    }
    email(item).map(undescribed)
}

fn list_range(item: &Item<'_>) -> Option<ListItem<IpRange>> {
    if item.node().as_table().is_some() {
        return described_range(item);
    }
    range(item).map(undescribed)
}

const fn undescribed<T>(value: T) -> ListItem<T> {
    ListItem {
        value,
        description: None,
    }
}

fn described_email(item: &Item<'_>) -> Option<ListItem<String>> {
    described(item, "\"alice@example.com\"", email)
}

fn described_range(item: &Item<'_>) -> Option<ListItem<IpRange>> {
    described(item, "\"203.0.113.0/24\"", range)
}

fn described<T>(
    item: &Item<'_>,
    example: &str,
    value: fn(&Item<'_>) -> Option<T>,
) -> Option<ListItem<T>> {
    item.table(|table| {
        if table.is_access() {
            table.ignore(&["created_at"]);
        }
        let found = table.needed("value", example).and_then(|item| value(&item));
        let description = table.label("description").map(String::into_boxed_str);
        Some(ListItem {
            value: found?,
            description,
        })
    })?
}

fn email(item: &Item<'_>) -> Option<String> {
    item.parse(|text| email_mistake(text).map_or_else(|| Ok(text.to_owned()), Err))
}

fn range(item: &Item<'_>) -> Option<IpRange> {
    item.parse(|text| IpRange::try_from(text.to_owned()))
}
