//! A strict parser for the HTML of the pages.

use std::collections::BTreeSet;

/// A start tag: its name and its attributes, with the values still escaped.
pub(super) type Tag<'a> = (&'a str, Vec<(&'a str, &'a str)>);

/// Returns the start tags of a document. Attributes are `name` or `name="value"`, and a `<` always
/// opens a tag: a value that breaks out of its attribute makes the parser panic.
pub(super) fn start_tags(html: &str) -> Vec<Tag<'_>> {
    let mut tags = Vec::new();
    let mut rest = html;
    while let Some((_, after)) = rest.split_once('<') {
        if let Some(closing) = after.strip_prefix('/').or_else(|| after.strip_prefix('!')) {
            rest = closing.split_once('>').expect("the tag is closed").1;
            continue;
        }
        let name_ends = after.find([' ', '>']).expect("the tag is closed");
        let (name, mut inside) = after.split_at(name_ends);
        let mut attributes = Vec::new();
        while let Some(attribute) = inside.strip_prefix(' ') {
            let name_ends = attribute
                .find(['=', ' ', '>', '/'])
                .expect("the tag is closed");
            let (key, tail) = attribute.split_at(name_ends);
            let (value, tail) = tail.strip_prefix("=\"").map_or(("", tail), |v| {
                v.split_once('"').expect("the value is closed")
            });
            attributes.push((key, value));
            inside = tail;
        }
        let inside = inside.strip_prefix('/').unwrap_or(inside);
        rest = inside
            .strip_prefix('>')
            .unwrap_or_else(|| panic!("`{name}` has stray text: {inside:.40}"));
        assert!(
            name.bytes().all(|b| b.is_ascii_alphanumeric()),
            "`{name}` is not an element"
        );
        for (key, _) in &attributes {
            assert!(
                !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphabetic() || b == b'-'),
                "`{key}` in `{name}`"
            );
        }
        if name == "style" {
            rest = rest.split_once("</style>").expect("the style is closed").1;
        }
        tags.push((name, attributes));
    }
    tags
}

fn unescaped(value: &str) -> String {
    value
        .replace("&#60;", "<")
        .replace("&#62;", ">")
        .replace("&#34;", "\"")
        .replace("&#39;", "'")
        .replace("&#38;", "&")
}

/// Returns the targets of a page's links, form and refresh.
pub(super) fn destinations(html: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (name, attributes) in start_tags(html) {
        for (key, value) in attributes {
            match (name, key) {
                ("a", "href") | ("form", "action") => _ = found.insert(unescaped(value)),
                ("meta", "content") if value.starts_with("0;url=") => {
                    _ = found.insert(unescaped(value.trim_start_matches("0;url=")));
                }
                _ => {}
            }
        }
    }
    found
}
