use std::sync::atomic::Ordering;

use async_trait::async_trait;
use sqlx::Connection as _;

use super::SqliteStore;
use super::rows::{RevocationRow, revoked, seconds};
use crate::model::UnixTime;
use crate::store::{PAGE, Revocation, RevocationRepository, StoreError, StoredRevocation};

#[async_trait]
impl RevocationRepository for SqliteStore {
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

    async fn revocations_after(&self, revision: u64) -> Result<Vec<StoredRevocation>, StoreError> {
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
            .bind(PAGE as i64)
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
}
