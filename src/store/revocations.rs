use async_trait::async_trait;

use super::StoreError;
use crate::model::{Aud, IdentityNonce, UnixTime, UserId};

/// Revocations, in the order of their revisions.
#[async_trait]
pub trait RevocationRepository: Send + Sync {
    /// Stores a revocation and returns its revision. It is on disk when this returns. From `expires`
    /// on it may be pruned, because nothing that it covers can still be valid.
    async fn revoke(&self, revocation: &Revocation, expires: UnixTime) -> Result<u64, StoreError>;

    /// Returns the revocations with a later revision in order, at most [`PAGE`] of them. A revision
    /// becomes visible only after all earlier ones.
    async fn revocations_after(&self, revision: u64) -> Result<Vec<StoredRevocation>, StoreError>;
}

/// The most rows that one call returns.
pub const PAGE: usize = 1_000;

/// The logins or tokens that a revocation covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Revocation {
    /// One login, and every token that came from it.
    Session(IdentityNonce),
    /// Every login of a user that began before the revocation.
    User {
        /// The user.
        user: UserId,
        /// When it was revoked. Only releases without an order of logins compare this, with the
        /// time of a token.
        before: UnixTime,
    },
    /// Every token for an application that was issued before a moment.
    Application {
        /// The application.
        aud: Aud,
        /// Tokens issued before this are revoked.
        before: UnixTime,
    },
}

/// A revocation with its place in the order of logins and revocations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRevocation {
    /// Its revision; from 1, with gaps.
    pub revision: u64,
    /// The logins or tokens that it covers.
    pub revocation: Revocation,
    /// `true` if its revision is comparable with the revisions of logins. If not, an earlier
    /// release made it and `before` counts.
    pub ordered: bool,
    /// The moment from which it may be deleted.
    pub expires: UnixTime,
}
