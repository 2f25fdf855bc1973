//! Remedies for failed logins.

use http::StatusCode;

use super::*;
use crate::oidc::{ClaimsError, IdTokenError, KeysError, MetadataError};

fn token(status: u16, error: Option<&str>) -> LoginFailure {
    let status = StatusCode::from_u16(status).unwrap();
    LoginFailure::TokenEndpoint {
        status,
        error: error.map(str::to_owned),
    }
}

fn refused(error: &str) -> LoginFailure {
    LoginFailure::ProviderError {
        error: error.to_owned(),
        description: None,
    }
}

#[test]
fn each_configuration_mistake_has_its_advice() {
    let answer = |endpoint, status| LoginFailure::Answer { endpoint, status };
    let issuer = MetadataError::Issuer {
        expected: "https://a.example".into(),
        found: "https://b.example".into(),
    };
    for (failure, words) in [
        (
            token(401, Some("invalid_client wrong secret")),
            "Client Credentials",
        ),
        (token(401, None), "Client Credentials"),
        (token(400, Some("invalid_grant")), "start over"),
        (token(400, Some("unauthorized_client")), "Grant type"),
        (token(503, Some("something else")), "status page"),
        (refused("access_denied"), "assign the user"),
        (refused("invalid_scope"), "`groups`"),
        (LoginFailure::from(issuer), "okta_account"),
        (
            answer(Endpoint::Discovery, StatusCode::NOT_FOUND),
            "authorization_server_id",
        ),
        (LoginFailure::Keys(KeysError::Malformed), "jwks_uri"),
        (LoginFailure::IdToken(IdTokenError::LoginTooOld), "max_age"),
        (LoginFailure::ClockSkew { seconds: 90 }, "NTP"),
        (
            LoginFailure::Email(EmailFailure::Missing),
            "email_claim_name",
        ),
        (LoginFailure::Groups(GroupsFailure::TooMany), "api_token"),
        (
            LoginFailure::Saml(crate::saml::SamlError::Unsigned),
            "signing of the assertion",
        ),
    ] {
        let advice = failure.advice().unwrap_or_default();
        assert!(advice.contains(words), "{failure:?}: {advice}");
        assert!(
            !failure.to_string().contains(advice),
            "what is wrong, and what to do, are told apart: {failure}"
        );
    }
    assert_eq!(refused("of_their_own").advice(), None, "an unknown code");
}

#[test]
fn rejected_account_allows_another_one() {
    for failure in [
        refused("access_denied"),
        LoginFailure::Email(EmailFailure::Missing),
        LoginFailure::Email(EmailFailure::Unconfirmed(String::new())),
        LoginFailure::Saml(crate::saml::SamlError::Status {
            code: "RequestDenied".into(),
            message: None,
        }),
    ] {
        assert_eq!(
            (failure.blame(), failure.may_be_of_the_account()),
            (Blame::User, true),
            "{failure:?}"
        );
    }
    for failure in [
        LoginFailure::IdToken(IdTokenError::UnknownKey),
        LoginFailure::Userinfo(ClaimsError::NotJson),
        LoginFailure::SubjectMismatch,
        LoginFailure::Saml(crate::saml::SamlError::Unsigned),
    ] {
        assert_eq!(
            (failure.blame(), failure.may_be_of_the_account()),
            (Blame::User, false),
            "{failure:?}"
        );
    }
}

#[test]
fn refusal_without_a_reason_may_be_a_cancelled_login() {
    let denied = |error: &str, description: Option<&str>| LoginFailure::ProviderError {
        error: error.to_owned(),
        description: description.map(str::to_owned),
    };
    for said in [
        None,
        Some(""),
        Some("the login was cancelled"),
        Some("End-User aborted interaction"),
        Some("The resource owner or authorization server denied the request."),
        Some("AADSTS65004: User declined to consent to access the app."),
        Some("the user has denied access to the scope requested by the client application"),
        Some("User did not authorize the request"),
    ] {
        assert!(denied("access_denied", said).may_be_cancelled(), "{said:?}");
    }
    for (error, said) in [
        (
            "access_denied",
            Some("User is not assigned to the client application."),
        ),
        (
            "access_denied",
            Some(
                "Policy evaluation failed for this request, please check the policy configurations.",
            ),
        ),
        ("server_error", Some("the request was cancelled")),
        ("invalid_scope", None),
    ] {
        assert!(!denied(error, said).may_be_cancelled(), "{error}: {said:?}");
    }
}

#[test]
fn saml_refusal_without_a_reason_may_be_cancelled() {
    use crate::saml::SamlError;
    let refused = |code: &str, message: Option<&str>| {
        LoginFailure::from(SamlError::Status {
            code: code.to_owned(),
            message: message.map(str::to_owned),
        })
    };
    for (code, said) in [
        ("RequestDenied", None),
        ("AuthnFailed", None),
        ("AuthnFailed", Some("User canceled")),
        ("AuthnFailed", Some("The user aborted the authentication")),
        (
            "http://id.elegnamnden.se/status/1.0/cancel",
            Some("Avbruten"),
        ),
    ] {
        let failure = refused(code, said);
        assert!(
            failure.may_be_cancelled() && failure.blame() == Blame::User,
            "{code}: {said:?}"
        );
        assert!(failure.sentence().contains("cancelled"), "{code}: {said:?}");
    }
    for (code, said) in [
        (
            "RequestDenied",
            Some("User is not assigned to the application."),
        ),
        ("AuthnFailed", Some("The password has expired.")),
        ("Responder", None),
        ("NoPassive", None),
    ] {
        let failure = refused(code, said);
        assert!(
            !failure.may_be_cancelled() && failure.advice().is_some(),
            "{code}: {said:?}"
        );
    }
    let expired = refused("AuthnFailed", Some("authentication_expired"));
    assert_eq!(
        (expired.blame(), expired.may_be_cancelled()),
        (Blame::Browser, false)
    );
    assert!(expired.sentence().contains("took too long"));
}

#[test]
fn expired_assertion_is_not_clock_skew() {
    use crate::saml::{SamlError, Step as SamlStep};
    let over = LoginFailure::from(SamlError::Expired { seconds: 120 });
    assert_eq!(
        (over.id(), over.blame()),
        ("saml_conditions", Blame::Browser)
    );
    assert!(over.advice().unwrap().contains("start over"));
    assert_eq!(
        LoginFailure::from(SamlError::SessionOver).blame(),
        Blame::Browser
    );
    let early = LoginFailure::from(SamlError::NotYetValid { seconds: 90 });
    assert_eq!((early.id(), early.blame()), ("clock_skew", Blame::Provider));
    assert_eq!(early.step(), Step::Saml(SamlStep::Conditions));
    assert!(early.sentence().contains("clocks") && early.advice().unwrap().contains("NTP"));
}
