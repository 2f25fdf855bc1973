use async_trait::async_trait;
use sqlx::Connection as _;

use super::SqliteStore;
use super::rows::{IdentityRow, is_covered, read_identity, seconds, to_text};
use crate::model::{Identity, IdentityNonce, IdpId, UnixTime, UserId};
use crate::store::logins::new_user;
use crate::store::{LoginRepository, StoreError};

#[async_trait]
impl LoginRepository for SqliteStore {
    async fn insert_identity(
        &self,
        nonce: &IdentityNonce,
        identity: &Identity,
        began: u64,
        expires: UnixTime,
    ) -> Result<Option<u64>, StoreError> {
        const OPERATION: &str = "keep an identity";
        let text = to_text(identity, OPERATION)?;
        let mut lease = self.writer.lease(OPERATION).await?;
        let kept = async {
            let mut tx = lease.connection()?.begin_with("BEGIN IMMEDIATE").await?;
            let revision: i64 = sqlx::query_scalar("SELECT MIN(latest, $1) FROM revision")
                .bind(i64::try_from(began).unwrap_or(i64::MAX))
                .fetch_one(&mut *tx)
                .await?;
            let login = Identity {
                revision: u64::try_from(revision).unwrap_or_default(),
                ..identity.clone()
            };
            if is_covered(&mut tx, nonce, &login).await? {
                return tx.rollback().await.map(|()| None);
            }
            sqlx::query("INSERT INTO identities (nonce, identity, expires, revision) VALUES ($1, $2, $3, $4)")
                .bind(nonce.as_str())
                .bind(text)
                .bind(seconds(expires))
                .bind(revision)
                .execute(&mut *tx)
                .await?;
            tx.commit().await?;
            Ok(Some(login.revision))
        };
        let kept = kept.await;
        lease.finish(kept).await
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
            // In the same transaction: a revocation in between must not be undone by this update.
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
                // To the end: the statement commits after its last row, and a failure shows only
                // there.
                .fetch_all(lease.connection()?)
                .await
        };
        let taken = taken.await;
        Ok(lease.finish(taken).await?.pop())
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
}
