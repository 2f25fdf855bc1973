//! The first look at a message: bytes, before there is XML.
//!
//! In well-formed XML `<!` begins a document type, a comment or CDATA, and `<?` a processing instruction, and neither stands
//! anywhere else: attribute values and text hold no `<`. So a search for them is exact, and what is not well-formed is refused
//! by the parser afterwards.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use memchr::{memchr, memmem};

use super::SamlError;

/// The message in a form field.
pub(super) fn open(field: &str) -> Result<String, SamlError> {
    if field.len() > MAX_FIELD {
        return Err(SamlError::TooLong);
    }
    let mut text = String::from_utf8(base64(field).ok_or(SamlError::Encoding)?).map_err(|_| SamlError::Encoding)?;
    // The byte order mark is no part of the document (XML 1.0, 4.3.3).
    if text.starts_with(BYTE_ORDER_MARK) {
        text.remove(0);
    }
    check(&text)?;
    Ok(text)
}

/// Whether the text may be given to a parser.
pub(super) fn check(text: &str) -> Result<(), SamlError> {
    if text.len() > MAX_MESSAGE {
        return Err(SamlError::TooLong);
    }
    let body = after_declaration(text)?.as_bytes();
    if let Some(found) = memmem::find(body, b"<!") {
        let rest = body.get(found..).unwrap_or_default();
        return Err(SamlError::Forbidden(match rest {
            _ if rest.starts_with(b"<!--") => "a comment",
            _ if rest.starts_with(b"<![CDATA[") => "a CDATA section",
            _ => "a document type",
        }));
    }
    if memmem::find(body, b"<?").is_some() {
        return Err(SamlError::Forbidden("a processing instruction"));
    }
    measure(body)
}

/// Base64 as SAML and XML Signature have it: in lines, or in one.
pub(super) fn base64(text: &str) -> Option<Vec<u8>> {
    let packed: Vec<u8> = text.bytes().filter(|byte| !matches!(byte, b' ' | b'\t' | b'\r' | b'\n')).collect();
    STANDARD.decode(packed).ok()
}

/// What follows `<?xml … ?>`, which may only say UTF-8.
fn after_declaration(text: &str) -> Result<&str, SamlError> {
    let Some(rest) = text.strip_prefix("<?xml").filter(|rest| rest.starts_with([' ', '\t', '\r', '\n'])) else {
        return Ok(text);
    };
    let (declaration, body) = rest.split_once("?>").ok_or(SamlError::Malformed { line: 1, column: 1 })?;
    let utf8 = declaration.split_once("encoding").is_none_or(|(_, value)| {
        let value = value.trim_start_matches([' ', '\t', '\r', '\n', '=', '"', '\'']);
        value.get(..5).is_some_and(|name| name.eq_ignore_ascii_case("utf-8"))
    });
    if utf8 { Ok(body) } else { Err(SamlError::Encoding) }
}

/// How deep elements stand in each other, and how many attributes they have: bounds on what a parser holds at once, and on
/// what it does. An element that declares a namespace costs it the square of those in scope, any other their number.
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
        work += if tag.attributes == 0 { scope } else { scope * scope };
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
            return Err(SamlError::TooMany("attributes on elements within each other"));
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

/// Looks at a start tag, from behind its `<`. A `>` in a value does not end it.
fn tag(text: &[u8]) -> Tag {
    let (mut quote, mut attributes, mut before) = (None, 0, 0);
    for (length, byte) in text.iter().enumerate() {
        match (quote, *byte) {
            (Some(open), byte) if open == byte => quote = None,
            (Some(_), _) => {}
            (None, b'>') => return Tag { length, attributes, empty: before == b'/' },
            (None, byte @ (b'"' | b'\'')) => {
                quote = Some(byte);
                attributes += 1;
            }
            (None, _) => {}
        }
        before = *byte;
    }
    Tag { length: text.len(), attributes, empty: true }
}

const BYTE_ORDER_MARK: char = '\u{feff}';
/// In bytes, of a decoded message.
pub(super) const MAX_MESSAGE: usize = 256 * 1024;
/// Base64 of [`MAX_MESSAGE`], with room for line ends.
const MAX_FIELD: usize = MAX_MESSAGE / 3 * 4 + MAX_MESSAGE / 16;
const MAX_DEPTH: usize = 32;
const MAX_ATTRIBUTES: usize = 32;
/// Bounds the namespaces that are in scope at once. Real messages come to 25.
const MAX_ATTRIBUTES_OPEN: usize = 40;
/// Some ten times what a message with a thousand groups comes to, and some milliseconds.
pub(super) const MAX_WORK: usize = 4 * 1024 * 1024;
