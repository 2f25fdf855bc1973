use std::error::Error as _;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::stand_in::{CLIENT_SECRET, Reply, StandIn, Started, begin, finish, provider};
use super::*;
use crate::oidc::testing::{jwks, rsa};
use crate::oidc::{ClaimsError, IdTokenError};

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
async fn r02_r05_r06_only_the_own_callback_and_only_once() {
    let (op, provider) = {
        let op = StandIn::start().await;
        let provider = op.provider();
        (op, provider)
    };
    let (mine, theirs) = (
        begin(&provider).await.unwrap(),
        begin(&provider).await.unwrap(),
    );
    let (query, attackers) = (op.authorize(&mine), op.authorize(&theirs));
    let state =
        |failure: LoginFailure| matches!(failure, LoginFailure::Callback(CallbackError::State));
    assert!(state(
        finish(&provider, &mine, &attackers).await.unwrap_err()
    ));
    // Another login's code with this login's state: PKCE rejects it.
    let mixed = format!("code=code-1&state={}", mine.state.expose());
    let failure = finish(&provider, &mine, &mixed).await.unwrap_err();
    assert_eq!(
        (failure.id(), failure.blame()),
        ("idp_token", Blame::Browser)
    );
    assert_eq!(op.calls(TOKEN), 1);
    assert!(finish(&provider, &mine, &query).await.is_ok());
    let again = finish(&provider, &mine, &query).await.unwrap_err();
    assert_eq!(
        again.to_string(),
        "the token endpoint responded with 400 Bad Request: invalid_grant"
    );
    assert_eq!(op.calls(TOKEN), 3, "one call each, and none again");
}

#[tokio::test]
async fn rfc9207_and_rfc9700_4_4_mix_up_is_rejected() {
    let op = StandIn::start().await;
    op.state().metadata["authorization_response_iss_parameter_supported"] = json!(true);
    let provider = op.provider();
    let begun = begin(&provider).await.unwrap();
    let query = op.authorize(&begun);
    for query in [query.clone(), format!("{query}&iss=https://evil.example")] {
        let failure = finish(&provider, &begun, &query).await.unwrap_err();
        assert!(matches!(
            failure,
            LoginFailure::Issuer(IssuerMismatch::Callback)
        ));
        assert_eq!(failure.blame(), Blame::Browser);
    }
    for pending in [
        Pending {
            idp: IdpId("okta-2".into()),
            ..begun.pending.clone()
        },
        Pending {
            issuer: "https://evil.example".into(),
            ..begun.pending.clone()
        },
    ] {
        let failure = finish(
            &provider,
            &Started {
                pending,
                ..begun.clone()
            },
            &query,
        )
        .await
        .unwrap_err();
        assert!(matches!(failure, LoginFailure::Flow));
    }
    assert_eq!(op.calls(TOKEN), 0);
    assert!(
        finish(&provider, &begun, &format!("{query}&iss={}", op.origin))
            .await
            .is_ok()
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
        let mut told = format!("{failure:?} {failure}");
        let mut next = failure.source();
        while let Some(cause) = next {
            told += &format!(" {cause:?} {cause}");
            next = cause.source();
        }
        for secret in ["leaky", CLIENT_SECRET, "code-", "?"] {
            assert!(!told.contains(secret), "{secret} in {told}");
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

#[tokio::test]
async fn provider_text_is_one_short_line() {
    let op = StandIn::start().await;
    let provider = op.provider();
    let begun = begin(&provider).await.unwrap();
    let state = begun.state.expose();
    for (error, blame) in [
        ("access_denied", Blame::User),
        ("login_required", Blame::User),
        ("temporarily_unavailable", Blame::Provider),
    ] {
        let query = format!("error={error}&error_description=a%0d%0ab&state={state}");
        let failure = finish(&provider, &begun, &query).await.unwrap_err();
        assert_eq!((failure.id(), failure.blame()), ("idp_refused", blame));
        assert_eq!(
            failure.to_string(),
            format!("the identity provider returned `{error}`: a  b")
        );
    }
    assert_eq!(op.calls(TOKEN), 0);
}

#[tokio::test]
async fn pending_login_is_serialized_but_never_printed() {
    let op = StandIn::start().await;
    let provider = op.provider();
    let begun = begin(&provider).await.unwrap();
    let cookie = serde_json::to_string(&begun.pending).unwrap();
    let pending: Pending = serde_json::from_str(&cookie).unwrap();
    assert_eq!(pending, begun.pending);
    assert!(!format!("{pending:?}").contains(pending.nonce.expose()));
    assert!(
        finish(
            &provider,
            &Started {
                pending,
                ..begun.clone()
            },
            &op.authorize(&begun)
        )
        .await
        .is_ok()
    );
    assert_eq!(
        (provider.id().to_string().as_str(), provider.name()),
        ("okta-1", "Okta")
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
