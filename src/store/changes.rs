use async_trait::async_trait;

use super::{StoreError, StoredRevocation};
use crate::model::{IdentityNonce, UnixTime};

/// One ordered log of every change that other nodes have to know. An entry is written in the
/// transaction of the change that it describes.
///
/// All entries and revocations take their revisions from one counter, so the order of logins and
/// revocations is that of the log. A revision becomes visible only after all earlier ones.
///
/// A reader follows the log from the last entry that it read. That entry carries a random mark, so
/// the reader notices if the log is no longer the one that it followed ([`Changes::Gap`]).
#[async_trait]
pub trait ChangeLog: Send + Sync {
    /// Returns the position of the newest entry. Everything that is read from the store after this
    /// call includes all changes up to there.
    ///
    /// `followed` is the last revision that the caller has followed before, or 0. If the store is
    /// behind it, because older content was restored, the counter is advanced past it first.
    /// Otherwise revocations that the caller has applied would cover new logins.
    async fn newest_position(&self, followed: u64) -> Result<Position, StoreError>;

    /// Returns the changes after that position in order, at most [`PAGE`](super::PAGE) of them. To
    /// read all, repeat it from the returned position until that stays the same.
    async fn changes_after(&self, position: Position) -> Result<Changes, StoreError>;
}

/// A position in the change log: an entry that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The revision of the entry.
    pub revision: u64,
    /// The random mark of the entry, which differs if older content was restored and the revision
    /// was used a second time.
    pub(super) mark: i64,
}

/// A part of the change log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changes {
    /// The entries after the position.
    Next {
        /// The changes in order. It may be empty although there were entries: an expired revocation
        /// and a change that only a later release knows are left out.
        changes: Vec<Change>,
        /// The position of the last entry.
        position: Position,
    },
    /// The entry at the position was pruned, or the log was reset. Changes may be missing, so
    /// everything that was read from the store has to be read again.
    Gap,
}

/// A change that other nodes have to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A new revocation.
    Revocation(StoredRevocation),
    /// A changed identity record. A new record is not logged: no node can have read it before.
    Identity(IdentityNonce),
    /// A signing key that was added, changed or deleted.
    SigningKeys,
}

/// The moment of the newest log entry that may be pruned, if `now` is the store's own time. Nodes
/// read the log every half second. One that was away for longer reads everything again.
///
/// The store's time stands still between two prunings, so an entry may be younger than it seems by
/// their interval of ten minutes.
pub(super) const fn prunable_until(now: UnixTime) -> UnixTime {
    UnixTime(now.0.saturating_sub(KEPT_SECONDS))
}

/// The age in seconds from which entries are pruned.
pub(super) const KEPT_SECONDS: u64 = 1_800;
