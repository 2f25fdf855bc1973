use async_trait::async_trait;

use super::SqliteStore;
use super::rows::seconds;
use crate::model::UnixTime;
use crate::store::{StoreError, UseRepository};

#[async_trait]
impl UseRepository for SqliteStore {
    async fn first_use(&self, name: &str, expires: UnixTime) -> Result<Option<u64>, StoreError> {
        let mut lease = self.writer.lease("remember a use").await?;
        let inserted = async {
            sqlx::query_scalar(
                // One statement, so that of two processes exactly one inserts the row.
                "INSERT INTO uses (name, expires) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING \
                 RETURNING (SELECT latest FROM revision)",
            )
            .bind(name)
            .bind(seconds(expires))
            // To the end: the statement commits after its last row, and a failure shows only there.
            .fetch_all(lease.connection()?)
            .await
        };
        let inserted = inserted.await;
        let revisions: Vec<i64> = lease.finish(inserted).await?;
        revisions
            .first()
            .map(|revision| u64::try_from(*revision))
            .transpose()
            .map_err(|_| StoreError::Malformed { what: "revision" })
    }
}
