use async_trait::async_trait;

use super::SqliteStore;
use super::rows::seconds;
use crate::model::UnixTime;
use crate::store::{StoreError, UseRepository};

#[async_trait]
impl UseRepository for SqliteStore {
    async fn first_use(&self, name: &str, expires: UnixTime) -> Result<bool, StoreError> {
        let mut lease = self.writer.lease("remember a use").await?;
        let inserted = async {
            sqlx::query(
                // One statement, so that of two processes exactly one inserts the row.
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
}
