use super::readings::{is_blank, is_droppable, is_trimmable};
use crate::model::{CleanPath, PathError, Symbol};

/// The reason why a path cannot be that of a domain. Each path of a domain has one reading, up to
/// its case, and one spelling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathFault {
    /// No request has this path.
    Refused(PathError),
    /// A segment holds two stars.
    Stars,
    /// It has another spelling, which is the one that requests are compared with.
    Spelling(String),
    /// A segment begins or ends with dots or blanks, which some origins drop.
    Trimmed(String),
    /// A part that some origins read as the end of a segment or of the path.
    Ambiguous(String),
    /// An escape of `%` or `*`, which no pattern names.
    Unnameable(String),
    /// An escape of a character that needs none. Origins that do not decode it see another path.
    NeedlessEscape(char),
    /// An octet that is not UTF-8, which some origins drop.
    NotUtf8(String),
    /// An invisible character, which some origins drop.
    Invisible(String),
}

impl PathFault {
    /// Returns the first fault of a path.
    pub fn find(text: &str) -> Option<Self> {
        if text
            .split('/')
            .any(|segment| segment.matches('*').count() > 1)
        {
            return Some(Self::Stars);
        }
        let path = match CleanPath::parse(text) {
            Ok(path) => path,
            Err(error) => return Some(Self::Refused(error)),
        };
        let mut shortest = path.normalized().into_owned();
        while let Some(at) = shortest.find("//") {
            shortest.remove(at);
        }
        if shortest != text {
            return Some(Self::Spelling(shortest));
        }
        trimmed(&path)
            .or_else(|| {
                path.symbols()
                    .find_map(|(symbol, written)| of_symbol(symbol, written))
            })
            .or_else(|| {
                let spelling: String = path
                    .symbols()
                    .map(|(symbol, written)| spelling(symbol, written))
                    .collect();
                (spelling != text).then_some(Self::Spelling(spelling))
            })
    }
}

fn trimmed(path: &CleanPath<'_>) -> Option<PathFault> {
    let symbols: Vec<(Symbol, &[u8])> = path.symbols().collect();
    let is_trimmed = |segment: &&[(Symbol, &[u8])]| {
        let begins_with_blank = segment.first().is_some_and(|(first, _)| is_blank(*first));
        begins_with_blank || segment.last().is_some_and(|(last, _)| is_trimmable(*last))
    };
    let segment = symbols
        .split(|(symbol, _)| *symbol == Symbol::Separator)
        .find(is_trimmed)?;
    Some(PathFault::Trimmed(
        segment.iter().map(|(_, written)| text(written)).collect(),
    ))
}

fn of_symbol(symbol: Symbol, written: &[u8]) -> Option<PathFault> {
    match symbol {
        Symbol::EscapedSeparator | Symbol::Suffix | Symbol::End => {
            Some(PathFault::Ambiguous(text(written)))
        }
        Symbol::Escaped(b'%' | b'*') => Some(PathFault::Unnameable(text(written))),
        Symbol::Escaped(octet @ 0x21..0x7f) => Some(PathFault::NeedlessEscape(char::from(octet))),
        Symbol::Escaped(_) if is_droppable(symbol) => Some(PathFault::NotUtf8(text(written))),
        Symbol::Character(_) if is_droppable(symbol) => Some(PathFault::Invisible(text(written))),
        Symbol::Escaped(_) | Symbol::Character(_) | Symbol::Letter(_) | Symbol::Separator => None,
    }
}

/// Escapes once, in upper case (RFC 3986 6.2.2.1). Two spellings would be two domains with the same
/// paths.
fn spelling(symbol: Symbol, written: &[u8]) -> String {
    let escaped = |octets: &[u8]| octets.iter().map(|octet| format!("%{octet:02X}")).collect();
    match symbol {
        Symbol::Escaped(octet) => escaped(&[octet]),
        Symbol::Character(character) => escaped(character.encode_utf8(&mut [0; 4]).as_bytes()),
        _ => text(written),
    }
}

fn text(written: &[u8]) -> String {
    String::from_utf8_lossy(written).into_owned()
}
