//! The first check of a message, on bytes before any XML parser runs.
//!
//! In well-formed XML, `<!` starts a document type, a comment or CDATA, and `<?` starts a
//! processing instruction. Attribute values and text cannot contain `<`, so a search for these
//! pairs is exact. The parser later rejects text that is not well-formed.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use memchr::{memchr, memmem};

use super::SamlError;

/// Decodes and checks the message in a form field.
pub(super) fn decode(field: &str) -> Result<String, SamlError> {
    if field.len() > MAX_FIELD {
        return Err(SamlError::TooLong);
    }
    let mut text = String::from_utf8(base64(field).ok_or(SamlError::Encoding)?)
        .map_err(|_| SamlError::Encoding)?;
    // One byte order mark is not part of the document (XML 1.0 4.3.3).
    if text.starts_with(BYTE_ORDER_MARK) {
        text.remove(0);
    }
    check(&text)?;
    Ok(text)
}

/// Returns an error unless the text is safe to pass to a parser.
pub(super) fn check(text: &str) -> Result<(), SamlError> {
    if text.len() > MAX_MESSAGE {
        return Err(SamlError::TooLong);
    }
    // The parser would skip the mark silently and read other bytes than those that were verified.
    if text.starts_with(BYTE_ORDER_MARK) {
        return Err(SamlError::Encoding);
    }
    let body = after_declaration(text)?.as_bytes();
    if let Some(found) = memmem::find(body, b"<!") {
        let rest = body.get(found..).unwrap_or_default();
        // A comment inside a name ID splits its text. Readers that take the first part would see
        // another user.
        return Err(SamlError::Forbidden(match rest {
            _ if rest.starts_with(b"<!--") => "a comment",
            _ if rest.starts_with(b"<![CDATA[") => "a CDATA section",
            _ => "a document type",
        }));
    }
    // Canonicalisation keeps processing instructions, but a reader that skips them sees other text
    // than the signer.
    if memmem::find(body, b"<?").is_some() {
        return Err(SamlError::Forbidden("a processing instruction"));
    }
    measure(body)
}

/// Decodes base64 as SAML and XML Signature write it, with or without line breaks.
pub(super) fn base64(text: &str) -> Option<Vec<u8>> {
    let packed: Vec<u8> = text
        .bytes()
        .filter(|byte| !matches!(byte, b' ' | b'\t' | b'\r' | b'\n'))
        .collect();
    STANDARD.decode(packed).ok()
}

/// Returns the text after `<?xml … ?>`, whose encoding may only be UTF-8.
fn after_declaration(text: &str) -> Result<&str, SamlError> {
    let Some(rest) = text
        .strip_prefix("<?xml")
        .filter(|rest| rest.starts_with(SPACE))
    else {
        return Ok(text);
    };
    let malformed = SamlError::Malformed { line: 1, column: 1 };
    let (declaration, body) = rest.split_once("?>").ok_or(malformed.clone())?;
    // XML 1.0 2.8: `version`, then perhaps `encoding`, then perhaps `standalone`, each after white
    // space.
    let (version, rest) = pseudo_attribute(declaration, "version").ok_or(malformed.clone())?;
    let (encoding, rest) =
        pseudo_attribute(rest, "encoding").map_or((None, rest), |(name, rest)| (Some(name), rest));
    let (standalone, rest) =
        pseudo_attribute(rest, "standalone").map_or((None, rest), |(is, rest)| (Some(is), rest));
    if encoding.is_some_and(|name| !name.eq_ignore_ascii_case("UTF-8")) {
        return Err(SamlError::Encoding);
    }
    let minor = version
        .strip_prefix("1.")
        .is_some_and(|minor| minor.bytes().all(|byte| byte.is_ascii_digit()));
    let known = minor && version.len() > 2 && matches!(standalone, None | Some("yes" | "no"));
    if known && rest.trim_matches(SPACE).is_empty() {
        Ok(body)
    } else {
        Err(malformed)
    }
}

/// Reads white space, the name, `=` and a quoted value. Returns the value and what follows.
fn pseudo_attribute<'a>(text: &'a str, name: &str) -> Option<(&'a str, &'a str)> {
    let value = text
        .strip_prefix(SPACE)?
        .trim_start_matches(SPACE)
        .strip_prefix(name)?;
    let value = value
        .trim_start_matches(SPACE)
        .strip_prefix('=')?
        .trim_start_matches(SPACE);
    let quote = value
        .chars()
        .next()
        .filter(|quote| matches!(quote, '"' | '\''))?;
    value.strip_prefix(quote)?.split_once(quote)
}

/// Bounds the nesting of elements and the number of attributes, and so the parser's memory and
/// time. For an element that declares a namespace, the parser's work is the square of the
/// namespaces in scope; for any other element, it is their number.
fn measure(body: &[u8]) -> Result<(), SamlError> {
    let mut open: Vec<usize> = Vec::with_capacity(MAX_DEPTH);
    let (mut attributes_open, mut work) = (0, 0);
    let mut rest = body;
    while let Some(start) = memchr(b'<', rest) {
        rest = rest.get(start + 1..).unwrap_or_default();
        if rest.first() == Some(&b'/') {
            attributes_open -= open.pop().unwrap_or_default();
            continue;
        }
        let tag = tag(rest);
        if tag.attributes > MAX_ATTRIBUTES {
            return Err(SamlError::TooMany("attributes on an element"));
        }
        let scope = attributes_open + tag.attributes;
        work += if tag.attributes == 0 {
            scope
        } else {
            scope * scope
        };
        if work > MAX_WORK {
            return Err(SamlError::TooMany("attributes in scope of its elements"));
        }
        if !tag.empty {
            open.push(tag.attributes);
            attributes_open += tag.attributes;
        }
        if open.len() > MAX_DEPTH {
            return Err(SamlError::TooMany("elements within each other"));
        }
        if attributes_open > MAX_ATTRIBUTES_OPEN {
            return Err(SamlError::TooMany(
                "attributes on elements within each other",
            ));
        }
        rest = rest.get(tag.length..).unwrap_or_default();
    }
    Ok(())
}

struct Tag {
    length: usize,
    attributes: usize,
    empty: bool,
}

/// Measures a start tag, beginning after its `<`. A `>` inside a quoted value does not end the tag.
fn tag(text: &[u8]) -> Tag {
    let (mut quote, mut attributes, mut before) = (None, 0, 0);
    for (length, byte) in text.iter().enumerate() {
        match (quote, *byte) {
            (Some(open), byte) if open == byte => quote = None,
            (Some(_), _) => {}
            (None, b'>') => {
                return Tag {
                    length,
                    attributes,
                    empty: before == b'/',
                };
            }
            (None, byte @ (b'"' | b'\'')) => {
                quote = Some(byte);
                attributes += 1;
            }
            (None, _) => {}
        }
        before = *byte;
    }
    Tag {
        length: text.len(),
        attributes,
        empty: true,
    }
}

/// White space (XML 1.0 2.3).
const SPACE: [char; 4] = [' ', '\t', '\r', '\n'];
// U+FEFF at the start of a text.
const BYTE_ORDER_MARK: char = '\u{feff}';
/// The maximum length of a decoded message, in bytes.
pub(super) const MAX_MESSAGE: usize = 256 * 1024;
/// The base64 of [`MAX_MESSAGE`], with room for line breaks.
const MAX_FIELD: usize = MAX_MESSAGE / 3 * 4 + MAX_MESSAGE / 16;
// Real messages nest about ten elements.
const MAX_DEPTH: usize = 32;
// The parser's work grows with the square of this number. Real elements have up to ten attributes.
const MAX_ATTRIBUTES: usize = 32;
/// Bounds the namespaces in scope at one time. Real messages have up to 25.
const MAX_ATTRIBUTES_OPEN: usize = 40;
/// About ten times the work for a message with a thousand groups; a few milliseconds.
pub(super) const MAX_WORK: usize = 4 * 1024 * 1024;
