//! A cursor over a parsed file. It takes typed values, collects every mistake with its place, and
//! reports the keys that nobody asked for, so that a key which is read nowhere cannot go unnoticed.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustls::pki_types::CertificateDer;

use super::document::{Content, Document};
use super::errors::{MOST_PROBLEMS, Problem, did_you_mean, one_line};
use super::node::{Entries, Node, Value};
use super::secrets::{self, Environment};
use super::unique::Unique;
use super::values;
use super::{AuthorityFile, Provenance};
use crate::catalog::Kind;
use crate::model::duration;

/// Documents that are read as one configuration, and the mistakes found so far.
pub(super) struct Reader<'a> {
    documents: &'a [Document],
    env: &'a dyn Environment,
    deployment: Deployment,
    errors: RefCell<Vec<(Place, Problem)>>,
    warnings: RefCell<Vec<(Place, Problem)>>,
    authorities: RefCell<Vec<AuthorityFile>>,
    provenance: RefCell<HashMap<(Kind, String), Provenance>>,
    /// Keys that were read, for the test of `docs/configuration.md`.
    #[cfg(test)]
    asked: RefCell<std::collections::BTreeSet<String>>,
}

/// The process that a configuration is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deployment {
    /// The standalone proxy, which accepts and forwards connections itself.
    Standalone,
    /// A proxy of the embedder: listeners and origins are optional.
    Embedded,
}

/// The position of a value: the document, the position in it, and the key.
#[derive(Clone, Debug)]
pub(super) struct Place {
    document: usize,
    at: usize,
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
    is_root: IsRoot,
    asked: Vec<&'static str>,
    /// Keys that are not read here although one could expect them, and why.
    foreign: &'static [(&'static str, &'static str)],
}

/// Distinguishes the configuration itself, to which other documents add objects.
#[derive(Clone, Copy, PartialEq, Eq)]
enum IsRoot {
    Yes,
    No,
}

impl<'a> Reader<'a> {
    pub(super) fn new(
        documents: &'a [Document],
        env: &'a dyn Environment,
        deployment: Deployment,
    ) -> Self {
        Self {
            documents,
            env,
            deployment,
            errors: RefCell::default(),
            warnings: RefCell::default(),
            authorities: RefCell::default(),
            provenance: RefCell::default(),
            #[cfg(test)]
            asked: RefCell::default(),
        }
    }

    pub(super) fn env(&self) -> &'a dyn Environment {
        self.env
    }

    pub(super) fn is_embedded(&self) -> bool {
        self.deployment == Deployment::Embedded
    }

    /// Returns a path relative to the folder of the configuration file.
    pub(super) fn resolve(&self, path: &str) -> PathBuf {
        let folder = self.configuration().map(|(_, document)| document.folder());
        folder.unwrap_or(Path::new("")).join(path)
    }

    /// Reads the configuration itself. Its lists include the objects of the other documents.
    pub(super) fn root<T>(&'a self, read: impl FnOnce(&mut Table<'a>) -> T) -> Option<T> {
        let (index, document) = self.configuration()?;
        let root = self.root_of(index, document);
        let Some(entries) = root.node.as_table() else {
            root.wrong_type("a table");
            return None;
        };
        Some(Table::read(self, entries, root.place, IsRoot::Yes, read))
    }

    fn configuration(&self) -> Option<(usize, &'a Document)> {
        let mut documents = self.documents.iter().enumerate();
        documents.find(|(_, document)| document.content() == Content::Configuration)
    }

    /// Returns the objects of documents with one object each; `list` is the key that objects of
    /// their kind have in the configuration file.
    fn single_objects(&'a self, list: &str) -> impl Iterator<Item = Item<'a>> {
        self.documents
            .iter()
            .enumerate()
            .filter(move |(_, document)| match document.content() {
                Content::Object(kind) => kind.list() == list,
                Content::Configuration => false,
            })
            .map(|(index, document)| self.root_of(index, document))
    }

    fn root_of(&'a self, index: usize, document: &'a Document) -> Item<'a> {
        let node = document.root();
        let place = Place {
            document: index,
            at: node.at(),
            key: String::new(),
        };
        Item {
            reader: self,
            node,
            place,
        }
    }

    fn document(&self, place: &Place) -> Option<&'a Document> {
        self.documents.get(place.document)
    }

    /// Returns `true` if the place is in an object with the members of Cloudflare Access, and not
    /// in a configuration file.
    pub(super) fn is_access(&self, place: &Place) -> bool {
        let content = self.document(place).map(Document::content);
        matches!(content, Some(Content::Object(_)))
    }

    fn member(&self, parent: &Place, key: &str, at: usize) -> Place {
        let document = self.document(parent);
        Place {
            document: parent.document,
            at,
            key: document.map_or_else(String::new, |document| document.member(&parent.key, key)),
        }
    }

    fn element(&self, parent: &Place, index: usize, at: usize) -> Place {
        let document = self.document(parent);
        Place {
            document: parent.document,
            at,
            key: document.map_or_else(String::new, |document| document.element(&parent.key, index)),
        }
    }

    pub(super) fn error(&self, place: &Place, message: &str) {
        self.push(&self.errors, place, message);
    }

    pub(super) fn warn(&self, place: &Place, message: &str) {
        self.push(&self.warnings, place, message);
    }

    fn push(&self, list: &RefCell<Vec<(Place, Problem)>>, place: &Place, message: &str) {
        let Some(document) = self.document(place) else {
            return;
        };
        if list.borrow().len() < MOST_PROBLEMS {
            let problem = Problem {
                document: document.name().clone(),
                position: document.position(place.at),
                key: one_line(&place.key),
                message: one_line(message),
            };
            list.borrow_mut().push((place.clone(), problem));
        }
    }

    /// Records the content of a file of certificate authorities, for messages about it.
    pub(super) fn read_authorities(
        &self,
        place: &Place,
        path: PathBuf,
        certificates: Vec<CertificateDer<'static>>,
    ) {
        self.authorities.borrow_mut().push(AuthorityFile {
            key: one_line(&place.key),
            position: self
                .document(place)
                .and_then(|document| document.position(place.at)),
            path,
            certificates,
        });
    }

    fn record(&self, kind: Kind, id: &str, place: &Place) {
        let Some(document) = self.document(place) else {
            return;
        };
        let origin = Provenance {
            document: document.name().clone(),
            line: document.position(place.at).map(|(line, _)| line),
        };
        self.provenance
            .borrow_mut()
            .insert((kind, id.to_owned()), origin);
    }

    /// Returns the origin of every object that was read.
    pub(super) fn provenance(&self) -> HashMap<(Kind, String), Provenance> {
        self.provenance.take()
    }

    /// Returns the files of certificate authorities that were read.
    pub(super) fn authorities(&self) -> Vec<AuthorityFile> {
        self.authorities.take()
    }

    /// Describes the position of an earlier value, in a message at another.
    pub(super) fn reference(&self, earlier: &Place, from: &Place) -> String {
        let Some(document) = self.document(earlier) else {
            return String::new();
        };
        let position = match document.position(earlier.at) {
            Some((line, _)) => format!("on line {line}"),
            None => format!("at `{}`", earlier.key),
        };
        if earlier.document == from.document {
            position
        } else {
            format!("{position} of {}", document.name())
        }
    }

    pub(super) fn has_errors(&self) -> bool {
        !self.errors.borrow().is_empty()
    }

    /// Returns errors and warnings, each in the order of the documents.
    pub(super) fn outcome(&self) -> (Vec<Problem>, Vec<Problem>) {
        let sorted = |list: &RefCell<Vec<(Place, Problem)>>| {
            let mut list = list.take();
            list.sort_by_key(|(place, _)| (place.document, place.at));
            list.into_iter().map(|(_, problem)| problem).collect()
        };
        (sorted(&self.errors), sorted(&self.warnings))
    }

    /// Returns every key that was read, such as `applications.policies.name`.
    #[cfg(test)]
    pub(super) fn asked(&self) -> std::collections::BTreeSet<String> {
        self.asked.borrow().clone()
    }
}

impl Place {
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

    /// Records this value as the origin of an object.
    pub(super) fn record(&self, kind: Kind, id: &str) {
        self.reader.record(kind, id, &self.place);
    }

    /// Returns `true` if the value is in an object with the members of Cloudflare Access.
    pub(super) fn is_access(&self) -> bool {
        self.reader.is_access(&self.place)
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
            place: self.reader.element(&self.place, i, node.at()),
        };
        Some(list.iter().enumerate().map(item).collect())
    }

    pub(super) fn table<T>(&self, read: impl FnOnce(&mut Table<'a>) -> T) -> Option<T> {
        let Some(entries) = self.node.as_table() else {
            self.wrong_type("a table");
            return None;
        };
        let place = self.place.clone();
        Some(Table::read(self.reader, entries, place, IsRoot::No, read))
    }

    /// What stands under a key, where this is a table and has it.
    pub(super) fn get(&self, key: &str) -> Option<Self> {
        let node = self.node.get(key)?;
        Some(Self {
            reader: self.reader,
            node,
            place: self.reader.member(&self.place, key, node.at()),
        })
    }

    /// The keys, where this is a table, each with its place.
    pub(super) fn keys(&self) -> Vec<(&'a str, Place)> {
        let Some(table) = self.node.as_table() else {
            return Vec::new();
        };
        table
            .iter()
            .map(|(key, entry)| (key, self.reader.member(&self.place, key, entry.at)))
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
            .insert(self.reader.member(&self.place, key, 0).without_indices());
        let node = self.entries.get(key)?;
        Some(Item {
            reader: self.reader,
            node,
            place: self.reader.member(&self.place, key, node.at()),
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
            let place = self.reader.member(&self.place, key, self.place.at);
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
                let place = self.reader.member(&self.place, key, self.place.at);
                let empty = Entries::EMPTY;
                Some(Table::read(self.reader, empty, place, IsRoot::No, read))
            }
        }
    }

    /// Returns the items of a list; none if the key is missing.
    pub(super) fn list(&mut self, key: &'static str) -> Vec<Item<'a>> {
        let item = self.item(key);
        let mut list = item.and_then(|item| item.list()).unwrap_or_default();
        if self.is_root == IsRoot::Yes {
            list.extend(self.reader.single_objects(key));
        }
        list
    }

    /// Returns the nodes of a list without reading them, however much is wrong with them.
    pub(super) fn nodes(&self, key: &str) -> Vec<&'a Node> {
        let list = self.entries.get(key).and_then(Node::as_list);
        let mut nodes: Vec<_> = list.into_iter().flatten().collect();
        if self.is_root == IsRoot::Yes {
            nodes.extend(self.reader.single_objects(key).map(|item| item.node));
        }
        nodes
    }

    /// Returns `true` if the table is in an object with the members of Cloudflare Access.
    pub(super) fn is_access(&self) -> bool {
        self.reader.is_access(&self.place)
    }

    /// Accepts keys without reading them.
    pub(super) fn ignore(&mut self, keys: &[&'static str]) {
        self.asked.extend(keys);
    }

    /// Accepts the members that Access adds to its answers, and that clients send back.
    pub(super) fn ignore_read_only(&mut self) {
        if self.is_access() {
            self.ignore(&["uid", "created_at", "updated_at"]);
        }
    }

    /// Returns line and column of a node of this document.
    pub(super) fn position(&self, at: usize) -> Option<(usize, usize)> {
        self.reader.document(&self.place)?.position(at)
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
                .error(&self.reader.member(&self.place, name, entry.at), &message);
        }
    }
}
