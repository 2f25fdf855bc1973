mod file;
mod open;
mod reader;
mod rows;
pub(super) mod schema;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sqlx::Connection as _;
use sqlx::sqlite::SqlitePool;
use zeroize::Zeroizing;

use super::{
    BATCH, CLOCK_STEP, Pruned, Revocation, Revoked, Store, StoreError, StoredKey, TAIL, new_secret,
    new_user,
};
use crate::model::{Identity, IdentityNonce, IdpId, Secret, UnixTime, UserId};
use file::{FileId, failure};
use reader::Reader;
use rows::{
    IdentityRow, RevocationRow, is_covered, moment, read_identity, revoked, seconds, to_text,
};
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

#[async_trait]
impl Store for SqliteStore {
    async fn secret(&self, name: &str) -> Result<Zeroizing<[u8; 32]>, StoreError> {
        const READ: &str = "SELECT value FROM secrets WHERE name = $1";
        let mut reader = self.reader("read a secret").await?;
        let found = sqlx::query_scalar(READ)
            .bind(name)
            .fetch_optional(&mut *reader.connection)
            .await;
        let mut found: Option<String> = reader.finish(found)?;
        if found.is_none() {
            let made = Zeroizing::new(URL_SAFE_NO_PAD.encode(new_secret()));
            let mut lease = self.writer.lease("keep a secret").await?;
            let kept = async {
                let writer = lease.connection()?;
                sqlx::query("INSERT INTO secrets (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING")
                    .bind(name)
                    .bind(made.as_str())
                    .execute(&mut *writer)
                    .await?;
                sqlx::query_scalar(READ).bind(name).fetch_one(writer).await
            };
            let kept = kept.await;
            found = Some(lease.finish(kept).await?);
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
        let mut reader = self.reader("read the signing keys").await?;
        let rows = sqlx::query_as(
            "SELECT kid, pkcs8, certificate, made, retired FROM signing_keys ORDER BY made DESC, kid DESC",
        )
        .fetch_all(&mut *reader.connection)
        .await;
        let rows: Vec<Row> = reader.finish(rows)?;
        let read = |(kid, pkcs8, certificate_pem, made, retired): Row| {
            Some(StoredKey {
                kid: kid.into(),
                pkcs8: Secret::new(pkcs8),
                certificate_pem,
                made: moment(made)?,
                retired: retired.map(moment).map_or(Some(None), |at| at.map(Some))?,
            })
        };
        rows.into_iter()
            .map(|row| {
                read(row).ok_or(StoreError::Malformed {
                    what: "signing key",
                })
            })
            .collect()
    }

    async fn put_signing_key(&self, key: &StoredKey) -> Result<(), StoreError> {
        let mut lease = self.writer.lease("keep a signing key").await?;
        let kept = async {
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
            .execute(lease.connection()?)
            .await
        };
        let kept = kept.await;
        lease.finish(kept).await.map(drop)
    }

    async fn delete_signing_key(&self, kid: &str) -> Result<(), StoreError> {
        let mut lease = self.writer.lease("delete a signing key").await?;
        let deleted = async {
            let delete = sqlx::query("DELETE FROM signing_keys WHERE kid = $1").bind(kid);
            delete.execute(lease.connection()?).await
        };
        let deleted = deleted.await;
        lease.finish(deleted).await.map(drop)
    }

    async fn insert_identity(
        &self,
        nonce: &IdentityNonce,
        identity: &Identity,
        expires: UnixTime,
    ) -> Result<u64, StoreError> {
        const OPERATION: &str = "keep an identity";
        let text = to_text(identity, OPERATION)?;
        let mut lease = self.writer.lease(OPERATION).await?;
        let kept = async {
            let mut tx = lease.connection()?.begin_with("BEGIN IMMEDIATE").await?;
            let revision: i64 = sqlx::query_scalar("SELECT latest FROM revision")
                .fetch_one(&mut *tx)
                .await?;
            sqlx::query("INSERT INTO identities (nonce, identity, expires, revision) VALUES ($1, $2, $3, $4)")
                .bind(nonce.as_str())
                .bind(text)
                .bind(seconds(expires))
                .bind(revision)
                .execute(&mut *tx)
                .await?;
            tx.commit().await?;
            Ok(revision)
        };
        let kept = kept.await;
        let revision = lease.finish(kept).await?;
        u64::try_from(revision).map_err(|_| StoreError::Malformed { what: "revision" })
    }

    async fn update_identity(
        &self,
        nonce: &IdentityNonce,
        identity: &Identity,
        expires: UnixTime,
    ) -> Result<bool, StoreError> {
        const OPERATION: &str = "update an identity";
        let text = to_text(identity, OPERATION)?;
        let mut lease = self.writer.lease(OPERATION).await?;
        let updated = async {
            let mut tx = lease.connection()?.begin_with("BEGIN IMMEDIATE").await?;
            let row = sqlx::query_as("SELECT identity, revision FROM identities WHERE nonce = $1")
                .bind(nonce.as_str())
                .fetch_optional(&mut *tx)
                .await?;
            let login: Option<IdentityRow> = row;
            let login = match login.map(read_identity).transpose() {
                Ok(Some(login)) => login,
                Ok(None) => return tx.rollback().await.map(|()| Ok(false)),
                Err(error) => return tx.rollback().await.map(|()| Err(error)),
            };
            if is_covered(&mut tx, nonce, &login).await? {
                return tx.rollback().await.map(|()| Ok(false));
            }
            sqlx::query("UPDATE identities SET identity = $2, expires = $3 WHERE nonce = $1")
                .bind(nonce.as_str())
                .bind(text)
                .bind(seconds(expires))
                .execute(&mut *tx)
                .await?;
            tx.commit().await?;
            Ok(Ok(true))
        };
        let updated = updated.await;
        lease.finish(updated).await?
    }

    async fn identity(&self, nonce: &IdentityNonce) -> Result<Option<Identity>, StoreError> {
        let mut reader = self.reader("read an identity").await?;
        let found = sqlx::query_as("SELECT identity, revision FROM identities WHERE nonce = $1")
            .bind(nonce.as_str())
            .fetch_optional(&mut *reader.connection)
            .await;
        let found: Option<IdentityRow> = reader.finish(found)?;
        found.map(read_identity).transpose()
    }

    async fn put_logout_hint(
        &self,
        nonce: &IdentityNonce,
        hint: &str,
        expires: UnixTime,
    ) -> Result<(), StoreError> {
        let mut lease = self.writer.lease("keep a logout hint").await?;
        let kept = async {
            sqlx::query(
                "INSERT INTO logout_hints (nonce, hint, expires) VALUES ($1, $2, $3) \
                 ON CONFLICT (nonce) DO UPDATE SET hint = excluded.hint, expires = excluded.expires",
            )
            .bind(nonce.as_str())
            .bind(hint)
            .bind(seconds(expires))
            .execute(lease.connection()?)
            .await
        };
        let kept = kept.await;
        lease.finish(kept).await.map(drop)
    }

    async fn take_logout_hint(&self, nonce: &IdentityNonce) -> Result<Option<String>, StoreError> {
        let mut lease = self.writer.lease("take a logout hint").await?;
        let taken = async {
            sqlx::query_scalar("DELETE FROM logout_hints WHERE nonce = $1 RETURNING hint")
                .bind(nonce.as_str())
                .fetch_optional(lease.connection()?)
                .await
        };
        let taken = taken.await;
        lease.finish(taken).await
    }

    async fn user(&self, idp: &IdpId, subject: &str) -> Result<UserId, StoreError> {
        const READ: &str = "SELECT id FROM users WHERE idp = $1 AND subject = $2";
        let mut reader = self.reader("read a user").await?;
        let found = sqlx::query_scalar(READ)
            .bind(&*idp.0)
            .bind(subject)
            .fetch_optional(&mut *reader.connection)
            .await;
        let found: Option<String> = reader.finish(found)?;
        if let Some(id) = found {
            return Ok(UserId(id.into()));
        }
        let mut lease = self.writer.lease("keep a user").await?;
        let kept = async {
            let writer = lease.connection()?;
            sqlx::query(
                "INSERT INTO users (idp, subject, id) VALUES ($1, $2, $3) ON CONFLICT (idp, subject) DO NOTHING",
            )
            .bind(&*idp.0)
            .bind(subject)
            .bind(&*new_user().0)
            .execute(&mut *writer)
            .await?;
            sqlx::query_scalar(READ)
                .bind(&*idp.0)
                .bind(subject)
                .fetch_one(writer)
                .await
        };
        let kept = kept.await;
        let id: String = lease.finish(kept).await?;
        Ok(UserId(id.into()))
    }

    async fn revoke(&self, revocation: &Revocation, expires: UnixTime) -> Result<u64, StoreError> {
        let (kind, subject, before) = match revocation {
            Revocation::Session(nonce) => ("session", nonce.as_str(), None),
            Revocation::User { user, before } => ("user", &*user.0, Some(*before)),
            Revocation::Application { aud, before } => ("application", aud.as_str(), Some(*before)),
        };
        let mut lease = self.writer.lease("keep a revocation").await?;
        let kept = async {
            let writer = lease.connection()?;
            sqlx::query("PRAGMA synchronous = FULL")
                .execute(&mut *writer)
                .await?;
            let mut tx = writer.begin_with("BEGIN IMMEDIATE").await?;
            let revision: i64 =
                sqlx::query_scalar("UPDATE revision SET latest = latest + 1 RETURNING latest")
                    .fetch_one(&mut *tx)
                    .await?;
            sqlx::query(
                "INSERT INTO revocations (revision, kind, subject, before, expires, ordered) \
                 VALUES ($1, $2, $3, $4, $5, 1)",
            )
            .bind(revision)
            .bind(kind)
            .bind(subject)
            .bind(before.map(seconds))
            .bind(seconds(expires))
            .execute(&mut *tx)
            .await?;
            tx.commit().await?;
            // The revocation is stored. If this fails the connection stays careful, which costs
            // time and nothing else.
            let _ = sqlx::query("PRAGMA synchronous = NORMAL")
                .execute(writer)
                .await;
            Ok(revision)
        };
        let kept = kept.await;
        let revision = lease.finish(kept).await?;
        u64::try_from(revision).map_err(|_| StoreError::Malformed { what: "revision" })
    }

    async fn revocations_after(&self, revision: u64) -> Result<Vec<Revoked>, StoreError> {
        let mut reader = self.reader("read the revocations").await?;
        let followed = i64::try_from(revision).ok();
        let read = async {
            let latest: i64 = sqlx::query_scalar("SELECT latest FROM revision")
                .fetch_one(&mut *reader.connection)
                .await?;
            let rows: Vec<RevocationRow> = sqlx::query_as(
                "SELECT revision, kind, subject, before, expires, ordered FROM revocations WHERE revision > $1 \
                 ORDER BY revision LIMIT $2",
            )
            .bind(followed.unwrap_or(i64::MAX))
            .bind(TAIL as i64)
            .fetch_all(&mut *reader.connection)
            .await?;
            Ok((latest, rows))
        };
        let read = read.await;
        let (latest, rows) = reader.finish(read)?;
        // The counter never goes back, so this is older content. It stays that when the counter is
        // where it was.
        if followed.is_some_and(|followed| latest < followed) {
            self.went_back.store(true, Ordering::Relaxed);
            return Err(self.lost());
        }
        rows.into_iter()
            .map(|row| revoked(row).ok_or(StoreError::Malformed { what: "revocation" }))
            .collect()
    }

    async fn first_use(&self, name: &str, expires: UnixTime) -> Result<bool, StoreError> {
        let mut lease = self.writer.lease("remember a use").await?;
        let inserted = async {
            sqlx::query(
                "INSERT INTO uses (name, expires) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING",
            )
            .bind(name)
            .bind(seconds(expires))
            .execute(lease.connection()?)
            .await
        };
        let inserted = inserted.await;
        Ok(lease.finish(inserted).await?.rows_affected() == 1)
    }

    async fn advance_clock(&self, now: UnixTime) -> Result<UnixTime, StoreError> {
        let mut lease = self.writer.lease("advance its clock").await?;
        let advanced = async {
            sqlx::query_scalar(
                "UPDATE clock SET seen = CASE WHEN seen < $1 - $2 THEN seen + $2 ELSE $1 END RETURNING seen",
            )
            .bind(seconds(now))
            .bind(i64::try_from(CLOCK_STEP.as_secs()).unwrap_or(i64::MAX))
            .fetch_one(lease.connection()?)
            .await
        };
        let advanced = advanced.await;
        let seen: i64 = lease.finish(advanced).await?;
        moment(seen).ok_or(StoreError::Malformed { what: "clock" })
    }

    async fn prune(&self, now: UnixTime) -> Result<Pruned, StoreError> {
        const IDENTITIES: &str = "DELETE FROM identities WHERE nonce IN \
             (SELECT nonce FROM identities WHERE expires <= $1 ORDER BY expires LIMIT $2)";
        const REVOCATIONS: &str = "DELETE FROM revocations WHERE revision IN \
             (SELECT revision FROM revocations WHERE expires <= $1 ORDER BY expires LIMIT $2)";
        const HINTS: &str = "DELETE FROM logout_hints WHERE nonce IN \
             (SELECT nonce FROM logout_hints WHERE expires <= $1 ORDER BY expires LIMIT $2)";
        const USES: &str = "DELETE FROM uses WHERE name IN (SELECT name FROM uses WHERE expires <= $1 ORDER BY expires LIMIT $2)";
        let mut gone = [0; 4];
        for (statement, gone) in [IDENTITIES, REVOCATIONS, USES, HINTS]
            .into_iter()
            .zip(&mut gone)
        {
            let mut lease = self.writer.lease("prune").await?;
            let deleted = async {
                let delete = sqlx::query(statement).bind(seconds(now)).bind(BATCH as i64);
                delete.execute(lease.connection()?).await
            };
            let deleted = deleted.await;
            *gone = lease.finish(deleted).await?.rows_affected();
        }
        let [identities, revocations, uses, _hints] = gone;
        Ok(Pruned {
            identities,
            revocations,
            uses,
        })
    }

    async fn probe(&self) -> Result<(), StoreError> {
        let mut lease = self.writer.lease("write").await?;
        let probed = async {
            let mut tx = lease.connection()?.begin_with("BEGIN IMMEDIATE").await?;
            sqlx::query("INSERT INTO probe (filler) VALUES ($1)")
                .bind("x".repeat(PROBE))
                .execute(&mut *tx)
                .await?;
            sqlx::query("DELETE FROM probe").execute(&mut *tx).await?;
            tx.commit().await
        };
        let probed = probed.await;
        lease.finish(probed).await
    }

    fn write_failure(&self) -> Option<Arc<str>> {
        self.writer.failure()
    }
}

impl std::fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SqliteStore({})", self.path.display())
    }
}

/// In bytes: with its pages it is more than a logout writes.
const PROBE: usize = 8 * 1024;
