//! A cursor over a parsed file. It takes typed values, collects every mistake with its place, and
//! reports the keys that nobody asked for, so that a key which is read nowhere cannot go unnoticed.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustls::pki_types::CertificateDer;

use super::AuthorityFile;
use super::errors::{Problem, did_you_mean, one_line};
use super::node::{Entries, Node, Value};
use super::secrets::{self, Environment};
use super::values;
use crate::model::duration;

/// More than anybody reads; a file that is no configuration at all has one on every line.
const MOST_PROBLEMS: usize = 500;

/// The file, what surrounds it, and what was found wrong so far.
pub(super) struct Reader<'a> {
    text: &'a str,
    /// Where each line begins.
    lines: Vec<usize>,
    file: &'a Path,
    env: &'a dyn Environment,
    /// Whether connections are accepted and forwarded by somebody else's server.
    embedded: bool,
    errors: RefCell<Vec<(usize, Problem)>>,
    warnings: RefCell<Vec<(usize, Problem)>>,
    authorities: RefCell<Vec<AuthorityFile>>,
    /// Keys that were read, for the test of `docs/configuration.md`.
    #[cfg(test)]
    asked: RefCell<std::collections::BTreeSet<String>>,
}

/// Where something stands: the byte in the file, and the way to the key.
#[derive(Clone, Debug)]
pub(super) struct Place {
    offset: usize,
    key: String,
}

/// A value with its place.
#[derive(Clone)]
pub(super) struct Item<'a> {
    reader: &'a Reader<'a>,
    node: &'a Node,
    place: Place,
}

/// A table that is being read.
pub(super) struct Table<'a> {
    reader: &'a Reader<'a>,
    entries: &'a Entries,
    place: Place,
    asked: Vec<&'static str>,
    /// Keys that are not read here although one could expect them, and why.
    foreign: &'static [(&'static str, &'static str)],
}

impl<'a> Reader<'a> {
    pub(super) fn new(
        text: &'a str,
        file: &'a Path,
        env: &'a dyn Environment,
        embedded: bool,
    ) -> Self {
        let (errors, warnings, authorities) =
            (RefCell::default(), RefCell::default(), RefCell::default());
        let lines = std::iter::once(0)
            .chain(text.match_indices('\n').map(|(at, _)| at + 1))
            .collect();
        Self {
            text,
            lines,
            file,
            env,
            embedded,
            errors,
            warnings,
            authorities,
            #[cfg(test)]
            asked: RefCell::default(),
        }
    }

    pub(super) fn env(&self) -> &'a dyn Environment {
        self.env
    }

    pub(super) const fn is_embedded(&self) -> bool {
        self.embedded
    }

    /// Paths in the file are relative to the folder that it is in.
    pub(super) fn resolve(&self, path: &str) -> PathBuf {
        self.file.parent().unwrap_or(Path::new("")).join(path)
    }

    /// Reads the whole document.
    pub(super) fn root<T>(
        &'a self,
        document: &'a Node,
        read: impl FnOnce(&mut Table<'a>) -> T,
    ) -> Option<T> {
        let root = Item {
            reader: self,
            node: document,
            place: Place {
                offset: document.at(),
                key: String::new(),
            },
        };
        root.table(read)
    }

    pub(super) fn error(&self, place: &Place, message: &str) {
        if self.errors.borrow().len() < MOST_PROBLEMS {
            self.errors
                .borrow_mut()
                .push((place.offset, self.problem(place, message)));
        }
    }

    pub(super) fn warn(&self, place: &Place, message: &str) {
        if self.warnings.borrow().len() < MOST_PROBLEMS {
            self.warnings
                .borrow_mut()
                .push((place.offset, self.problem(place, message)));
        }
    }

    /// Records the content of a file of certificate authorities, for messages about it.
    pub(super) fn read_authorities(
        &self,
        place: &Place,
        path: PathBuf,
        certificates: Vec<CertificateDer<'static>>,
    ) {
        let (key, position) = (one_line(&place.key), Some(self.position(place.offset)));
        self.authorities.borrow_mut().push(AuthorityFile {
            key,
            position,
            path,
            certificates,
        });
    }

    /// The files of certificate authorities that were read.
    pub(super) fn authorities(&self) -> Vec<AuthorityFile> {
        self.authorities.take()
    }

    /// A mistake in the syntax, before there are keys.
    pub(super) fn syntax(&self, offset: usize, message: &str) {
        self.error(
            &Place {
                offset,
                key: String::new(),
            },
            message,
        );
    }

    pub(super) fn line(&self, place: &Place) -> usize {
        self.position(place.offset).0
    }

    pub(super) fn has_errors(&self) -> bool {
        !self.errors.borrow().is_empty()
    }

    /// Errors and warnings, each in the order of the file.
    pub(super) fn outcome(&self) -> (Vec<Problem>, Vec<Problem>) {
        let sorted = |list: &RefCell<Vec<(usize, Problem)>>| {
            let mut list = list.take();
            list.sort_by_key(|(offset, _)| *offset);
            list.into_iter().map(|(_, problem)| problem).collect()
        };
        (sorted(&self.errors), sorted(&self.warnings))
    }

    fn problem(&self, place: &Place, message: &str) -> Problem {
        let position = Some(self.position(place.offset));
        Problem {
            file: self.file.into(),
            position,
            key: one_line(&place.key),
            message: one_line(message),
        }
    }

    /// Returns every key that was read, such as `applications.policies.name`.
    #[cfg(test)]
    pub(super) fn asked(&self) -> std::collections::BTreeSet<String> {
        self.asked.borrow().clone()
    }

    /// Line and column of a byte, both from 1.
    pub(super) fn position(&self, offset: usize) -> (usize, usize) {
        let line = self.lines.partition_point(|start| *start <= offset);
        let start = self
            .lines
            .get(line.saturating_sub(1))
            .copied()
            .unwrap_or_default();
        let before = self.text.get(start..offset).unwrap_or_default();
        (line, before.chars().count() + 1)
    }
}

impl Place {
    fn child(&self, key: &str, offset: usize) -> Self {
        let bare = !key.is_empty()
            && key
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
        let dot = if self.key.is_empty() { "" } else { "." };
        let parent = &self.key;
        let key = if bare {
            format!("{parent}{dot}{key}")
        } else {
            format!("{parent}{dot}{key:?}")
        };
        Self { offset, key }
    }

    #[cfg(test)]
    fn without_indices(&self) -> String {
        let parts = self
            .key
            .split('[')
            .map(|part| part.split_once(']').map_or(part, |(_, rest)| rest));
        parts.collect()
    }
}

impl<'a> Item<'a> {
    pub(super) const fn reader(&self) -> &'a Reader<'a> {
        self.reader
    }

    pub(super) const fn place(&self) -> &Place {
        &self.place
    }

    pub(super) const fn node(&self) -> &'a Node {
        self.node
    }

    pub(super) fn error(&self, message: &str) {
        self.reader.error(&self.place, message);
    }

    pub(super) fn warn(&self, message: &str) {
        self.reader.warn(&self.place, message);
    }

    pub(super) fn text(&self) -> Option<&'a str> {
        let text = self.node.as_str();
        if text.is_none() {
            self.wrong_type("text in quotes");
        }
        text
    }

    /// Text that means something; where it does not, the error says why.
    pub(super) fn parse<T, E: Display>(
        &self,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        parse(self.text()?)
            .map_err(|e| self.error(&e.to_string()))
            .ok()
    }

    /// Text that nothing else of its kind may have.
    pub(super) fn claim(
        &self,
        rule: fn(&str) -> Result<String, String>,
        seen: &mut Unique,
    ) -> Option<String> {
        let text = self.parse(rule)?;
        seen.claim(self.reader, &text, &self.place);
        Some(text)
    }

    pub(super) fn list(&self) -> Option<Vec<Self>> {
        let Some(list) = self.node.as_list() else {
            self.wrong_type("a list");
            return None;
        };
        let item = |(i, node): (usize, &'a Node)| Self {
            reader: self.reader,
            node,
            place: Place {
                offset: node.at(),
                key: format!("{}[{i}]", self.place.key),
            },
        };
        Some(list.iter().enumerate().map(item).collect())
    }

    pub(super) fn table<T>(&self, read: impl FnOnce(&mut Table<'a>) -> T) -> Option<T> {
        let Some(entries) = self.node.as_table() else {
            self.wrong_type("a table");
            return None;
        };
        Some(Table::read(self.reader, entries, self.place.clone(), read))
    }

    /// What stands under a key, where this is a table and has it.
    pub(super) fn get(&self, key: &str) -> Option<Self> {
        let node = self.node.get(key)?;
        Some(Self {
            reader: self.reader,
            node,
            place: self.place.child(key, node.at()),
        })
    }

    /// The keys, where this is a table, each with its place.
    pub(super) fn keys(&self) -> Vec<(&'a str, Place)> {
        let Some(table) = self.node.as_table() else {
            return Vec::new();
        };
        table
            .iter()
            .map(|(key, entry)| (key, self.place.child(key, entry.at)))
            .collect()
    }

    pub(super) fn wrong_type(&self, wanted: &str) {
        let is = self.node.type_name();
        self.error(&format!("this is {is}; it must be {wanted}"));
    }
}

impl<'a> Table<'a> {
    fn read<T>(
        reader: &'a Reader<'a>,
        entries: &'a Entries,
        place: Place,
        read: impl FnOnce(&mut Self) -> T,
    ) -> T {
        let mut table = Self {
            reader,
            entries,
            place,
            asked: Vec::new(),
            foreign: &[],
        };
        let value = read(&mut table);
        table.report_unknown();
        value
    }

    /// Names keys that mean something elsewhere, with the reason why they mean nothing here.
    pub(super) fn foreign(&mut self, keys: &'static [(&'static str, &'static str)]) {
        self.foreign = keys;
    }

    pub(super) const fn reader(&self) -> &'a Reader<'a> {
        self.reader
    }

    pub(super) const fn place(&self) -> &Place {
        &self.place
    }

    pub(super) fn item(&mut self, key: &'static str) -> Option<Item<'a>> {
        self.asked.push(key);
        #[cfg(test)]
        self.reader
            .asked
            .borrow_mut()
            .insert(self.place.child(key, 0).without_indices());
        let node = self.entries.get(key)?;
        Some(Item {
            reader: self.reader,
            node,
            place: self.place.child(key, node.at()),
        })
    }

    /// Returns the value of a required key. The error for a missing one shows the example.
    pub(super) fn needed(&mut self, key: &'static str, example: &str) -> Option<Item<'a>> {
        self.needed_or(key, || format!("write for example `{key} = {example}`"))
    }

    /// Returns a required section of the file. The error for a missing one shows a header and keys:
    /// unlike `key = …`, these work at the end of any file.
    pub(super) fn needed_section(&mut self, key: &'static str, example: &str) -> Option<Item<'a>> {
        self.needed_or(key, || format!("add for example a section {example}"))
    }

    fn needed_or(
        &mut self,
        key: &'static str,
        remedy: impl FnOnce() -> String,
    ) -> Option<Item<'a>> {
        let item = self.item(key);
        if item.is_none() {
            let place = self.place.child(key, self.place.offset);
            self.reader
                .error(&place, &format!("this is missing; {}", remedy()));
        }
        item
    }

    /// A value that is missed only where the proxy is ours: whoever embeds the check may do
    /// without.
    pub(super) fn needed_standalone(
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

    /// A table that may be left out: then every key in it is.
    pub(super) fn section<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&mut Table<'a>) -> T,
    ) -> Option<T> {
        match self.item(key) {
            Some(item) => item.table(read),
            None => {
                let place = self.place.child(key, self.place.offset);
                Some(Table::read(self.reader, Entries::EMPTY, place, read))
            }
        }
    }

    /// The items of a list; none where there is no such key.
    pub(super) fn list(&mut self, key: &'static str) -> Vec<Item<'a>> {
        self.item(key)
            .and_then(|item| item.list())
            .unwrap_or_default()
    }

    /// A short text for people: not empty, one line.
    pub(super) fn label(&mut self, key: &'static str) -> Option<String> {
        self.item(key)?.parse(values::label)
    }

    pub(super) fn flag(&mut self, key: &'static str, default: bool) -> bool {
        let Some(item) = self.item(key) else {
            return default;
        };
        item.node.as_bool().unwrap_or_else(|| {
            item.wrong_type("`true` or `false`");
            default
        })
    }

    pub(super) fn duration(
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
                    "`{text}` is not a duration, days are not in the language; write `{hours}h`"
                ));
            }
            let read = duration::parse(text)?;
            let (least, most) = (
                duration::format(*range.start()),
                duration::format(*range.end()),
            );
            match range.contains(&read) {
                true => Ok(read),
                false => Err(format!(
                    "`{text}` is outside of what is allowed here, from `{least}` to `{most}`"
                )),
            }
        };
        item.parse(read).unwrap_or(default)
    }

    pub(super) fn number(
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

    /// A number of bytes, as a number or as `"64KiB"`.
    pub(super) fn size(&mut self, key: &'static str, range: RangeInclusive<u64>) -> Option<u64> {
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

    /// One of a few words.
    pub(super) fn choice<T: Copy>(
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
                Err(format!("`{text}` is none of {all}{meant}"))
            }
        };
        item.parse(read).unwrap_or(default)
    }

    /// A file that must be there, read once to see that it can be, and that it holds what it
    /// should.
    pub(super) fn pem_file(
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
                    "`{}` holds no {what} in PEM form, which has a line with `{marker}`",
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
                .error(&self.place.child(name, entry.at), &message);
        }
    }
}

/// Names that must be different, with the place of the first use of each.
#[derive(Debug)]
pub(super) struct Unique {
    what: &'static str,
    seen: HashMap<String, Place>,
}

impl Unique {
    /// `what` completes "another … `x`".
    pub(super) fn new(what: &'static str) -> Self {
        Self {
            what,
            seen: HashMap::new(),
        }
    }

    /// Returns `true` if it is the first; otherwise reports it.
    pub(super) fn claim(&mut self, reader: &Reader<'_>, name: &str, place: &Place) -> bool {
        if let Some(first) = self.seen.get(name) {
            let (what, line) = (self.what, reader.line(first));
            reader.error(
                place,
                &format!("another {what} `{name}`, on line {line}; each needs its own"),
            );
            return false;
        }
        self.seen.insert(name.to_owned(), place.clone());
        true
    }
}
