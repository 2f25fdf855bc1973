//! A cursor over parsed documents. It reads typed values, collects every mistake with its position,
//! and reports unknown keys: no key is ignored.

mod item;
mod table;
mod unique;

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

use rustls::pki_types::CertificateDer;

use super::document::{Content, Document};
use super::errors::{MOST_PROBLEMS, Problem, one_line};
use super::provenance::{AuthorityFile, Provenance};
use super::secrets::Environment;
use crate::catalog::Kind;

pub(super) use item::Item;
pub(super) use table::Table;
pub(super) use unique::Unique;

use table::IsRoot;

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
