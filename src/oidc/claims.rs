use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::{Map, Value};
use thiserror::Error;

use super::nested::{self, Found};
use crate::model::{UnixTime, is_nearly, json};

/// The claims of an ID token or of a userinfo response, as received. No claim name occurs twice.
#[derive(Clone, PartialEq, Eq)]
pub struct UserClaims(Map<String, Value>);

/// The content type that a userinfo response states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentType {
    /// `application/json`.
    Json,
    /// Any other, or none.
    Other,
}

/// The reason why claims are rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ClaimsError {
    /// Not a JSON object, or a claim occurs twice.
    #[error("the claims are malformed")]
    Malformed,
    /// An encrypted userinfo response, one with an unsupported signature, or not JSON at all.
    #[error("the userinfo endpoint did not return JSON")]
    NotJson,
    /// A signed userinfo response whose key is not in the JWKS or whose signature is invalid.
    #[error("the userinfo response is not signed with a key that the provider publishes")]
    Signature,
    /// A signed userinfo response from another issuer, for another client, or expired.
    #[error("the signed userinfo response is from another issuer, for another client, or expired")]
    Foreign,
    /// The userinfo response has another `sub` than the ID token, or none (OpenID Connect Core
    /// 5.3.2).
    #[error("the userinfo response is about another user than the ID token")]
    Subject,
}

impl UserClaims {
    /// Parses a JSON object.
    ///
    /// # Errors
    /// [`ClaimsError::Malformed`]
    pub fn parse(json: &[u8]) -> Result<Self, ClaimsError> {
        serde_json::from_str(&json::mended(json)).map_err(|_| ClaimsError::Malformed)
    }

    /// Returns the claim. `null` counts as absent (OpenID Connect Core 5.3.2).
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    /// Finds the claim with this whole name, or the nested claim at the end of the path; see
    /// [`GroupsClaim`](super::GroupsClaim).
    pub(super) fn find(&self, name: &str) -> Found<'_> {
        nested::find(&self.0, name)
    }

    /// Returns the names of claims that are replaced by a reference (OpenID Connect Core 5.6.2).
    pub(super) fn references(&self) -> impl Iterator<Item = &str> {
        self.get(CLAIM_NAMES)
            .and_then(Value::as_object)
            .into_iter()
            .flat_map(Map::keys)
            .map(String::as_str)
    }

    /// Returns `true` if the claim, or one that it is nested in, is replaced by a reference.
    pub(super) fn has_reference_to(&self, name: &str) -> bool {
        let leads_to = |claim: &str| {
            name.strip_prefix(claim)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        self.references().any(leads_to)
    }

    /// Returns `true` if a claim, or a reference to one, has a similar name.
    pub(super) fn has_similar(&self, name: &str) -> bool {
        nested::has_similar(&self.0, name)
            || self
                .references()
                .any(|reference| is_nearly(reference, name))
    }

    pub(super) const fn as_map(&self) -> &Map<String, Value> {
        &self.0
    }
}

impl fmt::Debug for UserClaims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl<'de> Deserialize<'de> for UserClaims {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Once;
        impl<'de> Visitor<'de> for Once {
            type Value = UserClaims;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<UserClaims, A::Error> {
                let mut claims = Map::new();
                while let Some((name, value)) = entries.next_entry::<String, Value>()? {
                    if claims.insert(name, value).is_some() {
                        return Err(de::Error::custom("a claim occurs twice"));
                    }
                }
                Ok(UserClaims(claims))
            }
        }
        deserializer.deserialize_map(Once)
    }
}

/// Parses a userinfo response about `subject` (OpenID Connect Core 5.3.2). A JSON object is
/// accepted under any content type.
///
/// # Errors
/// See [`ClaimsError`].
pub fn userinfo(
    content_type: ContentType,
    body: &[u8],
    subject: &str,
) -> Result<UserClaims, ClaimsError> {
    let claims = UserClaims::parse(body).map_err(|error| match content_type {
        ContentType::Json => error,
        ContentType::Other => ClaimsError::NotJson,
    })?;
    if claims.get("sub").and_then(Value::as_str) != Some(subject) {
        return Err(ClaimsError::Subject);
    }
    Ok(claims)
}

/// Reads a NumericDate (RFC 7519 2), which may have a fraction.
pub(super) fn numeric_date(value: &Value) -> Option<UnixTime> {
    if let Some(seconds) = value.as_u64() {
        return Some(UnixTime(seconds));
    }
    value.as_f64().and_then(UnixTime::from_fraction)
}

/// The claim that lists the references to other sources.
pub(super) const CLAIM_NAMES: &str = "_claim_names";
