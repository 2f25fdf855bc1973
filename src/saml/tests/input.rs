use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;

use crate::saml::input::{MAX_MESSAGE, MAX_WORK, check, decode};
use crate::saml::tree;

#[test]
fn m11_size_bounds_are_exact() {
    let deep = |depth: usize| format!("{}{}", "<a>".repeat(depth), "</a>".repeat(depth));
    assert!(check(&deep(32)).is_ok());
    assert_eq!(
        check(&deep(33)).unwrap_err().to_string(),
        "the SAML response has too many elements within each other"
    );
    let wide = |number: usize| format!("<a {}/>", "x='1' ".repeat(number));
    assert!(check(&wide(32)).is_ok());
    assert!(check(&wide(33)).is_err());
    // Eight attributes on each of five nested elements, and on a sixth.
    let both = |number: usize| format!("<a {}>", "x='1' ".repeat(8)).repeat(number);
    assert!(check(&both(5)).is_ok());
    let error = check(&both(6)).unwrap_err().to_string();
    assert_eq!(
        error,
        "the SAML response has too many attributes on elements within each other"
    );
    // Siblings are not nested.
    assert!(
        check(&format!(
            "<r>{}</r>",
            both(1).replace('>', "/>").repeat(100)
        ))
        .is_ok()
    );
    assert!(check(&" ".repeat(256 * 1024)).is_ok());
    assert!(check(&" ".repeat(256 * 1024 + 1)).is_err());
}

/// For each element that declares a namespace, a parser compares all namespaces in scope with each
/// other.
#[test]
fn namespace_work_is_bounded() {
    let declarations = |range: std::ops::Range<usize>| {
        range
            .map(|n| format!(" xmlns:n{n}='u'"))
            .collect::<String>()
    };
    let child = "<a xmlns:z='u'/>";
    for outer in [16, 30, 39] {
        let message = |children: usize| {
            let (first, second) = (declarations(0..outer / 2), declarations(outer / 2..outer));
            format!("<r{first}><r{second}>{}</r></r>", child.repeat(children))
        };
        let work = |message: &str| {
            let document = tree::parse(message).unwrap();
            let elements = document.descendants().filter(|node| node.is_element());
            elements
                .map(|element| element.namespaces().count().pow(2))
                .sum::<usize>()
        };
        let fill = (MAX_MESSAGE - message(0).len()) / child.len();
        assert!(message(fill).len() <= MAX_MESSAGE);
        let most = (0..=fill)
            .collect::<Vec<_>>()
            .partition_point(|children| check(&message(*children)).is_ok())
            - 1;
        assert!(
            work(&message(most)) <= MAX_WORK,
            "{outer} namespaces in scope of {most} elements"
        );
        if work(&message(fill)) > MAX_WORK {
            let error = check(&message(fill)).unwrap_err().to_string();
            assert_eq!(
                error,
                "the SAML response has too many attributes in scope of its elements"
            );
        }
    }
    assert!(
        check(&format!(
            "<r{}>{}</r>",
            declarations(0..30),
            child.repeat(10_000)
        ))
        .is_err()
    );
    // An element without namespaces of its own costs little, however many are in scope.
    assert!(
        check(&format!(
            "<r{}>{}</r>",
            declarations(0..30),
            "<a/>".repeat(16_000)
        ))
        .is_ok()
    );
}

#[test]
fn greater_than_in_a_value_does_not_end_the_tag() {
    let hidden = |quote: char| format!("<a x={quote}>{}{quote}/>", "</a>".repeat(3));
    for quote in ['"', '\''] {
        assert!(check(&hidden(quote)).is_ok());
        // Tags inside a value do not count, so they change the depth in neither direction.
        assert!(check(&format!("{}{}", hidden(quote), "<a>".repeat(33))).is_err());
    }
}

#[test]
fn only_utf_8_can_be_declared() {
    for good in [
        r#"<?xml version="1.0"?><a/>"#,
        r#"<?xml version='1.0' encoding='utf-8' standalone='yes'?><a/>"#,
        "<?xml\tversion='1.0'?>\n<a/>",
        "<?xml version = \"1.0\" encoding =\n'UTF-8' ?><a/>",
        r#"<?xml version="1.1" standalone="no"?><a/>"#,
        "<a/>",
    ] {
        assert!(check(good).is_ok(), "{good}");
    }
    for bad in [
        r#"<?xml version="1.0" encoding="ISO-8859-1"?><a/>"#,
        r#"<?xml version="1.0" encoding=""?><a/>"#,
        "<?xml-stylesheet href='x'?><a/>",
        r#"<?xml version="1.0" encoding="utf-8x"?><a/>"#,
        r#"<?xml version="1.0" encoding="utf-8 "?><a/>"#,
        r#"<?xml version="1.0" encoding=" utf-8"?><a/>"#,
        r#"<?xml version="1.0" encoding="utf-8'?><a/>"#,
        r#"<?xml version="1.0" encoding=utf-8?><a/>"#,
        r#"<?xml version="1.0" encoding "utf-8"?><a/>"#,
        r#"<?xml version="1.0" encoding="utf-8" encoding="utf-16"?><a/>"#,
        r#"<?xml encoding="utf-8" version="1.0"?><a/>"#,
        r#"<?xml version="1.0"encoding="utf-8"?><a/>"#,
        r#"<?xml version="1.0" encoding="utf8"?><a/>"#,
        r#"<?xml version="1.0" encoding="utf-7"?><a/>"#,
        r#"<?xml version="1.0" encodin="utf-8"?><a/>"#,
        r#"<?xml version="1.0" standalone="maybe"?><a/>"#,
        r#"<?xml version="2.0"?><a/>"#,
        r#"<?xml version="1."?><a/>"#,
        r#"<?xml encoding="utf-8"?><a/>"#,
        "<?xml ?><a/>",
        "\u{feff}<a/>",
        "\u{feff}<?xml version='1.0'?><a/>",
        "<?xml",
        " <?xml version='1.0'?><a/>",
        "<?xml version='1.0' <!DOCTYPE ?><!DOCTYPE x><a/>",
    ] {
        assert!(check(bad).is_err(), "{bad}");
    }
}

#[test]
fn second_byte_order_mark_is_rejected() {
    let field = |marks: usize| STANDARD.encode(format!("{}<a/>", "\u{feff}".repeat(marks)));
    assert_eq!(decode(&field(0)).unwrap(), "<a/>");
    assert_eq!(decode(&field(1)).unwrap(), "<a/>");
    for marks in [2, 3] {
        assert!(decode(&field(marks)).is_err(), "{marks}");
    }
    assert!(
        decode(&STANDARD.encode("\u{feff}<?xml version='1.0'?>\u{feff}<a/>"))
            .map_or(true, |text| tree::parse(&text).is_err())
    );
}

proptest! {
    #[test]
    fn only_utf_8_is_an_encoding(name in "[a-zA-Z0-9 _.-]{0,10}|(?i:utf-8)[x ]?", quote in "[\"']") {
        let declared = format!("<?xml version={quote}1.0{quote} encoding={quote}{name}{quote}?><a/>");
        prop_assert_eq!(check(&declared).is_ok(), name.eq_ignore_ascii_case("utf-8"));
    }

    #[test]
    fn no_declaration_panics(text in "<\\?xml(version|encoding|standalone|=|\"|'|1\\.0|utf-8|é|\\?>|[ \t]|<a/>){0,12}") {
        let _ = check(&text);
    }
}
