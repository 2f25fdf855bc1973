use std::collections::BTreeMap;
use std::net::IpAddr;

use http::HeaderName;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Email, IdentityNonce, IdpId, UnixTime, UserId};

/// The identity of a user, as received from the identity provider at login: the record of a
/// session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Identity {
    /// Stable per team, provider and subject.
    pub user: UserId,
    /// The user's id at the provider.
    pub subject: String,
    /// The canonical email address, as rules compare it.
    pub email: Email,
    /// The display name, if the provider sent one.
    pub name: Option<String>,
    /// The identity provider of the login.
    pub idp: IdpRef,
    /// Group membership, if known.
    pub groups: Groups,
    /// The source and time of the groups; `None` if they are unknown, or in a record of an earlier
    /// release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups_seen: Option<GroupsSeen>,
    /// Authentication methods (RFC 8176), if the provider sent them.
    pub amr: Option<Vec<String>>,
    /// The claims that the provider's configuration requests; null if an OpenID provider omitted
    /// one. A claim that is absent here is unknown: it was not requested, or a SAML assertion did
    /// not have it.
    #[serde(default)]
    pub claims: Map<String, Value>,
    /// The answers of external evaluation services at login, by
    /// [`evaluation_key`](crate::policy::evaluation_key). A service without an answer is absent.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub evaluations: BTreeMap<String, bool>,
    /// The headers for origins beside the email address: names in lower case, each with one value.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, String)>,
    /// The same user's logins through other providers in the same browser. They are revoked
    /// together.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub beside: Vec<IdentityNonce>,
    /// The end of the provider's own session, if it sends one. None of ours lasts longer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_ends: Option<UnixTime>,
    /// The time of the login.
    pub at: UnixTime,
    /// The client's IP address at login.
    pub ip: Option<IpAddr>,
    /// The store's latest revision when the login began, kept by every later change of the record:
    /// each later revocation of the user covers the login. 0 in a record of an earlier release, and
    /// in one that no store of this node has.
    #[serde(skip)]
    pub revision: u64,
}

/// The position of a login in the order of revocations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoginOrder {
    /// [`Identity::revision`].
    pub revision: u64,
    /// [`Identity::at`], which counts only against revocations of an earlier release.
    pub at: UnixTime,
}

impl Identity {
    /// Returns the position of the login in the order of revocations.
    pub const fn order(&self) -> LoginOrder {
        LoginOrder {
            revision: self.revision,
            at: self.at,
        }
    }

    /// The claims that the provider made.
    pub fn claims_made(&self) -> Map<String, Value> {
        let made = self.claims.iter().filter(|(_, value)| !value.is_null());
        made.map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    }

    /// Returns the end of a session: `ours`, or the provider's if that is earlier.
    pub fn ends_by(&self, ours: UnixTime) -> UnixTime {
        self.session_ends.map_or(ours, |end| end.min(ours))
    }
}

/// The identity provider of an identity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdpRef {
    /// Its id in the configuration.
    pub id: IdpId,
    /// `okta`, `oidc`, `saml`.
    #[serde(rename = "type")]
    pub kind: String,
}

/// A header for origins with an attribute of the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SentHeader {
    /// The provider.
    pub idp: IdpId,
    /// The header.
    pub name: HeaderName,
}

/// Group membership is a fact that may be missing, and missing is not empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Groups {
    /// All of them.
    Known(Vec<Group>),
    /// They are unknown. A rule that depends on them never grants access.
    Unknown,
}

/// Meaning of a groups claim or attribute that a provider leaves out (`absent_groups`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AbsentGroups {
    /// Nothing is known of the groups.
    #[default]
    Unknown,
    /// The user has no groups.
    Empty,
}

impl Groups {
    /// Returns all groups, if they are known.
    pub fn known(&self) -> Option<&[Group]> {
        match self {
            Self::Known(groups) => Some(groups),
            Self::Unknown => None,
        }
    }

    /// Replaces a requested claim `groups` by these groups. The provider may have cut or omitted
    /// its own value for being too long.
    pub fn write_to(&self, claims: &mut Map<String, Value>) {
        match self {
            Self::Known(groups) => {
                let names: Value = groups.iter().map(|group| group.name.as_str()).collect();
                let requested = claims.iter_mut().filter(|(name, _)| is_groups(name));
                requested.for_each(|(_, value)| value.clone_from(&names));
            }
            Self::Unknown => claims.retain(|name, _| !is_groups(name)),
        }
    }
}

/// Returns `true` for the name of a groups claim, in upper or lower case.
pub(crate) fn is_groups(name: &str) -> bool {
    name.eq_ignore_ascii_case("groups")
}

/// Returns `true` if the names differ at most in case and in the white space around them.
#[cfg(feature = "protocols")]
pub(crate) fn is_nearly(name: &str, other: &str) -> bool {
    let folded = |name: &str| name.trim().to_lowercase();
    folded(name) == folded(other)
}

/// The source and time of a user's groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupsSeen {
    /// The source.
    pub source: GroupsSource,
    /// The time at which they were read.
    pub at: UnixTime,
}

/// The source of groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupsSource {
    /// The claim of the ID token.
    IdToken,
    /// The claim at the userinfo endpoint.
    Userinfo,
    /// The provider's own list, by its API.
    Api,
    /// An attribute of a SAML assertion.
    Assertion,
}

/// One group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// The provider's id; the name if it sent none.
    pub id: String,
    /// The name that rules compare, byte for byte.
    pub name: String,
}
