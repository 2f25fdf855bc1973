//! Groups, configured attributes and headers.

use serde_json::json;

use super::{GROUPS, names, read, with};
use crate::model::Groups;
use crate::saml::NoGroups;
use crate::saml::testing::{response, settings, swap};

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
