//! Logins in which the user removes scopes from the request, which an authorization URL allows.

use serde_json::{Value, json};

use super::clients::generic;
use super::stand_in::{StandIn, provider};
use super::*;
use crate::model::AbsentGroups;

const PAR: &str = "/oauth2/v1/par";
const SCOPES: [&str; 4] = ["openid", "profile", "email", "groups"];

async fn without_groups() -> StandIn {
    let op = StandIn::start().await;
    op.state().userinfo["groups"] = Value::Null;
    op.state().id_token = json!({"email_verified": true});
    op.state().metadata["pushed_authorization_request_endpoint"] =
        json!(format!("{}{PAR}", op.origin));
    op
}

fn with(op: &StandIn, change: impl FnOnce(&mut OidcSettings)) -> Provider {
    generic(op, |settings| {
        settings.scopes = SCOPES.map(str::to_owned).into();
        settings.absent_groups = AbsentGroups::Empty;
        change(settings);
    })
}

fn names(profile: &ProviderIdentity) -> Option<usize> {
    profile.groups.known().map(<[Group]>::len)
}

#[tokio::test]
async fn scope_removed_by_the_user_does_not_empty_the_groups() {
    let op = without_groups().await;
    let provider = with(&op, |_| {});
    assert_eq!(names(&op.login(&provider).await.unwrap()), Some(0));
    for scopes in [
        "openid profile email",
        "openid",
        "openid profile email Groups",
        "openid profile email groups.read",
    ] {
        let profile = op.login_with_scopes(&provider, scopes).await.unwrap();
        assert_eq!(names(&profile), None, "{scopes}");
        assert_eq!(
            profile.groups_missing,
            Some(GroupsMissing::ScopeNotGranted),
            "{scopes}"
        );
        let note = provider.groups_note(&profile).unwrap();
        assert!(
            note.contains("`pushed_requests = true`") && note.contains("`groups`"),
            "{note}"
        );
    }
}

#[tokio::test]
async fn token_response_without_scopes_proves_no_absence() {
    let op = without_groups().await;
    let provider = with(&op, |_| {});
    for scope in [
        Value::Null,
        json!(""),
        json!(7),
        json!({"groups": true}),
        json!([7, "groups"]),
        json!("groups,email"),
    ] {
        op.state().scope = Some(scope.clone());
        assert_eq!(names(&op.login(&provider).await.unwrap()), None, "{scope}");
    }
    for scope in [
        json!("groups email profile"),
        json!(["openid", "email", "profile", "groups"]),
        json!("x email  profile groups"),
    ] {
        op.state().scope = Some(scope.clone());
        assert_eq!(
            names(&op.login(&provider).await.unwrap()),
            Some(0),
            "{scope}"
        );
    }
    op.state().scope = Some(Value::Null);
    let openid = with(&op, |settings| settings.scopes = vec!["openid".to_owned()]);
    assert_eq!(
        names(&op.login(&openid).await.unwrap()),
        Some(0),
        "there is no scope to take out"
    );
}

#[tokio::test]
async fn pushed_request_proves_scopes_unless_response_has_fewer() {
    let op = without_groups().await;
    let provider = with(&op, |settings| settings.client.pushed_requests = true);
    op.state().scope = Some(Value::Null);
    assert_eq!(names(&op.login(&provider).await.unwrap()), Some(0));
    assert_eq!(
        names(&op.login_with_scopes(&provider, "openid").await.unwrap()),
        Some(0),
        "no scope is in the address"
    );
    op.state().scope = Some(json!(7));
    assert_eq!(
        names(&op.login(&provider).await.unwrap()),
        None,
        "an unreadable list may have fewer"
    );
    // The user did not consent to one of them.
    op.state().scope = Some(json!("openid profile email"));
    assert_eq!(names(&op.login(&provider).await.unwrap()), None);
    // The scopes of the request count; a reload may have changed the configured ones since.
    op.state().scope = Some(Value::Null);
    let earlier = with(&op, |settings| {
        settings.client.pushed_requests = true;
        settings.scopes = vec!["openid".to_owned()];
    });
    let begun = super::stand_in::begin(&earlier).await.unwrap();
    let profile = super::stand_in::finish(&provider, &begun, &op.authorize(&begun))
        .await
        .unwrap();
    assert_eq!(names(&profile), None);
}

#[tokio::test]
async fn claim_of_an_ungranted_scope_is_unknown() {
    let op = without_groups().await;
    let claims = |provider: &Provider, profile: ProviderIdentity| {
        assert_eq!(provider.configured_claims(), ["department"]);
        let found = profile.claims.get("department").cloned();
        let note = provider.claims_note(&profile);
        assert_eq!(
            note.is_some_and(|note| note.contains("Unknown: `department`.")),
            found.is_none()
        );
        found
    };
    for provider in [with(&op, |_| {}), provider(op.settings())] {
        assert_eq!(
            claims(&provider, op.login(&provider).await.unwrap()),
            Some(Value::Null)
        );
        let profile = op
            .login_with_scopes(&provider, "openid email groups")
            .await
            .unwrap();
        assert_eq!(claims(&provider, profile), None);
        op.state().userinfo["department"] = json!("R&D");
        let profile = op
            .login_with_scopes(&provider, "openid email groups")
            .await
            .unwrap();
        assert_eq!(claims(&provider, profile), Some(json!("R&D")));
        op.state().userinfo["department"] = Value::Null;
    }
    // An ID token on its own may omit claims.
    op.state()
        .metadata
        .as_object_mut()
        .unwrap()
        .remove("userinfo_endpoint");
    let provider = with(&op, |_| {});
    assert_eq!(claims(&provider, op.login(&provider).await.unwrap()), None);
}

#[tokio::test]
async fn incomparable_claim_is_reported_as_unknown() {
    let op = without_groups().await;
    let provider = with(&op, |_| {});
    for value in [
        json!([{"name": "R&D"}]),
        json!({"name": "R&D"}),
        json!([["R&D"]]),
        json!(["R&D", null]),
    ] {
        op.state().userinfo["department"] = value.clone();
        let profile = op.login(&provider).await.unwrap();
        assert_eq!(profile.claims.get("department"), Some(&value));
        let note = provider.claims_note(&profile);
        assert!(
            note.is_some_and(|note| note.starts_with("Unknown: `department`.")),
            "{value}"
        );
    }
}

#[tokio::test]
async fn email_is_not_verified_without_its_scope() {
    let op = without_groups().await;
    op.state().userinfo["preferred_username"] = json!("ann@corp.example");
    op.state().id_token = json!({});
    let upn = with(&op, |settings| {
        settings.client.email_claim_name = Some("preferred_username".to_owned())
    });
    assert!(op.login(&upn).await.is_ok());
    let failure = op
        .login_with_scopes(&upn, "openid profile groups")
        .await
        .unwrap_err();
    assert!(
        matches!(failure, LoginFailure::Email(EmailFailure::ScopeNotGranted)),
        "{failure:?}"
    );
    assert_eq!(
        (failure.id(), failure.blame()),
        ("email_refused", Blame::User)
    );
    assert!(failure.advice().unwrap().contains("`email`"));
    op.state().userinfo["email_verified"] = json!(true);
    assert!(
        op.login_with_scopes(&upn, "openid profile groups")
            .await
            .is_ok()
    );
    op.state().userinfo["email_verified"] = Value::Null;
    op.state().scope = Some(json!(
        "https://www.googleapis.com/auth/userinfo.email openid"
    ));
    assert!(
        op.login(&upn).await.is_ok(),
        "Google's own name of the scope"
    );
    for unknown in [Value::Null, json!(7)] {
        op.state().scope = Some(unknown);
        assert!(
            op.login(&upn).await.is_ok(),
            "nothing is known of the scopes"
        );
    }
    op.state().scope = Some(json!("openid"));
    let without = with(&op, |settings| settings.scopes = vec!["openid".to_owned()]);
    assert!(
        op.login(&without).await.is_ok(),
        "the scope was not requested"
    );
}
