use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::{Map, Value};
use thiserror::Error;

use super::groups_claim::{self, Found, NOT_AN_OBJECT};
use super::lenient::{shape, strings, truth};
use super::{GroupsClaim, NamedGroups, VerifiedIdToken};
use crate::model::{GroupsSource, UnixTime, is_groups, is_nearly, json};

/// The claims of an ID token or of a userinfo response, as received. No claim name occurs twice.
#[derive(Clone, PartialEq, Eq)]
pub struct UserClaims(Map<String, Value>);

/// The claims of the ID token and the userinfo response, combined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// The user's identifier at this provider.
    pub subject: String,
    /// The email address, not yet parsed.
    pub email: ClaimedEmail,
    /// The provider's statement about exactly that address (`email_verified`); `None` without one.
    /// An unreadable value counts as `Some(false)`.
    pub email_verified: Option<bool>,
    /// The display name.
    pub name: Option<String>,
    /// The groups, as far as the claims contain them.
    pub groups: ClaimedGroups,
    /// The document that the groups come from.
    pub groups_source: GroupsSource,
    /// Authentication methods (RFC 8176).
    pub amr: Option<Vec<String>>,
    /// The configured claims. A claim that the user does not have is null; an unknown claim is left
    /// out.
    pub claims: Map<String, Value>,
    /// The configured claims that are unknown because their absence is not proven.
    pub unproven: Vec<String>,
    /// The claims that are present but unreadable, for the log: name, source and JSON type, never
    /// the value.
    pub unreadable: Vec<String>,
}

/// The meaning of a configured claim that neither document contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absence {
    /// The user does not have the claim: both documents were read, and every scope was granted.
    Proven,
    /// The claim is unknown.
    Unproven,
}

/// The evidence that a login requires for its email address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EmailVerification {
    /// The address is accepted unless `email_verified` is present and not true.
    #[default]
    Optional,
    /// The address is accepted only if `email_verified` is true.
    Required,
}

/// The value of the claim with the email address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClaimedEmail {
    /// A string, not yet known to be an email address.
    Claimed(String),
    /// Neither document has the claim.
    Absent,
    /// The claim is not a string.
    Unreadable,
}

/// The groups as claimed. They still need interpretation: see the variants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClaimedGroups {
    /// A list of groups, possibly incomplete.
    Claimed(Vec<String>),
    /// Neither document has the claim.
    Absent,
    /// A reference to another source (OpenID Connect Core 5.6.2, "distributed claims"). A list
    /// beside it may be incomplete.
    Elsewhere,
    /// A value that is not a list of strings. It may contain any group, so the groups are unknown
    /// rather than empty.
    Unreadable,
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
    /// [`GroupsClaim`].
    fn find(&self, name: &str) -> Found<'_> {
        groups_claim::find(&self.0, name)
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
    pub(super) fn refer_to(&self, name: &str) -> bool {
        let leads_to = |claim: &str| {
            name.strip_prefix(claim)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        self.references().any(leads_to)
    }

    /// Returns `true` if a claim, or a reference to one, has a similar name.
    pub(super) fn has_nearly(&self, name: &str) -> bool {
        groups_claim::has_nearly(&self.0, name)
            || self
                .references()
                .any(|reference| is_nearly(reference, name))
    }

    pub(super) const fn as_map(&self) -> &Map<String, Value> {
        &self.0
    }
}

impl ClaimedEmail {
    fn as_str(&self) -> Option<&str> {
        match self {
            Self::Claimed(text) => Some(text),
            Self::Absent | Self::Unreadable => None,
        }
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
pub fn userinfo(is_json: bool, body: &[u8], subject: &str) -> Result<UserClaims, ClaimsError> {
    let claims = UserClaims::parse(body)
        .map_err(|error| if is_json { error } else { ClaimsError::NotJson })?;
    if claims.get("sub").and_then(Value::as_str) != Some(subject) {
        return Err(ClaimsError::Subject);
    }
    Ok(claims)
}

/// Combines both documents: a claim in the ID token takes precedence, and the userinfo response
/// adds the missing ones.
///
/// `email_claim` and `groups_claim` name the claims with the email address and the groups, and
/// `wanted` the claims to keep for policies and origins. Other claims are not read. If either
/// document denies that the address is verified, it is not.
pub fn merge(
    id_token: &VerifiedIdToken,
    userinfo: Option<&UserClaims>,
    email_claim: &str,
    groups_claim: &GroupsClaim,
    wanted: &[String],
    absence: Absence,
) -> Profile {
    let both = [(ID_TOKEN, Some(&id_token.claims)), (USERINFO, userinfo)];
    let sources = || {
        both.iter()
            .filter_map(|(source, claims)| Some((*source, (*claims)?)))
    };
    let find =
        |name: &str| sources().find_map(|(source, claims)| Some((source, claims.get(name)?)));
    let mut unreadable = Vec::new();
    let mut unread = |name: &str, source: &str, found: &str| {
        unreadable.push(format!(
            "`{}` in the {source}: {found}",
            super::callback::tame(name, 64)
        ));
    };

    // An empty address counts as absent, like null.
    let stated = |claims| {
        Some(UserClaims::get(claims, email_claim)?).filter(|value| value.as_str() != Some(""))
    };
    let email = match sources().find_map(|(source, claims)| Some((source, stated(claims)?))) {
        Some((source, value)) => one_address(value).map_or_else(
            || {
                unread(email_claim, source, shape(value));
                ClaimedEmail::Unreadable
            },
            ClaimedEmail::Claimed,
        ),
        None => ClaimedEmail::Absent,
    };
    let mut email_verified = None;
    for (source, claims) in sources() {
        let Some(value) = claims.get("email_verified") else {
            continue;
        };
        let verified = truth(value).unwrap_or_else(|| {
            unread("email_verified", source, shape(value));
            false
        });
        // A document can vouch for its own address only, not for a different address in the other
        // document.
        let other = claims
            .get(email_claim)
            .is_some_and(|own| one_address(own).as_deref() != email.as_str());
        if !verified || !other {
            email_verified = Some(email_verified.unwrap_or(true) && verified);
        }
    }
    // A reference replaces the value, which is therefore unknown and may be false.
    if find("email_verified").is_none()
        && sources().any(|(_, claims)| claims.refer_to("email_verified"))
    {
        email_verified = Some(false);
    }

    let named = groups_claim.named(&id_token.claims, userinfo);
    let (mut groups, groups_source) =
        match named.unwrap_or_else(|| by_any_letters(&id_token.claims, userinfo)) {
            NamedGroups::Names(names, source) => (ClaimedGroups::Claimed(names), source),
            NamedGroups::Absent => (ClaimedGroups::Absent, GroupsSource::Userinfo),
            NamedGroups::Elsewhere(source) => {
                unread(
                    groups_claim.name(),
                    document(source),
                    "a reference in `_claim_names`",
                );
                (ClaimedGroups::Elsewhere, source)
            }
            NamedGroups::Unreadable(source, found) => {
                unread(groups_claim.name(), document(source), found);
                (ClaimedGroups::Unreadable, source)
            }
        };
    // An unreadable list of references may refer to any claim.
    let mut lost = false;
    for (source, claims) in sources() {
        if let Some(names) = claims.get(CLAIM_NAMES).filter(|names| !names.is_object()) {
            unread(CLAIM_NAMES, source, shape(names));
            lost = true;
        }
    }
    if groups == ClaimedGroups::Absent && lost {
        groups = ClaimedGroups::Unreadable;
    }

    let amr = find("amr").and_then(|(source, value)| {
        let methods = strings(value);
        if methods.is_none() {
            unread("amr", source, shape(value));
        }
        methods
    });
    let name = find("name").and_then(|(source, value)| {
        let name = value.as_str();
        if name.is_none() {
            unread("name", source, shape(value));
        }
        name.filter(|name| !name.is_empty())
    });
    for name in [email_claim, "email_verified", "amr"] {
        let referring = || sources().find(|(_, claims)| claims.refer_to(name));
        if let (None, Some((source, _))) = (find(name), referring()) {
            unread(name, source, "a reference in `_claim_names`");
        }
    }
    // A value beside a reference may be incomplete.
    let (mut kept, mut unproven) = (Map::new(), Vec::new());
    for name in wanted {
        if let Some((source, _)) = sources().find(|(_, claims)| claims.refer_to(name)) {
            if !is_groups(name) {
                unread(name, source, "a reference in `_claim_names`");
            }
            continue;
        }
        let near = || sources().find(|(_, claims)| claims.has_nearly(name));
        let mut found = sources().map(|(source, claims)| (source, claims.find(name)));
        match found.find(|(_, found)| *found != Found::Absent) {
            Some((_, Found::Value(value))) => drop(kept.insert(name.clone(), value.clone())),
            Some((source, Found::Unreadable)) => unread(name, source, NOT_AN_OBJECT),
            // The groups replace the null once they are known.
            _ if is_groups(name) => drop(kept.insert(name.clone(), Value::Null)),
            _ if lost => {}
            _ => match near() {
                Some((source, _)) => unread(name, source, NEARLY),
                None if absence == Absence::Unproven => unproven.push(name.clone()),
                None => drop(kept.insert(name.clone(), Value::Null)),
            },
        }
    }
    Profile {
        subject: id_token.subject.clone(),
        email,
        email_verified,
        name: name.map(str::to_owned),
        groups,
        groups_source,
        amr,
        claims: kept,
        unproven,
        unreadable,
    }
}

/// Reads the claim `groups`, in upper or lower case. A reference in either document takes
/// precedence over a list.
fn by_any_letters(id_token: &UserClaims, userinfo: Option<&UserClaims>) -> NamedGroups {
    let sources = || GroupsClaim::sources(id_token, userinfo);
    if let Some((_, source)) = sources().find(|(claims, _)| claims.references().any(is_groups)) {
        return NamedGroups::Elsewhere(source);
    }
    let found =
        sources().find_map(|(claims, source)| Some((claims.get(groups_name(claims))?, source)));
    match found {
        None => NamedGroups::Absent,
        Some((value, source)) => match strings(value) {
            Some(names) => NamedGroups::Names(names, source),
            None => NamedGroups::Unreadable(source, shape(value)),
        },
    }
}

/// Returns the email address from a string, or from a list with one entry: Azure AD B2C sends a
/// list in `emails`.
fn one_address(value: &Value) -> Option<String> {
    strings(value)
        .filter(|all| all.len() == 1)
        .and_then(|all| all.into_iter().next())
}

/// Returns the actual name of the claim `groups` in this document; the case may differ.
fn groups_name(claims: &UserClaims) -> &str {
    let named = |name: &&String| is_groups(name);
    match claims.get("groups") {
        Some(_) => "groups",
        None => claims
            .0
            .keys()
            .filter(named)
            .find(|name| claims.get(name).is_some())
            .map_or("groups", |name| name),
    }
}

const fn document(source: GroupsSource) -> &'static str {
    match source {
        GroupsSource::IdToken => ID_TOKEN,
        _ => USERINFO,
    }
}

/// Reads a NumericDate (RFC 7519 2), which may have a fraction.
pub(super) fn whole_seconds(value: &Value) -> Option<UnixTime> {
    if let Some(seconds) = value.as_u64() {
        return Some(UnixTime(seconds));
    }
    value.as_f64().and_then(UnixTime::from_fraction)
}

// The names of the documents, for messages.
const ID_TOKEN: &str = "ID token";
const USERINFO: &str = "userinfo response";

/// The fault of a claim with a name that differs from the configured one only in case or spaces.
pub(super) const NEARLY: &str = "a claim with a similar name";

/// The claim that lists the references to other sources.
pub(super) const CLAIM_NAMES: &str = "_claim_names";
