//! Logins without groups in the provider's response.

use serde_json::{Value, json};

use super::clients::generic;
use super::stand_in::StandIn;
use super::*;
use crate::model::AbsentGroups;

fn named(op: &StandIn, claim: Option<&str>, absent: AbsentGroups) -> Provider {
    generic(op, |settings| {
        settings.groups_claim = GroupsClaim::new(claim.map(str::to_owned));
        settings.absent_groups = absent;
    })
}

async fn login(op: &StandIn, provider: &Provider) -> (Option<Vec<String>>, Option<GroupsMissing>) {
    let profile = op.login(provider).await.unwrap();
    let groups = profile
        .groups
        .known()
        .map(|groups| groups.iter().map(|group| group.name.clone()).collect());
    (groups, profile.groups_missing)
}

#[tokio::test]
async fn absent_groups_are_unknown_by_default() {
    let op = StandIn::start().await;
    op.state().userinfo["groups"] = Value::Null;
    let provider = named(&op, None, AbsentGroups::Unknown);
    assert_eq!(
        login(&op, &provider).await,
        (None, Some(GroupsMissing::LeftOut))
    );
    let note = provider
        .groups_note(&op.login(&provider).await.unwrap())
        .unwrap();
    assert!(
        note.contains("no `groups`") && note.contains("`absent_groups = \"empty\"`"),
        "{note}"
    );
}

#[tokio::test]
async fn absent_groups_are_empty_if_configured() {
    let op = StandIn::start().await;
    let provider = named(&op, None, AbsentGroups::Empty);
    assert_eq!(
        login(&op, &provider).await,
        (Some(vec!["admins".to_owned()]), None)
    );
    op.state().userinfo["groups"] = Value::Null;
    assert_eq!(
        login(&op, &provider).await,
        (Some(vec![]), Some(GroupsMissing::TakenAsNone))
    );
    let note = provider
        .groups_note(&op.login(&provider).await.unwrap())
        .unwrap();
    assert!(
        note.contains("in no group") && !note.contains("unknown"),
        "{note}"
    );
    op.state().id_token = json!({"groups": ["in the ID token"]});
    assert_eq!(
        login(&op, &provider).await,
        (Some(vec!["in the ID token".to_owned()]), None)
    );
}

#[tokio::test]
async fn absent_groups_stay_unknown_beside_a_reference() {
    let op = StandIn::start().await;
    op.state().userinfo["groups"] = Value::Null;
    let provider = named(&op, None, AbsentGroups::Empty);
    for (in_id_token, in_userinfo) in [
        (json!({"_claim_names": {"roles": "src1"}}), json!({})),
        (json!({}), json!({"_claim_names": {"roles": "src1"}})),
        (json!({"_claim_names": {}}), json!({})),
        (json!({}), json!({"_claim_names": ["groups"]})),
        (json!({"hasgroups": true}), json!({})),
        (
            json!({"_claim_sources": {"src1": {"endpoint": "https://graph.example/groups"}}}),
            json!({}),
        ),
        (json!({"_claim_names": {"groups": "src1"}}), json!({})),
        (json!({}), json!({"_claim_names": {"Groups": "src1"}})),
        (
            json!({"_claim_names": {"groups": "src1"}}),
            json!({"groups": []}),
        ),
        (
            json!({"_claim_names": {"groups": "src1"}}),
            json!({"groups": ["perhaps a part"]}),
        ),
        (
            json!({"groups": []}),
            json!({"_claim_names": {"groups": "src1"}}),
        ),
    ] {
        op.state().id_token = in_id_token.clone();
        let mut userinfo = json!({"sub": "00u1", "email": "ann@corp.example"});
        userinfo
            .as_object_mut()
            .unwrap()
            .extend(in_userinfo.as_object().unwrap().clone());
        op.state().userinfo = userinfo;
        let found = login(&op, &provider).await;
        assert_eq!(
            found,
            (None, Some(GroupsMissing::Reference)),
            "{in_id_token} {in_userinfo}"
        );
    }
    let note = provider
        .groups_note(&op.login(&provider).await.unwrap())
        .unwrap();
    assert!(
        note.contains("`_claim_names`") && note.contains("unknown"),
        "{note}"
    );
}

#[tokio::test]
async fn reference_to_a_configured_groups_claim_is_unknown() {
    let op = StandIn::start().await;
    let provider = named(&op, Some("realm_access.roles"), AbsentGroups::Empty);
    for reference in ["realm_access.roles", "realm_access"] {
        op.state().userinfo["_claim_names"] = json!({ reference: "src1" });
        assert_eq!(
            login(&op, &provider).await,
            (None, Some(GroupsMissing::Reference)),
            "{reference}"
        );
    }
}

#[tokio::test]
async fn unrelated_unreadable_claim_does_not_fail_the_login() {
    let op = StandIn::start().await;
    let provider = named(&op, Some("roles"), AbsentGroups::Empty);
    op.state().userinfo["roles"] = json!(["staff"]);
    for unused in [
        json!(7),
        json!([{"id": 1}]),
        json!({"a": null}),
        json!(true),
    ] {
        op.state().userinfo["groups"] = unused.clone();
        op.state().id_token =
            json!({"groups": unused, "name": 7, "amr": {}, "acr": [1], "email_verified": null});
        assert_eq!(
            login(&op, &provider).await,
            (Some(vec!["staff".to_owned()]), None),
            "{unused}"
        );
    }
    op.state().id_token = json!({"email": ["ann@corp.example", "bob@corp.example"]});
    let failure = op.login(&provider).await.unwrap_err();
    assert!(
        matches!(failure, LoginFailure::Email(EmailFailure::Unreadable)),
        "{failure:?}"
    );
    assert!(
        failure
            .advice()
            .is_some_and(|advice| advice.contains("`email_claim_name`"))
    );
}

#[tokio::test]
async fn absent_groups_stay_unknown_without_userinfo() {
    let op = StandIn::start().await;
    op.state()
        .metadata
        .as_object_mut()
        .unwrap()
        .remove("userinfo_endpoint");
    op.state().id_token = json!({"email": "ann@corp.example"});
    let provider = named(&op, None, AbsentGroups::Empty);
    assert_eq!(
        login(&op, &provider).await,
        (None, Some(GroupsMissing::NoUserinfo))
    );
    let note = provider
        .groups_note(&op.login(&provider).await.unwrap())
        .unwrap();
    assert!(note.contains("userinfo endpoint"), "{note}");
}

#[tokio::test]
async fn unreadable_groups_are_never_empty() {
    let op = StandIn::start().await;
    op.state().userinfo["groups"] = Value::Null;
    let provider = named(&op, Some("realm_access.roles"), AbsentGroups::Empty);
    for value in [
        json!({"roles": [1]}),
        json!({"roles": {"a": {}}}),
        json!(["roles"]),
        json!("x"),
    ] {
        op.state().userinfo["realm_access"] = value.clone();
        assert_eq!(
            login(&op, &provider).await,
            (None, Some(GroupsMissing::Unreadable)),
            "{value}"
        );
    }
    let note = provider
        .groups_note(&op.login(&provider).await.unwrap())
        .unwrap();
    assert!(
        note.contains("`realm_access.roles` is not a list"),
        "{note}"
    );
}

#[tokio::test]
async fn groups_claim_with_a_similar_name_is_unknown() {
    let op = StandIn::start().await;
    let provider = named(&op, Some("Roles"), AbsentGroups::Empty);
    op.state().userinfo["roles"] = json!(["contractors"]);
    assert_eq!(
        login(&op, &provider).await,
        (None, Some(GroupsMissing::Unreadable))
    );
    op.state().userinfo["roles"] = Value::Null;
    assert_eq!(
        login(&op, &provider).await,
        (Some(vec![]), Some(GroupsMissing::TakenAsNone))
    );
}

#[tokio::test]
async fn groups_are_read_from_a_nested_claim() {
    let op = StandIn::start().await;
    let keycloak = named(&op, Some("realm_access.roles"), AbsentGroups::Unknown);
    op.state().userinfo["realm_access"] = json!({"roles": ["offline_access", "staff"]});
    let roles = ["offline_access", "staff"].map(str::to_owned).to_vec();
    assert_eq!(
        login(&op, &keycloak).await,
        (Some(roles), None),
        "`groups` no longer counts"
    );
    let claim = "urn:zitadel:iam:org:project:roles";
    let zitadel = named(&op, Some(claim), AbsentGroups::Empty);
    op.state().userinfo[claim] = json!({"admin": {"231": "acme.example"}});
    assert_eq!(
        login(&op, &zitadel).await,
        (Some(vec!["admin".to_owned()]), None)
    );
    op.state().userinfo[claim] = Value::Null;
    assert_eq!(
        login(&op, &zitadel).await,
        (Some(vec![]), Some(GroupsMissing::TakenAsNone))
    );
}
