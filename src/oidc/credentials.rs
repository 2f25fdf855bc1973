use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;
use thiserror::Error;

use crate::model::{Secret, UnixTime, fill_random, hex};

/// The credentials of a client at its provider (OpenID Connect Core 9).
#[derive(Clone, Debug)]
pub enum Credentials {
    /// A client secret, sent with `client_secret_basic`; with `client_secret_post` if the provider
    /// supports only that or the configuration demands it.
    Secret(Secret),
    /// A key for `private_key_jwt`. The key itself never leaves this machine.
    Key(Arc<ClientKey>),
}

/// The client authentication method (`token_endpoint_auth_method`, RFC 7591 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// The secret in the `Authorization` header (RFC 6749 2.3.1).
    ClientSecretBasic,
    /// The secret in the form.
    ClientSecretPost,
    /// An assertion signed with the key (RFC 7523 2.2).
    PrivateKeyJwt,
}

/// The private key of a client.
pub struct ClientKey {
    key: EncodingKey,
    algorithm: Algorithm,
    kid: Option<String>,
}

/// The reason why a client key cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ClientKeyError {
    /// Not an RSA or P-256 key, or not in PEM form.
    #[error("the key is neither an RSA nor a P-256 private key in PEM form (`BEGIN PRIVATE KEY`)")]
    Unusable,
    /// A key that cannot sign, such as RSA below 2048 bits or another curve.
    #[error("the key cannot sign: it must be RSA with 2048 bits or more, or P-256")]
    Weak,
}

impl ClientKey {
    /// Reads a key in PEM form. `kid` is the provider's name for the public key; without one, the
    /// provider has to try its keys.
    ///
    /// # Errors
    /// See [`ClientKeyError`].
    pub fn from_pem(pem: &Secret, kid: Option<String>) -> Result<Self, ClientKeyError> {
        let pem = pem.expose().as_bytes();
        let (key, algorithm) = match (
            EncodingKey::from_rsa_pem(pem),
            EncodingKey::from_ec_pem(pem),
        ) {
            (Ok(key), _) => (key, Algorithm::RS256),
            (Err(_), Ok(key)) => (key, Algorithm::ES256),
            (Err(_), Err(_)) => return Err(ClientKeyError::Unusable),
        };
        let key = Self {
            key,
            algorithm,
            kid,
        };
        // An unsupported size or curve fails only when the key signs.
        key.assertion("", "", UnixTime(0))?;
        Ok(key)
    }

    /// Creates a client assertion (RFC 7523 3) for one request, valid for a short time.
    ///
    /// # Errors
    /// [`ClientKeyError::Weak`]
    pub fn assertion(
        &self,
        client_id: &str,
        audience: &str,
        now: UnixTime,
    ) -> Result<Secret, ClientKeyError> {
        #[derive(Serialize)]
        struct Assertion<'a> {
            iss: &'a str,
            sub: &'a str,
            aud: &'a str,
            jti: String,
            iat: UnixTime,
            exp: UnixTime,
        }
        let mut id = [0; 16];
        fill_random(&mut id);
        let header = Header {
            kid: self.kid.clone(),
            ..Header::new(self.algorithm)
        };
        let claims = Assertion {
            iss: client_id,
            sub: client_id,
            aud: audience,
            jti: hex(&id),
            iat: now,
            exp: now.after(ASSERTION_LIFETIME),
        };
        jsonwebtoken::encode(&header, &claims, &self.key)
            .map(Secret::new)
            .map_err(|_| ClientKeyError::Weak)
    }
}

impl fmt::Debug for ClientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientKey")
            .field("algorithm", &self.algorithm)
            .field("kid", &self.kid)
            .finish_non_exhaustive()
    }
}

/// RFC 7523 2.2
pub(super) const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// Tolerates clocks that differ by a minute; providers reject lifetimes above an hour.
const ASSERTION_LIFETIME: Duration = Duration::from_secs(300);
