use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::{Map, Value};
use thiserror::Error;

use super::VerifiedIdToken;
use crate::model::{GroupsSource, UnixTime, is_groups};

/// The claims of an ID token or of a userinfo answer, as they came. No name stands twice.
#[derive(Clone, PartialEq, Eq)]
pub struct UserClaims(Map<String, Value>);

/// What both together say of a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Who, at this provider.
    pub subject: String,
    /// The address, not looked at yet.
    pub email: Option<String>,
    /// Whether the provider vouches for the address; `None` where it does not say.
    pub email_verified: Option<bool>,
    /// Display name.
    pub name: Option<String>,
    /// The groups, as far as the claims have them.
    pub groups: ClaimedGroups,
    /// Which of the two told them.
    pub groups_source: GroupsSource,
    /// Authentication methods (RFC 8176).
    pub amr: Option<Vec<String>>,
    /// The claims that were asked for by name; null where the provider said nothing of one.
    pub claims: Map<String, Value>,
}

/// What the claims say of groups. None of it is yet what a person's groups are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClaimedGroups {
    /// These; perhaps not all of them.
    Claimed(Vec<String>),
    /// Nothing.
    Absent,
    /// That they are to be had in another place (OpenID Connect Core 5.6.2, "distributed claims").
    Elsewhere,
}

/// Why claims are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ClaimsError {
    /// Not a JSON object, or a claim that stands twice.
    #[error("the claims are malformed")]
    Malformed,
    /// A signed or encrypted userinfo answer, which was not asked for, or no JSON at all.
    #[error("the userinfo endpoint did not answer with JSON")]
    NotJson,
    /// Core 5.3.2: the userinfo answer is about somebody else, or does not say about whom.
    #[error("the userinfo answer is about somebody else than the ID token")]
    Subject,
    /// A claim has a type that it must not have.
    #[error("the claim `{0}` has a wrong type")]
    Type(&'static str),
}

impl UserClaims {
    /// Reads a JSON object.
    ///
    /// # Errors
    /// [`ClaimsError::Malformed`]
    pub fn parse(json: &[u8]) -> Result<Self, ClaimsError> {
        serde_json::from_slice(json).map_err(|_| ClaimsError::Malformed)
    }

    /// The claim, where it has a value: `null` says nothing (Core 5.3.2).
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
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
                        return Err(de::Error::custom("a claim stands twice"));
                    }
                }
                Ok(UserClaims(claims))
            }
        }
        deserializer.deserialize_map(Once)
    }
}

/// Reads a userinfo answer about `subject` (Core 5.3.2).
///
/// # Errors
/// See [`ClaimsError`].
pub fn userinfo(is_json: bool, body: &[u8], subject: &str) -> Result<UserClaims, ClaimsError> {
    if !is_json {
        return Err(ClaimsError::NotJson);
    }
    let claims = UserClaims::parse(body)?;
    if claims.get("sub").and_then(Value::as_str) != Some(subject) {
        return Err(ClaimsError::Subject);
    }
    Ok(claims)
}

/// One picture of both: the ID token's word stands, and the userinfo answer fills in what a thin token leaves out.
///
/// `email_claim` names the claim that holds the address, `wanted` the claims to be kept for policies and origins. What
/// speaks against an address counts, whichever of the two says it.
///
/// # Errors
/// [`ClaimsError::Type`]
pub fn merge(
    id_token: &VerifiedIdToken,
    userinfo: Option<&UserClaims>,
    email_claim: &str,
    wanted: &[String],
) -> Result<Profile, ClaimsError> {
    let sources = [Some(&id_token.claims), userinfo];
    let find = |name: &str| sources.iter().flatten().find_map(|claims| claims.get(name));
    let mut email_verified = None;
    for value in sources.iter().flatten().filter_map(|claims| claims.get("email_verified")) {
        let verified = match value {
            Value::Bool(verified) => *verified,
            // Providers that write it as a string do exist.
            Value::String(text) if text == "true" => true,
            Value::String(text) if text == "false" => false,
            _ => return Err(ClaimsError::Type("email_verified")),
        };
        email_verified = Some(email_verified.unwrap_or(true) && verified);
    }
    let groups_claim = |claims: &UserClaims| claims.get(groups_name(claims)).cloned();
    let groups_source =
        if groups_claim(&id_token.claims).is_some() { GroupsSource::IdToken } else { GroupsSource::Userinfo };
    let groups = match &sources.iter().flatten().find_map(|claims| groups_claim(claims)) {
        Some(value) => ClaimedGroups::Claimed(strings(value).ok_or(ClaimsError::Type("groups"))?),
        None if sources.iter().flatten().any(|claims| is_elsewhere(claims, "groups")) => ClaimedGroups::Elsewhere,
        None => ClaimedGroups::Absent,
    };
    let email = match find(email_claim) {
        Some(Value::String(email)) => Some(email.clone()),
        Some(_) => return Err(ClaimsError::Type("email")),
        None => None,
    };
    // A claim that is not there has no value, unless it is to be had in another place.
    let kept = |name: &str| match find(name) {
        Some(value) => Some(value.clone()),
        None if sources.iter().flatten().any(|claims| is_elsewhere(claims, name)) => None,
        None => Some(Value::Null),
    };
    Ok(Profile {
        subject: id_token.subject.clone(),
        email,
        email_verified,
        name: find("name").and_then(Value::as_str).filter(|name| !name.is_empty()).map(str::to_owned),
        groups,
        groups_source,
        amr: find("amr").and_then(strings),
        claims: wanted.iter().filter_map(|name| Some((name.clone(), kept(name)?))).collect(),
    })
}

/// What the claim is called here: `groups`, by whatever letters.
fn groups_name(claims: &UserClaims) -> &str {
    let named = |name: &&String| is_groups(name);
    match claims.get("groups") {
        Some(_) => "groups",
        None => claims.0.keys().filter(named).find(|name| claims.get(name).is_some()).map_or("groups", |name| name),
    }
}

/// Whether there is a reference in place of the claim (OpenID Connect Core 5.6.2).
fn is_elsewhere(claims: &UserClaims, name: &str) -> bool {
    claims.get("_claim_names").is_some_and(|names| names.get(name).is_some())
}

/// An array of strings, or the string that it would have held alone.
fn strings(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::String(one) => Some(vec![one.clone()]),
        Value::Array(all) => all.iter().map(|one| one.as_str().map(str::to_owned)).collect(),
        _ => None,
    }
}

/// A NumericDate (RFC 7519 §2), which may have a fraction.
pub(super) fn whole_seconds(value: &Value) -> Option<UnixTime> {
    if let Some(seconds) = value.as_u64() {
        return Some(UnixTime(seconds));
    }
    let seconds = value.as_f64().filter(|seconds| (0.0..9_007_199_254_740_992.0).contains(seconds))?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "within the range, and whole seconds are meant"
    )]
    Some(UnixTime(seconds as u64))
}
