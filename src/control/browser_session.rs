//! A verified session of a browser.

use crate::model::{Email, IdentityNonce, Secret, UnixTime, UserId};

/// A session in a browser's cookie.
pub(crate) struct BrowserSession {
    pub(crate) nonce: IdentityNonce,
    pub(crate) email: Option<Email>,
    pub(crate) user: UserId,
    pub(crate) issued: UnixTime,
    pub(crate) expires: UnixTime,
    pub(crate) token: Secret,
}
