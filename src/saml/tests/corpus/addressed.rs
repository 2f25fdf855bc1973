//! Responses for another party, to another request, or at another time.

use super::*;

/// Responses with a wrong audience, recipient, issuer or request.
pub(super) fn addressed() -> Vec<Row> {
    let inner = format!(r#"InResponseTo="{REQUEST}" NotOnOrAfter"#);
    let to_request = format!(r#" InResponseTo="{REQUEST}" IssueInstant"#);
    let destination = format!(r#"Destination="{ACS}""#);
    let entity = format!(r#"entity">{ISSUER}"#);
    let audience = format!("<saml2:Audience>{ACS}</saml2:Audience>");
    let recipient = format!(r#" Recipient="{ACS}""#);
    let another = "the assertion is for another audience: `";
    vec![
        (
            "another audience",
            Refused(another),
            saying(
                &audience,
                "<saml2:Audience>https://other.example/</saml2:Audience>",
            ),
        ),
        (
            "an audience that begins like ours",
            Refused(another),
            saying(
                &audience,
                &format!("<saml2:Audience>{ACS}/x</saml2:Audience>"),
            ),
        ),
        (
            "an audience in other letters",
            Refused(another),
            saying(
                &audience,
                &format!("<saml2:Audience>{}</saml2:Audience>", ACS.to_uppercase()),
            ),
        ),
        (
            "an empty audience",
            Refused(another),
            saying(&audience, "<saml2:Audience/>"),
        ),
        (
            "a second restriction to somebody else",
            Refused(another),
            saying(
                "</saml2:Conditions>",
                "<saml2:AudienceRestriction><saml2:Audience>https://other.example/</saml2:Audience></saml2:AudienceRestriction></saml2:Conditions>",
            ),
        ),
        (
            "no audience",
            Refused("names no audience"),
            saying(
                &format!("<saml2:AudienceRestriction>{audience}</saml2:AudienceRestriction>"),
                "",
            ),
        ),
        (
            "an unknown condition",
            Refused("a condition that is not understood"),
            saying(
                "</saml2:Conditions>",
                r#"<saml2:Condition xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="x"/></saml2:Conditions>"#,
            ),
        ),
        (
            "another destination",
            Refused("is for another destination: `https://other.example/`"),
            swap(
                &signed(),
                &destination,
                r#"Destination="https://other.example/""#,
            ),
        ),
        (
            "no destination",
            Refused("the SAML response names no destination"),
            swap(&signed(), &destination, ""),
        ),
        (
            "another destination, signed",
            Refused("is for another destination"),
            idp().sign(
                &swap(
                    &response(),
                    &destination,
                    r#"Destination="https://other.example/""#,
                ),
                "response",
            ),
        ),
        (
            "another recipient",
            Refused("the assertion is for another recipient: `https://other.example/`"),
            saying(&recipient, r#" Recipient="https://other.example/""#),
        ),
        (
            "no recipient",
            Refused("the assertion names no recipient"),
            saying(&recipient, ""),
        ),
        (
            "in answer to another request",
            Refused("belongs to another login"),
            swap(
                &signed(),
                &to_request,
                r#" InResponseTo="_other" IssueInstant"#,
            ),
        ),
        (
            "the assertion in answer to another request",
            Refused("belongs to another login"),
            saying(&inner, r#"InResponseTo="_other" NotOnOrAfter"#),
        ),
        (
            "unsolicited",
            Refused("is unsolicited"),
            swap(&signed(), &to_request, " IssueInstant"),
        ),
        (
            "the assertion unsolicited",
            Refused("is unsolicited"),
            saying(&inner, "NotOnOrAfter"),
        ),
        (
            "another issuer of the response",
            Refused("is from another issuer: `https://evil.example/`"),
            swap(
                &signed(),
                &format!(r#"assertion">{ISSUER}"#),
                r#"assertion">https://evil.example/"#,
            ),
        ),
        (
            "another issuer of the assertion",
            Refused("is from another issuer: `https://evil.example/`"),
            {
                let from = format!(
                    r#"xmlns:xs="http://www.w3.org/2001/XMLSchema"><saml2:Issuer Format="urn:oasis:names:tc:SAML:2.0:nameid-format:{entity}"#
                );
                idp().sign(
                    &swap(
                        &response(),
                        &from,
                        &from.replace(ISSUER, "https://evil.example/"),
                    ),
                    "assertion",
                )
            },
        ),
        (
            "an issuer of another kind",
            Refused("is from another issuer"),
            swap(
                &signed(),
                "nameid-format:entity",
                "nameid-format:persistent",
            ),
        ),
        (
            "no bearer",
            Refused("it has no bearer confirmation"),
            saying("cm:bearer", "cm:holder-of-key"),
        ),
        (
            "no bearer confirmation",
            Refused("it has no bearer confirmation"),
            idp().sign(
                &without(
                    &response(),
                    "<saml2:SubjectConfirmation ",
                    "</saml2:SubjectConfirmation>",
                ),
                "assertion",
            ),
        ),
        (
            "a confirmation without data",
            Refused("its confirmation has no data"),
            idp().sign(
                &without(&response(), "<saml2:SubjectConfirmationData", "/>"),
                "assertion",
            ),
        ),
        (
            "no authentication statement",
            Refused("it has no authentication statement"),
            idp().sign(
                &without(
                    &response(),
                    "<saml2:AuthnStatement",
                    "</saml2:AuthnStatement>",
                ),
                "assertion",
            ),
        ),
        (
            "status requester",
            Refused("the identity provider returned `Requester`"),
            swap(&response(), "status:Success", "status:Requester"),
        ),
        (
            "status with words of its own",
            Refused("the identity provider returned `AuthnFailed`: `No, Alice`"),
            swap(
                &around(""),
                r#"status:Success"/>"#,
                r#"status:Responder"><saml2p:StatusCode Value="urn:oasis:names:tc:SAML:2.0:status:AuthnFailed"/></saml2p:StatusCode><saml2p:StatusMessage>No, Alice</saml2p:StatusMessage>"#,
            ),
        ),
        (
            "status not success, and a signed assertion",
            Refused("the identity provider returned `Responder`"),
            swap(&signed(), "status:Success", "status:Responder"),
        ),
        (
            "status of an answer to somebody else",
            Refused("belongs to another login"),
            swap(
                &swap(&around(""), "status:Success", "status:Responder"),
                REQUEST,
                "_other",
            ),
        ),
        (
            "success in the second status alone",
            Refused("the identity provider returned `Success`"),
            swap(
                &signed(),
                r#"status:Success"/>"#,
                r#"status:Responder"><saml2p:StatusCode Value="urn:oasis:names:tc:SAML:2.0:status:Success"/></saml2p:StatusCode>"#,
            ),
        ),
    ]
}

pub(super) fn timed() -> Vec<Row> {
    let conditions =
        r#"NotBefore="2027-01-15T07:55:00.124Z" NotOnOrAfter="2027-01-15T08:05:00.124Z""#;
    let confirmation = r#"NotOnOrAfter="2027-01-15T08:05:00.124Z" Recipient"#;
    let not_a_time = "a time is malformed";
    vec![
        (
            "expired by its conditions",
            Refused("the assertion expired 60 s ago"),
            saying(conditions, r#"NotOnOrAfter="2027-01-15T07:59:00Z""#),
        ),
        (
            "expired by its confirmation",
            Refused("the assertion expired 60 s ago"),
            saying(
                confirmation,
                r#"NotOnOrAfter="2027-01-15T07:59:00Z" Recipient"#,
            ),
        ),
        (
            "not yet valid by its conditions",
            Refused("about 61 s ahead of this machine's"),
            saying("2027-01-15T07:55:00.124Z", "2027-01-15T08:01:01Z"),
        ),
        (
            "not yet valid by its confirmation",
            Refused("about 61 s ahead of this machine's"),
            saying(
                confirmation,
                r#"NotBefore="2027-01-15T08:01:01Z" NotOnOrAfter="2027-01-15T08:05:00.124Z" Recipient"#,
            ),
        ),
        (
            "issued in the future",
            Refused("about 3600 s ahead of this machine's"),
            saying(
                r#"ID="assertion" IssueInstant="2027-01-15T08:00:00.123Z""#,
                r#"ID="assertion" IssueInstant="2027-01-15T09:00:00Z""#,
            ),
        ),
        (
            "a session that is over",
            Refused("the identity provider's session has ended"),
            saying(
                r#"SessionIndex="#,
                r#"SessionNotOnOrAfter="2027-01-15T08:00:00Z" SessionIndex="#,
            ),
        ),
        (
            "conditions without an end",
            Refused("not a valid bearer assertion: its conditions have no `NotOnOrAfter`"),
            saying(conditions, r#"NotBefore="2027-01-15T07:55:00.124Z""#),
        ),
        (
            "a confirmation without an end",
            Refused("not a valid bearer assertion: its confirmation has no `NotOnOrAfter`"),
            saying(confirmation, "Recipient"),
        ),
        (
            "an end that is no time",
            Refused(not_a_time),
            saying(confirmation, r#"NotOnOrAfter="tomorrow" Recipient"#),
        ),
        (
            "an end that is empty",
            Refused(not_a_time),
            saying(confirmation, r#"NotOnOrAfter="" Recipient"#),
        ),
        (
            "an end without a zone",
            Refused(not_a_time),
            saying(
                confirmation,
                r#"NotOnOrAfter="2027-01-15T08:05:00" Recipient"#,
            ),
        ),
        (
            "an end before all time",
            Refused(not_a_time),
            saying(
                confirmation,
                r#"NotOnOrAfter="-000001-01-15T08:05:00Z" Recipient"#,
            ),
        ),
        (
            "no time of issue",
            Refused("a time is missing"),
            saying(
                r#"ID="assertion" IssueInstant="2027-01-15T08:00:00.123Z""#,
                r#"ID="assertion""#,
            ),
        ),
    ]
}
