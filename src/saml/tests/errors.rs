//! Messages of errors, and their advice.

use super::read;
use crate::saml::testing::{ACS, EXPECTED, field, response, settings, swap};
use crate::saml::{SamlError, ServiceProvider};

#[test]
fn quoted_message_text_is_one_short_line() {
    let long = "x".repeat(150_000);
    let audience = format!(
        "<saml2:Audience>{}</saml2:Audience>",
        crate::saml::testing::ACS
    );
    let error = read(
        settings(),
        &swap(
            &response(),
            &audience,
            &format!("<saml2:Audience>{}</saml2:Audience>", long),
        ),
    )
    .unwrap_err();
    assert!(error.to_string().len() < 300, "{error}");
    let status = swap(
        &response(),
        r#"status:Success"/>"#,
        "status:Responder\"/><saml2p:StatusMessage>a\n\u{202e}b</saml2p:StatusMessage>",
    );
    let error = ServiceProvider::new(settings())
        .unwrap()
        .verify(&field(&status), &EXPECTED)
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "the identity provider returned `Responder`: `a  b`"
    );
}

#[test]
fn expired_and_not_yet_valid_are_distinct() {
    const IN_TIME: &str =
        r#"NotBefore="2027-01-15T07:55:00.124Z" NotOnOrAfter="2027-01-15T08:05:00.124Z""#;
    const ISSUED: &str = r#"ID="assertion" IssueInstant="2027-01-15T08:00:00.123Z""#;
    let at = |from: &str, to: &str| read(settings(), &swap(&response(), from, to)).unwrap_err();
    // The browser submits a form again seven minutes later. No clock is wrong.
    let over = at(
        IN_TIME,
        r#"NotBefore="2027-01-15T07:48:00Z" NotOnOrAfter="2027-01-15T07:58:00Z""#,
    );
    assert_eq!(over, SamlError::Expired { seconds: 120 });
    let early = at(
        IN_TIME,
        r#"NotBefore="2027-01-15T09:55:00Z" NotOnOrAfter="2027-01-15T10:05:00Z""#,
    );
    assert_eq!(early, SamlError::NotYetValid { seconds: 6900 });
    assert_eq!(
        at(ISSUED, &ISSUED.replace("08:00:00.123Z", "08:02:00Z")),
        SamlError::NotYetValid { seconds: 120 }
    );
}

#[test]
fn correctable_errors_have_advice() {
    let refused =
        |from: &str, to: &str| read(settings(), &swap(&response(), from, to)).unwrap_err();
    let endless = refused(
        r#"NotBefore="2027-01-15T07:55:00.124Z" NotOnOrAfter="2027-01-15T08:05:00.124Z""#,
        "",
    );
    assert!(
        endless.advice().unwrap().contains("`NotOnOrAfter`"),
        "{endless}"
    );
    let nowhere = refused(&format!(r#" Recipient="{ACS}""#), "");
    assert!(nowhere.advice().unwrap().contains("ACS"), "{nowhere}");
    assert!(SamlError::NotFresh.advice().unwrap().contains("ForceAuthn"));
}

#[test]
fn error_without_request_or_destination_keeps_status() {
    let failed = swap(&response(), "status:Success", "status:RequestDenied");
    let refused = |message: &str| {
        ServiceProvider::new(settings())
            .unwrap()
            .verify(&field(message), &EXPECTED)
            .unwrap_err()
    };
    let (to, at) = (
        format!(r#" InResponseTo="{}""#, crate::saml::testing::REQUEST),
        format!(r#" Destination="{ACS}""#),
    );
    for left_out in [&to, &at] {
        let error = refused(&failed.replacen(left_out.as_str(), "", 1));
        assert_eq!(
            error.registered_status(),
            Some("RequestDenied"),
            "{left_out}: {error}"
        );
        let success = refused(&response().replacen(left_out.as_str(), "", 1));
        assert!(
            matches!(success, SamlError::Unsolicited | SamlError::Destination(_)),
            "{left_out}: {success}"
        );
    }
    let elsewhere = refused(&failed.replacen(&at, r#" Destination="https://other.example/""#, 1));
    assert!(
        matches!(elsewhere, SamlError::Destination(_)),
        "{elsewhere}"
    );
}
