//! Key sets that change or cannot be read.

use std::time::Duration;

use serde_json::json;

use super::stand_in::{Reply, StandIn, provider};
use super::*;
use crate::oidc::IdTokenError;
use crate::oidc::testing::{jwks, rsa};

const KEYS: &str = "/oauth2/v1/keys";

#[tokio::test]
async fn malformed_jwks_fails_the_login() {
    let op = StandIn::start().await;
    let big = Reply {
        body: " ".repeat(300 * 1024),
        ..Reply::html(200)
    };
    let oct = json!({"keys": [{"kty": "oct", "kid": "k0", "k": "AAAA"}]});
    for reply in [
        Reply::html(200),
        Reply::json(200, &json!({"keys": []})),
        Reply::json(200, &oct),
        big,
        Reply::hang(),
    ] {
        op.reply(KEYS, &[reply]);
        let failure = op.login(&op.provider()).await.unwrap_err();
        assert!(matches!(
            failure,
            LoginFailure::Keys(_)
                | LoginFailure::Unreachable {
                    endpoint: Endpoint::Keys,
                    ..
                }
        ));
        assert_eq!(failure.blame(), Blame::Provider);
    }
}

/// Returns a provider with a cooldown that no test lives to see the end of.
fn patient(op: &StandIn) -> Provider {
    let ages = Ages {
        cooldown: Duration::from_secs(600),
        ..op.client().ages
    };
    provider(OktaSettings {
        client: ClientSettings {
            ages,
            ..op.client()
        },
        ..op.settings()
    })
}

#[tokio::test]
async fn j09_unknown_keys_cost_one_fetch_per_cooldown() {
    let op = StandIn::start().await;
    let provider = patient(&op);
    assert!(op.login(&provider).await.is_ok());
    for n in 0..20 {
        op.state().header["kid"] = json!(format!("random-{n}"));
        let failure = op.login(&provider).await.unwrap_err();
        assert!(matches!(
            failure,
            LoginFailure::IdToken(IdTokenError::UnknownKey)
        ));
    }
    assert!(op.calls(KEYS) <= 4, "{} fetches", op.calls(KEYS));
}

#[tokio::test]
async fn rotated_keys_are_fetched_whatever_their_name() {
    let op = StandIn::start().await;
    let provider = patient(&op);
    let sign_with = |index: usize, kid: &str| {
        let mut state = op.state();
        (state.key, state.jwks) = (rsa(index), jwks(&[rsa(index).jwk(Some(kid))]));
        state.header["kid"] = json!(kid);
    };
    assert!(op.login(&provider).await.is_ok());
    // A new key under the old name, then another one under a new name.
    sign_with(1, "k0");
    assert!(op.login(&provider).await.is_ok());
    sign_with(0, "k1");
    assert!(op.login(&provider).await.is_ok());
    assert_eq!(op.calls(KEYS), 3);
    // The third change within the cooldown has to wait, and causes no fetch however many logins
    // need it.
    sign_with(1, "k1");
    for _ in 0..20 {
        let failure = op.login(&provider).await.unwrap_err();
        assert!(
            matches!(failure, LoginFailure::IdToken(IdTokenError::Signature)),
            "{failure:?}"
        );
        assert!(failure.advice().unwrap().contains("30 s"));
    }
    assert_eq!(op.calls(KEYS), 3);
}

#[tokio::test]
async fn concurrent_logins_after_a_rotation_share_one_fetch() {
    let op = StandIn::start().await;
    let provider = op.provider();
    assert!(op.login(&provider).await.is_ok());
    {
        let mut state = op.state();
        (state.key, state.jwks) = (rsa(1), jwks(&[rsa(1).jwk(Some("k0"))]));
    }
    let login = || op.login(&provider);
    let logins: [_; 4] = tokio::join!(login(), login(), login(), login()).into();
    assert!(logins.iter().all(Result::is_ok), "{logins:?}");
    assert_eq!(op.calls(KEYS), 2);
}
