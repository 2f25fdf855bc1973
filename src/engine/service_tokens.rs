use std::collections::HashMap;
use std::sync::Arc;

use http::HeaderMap;

use super::credential_headers::{CLIENT_ID, CLIENT_SECRET, only};
use crate::model::{Reason, SecretDigest, ServiceToken, UnixTime};

/// The service tokens of a team, by client id.
#[derive(Debug, Default)]
pub(super) struct ServiceTokens(HashMap<Box<str>, Arc<ServiceToken>>);

impl ServiceTokens {
    pub(super) fn new(tokens: impl IntoIterator<Item = ServiceToken>) -> Self {
        Self(
            tokens
                .into_iter()
                .map(|token| (token.client_id.as_str().into(), Arc::new(token)))
                .collect(),
        )
    }

    /// Returns the service token in a request's two headers. No other header counts.
    pub(super) fn presented(&self, headers: &HeaderMap, now: UnixTime) -> PresentedToken<'_> {
        if !headers.contains_key(&CLIENT_ID) && !headers.contains_key(&CLIENT_SECRET) {
            return PresentedToken::Absent;
        }
        let token = only(headers, &CLIENT_ID)
            .and_then(|id| std::str::from_utf8(id).ok())
            .and_then(|id| self.0.get(id));
        // Hash the secret of an unknown client id too, so that it takes as long as a known one.
        let secret = only(headers, &CLIENT_SECRET)
            // The bound comes before the hash: its cost must not grow with the request.
            .filter(|secret| secret.len() <= MAX_SECRET)
            .map(SecretDigest::sha256);
        match (token, secret) {
            // The secret is checked first: a client without it learns nothing about the token's
            // state.
            (Some(token), Some(secret)) if token.has_secret(&secret) => match () {
                () if !token.enabled => {
                    PresentedToken::Rejected(Reason::ServiceTokenDisabled, Some(token))
                }
                () if token.has_expired(now) => {
                    PresentedToken::Rejected(Reason::ServiceTokenExpired, Some(token))
                }
                () => PresentedToken::Valid(token),
            },
            _ => PresentedToken::Rejected(Reason::ServiceTokenInvalid, token),
        }
    }
}

/// The service token of a request.
pub(super) enum PresentedToken<'a> {
    Absent,
    Valid(&'a Arc<ServiceToken>),
    /// The reason, and the token of that client id, if there is one.
    Rejected(Reason, Option<&'a Arc<ServiceToken>>),
}

/// The longest secret that is hashed. Ours are shorter, and hashing takes time.
const MAX_SECRET: usize = 256;
