//! Opening and checking of the file.

use std::path::Path;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _};

use super::SqliteStore;
use super::file::{self, FileId, check_private, create_private, unusable};
use super::schema::{self, SchemaError};
use super::writer::Writer;
use crate::store::StoreError;

impl SqliteStore {
    /// Opens the store in that file, creates it if it is missing, and brings it to the schema of
    /// this release.
    ///
    /// # Errors
    /// If the file cannot be opened, is open to others than its owner, or is not a store that this
    /// release knows.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        Self::open_with(path, WAIT).await
    }

    /// Opens the store with another limit on the wait for locks and for other calls.
    pub(in crate::store) async fn open_with(
        path: &Path,
        wait: Duration,
    ) -> Result<Self, StoreError> {
        let failed = |source: std::io::Error| StoreError::Open {
            path: path.into(),
            source: source.into(),
        };
        create_private(path).map_err(failed)?;
        check_private(path)?;
        let options = options(path)
            .busy_timeout(wait)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal)
            .pragma("wal_autocheckpoint", LOG_PAGES)
            .pragma("secure_delete", "ON");
        let opened = async {
            let mut connection = options.connect().await?;
            let is_new = schema::migrate(&mut connection).await?;
            Ok::<_, SchemaError>((connection, is_new))
        };
        let (connection, is_new) = opened.await.map_err(|error| unusable(path, error))?;
        // After the first write: some file systems give a file another number when it is opened for
        // writing.
        let file = FileId::of(path).map_err(failed)?;
        let at = path.to_path_buf();
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .acquire_timeout(wait)
            .max_lifetime(None)
            .idle_timeout(None)
            .test_before_acquire(false)
            .after_connect(move |_, _| {
                // A reader of another file would miss rows that the writer wrote.
                let lost = (!file.is_at(&at)).then(|| StoreError::Lost { path: at.clone() });
                Box::pin(async move {
                    lost.map_or(Ok(()), |lost| Err(sqlx::Error::Configuration(lost.into())))
                })
            })
            .connect_lazy_with(options.clone());
        let writer = Writer::new(path.into(), file, connection, options, wait);
        Ok(Self {
            path: path.into(),
            file,
            readers,
            writer,
            is_new,
        })
    }

    /// Checks the file as [`SqliteStore::open`] does, and changes nothing: neither the file nor its
    /// schema. A file that is missing or empty is accepted if its folder exists, because the first
    /// start creates the store.
    ///
    /// # Errors
    /// Those of [`SqliteStore::open`].
    pub async fn check(path: &Path) -> Result<(), StoreError> {
        let failed = |source: std::io::Error| StoreError::Open {
            path: path.into(),
            source: source.into(),
        };
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
            return Err(failed(std::io::Error::other(format!(
                "there is no directory `{}`",
                folder.display()
            ))));
        }
        check_private(path)?;
        match std::fs::metadata(path) {
            Ok(found) if found.len() == 0 => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(failed(error)),
        }
        let checked = async {
            // `immutable`: no side files, no locks. It is for a file that no process uses: pages
            // could change meanwhile.
            let is_idle = !file::beside(path, "-wal").exists();
            let options = options(path)
                .read_only(true)
                .immutable(is_idle)
                .busy_timeout(WAIT);
            let mut connection = options.connect().await?;
            schema::check(&mut connection).await?;
            Ok::<_, SchemaError>(connection.close().await?)
        };
        checked.await.map_err(|error| unusable(path, error))
    }
}

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(false)
        .pragma("trusted_schema", "OFF")
        .disable_statement_logging()
}

/// Enough for logins; requests never come here.
const READERS: u32 = 4;
/// Longer than any commit, shorter than a person waits.
const WAIT: Duration = Duration::from_secs(5);
/// The write-ahead log is written back at that many pages of 4 KB, so that it stays small on a
/// small disk.
const LOG_PAGES: &str = "200";
