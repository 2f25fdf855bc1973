use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sqlx::ConnectOptions as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use zeroize::Zeroizing;

use super::schema::{self, KNOWN, SchemaError};
use super::{BATCH, Pruned, Revocation, Revoked, Store, StoreError, StoredKey, TAIL, new_secret, new_user};
use crate::model::{Aud, Identity, IdentityNonce, IdpId, Secret, UnixTime, UserId};

/// The embedded store: one SQLite file, readable by its owner alone, on a local disk (its write-ahead log shares memory
/// between processes, which network file systems do not have).
///
/// A commit survives the death of the process at once and the loss of power a moment later; a revocation survives both at
/// once, since one that comes undone would let somebody back in. What is deleted is overwritten.
pub struct SqliteStore {
    path: PathBuf,
    readers: SqlitePool,
    // One connection: SQLite has one writer at a time, and a pool queues fairly where its lock does not.
    writer: SqlitePool,
}

impl SqliteStore {
    /// Opens the store in that file, makes it where there is none, and brings it to the schema of this release.
    ///
    /// # Errors
    /// Where the file cannot be opened, is open to others than its owner, or is not a store that this release knows.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        Self::open_with(path, WAIT).await
    }

    /// `wait`: how long a call waits for another process's lock, or for its turn.
    pub(super) async fn open_with(path: &Path, wait: Duration) -> Result<Self, StoreError> {
        let failed = |source: io::Error| StoreError::Open { path: path.into(), source: source.into() };
        private_file(path).map_err(failed)?;
        // SQLite gives its side files the mode of the main one; ones that stand there already may have another.
        for file in [path.to_path_buf(), beside(path, "-wal"), beside(path, "-shm")] {
            match std::fs::metadata(&file) {
                Ok(found) if found.permissions().mode() & 0o077 != 0 => {
                    return Err(StoreError::Exposed { path: file, mode: found.permissions().mode() & 0o7777 });
                }
                Ok(found) if !found.is_file() => return Err(failed(io::Error::other("it is not a regular file"))),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed(error)),
            }
        }
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(false)
            .busy_timeout(wait)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal)
            .pragma("secure_delete", "ON")
            .pragma("trusted_schema", "OFF")
            .disable_statement_logging();
        let pool = |connections| {
            SqlitePoolOptions::new()
                .max_connections(connections)
                .acquire_timeout(wait)
                .max_lifetime(None)
                .test_before_acquire(false)
                .connect_lazy_with(options.clone())
        };
        let (readers, writer) = (pool(READERS), pool(1));
        let mut connection = writer.acquire().await.map_err(|error| unusable(path, error))?;
        schema::migrate(&mut connection).await.map_err(|error| match error {
            SchemaError::Foreign => StoreError::Foreign { path: path.into(), source: None },
            SchemaError::Newer(found) => StoreError::Newer { path: path.into(), found, known: KNOWN },
            SchemaError::Database(error) => unusable(path, error),
        })?;
        drop(connection);
        Ok(Self { path: path.into(), readers, writer })
    }

    /// Writes everything out and closes the file. Calls after this fail.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }

    #[cfg(test)]
    pub(super) const fn writer(&self) -> &SqlitePool {
        &self.writer
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn secret(&self, name: &str) -> Result<Zeroizing<[u8; 32]>, StoreError> {
        let failed = failure("read a secret");
        const READ: &str = "SELECT value FROM secrets WHERE name = $1";
        let mut found: Option<String> =
            sqlx::query_scalar(READ).bind(name).fetch_optional(&self.readers).await.map_err(&failed)?;
        if found.is_none() {
            let made = Zeroizing::new(URL_SAFE_NO_PAD.encode(new_secret()));
            sqlx::query("INSERT INTO secrets (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING")
                .bind(name)
                .bind(made.as_str())
                .execute(&self.writer)
                .await
                .map_err(failure("keep a secret"))?;
            found = Some(sqlx::query_scalar(READ).bind(name).fetch_one(&self.writer).await.map_err(&failed)?);
        }
        let text = Zeroizing::new(found.unwrap_or_default());
        let mut bytes = Zeroizing::new([0_u8; 32]);
        match URL_SAFE_NO_PAD.decode_slice(text.as_bytes(), bytes.as_mut()) {
            Ok(32) => Ok(bytes),
            _ => Err(StoreError::Malformed { what: "secret" }),
        }
    }

    async fn signing_keys(&self) -> Result<Vec<StoredKey>, StoreError> {
        type Row = (String, String, String, i64, Option<i64>);
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT kid, pkcs8, certificate, made, retired FROM signing_keys ORDER BY made DESC, kid DESC",
        )
        .fetch_all(&self.readers)
        .await
        .map_err(failure("read the signing keys"))?;
        let read = |(kid, pkcs8, certificate_pem, made, retired): Row| {
            Some(StoredKey {
                kid: kid.into(),
                pkcs8: Secret::new(pkcs8),
                certificate_pem,
                made: moment(made)?,
                retired: retired.map(moment).map_or(Some(None), |at| at.map(Some))?,
            })
        };
        rows.into_iter().map(|row| read(row).ok_or(StoreError::Malformed { what: "signing key" })).collect()
    }

    async fn put_signing_key(&self, key: &StoredKey) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO signing_keys (kid, pkcs8, certificate, made, retired) VALUES ($1, $2, $3, $4, $5) \
             ON CONFLICT (kid) DO UPDATE SET pkcs8 = excluded.pkcs8, certificate = excluded.certificate, \
             made = excluded.made, retired = excluded.retired",
        )
        .bind(&*key.kid)
        .bind(key.pkcs8.expose())
        .bind(&key.certificate_pem)
        .bind(seconds(key.made))
        .bind(key.retired.map(seconds))
        .execute(&self.writer)
        .await
        .map_err(failure("keep a signing key"))?;
        Ok(())
    }

    async fn delete_signing_key(&self, kid: &str) -> Result<(), StoreError> {
        let delete = sqlx::query("DELETE FROM signing_keys WHERE kid = $1").bind(kid);
        delete.execute(&self.writer).await.map_err(failure("delete a signing key"))?;
        Ok(())
    }

    async fn put_identity(
        &self,
        nonce: &IdentityNonce,
        identity: &Identity,
        expires: UnixTime,
    ) -> Result<(), StoreError> {
        const OPERATION: &str = "keep an identity";
        let text = serde_json::to_string(identity)
            .map_err(|error| StoreError::Unavailable { operation: OPERATION, source: error.into() })?;
        sqlx::query(
            "INSERT INTO identities (nonce, identity, expires) VALUES ($1, $2, $3) \
             ON CONFLICT (nonce) DO UPDATE SET identity = excluded.identity, expires = excluded.expires",
        )
        .bind(nonce.as_str())
        .bind(text)
        .bind(seconds(expires))
        .execute(&self.writer)
        .await
        .map_err(failure(OPERATION))?;
        Ok(())
    }

    async fn identity(&self, nonce: &IdentityNonce) -> Result<Option<Identity>, StoreError> {
        let found: Option<String> = sqlx::query_scalar("SELECT identity FROM identities WHERE nonce = $1")
            .bind(nonce.as_str())
            .fetch_optional(&self.readers)
            .await
            .map_err(failure("read an identity"))?;
        let read = |text: String| serde_json::from_str(&text).map_err(|_| StoreError::Malformed { what: "identity" });
        found.map(read).transpose()
    }

    async fn put_logout_hint(&self, nonce: &IdentityNonce, hint: &str, expires: UnixTime) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO logout_hints (nonce, hint, expires) VALUES ($1, $2, $3) \
             ON CONFLICT (nonce) DO UPDATE SET hint = excluded.hint, expires = excluded.expires",
        )
        .bind(nonce.as_str())
        .bind(hint)
        .bind(seconds(expires))
        .execute(&self.writer)
        .await
        .map_err(failure("keep a logout hint"))?;
        Ok(())
    }

    async fn take_logout_hint(&self, nonce: &IdentityNonce) -> Result<Option<String>, StoreError> {
        sqlx::query_scalar("DELETE FROM logout_hints WHERE nonce = $1 RETURNING hint")
            .bind(nonce.as_str())
            .fetch_optional(&self.writer)
            .await
            .map_err(failure("take a logout hint"))
    }

    async fn user(&self, idp: &IdpId, subject: &str) -> Result<UserId, StoreError> {
        let failed = failure("read a user");
        const READ: &str = "SELECT id FROM users WHERE idp = $1 AND subject = $2";
        let found: Option<String> = sqlx::query_scalar(READ)
            .bind(&*idp.0)
            .bind(subject)
            .fetch_optional(&self.readers)
            .await
            .map_err(&failed)?;
        if let Some(id) = found {
            return Ok(UserId(id.into()));
        }
        sqlx::query("INSERT INTO users (idp, subject, id) VALUES ($1, $2, $3) ON CONFLICT (idp, subject) DO NOTHING")
            .bind(&*idp.0)
            .bind(subject)
            .bind(&*new_user().0)
            .execute(&self.writer)
            .await
            .map_err(failure("keep a user"))?;
        let id: String =
            sqlx::query_scalar(READ).bind(&*idp.0).bind(subject).fetch_one(&self.writer).await.map_err(&failed)?;
        Ok(UserId(id.into()))
    }

    async fn revoke(&self, revocation: &Revocation, expires: UnixTime) -> Result<u64, StoreError> {
        let failed = failure("keep a revocation");
        let (kind, subject, before) = match revocation {
            Revocation::Session(nonce) => ("session", nonce.as_str(), None),
            Revocation::User { user, before } => ("user", &*user.0, Some(*before)),
            Revocation::Application { aud, before } => ("application", aud.as_str(), Some(*before)),
        };
        let mut connection = self.writer.acquire().await.map_err(&failed)?;
        // Where this call is abandoned half way the connection stays careful, which costs time and nothing else.
        sqlx::query("PRAGMA synchronous = FULL").execute(&mut *connection).await.map_err(&failed)?;
        let mut tx = sqlx::Connection::begin_with(&mut *connection, "BEGIN IMMEDIATE").await.map_err(&failed)?;
        let revision: i64 = sqlx::query_scalar("UPDATE revision SET latest = latest + 1 RETURNING latest")
            .fetch_one(&mut *tx)
            .await
            .map_err(&failed)?;
        sqlx::query("INSERT INTO revocations (revision, kind, subject, before, expires) VALUES ($1, $2, $3, $4, $5)")
            .bind(revision)
            .bind(kind)
            .bind(subject)
            .bind(before.map(seconds))
            .bind(seconds(expires))
            .execute(&mut *tx)
            .await
            .map_err(&failed)?;
        tx.commit().await.map_err(&failed)?;
        // It is kept: what becomes of the connection is no longer its concern.
        let _ = sqlx::query("PRAGMA synchronous = NORMAL").execute(&mut *connection).await;
        u64::try_from(revision).map_err(|_| StoreError::Malformed { what: "revision" })
    }

    async fn revocations_after(&self, revision: u64) -> Result<Vec<Revoked>, StoreError> {
        let rows: Vec<RevocationRow> = sqlx::query_as(
            "SELECT revision, kind, subject, before, expires FROM revocations WHERE revision > $1 \
             ORDER BY revision LIMIT $2",
        )
        .bind(i64::try_from(revision).unwrap_or(i64::MAX))
        .bind(TAIL as i64)
        .fetch_all(&self.readers)
        .await
        .map_err(failure("read the revocations"))?;
        rows.into_iter().map(|row| revoked(row).ok_or(StoreError::Malformed { what: "revocation" })).collect()
    }

    async fn first_use(&self, name: &str, expires: UnixTime) -> Result<bool, StoreError> {
        let insert = sqlx::query("INSERT INTO uses (name, expires) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING")
            .bind(name)
            .bind(seconds(expires));
        let done = insert.execute(&self.writer).await.map_err(failure("remember a use"))?;
        Ok(done.rows_affected() == 1)
    }

    async fn prune(&self, now: UnixTime) -> Result<Pruned, StoreError> {
        const IDENTITIES: &str = "DELETE FROM identities WHERE nonce IN \
             (SELECT nonce FROM identities WHERE expires <= $1 ORDER BY expires LIMIT $2)";
        const REVOCATIONS: &str = "DELETE FROM revocations WHERE revision IN \
             (SELECT revision FROM revocations WHERE expires <= $1 ORDER BY expires LIMIT $2)";
        const HINTS: &str = "DELETE FROM logout_hints WHERE nonce IN \
             (SELECT nonce FROM logout_hints WHERE expires <= $1 ORDER BY expires LIMIT $2)";
        const USES: &str =
            "DELETE FROM uses WHERE name IN (SELECT name FROM uses WHERE expires <= $1 ORDER BY expires LIMIT $2)";
        let mut gone = [0; 4];
        for (statement, gone) in [IDENTITIES, REVOCATIONS, USES, HINTS].into_iter().zip(&mut gone) {
            let delete = sqlx::query(statement).bind(seconds(now)).bind(BATCH as i64);
            *gone = delete.execute(&self.writer).await.map_err(failure("prune"))?.rows_affected();
        }
        let [identities, revocations, uses, _hints] = gone;
        Ok(Pruned { identities, revocations, uses })
    }
}

impl std::fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SqliteStore({})", self.path.display())
    }
}

type RevocationRow = (i64, String, String, Option<i64>, i64);

fn revoked((revision, kind, subject, before, expires): RevocationRow) -> Option<Revoked> {
    let before = || before.and_then(moment);
    let revocation = match kind.as_str() {
        "session" => Revocation::Session(IdentityNonce::parse(&subject).ok()?),
        "user" => Revocation::User { user: UserId(subject.into()), before: before()? },
        "application" => Revocation::Application { aud: Aud::parse(&subject).ok()?, before: before()? },
        _ => return None,
    };
    Some(Revoked { revision: u64::try_from(revision).ok()?, revocation, expires: moment(expires)? })
}

/// Makes the file with no rights for others from its first moment; SQLite itself would go by the umask.
fn private_file(path: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let made = options.write(true).create_new(true).mode(0o600).open(path).and_then(|file| File::sync_all(&file));
    match made {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// What an error while opening means. SQLite reads nothing of the file before the first statement.
fn unusable(path: &Path, error: sqlx::Error) -> StoreError {
    let code = error.as_database_error().and_then(|error| error.code());
    // SQLITE_CORRUPT, SQLITE_NOTADB
    if matches!(code.as_deref(), Some("11" | "26")) {
        StoreError::Foreign { path: path.into(), source: Some(error.into()) }
    } else {
        StoreError::Open { path: path.into(), source: error.into() }
    }
}

fn failure(operation: &'static str) -> impl Fn(sqlx::Error) -> StoreError {
    move |error| StoreError::Unavailable { operation, source: error.into() }
}

/// SQL integers are signed: the far end of time is theirs.
fn seconds(time: UnixTime) -> i64 {
    i64::try_from(time.0).unwrap_or(i64::MAX)
}

fn moment(seconds: i64) -> Option<UnixTime> {
    u64::try_from(seconds).ok().map(UnixTime)
}

/// Enough for logins; requests never come here.
const READERS: u32 = 4;

/// Longer than any commit, shorter than a person waits.
const WAIT: Duration = Duration::from_secs(5);
