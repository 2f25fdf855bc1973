//! The file itself: its permissions, its identity, and the meaning of errors while it is opened.

use std::error::Error;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::schema::{KNOWN, SchemaError};
use crate::store::{Cause, StoreError};

/// The file behind a path, however often the path is given to another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    /// Returns the identity of the file that is at the path now.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        std::fs::metadata(path).map(|found| Self {
            device: found.dev(),
            inode: found.ino(),
        })
    }

    /// Returns `true` if the path still leads to this file.
    pub(super) fn is_at(self, path: &Path) -> bool {
        Self::of(path).is_ok_and(|found| found == self)
    }

    /// Returns `true` if the path may lead to another file now. If it leads to none, no other
    /// process writes anywhere else.
    pub(super) fn may_be_replaced_at(self, path: &Path) -> bool {
        match Self::of(path) {
            Ok(found) => found != self,
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        }
    }
}

/// Creates the file if it is missing, with no rights for others from its first moment; SQLite
/// itself would go by the umask.
pub(super) fn create_private(path: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let made = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|file| File::sync_all(&file));
    match made {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

/// Rejects a file, or a side file of SQLite, that others may read or write, and whatever is not a
/// regular file.
pub(super) fn check_private(path: &Path) -> Result<(), StoreError> {
    let failed = |source: io::Error| StoreError::Open {
        path: path.into(),
        source: source.into(),
    };
    // SQLite gives its side files the mode of the main one; side files that exist already may have
    // another.
    for file in [
        path.to_path_buf(),
        beside(path, "-wal"),
        beside(path, "-shm"),
    ] {
        match std::fs::metadata(&file) {
            Ok(found) if !found.is_file() => {
                return Err(failed(io::Error::other("it is not a regular file")));
            }
            Ok(found) if found.permissions().mode() & 0o077 != 0 => {
                return Err(StoreError::Exposed {
                    path: file,
                    mode: found.permissions().mode() & 0o7777,
                });
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(())
}

pub(super) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// The meaning of an error while opening. SQLite reads nothing of the file before the first
/// statement.
pub(super) fn unusable(path: &Path, error: SchemaError) -> StoreError {
    let path = path.into();
    match error {
        SchemaError::Foreign => StoreError::Foreign { path, source: None },
        SchemaError::Newer(found) => StoreError::Newer {
            path,
            found,
            known: KNOWN,
        },
        SchemaError::Database(error) => {
            let code = error.as_database_error().and_then(|error| error.code());
            // SQLITE_CORRUPT, SQLITE_NOTADB
            if matches!(code.as_deref(), Some("11" | "26")) {
                StoreError::Foreign {
                    path,
                    source: Some(cause(error)),
                }
            } else {
                StoreError::Open {
                    path,
                    source: cause(error),
                }
            }
        }
    }
}

/// SQLite's message once: the error of sqlx has it in its own text and again as its source.
pub(super) fn cause(error: sqlx::Error) -> Cause {
    match error {
        sqlx::Error::Database(error) => {
            let code = error
                .code()
                .map(|code| format!(" (SQLite code {code})"))
                .unwrap_or_default();
            format!("{}{code}", error.message()).into()
        }
        error => error.into(),
    }
}

pub(super) fn failure(operation: &'static str) -> impl Fn(sqlx::Error) -> StoreError {
    move |error| StoreError::Unavailable {
        operation,
        source: cause(error),
    }
}

/// An error in one line, as the state of the store reports it.
pub(super) fn line(error: &dyn Error) -> Box<str> {
    crate::model::chain(error).into()
}
