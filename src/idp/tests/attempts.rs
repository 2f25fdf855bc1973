//! Logins with several attempts.

use serde_json::{Value, json};

use super::stand_in::{self, API_TOKEN, Reply, StandIn, Started, begin, finish};
use super::*;

const API: &str = "/api/v1/users/00u1/groups";
const WORDS: &str =
    "The groups claim matched too many groups and must be configured to match fewer groups.";

/// A user in 150 groups, none of which are in the claim.
async fn crowded() -> StandIn {
    let op = StandIn::start().await;
    op.state().directory = (0..150).map(|n| format!("group-{n}")).collect();
    op.state().userinfo["groups"] = Value::Null;
    op
}

fn scopes(url: &Url) -> String {
    url.query_pairs()
        .find(|(name, _)| name == "scope")
        .unwrap()
        .1
        .into_owned()
}

async fn again(provider: &Provider, attempt: Attempt) -> Started {
    let StartedLogin { url, pending } = provider
        .as_oidc()
        .unwrap()
        .begin_again("state-again", attempt, NOW)
        .await
        .unwrap();
    Started {
        url,
        state: Secret::new("state-again"),
        pending,
    }
}

/// Okta's response at its authorization endpoint.
fn overfull(begun: &Started) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query
        .append_pair("error", "invalid_scope")
        .append_pair("error_description", WORDS);
    query.append_pair("state", begun.state.expose()).finish()
}

#[tokio::test]
async fn overfull_claim_causes_one_attempt_without_groups() {
    for at_authorize in [true, false] {
        let op = crowded().await;
        let provider = op.provider_with_token();
        let begun = begin(&provider).await.unwrap();
        assert_eq!(scopes(&begun.url), "openid profile email groups");
        let refusal = Reply::json(
            400,
            &json!({"error": "invalid_request", "error_description": WORDS}),
        );
        let query = if at_authorize {
            overfull(&begun)
        } else {
            op.reply("/oauth2/v1/token", &[refusal]);
            op.authorize(&begun)
        };
        let failure = finish(&provider, &begun, &query).await.unwrap_err();
        assert!(
            matches!(failure, LoginFailure::Groups(GroupsFailure::Overfull)),
            "{failure:?}"
        );
        let attempt = provider
            .as_oidc()
            .unwrap()
            .next_attempt(&failure, &begun.pending)
            .unwrap();

        op.state().replies.clear();
        let second = again(&provider, attempt).await;
        assert_eq!(scopes(&second.url), "openid profile email");
        assert_eq!(
            provider
                .as_oidc()
                .unwrap()
                .next_attempt(&failure, &second.pending),
            None,
            "once"
        );
        let profile = finish(&provider, &second, &op.authorize(&second))
            .await
            .unwrap();
        assert_eq!(profile.groups.known().unwrap().len(), 150);
        assert_eq!(
            profile.groups_seen.unwrap().source,
            crate::model::GroupsSource::Api
        );
    }
}

#[tokio::test]
async fn attempt_without_groups_uses_only_the_api() {
    let op = crowded().await;
    let provider = op.provider_with_token();
    let begun = begin(&provider).await.unwrap();
    let failure = finish(&provider, &begun, &overfull(&begun))
        .await
        .unwrap_err();
    let attempt = provider
        .as_oidc()
        .unwrap()
        .next_attempt(&failure, &begun.pending)
        .unwrap();
    // A claim that is still sent is truncated.
    op.state().userinfo["groups"] = json!(["group-0"]);
    let second = again(&provider, attempt).await;
    let profile = finish(&provider, &second, &op.authorize(&second))
        .await
        .unwrap();
    assert_eq!(profile.groups.known().unwrap().len(), 150);
    op.reply(API, &[Reply::json(403, &json!({"errorCode": "E0000006"}))]);
    let third = again(&provider, attempt).await;
    let failure = finish(&provider, &third, &op.authorize(&third))
        .await
        .unwrap_err();
    assert!(
        matches!(failure, LoginFailure::Groups(GroupsFailure::Refused { .. })),
        "{failure:?}"
    );
}

#[tokio::test]
async fn overfull_userinfo_causes_an_attempt_without_groups() {
    let op = crowded().await;
    let provider = op.provider_with_token();
    let refusal = Reply::json(
        400,
        &json!({"error": "invalid_request", "error_description": WORDS}),
    );
    op.reply("/oauth2/v1/userinfo", &[refusal]);
    let begun = begin(&provider).await.unwrap();
    let failure = finish(&provider, &begun, &op.authorize(&begun))
        .await
        .unwrap_err();
    assert!(
        provider
            .as_oidc()
            .unwrap()
            .next_attempt(&failure, &begun.pending)
            .is_some(),
        "{failure:?}"
    );
}

#[tokio::test]
async fn attempt_without_groups_requires_api_token_and_scope() {
    let op = crowded().await;
    let without_token = op.provider();
    let begun = begin(&without_token).await.unwrap();
    let failure = finish(&without_token, &begun, &overfull(&begun))
        .await
        .unwrap_err();
    assert_eq!(
        without_token
            .as_oidc()
            .unwrap()
            .next_attempt(&failure, &begun.pending),
        None
    );

    let api_token = Some(Secret::new(API_TOKEN));
    let without_scope = stand_in::provider(OktaSettings {
        api_token,
        groups_scope: false,
        ..op.settings()
    });
    let begun = begin(&without_scope).await.unwrap();
    assert_eq!(scopes(&begun.url), "openid profile email");
    assert_eq!(
        without_scope
            .as_oidc()
            .unwrap()
            .next_attempt(&failure, &begun.pending),
        None
    );
    let profile = finish(&without_scope, &begun, &op.authorize(&begun))
        .await
        .unwrap();
    assert_eq!(profile.groups.known().unwrap().len(), 150);
}

#[tokio::test]
async fn other_failures_are_not_retried() {
    let op = crowded().await;
    let provider = op.provider_with_token();
    let begun = begin(&provider).await.unwrap();
    for error in [
        "access_denied",
        "invalid_scope",
        "server_error",
        "temporarily_unavailable",
        "login_required",
    ] {
        let query = format!(
            "error={error}&error_description=no&state={}",
            begun.state.expose()
        );
        let failure = finish(&provider, &begun, &query).await.unwrap_err();
        assert_eq!(
            provider
                .as_oidc()
                .unwrap()
                .next_attempt(&failure, &begun.pending),
            None,
            "{failure:?}"
        );
    }
    op.reply(API, &[Reply::html(403)]);
    let failure = finish(&provider, &begun, &op.authorize(&begun))
        .await
        .unwrap_err();
    assert_eq!(
        provider
            .as_oidc()
            .unwrap()
            .next_attempt(&failure, &begun.pending),
        None,
        "{failure:?}"
    );
}

#[tokio::test]
async fn expired_sign_in_is_restarted_once() {
    let op = StandIn::start().await;
    let provider = op.provider();
    let hints = Hints {
        prompt: Some(Prompt::Login),
        ..Hints::default()
    };
    let StartedLogin { url, pending } = provider
        .as_oidc()
        .unwrap()
        .begin("state-0", hints, NOW)
        .await
        .unwrap();
    let begun = Started {
        url,
        state: Secret::new("state-0"),
        pending,
    };
    let expired = |state: &Secret| {
        format!(
            "error=temporarily_unavailable&error_description=authentication_expired&state={}",
            state.expose()
        )
    };
    let failure = finish(&provider, &begun, &expired(&begun.state))
        .await
        .unwrap_err();
    assert_eq!(
        (failure.id(), failure.blame()),
        ("idp_refused", Blame::Browser)
    );
    assert!(
        failure.sentence().contains("too long") && failure.advice().unwrap().contains("start over")
    );
    let second = again(
        &provider,
        provider
            .as_oidc()
            .unwrap()
            .next_attempt(&failure, &begun.pending)
            .unwrap(),
    )
    .await;
    assert!(
        second.url.query().unwrap().contains("prompt=login"),
        "the user still wants other credentials"
    );
    let failure = finish(&provider, &second, &expired(&second.state))
        .await
        .unwrap_err();
    assert_eq!(
        provider
            .as_oidc()
            .unwrap()
            .next_attempt(&failure, &second.pending),
        None
    );
    // A callback for another login proves nothing about this one.
    let foreign = finish(&provider, &begun, &expired(&Secret::new("other")))
        .await
        .unwrap_err();
    assert_eq!(
        provider
            .as_oidc()
            .unwrap()
            .next_attempt(&foreign, &begun.pending),
        None
    );
}

#[test]
fn first_attempt_adds_nothing_to_the_cookie() {
    let pending = Pending {
        nonce: Secret::new("n"),
        pkce_verifier: Secret::new("v"),
        idp: IdpId("a".into()),
        issuer: "i".into(),
        pushed_scopes: None,
        attempt: Attempt::default(),
    };
    let text = serde_json::to_string(&pending).unwrap();
    assert!(!text.contains("attempt"), "{text}");
    assert_eq!(serde_json::from_str::<Pending>(&text).unwrap(), pending);
}
