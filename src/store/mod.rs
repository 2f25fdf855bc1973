//! Where nodes agree and what survives a restart: sealing secrets, signing keys, identity records,
//! users, revocations.
//!
//! Decides nothing. Trusts its file or server to hold what was put there, and reads every row back
//! as if it might be damaged. Never says "nothing there" when it could not look: an outage is a
//! [`StoreError`], absence is `None`. The hot path never comes here.

mod memory;
mod sqlite;

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::model::{Aud, Identity, IdentityNonce, IdpId, Secret, UnixTime, UserId};

pub use memory::MemoryStore;
pub use sqlite::SqliteStore;

/// What every store can do. All calls may wait for a disk or a network.
///
/// # Errors
/// Every call: [`StoreError::Unavailable`] where the store could not be asked or could not write,
/// [`StoreError::Malformed`] where a row is there and cannot be read. Neither means that there is
/// no such row.
#[async_trait]
pub trait Store: std::fmt::Debug + Send + Sync {
    /// The 32 random bytes of that name, made on the first call. All callers of all nodes get the
    /// same ones.
    async fn secret(&self, name: &str) -> Result<Zeroizing<[u8; 32]>, StoreError>;

    /// The team's signing keys, newest first.
    async fn signing_keys(&self) -> Result<Vec<StoredKey>, StoreError>;

    /// Keeps a key, in place of one with the same `kid`.
    async fn put_signing_key(&self, key: &StoredKey) -> Result<(), StoreError>;

    /// Forgets a key; nothing happens where it is not there.
    async fn delete_signing_key(&self, kid: &str) -> Result<(), StoreError>;

    /// Stores the record of a new login and returns the store's latest revision, read in the same
    /// transaction: every later revocation of the user covers the login, and no earlier one does.
    /// `identity.revision` is ignored. From `expires` on the record may be pruned.
    async fn insert_identity(
        &self,
        nonce: &IdentityNonce,
        identity: &Identity,
        expires: UnixTime,
    ) -> Result<u64, StoreError>;

    /// Replaces the record of a login, which keeps its revision. Returns `false`, and changes
    /// nothing, if there is no record or if a revocation covers the login: both are checked in the
    /// transaction that writes, so that no update brings a login back.
    async fn update_identity(
        &self,
        nonce: &IdentityNonce,
        identity: &Identity,
        expires: UnixTime,
    ) -> Result<bool, StoreError>;

    /// The record of a login. One whose time is over may still be there: the token says whether the
    /// session is.
    async fn identity(&self, nonce: &IdentityNonce) -> Result<Option<Identity>, StoreError>;

    /// Keeps what the end of a login will need of its provider, sealed, in place of an earlier one
    /// under the same nonce.
    async fn put_logout_hint(
        &self,
        nonce: &IdentityNonce,
        hint: &str,
        expires: UnixTime,
    ) -> Result<(), StoreError>;

    /// What [`Store::put_logout_hint`] kept; it is gone afterwards.
    async fn take_logout_hint(&self, nonce: &IdentityNonce) -> Result<Option<String>, StoreError>;

    /// The person whom that provider calls `subject`: a random UUID, made on the first call and the
    /// same ever after.
    async fn user(&self, idp: &IdpId, subject: &str) -> Result<UserId, StoreError>;

    /// Takes back what was granted, until `expires`, when nothing that it concerns can still be
    /// valid. It is on the disk when this returns. Gives its revision.
    async fn revoke(&self, revocation: &Revocation, expires: UnixTime) -> Result<u64, StoreError>;

    /// The revocations later than that revision, in order, at most [`TAIL`] of them: ask again from
    /// the last until none come. A revision becomes visible only after all earlier ones, so a
    /// reader that follows the last one it saw misses none.
    async fn revocations_after(&self, revision: u64) -> Result<Vec<Revoked>, StoreError>;

    /// Remembers a name until `expires`; whether it was not known. Of several that ask at once, on
    /// whatever node, one is first.
    async fn first_use(&self, name: &str, expires: UnixTime) -> Result<bool, StoreError>;

    /// Advances the store's own time towards `now`, by at most [`CLOCK_STEP`], and returns it. It
    /// never runs ahead of `now`. Deletions for age are judged by this time, so that one wrong
    /// reading of a clock deletes nothing.
    async fn advance_clock(&self, now: UnixTime) -> Result<UnixTime, StoreError>;

    /// Forgets identities, logout hints, revocations and names whose time is over, at most
    /// [`BATCH`] of each. `now` is the store's own time.
    async fn prune(&self, now: UnixTime) -> Result<Pruned, StoreError>;

    /// Writes as much as a logout does, and removes it again, to find out whether writes succeed.
    async fn probe(&self) -> Result<(), StoreError>;

    /// Returns the cause if the last write failed.
    fn write_failure(&self) -> Option<Arc<str>>;
}

/// The most that [`Store::advance_clock`] advances in one call.
pub const CLOCK_STEP: Duration = Duration::from_secs(3600);

/// The most revocations that one call gives.
pub const TAIL: usize = 1_000;

/// The most rows of a kind that one [`Store::prune`] deletes, so that it never holds up a login for
/// long.
pub const BATCH: usize = 1_000;

/// A signing key as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredKey {
    /// 64 hexadecimal digits.
    pub kid: Box<str>,
    /// The private key, as `SigningKey::to_pkcs8` writes it.
    pub pkcs8: Secret,
    /// The self-signed X.509 certificate of the public key.
    pub certificate_pem: String,
    /// When it was made.
    pub made: UnixTime,
    /// From when on it signs nothing new; it may lie ahead. `None` for a key that has not signed
    /// yet.
    pub retired: Option<UnixTime>,
}

/// Something that was granted and is so no longer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Revocation {
    /// One login, and every token that came of it.
    Session(IdentityNonce),
    /// Every login of a user that began before the revocation.
    User {
        /// Who.
        user: UserId,
        /// When it was revoked. Only releases without an order of logins compare this, with the
        /// time of a token.
        before: UnixTime,
    },
    /// Everything that anybody was given for an application before a moment.
    Application {
        /// Which.
        aud: Aud,
        /// Tokens issued before this are no longer good.
        before: UnixTime,
    },
}

/// A revocation as it is tailed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revoked {
    /// Its place in the order of all; from 1, with gaps.
    pub revision: u64,
    /// What was taken back.
    pub revocation: Revocation,
    /// `true` if its revision is comparable with the revisions of logins. If not, an earlier
    /// release made it and `before` counts.
    pub ordered: bool,
    /// From when on it can be forgotten.
    pub expires: UnixTime,
}

/// How much a [`Store::prune`] deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Identity records.
    pub identities: u64,
    /// Revocations.
    pub revocations: u64,
    /// Names that were used.
    pub uses: u64,
}

impl Pruned {
    /// Whether a batch was filled, so that there may be more to delete.
    pub const fn is_full(self) -> bool {
        self.identities >= BATCH as u64
            || self.revocations >= BATCH as u64
            || self.uses >= BATCH as u64
    }
}

/// Why a store gave no answer.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The file is not there and cannot be made, or cannot be read or locked.
    #[error("the store file `{}` (`[store] path`) cannot be opened", path.display())]
    Open {
        /// Which file.
        path: PathBuf,
        /// What the system or SQLite said.
        source: Cause,
    },
    /// The file holds signing keys and others may read or write it.
    #[error("the store file `{}` (`[store] path`) is open to others: its mode is {mode:04o} and must be 0600", path.display())]
    Exposed {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file is something else.
    #[error("the file `{}` (`[store] path`) is not a portcullis store", path.display())]
    Foreign {
        /// Which file.
        path: PathBuf,
        /// What SQLite said; `None` where it is a sound database of another program.
        source: Option<Cause>,
    },
    /// A later release has changed the schema in a way that this one does not know.
    #[error("the store file `{}` (`[store] path`) has schema {found}, from a later release; this one knows {known}", path.display())]
    Newer {
        /// Which file.
        path: PathBuf,
        /// The schema in the file.
        found: i64,
        /// The schema of this release.
        known: i64,
    },
    /// The file that is in use is no longer at its path: writes to it would be lost at the next
    /// start.
    #[error("the store file `{}` (`[store] path`) was deleted or replaced while in use; restart to use what is there now", path.display())]
    Lost {
        /// Which file.
        path: PathBuf,
    },
    /// The store could not be asked, or could not write.
    #[error("the store could not {operation}")]
    Unavailable {
        /// What was asked of it.
        operation: &'static str,
        /// What it said.
        source: Cause,
    },
    /// What was revoked in the meantime is not known.
    #[error("the store could not be asked for revocations for too long")]
    Stale,
    /// A row is there and cannot be understood.
    #[error("the store holds a malformed {what}")]
    Malformed {
        /// Which kind of row.
        what: &'static str,
    },
}

impl StoreError {
    /// Every word that [`StoreError::kind`] gives.
    pub const KINDS: [&str; 3] = ["open", "unavailable", "malformed"];

    /// A word for metrics.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Open { .. }
            | Self::Exposed { .. }
            | Self::Foreign { .. }
            | Self::Newer { .. } => "open",
            Self::Lost { .. } | Self::Unavailable { .. } | Self::Stale => "unavailable",
            Self::Malformed { .. } => "malformed",
        }
    }
}

/// What lies below a [`StoreError`].
pub type Cause = Box<dyn Error + Send + Sync>;

/// Both stores make user ids in the same way.
fn new_user() -> UserId {
    let mut bytes = [0_u8; 16];
    crate::model::fill_random(&mut bytes);
    UserId(
        uuid::Builder::from_random_bytes(bytes)
            .into_uuid()
            .to_string()
            .into(),
    )
}

fn new_secret() -> Zeroizing<[u8; 32]> {
    let mut bytes = Zeroizing::new([0_u8; 32]);
    crate::model::fill_random(bytes.as_mut());
    bytes
}

#[cfg(test)]
mod tests;
