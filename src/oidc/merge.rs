//! Combines the claims of the ID token and the userinfo response.

use serde_json::{Map, Value};

use super::callback::one_line;
use super::claims::CLAIM_NAMES;
use super::groups_claim::{NOT_AN_OBJECT, SIMILAR_NAME};
use super::lenient::{boolean, json_type, strings};
use super::nested::Found;
use super::{GroupsClaim, NamedGroups, UserClaims, VerifiedIdToken};
use crate::model::{GroupsSource, is_groups};

/// The claims of the ID token and the userinfo response, combined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MergedClaims {
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

impl ClaimedEmail {
    fn as_str(&self) -> Option<&str> {
        match self {
            Self::Claimed(text) => Some(text),
            Self::Absent | Self::Unreadable => None,
        }
    }
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
) -> MergedClaims {
    let mut documents = Documents {
        id_token: &id_token.claims,
        userinfo,
        unreadable: Vec::new(),
    };
    let email = documents.email(email_claim);
    let email_verified = documents.email_verified(email_claim, &email);
    let (groups, groups_source) = documents.groups(groups_claim);
    let references = documents.references();
    let groups = match (groups, references) {
        (ClaimedGroups::Absent, References::Unreadable) => ClaimedGroups::Unreadable,
        (groups, _) => groups,
    };
    let amr = documents.amr();
    let name = documents.name();
    for claim in [email_claim, "email_verified", "amr"] {
        documents.note_reference(claim);
    }
    let (claims, unproven) = documents.configured(wanted, absence, references);
    MergedClaims {
        subject: id_token.subject.clone(),
        email,
        email_verified,
        name,
        groups,
        groups_source,
        amr,
        claims,
        unproven,
        unreadable: documents.unreadable,
    }
}

/// The documents to combine, and the faults found in them so far.
struct Documents<'a> {
    id_token: &'a UserClaims,
    userinfo: Option<&'a UserClaims>,
    unreadable: Vec<String>,
}

/// The lists of references to other sources (`_claim_names`).
#[derive(Clone, Copy, PartialEq, Eq)]
enum References {
    Readable,
    /// A list is unreadable, so it may refer to any claim.
    Unreadable,
}

impl<'a> Documents<'a> {
    /// Returns the documents with their names, in order of precedence.
    fn iter(&self) -> impl Iterator<Item = (&'static str, &'a UserClaims)> + use<'a> {
        let userinfo = self.userinfo.map(|claims| (USERINFO, claims));
        std::iter::once((ID_TOKEN, self.id_token)).chain(userinfo)
    }

    /// Returns the first value of a claim, and the document that contains it.
    fn find(&self, claim: &str) -> Option<(&'static str, &'a Value)> {
        self.iter()
            .find_map(|(document, claims)| Some((document, claims.get(claim)?)))
    }

    /// Returns the document in which a reference replaces the claim.
    fn reference_to(&self, claim: &str) -> Option<&'static str> {
        self.iter()
            .find(|(_, claims)| claims.has_reference_to(claim))
            .map(|(document, _)| document)
    }

    fn note(&mut self, claim: &str, document: &str, fault: &str) {
        self.unreadable.push(format!(
            "`{}` in the {document}: {fault}",
            one_line(claim, 64)
        ));
    }

    fn note_reference(&mut self, claim: &str) {
        if let (None, Some(document)) = (self.find(claim), self.reference_to(claim)) {
            self.note(claim, document, REFERENCE);
        }
    }

    fn email(&mut self, claim: &str) -> ClaimedEmail {
        // An empty address counts as absent, like null.
        let stated = self.iter().find_map(|(document, claims)| {
            let value = claims.get(claim)?;
            (value.as_str() != Some("")).then_some((document, value))
        });
        let Some((document, value)) = stated else {
            return ClaimedEmail::Absent;
        };
        if let Some(address) = single_address(value) {
            return ClaimedEmail::Claimed(address);
        }
        self.note(claim, document, json_type(value));
        ClaimedEmail::Unreadable
    }

    fn email_verified(&mut self, email_claim: &str, email: &ClaimedEmail) -> Option<bool> {
        let mut combined = None;
        for (document, claims) in self.iter() {
            let Some(value) = claims.get("email_verified") else {
                continue;
            };
            let verified = boolean(value).unwrap_or_else(|| {
                self.note("email_verified", document, json_type(value));
                false
            });
            // A document can vouch for its own address only, not for a different address in the
            // other document.
            let is_about_another = claims
                .get(email_claim)
                .is_some_and(|own| single_address(own).as_deref() != email.as_str());
            if !verified || !is_about_another {
                combined = Some(combined.unwrap_or(true) && verified);
            }
        }
        // A reference replaces the value, which is therefore unknown and may be false.
        if self.find("email_verified").is_none() && self.reference_to("email_verified").is_some() {
            combined = Some(false);
        }
        combined
    }

    fn groups(&mut self, claim: &GroupsClaim) -> (ClaimedGroups, GroupsSource) {
        let found = claim
            .find_groups(self.id_token, self.userinfo)
            .unwrap_or_else(|| groups_in_any_case(self.id_token, self.userinfo));
        match found {
            NamedGroups::Names(names, source) => (ClaimedGroups::Claimed(names), source),
            NamedGroups::Absent => (ClaimedGroups::Absent, GroupsSource::Userinfo),
            NamedGroups::Elsewhere(source) => {
                self.note(claim.name(), document_name(source), REFERENCE);
                (ClaimedGroups::Elsewhere, source)
            }
            NamedGroups::Unreadable(source, fault) => {
                self.note(claim.name(), document_name(source), fault);
                (ClaimedGroups::Unreadable, source)
            }
        }
    }

    fn references(&mut self) -> References {
        let mut references = References::Readable;
        for (document, claims) in self.iter() {
            if let Some(names) = claims.get(CLAIM_NAMES).filter(|names| !names.is_object()) {
                self.note(CLAIM_NAMES, document, json_type(names));
                references = References::Unreadable;
            }
        }
        references
    }

    fn amr(&mut self) -> Option<Vec<String>> {
        let (document, value) = self.find("amr")?;
        let methods = strings(value);
        if methods.is_none() {
            self.note("amr", document, json_type(value));
        }
        methods
    }

    fn name(&mut self) -> Option<String> {
        let (document, value) = self.find("name")?;
        let Some(name) = value.as_str() else {
            self.note("name", document, json_type(value));
            return None;
        };
        (!name.is_empty()).then(|| name.to_owned())
    }

    /// Returns the configured claims, and the names of those whose absence is not proven.
    fn configured(
        &mut self,
        wanted: &[String],
        absence: Absence,
        references: References,
    ) -> (Map<String, Value>, Vec<String>) {
        let (mut kept, mut unproven) = (Map::new(), Vec::new());
        for claim in wanted {
            // A value beside a reference may be incomplete.
            if let Some(document) = self.reference_to(claim) {
                if !is_groups(claim) {
                    self.note(claim, document, REFERENCE);
                }
                continue;
            }
            let similar = self.iter().find(|(_, claims)| claims.has_similar(claim));
            let mut found = self
                .iter()
                .map(|(document, claims)| (document, claims.find(claim)));
            match found.find(|(_, found)| *found != Found::Absent) {
                Some((_, Found::Value(value))) => drop(kept.insert(claim.clone(), value.clone())),
                Some((document, Found::Unreadable)) => self.note(claim, document, NOT_AN_OBJECT),
                // The groups replace the null once they are known.
                _ if is_groups(claim) => drop(kept.insert(claim.clone(), Value::Null)),
                _ if references == References::Unreadable => {}
                _ => match similar {
                    Some((document, _)) => self.note(claim, document, SIMILAR_NAME),
                    None if absence == Absence::Unproven => unproven.push(claim.clone()),
                    None => drop(kept.insert(claim.clone(), Value::Null)),
                },
            }
        }
        (kept, unproven)
    }
}

/// Reads the claim `groups`, in upper or lower case. A reference in either document takes
/// precedence over a list.
fn groups_in_any_case(id_token: &UserClaims, userinfo: Option<&UserClaims>) -> NamedGroups {
    let sources = || GroupsClaim::sources(id_token, userinfo);
    if let Some((_, source)) = sources().find(|(claims, _)| claims.references().any(is_groups)) {
        return NamedGroups::Elsewhere(source);
    }
    let found = sources()
        .find_map(|(claims, source)| Some((claims.get(groups_claim_name(claims))?, source)));
    match found {
        None => NamedGroups::Absent,
        Some((value, source)) => match strings(value) {
            Some(names) => NamedGroups::Names(names, source),
            None => NamedGroups::Unreadable(source, json_type(value)),
        },
    }
}

/// Returns the email address from a string, or from a list with one entry: Azure AD B2C sends a
/// list in `emails`.
fn single_address(value: &Value) -> Option<String> {
    strings(value)
        .filter(|all| all.len() == 1)
        .and_then(|all| all.into_iter().next())
}

/// Returns the actual name of the claim `groups` in this document; the case may differ.
fn groups_claim_name(claims: &UserClaims) -> &str {
    let named = |name: &&String| is_groups(name);
    match claims.get("groups") {
        Some(_) => "groups",
        None => claims
            .as_map()
            .keys()
            .filter(named)
            .find(|name| claims.get(name).is_some())
            .map_or("groups", |name| name),
    }
}

const fn document_name(source: GroupsSource) -> &'static str {
    match source {
        GroupsSource::IdToken => ID_TOKEN,
        _ => USERINFO,
    }
}

/// The name of the ID token in messages.
const ID_TOKEN: &str = "ID token";
/// The name of the userinfo response in messages.
const USERINFO: &str = "userinfo response";

/// The fault of a claim that a reference replaces.
const REFERENCE: &str = "a reference in `_claim_names`";
