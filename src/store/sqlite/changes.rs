use async_trait::async_trait;
use sqlx::Connection as _;

use super::SqliteStore;
use super::rows::{RevocationRow, revoked};
use crate::model::IdentityNonce;
use crate::store::{Change, ChangeLog, Changes, PAGE, Position, StoreError};

#[async_trait]
impl ChangeLog for SqliteStore {
    async fn newest_position(&self, followed: u64) -> Result<Position, StoreError> {
        let followed = i64::try_from(followed).map_err(|_| malformed())?;
        let mut reader = self.reader("read the change log").await?;
        let newest =
            sqlx::query_as("SELECT revision, mark FROM changes ORDER BY revision DESC LIMIT 1")
                .fetch_optional(&mut *reader.connection)
                .await;
        let newest: Option<(i64, i64)> = reader.finish(newest)?;
        let newest = match newest {
            // A restored backup is behind the revision that was followed. New entries must not
            // reuse revisions that others may have followed.
            Some(newest) if newest.0 >= followed => newest,
            _ => self.restart_log(followed).await?,
        };
        position(newest)
    }

    async fn changes_after(&self, after: Position) -> Result<Changes, StoreError> {
        // One statement, so that the entry at the position and those after it are of one moment.
        const READ: &str = "SELECT c.revision, c.mark, c.kind, c.subject, \
             r.kind, r.subject, r.before, r.expires, r.ordered \
             FROM changes c LEFT JOIN revocations r ON c.kind = 'revocation' AND r.revision = c.revision \
             WHERE c.revision >= $1 ORDER BY c.revision LIMIT $2";
        let from = i64::try_from(after.revision).map_err(|_| malformed())?;
        let mut reader = self.reader("read the change log").await?;
        let rows = sqlx::query_as(READ)
            .bind(from)
            // One more than a page: the first row is the entry at the position itself, which proves
            // that the log is the same.
            .bind(PAGE as i64 + 1)
            .fetch_all(&mut *reader.connection)
            .await;
        let rows: Vec<ChangeRow> = reader.finish(rows)?;
        let mut rows = rows.into_iter();
        let first = rows
            .next()
            .map(|row| position((row.0, row.1)))
            .transpose()?;
        // The entry was pruned, or a restored backup has another entry with this revision.
        if first != Some(after) {
            return Ok(Changes::Gap);
        }
        let (mut changes, mut last) = (Vec::with_capacity(rows.len()), after);
        for row in rows {
            last = position((row.0, row.1))?;
            changes.extend(change(row)?);
        }
        Ok(Changes::Next {
            changes,
            position: last,
        })
    }
}

impl SqliteStore {
    /// Advances the counter past a revision, with an entry in the log.
    async fn restart_log(&self, followed: i64) -> Result<(i64, i64), StoreError> {
        let mut lease = self.writer.lease("restart the change log").await?;
        let restarted = async {
            // The write lock is taken first. A transaction that reads first could fail when it
            // begins to write.
            let mut tx = lease.connection()?.begin_with("BEGIN IMMEDIATE").await?;
            sqlx::query("UPDATE revision SET latest = MAX(latest, $1) + 1")
                .bind(followed)
                .execute(&mut *tx)
                .await?;
            let newest = sqlx::query_as(
                "INSERT INTO changes (revision, kind, subject, mark, made) \
                 SELECT latest, 'start', '', random(), COALESCE((SELECT seen FROM clock), 0) FROM revision \
                 RETURNING revision, mark",
            )
            .fetch_one(&mut *tx)
            .await?;
            tx.commit().await?;
            Ok(newest)
        };
        let restarted = restarted.await;
        lease.finish(restarted).await
    }
}

/// The revision, mark, kind and subject of an entry, and the columns of its revocation.
type ChangeRow = (
    i64,
    i64,
    String,
    String,
    Option<String>,
    Option<String>,
    Option<i64>,
    Option<i64>,
    Option<i64>,
);

fn change(row: ChangeRow) -> Result<Option<Change>, StoreError> {
    let (revision, _, kind, subject, revocation, of, before, expires, ordered) = row;
    match kind.as_str() {
        "revocation" => {
            let (Some(kind), Some(of), Some(expires), Some(ordered)) =
                (revocation, of, expires, ordered)
            else {
                // Its row was pruned: nothing that it covers can still be valid.
                return Ok(None);
            };
            let row: RevocationRow = (revision, kind, of, before, expires, ordered);
            let revocation = revoked(row).ok_or(StoreError::Malformed { what: "revocation" })?;
            Ok(Some(Change::Revocation(revocation)))
        }
        "identity" => {
            let nonce = IdentityNonce::parse(&subject).map_err(|_| malformed())?;
            Ok(Some(Change::Identity(nonce)))
        }
        "keys" => Ok(Some(Change::SigningKeys)),
        // The start of a log, or a change to a kind of object that this release does not have.
        _ => Ok(None),
    }
}

fn position((revision, mark): (i64, i64)) -> Result<Position, StoreError> {
    let revision = u64::try_from(revision).map_err(|_| malformed())?;
    Ok(Position { revision, mark })
}

const fn malformed() -> StoreError {
    StoreError::Malformed { what: "change" }
}
