//! Errors of the control path.

use thiserror::Error;

use super::SigningKeysError;
use crate::cookie::SealError;
use crate::store::StoreError;
use crate::token::KeyError;

/// An error at the start of the control path.
#[derive(Debug, Error)]
pub enum StartError {
    /// The store.
    #[error("the store cannot be used")]
    Store(#[from] StoreError),
    /// Signing keys.
    #[error("the signing keys cannot be used")]
    SigningKeys(#[from] SigningKeysError),
    /// The public halves of the signing keys.
    #[error("the signing keys cannot be published")]
    Publish(#[from] KeyError),
    /// The key that seals cookies and URLs.
    #[error("the sealing key cannot be used")]
    Seal(#[from] SealError),
}
