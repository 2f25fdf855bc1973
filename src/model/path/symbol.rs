//! The symbols that a path consists of, by the ways in which origins read them.

use super::PathError;

/// A part of a path, by the ways in which origins read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Symbol {
    /// A character that all origins read alike, up to its case. An escaped unreserved character is
    /// one (RFC 3986 6.2.2.2).
    Letter(u8),
    /// An escaped octet. Some origins decode it, others do not. One beyond ASCII is not UTF-8, and
    /// some origins drop it.
    Escaped(u8),
    /// An escaped character beyond ASCII, in UTF-8. Some origins decode it, others do not.
    Character(char),
    /// A slash. Some origins merge several.
    Separator,
    /// An escaped slash or backslash: a separator for origins that decode first, part of a name for
    /// the others. The full-width forms are such, too.
    EscapedSeparator,
    /// `;` or `:`, escaped or not, or full-width. Some origins drop the rest of the segment:
    /// parameters, or a stream of a file on Windows.
    Suffix,
    /// An escaped `?` or `#`, or a full-width one. The path ends here for origins that decode
    /// before they split.
    End,
}

/// Characters that are slashes or backslashes to Windows programs that do not use Unicode ("best
/// fit" of code pages): full-width forms, fraction and division slash, set minus, and the signs of
/// yen and won.
const SLASHES: [char; 7] = [
    '\u{ff0f}', '\u{ff3c}', '\u{2044}', '\u{2215}', '\u{2216}', '\u{a5}', '\u{20a9}',
];
// Best-fit mappings of Windows code pages turn these into the ASCII characters of the same name.
const FULL_WIDTH_SEMICOLON: char = '\u{ff1b}';
const FULL_WIDTH_COLON: char = '\u{ff1a}';
const FULL_WIDTH_QUESTION_MARK: char = '\u{ff1f}';
const FULL_WIDTH_NUMBER_SIGN: char = '\u{ff03}';
/// A dot to the same programs.
const ONE_DOT_LEADER: char = '\u{2024}';
/// A dot that may end a segment, or be part of a dot segment.
pub(crate) const FULL_WIDTH_DOT: char = '\u{ff0e}';

/// Reads a path symbol by symbol, each with the bytes that it was written with.
#[derive(Clone, Debug)]
pub(super) struct Symbols<'a> {
    rest: &'a [u8],
}

impl<'a> Symbols<'a> {
    pub(super) const fn new(path: &'a str) -> Self {
        Self {
            rest: path.as_bytes(),
        }
    }
}

impl<'a> Iterator for Symbols<'a> {
    type Item = Result<(Symbol, &'a [u8]), PathError>;

    fn next(&mut self) -> Option<Self::Item> {
        let (first, rest) = self.rest.split_first()?;
        let (symbol, rest) = match first {
            b'/' => (Symbol::Separator, rest),
            b';' | b':' => (Symbol::Suffix, rest),
            b'%' => match character(self.rest).map_or_else(|| escape(rest), Ok) {
                Ok(read) => read,
                Err(error) => return Some(Err(error)),
            },
            0..=0x20 | 0x7f.. | b'\\' | b'#' | b'?' => return Some(Err(PathError::Byte)),
            other => (Symbol::Letter(*other), rest),
        };
        let written = self
            .rest
            .get(..self.rest.len() - rest.len())
            .unwrap_or_default();
        self.rest = rest;
        Some(Ok((symbol, written)))
    }
}

/// Reads a character beyond ASCII from the escapes of its octets.
fn character(bytes: &[u8]) -> Option<(Symbol, &[u8])> {
    let (mut octets, mut ends) = ([0; 4], [bytes; 4]);
    let (mut rest, mut length) = (bytes, 0);
    for (place, end) in octets.iter_mut().zip(&mut ends) {
        let Some(Ok((octet, _, next))) = rest.strip_prefix(b"%").map(octet) else {
            break;
        };
        if octet.is_ascii() {
            break;
        }
        (*place, *end, rest) = (octet, next, next);
        length += 1;
    }
    let first = octets
        .get(..length)?
        .utf8_chunks()
        .next()?
        .valid()
        .chars()
        .next()?;
    let symbol = match first {
        slash if SLASHES.contains(&slash) => Symbol::EscapedSeparator,
        ONE_DOT_LEADER => Symbol::Character(FULL_WIDTH_DOT),
        FULL_WIDTH_SEMICOLON | FULL_WIDTH_COLON => Symbol::Suffix,
        FULL_WIDTH_QUESTION_MARK | FULL_WIDTH_NUMBER_SIGN => Symbol::End,
        other => Symbol::Character(other),
    };
    Some((symbol, *ends.get(first.len_utf8() - 1)?))
}

/// Reads an escape behind its `%`.
fn escape(bytes: &[u8]) -> Result<(Symbol, &[u8]), PathError> {
    let (octet, is_nested, rest) = octet(bytes)?;
    let symbol = match octet {
        0..0x20 | 0x7f => return Err(PathError::Byte),
        // No encoder escapes unreserved characters twice. A dot could become a dot segment.
        _ if is_unreserved(octet) && is_nested => return Err(PathError::EncodedTwice),
        _ if is_unreserved(octet) => Symbol::Letter(octet),
        b'/' | b'\\' => Symbol::EscapedSeparator,
        b';' | b':' => Symbol::Suffix,
        b'?' | b'#' => Symbol::End,
        _ => Symbol::Escaped(octet),
    };
    Ok((symbol, rest))
}

/// Reads an escaped octet behind its `%`, decoded as often as it was encoded; `true` if that was
/// more than once.
fn octet(bytes: &[u8]) -> Result<(u8, bool, &[u8]), PathError> {
    let [high, low, rest @ ..] = bytes else {
        return Err(PathError::Escape);
    };
    let mut octet = from_hex(*high, *low).ok_or(PathError::Escape)?;
    let (mut rest, mut is_nested) = (rest, false);
    while octet == b'%' {
        let Some(((high, high_is_escaped), next)) = decoded_once(rest) else {
            break;
        };
        let Some(((low, low_is_escaped), next)) = decoded_once(next) else {
            break;
        };
        let Some(inner) = from_hex(high, low) else {
            break;
        };
        // No encoder escapes digits.
        if high_is_escaped || low_is_escaped {
            return Err(PathError::EncodedTwice);
        }
        (octet, rest, is_nested) = (inner, next, true);
    }
    Ok((octet, is_nested, rest))
}

/// The first octet after one decoding, `true` if it was escaped, and the rest.
fn decoded_once(bytes: &[u8]) -> Option<((u8, bool), &[u8])> {
    if let [b'%', high, low, rest @ ..] = bytes
        && let Some(octet) = from_hex(*high, *low)
    {
        return Some(((octet, true), rest));
    }
    bytes
        .split_first()
        .map(|(octet, rest)| ((*octet, false), rest))
}

pub(super) fn from_hex(high: u8, low: u8) -> Option<u8> {
    let digit = |b: u8| {
        char::from(b)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
    };
    Some(digit(high)? * 16 + digit(low)?)
}

/// RFC 3986 2.3.
pub(super) const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}
