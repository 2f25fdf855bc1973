//! The one connection that writes.
//!
//! SQLite rolls a transaction back by itself on some errors, a full disk among them, and sqlx does
//! not notice: every later transaction on that connection fails. So a connection that saw an error,
//! or was abandoned in the middle, is never used again.

use std::path::PathBuf;
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::sync::{Mutex, MutexGuard};

use super::file::{FileId, failure, line};
use crate::store::StoreError;

pub(super) struct Writer {
    path: PathBuf,
    file: FileId,
    options: SqliteConnectOptions,
    wait: Duration,
    // SQLite has one writer at a time, and unlike SQLite's own lock this one queues fairly.
    slot: Mutex<Slot>,
    failure: StdMutex<Option<Arc<str>>>,
    /// A statement that every lease runs first, to make the writes of tests fail.
    #[cfg(test)]
    pub(super) fault: StdMutex<Option<&'static str>>,
}

enum Slot {
    Idle(SqliteConnection),
    Empty,
    Closed,
}

impl Writer {
    pub(super) fn new(
        path: PathBuf,
        file: FileId,
        connection: SqliteConnection,
        options: SqliteConnectOptions,
        wait: Duration,
    ) -> Self {
        Self {
            path,
            file,
            options,
            wait,
            slot: Mutex::new(Slot::Idle(connection)),
            failure: StdMutex::default(),
            #[cfg(test)]
            fault: StdMutex::default(),
        }
    }

    /// Takes the connection, or opens one.
    pub(super) async fn lease(&self, operation: &'static str) -> Result<Lease<'_>, StoreError> {
        let lease = self.take(operation).await;
        if let Err(error) = &lease {
            self.note(Some(error));
        }
        lease
    }

    async fn take(&self, operation: &'static str) -> Result<Lease<'_>, StoreError> {
        // A write to a file that was replaced would be lost to all other processes.
        if !self.file.is_at(&self.path) {
            return Err(StoreError::Lost {
                path: self.path.clone(),
            });
        }
        let turn = tokio::time::timeout(self.wait, self.slot.lock()).await;
        let mut slot = turn.map_err(|_| failure(operation)(sqlx::Error::PoolTimedOut))?;
        let connection = match std::mem::replace(&mut *slot, Slot::Empty) {
            Slot::Idle(connection) => connection,
            Slot::Empty => self.options.connect().await.map_err(failure(operation))?,
            Slot::Closed => {
                *slot = Slot::Closed;
                return Err(failure(operation)(sqlx::Error::PoolClosed));
            }
        };
        #[cfg(test)]
        let connection = {
            let mut connection = connection;
            let fault = *self.fault.lock().unwrap();
            if let Some(fault) = fault {
                sqlx::query(fault).execute(&mut connection).await.unwrap();
            }
            connection
        };
        Ok(Lease {
            writer: self,
            slot,
            connection: Some(connection),
            operation,
        })
    }

    /// Closes the connection. Every later lease fails.
    pub(super) async fn close(&self) {
        if let Slot::Idle(connection) =
            std::mem::replace(&mut *self.slot.lock().await, Slot::Closed)
        {
            // The file is sound whatever comes of this: the next process reads the write-ahead log.
            let _ = connection.close().await;
        }
    }

    /// Returns the cause if the last write failed.
    pub(super) fn failure(&self) -> Option<Arc<str>> {
        self.failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn note(&self, failed: Option<&StoreError>) {
        let failed = failed.map(|error| Arc::from(line(error)));
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = failed;
    }
}

/// The connection, for one operation. If [`Lease::finish`] is not reached, it is closed.
pub(super) struct Lease<'a> {
    writer: &'a Writer,
    slot: MutexGuard<'a, Slot>,
    connection: Option<SqliteConnection>,
    operation: &'static str,
}

impl Lease<'_> {
    /// Gives the connection back, or closes it if it saw an error.
    pub(super) async fn finish<T>(mut self, done: Result<T, sqlx::Error>) -> Result<T, StoreError> {
        let Some(connection) = self.connection.take() else {
            return Err(failure(self.operation)(sqlx::Error::PoolClosed));
        };
        match done {
            Ok(done) => {
                *self.slot = Slot::Idle(connection);
                self.writer.note(None);
                Ok(done)
            }
            Err(error) => {
                // Its transaction and its locks end with it, before the next writer comes.
                let _ = connection.close().await;
                let error = failure(self.operation)(error);
                self.writer.note(Some(&error));
                Err(error)
            }
        }
    }

    /// The connection. It is there until the lease is finished.
    pub(super) fn connection(&mut self) -> Result<&mut SqliteConnection, sqlx::Error> {
        self.connection.as_mut().ok_or(sqlx::Error::PoolClosed)
    }
}
