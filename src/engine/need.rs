use crate::model::{Aud, IdentityNonce, Secret, UnixTime};

/// Something that must be fetched before a request can be decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Need {
    /// The keys of the team: never fetched, or a token names one that is not among them.
    Keys,
    /// The identity record of a token. The token comes along, because a remote team requires it.
    Identity {
        /// The record's key.
        nonce: IdentityNonce,
        /// Time of issue of the token, in Unix seconds.
        issued: UnixTime,
        /// The token, in clear.
        token: Secret,
    },
    /// The token that names a service client to an application's origin (`docs/wire.md` 5.3).
    /// Signing is slow, so many requests share one.
    Assertion {
        /// The audience tag of the application.
        aud: Aud,
        /// The name of the service client.
        common_name: Box<str>,
        /// The latest time at which it must expire.
        expires: UnixTime,
    },
}
