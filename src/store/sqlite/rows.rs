//! The rows of the tables. Each is read as if it might be damaged.

use sqlx::SqliteConnection;

use crate::model::{Aud, Identity, IdentityNonce, UnixTime, UserId};
use crate::store::{Revocation, StoreError, StoredRevocation};

pub(super) fn to_text(identity: &Identity, operation: &'static str) -> Result<String, StoreError> {
    serde_json::to_string(identity).map_err(|error| StoreError::Unavailable {
        operation,
        source: error.into(),
    })
}

pub(super) type IdentityRow = (String, i64);

pub(super) fn read_identity((text, revision): IdentityRow) -> Result<Identity, StoreError> {
    let malformed = || StoreError::Malformed { what: "identity" };
    let identity: Identity = serde_json::from_str(&text).map_err(|_| malformed())?;
    Ok(Identity {
        revision: u64::try_from(revision).map_err(|_| malformed())?,
        ..identity
    })
}

/// Returns `true` if a revocation covers the login: the rules of
/// [`Revocations::cover`](crate::session::Revocations::cover).
pub(super) async fn is_covered(
    connection: &mut SqliteConnection,
    nonce: &IdentityNonce,
    login: &Identity,
) -> Result<bool, sqlx::Error> {
    let found: i64 = sqlx::query_scalar(
        "SELECT COUNT(*) FROM revocations WHERE (kind = 'session' AND subject = $1) OR (kind = 'user' AND subject = $2 \
         AND ((ordered = 1 AND revision > $3) OR (ordered = 0 AND $3 = 0 AND before >= $4)))",
    )
    .bind(nonce.as_str())
    .bind(&*login.user.0)
    .bind(i64::try_from(login.revision).unwrap_or(i64::MAX))
    .bind(seconds(login.at))
    .fetch_one(connection)
    .await?;
    Ok(found > 0)
}

pub(super) type RevocationRow = (i64, String, String, Option<i64>, i64, i64);

pub(super) fn revoked(
    (revision, kind, subject, before, expires, ordered): RevocationRow,
) -> Option<StoredRevocation> {
    let before = || before.and_then(moment);
    let revocation = match kind.as_str() {
        "session" => Revocation::Session(IdentityNonce::parse(&subject).ok()?),
        "user" => Revocation::User {
            user: UserId(subject.into()),
            before: before()?,
        },
        "application" => Revocation::Application {
            aud: Aud::parse(&subject).ok()?,
            before: before()?,
        },
        _ => return None,
    };
    Some(StoredRevocation {
        revision: u64::try_from(revision).ok()?,
        revocation,
        ordered: ordered != 0,
        expires: moment(expires)?,
    })
}

/// SQL integers are signed: the far end of time is theirs.
pub(super) fn seconds(time: UnixTime) -> i64 {
    i64::try_from(time.0).unwrap_or(i64::MAX)
}

pub(super) fn moment(seconds: i64) -> Option<UnixTime> {
    u64::try_from(seconds).ok().map(UnixTime)
}
