//! Documents that change or cannot be fetched, and error responses in other forms than those of RFC
//! 6749.

use std::time::Duration;

use serde_json::json;

use super::stand_in::{Reply, StandIn, begin, provider};
use super::*;
use crate::oidc::testing::{jwks, rsa};

const KEYS: &str = "/oauth2/v1/keys";
const TOKEN: &str = "/oauth2/v1/token";

#[tokio::test]
async fn failed_fetch_after_a_rotation_is_soon_repeated() {
    let op = StandIn::start().await;
    let ages = Ages {
        cooldown: Duration::from_secs(600),
        failure: Duration::from_millis(50),
        ..op.client().ages
    };
    let provider = provider(OktaSettings {
        client: ClientSettings {
            ages,
            ..op.client()
        },
        ..op.settings()
    });
    assert!(op.login(&provider).await.is_ok());
    {
        let mut state = op.state();
        (state.key, state.jwks) = (rsa(1), jwks(&[rsa(1).jwk(Some("k1"))]));
        state.header["kid"] = json!("k1");
    }
    op.reply(KEYS, &[Reply::html(503)]);
    assert!(matches!(
        op.login(&provider).await,
        Err(LoginFailure::Answer {
            endpoint: Endpoint::Keys,
            ..
        })
    ));
    op.state().replies.clear();
    tokio::time::sleep(ages.failure * 3).await;
    let ended = op.login(&provider).await;
    assert!(ended.is_ok(), "{ended:?}");
}

#[tokio::test]
async fn unused_endpoint_may_be_on_any_origin() {
    for member in [
        "pushed_authorization_request_endpoint",
        "end_session_endpoint",
    ] {
        for used in [false, true] {
            let op = StandIn::start().await;
            let ages = Ages {
                fresh: Duration::from_millis(20),
                stale: Duration::from_millis(300),
                failure: Duration::from_millis(10),
                ..op.client().ages
            };
            let mut client = ClientSettings {
                ages,
                ..op.client()
            };
            client.provider_logout = used && member == "end_session_endpoint";
            let moving = provider(OktaSettings {
                client,
                ..op.settings()
            });
            assert!(op.login(&moving).await.is_ok());
            op.state().metadata[member] = json!("http://elsewhere.example/x");
            if used && member != "end_session_endpoint" {
                op.state().metadata["require_pushed_authorization_requests"] = json!(true);
            }
            tokio::time::sleep(ages.stale + Duration::from_millis(50)).await;
            let ended = op.login(&moving).await;
            match used {
                false => assert!(ended.is_ok(), "{member}: {ended:?}"),
                true => assert!(
                    matches!(ended, Err(LoginFailure::Moved { .. })),
                    "{member}: {ended:?}"
                ),
            }
        }
    }
}

#[tokio::test]
async fn odd_error_responses_keep_their_code() {
    let op = StandIn::start().await;
    let par = "/oauth2/v1/par";
    op.state().metadata["pushed_authorization_request_endpoint"] =
        json!(format!("{}{par}", op.origin));
    let pushing = provider(OktaSettings {
        client: ClientSettings {
            pushed_requests: true,
            ..op.client()
        },
        ..op.settings()
    });
    for odd in [
        json!({"error_uri": 7}),
        json!({"error_description": {"en": "no"}}),
        json!({"error_description": 7}),
    ] {
        let mut answer = json!({"error": "invalid_grant"});
        answer
            .as_object_mut()
            .unwrap()
            .extend(odd.as_object().unwrap().clone());
        op.reply(TOKEN, &[Reply::json(400, &answer)]);
        let failure = op.login(&op.provider()).await.unwrap_err();
        assert_eq!(
            failure.to_string(),
            "the token endpoint responded with 400 Bad Request: invalid_grant",
            "{odd}"
        );
        assert_eq!(failure.blame(), Blame::Browser);
        op.reply(par, &[Reply::json(400, &answer)]);
        let failure = begin(&pushing).await.unwrap_err();
        let said = "the pushed login request was rejected with 400 Bad Request: invalid_grant";
        assert_eq!(failure.to_string(), said, "{odd}");
    }
    for none in [
        json!({}),
        json!({"error": 7}),
        json!({"error": null, "error_description": ""}),
        json!([]),
    ] {
        op.reply(TOKEN, &[Reply::json(400, &none)]);
        let failure = op.login(&op.provider()).await.unwrap_err();
        assert!(
            failure.to_string().ends_with("no error code"),
            "{none}: {failure}"
        );
        op.reply(par, &[Reply::json(400, &none)]);
        let failure = begin(&pushing).await.unwrap_err();
        assert!(
            failure.to_string().ends_with("no error code"),
            "{none}: {failure}"
        );
    }
    let words =
        "The groups claim matched too many groups and must be configured to match fewer groups.";
    op.reply(
        TOKEN,
        &[Reply::json(
            400,
            &json!({"error": {}, "error_description": words}),
        )],
    );
    let failure = op.login(&op.provider()).await.unwrap_err();
    assert!(
        matches!(failure, LoginFailure::Groups(GroupsFailure::Overfull)),
        "{failure:?}"
    );
}
