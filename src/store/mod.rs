//! The store: everything that nodes share and that survives a restart.
//!
//! Decides nothing. Trusts its file or server to keep rows, and reads every row back as if it might
//! be damaged. Never reports "nothing there" if it could not look: an outage is a [`StoreError`],
//! absence is `None`. Requests that are decided from memory never come here.
//!
//! A [`Store`] is a set of repositories, one for each kind of object. Each part of the control path
//! holds those that it uses, such as `Arc<dyn KeyRepository>`, and no other. A further kind of
//! object (configured objects, a directory of users and groups) is a further repository, and a
//! further kind of [`Change`]: every node reads the changes of the others from one [`ChangeLog`].

mod changes;
mod error;
mod keys;
mod logins;
mod maintenance;
mod memory;
mod revocations;
mod sqlite;
mod uses;

pub use changes::{Change, ChangeLog, Changes, Position};
pub use error::{Cause, StoreError};
pub use keys::{KeyRepository, StoredKey};
pub use logins::LoginRepository;
pub use maintenance::{BATCH, CLOCK_STEP, Maintenance, Pruned};
pub use memory::MemoryStore;
pub use revocations::{PAGE, Revocation, RevocationRepository, StoredRevocation};
pub use sqlite::SqliteStore;
pub use uses::UseRepository;

/// All repositories of one database. Every call may wait for a disk or a network.
///
/// # Errors
/// Every call returns [`StoreError::Unavailable`] if the database could not be reached or did not
/// accept a write, and [`StoreError::Malformed`] if a row exists and cannot be read. Neither means
/// that the row does not exist.
pub trait Store:
    KeyRepository
    + LoginRepository
    + RevocationRepository
    + UseRepository
    + ChangeLog
    + Maintenance
    + std::fmt::Debug
    + Send
    + Sync
{
}

impl<T> Store for T where
    T: KeyRepository
        + LoginRepository
        + RevocationRepository
        + UseRepository
        + ChangeLog
        + Maintenance
        + std::fmt::Debug
        + Send
        + Sync
{
}

#[cfg(test)]
mod tests;
