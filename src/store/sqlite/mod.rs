//! The store as one SQLite file.
//!
//! Decides if the file is safe to open, and if a connection can be used again. Trusts SQLite's
//! transactions. Never opens a file that other users can read or write, never writes on a
//! connection that had an error, and never reads on if another file took the place of the open one.

mod changes;
mod file;
mod keys;
mod logins;
mod maintenance;
mod open;
mod reader;
mod revocations;
mod rows;
pub(super) mod schema;
mod uses;
mod writer;

use std::path::PathBuf;

use sqlx::sqlite::SqlitePool;

use super::StoreError;
use file::{FileId, failure};
use reader::Reader;
use writer::Writer;

/// The embedded store: one SQLite file, readable by its owner alone. It needs a local disk: its
/// write-ahead log shares memory between processes, which network file systems cannot.
///
/// A commit survives the death of the process at once and the loss of power a moment later; a
/// revocation survives both at once, because a lost one would restore access. Deleted content is
/// overwritten.
pub struct SqliteStore {
    path: PathBuf,
    file: FileId,
    readers: SqlitePool,
    writer: Writer,
    is_new: bool,
}

impl SqliteStore {
    /// Returns `true` if the file was created by this start, or was empty.
    pub const fn is_new(&self) -> bool {
        self.is_new
    }

    /// Flushes and closes the file. Later calls fail.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }

    #[cfg(test)]
    pub(super) const fn database(&self) -> &SqlitePool {
        &self.readers
    }

    /// Makes every write run that statement first.
    #[cfg(test)]
    pub(super) fn inject(&self, fault: Option<&'static str>) {
        *self.writer.fault.lock().unwrap() = fault;
    }

    /// Takes a connection that reads.
    ///
    /// # Errors
    /// If there is none, or if another file is at the path: the revocations of other processes are
    /// then not in the file that is open here.
    async fn reader(&self, operation: &'static str) -> Result<Reader, StoreError> {
        if self.file.may_be_replaced_at(&self.path) {
            return Err(self.lost());
        }
        let connection = self.readers.acquire().await.map_err(failure(operation))?;
        Ok(Reader {
            connection,
            operation,
        })
    }

    fn lost(&self) -> StoreError {
        StoreError::Lost {
            path: self.path.clone(),
        }
    }
}

impl std::fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SqliteStore({})", self.path.display())
    }
}
