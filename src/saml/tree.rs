//! Helpers for reading an XML tree strictly.

use roxmltree::{Document, Node, ParsingOptions};

use super::SamlError;

pub(super) const PROTOCOL: &str = "urn:oasis:names:tc:SAML:2.0:protocol";
pub(super) const ASSERTION: &str = "urn:oasis:names:tc:SAML:2.0:assertion";
pub(super) const DSIG: &str = "http://www.w3.org/2000/09/xmldsig#";
pub(super) const XENC: &str = "http://www.w3.org/2001/04/xmlenc#";
pub(super) const EXC_C14N: &str = "http://www.w3.org/2001/10/xml-exc-c14n#";

/// Parses text. Every part of this module uses this function, so all of them see the same tree.
pub(super) fn parse(text: &str) -> Result<Document<'_>, SamlError> {
    let options = ParsingOptions {
        // `input::check` has rejected document types already. This is the second barrier against
        // entity expansion.
        allow_dtd: false,
        nodes_limit: MAX_NODES,
        ..ParsingOptions::default()
    };
    Document::parse_with_options(text, options).map_err(|error| match error {
        roxmltree::Error::NodesLimitReached => SamlError::TooMany("elements"),
        // The parser's own message may quote the input at any length.
        error => SamlError::Malformed {
            line: error.pos().row,
            column: error.pos().col,
        },
    })
}

pub(super) fn is(node: Node<'_, '_>, namespace: &str, name: &str) -> bool {
    node.tag_name().namespace() == Some(namespace) && node.tag_name().name() == name
}

/// Returns the child elements. Rejects any text except white space.
pub(super) fn elements<'a, 'i>(node: Node<'a, 'i>) -> Result<Vec<Node<'a, 'i>>, SamlError> {
    let mut found = Vec::new();
    for child in node.children() {
        if child.is_element() {
            found.push(child);
        } else if !blank(child.text().unwrap_or_default()) {
            return Err(SamlError::Shape("there is text between elements"));
        }
    }
    Ok(found)
}

/// Returns the text of an element. Rejects child elements.
pub(super) fn text(node: Node<'_, '_>) -> Result<String, SamlError> {
    node.children()
        .try_fold(String::new(), |mut text, child| match child.text() {
            Some(part) if child.is_text() => {
                text.push_str(part);
                Ok(text)
            }
            _ => Err(SamlError::Shape(
                "there is an element in a position for text",
            )),
        })
}

/// Returns the children by name. They must be among `names`, in that order, and each may occur
/// once.
pub(super) fn sequence<'a, 'i, const N: usize>(
    node: Node<'a, 'i>,
    names: [(&str, &str); N],
    wrong: &'static str,
) -> Result<[Option<Node<'a, 'i>>; N], SamlError> {
    let mut found = [None; N];
    let mut slots = names.iter().zip(found.iter_mut());
    for child in elements(node)? {
        let slot = slots
            .by_ref()
            .find(|((namespace, name), _)| is(child, namespace, name));
        *slot.ok_or(SamlError::Shape(wrong))?.1 = Some(child);
    }
    Ok(found)
}

/// Returns all children, which must have this name.
pub(super) fn all_named<'a, 'i>(
    node: Node<'a, 'i>,
    namespace: &str,
    name: &str,
    wrong: &'static str,
) -> Result<Vec<Node<'a, 'i>>, SamlError> {
    let found = elements(node)?;
    if found.iter().all(|child| is(*child, namespace, name)) {
        Ok(found)
    } else {
        Err(SamlError::Shape(wrong))
    }
}

/// Returns `true` if the text is only XML white space; Unicode has more.
fn blank(text: &str) -> bool {
    text.bytes()
        .all(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n'))
}

// A message with a thousand groups has two or three thousand nodes.
const MAX_NODES: u32 = 16 * 1024;
