use serde_json::{Value, json};

use super::stand_in::{Reply, StandIn, Started, begin, finish};
use super::*;

const API: &str = "/api/v1/users/00u1/groups";

fn names(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("group-{n}")).collect()
}

/// A user in `count` groups with this claim.
async fn person(count: usize, claim: Value) -> StandIn {
    let op = StandIn::start().await;
    op.state().directory = names(count);
    op.state().userinfo["groups"] = claim;
    op
}

fn known(result: Result<ProviderIdentity, LoginFailure>) -> usize {
    match result.unwrap().groups {
        Groups::Known(groups) => groups.len(),
        Groups::Unknown => panic!("unknown"),
    }
}

fn failure(result: Result<ProviderIdentity, LoginFailure>) -> GroupsFailure {
    let failure = result.unwrap_err();
    assert_eq!(
        (failure.id(), failure.blame()),
        ("groups_unavailable", Blame::Provider)
    );
    assert_eq!(
        failure.sentence(),
        "Failed to fetch user/group information from the identity provider"
    );
    match failure {
        LoginFailure::Groups(reason) => reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn ninety_nine_claimed_groups_are_complete() {
    let op = person(99, json!(names(99))).await;
    assert_eq!(known(op.login(&op.provider()).await), 99);
    assert_eq!(known(op.login(&op.provider_with_token()).await), 99);
    assert_eq!(op.calls(API), 0);
}

#[tokio::test]
async fn one_hundred_claimed_groups_may_be_incomplete() {
    for (count, claimed) in [(100, 100), (101, 101), (450, 100), (450, 450)] {
        let op = person(count, json!(names(claimed))).await;
        assert!(
            matches!(
                failure(op.login(&op.provider()).await),
                GroupsFailure::TooMany
            ),
            "{count}"
        );
        assert_eq!(known(op.login(&op.provider_with_token()).await), count);
        assert_eq!(op.calls(API), count.div_ceil(200));
    }
}

#[tokio::test]
async fn absent_groups_claim_is_not_empty() {
    for count in [0, 3, 450] {
        let op = person(count, Value::Null).await;
        assert_eq!(
            op.login(&op.provider()).await.unwrap().groups,
            Groups::Unknown
        );
        assert_eq!(known(op.login(&op.provider_with_token()).await), count);
    }
    let op = person(0, json!([])).await;
    assert_eq!(known(op.login(&op.provider()).await), 0);
}

#[tokio::test]
async fn groups_in_the_id_token_suffice() {
    let op = person(0, Value::Null).await;
    op.state().id_token = json!({"groups": ["x", "y"]});
    assert_eq!(known(op.login(&op.provider()).await), 2);
    op.state().id_token = json!({"_claim_names": {"groups": "src1"}});
    assert_eq!(
        op.login(&op.provider()).await.unwrap().groups,
        Groups::Unknown
    );
    assert_eq!(
        known(op.login(&op.provider_with_token()).await),
        0,
        "the API has the list"
    );
}

#[tokio::test]
async fn unreadable_groups_are_unknown_and_login_succeeds() {
    for odd in [
        json!(["x", {"name": "y"}]),
        json!(["x", 7]),
        json!({"x": 1}),
        json!(7),
        json!(["x", null]),
    ] {
        let op = person(3, odd.clone()).await;
        assert_eq!(
            op.login(&op.provider()).await.unwrap().groups,
            Groups::Unknown,
            "{odd}"
        );
        assert_eq!(
            known(op.login(&op.provider_with_token()).await),
            3,
            "{odd}: the API has them"
        );
        op.state().id_token = json!({"groups": odd});
        op.state().userinfo["groups"] = json!(["x"]);
        assert_eq!(
            op.login(&op.provider()).await.unwrap().groups,
            Groups::Unknown,
            "{odd}"
        );
    }
    let op = person(0, json!("admins")).await;
    assert_eq!(
        known(op.login(&op.provider()).await),
        1,
        "one string is one group"
    );
}

#[tokio::test]
async fn api_returns_ids_and_names() {
    let op = person(450, Value::Null).await;
    let Groups::Known(groups) = op.login(&op.provider_with_token()).await.unwrap().groups else {
        panic!()
    };
    assert_eq!(
        groups[449],
        Group {
            id: "00g-group-449".into(),
            name: "group-449".into()
        }
    );
}

#[tokio::test]
async fn oktas_error_for_too_many_groups_is_recognised() {
    let words =
        "The groups claim matched too many groups and must be configured to match fewer groups";
    let op = person(450, Value::Null).await;
    let provider = op.provider();
    let begun = begin(&provider).await.unwrap();
    let query = format!(
        "error=invalid_scope&error_description={words}&state={}",
        begun.state.expose()
    );
    assert!(matches!(
        failure(finish(&provider, &begun, &query).await),
        GroupsFailure::Overfull
    ));
    op.reply(
        "/oauth2/v1/token",
        &[Reply::json(
            400,
            &json!({"error": "invalid_request", "error_description": words}),
        )],
    );
    let refused = failure(op.login(&provider).await);
    assert!(matches!(refused, GroupsFailure::Overfull));
    let hint = refused.advice();
    assert!(
        hint.contains("filter") && hint.contains("`api_token`"),
        "{hint}"
    );
}

#[tokio::test]
async fn overfull_userinfo_is_read_without_groups() {
    let words =
        "The groups claim matched too many groups and must be configured to match fewer groups";
    let body = Reply::json(
        400,
        &json!({"error": "invalid_request", "error_description": words}),
    );
    let challenge = format!("Bearer error=\"invalid_request\", error_description=\"{words}\"");
    let header = Reply {
        headers: vec![("www-authenticate", challenge)],
        ..Reply::html(400)
    };
    for reply in [body, header] {
        let op = person(450, Value::Null).await;
        // Everything required, except that userinfo contradicts it.
        op.state().id_token = json!({"department": "eng", "email": "ann@corp.example"});
        op.reply("/oauth2/v1/userinfo", &[reply]);
        assert!(matches!(
            failure(op.login(&op.provider()).await),
            GroupsFailure::Overfull
        ));
        let provider = op.provider_with_token();
        let begun = begin(&provider).await.unwrap();
        let refused = finish(&provider, &begun, &op.authorize(&begun))
            .await
            .unwrap_err();
        let attempt = provider
            .as_oidc()
            .unwrap()
            .next_attempt(&refused, &begun.pending)
            .unwrap();
        op.state().replies.clear();
        for (email_verified, ends) in [(json!(false), None), (Value::Null, Some(450))] {
            op.state().userinfo["email_verified"] = email_verified;
            let StartedLogin { url, pending } = provider
                .as_oidc()
                .unwrap()
                .begin_again("again", attempt, NOW)
                .await
                .unwrap();
            let second = Started {
                url,
                state: Secret::new("again"),
                pending,
            };
            let ended = finish(&provider, &second, &op.authorize(&second)).await;
            assert_eq!(
                ended
                    .ok()
                    .map(|profile| profile.groups.known().unwrap().len()),
                ends
            );
        }
    }
    let op = person(450, Value::Null).await;
    op.reply(
        "/oauth2/v1/userinfo",
        &[Reply::json(400, &json!({"error": "invalid_request"}))],
    );
    let other = op.login(&op.provider_with_token()).await.unwrap_err();
    assert!(
        matches!(
            other,
            LoginFailure::Answer {
                endpoint: Endpoint::Userinfo,
                ..
            }
        ),
        "{other:?}"
    );
}

#[tokio::test]
async fn api_token_is_sent_to_its_origin_only() {
    let (op, other) = (person(450, Value::Null).await, StandIn::start().await);
    for origin in [
        other.origin.clone(),
        op.origin.replace("okta.localhost", "127.0.0.1"),
        "//evil.example".to_owned(),
    ] {
        op.state().next_link_origin = Some(origin);
        assert!(matches!(
            failure(op.login(&op.provider_with_token()).await),
            GroupsFailure::ForeignPage
        ));
    }
    assert!(other.state().calls.is_empty());
    op.state().next_link_origin = Some(String::new());
    assert_eq!(
        known(op.login(&op.provider_with_token()).await),
        450,
        "relative to the page"
    );
}

#[tokio::test]
async fn endless_list_of_groups_is_rejected() {
    let op = person(0, Value::Null).await;
    let mut page = Reply::json(200, &json!([]));
    page.headers.push((
        "link",
        format!(
            "<{0}{API}>; rel=self, <{0}{API}?after=x,y>; title=\"a\"; REL=\"prev next\"",
            op.origin
        ),
    ));
    op.reply(API, &[page]);
    assert!(matches!(
        failure(op.login(&op.provider_with_token()).await),
        GroupsFailure::Endless
    ));
    assert_eq!(op.calls(API), 50);
}

#[tokio::test]
async fn unexpected_api_responses_are_failures() {
    let op = person(5, Value::Null).await;
    let provider = op.provider_with_token();
    for (status, code) in [
        (401, "E0000011"),
        (403, "E0000006"),
        (404, "E0000007"),
        (500, "E0000009"),
    ] {
        op.reply(
            API,
            &[Reply::json(
                status,
                &json!({"errorCode": code, "errorSummary": "no"}),
            )],
        );
        let reason = failure(op.login(&provider).await);
        assert!(
            matches!(&reason, GroupsFailure::Refused { status: s, code: Some(c) } if s.as_u16() == status && c == code)
        );
    }
    for body in [
        json!({}),
        json!([{"id": "x"}]),
        json!([{"id": "x", "profile": {"name": 1}}]),
        json!(null),
    ] {
        op.reply(API, &[Reply::json(200, &body)]);
        assert!(
            matches!(failure(op.login(&provider).await), GroupsFailure::NotGroups),
            "{body}"
        );
    }
    op.reply(API, &[Reply::html(200)]);
    assert!(matches!(
        failure(op.login(&provider).await),
        GroupsFailure::NotGroups
    ));
    op.reply(API, &[Reply::html(403)]);
    assert!(matches!(
        failure(op.login(&provider).await),
        GroupsFailure::Refused { code: None, .. }
    ));
    let redirect = Reply {
        headers: vec![("location", "http://127.0.0.1:1/".to_owned())],
        ..Reply::html(302)
    };
    op.reply(API, &[redirect]);
    assert!(matches!(
        failure(op.login(&provider).await),
        GroupsFailure::Refused { .. }
    ));
    op.reply(
        API,
        &[Reply {
            body: " ".repeat(2 << 20),
            ..Reply::html(200)
        }],
    );
    assert!(matches!(
        failure(op.login(&provider).await),
        GroupsFailure::Unreachable(_)
    ));
    op.reply(API, &[Reply::hang()]);
    assert!(matches!(
        failure(op.login(&provider).await),
        GroupsFailure::Unreachable(_)
    ));
}

#[tokio::test]
async fn all_pages_share_one_time_limit() {
    let op = person(450, Value::Null).await;
    let settings = OktaSettings {
        api_token: Some(Secret::new(stand_in::API_TOKEN)),
        ..op.settings()
    };
    let provider = stand_in::provider(OktaSettings {
        groups_budget: std::time::Duration::from_millis(300),
        ..settings
    });
    let mut page = Reply::json(200, &json!([]));
    page.headers
        .push(("link", format!("<{}{API}>; rel=\"next\"", op.origin)));
    op.reply(
        API,
        &[Reply {
            delay: std::time::Duration::from_millis(120),
            ..page
        }],
    );
    assert!(matches!(
        failure(op.login(&provider).await),
        GroupsFailure::Timeout(_)
    ));
}

#[tokio::test]
async fn short_rate_limit_is_waited_out() {
    let op = person(5, Value::Null).await;
    let limited = |reset: Option<u64>| {
        let mut reply = Reply::json(429, &json!({"errorCode": "E0000047"}));
        reply
            .headers
            .extend(reset.map(|reset| ("x-rate-limit-reset", reset.to_string())));
        reply
    };
    let page = Reply::json(200, &json!([{"id": "g", "profile": {"name": "g"}}]));
    op.reply(API, &[limited(Some(NOW.0 + 1)), page]);
    assert_eq!(known(op.login(&op.provider_with_token()).await), 1);
    op.reply(API, &[limited(Some(NOW.0 + 1))]);
    let twice = failure(op.login(&op.provider_with_token()).await);
    assert!(matches!(twice, GroupsFailure::Refused { status, .. } if status.as_u16() == 429));
    op.reply(API, &[limited(Some(NOW.0 + 6))]);
    assert!(matches!(
        failure(op.login(&op.provider_with_token()).await),
        GroupsFailure::RateLimited { .. }
    ));
}

#[tokio::test]
async fn failed_api_call_is_repeated_once() {
    let page = Reply::json(200, &json!([{"id": "g", "profile": {"name": "g"}}]));
    let limited = |headers: &[(&'static str, String)]| {
        let mut reply = Reply::json(429, &json!({"errorCode": "E0000047"}));
        reply.headers.extend_from_slice(headers);
        reply
    };
    let error = |status| Reply::json(status, &json!({"errorCode": "E0000009"}));
    let short = Reply {
        status: 200,
        headers: vec![("transfer-encoding", "chunked".to_owned())],
        ..Reply::html(200)
    };
    let unclear = ("x-rate-limit-reset", "soon".to_owned());
    for fault in [
        error(500),
        error(503),
        Reply::html(502),
        limited(&[]),
        limited(&[unclear]),
        short,
        Reply::reset(),
    ] {
        let op = person(5, Value::Null).await;
        op.reply(API, &[fault.clone(), page.clone()]);
        assert_eq!(
            known(op.login(&op.provider_with_token()).await),
            1,
            "{} {:?}",
            fault.status,
            fault.headers
        );
        assert_eq!(op.calls(API), 2);
        op.state().calls.clear();
        op.reply(API, &[fault]);
        failure(op.login(&op.provider_with_token()).await);
        assert_eq!(op.calls(API), 2, "and no third time");
    }
    // A second call would not change these.
    for refusal in [
        error(400),
        error(401),
        error(403),
        error(404),
        Reply::html(200),
        Reply::html(403),
    ] {
        let op = person(5, Value::Null).await;
        op.reply(API, &[refusal, page.clone()]);
        failure(op.login(&op.provider_with_token()).await);
        assert_eq!(op.calls(API), 1);
    }
}

#[tokio::test]
async fn second_api_call_shares_the_time_limit() {
    let op = person(5, Value::Null).await;
    let settings = OktaSettings {
        api_token: Some(Secret::new(stand_in::API_TOKEN)),
        ..op.settings()
    };
    let provider = stand_in::provider(OktaSettings {
        groups_budget: std::time::Duration::from_millis(300),
        ..settings
    });
    op.reply(
        API,
        &[Reply {
            delay: std::time::Duration::from_millis(240),
            ..Reply::html(500)
        }],
    );
    assert!(matches!(
        failure(op.login(&provider).await),
        GroupsFailure::Timeout(_)
    ));
}

#[tokio::test]
async fn subject_is_a_single_path_segment() {
    let op = person(5, Value::Null).await;
    for subject in ["..", "a/../../x", "a?b#c"] {
        op.state().id_token = json!({ "sub": subject });
        op.state().userinfo["sub"] = json!(subject);
        let reason = failure(op.login(&op.provider_with_token()).await);
        let last = op.state().calls.last().unwrap().clone();
        match reason {
            GroupsFailure::Subject => assert_eq!(subject, ".."),
            GroupsFailure::Refused { .. } => {
                assert!(
                    last.starts_with("/api/v1/users/a") && last.matches('/').count() == 5,
                    "{last}"
                )
            }
            other => panic!("{other:?}"),
        }
    }
}
