//! Paths of requests: the one form that is evaluated and forwarded.
//!
//! Decides which paths are rejected and how dot segments are resolved. Trusts nothing in a path.
//! Never changes a byte that it keeps, and never picks one of several readings: the router gets all
//! of them.

use std::borrow::Cow;
use std::sync::LazyLock;

use smallvec::SmallVec;
use thiserror::Error;

mod symbol;
#[cfg(test)]
mod tests;

pub(crate) use symbol::FULL_WIDTH_DOT;
pub use symbol::Symbol;
use symbol::{Symbols, from_hex, is_unreserved};

/// A path as it is judged and forwarded: the bytes of the client, with dot segments resolved (RFC
/// 3986 5.2.4).
///
/// Origins read some bytes in more than one way. [`CleanPath::symbols`] names those bytes, so that
/// the router can require that all readings lead to one application. Bytes that could change the
/// shape of the path are refused here: hidden dot segments, two slashes in front, control
/// characters, overlong UTF-8.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CleanPath<'a> {
    text: Cow<'a, str>,
    is_plain: bool,
}

/// The reason why a path is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PathError {
    /// It does not begin with a slash.
    #[error("the path is not absolute")]
    NotAbsolute,
    /// It begins with two slashes, which clients and origins read as the beginning of a host.
    #[error("the path begins with two slashes")]
    Authority,
    /// A byte that no path may hold: a control character, a backslash, a fragment, a byte beyond
    /// ASCII.
    #[error("the path contains a byte that is not allowed")]
    Byte,
    /// A `%` that is not followed by two hexadecimal digits, or overlong UTF-8.
    #[error("the path contains a malformed escape")]
    Escape,
    /// An escape of an escape that would become an unreserved character, a dot for instance.
    #[error("the path is encoded twice")]
    EncodedTwice,
    /// A hidden dot segment, or readings that lead to different applications.
    #[error("the path can be read in more than one way")]
    Ambiguous,
}

impl Default for CleanPath<'_> {
    /// The path of a first page.
    fn default() -> Self {
        Self {
            text: Cow::Borrowed("/"),
            is_plain: true,
        }
    }
}

impl<'a> CleanPath<'a> {
    /// Reads the path of a request target, without its query.
    ///
    /// # Errors
    /// See [`PathError`]; each is answered with 400.
    pub fn parse(raw: &'a str) -> Result<Self, PathError> {
        if !raw.starts_with('/') {
            return Err(PathError::NotAbsolute);
        }
        if is_plain(raw.as_bytes()) {
            return Ok(Self {
                text: Cow::Borrowed(raw),
                is_plain: true,
            });
        }
        if let Some(error) = Symbols::new(raw).find_map(Result::err) {
            return Err(error);
        }
        let text = resolve(raw)?;
        if text.starts_with("//") {
            return Err(PathError::Authority);
        }
        let is_plain = is_plain(text.as_bytes());
        Ok(Self { text, is_plain })
    }

    /// The path that is forwarded.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns `true` if the path differs from the one that was sent, so that the request line must
    /// be rewritten.
    pub const fn is_rewritten(&self) -> bool {
        matches!(self.text, Cow::Owned(_))
    }

    /// Returns `true` if all origins read the path alike, up to its case.
    pub const fn is_plain(&self) -> bool {
        self.is_plain
    }

    /// The path with unreserved characters decoded (RFC 3986 6.2.2.2), and all else as it was sent.
    pub fn normalized(&self) -> Cow<'_, str> {
        if self.is_plain {
            return Cow::Borrowed(&self.text);
        }
        let mut normal = String::with_capacity(self.text.len());
        let mut rest = self.text.as_ref();
        while let Some((before, after)) = rest.split_once('%') {
            normal.push_str(before);
            let octet = match after.as_bytes() {
                [high, low, ..] => from_hex(*high, *low),
                _ => None,
            };
            rest = match octet {
                Some(octet) if is_unreserved(octet) => {
                    normal.push(char::from(octet));
                    after.get(2..).unwrap_or_default()
                }
                _ => {
                    normal.push('%');
                    after
                }
            };
        }
        normal.push_str(rest);
        Cow::Owned(normal)
    }

    /// The parts of the path by the ways in which origins read them, each with its bytes.
    pub fn symbols(&self) -> impl Iterator<Item = (Symbol, &[u8])> {
        // Parsing refused all else.
        Symbols::new(&self.text).filter_map(Result::ok)
    }
}

/// Returns `true` if all origins read the path alike: no escape, no `;` or `:`, no empty segment,
/// no dot at the end of one. Nearly every path is plain.
fn is_plain(path: &[u8]) -> bool {
    let (table, mut before) = (&*PLAIN, 0);
    let (mut plain, mut suspect) = (true, false);
    for &byte in path {
        plain &= table.get(usize::from(byte)) == Some(&true);
        suspect |= matches!((before, byte), (b'/', b'/') | (b'.', b'/'));
        before = byte;
    }
    plain && !suspect && before != b'.'
}

/// Returns `true` for the slash, and for characters that mean only themselves.
const fn is_plain_byte(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'%' | b';' | b':' | b'\\' | b'#' | b'?')
}

/// [`is_plain_byte`] of every byte: paths are read on every request.
static PLAIN: LazyLock<[bool; 256]> =
    LazyLock::new(|| std::array::from_fn(|byte| u8::try_from(byte).is_ok_and(is_plain_byte)));

/// Resolves dot segments, and refuses hidden ones.
fn resolve(raw: &str) -> Result<Cow<'_, str>, PathError> {
    let mut kept: SmallVec<[&str; 16]> = SmallVec::new();
    let (mut has_dots, mut is_open) = (false, false);
    for segment in raw.split('/').skip(1) {
        let dots = dot_segment(segment);
        is_open = dots.is_some();
        has_dots |= is_open;
        match dots {
            Some(Dots::Here) => {}
            Some(Dots::Up) => {
                // As origins do that merge slashes first: `/a//..` is `/`, never `/a/`.
                while kept.pop().is_some_and(str::is_empty) {}
            }
            None => {
                refuse_hidden(segment)?;
                kept.push(segment);
            }
        }
    }
    if !has_dots {
        return Ok(Cow::Borrowed(raw));
    }
    if is_open {
        kept.push("");
    }
    Ok(Cow::Owned(
        kept.iter().flat_map(|segment| ["/", segment]).collect(),
    ))
}

enum Dots {
    Here,
    Up,
}

fn dot_segment(segment: &str) -> Option<Dots> {
    let dot = |text: &'_ str| -> Option<usize> {
        let escaped = text
            .get(..3)
            .is_some_and(|start| start.eq_ignore_ascii_case("%2e"));
        if escaped {
            Some(3)
        } else {
            text.starts_with('.').then_some(1)
        }
    };
    let rest = segment.get(dot(segment)?..)?;
    if rest.is_empty() {
        return Some(Dots::Here);
    }
    rest.get(dot(rest)?..)?.is_empty().then_some(Dots::Up)
}

/// Refuses a segment in which some origins find a dot segment, or overlong UTF-8, which some
/// origins decode to ASCII.
fn refuse_hidden(segment: &str) -> Result<(), PathError> {
    if is_plain(segment.as_bytes()) {
        return Ok(());
    }
    let mut octets: SmallVec<[u8; 64]> = SmallVec::new();
    for symbol in Symbols::new(segment) {
        match symbol?.0 {
            Symbol::Letter(octet) | Symbol::Escaped(octet) => octets.push(octet),
            Symbol::Character(character) if is_ignorable(character) => {}
            Symbol::Character(FULL_WIDTH_DOT) => octets.push(b'.'),
            Symbol::Character(character) => {
                octets.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes())
            }
            Symbol::Separator | Symbol::EscapedSeparator | Symbol::Suffix | Symbol::End => {
                octets.push(b'/')
            }
        }
    }
    if octets.windows(2).any(is_overlong) {
        return Err(PathError::Escape);
    }
    // Some origins drop octets that are not UTF-8.
    let text: String = octets.utf8_chunks().map(|chunk| chunk.valid()).collect();
    let is_hidden =
        |piece: &str| piece.contains('.') && piece.chars().all(|c| c == '.' || c.is_whitespace());
    // Three dots and more are a name.
    let is_name = |text: &str| text.len() == segment.len() && text.bytes().all(|byte| byte == b'.');
    if !is_name(&text) && text.split('/').any(is_hidden) {
        return Err(PathError::Ambiguous);
    }
    Ok(())
}

/// Returns `true` for characters that some file systems ignore in names (Apple TN1150, "Unicode
/// Subtleties").
pub(crate) const fn is_ignorable(character: char) -> bool {
    matches!(
        character,
        '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
    )
}

/// Returns `true` for the first two octets of a sequence that encodes a character in more octets
/// than it needs (RFC 3629 3), in UTF-8 of up to six octets.
fn is_overlong(pair: &[u8]) -> bool {
    matches!(
        pair,
        [0xc0 | 0xc1, 0x80..=0xbf]
            | [0xe0, 0x80..=0x9f]
            | [0xf0, 0x80..=0x8f]
            | [0xf8, 0x80..=0x87]
            | [0xfc, 0x80..=0x83]
    )
}
