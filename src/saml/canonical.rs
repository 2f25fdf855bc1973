//! Exclusive XML Canonicalization 1.0, without comments: the bytes that a signature covers.

use roxmltree::{Attribute, Node};

use super::SamlError;

/// Returns the canonical form of an element, omitting one of its descendants.
///
/// `inclusive`: the prefixes that are treated as in inclusive canonicalisation, with `#default` for
/// the empty prefix (Exclusive XML Canonicalization 3, `PrefixList`).
///
/// # Errors
/// [`SamlError::TooLong`] if the result is several times as long as the longest accepted message.
pub(super) fn canonical(
    apex: Node<'_, '_>,
    without: Option<Node<'_, '_>>,
    inclusive: &[&str],
) -> Result<String, SamlError> {
    let mut writer = Writer {
        out: String::with_capacity(8 * 1024),
        without,
        inclusive,
        rendered: Vec::new(),
    };
    writer.element(apex)?;
    Ok(writer.out)
}

struct Writer<'n, 'i, 'p> {
    out: String,
    without: Option<Node<'n, 'i>>,
    inclusive: &'p [&'p str],
    /// The namespace declarations in scope in the output, outermost first. The default namespace
    /// has the empty prefix.
    rendered: Vec<(&'n str, &'n str)>,
}

impl<'n, 'i> Writer<'n, 'i, '_> {
    /// Writes an element. The recursion is as deep as the message, which [`super::input`] bounds.
    fn element(&mut self, node: Node<'n, 'i>) -> Result<(), SamlError> {
        let name = name(node);
        let outer = self.rendered.len();
        self.out.push('<');
        self.out.push_str(name);
        for (prefix, uri) in self.namespaces(node, name) {
            self.out.push_str(if prefix.is_empty() {
                " xmlns"
            } else {
                " xmlns:"
            });
            self.out.push_str(prefix);
            self.value(uri);
            self.rendered.push((prefix, uri));
        }
        let mut attributes: Vec<_> = node.attributes().collect();
        attributes
            .sort_by_key(|attribute| (attribute.namespace().unwrap_or_default(), attribute.name()));
        for attribute in attributes {
            self.out.push(' ');
            self.out.push_str(qualified(node, attribute));
            self.value(attribute.value());
        }
        self.out.push('>');
        for child in node.children() {
            if self.out.len() > MAX_CANONICAL {
                return Err(SamlError::TooLong);
            }
            if child.is_element() && self.without != Some(child) {
                self.element(child)?;
            } else if child.is_text() {
                self.text(child.text().unwrap_or_default());
            }
        }
        self.out.push_str("</");
        self.out.push_str(name);
        self.out.push('>');
        self.rendered.truncate(outer);
        Ok(())
    }

    /// Returns the namespace declarations to write at this element, sorted by prefix. These are the
    /// prefixes that the element itself uses and the inclusive ones in scope, unless the output
    /// already has the same declaration.
    fn namespaces(&self, node: Node<'n, 'i>, name: &'n str) -> Vec<(&'n str, &'n str)> {
        let mut used = vec![prefix(name)];
        used.extend(
            node.attributes()
                .map(|attribute| prefix(qualified(node, attribute)))
                .filter(|p| !p.is_empty()),
        );
        for namespace in node.namespaces() {
            let declared = namespace.name().unwrap_or_default();
            if self.inclusive.contains(&if declared.is_empty() {
                "#default"
            } else {
                declared
            }) {
                used.push(declared);
            }
        }
        used.sort_unstable();
        used.dedup();
        used.retain(|prefix| *prefix != "xml");
        let new = used.into_iter().filter_map(|prefix| {
            let uri = node
                .namespaces()
                .find(|found| found.name().unwrap_or_default() == prefix)
                .map_or("", |found| found.uri());
            let before = self
                .rendered
                .iter()
                .rev()
                .find(|(found, _)| *found == prefix)
                .map_or("", |(_, uri)| uri);
            (uri != before).then_some((prefix, uri))
        });
        new.collect()
    }

    fn value(&mut self, value: &str) {
        self.out.push_str("=\"");
        for c in value.chars() {
            match c {
                '&' => self.out.push_str("&amp;"),
                '<' => self.out.push_str("&lt;"),
                '"' => self.out.push_str("&quot;"),
                '\t' => self.out.push_str("&#x9;"),
                '\n' => self.out.push_str("&#xA;"),
                '\r' => self.out.push_str("&#xD;"),
                c => self.out.push(c),
            }
        }
        self.out.push('"');
    }

    fn text(&mut self, text: &str) {
        for c in text.chars() {
            match c {
                '&' => self.out.push_str("&amp;"),
                '<' => self.out.push_str("&lt;"),
                '>' => self.out.push_str("&gt;"),
                '\r' => self.out.push_str("&#xD;"),
                c => self.out.push(c),
            }
        }
    }
}

/// Returns the element's qualified name as written in the message.
fn name<'n>(node: Node<'n, '_>) -> &'n str {
    let tag = node
        .document()
        .input_text()
        .get(node.range().start + 1..)
        .unwrap_or_default();
    tag.split([' ', '\t', '\r', '\n', '/', '>'])
        .next()
        .unwrap_or_default()
}

fn qualified<'n>(node: Node<'n, '_>, attribute: Attribute<'n, '_>) -> &'n str {
    node.document()
        .input_text()
        .get(attribute.range_qname())
        .unwrap_or_default()
}

fn prefix(name: &str) -> &str {
    name.split_once(':').map_or("", |(prefix, _)| prefix)
}

// Repeated declarations and escaping lengthen the output. No identity provider's message grows to
// four times the limit for a message.
const MAX_CANONICAL: usize = 4 * super::input::MAX_MESSAGE;
