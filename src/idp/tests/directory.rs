//! Looking up users with a session, with one request for concurrent callers.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::stand_in::{API_TOKEN, Reply, StandIn, provider};
use super::*;
use crate::model::GroupsSource;

const API: &str = "/api/v1/users/00u1/groups";
const USER: &str = "/api/v1/users/00u1";

async fn with_refresh(groups: usize) -> (StandIn, Provider) {
    let op = StandIn::start().await;
    op.state().directory = (0..groups).map(|n| format!("group-{n}")).collect();
    let terms = RefreshTerms {
        every: Duration::from_secs(900),
        max_stale: Duration::from_secs(3600),
    };
    let settings = OktaSettings {
        api_token: Some(Secret::new(API_TOKEN)),
        refresh: Some(terms),
        ..op.settings()
    };
    (op, provider(settings))
}

const fn later(seconds: u64) -> UnixTime {
    UnixTime(NOW.0 + seconds)
}

#[tokio::test]
async fn concurrent_logins_of_a_user_share_one_request() {
    let op = Arc::new(StandIn::start().await);
    op.state().userinfo["groups"] = Value::Null;
    let slow = Reply::json(200, &json!([{"id": "g", "profile": {"name": "g"}}]));
    op.reply(
        API,
        &[Reply {
            delay: Duration::from_millis(250),
            ..slow
        }],
    );
    let okta = Arc::new(op.provider_with_token());
    let mut logins = JoinSet::new();
    for _ in 0..8 {
        let (op, okta) = (Arc::clone(&op), Arc::clone(&okta));
        logins.spawn(async move { op.login(&okta).await });
    }
    while let Some(login) = logins.join_next().await {
        assert!(
            matches!(login.unwrap().unwrap().groups, Groups::Known(groups) if groups.len() == 1)
        );
    }
    assert!(op.calls(API) <= 2, "{} for 8 logins at once", op.calls(API));
    let before = op.calls(API);
    assert!(op.login(&okta).await.is_ok());
    assert_eq!(op.calls(API), before + 1, "and a later one asks anew");
}

#[tokio::test]
async fn refreshed_groups_come_from_the_api_at_login_too() {
    let (op, okta) = with_refresh(3).await;
    op.state().userinfo["groups"] = json!(["filtered"]);
    let profile = op.login(&okta).await.unwrap();
    assert!(matches!(&profile.groups, Groups::Known(groups) if groups.len() == 3));
    assert_eq!(
        profile.groups_seen,
        Some(GroupsSeen {
            source: GroupsSource::Api,
            at: NOW
        })
    );
    let profile = op.login(&op.provider_with_token()).await.unwrap();
    assert_eq!(
        profile.groups_seen,
        Some(GroupsSeen {
            source: GroupsSource::Userinfo,
            at: NOW
        })
    );
    op.state().id_token = json!({"groups": ["fat"]});
    let profile = op.login(&op.provider()).await.unwrap();
    assert_eq!(
        profile.groups_seen,
        Some(GroupsSeen {
            source: GroupsSource::IdToken,
            at: NOW
        })
    );
    op.state().id_token = json!({});
    op.state().userinfo["groups"] = Value::Null;
    assert_eq!(op.login(&op.provider()).await.unwrap().groups_seen, None);
    assert!(op.provider_with_token().refresh().is_none() && okta.refresh().is_some());
}

#[tokio::test]
async fn inactive_users_are_recognised_by_status() {
    let (op, okta) = with_refresh(2).await;
    for status in [
        "ACTIVE",
        "PASSWORD_EXPIRED",
        "LOCKED_OUT",
        "RECOVERY",
        "PROVISIONED",
        "A_WORD_OF_THE_FUTURE",
    ] {
        op.state().status = status;
        let standing = okta.look_up("00u1", NOW).await.unwrap();
        assert!(
            matches!(standing, AccountStatus::Active(groups) if groups.len() == 2),
            "{status}"
        );
    }
    let before = op.calls(API);
    for (status, how) in [("DEPROVISIONED", "deactivated"), ("SUSPENDED", "suspended")] {
        op.state().status = status;
        assert_eq!(
            okta.look_up("00u1", NOW).await.unwrap(),
            AccountStatus::Inactive(how)
        );
    }
    op.reply(
        USER,
        &[Reply::json(
            404,
            &json!({"errorCode": "E0000007", "errorSummary": "Not found"}),
        )],
    );
    assert_eq!(
        okta.look_up("00u1", NOW).await.unwrap(),
        AccountStatus::Inactive("deleted")
    );
    assert_eq!(
        op.calls(API),
        before,
        "no groups are fetched for a deleted user"
    );
    assert!(!okta.is_quiet(NOW));
}

/// A response that is not Okta's own statement proves nothing about the user, and pauses calls to
/// the account.
#[tokio::test]
async fn failing_directory_signs_no_user_out() {
    for reply in [
        Reply::html(404),
        Reply::json(404, &json!({"errorCode": "E0000048"})),
        Reply::json(404, &json!({})),
    ] {
        let (op, okta) = with_refresh(2).await;
        op.reply(USER, &[reply]);
        assert!(okta.look_up("00u1", NOW).await.is_err());
        assert!(!okta.is_quiet(NOW), "this one alone");
    }
    let page = Reply::json(200, &json!([]));
    for reply in [
        Reply::html(200),
        Reply::html(403),
        page,
        Reply::json(200, &json!({"id": "00u1"})),
        Reply::json(401, &json!({"errorCode": "E0000011"})),
        Reply::json(500, &json!({"errorCode": "E0000009"})),
        Reply::hang(),
    ] {
        let (op, okta) = with_refresh(2).await;
        op.reply(USER, &[reply]);
        assert!(okta.look_up("00u1", NOW).await.is_err());
        assert!(okta.is_quiet(NOW) && okta.is_failing(later(9)) && !okta.is_quiet(later(10)));
    }
    let (op, okta) = with_refresh(450).await;
    let second = Reply::json(500, &json!({"errorCode": "E0000009"}));
    let mut first = Reply::json(200, &json!([{"id": "g", "profile": {"name": "g"}}]));
    first.headers.push((
        "link",
        format!("<{}{API}?after=1>; rel=\"next\"", op.origin),
    ));
    op.reply(API, &[first, second]);
    assert!(
        okta.look_up("00u1", NOW).await.is_err(),
        "half a list is no list"
    );
}

#[tokio::test]
async fn used_up_rate_limit_serves_only_waiting_users() {
    let (op, okta) = with_refresh(2).await;
    let user = |limit: u64, remaining: u64, reset: u64| {
        let mut reply = Reply::json(200, &json!({"id": "00u1", "status": "ACTIVE"}));
        for (name, value) in [
            ("x-rate-limit-limit", limit),
            ("x-rate-limit-remaining", remaining),
            ("x-rate-limit-reset", reset),
        ] {
            reply.headers.push((name, value.to_string()));
        }
        reply
    };
    op.reply(USER, &[user(600, 300, NOW.0 + 40)]);
    assert!(okta.look_up("00u1", NOW).await.is_ok() && !okta.is_quiet(NOW));
    op.reply(USER, &[user(600, 299, NOW.0 + 40)]);
    assert!(okta.look_up("00u1", NOW).await.is_ok());
    assert!(okta.is_quiet(later(39)) && !okta.is_quiet(later(40)) && !okta.is_failing(NOW));
    assert!(
        op.login(&okta).await.is_ok(),
        "a login waits, and so is not held up"
    );
    op.reply(USER, &[user(600, 0, u64::MAX)]);
    assert!(okta.look_up("00u1", NOW).await.is_ok());
    assert!(
        !okta.is_quiet(later(60)),
        "no window is longer than a minute"
    );
    let mut limited = Reply::json(429, &json!({"errorCode": "E0000047"}));
    limited
        .headers
        .push(("x-rate-limit-reset", (NOW.0 + 90).to_string()));
    op.reply(USER, &[limited]);
    let failure = okta.look_up("00u1", NOW).await.unwrap_err();
    assert!(matches!(
        failure,
        GroupsFailure::RateLimited { seconds: 90 }
    ));
    assert!(okta.is_quiet(later(89)) && !okta.is_quiet(later(90)));
}

/// The published examples of Okta's API, verbatim, and every possible user status.
#[tokio::test]
async fn published_okta_responses_are_understood() {
    let document: Value =
        serde_json::from_str(include_str!("../../../tests/idp/okta-openapi.json")).unwrap();
    let example = |name: &str| document["components"]["examples"][name]["value"].clone();
    let (op, okta) = with_refresh(0).await;
    let mut user = example("user-example");
    op.reply(API, &[Reply::json(200, &example("ListUserGroups"))]);
    for status in document["components"]["schemas"]["UserStatus"]["enum"]
        .as_array()
        .unwrap()
    {
        user["status"] = status.clone();
        op.reply(USER, &[Reply::json(200, &user)]);
        let standing = okta.look_up("00u1", NOW).await.unwrap();
        match (status.as_str().unwrap(), standing) {
            ("DEPROVISIONED", AccountStatus::Inactive("deactivated"))
            | ("SUSPENDED", AccountStatus::Inactive("suspended")) => {}
            (status, AccountStatus::Active(groups))
                if !matches!(status, "DEPROVISIONED" | "SUSPENDED") =>
            {
                let names: Vec<_> = groups.iter().map(|group| group.name.as_str()).collect();
                assert_eq!(names, ["Cloud app users", "Internal app users"], "{status}");
            }
            (status, other) => panic!("{status}: {other:?}"),
        }
    }
    op.reply(USER, &[Reply::json(404, &example("ErrorResourceNotFound"))]);
    assert_eq!(
        okta.look_up("00u1", NOW).await.unwrap(),
        AccountStatus::Inactive("deleted")
    );
    op.reply(USER, &[Reply::json(403, &example("ErrorAccessDenied"))]);
    let failure = okta.look_up("00u1", NOW).await.unwrap_err();
    assert!(
        matches!(&failure, GroupsFailure::Refused { code: Some(code), .. } if code == "E0000006"),
        "{failure}"
    );
    op.reply(USER, &[Reply::json(429, &example("ErrorTooManyRequests"))]);
    let failure = okta.look_up("00u1", NOW).await.unwrap_err();
    assert!(
        matches!(&failure, GroupsFailure::Refused { code: Some(code), .. } if code == "E0000047"),
        "{failure}"
    );
}

/// The log has both hints of Access's own page, each in its case.
#[test]
fn every_groups_failure_has_advice() {
    let refused = |status: u16, code: Option<&str>| GroupsFailure::Refused {
        status: status.try_into().unwrap(),
        code: code.map(str::to_owned),
    };
    for (failure, word) in [
        (GroupsFailure::TooMany, "api_token"),
        (GroupsFailure::Overfull, "api_token"),
        (refused(401, Some("E0000011")), "create a new one"),
        (refused(403, Some("E0000006")), "read-only administrator"),
        (refused(403, None), "ThreatInsight"),
        (refused(500, None), "ThreatInsight"),
        (refused(404, None), "okta_account"),
        (refused(429, None), "Rate Limits"),
        (GroupsFailure::RateLimited { seconds: 9 }, "Rate Limits"),
        (GroupsFailure::NotGroups, "ThreatInsight"),
        (GroupsFailure::Timeout(Duration::ZERO), "ThreatInsight"),
        (GroupsFailure::NoApi, "at login"),
    ] {
        assert!(
            failure.advice().contains(word),
            "{failure}: {}",
            failure.advice()
        );
    }
}
