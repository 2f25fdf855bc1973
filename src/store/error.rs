use std::error::Error;
use std::path::PathBuf;

use thiserror::Error;

/// A store that could not be used, or a row in it that could not be read.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The file does not exist and cannot be created, or cannot be read or locked.
    #[error("the store file `{}` (`[store] path`) cannot be opened", path.display())]
    Open {
        /// The path in the configuration.
        path: PathBuf,
        /// The error of the system or of SQLite.
        source: Cause,
    },
    /// The file contains signing keys, and other users of the machine may read or write it.
    #[error("the store file `{}` (`[store] path`) is accessible to other users: its mode is \
     {mode:04o} and must be 0600", path.display())]
    Exposed {
        /// The path in the configuration.
        path: PathBuf,
        /// The permission bits, as `chmod` takes them.
        mode: u32,
    },
    /// The file is not a store.
    #[error("the file `{}` (`[store] path`) is not a portcullis store", path.display())]
    Foreign {
        /// The path in the configuration.
        path: PathBuf,
        /// The error of SQLite; `None` for a sound database of another application.
        source: Option<Cause>,
    },
    /// A later release has changed the schema in a way that this release does not know.
    #[error("the store file `{}` (`[store] path`) has schema {found}, from a later release; this \
     release supports {known}", path.display())]
    Newer {
        /// The path in the configuration.
        path: PathBuf,
        /// The schema in the file.
        found: i64,
        /// The schema of this release.
        known: i64,
    },
    /// The file in use is no longer at its path: writes to it would be lost at the next start.
    #[error("the store file `{}` (`[store] path`) was deleted or replaced while in use; restart to \
     use the current file", path.display())]
    Lost {
        /// The path in the configuration.
        path: PathBuf,
    },
    /// The store could not be reached, or did not accept a write.
    #[error("the store could not {operation}")]
    Unavailable {
        /// The operation that failed, as a verb phrase.
        operation: &'static str,
        /// The error of the database.
        source: Cause,
    },
    /// The store could not be read for so long that the latest revocations are unknown.
    #[error("revocations have not been read from the store for too long")]
    Stale,
    /// A row exists and cannot be read.
    #[error("the store contains a malformed {what}")]
    Malformed {
        /// The kind of the row.
        what: &'static str,
    },
}

impl StoreError {
    /// Every value of [`StoreError::kind`].
    pub const KINDS: [&str; 3] = ["open", "unavailable", "malformed"];

    /// Returns a label for metrics.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Open { .. }
            | Self::Exposed { .. }
            | Self::Foreign { .. }
            | Self::Newer { .. } => "open",
            Self::Lost { .. } | Self::Unavailable { .. } | Self::Stale => "unavailable",
            Self::Malformed { .. } => "malformed",
        }
    }
}

/// The error below a [`StoreError`].
pub type Cause = Box<dyn Error + Send + Sync>;
