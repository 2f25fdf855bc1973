use std::sync::Arc;

use async_trait::async_trait;
use sqlx::Connection as _;

use super::SqliteStore;
use super::rows::{moment, seconds};
use crate::model::UnixTime;
use crate::store::changes::prunable_until;
use crate::store::{BATCH, CLOCK_STEP, Maintenance, Pruned, StoreError};

#[async_trait]
impl Maintenance for SqliteStore {
    async fn advance_clock(&self, now: UnixTime) -> Result<UnixTime, StoreError> {
        let mut lease = self.writer.lease("advance its clock").await?;
        let advanced = async {
            sqlx::query_scalar(
                "UPDATE clock SET seen = CASE WHEN seen < $1 - $2 THEN seen + $2 ELSE $1 END RETURNING seen",
            )
            .bind(seconds(now))
            .bind(i64::try_from(CLOCK_STEP.as_secs()).unwrap_or(i64::MAX))
            // To the end: the statement commits after its last row, and a failure shows only there.
            .fetch_all(lease.connection()?)
            .await
        };
        let advanced = advanced.await;
        let seen: Option<i64> = lease.finish(advanced).await?.pop();
        seen.and_then(moment)
            .ok_or(StoreError::Malformed { what: "clock" })
    }

    async fn prune(&self, now: UnixTime) -> Result<Pruned, StoreError> {
        const IDENTITIES: &str = "DELETE FROM identities WHERE nonce IN \
             (SELECT nonce FROM identities WHERE expires <= $1 ORDER BY expires LIMIT $2)";
        const REVOCATIONS: &str = "DELETE FROM revocations WHERE revision IN \
             (SELECT revision FROM revocations WHERE expires <= $1 ORDER BY expires LIMIT $2)";
        const HINTS: &str = "DELETE FROM logout_hints WHERE nonce IN \
             (SELECT nonce FROM logout_hints WHERE expires <= $1 ORDER BY expires LIMIT $2)";
        const USES: &str = "DELETE FROM uses WHERE name IN (SELECT name FROM uses WHERE expires <= $1 ORDER BY expires LIMIT $2)";
        // From the oldest, without a gap. The newest of the old entries stays: it is the position of
        // those who followed a quiet log, and they have not read the entries after it yet.
        const CHANGES: &str = "DELETE FROM changes WHERE revision IN (SELECT revision FROM changes WHERE revision < \
             (SELECT MAX(revision) FROM changes WHERE revision < COALESCE(\
             (SELECT revision FROM changes WHERE made > $1 ORDER BY revision LIMIT 1), 9223372036854775807)) \
             ORDER BY revision LIMIT $2)";
        let mut gone = [0; 5];
        let statements = [
            (IDENTITIES, now),
            (REVOCATIONS, now),
            (USES, now),
            (HINTS, now),
            (CHANGES, prunable_until(now)),
        ];
        for ((statement, until), gone) in statements.into_iter().zip(&mut gone) {
            let mut lease = self.writer.lease("prune").await?;
            let deleted = async {
                let delete = sqlx::query(statement)
                    .bind(seconds(until))
                    .bind(BATCH as i64);
                delete.execute(lease.connection()?).await
            };
            let deleted = deleted.await;
            *gone = lease.finish(deleted).await?.rows_affected();
        }
        let [identities, revocations, uses, _hints, changes] = gone;
        Ok(Pruned {
            identities,
            revocations,
            uses,
            changes,
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

/// The size of a probe in bytes: with its pages it is more than a logout writes.
const PROBE: usize = 8 * 1024;
