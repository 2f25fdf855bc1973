//! Discovery documents and keys: fetched, cached and pinned, from providers that misbehave.

use std::error::Error as _;
use std::time::{Duration, Instant};

use serde_json::json;

use super::stand_in::{Reply, StandIn, begin, provider};
use super::*;
use crate::oidc::ClaimsError;
use crate::oidc::testing::{jwks, rsa};

const DISCOVERY: &str = "/.well-known/openid-configuration";
const KEYS: &str = "/oauth2/v1/keys";
const TOKEN: &str = "/oauth2/v1/token";

#[tokio::test]
async fn dead_provider_fails_quickly() {
    let op = StandIn::start().await;
    op.reply(DISCOVERY, &[Reply::hang()]);
    let provider = op.provider();
    let started = Instant::now();
    let all: Vec<_> = {
        let provider = std::sync::Arc::new(provider);
        let tasks: Vec<_> = (0..50)
            .map(|_| {
                let provider = std::sync::Arc::clone(&provider);
                tokio::spawn(async move { begin(&provider).await })
            })
            .collect();
        let mut all = Vec::new();
        for task in tasks {
            all.push(task.await.unwrap());
        }
        let again = Instant::now();
        all.push(begin(&provider).await);
        assert!(
            again.elapsed() < Duration::from_millis(100),
            "the failure is remembered"
        );
        all
    };
    assert!(
        started.elapsed() < Duration::from_millis(1500),
        "{:?}",
        started.elapsed()
    );
    for result in all {
        let failure = result.unwrap_err();
        assert!(matches!(
            failure,
            LoginFailure::Unreachable {
                endpoint: Endpoint::Discovery,
                ..
            }
        ));
        assert_eq!(failure.blame(), Blame::Provider);
    }
    assert_eq!(op.calls(DISCOVERY), 1);
}

#[tokio::test]
async fn redirected_document_is_reported_with_its_new_url() {
    let userinfo = "/oauth2/v1/userinfo";
    for (path, endpoint) in [
        (DISCOVERY, Endpoint::Discovery),
        (KEYS, Endpoint::Keys),
        (userinfo, Endpoint::Userinfo),
    ] {
        let op = StandIn::start().await;
        let moved = Reply {
            headers: vec![("location", "https://new.example/realm/doc".into())],
            ..Reply::html(301)
        };
        op.reply(path, &[moved]);
        let failure = op.login(&op.provider()).await.unwrap_err();
        assert!(
            matches!(&failure, LoginFailure::Redirect { endpoint: at, .. } if *at == endpoint),
            "{failure:?}"
        );
        assert!(
            failure.to_string().contains(
                "301 Moved Permanently and a redirect to `https://new.example/realm/doc`"
            )
        );
        assert!(
            failure
                .advice()
                .unwrap()
                .starts_with("redirects are not followed"),
            "{failure}"
        );
        assert_eq!(
            (failure.id(), failure.blame()),
            ("idp_unreachable", Blame::Provider)
        );
    }
}

#[tokio::test]
async fn refused_connection_is_reported() {
    let mut settings = StandIn::start().await.settings();
    settings.okta_account = Url::parse("http://127.0.0.1:1").unwrap();
    let failure = begin(&provider(settings)).await.unwrap_err();
    assert_eq!(
        failure.to_string(),
        "the identity provider's discovery document cannot be reached"
    );
    assert_eq!(
        failure.source().unwrap().to_string(),
        "could not connect to `127.0.0.1`"
    );
}

#[tokio::test]
async fn recovered_provider_is_used_again() {
    let op = StandIn::start().await;
    let provider = op.provider();
    let metadata = op.state().metadata.clone();
    op.reply(DISCOVERY, &[Reply::html(503), Reply::json(200, &metadata)]);
    assert!(matches!(
        op.login(&provider).await,
        Err(LoginFailure::Answer {
            endpoint: Endpoint::Discovery,
            ..
        })
    ));
    assert!(
        op.login(&provider).await.is_err(),
        "within the memory of the failure"
    );
    tokio::time::sleep(op.client().ages.failure + Duration::from_millis(100)).await;
    assert!(op.login(&provider).await.is_ok());
}

#[tokio::test]
async fn concurrent_logins_share_one_fetch() {
    let op = std::sync::Arc::new(StandIn::start().await);
    let provider = std::sync::Arc::new(op.provider());
    let slow = Reply {
        delay: Duration::from_millis(100),
        ..Reply::json(200, &op.state().metadata.clone())
    };
    op.reply(DISCOVERY, &[slow]);
    let tasks: Vec<_> = (0..40)
        .map(|_| {
            let (op, provider) = (std::sync::Arc::clone(&op), std::sync::Arc::clone(&provider));
            tokio::spawn(async move { op.login(&provider).await })
        })
        .collect();
    for task in tasks {
        assert!(task.await.unwrap().is_ok());
    }
    assert_eq!(
        (op.calls(DISCOVERY), op.calls(KEYS), op.calls(TOKEN)),
        (1, 1, 40)
    );
}

#[tokio::test]
async fn last_good_documents_are_used_until_stale() {
    let op = StandIn::start().await;
    let ages = Ages {
        fresh: Duration::from_millis(50),
        stale: Duration::from_millis(900),
        cooldown: Duration::from_millis(10),
        failure: Duration::from_millis(10),
    };
    let provider = provider(OktaSettings {
        client: ClientSettings {
            ages,
            ..op.client()
        },
        ..op.settings()
    });
    assert!(op.login(&provider).await.is_ok());
    for reply in [
        Reply::html(200),
        Reply::html(500),
        Reply::json(200, &json!({"keys": []})),
        Reply::json(200, &json!(7)),
    ] {
        op.reply(DISCOVERY, std::slice::from_ref(&reply));
        op.reply(KEYS, &[reply]);
        tokio::time::sleep(Duration::from_millis(60)).await;
        assert!(op.login(&provider).await.is_ok());
    }
    assert!(
        op.calls(DISCOVERY) > 1 && op.calls(KEYS) > 1,
        "they were looked for"
    );
    tokio::time::sleep(ages.stale).await;
    assert_eq!(
        op.login(&provider).await.unwrap_err().blame(),
        Blame::Provider
    );
    op.state().replies.clear();
    tokio::time::sleep(Duration::from_millis(60)).await;
    assert!(op.login(&provider).await.is_ok());
}

#[tokio::test]
async fn odd_documents_cannot_prevent_a_login() {
    let op = StandIn::start().await;
    {
        let mut state = op.state();
        let metadata = state.metadata.as_object_mut().unwrap();
        metadata.retain(|name, _| !name.ends_with("_supported"));
        metadata.extend([
            ("op_policy_uri".to_owned(), json!("")),
            ("acr_values_supported".to_owned(), json!([1])),
            ("end_session_endpoint".to_owned(), json!("/logout")),
        ]);
        let key = rsa(0).jwk(Some("k0"));
        let padded = format!("{}==", key["n"].as_str().unwrap());
        state.jwks = json!({"keys": [7, {"kty": 7}, {"kty": "RSA", "kid": "k0", "n": padded, "e": "AQAB", "alg": ""}]})
            .to_string();
    }
    let body = op.state().userinfo.to_string();
    op.reply(
        "/oauth2/v1/userinfo",
        &[Reply {
            body,
            ..Reply::html(200)
        }],
    );
    assert!(op.login(&op.provider()).await.is_ok());
    op.reply("/oauth2/v1/userinfo", &[Reply::html(200)]);
    let failure = op.login(&op.provider()).await.unwrap_err();
    assert!(
        matches!(failure, LoginFailure::Userinfo(ClaimsError::NotJson)),
        "{failure:?}"
    );
}

#[tokio::test]
async fn r18_moved_endpoints_are_rejected() {
    let (op, other) = (StandIn::start().await, StandIn::start().await);
    let ages = Ages {
        fresh: Duration::from_millis(20),
        stale: Duration::from_millis(400),
        ..op.client().ages
    };
    let ages = Ages {
        failure: Duration::from_millis(10),
        ..ages
    };
    let settings = OktaSettings {
        client: ClientSettings {
            ages,
            ..op.client()
        },
        ..op.settings()
    };
    let moving = provider(settings);
    assert!(op.login(&moving).await.is_ok());
    op.state().metadata["token_endpoint"] = json!(format!("{}{TOKEN}", other.origin));
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(
        op.login(&moving).await.is_ok(),
        "by the document that was known"
    );
    tokio::time::sleep(Duration::from_millis(450)).await;
    let failure = op.login(&moving).await.unwrap_err();
    assert!(matches!(failure, LoginFailure::Moved { .. }), "{failure:?}");
    assert!(
        other.state().calls.is_empty(),
        "the client secret was not taken there"
    );
}

#[tokio::test]
async fn custom_authorization_server_is_used() {
    let op = StandIn::start().await;
    let issuer = format!("{}/oauth2/default", op.origin);
    op.state().metadata["issuer"] = json!(issuer);
    let metadata = op.state().metadata.clone();
    op.reply(
        "/oauth2/default/.well-known/openid-configuration",
        &[Reply::json(200, &metadata)],
    );
    op.state().jwks = jwks(&[rsa(0).jwk(Some("k0"))]);
    let settings = OktaSettings {
        authorization_server_id: Some("default".into()),
        ..op.settings()
    };
    assert_eq!(settings.issuer(), issuer);
    assert!(op.login(&provider(settings)).await.is_ok());
}
