//! Callbacks, and the state of a login until its callback.

use serde_json::json;

use super::stand_in::{StandIn, Started, begin, finish};
use super::*;

const TOKEN: &str = "/oauth2/v1/token";

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
