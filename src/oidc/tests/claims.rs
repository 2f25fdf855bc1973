//! Claims of the ID token and the userinfo response, combined.

use proptest::prelude::*;

use super::documents::odd_value;
use super::*;

pub(super) fn merged(id_token: Value, userinfo: Value) -> MergedClaims {
    merged_with(&GroupsClaim::default(), id_token, userinfo)
}

pub(super) fn merged_with(
    groups_claim: &GroupsClaim,
    id_token: Value,
    userinfo: Value,
) -> MergedClaims {
    let claims = UserClaims::parse(id_token.to_string().as_bytes()).unwrap();
    let userinfo = UserClaims::parse(userinfo.to_string().as_bytes()).unwrap();
    let wanted = [
        "department".to_owned(),
        "missing".to_owned(),
        "level".to_owned(),
    ];
    let id_token = VerifiedIdToken {
        subject: "00u1".into(),
        claims,
    };
    merge(
        &id_token,
        Some(&userinfo),
        "email",
        groups_claim,
        &wanted,
        Absence::Proven,
    )
}

#[test]
fn userinfo_adds_missing_claims() {
    let profile = merged(
        json!({"email": "a@corp.example", "amr": ["pwd", "mfa"], "department": null, "level": 3}),
        json!({"email": "b@corp.example", "email_verified": "true", "name": "Ann", "groups": ["x", "y"], "department": ["R"], "locale": 1}),
    );
    assert_eq!(
        profile.email,
        ClaimedEmail::Claimed("a@corp.example".into())
    );
    assert_eq!(
        (profile.email_verified, profile.name.as_deref()),
        (None, Some("Ann")),
        "verified is another address"
    );
    assert_eq!(
        profile.groups,
        ClaimedGroups::Claimed(vec!["x".into(), "y".into()])
    );
    assert_eq!(profile.amr, Some(vec!["pwd".into(), "mfa".into()]));
    assert_eq!(
        Value::Object(profile.claims),
        json!({"department": ["R"], "level": 3, "missing": null})
    );
    let groups = |claims: Value| merged(json!({}), claims).groups;
    assert_eq!(groups(json!({})), ClaimedGroups::Absent);
    assert_eq!(groups(json!({"groups": null})), ClaimedGroups::Absent);
    assert_eq!(
        groups(json!({"groups": []})),
        ClaimedGroups::Claimed(vec![])
    );
    assert_eq!(
        groups(json!({"groups": "x"})),
        ClaimedGroups::Claimed(vec!["x".into()])
    );
    assert_eq!(
        groups(json!({"_claim_names": {"groups": "src1"}})),
        ClaimedGroups::Elsewhere
    );
    for odd in [json!({"x": 1}), json!(1), json!(["x", 1]), json!([["x"]])] {
        assert_eq!(
            groups(json!({"groups": odd})),
            ClaimedGroups::Unreadable,
            "{odd}"
        );
    }
}

#[test]
fn unreadable_groups_are_unknown_and_named_in_the_log() {
    for (odd, json_type) in [
        (json!({"x": 1}), "an object"),
        (json!(1), "a number"),
        (json!(true), "a boolean"),
        (json!(["x", 1]), "a list with a number in it"),
        (json!(["x", {"name": "y"}]), "a list with an object in it"),
        (json!(["x", null]), "a list with null in it"),
        (json!([["x"]]), "a list with a list in it"),
    ] {
        let profile = merged(json!({"email": "a@b.c"}), json!({"groups": odd}));
        assert_eq!(profile.groups, ClaimedGroups::Unreadable, "{odd}");
        assert_eq!(
            profile.unreadable,
            [format!("`groups` in the userinfo response: {json_type}")]
        );
        // Another list beside it does not make the groups known.
        let profile = merged(json!({"groups": odd}), json!({"groups": ["x"]}));
        assert_eq!(profile.groups, ClaimedGroups::Unreadable, "{odd}");
    }
    let profile = merged(json!({"amr": 7, "name": ["Ann"]}), json!({}));
    assert_eq!((profile.amr, profile.name), (None, None));
    assert_eq!(
        profile.unreadable,
        [
            "`amr` in the ID token: a number",
            "`name` in the ID token: a list of strings"
        ]
    );
    // An unreadable reference may refer to the groups.
    for names in [json!("groups"), json!(["groups"]), json!(1)] {
        let profile = merged(json!({"_claim_names": names}), json!({}));
        assert_eq!(
            (profile.groups, profile.claims.get("missing")),
            (ClaimedGroups::Unreadable, None),
            "{names}"
        );
    }
    let null = merged(json!({"_claim_names": {"groups": null}}), json!({}));
    assert_eq!(null.groups, ClaimedGroups::Elsewhere);
    assert_eq!(
        null.unreadable,
        ["`groups` in the ID token: a reference in `_claim_names`"]
    );
    // A value beside a reference may be incomplete.
    let part = merged(
        json!({"level": 3, "department": "R"}),
        json!({"_claim_names": {"level": "src1"}}),
    );
    assert_eq!(
        Value::Object(part.claims),
        json!({"department": "R", "missing": null})
    );
    assert_eq!(
        part.unreadable,
        ["`level` in the userinfo response: a reference in `_claim_names`"]
    );
    assert_eq!(
        merged(json!({"_claim_names": {"x": "y"}}), json!({})).groups,
        ClaimedGroups::Absent
    );
}

#[test]
fn claim_with_a_similar_name_is_unknown() {
    for near in ["Missing", "MISSING", " missing"] {
        let profile = merged(json!({}), json!({ near: "x" }));
        assert_eq!(profile.claims.get("missing"), None, "{near}");
        assert_eq!(
            profile.unreadable,
            ["`missing` in the userinfo response: a claim with a similar name"]
        );
    }
    let reference = merged(json!({"_claim_names": {"Missing": "src1"}}), json!({}));
    assert_eq!(
        (reference.claims.get("missing"), reference.unreadable.len()),
        (None, 1)
    );
    let exact = merged(json!({"Level": 1}), json!({"level": 2}));
    assert_eq!(
        (exact.claims.get("level"), exact.unreadable.len()),
        (Some(&json!(2)), 0)
    );
    assert_eq!(
        merged(json!({"Missing": null}), json!({}))
            .claims
            .get("missing"),
        Some(&Value::Null)
    );
}

#[test]
fn unproven_absence_omits_all_claims_but_the_groups() {
    let claims = UserClaims::parse(br#"{"level": 3}"#).unwrap();
    let id_token = VerifiedIdToken {
        subject: "00u1".into(),
        claims,
    };
    let wanted = ["level", "department", "groups"].map(str::to_owned);
    let merged = |absence| {
        merge(
            &id_token,
            None,
            "email",
            &GroupsClaim::default(),
            &wanted,
            absence,
        )
    };
    // If a directory lists the groups, they replace the null. Otherwise the null is removed.
    let unproven = merged(Absence::Unproven);
    assert_eq!(
        Value::Object(unproven.claims),
        json!({"level": 3, "groups": null})
    );
    assert_eq!(unproven.unproven, ["department"]);
    let proven = merged(Absence::Proven);
    assert_eq!(
        Value::Object(proven.claims),
        json!({"level": 3, "department": null, "groups": null})
    );
}

#[test]
fn configured_claim_can_be_nested() {
    let both = |id_token: Value, userinfo: Value| {
        let claims = UserClaims::parse(id_token.to_string().as_bytes()).unwrap();
        let userinfo = UserClaims::parse(userinfo.to_string().as_bytes()).unwrap();
        let wanted = ["realm_access.roles".to_owned()];
        let token = VerifiedIdToken {
            subject: "00u1".into(),
            claims,
        };
        merge(
            &token,
            Some(&userinfo),
            "email",
            &GroupsClaim::default(),
            &wanted,
            Absence::Proven,
        )
    };
    let kept = |id_token: Value, userinfo: Value| {
        both(id_token, userinfo).claims.remove("realm_access.roles")
    };
    let none = json!({});
    assert_eq!(
        kept(json!({"realm_access": {"roles": ["a"]}}), none.clone()),
        Some(json!(["a"]))
    );
    assert_eq!(
        kept(none.clone(), json!({"realm_access": {"roles": "a"}})),
        Some(json!("a"))
    );
    assert_eq!(
        kept(
            json!({"realm_access.roles": 1, "realm_access": {"roles": 2}}),
            none.clone()
        ),
        Some(json!(1))
    );
    assert_eq!(
        kept(json!({"realm_access": {}}), none.clone()),
        Some(Value::Null)
    );
    assert_eq!(
        kept(json!({"_claim_names": {"realm": "s"}}), none.clone()),
        Some(Value::Null)
    );
    // The claim is unknown and named in the log.
    let roles = json!({"realm_access": {"roles": "a"}});
    for (id_token, userinfo, fault) in [
        (
            json!({"realm_access": ["roles"]}),
            &roles,
            "ID token: a step of the path is not an object",
        ),
        (
            json!({"_claim_names": {"realm_access": "s"}}),
            &none,
            "ID token: a reference in `_claim_names`",
        ),
        (
            json!({"_claim_names": {"realm_access": "s"}}),
            &roles,
            "ID token: a reference in `_claim_names`",
        ),
        (
            json!({"Realm_Access": {"roles": ["a"]}}),
            &none,
            "ID token: a claim with a similar name",
        ),
        (
            json!({"realm_access": {"Roles": ["a"]}}),
            &none,
            "ID token: a claim with a similar name",
        ),
    ] {
        let profile = both(id_token.clone(), userinfo.clone());
        assert_eq!(profile.claims.get("realm_access.roles"), None, "{id_token}");
        assert_eq!(
            profile.unreadable,
            [format!("`realm_access.roles` in the {fault}")],
            "{id_token}"
        );
    }
}

#[test]
fn referenced_claims_are_unknown_and_named_in_the_log() {
    let profile = merged(
        json!({"_claim_names": {"email": "src1", "amr": "src1", "birthdate": "src1"}}),
        json!({}),
    );
    assert_eq!((profile.email, profile.amr), (ClaimedEmail::Absent, None));
    let named = ["email", "amr"]
        .map(|name| format!("`{name}` in the ID token: a reference in `_claim_names`"));
    assert_eq!(profile.unreadable, named);
    let filled = merged(
        json!({"_claim_names": {"email": "src1"}}),
        json!({"email": "a@b.c"}),
    );
    assert_eq!(
        (filled.email, filled.unreadable),
        (ClaimedEmail::Claimed("a@b.c".into()), vec![])
    );
}

#[test]
fn claim_that_is_not_the_groups_claim_is_not_read() {
    let roles = GroupsClaim::new(Some("roles".into()));
    let profile = merged_with(
        &roles,
        json!({"groups": 7, "_claim_names": {"groups": "src1"}}),
        json!({"roles": "x"}),
    );
    assert_eq!(
        (profile.groups, profile.unreadable),
        (ClaimedGroups::Claimed(vec!["x".into()]), vec![])
    );
    let profile = merged_with(&roles, json!({"groups": ["x"]}), json!({"roles": 7}));
    assert_eq!(profile.groups, ClaimedGroups::Unreadable);
    assert_eq!(
        profile.unreadable,
        ["`roles` in the userinfo response: no list of names"]
    );
}

proptest! {
    #[test]
    fn no_claims_panic(name in "email|email_verified|groups|Groups|amr|name|_claim_names|_claim_sources|department", a in odd_value(), b in odd_value()) {
        let _ = merged(json!({ name.clone(): a }), json!({ name: b }));
    }
}
