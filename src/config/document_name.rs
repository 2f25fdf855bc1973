use std::fmt;
use std::path::PathBuf;

use crate::catalog::Kind;

/// The name of a document in messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DocumentName {
    /// A file, as the command line or the caller named it.
    File(PathBuf),
    /// An object without a file: the body of a request, or a row of a store.
    Object {
        /// The kind of the object.
        kind: Kind,
        /// Its id; `None` for an object that is about to be created.
        id: Option<String>,
    },
}

impl fmt::Display for DocumentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(file) => write!(f, "{}", file.display()),
            Self::Object { kind, id: Some(id) } => write!(f, "the {kind} `{id}`"),
            Self::Object { kind, id: None } => write!(f, "a new {kind}"),
        }
    }
}
