use std::collections::BTreeMap;

use serde_json::json;

use crate::model::{Group, Groups, UnixTime};
use crate::saml::testing::{
    ACS, ALICE, EXPECTED, ISSUER, NOW, SIGNERS, Sign, field, response, settings, swap,
};
use crate::saml::{AssertionUse, NoGroups, SamlError, SamlIdentity, ServiceProvider, Settings};

const GROUPS: &str = r#"<saml2:Attribute Name="groups"><saml2:AttributeValue xmlns:xs="http://www.w3.org/2001/XMLSchema" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="xs:string">Everyone</saml2:AttributeValue><saml2:AttributeValue>R&amp;D &lt;x&gt;</saml2:AttributeValue><saml2:AttributeValue>Vertrieb, Köln</saml2:AttributeValue></saml2:Attribute>"#;
const START: &str = "<saml2:AttributeStatement>";

fn read(settings: Settings, message: &str) -> Result<SamlIdentity, SamlError> {
    let signed = Sign::with(&SIGNERS.idp).sign(message, "assertion");
    ServiceProvider::new(settings)
        .unwrap()
        .verify(&field(&signed), &EXPECTED)?
        .identity(AssertionUse::First)
}

fn names(groups: Groups) -> Option<Vec<String>> {
    match groups {
        Groups::Known(groups) => Some(groups.into_iter().map(|group| group.name).collect()),
        Groups::Unknown => None,
    }
}

fn with(attribute: &str) -> String {
    swap(&response(), START, &format!("{START}{attribute}"))
}

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
fn missing_groups_are_unknown_and_empty_ones_known() {
    let having = |groups: &str| {
        names(
            read(settings(), &swap(&response(), GROUPS, groups))
                .unwrap()
                .groups,
        )
    };
    assert_eq!(having(""), None);
    assert_eq!(
        having(
            r#"<saml2:Attribute Name="Groups"><saml2:AttributeValue>x</saml2:AttributeValue></saml2:Attribute>"#
        ),
        None
    );
    assert_eq!(having(r#"<saml2:Attribute Name="groups"/>"#), Some(vec![]));
    assert_eq!(
        having(r#"<saml2:Attribute Name="groups"><saml2:AttributeValue/></saml2:Attribute>"#),
        Some(vec![])
    );
    let nil = r#"<saml2:Attribute Name="groups"><saml2:AttributeValue xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:nil="true"/></saml2:Attribute>"#;
    assert_eq!(having(nil), Some(vec![]));
    // Microsoft Entra ID sends this link if there are too many groups.
    let link = r#"<saml2:Attribute Name="http://schemas.microsoft.com/claims/groups.link"><saml2:AttributeValue>https://graph</saml2:AttributeValue></saml2:Attribute>"#;
    assert_eq!(having(link), None);
    let twice = r#"<saml2:Attribute Name="groups"><saml2:AttributeValue>a</saml2:AttributeValue></saml2:Attribute>"#;
    let again = twice.replace(">a<", ">b<");
    assert_eq!(
        having(&format!("{twice}{again}")),
        Some(vec!["a".to_owned(), "b".to_owned()])
    );
    assert_eq!(
        having(&format!(
            "{twice}</saml2:AttributeStatement><saml2:AttributeStatement>{again}"
        ))
        .unwrap()
        .len(),
        2
    );
}

#[test]
fn groups_are_left_out_if_no_similar_attribute_exists() {
    let no_groups = |groups: &str| {
        read(settings(), &swap(&response(), GROUPS, groups))
            .unwrap()
            .no_groups
    };
    let left_out = |groups: &str| no_groups(groups) == Some(NoGroups::LeftOut);
    let attribute = |names: &str| {
        format!(
            "<saml2:Attribute {names}><saml2:AttributeValue>x</saml2:AttributeValue></saml2:Attribute>"
        )
    };
    assert!(left_out("") && left_out(&attribute("Name=\"roles\" FriendlyName=\"role\"")));
    for present in [
        "Name=\"groups\"",
        "Name=\"Groups\"",
        "Name=\" groups \"",
        "Name=\"urn:oid:1.3.6.1.4.1.5923.1.5.1.1\" FriendlyName=\"groups\"",
        "Name=\"http://schemas.microsoft.com/claims/groups.link\"",
    ] {
        assert!(!left_out(&attribute(present)), "{present}");
    }
    assert_eq!(no_groups("<saml2:Attribute Name=\"groups\"/>"), None);
    assert_eq!(
        no_groups(&attribute("Name=\"Groups\"")),
        Some(NoGroups::Similar)
    );
    let layout = attribute("Name=\"groups\"").replace(">x<", ">\nx<");
    assert_eq!(no_groups(&layout), Some(NoGroups::Unreadable));
}

#[test]
fn group_names_are_kept_exactly() {
    let odd = [
        "a,b",
        "R&D <x>",
        "\"quoted\"",
        "Köln",
        "日本",
        "a\u{301}",
        "two  spaces",
        "]]>",
        "😀",
        "line\nline",
        "CN=a,OU=b",
    ];
    let escaped = |name: &str| {
        name.replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('>', "&gt;")
    };
    let values: String = odd
        .iter()
        .map(|name| {
            format!(
                "<saml2:AttributeValue>{}</saml2:AttributeValue>",
                escaped(name)
            )
        })
        .collect();
    let message = swap(
        &response(),
        GROUPS,
        &format!(r#"<saml2:Attribute Name="groups">{values}</saml2:Attribute>"#),
    );
    assert_eq!(
        names(read(settings(), &message).unwrap().groups).unwrap(),
        odd
    );
}

#[test]
fn outer_spaces_of_groups_and_attributes_are_kept() {
    for value in [" x", "x ", "x\u{a0}", "x  ", " "] {
        let values = format!(
            "<saml2:AttributeValue>a</saml2:AttributeValue><saml2:AttributeValue>{value}</saml2:AttributeValue>"
        );
        let groups = format!(r#"<saml2:Attribute Name="groups">{values}</saml2:Attribute>"#);
        let identity = read(settings(), &swap(&response(), GROUPS, &groups)).unwrap();
        assert_eq!(
            names(identity.groups),
            Some(vec!["a".to_owned(), value.to_owned()]),
            "{value:?}"
        );
        let title = read(
            settings(),
            &with(&groups.replace("\"groups\"", "\"title\"")),
        )
        .unwrap();
        assert_eq!(
            title.attributes["title"],
            Some(vec!["a".to_owned(), value.to_owned()]),
            "{value:?}"
        );
        assert!(title.unreadable.is_empty());
    }
}

#[test]
fn unreadable_groups_and_attributes_are_unknown() {
    for value in [
        "\n  contractors\n",
        " \ncontractors\n ",
        " &#9;x",
        "x&#13; ",
        "\u{a0}\n x",
        "&#9;x",
        "x&#13;",
        "x\n",
        " \n ",
        "<x/>",
        "a<saml2:x/>",
    ] {
        let values = format!(
            "<saml2:AttributeValue>a</saml2:AttributeValue><saml2:AttributeValue>{value}</saml2:AttributeValue>"
        );
        let groups = format!(r#"<saml2:Attribute Name="groups">{values}</saml2:Attribute>"#);
        let identity = read(settings(), &swap(&response(), GROUPS, &groups)).unwrap();
        assert_eq!(identity.groups, Groups::Unknown, "{value:?}");
        let [fault] = identity.unreadable.as_slice() else {
            panic!("{:?}", identity.unreadable)
        };
        assert!(
            fault.starts_with("the attribute `groups` has a value")
                && !fault.contains("contractors"),
            "{fault}"
        );
        let title = read(
            settings(),
            &with(&groups.replace("\"groups\"", "\"title\"")),
        )
        .unwrap();
        assert_eq!(
            (&title.attributes["title"], title.unreadable.len()),
            (&None, 1),
            "{value:?}"
        );
        assert!(!title.claims().contains_key("title"));
    }
}

#[test]
fn outer_space_of_email_or_header_is_rejected() {
    let attribute = |name: &str, value: &str| {
        format!(
            r#"<saml2:Attribute Name="{name}"><saml2:AttributeValue>a</saml2:AttributeValue><saml2:AttributeValue>{value}</saml2:AttributeValue></saml2:Attribute>"#
        )
    };
    for name in ["department", "email"] {
        for value in [
            " x",
            "x ",
            "\n  contractors\n",
            "&#9;x",
            "x&#13;",
            "x\u{a0}",
            " ",
        ] {
            let error = read(settings(), &with(&attribute(name, value))).unwrap_err();
            let said =
                format!("the attribute `{name}` has a value with leading or trailing white space");
            assert_eq!(error.to_string(), said, "{value:?}");
            assert!(error.advice().is_some());
        }
    }
    assert!(read(settings(), &with(&attribute("nobody-asks", " x "))).is_ok());
}

#[test]
fn many_groups_are_read() {
    for number in [150, 1000] {
        let values: String = (0..number).map(|n| format!(r#"<saml2:AttributeValue xmlns:xs="http://www.w3.org/2001/XMLSchema" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="xs:string">Group {n}</saml2:AttributeValue>"#)).collect();
        let message = swap(
            &response(),
            GROUPS,
            &format!(r#"<saml2:Attribute Name="groups">{values}</saml2:Attribute>"#),
        );
        let groups = names(read(settings(), &message).unwrap().groups).unwrap();
        assert_eq!(groups.len(), number);
        assert_eq!(groups.last().unwrap(), &format!("Group {}", number - 1));
    }
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
fn headers_carry_exact_values_or_fail() {
    let having = |value: &str| {
        read(
            settings(),
            &swap(&response(), ">Research<", &format!(">{value}<")),
        )
    };
    assert_eq!(
        having("Forschung &amp; Köln, 2").unwrap().headers[0]
            .1
            .as_bytes(),
        "Forschung & Köln, 2".as_bytes()
    );
    let error = having("a\nX-Admin: 1").unwrap_err();
    assert_eq!(
        error.to_string(),
        "the attribute `department` has a value that is not allowed in a header"
    );
    let two = having("a</saml2:AttributeValue><saml2:AttributeValue>b").unwrap();
    assert_eq!(
        two.headers
            .iter()
            .map(|(_, value)| value.as_str())
            .collect::<Vec<_>>(),
        ["a", "b"]
    );
    let too_long =
        "exceeds, together with the attributes before it, the size limit for request headers";
    assert_eq!(having(&"x".repeat(4096)).unwrap().headers[0].1.len(), 4096);
    let many =
        |number: usize| vec!["a"; number].join("</saml2:AttributeValue><saml2:AttributeValue>");
    assert_eq!(having(&many(64)).unwrap().headers.len(), 64);
    for too_much in ["x".repeat(4097), many(65)] {
        assert!(
            having(&too_much)
                .unwrap_err()
                .to_string()
                .ends_with(too_long)
        );
    }
    assert_eq!(json!(two.claims()["department"]), json!(["a", "b"]));
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
