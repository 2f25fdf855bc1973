use serde_json::{Map, Value};

use super::UserClaims;
use crate::model::{GroupsSource, is_groups};

/// The claim that lists the groups of a user: `groups` in any letters, or the one that the configuration names.
///
/// A configured name is the name of a claim, or else a path into nested claims whose steps are separated by `.`, such as
/// `realm_access.roles`. The whole name is tried first, because names of claims may contain dots (`https://ns.example/groups`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupsClaim(Option<String>);

/// Groups in a claim that the configuration names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamedGroups {
    /// All the names, and the document that they are in.
    Names(Vec<String>, GroupsSource),
    /// Neither document has the claim.
    Absent,
    /// A reference to another place (OpenID Connect Core 5.6.2).
    Elsewhere,
    /// The claim is there and is not a list of names. Nothing is known of the groups then.
    Unreadable,
}

impl GroupsClaim {
    /// The claim of this name; `None` is `groups` in any letters.
    pub const fn new(name: Option<String>) -> Self {
        Self(name)
    }

    /// The name for messages.
    pub fn name(&self) -> &str {
        self.0.as_deref().unwrap_or("groups")
    }

    /// Reads the groups if the configuration names their claim; `None` if it does not.
    ///
    /// The ID token is read first. The names are a string, an array of strings, or the keys of an object whose values are
    /// objects, as in `{"admin": {"orgid": "org.example"}}`.
    pub fn named(&self, id_token: &UserClaims, userinfo: Option<&UserClaims>) -> Option<NamedGroups> {
        let name = self.0.as_deref()?;
        let sources = [(Some(id_token), GroupsSource::IdToken), (userinfo, GroupsSource::Userinfo)];
        for (claims, source) in sources {
            match claims.map_or(Found::Absent, |claims| find(claims.as_map(), name)) {
                Found::Value(value) => {
                    let names = names(value).map(|names| NamedGroups::Names(names, source));
                    return Some(names.unwrap_or(NamedGroups::Unreadable));
                }
                Found::Unreadable => return Some(NamedGroups::Unreadable),
                Found::Absent => {}
            }
        }
        let elsewhere = [Some(id_token), userinfo].into_iter().flatten().any(|claims| is_elsewhere(claims, name));
        Some(if elsewhere { NamedGroups::Elsewhere } else { NamedGroups::Absent })
    }

    /// Returns `true` if the document has no such claim, in whatever form.
    pub fn is_absent_from(&self, claims: &UserClaims) -> bool {
        match &self.0 {
            Some(name) => matches!(find(claims.as_map(), name), Found::Absent),
            None => !claims.as_map().iter().any(|(name, value)| is_groups(name) && !value.is_null()),
        }
    }

    /// Returns `true` if the document says that claims are left out of it: `_claim_names` (OpenID Connect Core 5.6.2), or
    /// `hasgroups` of Microsoft Entra ID.
    pub fn are_left_out_of(claims: &UserClaims) -> bool {
        claims.as_map().contains_key("_claim_names") || claims.as_map().contains_key("hasgroups")
    }
}

/// The outcome of a search for a claim.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Found<'a> {
    Value(&'a Value),
    Absent,
    /// A step of the path leads into something that is not an object.
    Unreadable,
}

/// The member of that whole name, or else the one at the end of the path. `null` is absent (OpenID Connect Core 5.3.2).
pub(super) fn find<'a>(object: &'a Map<String, Value>, name: &str) -> Found<'a> {
    if let Some(value) = object.get(name).filter(|value| !value.is_null()) {
        return Found::Value(value);
    }
    let mut outcome = Found::Absent;
    for (dot, _) in name.rmatch_indices('.') {
        let (Some(step), Some(rest)) = (name.get(..dot), name.get(dot + 1..)) else { continue };
        match object.get(step) {
            Some(Value::Object(inner)) => match find(inner, rest) {
                Found::Absent => {}
                found => return found,
            },
            None | Some(Value::Null) => {}
            Some(_) => outcome = Found::Unreadable,
        }
    }
    outcome
}

/// `None` unless every entry is a name. The value of a key is a detail of the membership, such as the organisations that a role
/// was granted in; without any there may be no membership.
fn names(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::String(one) => Some(vec![one.clone()]),
        Value::Array(all) => all.iter().map(|one| one.as_str().map(str::to_owned)).collect(),
        Value::Object(all) => {
            let granted = |detail: &Value| detail.as_object().is_some_and(|detail| !detail.is_empty());
            all.iter().map(|(name, detail)| granted(detail).then(|| name.clone())).collect()
        }
        _ => None,
    }
}

fn is_elsewhere(claims: &UserClaims, name: &str) -> bool {
    let Some(Value::Object(references)) = claims.get("_claim_names") else { return false };
    let leads_to =
        |claim: &String| name.strip_prefix(claim.as_str()).is_some_and(|r| r.is_empty() || r.starts_with('.'));
    references.keys().any(leads_to)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn claims(value: &Value) -> UserClaims {
        UserClaims::parse(value.to_string().as_bytes()).unwrap()
    }

    fn named(name: &str, id_token: &Value, userinfo: &Value) -> NamedGroups {
        let claim = GroupsClaim::new(Some(name.to_owned()));
        claim.named(&claims(id_token), Some(&claims(userinfo))).unwrap()
    }

    fn found(names: &[&str]) -> NamedGroups {
        NamedGroups::Names(names.iter().map(ToString::to_string).collect(), GroupsSource::IdToken)
    }

    #[test]
    fn named_claim_is_the_exact_member_before_a_path() {
        let none = json!({});
        for (name, id_token, expected) in [
            ("roles", json!({"roles": ["a", "b"]}), found(&["a", "b"])),
            ("roles", json!({"roles": "a"}), found(&["a"])),
            ("realm_access.roles", json!({"realm_access": {"roles": ["a"]}}), found(&["a"])),
            ("https://ns.example/groups", json!({"https://ns.example/groups": ["a"]}), found(&["a"])),
            ("https://ns.example/app.roles", json!({"https://ns.example/app": {"roles": ["a"]}}), found(&["a"])),
            ("a.b", json!({"a.b": ["whole"], "a": {"b": ["path"]}}), found(&["whole"])),
            ("a.b", json!({"a.b": null, "a": {"b": ["path"]}}), found(&["path"])),
            ("r.my.app.roles", json!({"r": {"my.app": {"roles": ["a"]}}}), found(&["a"])),
            ("roles", json!({"Roles": ["a"]}), NamedGroups::Absent),
            ("roles", json!({"groups": ["a"]}), NamedGroups::Absent),
            ("a.b", json!({"a": {}}), NamedGroups::Absent),
            ("a.b", json!({"a": null}), NamedGroups::Absent),
            ("a.b", json!({"a": ["b"]}), NamedGroups::Unreadable),
            ("a.b", json!({"a": {"b": 7}}), NamedGroups::Unreadable),
            ("roles", json!({"roles": ["a", 1]}), NamedGroups::Unreadable),
            ("roles", json!({"roles": [{"name": "a"}]}), NamedGroups::Unreadable),
            ("roles", json!({"roles": true}), NamedGroups::Unreadable),
            ("roles", json!({"roles": []}), found(&[])),
            (".", json!({"": {"": ["a"]}}), found(&["a"])),
        ] {
            assert_eq!(named(name, &id_token, &none), expected, "{name} in {id_token}");
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
            (json!({"admin": {}}), NamedGroups::Unreadable),
            (json!({"admin": {"1": "a.example"}, "user": null}), NamedGroups::Unreadable),
            (json!({"admin": false}), NamedGroups::Unreadable),
            (json!({"admin": ["1"]}), NamedGroups::Unreadable),
        ] {
            assert_eq!(named(claim, &json!({ claim: roles }), &json!({})), expected, "{roles}");
        }
    }

    #[test]
    fn userinfo_fills_in_what_the_id_token_leaves_out() {
        let in_userinfo = NamedGroups::Names(vec!["b".to_owned()], GroupsSource::Userinfo);
        assert_eq!(named("r", &json!({}), &json!({"r": ["b"]})), in_userinfo);
        assert_eq!(named("r", &json!({"r": null}), &json!({"r": ["b"]})), in_userinfo);
        assert_eq!(named("r", &json!({"r": ["a"]}), &json!({"r": ["b"]})), found(&["a"]));
        assert_eq!(named("r", &json!({"r": 1}), &json!({"r": ["b"]})), NamedGroups::Unreadable);
        let reference = json!({"_claim_names": {"r": "src1"}});
        assert_eq!(named("r", &reference, &json!({})), NamedGroups::Elsewhere);
        assert_eq!(named("r.x", &reference, &json!({})), NamedGroups::Elsewhere);
        assert_eq!(named("rx", &reference, &json!({})), NamedGroups::Absent);
        assert_eq!(GroupsClaim::default().named(&claims(&json!({"groups": ["a"]})), None), None);
    }

    #[test]
    fn absence_is_the_lack_of_any_form_of_the_claim() {
        let default = GroupsClaim::default();
        for present in [json!({"groups": []}), json!({"Groups": 7}), json!({"GROUPS": {"a": 1}})] {
            assert!(!default.is_absent_from(&claims(&present)), "{present}");
        }
        assert!(default.is_absent_from(&claims(&json!({"groups": null, "roles": ["a"]}))));
        let named = GroupsClaim::new(Some("a.b".to_owned()));
        assert!(!named.is_absent_from(&claims(&json!({"a": 1}))) && named.is_absent_from(&claims(&json!({"a": {}}))));
        for left_out in [json!({"_claim_names": {}}), json!({"_claim_names": null}), json!({"hasgroups": true})] {
            assert!(GroupsClaim::are_left_out_of(&claims(&left_out)), "{left_out}");
        }
        assert!(!GroupsClaim::are_left_out_of(&claims(&json!({"groups": null}))));
    }
}
