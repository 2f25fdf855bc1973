use std::collections::BTreeMap;

use serde_json::json;

use super::{read, with};
use crate::model::{Group, Groups, UnixTime};
use crate::saml::Settings;
use crate::saml::testing::{ACS, ALICE, ISSUER, NOW, response, settings, swap};

#[test]
fn complete_assertion_is_read() {
    let identity = read(settings(), &response()).unwrap();
    assert_eq!(identity.subject, ALICE);
    assert_eq!(identity.email.as_str(), ALICE);
    let group = |name: &str| Group {
        id: name.to_owned(),
        name: name.to_owned(),
    };
    assert_eq!(
        identity.groups,
        Groups::Known(
            ["Everyone", "R&D <x>", "Vertrieb, Köln"]
                .map(group)
                .to_vec()
        )
    );
    let attributes = [
        ("department".to_owned(), Some(vec!["Research".to_owned()])),
        ("title".to_owned(), None),
    ];
    assert_eq!(identity.attributes, BTreeMap::from(attributes));
    assert_eq!(
        json!(identity.claims()),
        json!({"department": "Research"}),
        "of a title nothing is known"
    );
    assert_eq!(identity.headers.len(), 1);
    assert_eq!(identity.headers[0].0, "x-department");
    assert_eq!(identity.headers[0].1, "Research");
    assert_eq!(identity.session_ends, None);
}

#[test]
fn email_comes_from_one_source() {
    let email = |value: &str| {
        format!(
            r#"<saml2:Attribute Name="email"><saml2:AttributeValue>{value}</saml2:AttributeValue></saml2:Attribute>"#
        )
    };
    let mail = email("Other@Example.com").replace("\"email\"", "\"mail\"");
    let address = |settings: Settings, message: &str| {
        read(settings, message).map(|identity| identity.email.as_str().to_owned())
    };
    let configured = || Settings {
        email_attribute: Some("mail".to_owned()),
        ..settings()
    };

    assert_eq!(address(settings(), &response()).unwrap(), ALICE);
    assert_eq!(
        address(settings(), &with(&email("bob@example.com"))).unwrap(),
        "bob@example.com"
    );
    assert_eq!(
        address(configured(), &with(&mail)).unwrap(),
        "other@example.com"
    );
    assert_eq!(
        address(
            configured(),
            &with(&format!("{}{mail}", email("bob@example.com")))
        )
        .unwrap(),
        "other@example.com"
    );
    let missing = address(configured(), &with(&email("bob@example.com"))).unwrap_err();
    assert_eq!(
        missing.to_string(),
        "required attributes are missing: no email address in the attribute `mail`"
    );
    assert!(missing.advice().unwrap().contains("email_attribute_name"));
    // The attribute is present and empty. The name ID must not be used instead.
    assert!(address(settings(), &with(&email(""))).is_err());
    assert!(address(settings(), &with(r#"<saml2:Attribute Name="email"/>"#)).is_err());
    for bad in [
        "alice",
        "alice@example.com, bob@example.com",
        "a@b@c",
        "alice @example.com",
    ] {
        let error = address(settings(), &with(&email(bad)))
            .unwrap_err()
            .to_string();
        assert_eq!(
            error, "the attribute `email` does not contain exactly one email address",
            "{bad}"
        );
    }
}

#[test]
fn only_name_id_in_email_format_is_an_email() {
    const FORMAT: &str = r#" Format="urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress""#;
    let formatted = |format: &str| read(settings(), &swap(&response(), FORMAT, format));
    for format in [
        "",
        r#" Format="urn:oasis:names:tc:SAML:1.1:nameid-format:unspecified""#,
        r#" Format="urn:oasis:names:tc:SAML:2.0:nameid-format:persistent""#,
        r#" Format="urn:oasis:names:tc:SAML:2.0:nameid-format:transient""#,
    ] {
        let error = formatted(format).unwrap_err();
        let said = "required attributes are missing: no email address in an attribute `email`, and the name id is not of the format `emailAddress`";
        assert_eq!(error.to_string(), said, "{format}");
        let advice = error.advice().unwrap();
        assert!(
            advice.contains("EmailAddress") && advice.contains("`email`"),
            "{advice}"
        );
    }
    let error = read(
        settings(),
        &swap(
            &response(),
            &format!(">{ALICE}</saml2:NameID>"),
            ">alice</saml2:NameID>",
        ),
    );
    assert_eq!(
        error.unwrap_err().to_string(),
        "the name id does not contain exactly one email address"
    );
}

#[test]
fn transient_name_id_is_not_the_subject() {
    let email = format!(
        r#"<saml2:Attribute Name="email"><saml2:AttributeValue>{ALICE}</saml2:AttributeValue></saml2:Attribute>"#
    );
    let named = |format: &str| {
        let message = swap(
            &with(&email),
            "urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress",
            format,
        );
        read(
            settings(),
            &swap(
                &message,
                &format!(">{ALICE}</saml2:NameID>"),
                ">_0815</saml2:NameID>",
            ),
        )
        .unwrap()
        .subject
    };
    assert_eq!(
        named("urn:oasis:names:tc:SAML:2.0:nameid-format:persistent"),
        "_0815"
    );
    assert_eq!(
        named("urn:oasis:names:tc:SAML:2.0:nameid-format:transient"),
        ALICE
    );
}

#[test]
fn each_user_has_exactly_one_subject() {
    const PERSISTENT: &str = "urn:oasis:names:tc:SAML:2.0:nameid-format:persistent";
    let email = format!(
        r#"<saml2:Attribute Name="email"><saml2:AttributeValue>{ALICE}</saml2:AttributeValue></saml2:Attribute>"#
    );
    let subject = |format: &str, more: &str, value: &str| {
        let start =
            r#"<saml2:NameID Format="urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress">"#;
        let name = format!(r#"<saml2:NameID Format="{format}"{more}>"#);
        let message = swap(
            &with(&email),
            &format!("{start}{ALICE}"),
            &format!("{name}{value}"),
        );
        read(settings(), &message)
            .map(|identity| identity.subject)
            .map_err(|error| error.to_string())
    };
    let persistent = |more: &str| subject(PERSISTENT, more, "0815").unwrap();
    assert_eq!(persistent(""), "0815");
    // SimpleSAMLphp writes the parties' own names as qualifiers. They add nothing.
    let own = format!(r#" NameQualifier="{ISSUER}" SPNameQualifier="{ACS}""#);
    assert_eq!(
        (persistent(&own), persistent(r#" NameQualifier="""#)),
        ("0815".to_owned(), "0815".to_owned())
    );
    assert_eq!(
        persistent(r#" NameQualifier="a" SPNameQualifier="b""#),
        "0815!a!b"
    );
    assert_eq!(persistent(r#" NameQualifier="a""#), "0815!a!");
    assert_eq!(persistent(r#" SPNameQualifier="a""#), "0815!!a");
    assert_eq!(persistent(r#" NameQualifier="a!b%""#), "0815!a%21b%25!");
    assert_eq!(
        subject(PERSISTENT, "", "0815!a!b").unwrap(),
        "0815%21a%21b",
        "not the one with qualifiers"
    );
    assert!(
        subject(PERSISTENT, r#" NameQualifier=" a""#, "0815")
            .unwrap_err()
            .contains("a qualifier of the name id")
    );
    // An email address belongs to the same user in upper and lower case.
    let address = "urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress";
    assert_eq!(subject(address, "", "Alice@EXAMPLE.com").unwrap(), ALICE);
    assert_eq!(
        subject(address, r#" NameQualifier="a""#, "Alice@example.com").unwrap(),
        format!("{ALICE}!a!")
    );
    assert_eq!(
        subject(PERSISTENT, "", "Alice@example.com").unwrap(),
        "Alice@example.com",
        "opaque"
    );
    let transient = "urn:oasis:names:tc:SAML:2.0:nameid-format:transient";
    assert_eq!(
        subject(transient, r#" NameQualifier="a""#, "_1").unwrap(),
        ALICE
    );
}

#[test]
fn provider_may_end_the_session_earlier() {
    let ends = |at: &str| {
        swap(
            &response(),
            "SessionIndex=",
            &format!(r#"SessionNotOnOrAfter="{at}" SessionIndex="#),
        )
    };
    assert_eq!(
        read(settings(), &ends("2027-01-15T09:00:00Z"))
            .unwrap()
            .session_ends,
        Some(UnixTime(NOW.0 + 3600))
    );
}
