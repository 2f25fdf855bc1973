//! Responses of the token and userinfo endpoints, from providers that misbehave.

use std::error::Error as _;

use serde_json::{Value, json};

use super::stand_in::{CLIENT_SECRET, Reply, StandIn, begin, finish, provider};
use super::*;
use crate::oidc::testing::{jwks, rsa};
use crate::oidc::{ClaimsError, IdTokenError};

const TOKEN: &str = "/oauth2/v1/token";

#[tokio::test]
async fn odd_token_responses_are_read_member_by_member() {
    let op = StandIn::start().await;
    let provider = op.provider();
    let answer = |change: &dyn Fn(&mut Value)| {
        let state = op.state();
        let claims = json!({
            "iss": state.metadata["issuer"], "sub": "00u1", "aud": "client", "iat": NOW.0, "exp": NOW.0 + 3600, "nonce": "n",
            "email": "ann@corp.example",
        });
        let id_token = state.key.sign(&state.header, &claims.to_string());
        let mut answer = json!({"access_token": "at-1", "token_type": "Bearer", "expires_in": 3600, "id_token": id_token});
        change(&mut answer);
        answer
    };
    let login = async |reply: Reply| {
        op.reply(TOKEN, &[reply]);
        let mut begun = begin(&provider).await.unwrap();
        begun.pending.nonce = Secret::new("n");
        let query = op.authorize(&begun);
        finish(&provider, &begun, &query).await
    };
    let changes: [&dyn Fn(&mut Value); 5] = [
        &|answer| answer["expires_in"] = json!("3600"),
        &|answer| answer["scope"] = json!(["openid", "email"]),
        &|answer| drop(answer.as_object_mut().unwrap().remove("token_type")),
        &|answer| answer["token_type"] = json!("BEARER"),
        &|answer| answer["refresh_token"] = json!(7),
    ];
    let marked = Reply {
        body: format!("\u{feff}{}", answer(&|_| ())),
        ..Reply::html(200)
    };
    assert!(login(marked).await.is_ok(), "a byte order mark");
    for change in changes {
        let body = answer(change);
        assert!(login(Reply::json(200, &body)).await.is_ok(), "{body}");
        let page = Reply {
            body: body.to_string(),
            ..Reply::html(200)
        };
        assert!(login(page).await.is_ok(), "{body} as text/html");
    }
    for (name, value, said) in [
        ("token_type", json!("DPoP"), "token type"),
        ("token_type", json!(["Bearer"]), "token type"),
        ("id_token", json!(7), "no ID token"),
        ("access_token", json!(null), "no access token"),
    ] {
        let failure = login(Reply::json(
            200,
            &answer(&|answer| answer[name] = value.clone()),
        ))
        .await
        .unwrap_err();
        assert!(failure.to_string().contains(said), "{name}: {failure}");
    }
    assert!(matches!(
        login(Reply::html(200)).await,
        Err(LoginFailure::NotJson { .. })
    ));
}

#[tokio::test]
async fn signed_userinfo_is_verified_with_the_providers_keys() {
    let op = StandIn::start().await;
    let provider = op.provider();
    let reply = |key: &crate::oidc::testing::TestKey, kid: &str, aud: &str| {
        let mut claims = op.state().userinfo.clone();
        claims["iss"] = json!(op.origin);
        claims["aud"] = json!(aud);
        let body = key.sign(&json!({"alg": "RS256", "kid": kid}), &claims.to_string());
        let headers = vec![("content-type", "application/jwt".to_owned())];
        op.reply(
            "/oauth2/v1/userinfo",
            &[Reply {
                body: format!("{body}\n"),
                headers,
                ..Reply::html(200)
            }],
        );
    };
    let client = op.settings().client.client_id.clone();
    reply(&rsa(0), "k0", &client);
    let profile = op.login(&provider).await.unwrap();
    assert_eq!(profile.email.as_str(), "ann@corp.example");
    // The key is newer than the ID token's verification.
    op.state().jwks = jwks(&[rsa(0).jwk(Some("k0")), rsa(1).jwk(Some("k1"))]);
    reply(&rsa(1), "k1", &client);
    assert!(op.login(&provider).await.is_ok());
    reply(&rsa(0), "k1", &client);
    let failure = op.login(&provider).await.unwrap_err();
    assert!(
        matches!(failure, LoginFailure::Userinfo(ClaimsError::Signature)),
        "{failure:?}"
    );
    reply(&rsa(0), "k0", "another-client");
    let failure = op.login(&provider).await.unwrap_err();
    assert!(
        matches!(failure, LoginFailure::Userinfo(ClaimsError::Foreign)),
        "{failure:?}"
    );
    let body = "eyJhbGciOiJSU0EtT0FFUCJ9.AA.AA.AA.AA".to_owned();
    op.reply(
        "/oauth2/v1/userinfo",
        &[Reply {
            body,
            ..Reply::html(200)
        }],
    );
    let failure = op.login(&provider).await.unwrap_err();
    assert!(
        failure.advice().unwrap().contains("encryption"),
        "{failure:?}"
    );
}

#[tokio::test]
async fn r11_unverified_emails_are_rejected() {
    let op = StandIn::start().await;
    for email in [
        "attacker@evil.example@corp.example",
        "ann@corp.example\0@evil.example",
        "ann",
        " ",
        "ann@%63orp.example",
        "ann@ｃorp.example",
        "ann@corp。example",
        "ann@co\u{ad}rp.example",
        "ann@corp.example.",
        "an\u{200b}n@corp.example",
    ] {
        op.state().id_token = json!({ "email": email });
        let failure = op.login(&op.provider()).await.unwrap_err();
        assert!(
            matches!(failure, LoginFailure::Email(EmailFailure::Malformed(_))),
            "{email:?}"
        );
        assert_eq!(failure.blame(), Blame::User);
    }
    op.state().id_token = json!({"email": "ada@bücher.test"});
    assert_eq!(
        op.login(&op.provider()).await.unwrap().email.as_str(),
        "ada@xn--bcher-kva.test"
    );
    let strict = provider(OktaSettings {
        client: ClientSettings {
            email_verified: EmailVerification::Required,
            ..op.client()
        },
        ..op.settings()
    });
    let unverified = |login: Result<ProviderIdentity, LoginFailure>| {
        matches!(login, Err(LoginFailure::Email(EmailFailure::Unverified(_))))
    };
    for verified in [
        json!(false),
        json!("False"),
        json!(0),
        json!("no"),
        json!([]),
    ] {
        op.state().id_token = json!({"email_verified": verified});
        assert!(
            unverified(op.login(&op.provider()).await) && unverified(op.login(&strict).await),
            "{verified}"
        );
    }
    for verified in [json!(true), json!("true"), json!("True")] {
        op.state().id_token = json!({"email_verified": verified});
        assert!(
            op.login(&op.provider()).await.is_ok() && op.login(&strict).await.is_ok(),
            "{verified}"
        );
    }
    op.state().id_token = json!({});
    assert!(op.login(&op.provider()).await.is_ok());
    let failure = op.login(&strict).await.unwrap_err();
    assert!(matches!(
        failure,
        LoginFailure::Email(EmailFailure::Unconfirmed(_))
    ));
    assert_eq!(
        (failure.blame(), failure.id()),
        (Blame::User, "email_refused")
    );
    let upn = provider(OktaSettings {
        client: ClientSettings {
            email_claim_name: Some("upn".into()),
            ..op.client()
        },
        ..op.settings()
    });
    assert!(matches!(
        op.login(&upn).await,
        Err(LoginFailure::Email(EmailFailure::Missing))
    ));
    op.state().userinfo["upn"] = json!("ann@other.example");
    assert_eq!(
        op.login(&upn).await.unwrap().email.as_str(),
        "ann@other.example"
    );
}

#[tokio::test]
async fn clock_skew_is_reported() {
    let op = StandIn::start().await;
    let now = NOW.0;
    for (iat, exp, seconds) in [(now + 300, now + 3900, 300), (now - 420, now - 120, 420)] {
        op.state().id_token = json!({"iat": iat, "exp": exp});
        let failure = op.login(&op.provider()).await.unwrap_err();
        assert!(
            matches!(failure, LoginFailure::ClockSkew { seconds: s } if s == seconds),
            "{failure:?}"
        );
        assert!(failure.to_string().contains(&format!("about {seconds} s")));
    }
    op.state().id_token = json!({"iat": now - 7200, "exp": now - 3600});
    assert!(matches!(
        op.login(&op.provider()).await,
        Err(LoginFailure::IdToken(IdTokenError::Time { .. }))
    ));
}

#[tokio::test]
async fn token_endpoint_errors_are_reported() {
    let op = StandIn::start().await;
    let provider = op.provider();
    let bearer = |more: Value| {
        let mut body = json!({"access_token": "leaky-token", "token_type": "Bearer", "id_token": "leaky.id.token"});
        more.as_object()
            .unwrap()
            .iter()
            .for_each(|(name, value)| body[name] = value.clone());
        Reply::json(200, &body)
    };
    for reply in [
        Reply::html(200),
        Reply::html(502),
        Reply::json(429, &json!({})),
        Reply {
            body: String::new(),
            ..Reply::html(500)
        },
        Reply {
            headers: vec![("location", "http://127.0.0.1:1/".to_owned())],
            ..Reply::html(307)
        },
        bearer(json!({"id_token": null})),
        bearer(json!({"token_type": "DPoP"})),
        bearer(json!({"id_token": 7, "refresh_token": "leaky-refresh"})),
        bearer(json!({"id_token": "leaky.id.token"})),
        Reply::json(200, &json!({"token_type": "Bearer", "id_token": "leaky"})),
        Reply::hang(),
    ] {
        op.reply(TOKEN, &[reply]);
        let failure = op.login(&provider).await.unwrap_err();
        assert!(!matches!(failure, LoginFailure::Callback(_)));
        let mut shown = format!("{failure:?} {failure}");
        let mut next = failure.source();
        while let Some(cause) = next {
            shown += &format!(" {cause:?} {cause}");
            next = cause.source();
        }
        for secret in ["leaky", CLIENT_SECRET, "code-", "?"] {
            assert!(!shown.contains(secret), "{secret} in {shown}");
        }
    }
}

#[tokio::test]
async fn response_that_is_not_json_is_reported_as_such() {
    let op = StandIn::start().await;
    let provider = op.provider();
    let plain = |body: &str| Reply {
        body: body.to_owned(),
        headers: Vec::new(),
        ..Reply::html(200)
    };
    let as_html = |body: &str| Reply {
        body: body.to_owned(),
        ..Reply::html(400)
    };
    for (reply, expected, hint) in [
        (Reply::html(200), "200 OK and a web page", "curl"),
        (plain("\n<!DOCTYPE html>"), "200 OK and a web page", "curl"),
        (plain("  "), "200 OK and an empty body", "curl"),
        (
            plain("access_token=x&token_type=bearer"),
            "200 OK and a body of another kind",
            "curl",
        ),
        (
            Reply::html(502),
            "502 Bad Gateway and a web page",
            "status page",
        ),
        (
            Reply::html(401),
            "401 Unauthorized and a web page",
            "Client Credentials",
        ),
    ] {
        op.reply(TOKEN, &[reply]);
        let failure = op.login(&provider).await.unwrap_err();
        assert_eq!(
            (failure.id(), failure.blame()),
            ("idp_token", Blame::Provider)
        );
        let said = failure.to_string();
        assert_eq!(
            said,
            format!(
                "the identity provider's token endpoint responded with {expected} instead of JSON"
            )
        );
        assert!(
            failure.advice().unwrap().contains(hint),
            "{said}: {:?}",
            failure.advice()
        );
    }
    op.reply(TOKEN, &[as_html(r#"{"error": "invalid_client"}"#)]);
    let failure = op.login(&provider).await.unwrap_err();
    assert!(
        failure.to_string().contains("invalid_client"),
        "JSON counts whatever it is called: {failure}"
    );
}

#[tokio::test]
async fn access_token_invalid_in_a_header_is_rejected() {
    let op = StandIn::start().await;
    op.state().access_token = "at\r\n1".to_owned();
    assert!(matches!(
        op.login(&op.provider()).await,
        Err(LoginFailure::TokenEndpoint { .. })
    ));
    assert_eq!(op.calls("/oauth2/v1/userinfo"), 0);
}
