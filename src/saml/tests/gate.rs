use crate::saml::gate::check;

#[test]
fn m11_bounds_hold_to_the_element() {
    let deep = |depth: usize| format!("{}{}", "<a>".repeat(depth), "</a>".repeat(depth));
    assert!(check(&deep(32)).is_ok());
    assert_eq!(check(&deep(33)).unwrap_err().to_string(), "the SAML response has too many elements within each other");
    let wide = |number: usize| format!("<a {}/>", "x='1' ".repeat(number));
    assert!(check(&wide(32)).is_ok());
    assert!(check(&wide(33)).is_err());
    // 32 attributes on each of four, and on a fifth.
    let both = |number: usize| format!("<a {}>", "x='1' ".repeat(32)).repeat(number);
    assert!(check(&both(4)).is_ok());
    let error = check(&both(5)).unwrap_err().to_string();
    assert_eq!(error, "the SAML response has too many attributes on elements within each other");
    // One behind the other is not within.
    assert!(check(&format!("<r>{}</r>", both(1).replace('>', "/>").repeat(100))).is_ok());
    assert!(check(&" ".repeat(256 * 1024)).is_ok());
    assert!(check(&" ".repeat(256 * 1024 + 1)).is_err());
}

#[test]
fn a_greater_than_in_a_value_ends_no_tag() {
    let hidden = |quote: char| format!("<a x={quote}>{}{quote}/>", "</a>".repeat(3));
    for quote in ['"', '\''] {
        assert!(check(&hidden(quote)).is_ok());
        // Tags in a value count for nothing, so they do not make depth either way.
        assert!(check(&format!("{}{}", hidden(quote), "<a>".repeat(33))).is_err());
    }
}

#[test]
fn only_utf_8_may_be_declared() {
    for good in [
        r#"<?xml version="1.0"?><a/>"#,
        r#"<?xml version='1.0' encoding='utf-8' standalone='yes'?><a/>"#,
        "<?xml\tversion='1.0'?>\n<a/>",
    ] {
        assert!(check(good).is_ok(), "{good}");
    }
    for bad in [
        r#"<?xml version="1.0" encoding="ISO-8859-1"?><a/>"#,
        r#"<?xml version="1.0" encoding=""?><a/>"#,
        "<?xml-stylesheet href='x'?><a/>",
        "<?xml",
        " <?xml version='1.0'?><a/>",
        "<?xml version='1.0' <!DOCTYPE ?><!DOCTYPE x><a/>",
    ] {
        assert!(check(bad).is_err(), "{bad}");
    }
}
