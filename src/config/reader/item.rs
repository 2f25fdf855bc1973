use std::fmt::Display;

use super::super::node::Node;
use super::table::IsRoot;
use super::{Place, Reader, Table, Unique};
use crate::catalog::Kind;

/// A value with its position.
#[derive(Clone)]
pub(in crate::config) struct Item<'a> {
    pub(super) reader: &'a Reader<'a>,
    pub(super) node: &'a Node,
    pub(super) place: Place,
}

impl<'a> Item<'a> {
    pub(in crate::config) const fn reader(&self) -> &'a Reader<'a> {
        self.reader
    }

    pub(in crate::config) const fn place(&self) -> &Place {
        &self.place
    }

    pub(in crate::config) const fn node(&self) -> &'a Node {
        self.node
    }

    /// Records this value as the origin of an object.
    pub(in crate::config) fn record(&self, kind: Kind, id: &str) {
        self.reader.record(kind, id, &self.place);
    }

    /// Returns `true` if the value is in an object with the members of Cloudflare Access.
    pub(in crate::config) fn is_access(&self) -> bool {
        self.reader.is_access(&self.place)
    }

    pub(in crate::config) fn error(&self, message: &str) {
        self.reader.error(&self.place, message);
    }

    pub(in crate::config) fn warn(&self, message: &str) {
        self.reader.warn(&self.place, message);
    }

    pub(in crate::config) fn text(&self) -> Option<&'a str> {
        let text = self.node.as_str();
        if text.is_none() {
            self.wrong_type("text in quotes");
        }
        text
    }

    /// Parses text; reports the parser's message.
    pub(in crate::config) fn parse<T, E: Display>(
        &self,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        parse(self.text()?)
            .map_err(|e| self.error(&e.to_string()))
            .ok()
    }

    /// Parses text that must be unique.
    pub(in crate::config) fn claim(
        &self,
        rule: fn(&str) -> Result<String, String>,
        seen: &mut Unique,
    ) -> Option<String> {
        let text = self.parse(rule)?;
        seen.claim(self.reader, &text, &self.place);
        Some(text)
    }

    pub(in crate::config) fn list(&self) -> Option<Vec<Self>> {
        let Some(list) = self.node.as_list() else {
            self.wrong_type("a list");
            return None;
        };
        let item = |(i, node): (usize, &'a Node)| Self {
            reader: self.reader,
            node,
            place: self.reader.element(&self.place, i, node.at()),
        };
        Some(list.iter().enumerate().map(item).collect())
    }

    pub(in crate::config) fn table<T>(&self, read: impl FnOnce(&mut Table<'a>) -> T) -> Option<T> {
        let Some(entries) = self.node.as_table() else {
            self.wrong_type("a table");
            return None;
        };
        let place = self.place.clone();
        Some(Table::read(self.reader, entries, place, IsRoot::No, read))
    }

    /// Returns the member of a table; `None` if it is missing, or this is not a table.
    pub(in crate::config) fn get(&self, key: &str) -> Option<Self> {
        let node = self.node.get(key)?;
        Some(Self {
            reader: self.reader,
            node,
            place: self.reader.member(&self.place, key, node.at()),
        })
    }

    /// Returns the keys of a table, each with its position.
    pub(in crate::config) fn keys(&self) -> Vec<(&'a str, Place)> {
        let Some(table) = self.node.as_table() else {
            return Vec::new();
        };
        table
            .iter()
            .map(|(key, entry)| (key, self.reader.member(&self.place, key, entry.at)))
            .collect()
    }

    pub(in crate::config) fn wrong_type(&self, wanted: &str) {
        let is = self.node.type_name();
        self.error(&format!("this is {is}; it must be {wanted}"));
    }
}
