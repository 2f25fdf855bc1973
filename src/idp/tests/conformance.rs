//! The applicable relying-party tests of the OpenID conformance suite: the Basic and the Config
//! plan.

use serde_json::{Value, json};

use super::stand_in::{StandIn, begin, finish};
use super::*;
use crate::model::GroupsSource;
use crate::oidc::testing::{ec, jwks, rsa};
use crate::oidc::{ClaimsError, IdTokenError};

async fn with_claim(name: &str, value: Value) -> Result<ProviderIdentity, LoginFailure> {
    let op = StandIn::start().await;
    op.state().id_token = json!({ name: value });
    op.login(&op.provider()).await
}

async fn refused(name: &str, value: Value) -> IdTokenError {
    match with_claim(name, value).await {
        Err(LoginFailure::IdToken(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn oidcc_client_test() {
    let op = StandIn::start().await;
    op.state().userinfo["department"] = json!("R&D");
    let profile = op.login(&op.provider()).await.unwrap();
    let admins = Group {
        id: "admins".into(),
        name: "admins".into(),
    };
    let expected = ProviderIdentity {
        subject: "00u1".into(),
        email: Email::parse("ann@corp.example").unwrap(),
        name: Some("Ann".into()),
        idp: IdpRef {
            id: IdpId("okta-1".into()),
            kind: "okta".into(),
        },
        groups: Groups::Known(vec![admins]),
        groups_seen: Some(GroupsSeen {
            source: GroupsSource::Userinfo,
            at: NOW,
        }),
        groups_missing: None,
        amr: Some(vec!["pwd".into()]),
        claims: Map::from_iter([("department".to_owned(), json!("R&D"))]),
        headers: Vec::new(),
        at: NOW,
        ip: Some("192.0.2.7".parse().unwrap()),
        session_ends: None,
        id_token: None,
    };
    assert_eq!(profile, expected);
    let calls = [
        "/.well-known/openid-configuration",
        "/oauth2/v1/token",
        "/oauth2/v1/keys",
        "/oauth2/v1/userinfo",
    ];
    assert_eq!(op.state().calls, calls);
    assert_eq!(profile.into_identity(UserId("u".into())).subject, "00u1");
}

#[tokio::test]
async fn oidcc_client_test_invalid_iss() {
    assert_eq!(
        refused("iss", json!("https://evil.example")).await,
        IdTokenError::Issuer
    );
}

#[tokio::test]
async fn oidcc_client_test_missing_sub() {
    assert_eq!(
        refused("sub", Value::Null).await,
        IdTokenError::Claim("sub")
    );
}

#[tokio::test]
async fn oidcc_client_test_invalid_aud() {
    assert_eq!(refused("aud", json!("other")).await, IdTokenError::Audience);
}

#[tokio::test]
async fn oidcc_client_test_missing_aud() {
    assert_eq!(
        refused("aud", Value::Null).await,
        IdTokenError::Claim("aud")
    );
}

#[tokio::test]
async fn oidcc_client_test_missing_iat() {
    assert_eq!(
        refused("iat", Value::Null).await,
        IdTokenError::Claim("iat")
    );
}

#[tokio::test]
async fn oidcc_client_test_kid_absent_single_jwks() {
    let op = StandIn::start().await;
    op.state().header = json!({"alg": "RS256"});
    op.state().jwks = jwks(&[rsa(0).jwk(None)]);
    assert!(op.login(&op.provider()).await.is_ok());
}

#[tokio::test]
async fn oidcc_client_test_kid_absent_multiple_jwks() {
    let op = StandIn::start().await;
    op.state().header = json!({"alg": "RS256"});
    op.state().jwks = jwks(&[
        rsa(1).jwk(Some("k1")),
        ec("ES256").jwk(Some("k2")),
        rsa(0).jwk(Some("k0")),
    ]);
    let result = op.login(&op.provider()).await;
    assert!(
        matches!(
            result,
            Err(LoginFailure::IdToken(IdTokenError::AmbiguousKey))
        ),
        "{result:?}"
    );
    op.state().jwks = jwks(&[ec("ES256").jwk(Some("k2")), rsa(0).jwk(Some("k0"))]);
    assert!(
        op.login(&op.provider()).await.is_ok(),
        "only one can have signed it"
    );
}

#[tokio::test]
async fn oidcc_client_test_idtoken_sig_rs256() {
    let op = StandIn::start().await;
    assert_eq!(op.state().header["alg"], "RS256");
    assert!(op.login(&op.provider()).await.is_ok());
}

#[tokio::test]
async fn oidcc_client_test_idtoken_sig_none() {
    let op = StandIn::start().await;
    op.state().header = json!({"alg": "none"});
    assert!(matches!(
        op.login(&op.provider()).await,
        Err(LoginFailure::IdToken(IdTokenError::Header))
    ));
}

#[tokio::test]
async fn oidcc_client_test_invalid_sig_rs256() {
    let op = StandIn::start().await;
    op.state().key = rsa(1);
    let result = op.login(&op.provider()).await;
    assert!(
        matches!(result, Err(LoginFailure::IdToken(IdTokenError::Signature))),
        "{result:?}"
    );
}

#[tokio::test]
async fn oidcc_client_test_invalid_sig_es256() {
    let op = StandIn::start().await;
    op.state().header = json!({"alg": "ES256", "kid": "e"});
    op.state().key = ec("ES256");
    op.state().jwks = jwks(&[ec("ES256").jwk(Some("e"))]);
    assert!(matches!(
        op.login(&op.provider()).await,
        Err(LoginFailure::IdToken(IdTokenError::Signature))
    ));
}

#[tokio::test]
async fn oidcc_client_test_invalid_sig_hs256() {
    let op = StandIn::start().await;
    op.state().header = json!({"alg": "HS256", "kid": "k0"});
    assert!(matches!(
        op.login(&op.provider()).await,
        Err(LoginFailure::IdToken(IdTokenError::Header))
    ));
}

/// The stand-in returns claims for a bearer header only.
#[tokio::test]
async fn oidcc_client_test_userinfo_bearer_header() {
    let op = StandIn::start().await;
    op.state().id_token = json!({"email": null});
    assert_eq!(
        op.login(&op.provider()).await.unwrap().email.as_str(),
        "ann@corp.example"
    );
}

/// The suite allows skipping this test: the token is sent in the header only. If the provider
/// rejects that, the login fails, because userinfo claims must not be missing.
#[tokio::test]
async fn oidcc_client_test_userinfo_bearer_body() {
    let op = StandIn::start().await;
    op.reply(
        "/oauth2/v1/userinfo",
        &[stand_in::Reply::json(
            401,
            &json!({"error": "invalid_token"}),
        )],
    );
    let failure = op.login(&op.provider()).await.unwrap_err();
    assert!(
        matches!(
            failure,
            LoginFailure::Answer {
                endpoint: Endpoint::Userinfo,
                ..
            }
        ),
        "{failure:?}"
    );
    assert_eq!(op.calls("/oauth2/v1/userinfo"), 1, "asked once, in one way");
}

#[tokio::test]
async fn oidcc_client_test_userinfo_invalid_sub() {
    let op = StandIn::start().await;
    for sub in [json!("00u2"), Value::Null] {
        op.state().userinfo["sub"] = sub;
        assert!(matches!(
            op.login(&op.provider()).await,
            Err(LoginFailure::SubjectMismatch)
        ));
    }
}

#[tokio::test]
async fn oidcc_client_test_nonce_invalid() {
    assert_eq!(refused("nonce", json!("other")).await, IdTokenError::Nonce);
    assert_eq!(refused("nonce", Value::Null).await, IdTokenError::Nonce);
}

#[tokio::test]
async fn oidcc_client_test_scope_userinfo_claims() {
    let op = StandIn::start().await;
    let begun = begin(&op.provider()).await.unwrap();
    let scope = begun
        .url
        .query_pairs()
        .find(|(name, _)| name == "scope")
        .unwrap()
        .1
        .into_owned();
    assert_eq!(scope, "openid profile email groups");
}

/// The stand-in accepts only this method. Its metadata first lists it, and then another.
#[tokio::test]
async fn oidcc_client_test_client_secret_basic() {
    let op = StandIn::start().await;
    op.state().metadata["token_endpoint_auth_methods_supported"] =
        json!(["client_secret_post", "client_secret_basic"]);
    assert!(op.login(&op.provider()).await.is_ok());
    op.state().metadata["token_endpoint_auth_methods_supported"] = json!(["client_secret_post"]);
    let failure = op.login(&op.provider()).await.unwrap_err();
    assert!(
        matches!(&failure, LoginFailure::TokenEndpoint { status, .. } if status.as_u16() == 401),
        "{failure}"
    );
    assert_eq!(
        (failure.id(), failure.blame()),
        ("idp_token", Blame::Provider)
    );
}

#[tokio::test]
async fn oidcc_client_test_discovery_openid_config() {
    let op = StandIn::start().await;
    let begun = begin(&op.provider()).await.unwrap();
    assert!(
        begun
            .url
            .as_str()
            .starts_with(&format!("{}/oauth2/v1/authorize?", op.origin))
    );
}

#[tokio::test]
async fn oidcc_client_test_discovery_jwks_uri_keys() {
    let op = StandIn::start().await;
    let moved = format!("{}/other/keys", op.origin);
    op.state().metadata["jwks_uri"] = json!(moved);
    let keys: Value = serde_json::from_str(&op.state().jwks).unwrap();
    op.reply("/other/keys", &[stand_in::Reply::json(200, &keys)]);
    assert!(op.login(&op.provider()).await.is_ok());
    assert_eq!(
        (op.calls("/other/keys"), op.calls("/oauth2/v1/keys")),
        (1, 0)
    );
}

#[tokio::test]
async fn oidcc_client_test_discovery_issuer_mismatch() {
    let op = StandIn::start().await;
    for issuer in [format!("{}/", op.origin), "https://evil.example".to_owned()] {
        op.state().metadata["issuer"] = json!(issuer);
        let failure = begin(&op.provider()).await.unwrap_err();
        assert!(matches!(
            failure,
            LoginFailure::Issuer(IssuerMismatch::Discovery { .. })
        ));
        assert_eq!(
            (failure.id(), failure.blame()),
            ("idp_issuer", Blame::Provider)
        );
    }
}

#[tokio::test]
async fn oidcc_client_test_signing_key_rotation_just_before_signing() {
    let op = StandIn::start().await;
    let provider = op.provider();
    assert!(op.login(&provider).await.is_ok());
    let begun = begin(&provider).await.unwrap();
    op.state().key = rsa(1);
    op.state().header["kid"] = json!("k1");
    op.state().jwks = jwks(&[rsa(1).jwk(Some("k1"))]);
    assert!(
        finish(&provider, &begun, &op.authorize(&begun))
            .await
            .is_ok()
    );
    assert_eq!(op.calls("/oauth2/v1/keys"), 2);
}

#[tokio::test]
async fn oidcc_client_test_signing_key_rotation() {
    let op = StandIn::start().await;
    let provider = op.provider();
    for (index, kid) in [(0, "k0"), (1, "k1"), (0, "k2")] {
        op.state().key = rsa(index);
        op.state().header["kid"] = json!(kid);
        op.state().jwks = jwks(&[rsa(index).jwk(Some(kid))]);
        assert!(op.login(&provider).await.is_ok(), "{kid}");
        tokio::time::sleep(op.client().ages.cooldown).await;
    }
    assert_eq!(op.calls("/oauth2/v1/keys"), 3);
}

#[tokio::test]
async fn userinfo_that_is_not_json_is_rejected() {
    let op = StandIn::start().await;
    op.reply("/oauth2/v1/userinfo", &[stand_in::Reply::html(200)]);
    assert!(matches!(
        op.login(&op.provider()).await,
        Err(LoginFailure::Userinfo(ClaimsError::NotJson))
    ));
}
