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
use std::sync::atomic::{AtomicBool, Ordering};

use sqlx::sqlite::SqlitePool;

use super::StoreError;
use file::{FileId, failure};
use reader::Reader;
use writer::Writer;

/// The embedded store: one SQLite file, readable by its owner alone, on a local disk (its
/// write-ahead log shares memory between processes, which network file systems do not have).
///
/// A commit survives the death of the process at once and the loss of power a moment later; a
/// revocation survives both at once, since one that comes undone would let somebody back in. What
/// is deleted is overwritten.
pub struct SqliteStore {
    path: PathBuf,
    file: FileId,
    readers: SqlitePool,
    writer: Writer,
    is_new: bool,
    /// `true` if older content was found in the file.
    went_back: AtomicBool,
}

impl SqliteStore {
    /// Returns `true` if there was no store in the file before.
    pub const fn is_new(&self) -> bool {
        self.is_new
    }

    /// Writes everything out and closes the file. Calls after this fail.
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
    /// If there is none, if another file is at the path, or if the content was replaced by an older
    /// one. What other processes revoke is then not in the file that is open here, or has revisions
    /// that were followed already.
    async fn reader(&self, operation: &'static str) -> Result<Reader, StoreError> {
        if self.went_back.load(Ordering::Relaxed) || self.file.may_be_replaced_at(&self.path) {
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
