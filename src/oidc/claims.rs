use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::{Map, Value};
use thiserror::Error;

use super::VerifiedIdToken;
use super::groups_claim::Found;
use super::lenient::{shape, strings, truth};
use crate::model::{GroupsSource, UnixTime, is_groups, json};

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
    /// The provider's word for exactly that address (`email_verified`); `None` if it gives none. A value that cannot be read is
    /// `Some(false)`.
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
    /// The claims that are present and cannot be read, for the log: name, source and JSON type, without the value.
    pub unreadable: Vec<String>,
}

/// The evidence that a login requires for its email address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EmailVerification {
    /// An address counts unless `email_verified` is present and not true.
    #[default]
    Optional,
    /// An address counts only if `email_verified` is true.
    Required,
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
    /// A value that is not a list of strings. It may hold any group, so the groups are unknown and not empty.
    Unreadable,
}

/// Why claims are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ClaimsError {
    /// Not a JSON object, or a claim that stands twice.
    #[error("the claims are malformed")]
    Malformed,
    /// An encrypted userinfo answer, one that is signed in a way that is not accepted, or no JSON at all.
    #[error("the userinfo endpoint did not answer with JSON")]
    NotJson,
    /// A signed userinfo answer by a key that is not in the JWKS, or whose signature does not fit.
    #[error("the userinfo answer is not signed by a key that the provider publishes")]
    Signature,
    /// A signed userinfo answer of another issuer, for another client, or whose time is over.
    #[error("the signed userinfo answer is from another issuer, for another client, or expired")]
    Foreign,
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
        serde_json::from_str(&json::mended(json)).map_err(|_| ClaimsError::Malformed)
    }

    /// The claim, where it has a value: `null` says nothing (Core 5.3.2).
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    /// The claim of that whole name, or the nested one at the end of the path; see [`GroupsClaim`](super::GroupsClaim).
    pub(super) fn find(&self, name: &str) -> Found<'_> {
        super::groups_claim::find(&self.0, name)
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

/// Reads a userinfo answer about `subject` (Core 5.3.2). A JSON object is accepted under any content type.
///
/// # Errors
/// See [`ClaimsError`].
pub fn userinfo(is_json: bool, body: &[u8], subject: &str) -> Result<UserClaims, ClaimsError> {
    let claims = UserClaims::parse(body).map_err(|error| if is_json { error } else { ClaimsError::NotJson })?;
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
    let both = [(ID_TOKEN, Some(&id_token.claims)), (USERINFO, userinfo)];
    let sources = || both.iter().filter_map(|(source, claims)| Some((*source, (*claims)?)));
    let find = |name: &str| sources().find_map(|(source, claims)| Some((source, claims.get(name)?)));
    let mut unreadable = Vec::new();
    let mut unread = |name: &str, source: &str, value: &Value| {
        unreadable.push(format!("`{}` in the {source}: {}", super::callback::tame(name, 64), shape(value)));
    };

    // An empty one says nothing, as null does.
    let address =
        |claims: &UserClaims| claims.get(email_claim).filter(|value| value.as_str() != Some("")).map(one_address);
    let email = match sources().find_map(|(_, claims)| address(claims)) {
        Some(Some(email)) => Some(email),
        Some(None) => return Err(ClaimsError::Type("email")),
        None => None,
    };
    let mut email_verified = None;
    for (source, claims) in sources() {
        let Some(value) = claims.get("email_verified") else { continue };
        let verified = truth(value).unwrap_or_else(|| {
            unread("email_verified", source, value);
            false
        });
        // One source vouches for its own address, and not for another address of the other source.
        let other = address(claims).is_some_and(|own| own != email);
        if !verified || !other {
            email_verified = Some(email_verified.unwrap_or(true) && verified);
        }
    }

    let mut groups_source = GroupsSource::Userinfo;
    let mut groups = ClaimedGroups::Absent;
    for (source, claims) in sources() {
        let name = groups_name(claims);
        if let Some(value) = claims.get(name) {
            groups_source = if source == ID_TOKEN { GroupsSource::IdToken } else { GroupsSource::Userinfo };
            groups = strings(value).map_or(ClaimedGroups::Unreadable, ClaimedGroups::Claimed);
            if groups == ClaimedGroups::Unreadable {
                unread(name, source, value);
            }
            break;
        }
    }
    if groups == ClaimedGroups::Absent && sources().any(|(_, claims)| is_elsewhere(claims, "groups")) {
        groups = ClaimedGroups::Elsewhere;
    }
    // References that cannot be read may be to any claim.
    let mut lost = false;
    for (source, claims) in sources() {
        if let Some(names) = claims.get(CLAIM_NAMES).filter(|names| !names.is_object()) {
            unread(CLAIM_NAMES, source, names);
            lost = true;
        }
    }
    if groups == ClaimedGroups::Absent && lost {
        groups = ClaimedGroups::Unreadable;
    }

    let amr = find("amr").and_then(|(source, value)| {
        let methods = strings(value);
        if methods.is_none() {
            unread("amr", source, value);
        }
        methods
    });
    // A claim that is not there has no value, unless it is to be had in another place.
    let kept = |name: &str| match sources().map(|(_, claims)| claims.find(name)).find(|found| *found != Found::Absent) {
        Some(Found::Value(value)) => Some(value.clone()),
        Some(Found::Unreadable) => None,
        _ if lost || sources().any(|(_, claims)| is_elsewhere(claims, name)) => None,
        _ => Some(Value::Null),
    };
    Ok(Profile {
        subject: id_token.subject.clone(),
        email,
        email_verified,
        name: find("name").and_then(|(_, name)| name.as_str()).filter(|name| !name.is_empty()).map(str::to_owned),
        groups,
        groups_source,
        amr,
        claims: wanted.iter().filter_map(|name| Some((name.clone(), kept(name)?))).collect(),
        unreadable,
    })
}

/// The address in a string, or in a list that holds nothing else: Azure AD B2C sends `emails`.
fn one_address(value: &Value) -> Option<String> {
    strings(value).filter(|all| all.len() == 1).and_then(|all| all.into_iter().next())
}

/// What the claim is called here: `groups`, by whatever letters.
fn groups_name(claims: &UserClaims) -> &str {
    let named = |name: &&String| is_groups(name);
    match claims.get("groups") {
        Some(_) => "groups",
        None => claims.0.keys().filter(named).find(|name| claims.get(name).is_some()).map_or("groups", |name| name),
    }
}

/// Returns `true` if there is a reference in place of the claim (OpenID Connect Core 5.6.2).
fn is_elsewhere(claims: &UserClaims, name: &str) -> bool {
    let leads_to =
        |claim: &String| name.strip_prefix(claim.as_str()).is_some_and(|r| r.is_empty() || r.starts_with('.'));
    claims.get(CLAIM_NAMES).and_then(Value::as_object).is_some_and(|names| names.keys().any(leads_to))
}

/// A NumericDate (RFC 7519 §2), which may have a fraction.
pub(super) fn whole_seconds(value: &Value) -> Option<UnixTime> {
    if let Some(seconds) = value.as_u64() {
        return Some(UnixTime(seconds));
    }
    value.as_f64().and_then(UnixTime::from_fraction)
}

/// The sources of claims, for messages.
const ID_TOKEN: &str = "ID token";
const USERINFO: &str = "userinfo answer";

/// Holds the references to claims that are elsewhere.
const CLAIM_NAMES: &str = "_claim_names";
