//! Documents: the configuration file, and single objects that other sources keep as JSON.

use std::fmt;
use std::path::Path;

use serde_json::error::Category;
use toml::de::DeTable;

use super::document_name::DocumentName;
use super::errors::{Errors, MOST_PROBLEMS, Problem, one_line};
use super::node::Node;
use crate::catalog::Kind;

/// A parsed document that remembers enough of its text to locate mistakes.
pub struct Document {
    name: DocumentName,
    content: Content,
    notation: Notation,
    root: Node,
}

/// The content of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// A whole configuration, in the keys of `docs/configuration.md`.
    Configuration,
    /// One object, in the JSON of Cloudflare Access.
    Object(Kind),
}

/// The notation of a document, which decides how messages locate a mistake.
enum Notation {
    /// Messages give line, column and dotted key.
    Toml(Lines),
    /// Messages give a JSON pointer (RFC 6901).
    Json,
}

/// The start of each line of a text.
struct Lines {
    text: String,
    starts: Vec<usize>,
}

impl Document {
    /// Parses a configuration in TOML.
    ///
    /// # Errors
    /// Every syntax error.
    pub fn toml(text: String, file: &Path) -> Result<Self, Errors> {
        let name = DocumentName::File(file.into());
        let lines = Lines::new(text);
        let (document, mistakes) = DeTable::parse_recoverable(&lines.text);
        if mistakes.is_empty() {
            let root = Node::from_toml(document);
            return Ok(Self {
                name,
                content: Content::Configuration,
                notation: Notation::Toml(lines),
                root,
            });
        }
        let mut problems: Vec<_> = mistakes
            .iter()
            .map(|mistake| {
                let at = mistake.span().map_or(lines.text.len(), |span| span.start);
                let message = format!("this is not TOML: {}", mistake.message());
                (at, lines.position(at), message)
            })
            .collect();
        problems.sort_by_key(|(at, ..)| *at);
        let problems = problems
            .into_iter()
            .take(MOST_PROBLEMS)
            .map(|(_, position, message)| Problem {
                document: name.clone(),
                position: Some(position),
                key: String::new(),
                message: one_line(&message),
            });
        Err(Errors(problems.collect()))
    }

    /// Parses a configuration in JSON, with the keys of the TOML file.
    ///
    /// # Errors
    /// The first syntax error. A key that occurs twice is one.
    pub fn json(text: &str, file: &Path) -> Result<Self, Errors> {
        Self::parse_json(
            text,
            DocumentName::File(file.into()),
            Content::Configuration,
        )
    }

    /// Parses one object in the JSON of Cloudflare Access. `id` is `None` for a new object.
    ///
    /// # Errors
    /// As for [`json`](Self::json).
    pub fn object(text: &str, kind: Kind, id: Option<String>) -> Result<Self, Errors> {
        let name = DocumentName::Object { kind, id };
        Self::parse_json(text, name, Content::Object(kind))
    }

    fn parse_json(text: &str, name: DocumentName, content: Content) -> Result<Self, Errors> {
        match Node::from_json(text) {
            Ok(root) => Ok(Self {
                name,
                content,
                notation: Notation::Json,
                root,
            }),
            Err(error) => {
                let reason = match error.classify() {
                    Category::Eof => "it ends too early",
                    Category::Data => "a key occurs twice in one object",
                    Category::Syntax | Category::Io => "there is a syntax error here",
                };
                Err(Errors(vec![Problem {
                    document: name,
                    position: Some((error.line(), error.column())),
                    key: String::new(),
                    message: format!("this is not JSON: {reason}"),
                }]))
            }
        }
    }

    pub(super) const fn name(&self) -> &DocumentName {
        &self.name
    }

    pub(super) const fn content(&self) -> Content {
        self.content
    }

    pub(super) const fn root(&self) -> &Node {
        &self.root
    }

    /// Returns the folder that relative paths start from.
    pub(super) fn folder(&self) -> &Path {
        match &self.name {
            DocumentName::File(file) => file.parent().unwrap_or(Path::new("")),
            DocumentName::Object { .. } => Path::new(""),
        }
    }

    /// Returns line and column of a node, both from 1; `None` in JSON.
    pub(super) fn position(&self, at: usize) -> Option<(usize, usize)> {
        match &self.notation {
            Notation::Toml(lines) => Some(lines.position(at)),
            Notation::Json => None,
        }
    }

    /// Returns the way to a member: a dotted key, or a JSON pointer (RFC 6901).
    pub(super) fn member(&self, parent: &str, key: &str) -> String {
        let Notation::Toml(_) = self.notation else {
            let escaped = key.replace('~', "~0").replace('/', "~1");
            return format!("{parent}/{escaped}");
        };
        let is_bare = !key.is_empty()
            && key
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
        let dot = if parent.is_empty() { "" } else { "." };
        if is_bare {
            format!("{parent}{dot}{key}")
        } else {
            format!("{parent}{dot}{key:?}")
        }
    }

    /// Returns the way to an item of a list.
    pub(super) fn element(&self, parent: &str, index: usize) -> String {
        match self.notation {
            Notation::Toml(_) => format!("{parent}[{index}]"),
            Notation::Json => format!("{parent}/{index}"),
        }
    }
}

impl Lines {
    fn new(text: String) -> Self {
        let starts = std::iter::once(0)
            .chain(text.match_indices('\n').map(|(at, _)| at + 1))
            .collect();
        Self { text, starts }
    }

    /// Returns line and column of a byte, both from 1, the column in characters.
    fn position(&self, at: usize) -> (usize, usize) {
        let line = self.starts.partition_point(|start| *start <= at);
        let start = self
            .starts
            .get(line.saturating_sub(1))
            .copied()
            .unwrap_or_default();
        let before = self.text.get(start..at).unwrap_or_default();
        (line, before.chars().count() + 1)
    }
}

impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The content may hold secrets.
        f.debug_tuple("Document").field(&self.name).finish()
    }
}
