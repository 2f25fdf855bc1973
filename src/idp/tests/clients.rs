//! Client authentication, login parameters, and providers other than Okta.

use serde_json::{Value, json};

use super::stand_in::{Reply, StandIn, begin, finish, http, provider, redirect_uri};
use std::time::Duration;

use super::*;
use crate::model::AbsentGroups;
use crate::oidc::IdTokenError;
use crate::oidc::testing::{TestKey, ec, rsa};

const PAR: &str = "/oauth2/v1/par";

fn with_key(op: &StandIn, key: &TestKey) -> ClientSettings {
    op.state().client_key = Some(key.clone());
    let key = ClientKey::from_pem(&key.pem(), Some("key-1".into())).unwrap();
    ClientSettings {
        credentials: Credentials::Key(key.into()),
        ..op.client()
    }
}

fn query(url: &Url, name: &str) -> Option<String> {
    url.query_pairs()
        .find(|(key, _)| key == name)
        .map(|(_, value)| value.into_owned())
}

#[tokio::test]
async fn private_key_replaces_the_secret() {
    for key in [rsa(0), ec("ES256")] {
        let op = StandIn::start().await;
        let settings = with_key(&op, &key);
        let okta = provider(OktaSettings {
            client: settings.clone(),
            ..op.settings()
        });
        assert!(op.login(&okta).await.is_ok() && op.login(&okta).await.is_ok());
        assert_eq!(
            op.state().assertions.len(),
            2,
            "each assertion is for one request"
        );
        op.state().metadata["token_endpoint_auth_methods_supported"] =
            json!(["client_secret_basic"]);
        let failure = op
            .login(&provider(OktaSettings {
                client: settings,
                ..op.settings()
            }))
            .await
            .unwrap_err();
        assert_eq!(
            (failure.id(), failure.blame()),
            ("idp_discovery", Blame::Provider)
        );
    }
}

#[tokio::test]
async fn configured_authentication_method_is_used() {
    for (method, takes_post) in [
        (ClientAuth::ClientSecretPost, true),
        (ClientAuth::ClientSecretBasic, false),
    ] {
        for listed in [
            Value::Null,
            json!(["client_secret_basic"]),
            json!(["client_secret_post"]),
            json!(["none"]),
        ] {
            let op = StandIn::start().await;
            op.state().takes_post = takes_post;
            op.state().metadata["token_endpoint_auth_methods_supported"] = listed.clone();
            op.state().metadata["pushed_authorization_request_endpoint"] =
                json!(format!("{}{PAR}", op.origin));
            for pushed_requests in [false, true] {
                let client = ClientSettings {
                    auth_method: Some(method),
                    pushed_requests,
                    ..op.client()
                };
                let ended = op
                    .login(&provider(OktaSettings {
                        client,
                        ..op.settings()
                    }))
                    .await;
                assert!(ended.is_ok(), "{method:?}, {listed}: {ended:?}");
            }
            let other = if takes_post {
                ClientAuth::ClientSecretBasic
            } else {
                ClientAuth::ClientSecretPost
            };
            let client = ClientSettings {
                auth_method: Some(other),
                ..op.client()
            };
            let ended = op
                .login(&provider(OktaSettings {
                    client,
                    ..op.settings()
                }))
                .await;
            assert!(
                matches!(ended, Err(LoginFailure::TokenEndpoint { .. })),
                "{method:?}, {listed}: {ended:?}"
            );
        }
    }
    let op = StandIn::start().await;
    let client = ClientSettings {
        auth_method: Some(ClientAuth::PrivateKeyJwt),
        ..with_key(&op, &ec("ES256"))
    };
    op.state().metadata["token_endpoint_auth_methods_supported"] = json!(["client_secret_basic"]);
    assert!(
        op.login(&provider(OktaSettings {
            client,
            ..op.settings()
        }))
        .await
        .is_ok()
    );
}

#[test]
fn keys_that_cannot_sign_are_rejected_when_read() {
    for key in [
        "",
        "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        "{\"kty\":\"RSA\"}",
    ] {
        assert_eq!(
            ClientKey::from_pem(&Secret::new(key), None).unwrap_err(),
            ClientKeyError::Unusable,
            "{key}"
        );
    }
    assert_eq!(
        ClientKey::from_pem(&ec("ES384").pem(), None).unwrap_err(),
        ClientKeyError::Weak
    );
    let key = ClientKey::from_pem(&rsa(0).pem(), Some("k".into())).unwrap();
    assert!(!format!("{key:?}").contains("content"), "{key:?}");
}

#[tokio::test]
async fn rfc9126_login_request_is_pushed() {
    for key in [None, Some(rsa(0))] {
        let op = StandIn::start().await;
        let client = key
            .as_ref()
            .map_or_else(|| op.client(), |key| with_key(&op, key));
        let okta = |pushed_requests| {
            provider(OktaSettings {
                client: ClientSettings {
                    pushed_requests,
                    ..client.clone()
                },
                ..op.settings()
            })
        };
        // There is no endpoint to push the request to.
        let failure = begin(&okta(true)).await.unwrap_err();
        assert_eq!(
            (failure.id(), failure.blame()),
            ("idp_discovery", Blame::Provider)
        );
        op.state().metadata["pushed_authorization_request_endpoint"] =
            json!(format!("{}{PAR}", op.origin));
        let begun = begin(&okta(true)).await.unwrap();
        let name = query(&begun.url, "request_uri").unwrap();
        let pushed = op.state().pushed[&name].clone();
        assert_eq!(pushed["response_type"], "code");
        assert!(
            pushed.contains_key("code_challenge")
                && pushed.contains_key("nonce")
                && pushed.contains_key("state")
        );
        assert!(
            finish(&okta(true), &begun, &op.authorize(&begun))
                .await
                .is_ok()
        );
        // Pushing is optional unless the provider requires it.
        assert_eq!(
            query(&begin(&okta(false)).await.unwrap().url, "request_uri"),
            None
        );
        op.state().metadata["require_pushed_authorization_requests"] = json!(true);
        assert!(query(&begin(&okta(false)).await.unwrap().url, "request_uri").is_some());
    }
}

#[tokio::test]
async fn rfc9126_rejected_request_fails_the_login() {
    let op = StandIn::start().await;
    op.state().metadata["pushed_authorization_request_endpoint"] =
        json!(format!("{}{PAR}", op.origin));
    let okta = provider(OktaSettings {
        client: ClientSettings {
            pushed_requests: true,
            ..op.client()
        },
        ..op.settings()
    });
    let refusal = json!({"error": "invalid_request", "error_description": "no such\r\nscope"});
    for reply in [
        Reply::json(400, &refusal),
        Reply::json(200, &json!({"request_uri": "x"})),
        Reply::html(201),
    ] {
        op.reply(PAR, &[reply]);
        let failure = begin(&okta).await.unwrap_err();
        assert_eq!(
            (failure.id(), failure.blame()),
            ("idp_request", Blame::Provider)
        );
        assert!(!failure.to_string().contains('\n'), "{failure}");
    }
    op.reply(PAR, &[Reply::hang()]);
    assert!(matches!(
        begin(&okta).await,
        Err(LoginFailure::Unreachable {
            endpoint: Endpoint::Pushed,
            ..
        })
    ));
}

#[tokio::test]
async fn login_request_has_the_configured_parameters() {
    let op = StandIn::start().await;
    let client = ClientSettings {
        prompt: Some(Prompt::SelectAccount),
        max_age: Some(Duration::from_secs(3600)),
        ..op.client()
    };
    let okta = provider(OktaSettings {
        client,
        ..op.settings()
    });
    let url = begin(&okta).await.unwrap().url;
    assert_eq!(query(&url, "prompt").as_deref(), Some("select_account"));
    assert_eq!(query(&url, "max_age").as_deref(), Some("3600"));
    let hints = Hints {
        prompt: Some(Prompt::Login),
        login_hint: Some("ann@corp.example".into()),
        ..Hints::default()
    };
    let url = okta
        .as_oidc()
        .unwrap()
        .begin("state", hints, NOW)
        .await
        .unwrap()
        .url;
    assert_eq!(
        query(&url, "prompt").as_deref(),
        Some("select_account"),
        "the configured one leads to another account"
    );
    assert_eq!(
        query(&url, "login_hint").as_deref(),
        Some("ann@corp.example")
    );
    let url = begin(&op.provider()).await.unwrap().url;
    assert_eq!(
        (
            query(&url, "prompt"),
            query(&url, "max_age"),
            query(&url, "login_hint")
        ),
        (None, None, None)
    );
}

#[tokio::test]
async fn prompt_for_another_account_is_a_supported_one() {
    let (consent, select, login) = (Prompt::Consent, Prompt::SelectAccount, Prompt::Login);
    for (configured, supported, expected) in [
        (None, Value::Null, "login"),
        (Some(consent), Value::Null, "login"),
        (Some(select.clone()), Value::Null, "select_account"),
        (Some(login.clone()), json!(["select_account"]), "login"),
        (Some(select), json!(["login"]), "select_account"),
        (None, json!(["none", "select_account"]), "select_account"),
        (None, json!(["login", "select_account"]), "login"),
        (None, json!(["none"]), "login"),
        (None, json!(7), "login"),
    ] {
        let op = StandIn::start().await;
        op.state().metadata["prompt_values_supported"] = supported.clone();
        let client = ClientSettings {
            prompt: configured.clone(),
            ..op.client()
        };
        let okta = provider(OktaSettings {
            client,
            ..op.settings()
        });
        let hints = || Hints {
            prompt: Some(login.clone()),
            ..Hints::default()
        };
        let begun = okta
            .as_oidc()
            .unwrap()
            .begin("state", hints(), NOW)
            .await
            .unwrap();
        assert_eq!(
            query(&begun.url, "prompt").as_deref(),
            Some(expected),
            "{configured:?} {supported}"
        );
        let again = okta
            .as_oidc()
            .unwrap()
            .begin_again("state", begun.pending.attempt, NOW)
            .await
            .unwrap();
        assert_eq!(
            query(&again.url, "prompt").as_deref(),
            Some(expected),
            "{configured:?} {supported}, again"
        );
    }
}

#[tokio::test]
async fn core_3_1_3_7_13_old_authentication_is_rejected() {
    let op = StandIn::start().await;
    let client = ClientSettings {
        max_age: Some(Duration::from_secs(3600)),
        ..op.client()
    };
    let okta = provider(OktaSettings {
        client,
        ..op.settings()
    });
    for (auth_time, refused) in [
        (json!(NOW.0 - 3600), None),
        (json!(NOW.0 as f64 - 3660.0), None),
        (json!(NOW.0 - 3661), Some(IdTokenError::LoginTooOld)),
        (json!(0), Some(IdTokenError::LoginTooOld)),
        (Value::Null, Some(IdTokenError::Claim("auth_time"))),
        (json!("now"), Some(IdTokenError::Claim("auth_time"))),
    ] {
        op.state().id_token = json!({ "auth_time": auth_time });
        match (op.login(&okta).await, refused) {
            (Ok(_), None) => {}
            (Err(LoginFailure::IdToken(error)), Some(expected)) => {
                assert_eq!(error, expected, "{auth_time}")
            }
            (other, _) => panic!("{auth_time}: {other:?}"),
        }
        assert!(op.login(&op.provider()).await.is_ok(), "no request");
    }
}

#[tokio::test]
async fn id_token_is_kept_only_for_provider_logout() {
    let op = StandIn::start().await;
    assert_eq!(op.login(&op.provider()).await.unwrap().id_token, None);
    let client = ClientSettings {
        provider_logout: true,
        ..op.client()
    };
    let okta = provider(OktaSettings {
        client,
        ..op.settings()
    });
    let profile = op.login(&okta).await.unwrap();
    assert!(!format!("{profile:?}").contains("eyJ"));
    let (token, back) = (
        profile.id_token.unwrap(),
        Url::parse("https://team.example/out").unwrap(),
    );
    assert_eq!(token.expose().split('.').count(), 3);
    assert_eq!(
        okta.as_oidc()
            .unwrap()
            .end_session(&token, &back, "s")
            .await,
        None,
        "the provider has no place for it"
    );
    op.state().metadata["end_session_endpoint"] = json!(format!("{}/oauth2/v1/logout", op.origin));
    let client = ClientSettings {
        provider_logout: true,
        ..op.client()
    };
    let okta = provider(OktaSettings {
        client,
        ..op.settings()
    });
    let url = okta
        .as_oidc()
        .unwrap()
        .end_session(&token, &back, "s/t")
        .await
        .unwrap();
    assert_eq!(url.path(), "/oauth2/v1/logout");
    for (name, value) in [
        ("id_token_hint", token.expose()),
        ("post_logout_redirect_uri", back.as_str()),
        ("client_id", "client"),
        ("state", "s/t"),
    ] {
        assert_eq!(query(&url, name).as_deref(), Some(value));
    }
    assert_eq!(
        op.provider()
            .as_oidc()
            .unwrap()
            .end_session(&token, &back, "s")
            .await,
        None,
        "it was not requested"
    );
}

pub(super) fn generic(op: &StandIn, change: impl FnOnce(&mut OidcSettings)) -> Provider {
    let mut settings = OidcSettings {
        client: op.client(),
        issuer: op.origin.clone(),
        endpoints: None,
        scopes: ["openid", "email", "roles"].map(str::to_owned).into(),
        groups_claim: GroupsClaim::default(),
        absent_groups: AbsentGroups::Unknown,
    };
    change(&mut settings);
    Provider::oidc(settings, http(), redirect_uri())
}

#[tokio::test]
async fn other_provider_is_used_by_its_discovery_document() {
    let op = StandIn::start().await;
    let names: Vec<String> = (0..450).map(|n| format!("group-{n}")).collect();
    op.state().userinfo["groups"] = json!(names);
    let provider = generic(&op, |_| {});
    let begun = begin(&provider).await.unwrap();
    assert_eq!(
        query(&begun.url, "scope").as_deref(),
        Some("openid email roles")
    );
    let profile = finish(&provider, &begun, &op.authorize(&begun))
        .await
        .unwrap();
    assert_eq!(profile.idp.kind, "oidc");
    assert!(
        matches!(&profile.groups, Groups::Known(groups) if groups.len() == 450),
        "only Okta stops at a hundred"
    );
    assert!(provider.refresh().is_none() && provider.look_up("00u1", NOW).await.is_err());
    op.state().userinfo["groups"] = Value::Null;
    op.state().userinfo["Groups"] = json!(["by any letters"]);
    let groups = op.login(&provider).await.unwrap().groups;
    assert!(
        matches!(&groups, Groups::Known(groups) if groups[0].name == "by any letters"),
        "{groups:?}"
    );
    op.state().userinfo["Groups"] = Value::Null;
    assert_eq!(op.login(&provider).await.unwrap().groups, Groups::Unknown);
}

#[tokio::test]
async fn oidcc_client_test_distributed_claims() {
    let op = StandIn::start().await;
    op.state().userinfo["groups"] = Value::Null;
    op.state().userinfo["_claim_names"] = json!({"groups": "src1"});
    op.state().userinfo["_claim_sources"] =
        json!({"src1": {"endpoint": format!("{}/elsewhere", op.origin)}});
    for provider in [generic(&op, |_| {}), op.provider()] {
        let profile = op.login(&provider).await.unwrap();
        assert_eq!(
            (profile.groups, profile.groups_missing),
            (Groups::Unknown, Some(GroupsMissing::Reference))
        );
    }
    assert_eq!(op.calls("/elsewhere"), 0);
}

#[tokio::test]
async fn other_provider_is_used_without_discovery_document() {
    let op = StandIn::start().await;
    let at = |path: &str| Url::parse(&format!("{}{path}", op.origin)).unwrap();
    let endpoints = Endpoints {
        authorization: at("/oauth2/v1/authorize"),
        token: at("/oauth2/v1/token"),
        jwks: at("/oauth2/v1/keys"),
        userinfo: Some(at("/oauth2/v1/userinfo")),
    };
    let fixed = generic(&op, |settings| settings.endpoints = Some(endpoints.clone()));
    assert_eq!(
        op.login(&fixed).await.unwrap().email.as_str(),
        "ann@corp.example"
    );
    assert_eq!(op.calls("/.well-known/openid-configuration"), 0);
    let claims_alone = generic(&op, |settings| {
        settings.endpoints = Some(Endpoints {
            userinfo: None,
            ..endpoints.clone()
        });
    });
    assert_eq!(
        op.login(&claims_alone).await.unwrap().name,
        None,
        "the ID token alone"
    );
    let other = generic(&op, |settings| {
        settings.endpoints = Some(endpoints.clone());
        settings.issuer = "http://other.example".to_owned();
    });
    assert!(matches!(
        op.login(&other).await,
        Err(LoginFailure::IdToken(IdTokenError::Issuer))
    ));
    let mixed = generic(&op, |settings| {
        settings.endpoints = Some(endpoints);
        settings.issuer = "https://login.example".to_owned();
    });
    assert_eq!(
        begin(&mixed).await.unwrap_err().id(),
        "idp_discovery",
        "a client secret without encryption"
    );
}

/// RFC 9700 4.4: a code of one provider is never sent to another's token endpoint, however the
/// browser is redirected.
#[tokio::test]
async fn rfc9700_4_4_providers_cannot_be_mixed_up() {
    let (honest, other) = (StandIn::start().await, StandIn::start().await);
    honest.state().metadata["authorization_response_iss_parameter_supported"] = json!(true);
    let named = |op: &StandIn, id: &str| {
        let client = ClientSettings {
            id: IdpId(id.into()),
            ..op.client()
        };
        provider(OktaSettings {
            client,
            ..op.settings()
        })
    };
    let (one, two) = (named(&honest, "honest"), named(&other, "other"));
    // Started at the second provider, which redirects to the honest one. That one names itself.
    let begun = begin(&two).await.unwrap();
    let answer = format!("{}&iss={}", honest.authorize(&begun), honest.origin);
    let failure = finish(&two, &begun, &answer).await.unwrap_err();
    assert!(
        matches!(failure, LoginFailure::Issuer(IssuerMismatch::Callback)),
        "{failure:?}"
    );
    // The reverse: a provider that promises to name itself and does not.
    let begun = begin(&one).await.unwrap();
    let failure = finish(&one, &begun, &other.authorize(&begun))
        .await
        .unwrap_err();
    assert!(
        matches!(failure, LoginFailure::Issuer(IssuerMismatch::Callback)),
        "{failure:?}"
    );
    // A login that is completed at the wrong provider.
    assert!(matches!(
        finish(&two, &begun, &honest.authorize(&begun)).await,
        Err(LoginFailure::Flow)
    ));
    for op in [&honest, &other] {
        assert_eq!(op.calls("/oauth2/v1/token"), 0);
    }
}
