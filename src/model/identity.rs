use std::collections::BTreeMap;
use std::net::IpAddr;

use http::HeaderName;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Email, IdentityNonce, IdpId, UnixTime, UserId};

/// Who a person is, as an identity provider said it at login: the record behind a session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Identity {
    /// Stable per team, provider and subject.
    pub user: UserId,
    /// The provider's own name for the person.
    pub subject: String,
    /// The canonical address.
    pub email: Email,
    /// Display name, where the provider gave one.
    pub name: Option<String>,
    /// Which provider said so.
    pub idp: IdpRef,
    /// Group membership, or that it could not be learned.
    pub groups: Groups,
    /// From where the groups are and since when; `None` where they are not known, or in a record of
    /// an earlier release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups_seen: Option<GroupsSeen>,
    /// Authentication methods (RFC 8176), where the provider gave them.
    pub amr: Option<Vec<String>>,
    /// The claims that the provider's configuration asked for; null where an OpenID provider said
    /// nothing of one. Of what is not here nothing is known: it was not asked for, or a SAML
    /// assertion did not have it.
    #[serde(default)]
    pub claims: Map<String, Value>,
    /// What services of one's own said at login, by
    /// [`evaluation_key`](crate::policy::evaluation_key). One that did not answer is not among
    /// them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub evaluations: BTreeMap<String, bool>,
    /// What origins are sent of the person beside their address: names of headers in lower case,
    /// each with one value.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, String)>,
    /// The same person's logins through other providers, in the same browser: all of them end
    /// together.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub beside: Vec<IdentityNonce>,
    /// When the provider's own session with the person ends, where it says so: none of ours lasts
    /// longer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_ends: Option<UnixTime>,
    /// When the provider was asked.
    pub at: UnixTime,
    /// The address the login came from.
    pub ip: Option<IpAddr>,
    /// The store's latest revision when the login began, kept by every later change of the record:
    /// each later revocation of the user covers the login. 0 in a record of an earlier release, and
    /// in one that no store of this node has.
    #[serde(skip)]
    pub revision: u64,
}

/// The place of a login in the order of revocations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoginOrder {
    /// [`Identity::revision`].
    pub revision: u64,
    /// [`Identity::at`], which counts only against revocations of an earlier release.
    pub at: UnixTime,
}

impl Identity {
    /// The place of the login in the order of revocations.
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

    /// When a session ends that would last until `ours`: then, or with the provider's own.
    pub fn ends_by(&self, ours: UnixTime) -> UnixTime {
        self.session_ends.map_or(ours, |end| end.min(ours))
    }
}

/// The provider an identity came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdpRef {
    /// Its id in the configuration.
    pub id: IdpId,
    /// `okta`, `oidc`, `saml`.
    #[serde(rename = "type")]
    pub kind: String,
}

/// A header that tells origins what a provider says of people.
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
    /// They could not be learned; whatever depends on them does not help the person.
    Unknown,
}

/// Meaning of a groups claim or attribute that a provider leaves out (`absent_groups`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AbsentGroups {
    /// Nothing is known of the groups.
    #[default]
    Unknown,
    /// The user is in no group.
    Empty,
}

impl Groups {
    /// All of them, where they could be learned.
    pub fn known(&self) -> Option<&[Group]> {
        match self {
            Self::Known(groups) => Some(groups),
            Self::Unknown => None,
        }
    }

    /// Makes a claim `groups`, where one was asked for, say what these do: what it says by itself
    /// may have been cut, or left out for being too long.
    pub fn tell(&self, claims: &mut Map<String, Value>) {
        match self {
            Self::Known(groups) => {
                let names: Value = groups.iter().map(|group| group.name.as_str()).collect();
                let told = claims.iter_mut().filter(|(name, _)| is_groups(name));
                told.for_each(|(_, value)| value.clone_from(&names));
            }
            Self::Unknown => claims.retain(|name, _| !is_groups(name)),
        }
    }
}

/// What providers call the claim, by whatever letters.
pub(crate) fn is_groups(name: &str) -> bool {
    name.eq_ignore_ascii_case("groups")
}

/// Returns `true` if the names differ at most in case and in the white space around them.
#[cfg(feature = "protocols")]
pub(crate) fn is_nearly(name: &str, other: &str) -> bool {
    let folded = |name: &str| name.trim().to_lowercase();
    folded(name) == folded(other)
}

/// How a person's groups came to be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupsSeen {
    /// Who told them.
    pub source: GroupsSource,
    /// When.
    pub at: UnixTime,
}

/// Where groups are told.
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
    /// The provider's id; the name where it gave none.
    pub id: String,
    /// The name that rules compare, byte for byte.
    pub name: String,
}
