use serde_json::Value;

use super::UserClaims;
use super::claims::CLAIM_NAMES;
use super::lenient::strings;
use super::nested::{Found, find};
use crate::model::GroupsSource;

/// The claim with the user's groups: the configured one, or `groups` in upper or lower case.
///
/// A configured name is a claim name, or else a path into nested claims with `.` between the steps,
/// such as `realm_access.roles`. The whole name is tried first, because claim names may contain
/// dots (`https://ns.example/groups`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupsClaim(Option<String>);

/// The groups in one claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NamedGroups {
    /// The complete list of names, and the document that contains it.
    Names(Vec<String>, GroupsSource),
    /// Neither document has the claim.
    Absent,
    /// A reference to another source (OpenID Connect Core 5.6.2), and the document that contains
    /// it.
    Elsewhere(GroupsSource),
    /// The claim is present but not a list of names: the document that contains it, and the fault.
    /// The groups are then unknown.
    Unreadable(GroupsSource, &'static str),
}

impl GroupsClaim {
    /// The claim of this name; `None` selects `groups` in upper or lower case.
    pub const fn new(name: Option<String>) -> Self {
        Self(name)
    }

    /// Returns the claim name for messages.
    pub fn name(&self) -> &str {
        self.0.as_deref().unwrap_or("groups")
    }

    /// Reads the groups from the configured claim; `None` if none is configured.
    ///
    /// A reference in either document takes precedence over a list, which may be incomplete.
    /// Otherwise the ID token is read first. Accepted are a string, an array of strings, or the
    /// keys of an object whose values are objects, as in `{"admin": {"orgid": "org.example"}}`.
    pub(super) fn find_groups(
        &self,
        id_token: &UserClaims,
        userinfo: Option<&UserClaims>,
    ) -> Option<NamedGroups> {
        let name = self.0.as_deref()?;
        for (claims, source) in Self::sources(id_token, userinfo) {
            if claims.has_reference_to(name) {
                return Some(NamedGroups::Elsewhere(source));
            }
        }
        for (claims, source) in Self::sources(id_token, userinfo) {
            match find(claims.as_map(), name) {
                Found::Value(value) => {
                    let names = names(value).map(|names| NamedGroups::Names(names, source));
                    return Some(
                        names.unwrap_or(NamedGroups::Unreadable(source, "no list of names")),
                    );
                }
                Found::Unreadable => {
                    return Some(NamedGroups::Unreadable(source, NOT_AN_OBJECT));
                }
                Found::Absent => {}
            }
        }
        // A similar name suggests a spelling mistake in the configuration. The groups are then
        // unknown rather than empty.
        let near = Self::sources(id_token, userinfo).find(|(claims, _)| claims.has_similar(name));
        Some(near.map_or(NamedGroups::Absent, |(_, source)| {
            NamedGroups::Unreadable(source, SIMILAR_NAME)
        }))
    }

    /// Returns the documents in the order in which they are read.
    pub(super) fn sources<'a>(
        id_token: &'a UserClaims,
        userinfo: Option<&'a UserClaims>,
    ) -> impl Iterator<Item = (&'a UserClaims, GroupsSource)> {
        let userinfo = userinfo.map(|claims| (claims, GroupsSource::Userinfo));
        std::iter::once((id_token, GroupsSource::IdToken)).chain(userinfo)
    }

    /// Returns `true` if the document states that it leaves claims out: `_claim_names` and
    /// `_claim_sources` (OpenID Connect Core 5.6.2), or `hasgroups` of Microsoft Entra ID.
    pub fn are_omitted_from(claims: &UserClaims) -> bool {
        [CLAIM_NAMES, "_claim_sources", "hasgroups"]
            .iter()
            .any(|name| claims.as_map().contains_key(*name))
    }
}

/// Returns the names, or `None` unless every entry is a name.
///
/// The value of a key in an object is a detail of the membership, such as the organisations in
/// which a role was granted. A key without any may be no membership.
fn names(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::Object(all) => {
            let granted =
                |detail: &Value| detail.as_object().is_some_and(|detail| !detail.is_empty());
            all.iter()
                .map(|(name, detail)| granted(detail).then(|| name.clone()))
                .collect()
        }
        other => strings(other),
    }
}

/// The fault of a claim with a name that differs from the configured one only in case or spaces.
pub(super) const SIMILAR_NAME: &str = "a claim with a similar name";

/// The fault of a path that leads through a value without members.
pub(super) const NOT_AN_OBJECT: &str = "a step of the path is not an object";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn claims(value: &Value) -> UserClaims {
        UserClaims::parse(value.to_string().as_bytes()).unwrap()
    }

    fn named(name: &str, id_token: &Value, userinfo: &Value) -> NamedGroups {
        let claim = GroupsClaim::new(Some(name.to_owned()));
        claim
            .find_groups(&claims(id_token), Some(&claims(userinfo)))
            .unwrap()
    }

    fn near() -> NamedGroups {
        NamedGroups::Unreadable(GroupsSource::IdToken, "a claim with a similar name")
    }

    fn no_list() -> NamedGroups {
        NamedGroups::Unreadable(GroupsSource::IdToken, "no list of names")
    }

    fn found(names: &[&str]) -> NamedGroups {
        NamedGroups::Names(
            names.iter().map(ToString::to_string).collect(),
            GroupsSource::IdToken,
        )
    }

    #[test]
    fn named_claim_is_the_exact_member_before_a_path() {
        let none = json!({});
        for (name, id_token, expected) in [
            ("roles", json!({"roles": ["a", "b"]}), found(&["a", "b"])),
            ("roles", json!({"roles": "a"}), found(&["a"])),
            (
                "realm_access.roles",
                json!({"realm_access": {"roles": ["a"]}}),
                found(&["a"]),
            ),
            (
                "https://ns.example/groups",
                json!({"https://ns.example/groups": ["a"]}),
                found(&["a"]),
            ),
            (
                "https://ns.example/app.roles",
                json!({"https://ns.example/app": {"roles": ["a"]}}),
                found(&["a"]),
            ),
            (
                "a.b",
                json!({"a.b": ["whole"], "a": {"b": ["path"]}}),
                found(&["whole"]),
            ),
            (
                "a.b",
                json!({"a.b": null, "a": {"b": ["path"]}}),
                found(&["path"]),
            ),
            (
                "r.my.app.roles",
                json!({"r": {"my.app": {"roles": ["a"]}}}),
                found(&["a"]),
            ),
            ("roles", json!({"Roles": ["a"]}), near()),
            ("Roles", json!({"roles": []}), near()),
            ("roles", json!({" roles ": ["a"]}), near()),
            (
                "realm_access.roles",
                json!({"realm_access": {"Roles": ["a"]}}),
                near(),
            ),
            (
                "realm_access.roles",
                json!({"Realm_Access": {"roles": ["a"]}}),
                near(),
            ),
            (
                "realm_access.roles",
                json!({"Realm_Access": ["roles"]}),
                near(),
            ),
            (
                "realm_access.roles",
                json!({"REALM_ACCESS.ROLES": ["a"]}),
                near(),
            ),
            ("Größe", json!({"GRÖßE": ["a"]}), near()),
            ("roles", json!({"_claim_names": {"Roles": "src1"}}), near()),
            (
                "realm_access.roles",
                json!({"Realm_Access": {"groups": ["a"]}}),
                NamedGroups::Absent,
            ),
            ("roles", json!({"Roles": null}), NamedGroups::Absent),
            (
                "roles",
                json!({"Roles": ["a"], "roles": ["b"]}),
                found(&["b"]),
            ),
            (
                "roles",
                json!({"role": ["a"], "rolesx": 1}),
                NamedGroups::Absent,
            ),
            ("roles", json!({"groups": ["a"]}), NamedGroups::Absent),
            ("a.b", json!({"a": {}}), NamedGroups::Absent),
            ("a.b", json!({"a": null}), NamedGroups::Absent),
            (
                "a.b",
                json!({"a": ["b"]}),
                NamedGroups::Unreadable(
                    GroupsSource::IdToken,
                    "a step of the path is not an object",
                ),
            ),
            ("a.b", json!({"a": {"b": 7}}), no_list()),
            ("roles", json!({"roles": ["a", 1]}), no_list()),
            ("roles", json!({"roles": [{"name": "a"}]}), no_list()),
            ("roles", json!({"roles": true}), no_list()),
            ("roles", json!({"roles": []}), found(&[])),
            (".", json!({"": {"": ["a"]}}), found(&["a"])),
        ] {
            assert_eq!(
                named(name, &id_token, &none),
                expected,
                "{name} in {id_token}"
            );
        }
    }

    #[test]
    fn object_keys_are_names_if_each_has_a_detail() {
        let claim = "urn:zitadel:iam:org:project:roles";
        for (roles, expected) in [
            (
                json!({"admin": {"1": "a.example"}, "user": {"1": "a.example", "2": "b.example"}}),
                found(&["admin", "user"]),
            ),
            (json!({}), found(&[])),
            (json!({"admin": {}}), no_list()),
            (
                json!({"admin": {"1": "a.example"}, "user": null}),
                no_list(),
            ),
            (json!({"admin": false}), no_list()),
            (json!({"admin": ["1"]}), no_list()),
        ] {
            assert_eq!(
                named(claim, &json!({ claim: roles }), &json!({})),
                expected,
                "{roles}"
            );
        }
    }

    #[test]
    fn userinfo_fills_in_what_the_id_token_leaves_out() {
        let in_userinfo = NamedGroups::Names(vec!["b".to_owned()], GroupsSource::Userinfo);
        assert_eq!(named("r", &json!({}), &json!({"r": ["b"]})), in_userinfo);
        assert_eq!(
            named("r", &json!({"r": null}), &json!({"r": ["b"]})),
            in_userinfo
        );
        assert_eq!(
            named("r", &json!({"r": ["a"]}), &json!({"r": ["b"]})),
            found(&["a"])
        );
        assert_eq!(
            named("r", &json!({"r": 1}), &json!({"r": ["b"]})),
            no_list()
        );
        assert_eq!(
            named("r", &json!({"R": ["a"]}), &json!({"r": ["b"]})),
            in_userinfo,
            "the exact name counts first"
        );
        let reference = json!({"_claim_names": {"r": "src1"}});
        let elsewhere = NamedGroups::Elsewhere(GroupsSource::IdToken);
        assert_eq!(named("r", &reference, &json!({})), elsewhere);
        assert_eq!(named("r.x", &reference, &json!({})), elsewhere);
        assert_eq!(
            named("r", &reference, &json!({"r": ["perhaps a part"]})),
            elsewhere
        );
        let beside = json!({"r": [], "_claim_names": {"r": "src1"}});
        assert_eq!(
            named("r", &json!({"r": ["a"]}), &beside),
            NamedGroups::Elsewhere(GroupsSource::Userinfo)
        );
        assert_eq!(named("rx", &reference, &json!({})), NamedGroups::Absent);
        assert_eq!(
            GroupsClaim::default().find_groups(&claims(&json!({"groups": ["a"]})), None),
            None
        );
    }

    #[test]
    fn claims_are_left_out_if_a_document_says_so() {
        for left_out in [
            json!({"_claim_names": {}}),
            json!({"_claim_names": null}),
            json!({"hasgroups": true}),
            json!({"_claim_sources": {}}),
        ] {
            assert!(
                GroupsClaim::are_omitted_from(&claims(&left_out)),
                "{left_out}"
            );
        }
        assert!(!GroupsClaim::are_omitted_from(&claims(
            &json!({"groups": null})
        )));
    }
}
