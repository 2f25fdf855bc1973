use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::super::errors::did_you_mean;
use super::super::node::{Entries, Node, Value};
use super::super::secrets;
use super::super::values;
use super::{Item, Place, Reader};
use crate::model::duration;

/// A table under reading.
pub(in crate::config) struct Table<'a> {
    reader: &'a Reader<'a>,
    entries: &'a Entries,
    place: Place,
    is_root: IsRoot,
    asked: Vec<&'static str>,
    /// Keys with a meaning elsewhere, and the reason why they have none here.
    foreign: &'static [(&'static str, &'static str)],
}

/// Distinguishes the configuration itself, to which other documents add objects.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum IsRoot {
    Yes,
    No,
}

impl<'a> Table<'a> {
    pub(super) fn read<T>(
        reader: &'a Reader<'a>,
        entries: &'a Entries,
        place: Place,
        is_root: IsRoot,
        read: impl FnOnce(&mut Self) -> T,
    ) -> T {
        let mut table = Self {
            reader,
            entries,
            place,
            is_root,
            asked: Vec::new(),
            foreign: &[],
        };
        let value = read(&mut table);
        table.report_unknown();
        value
    }

    /// Names keys with a meaning elsewhere, and the reason why they have none here.
    pub(in crate::config) fn foreign(&mut self, keys: &'static [(&'static str, &'static str)]) {
        self.foreign = keys;
    }

    pub(in crate::config) const fn reader(&self) -> &'a Reader<'a> {
        self.reader
    }

    pub(in crate::config) const fn place(&self) -> &Place {
        &self.place
    }

    pub(in crate::config) fn item(&mut self, key: &'static str) -> Option<Item<'a>> {
        self.asked.push(key);
        #[cfg(test)]
        self.reader
            .asked
            .borrow_mut()
            .insert(self.reader.member(&self.place, key, 0).without_indices());
        let node = self.entries.get(key)?;
        Some(Item {
            reader: self.reader,
            node,
            place: self.reader.member(&self.place, key, node.at()),
        })
    }

    /// Returns the value of a required key. The error for a missing one shows the example.
    pub(in crate::config) fn needed(
        &mut self,
        key: &'static str,
        example: &str,
    ) -> Option<Item<'a>> {
        self.needed_or(key, || format!("write for example `{key} = {example}`"))
    }

    /// Returns a required section of the file. The error for a missing one shows a header and keys:
    /// unlike `key = …`, these work at the end of any file.
    pub(in crate::config) fn needed_section(
        &mut self,
        key: &'static str,
        example: &str,
    ) -> Option<Item<'a>> {
        self.needed_or(key, || format!("add for example a section {example}"))
    }

    fn needed_or(
        &mut self,
        key: &'static str,
        remedy: impl FnOnce() -> String,
    ) -> Option<Item<'a>> {
        let item = self.item(key);
        if item.is_none() {
            let place = self.reader.member(&self.place, key, self.place.at);
            self.reader
                .error(&place, &format!("this is missing; {}", remedy()));
        }
        item
    }

    /// Returns a value that only the standalone proxy requires.
    pub(in crate::config) fn needed_standalone(
        &mut self,
        key: &'static str,
        example: &str,
    ) -> Option<Item<'a>> {
        if self.reader.is_embedded() {
            self.item(key)
        } else {
            self.needed(key, example)
        }
    }

    /// Reads an optional table: if it is missing, all of its keys have their default.
    pub(in crate::config) fn section<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&mut Table<'a>) -> T,
    ) -> Option<T> {
        match self.item(key) {
            Some(item) => item.table(read),
            None => {
                let place = self.reader.member(&self.place, key, self.place.at);
                let empty = Entries::EMPTY;
                Some(Table::read(self.reader, empty, place, IsRoot::No, read))
            }
        }
    }

    /// Returns the items of a list; none if the key is missing.
    pub(in crate::config) fn list(&mut self, key: &'static str) -> Vec<Item<'a>> {
        let item = self.item(key);
        let mut list = item.and_then(|item| item.list()).unwrap_or_default();
        if self.is_root == IsRoot::Yes {
            list.extend(self.reader.single_objects(key));
        }
        list
    }

    /// Returns the nodes of a list without reading them, however much is wrong with them.
    pub(in crate::config) fn nodes(&self, key: &str) -> Vec<&'a Node> {
        let list = self.entries.get(key).and_then(Node::as_list);
        let mut nodes: Vec<_> = list.into_iter().flatten().collect();
        if self.is_root == IsRoot::Yes {
            nodes.extend(self.reader.single_objects(key).map(|item| item.node));
        }
        nodes
    }

    /// Returns `true` if the table is in an object with the members of Cloudflare Access.
    pub(in crate::config) fn is_access(&self) -> bool {
        self.reader.is_access(&self.place)
    }

    /// Accepts keys without reading them.
    pub(in crate::config) fn ignore(&mut self, keys: &[&'static str]) {
        self.asked.extend(keys);
    }

    /// Accepts the members that Access adds to its answers, and that clients send back.
    pub(in crate::config) fn ignore_read_only(&mut self) {
        if self.is_access() {
            self.ignore(&["uid", "created_at", "updated_at"]);
        }
    }

    /// Returns line and column of a node of this document.
    pub(in crate::config) fn position(&self, at: usize) -> Option<(usize, usize)> {
        self.reader.document(&self.place)?.position(at)
    }

    /// Reads a display text: not empty, one line.
    pub(in crate::config) fn label(&mut self, key: &'static str) -> Option<String> {
        self.item(key)?.parse(values::label)
    }

    pub(in crate::config) fn flag(&mut self, key: &'static str, default: bool) -> bool {
        let Some(item) = self.item(key) else {
            return default;
        };
        item.node.as_bool().unwrap_or_else(|| {
            item.wrong_type("`true` or `false`");
            default
        })
    }

    pub(in crate::config) fn duration(
        &mut self,
        key: &'static str,
        default: Duration,
        range: RangeInclusive<Duration>,
    ) -> Duration {
        let Some(item) = self.item(key) else {
            return default;
        };
        let read = |text: &str| {
            let days = text
                .strip_suffix('d')
                .and_then(|days| days.parse::<u64>().ok());
            if let Some(hours) = days.and_then(|days| days.checked_mul(24)) {
                return Err(format!(
                    "`{text}` is not a duration: days are not supported; write `{hours}h`"
                ));
            }
            let read = duration::parse(text)?;
            let (least, most) = (
                duration::format(*range.start()),
                duration::format(*range.end()),
            );
            match range.contains(&read) {
                true => Ok(read),
                false => Err(format!("`{text}` must be from `{least}` to `{most}`")),
            }
        };
        item.parse(read).unwrap_or(default)
    }

    pub(in crate::config) fn number(
        &mut self,
        key: &'static str,
        default: u64,
        range: RangeInclusive<u64>,
    ) -> u64 {
        let Some(item) = self.item(key) else {
            return default;
        };
        let Some(number) = item.node.as_integer() else {
            item.wrong_type("a whole number");
            return default;
        };
        let read = number.get::<u64>().filter(|n| range.contains(n));
        read.unwrap_or_else(|| {
            item.error(&format!(
                "`{number}` must be from {} to {}",
                range.start(),
                range.end()
            ));
            default
        })
    }

    /// Reads a number of bytes, as a number or as `"64KiB"`.
    pub(in crate::config) fn size(
        &mut self,
        key: &'static str,
        range: RangeInclusive<u64>,
    ) -> Option<u64> {
        let item = self.item(key)?;
        let number = match item.node.value() {
            Value::Integer(number) => number.get::<u64>(),
            Value::Text(text) => values::bytes(text),
            _ => {
                item.wrong_type("a number of bytes, such as `65536` or `\"64KiB\"`");
                return None;
            }
        };
        if number.is_none_or(|n| !range.contains(&n)) {
            let range = match *range.end() {
                u64::MAX => String::new(),
                most => format!(" from {} to {most}", range.start()),
            };
            item.error(&format!(
                "this must be a number of bytes{range}, such as `65536` or `\"64KiB\"`"
            ));
        }
        number
    }

    /// Reads one of a few words.
    pub(in crate::config) fn choice<T: Copy>(
        &mut self,
        key: &'static str,
        default: T,
        words: &[(&str, T)],
    ) -> T {
        let Some(item) = self.item(key) else {
            return default;
        };
        let read = |text: &str| match words.iter().find(|(word, _)| *word == text) {
            Some((_, value)) => Ok(*value),
            None => {
                let all = words
                    .iter()
                    .map(|(word, _)| format!("`{word}`"))
                    .collect::<Vec<_>>()
                    .join(", ");
                let meant = did_you_mean(text, words.iter().map(|(word, _)| *word));
                Err(format!("`{text}` is not one of {all}{meant}"))
            }
        };
        item.parse(read).unwrap_or(default)
    }

    /// Reads the path of a PEM file, which must exist and contain `marker`.
    pub(in crate::config) fn pem_file(
        &mut self,
        key: &'static str,
        marker: &str,
        what: &str,
    ) -> Option<PathBuf> {
        let item = self.needed(key, "\"…\"")?;
        let path = self.reader.resolve(item.text()?);
        if self.reader.env.is_offline() {
            return Some(path);
        }
        match self.reader.env.read(&path) {
            Err(e) => item.error(&format!(
                "`{}` cannot be read: {}",
                path.display(),
                secrets::plain(&e)
            )),
            Ok(content) if !content.text.expose().contains(marker) => {
                item.error(&format!(
                    "`{}` contains no {what} in PEM form, which has a line with `{marker}`",
                    path.display()
                ));
            }
            Ok(content) if content.world_readable && marker.contains("PRIVATE") => {
                item.warn(&format!(
                    "every user of this machine can read `{}`; `chmod 600` it",
                    path.display()
                ));
            }
            Ok(_) => {}
        }
        Some(path)
    }

    fn report_unknown(&self) {
        for (name, entry) in self.entries.iter() {
            if self.asked.contains(&name) {
                continue;
            }
            let why = self.foreign.iter().find(|(foreign, _)| *foreign == name);
            let message = match why {
                Some((_, why)) => (*why).to_owned(),
                None => format!(
                    "there is no key `{name}` here{}",
                    did_you_mean(name, self.asked.iter().copied())
                ),
            };
            self.reader
                .error(&self.reader.member(&self.place, name, entry.at), &message);
        }
    }
}
