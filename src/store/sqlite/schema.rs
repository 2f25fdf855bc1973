use sqlx::{Connection as _, SqliteConnection};

/// The tables, step by step. A step is never changed once released, and never removes anything that
/// the release before it reads: during an upgrade both run on one file. PostgreSQL has the same
/// types, and spells triggers and random numbers differently. Binary values are base64 text because
/// the two spell theirs differently, too.
const STEPS: &[&[&str]] = &[
    &[
        "CREATE TABLE secrets (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
        "CREATE TABLE signing_keys (kid TEXT PRIMARY KEY, pkcs8 TEXT NOT NULL, certificate TEXT NOT NULL, \
     made BIGINT NOT NULL, retired BIGINT)",
        "CREATE TABLE identities (nonce TEXT PRIMARY KEY, identity TEXT NOT NULL, expires BIGINT NOT NULL)",
        "CREATE INDEX identities_expires ON identities (expires)",
        "CREATE TABLE users (idp TEXT NOT NULL, subject TEXT NOT NULL, id TEXT NOT NULL UNIQUE, PRIMARY KEY (idp, subject))",
        // A counter and not a sequence: its row stays locked until the writer commits, so a later
        // revision is never visible before an earlier one. It outlives the revocations, so none is
        // used twice.
        "CREATE TABLE revision (latest BIGINT NOT NULL)",
        "INSERT INTO revision (latest) VALUES (0)",
        "CREATE TABLE revocations (revision BIGINT PRIMARY KEY, kind TEXT NOT NULL, subject TEXT NOT NULL, \
     before BIGINT, expires BIGINT NOT NULL)",
        "CREATE INDEX revocations_expires ON revocations (expires)",
    ],
    &[
        "CREATE TABLE uses (name TEXT PRIMARY KEY, expires BIGINT NOT NULL)",
        "CREATE INDEX uses_expires ON uses (expires)",
        "CREATE TABLE logout_hints (nonce TEXT PRIMARY KEY, hint TEXT NOT NULL, expires BIGINT NOT NULL)",
        "CREATE INDEX logout_hints_expires ON logout_hints (expires)",
    ],
    &[
        // The logins so far have 0 and so come before every revocation that has an order.
        "ALTER TABLE identities ADD COLUMN revision BIGINT NOT NULL DEFAULT 0",
        // Revocations of the release before cover logins by time. One that its process makes during
        // the upgrade has the default: its revision is later than every login of that release.
        "ALTER TABLE revocations ADD COLUMN ordered BIGINT NOT NULL DEFAULT 1",
        "UPDATE revocations SET ordered = 0",
        "CREATE INDEX revocations_subject ON revocations (subject)",
        "CREATE TABLE clock (seen BIGINT)",
        "INSERT INTO clock (seen) SELECT MAX(made) FROM signing_keys",
        "CREATE TABLE probe (filler TEXT NOT NULL)",
    ],
    &[
        // A login that the release before writes, during an upgrade or after one that failed, is as
        // late in the order as one of this release. Its updates do not fire this: they conflict
        // with the existing row.
        "CREATE TRIGGER identities_revision AFTER INSERT ON identities WHEN NEW.revision = 0 \
     BEGIN UPDATE identities SET revision = (SELECT latest FROM revision) WHERE nonce = NEW.nonce; END",
    ],
    &[
        // The change log. Triggers write it, so that every write has its entry in its own
        // transaction: also one of the release before, during an upgrade. `OR REPLACE`: a
        // revocation never fails because of the log.
        "CREATE TABLE changes (revision BIGINT PRIMARY KEY, kind TEXT NOT NULL, subject TEXT NOT NULL, \
     mark BIGINT NOT NULL, made BIGINT NOT NULL)",
        // It is never empty: every follower has an entry to start from.
        "INSERT INTO changes (revision, kind, subject, mark, made) \
     SELECT latest, 'start', '', random(), COALESCE((SELECT seen FROM clock), 0) FROM revision",
        "CREATE TRIGGER revocations_logged AFTER INSERT ON revocations \
     BEGIN INSERT OR REPLACE INTO changes (revision, kind, subject, mark, made) \
     VALUES (NEW.revision, 'revocation', '', random(), COALESCE((SELECT seen FROM clock), 0)); END",
        "CREATE TRIGGER identities_logged AFTER UPDATE OF identity ON identities WHEN NEW.identity <> OLD.identity \
     BEGIN UPDATE revision SET latest = latest + 1; \
     INSERT OR REPLACE INTO changes (revision, kind, subject, mark, made) \
     SELECT latest, 'identity', NEW.nonce, random(), COALESCE((SELECT seen FROM clock), 0) FROM revision; END",
        "CREATE TRIGGER keys_added AFTER INSERT ON signing_keys \
     BEGIN UPDATE revision SET latest = latest + 1; \
     INSERT OR REPLACE INTO changes (revision, kind, subject, mark, made) \
     SELECT latest, 'keys', '', random(), COALESCE((SELECT seen FROM clock), 0) FROM revision; END",
        "CREATE TRIGGER keys_changed AFTER UPDATE ON signing_keys \
     BEGIN UPDATE revision SET latest = latest + 1; \
     INSERT OR REPLACE INTO changes (revision, kind, subject, mark, made) \
     SELECT latest, 'keys', '', random(), COALESCE((SELECT seen FROM clock), 0) FROM revision; END",
        "CREATE TRIGGER keys_deleted AFTER DELETE ON signing_keys \
     BEGIN UPDATE revision SET latest = latest + 1; \
     INSERT OR REPLACE INTO changes (revision, kind, subject, mark, made) \
     SELECT latest, 'keys', '', random(), COALESCE((SELECT seen FROM clock), 0) FROM revision; END",
    ],
];

/// The schema of this release.
pub(in crate::store) const KNOWN: i64 = STEPS.len() as i64;

/// The reason why a database cannot be used.
#[derive(Debug)]
pub(super) enum SchemaError {
    Foreign,
    Newer(i64),
    Database(sqlx::Error),
}

impl From<sqlx::Error> for SchemaError {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error)
    }
}

/// Brings the database to the schema of this release, in one transaction. Two processes that start
/// at once take turns. Returns `true` if the database was empty.
pub(super) async fn migrate(connection: &mut SqliteConnection) -> Result<bool, SchemaError> {
    let mut tx = connection.begin_with("BEGIN IMMEDIATE").await?;
    let tables: Vec<String> =
        sqlx::query_scalar("SELECT name FROM sqlite_master WHERE type = 'table'")
            .fetch_all(&mut *tx)
            .await?;
    if tables.is_empty() {
        sqlx::query("CREATE TABLE portcullis_schema (version BIGINT NOT NULL)")
            .execute(&mut *tx)
            .await?;
        sqlx::query("INSERT INTO portcullis_schema (version) VALUES (0)")
            .execute(&mut *tx)
            .await?;
    } else if !tables.iter().any(|name| name == "portcullis_schema") {
        return Err(SchemaError::Foreign);
    }
    let found: i64 = sqlx::query_scalar("SELECT version FROM portcullis_schema")
        .fetch_one(&mut *tx)
        .await?;
    let done = usize::try_from(found).map_err(|_| SchemaError::Foreign)?;
    if found > KNOWN {
        // A newer release may have added rows that decide access, such as revocations of a new
        // kind.
        return Err(SchemaError::Newer(found));
    }
    for statement in STEPS.iter().skip(done).copied().flatten() {
        sqlx::query(*statement).execute(&mut *tx).await?;
    }
    if found < KNOWN {
        sqlx::query("UPDATE portcullis_schema SET version = $1")
            .bind(KNOWN)
            .execute(&mut *tx)
            .await?;
    }
    tx.commit().await?;
    Ok(tables.is_empty())
}

/// Checks the schema and changes nothing.
pub(super) async fn check(connection: &mut SqliteConnection) -> Result<(), SchemaError> {
    let tables: Vec<String> =
        sqlx::query_scalar("SELECT name FROM sqlite_master WHERE type = 'table'")
            .fetch_all(&mut *connection)
            .await?;
    if tables.is_empty() {
        return Ok(());
    }
    if !tables.iter().any(|name| name == "portcullis_schema") {
        return Err(SchemaError::Foreign);
    }
    let found: i64 = sqlx::query_scalar("SELECT version FROM portcullis_schema")
        .fetch_one(connection)
        .await?;
    if found > KNOWN {
        Err(SchemaError::Newer(found))
    } else {
        Ok(())
    }
}
