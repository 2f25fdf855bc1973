//! The readings of a path, and the patterns that cover them.
//!
//! Origins read some bytes of a path in more than one way, see [`Symbol`]. A reading is the path
//! that one origin sees after any choice of these ways, made anew at each symbol. Two bounds decide
//! for all readings at once, in time proportional to the lengths of the path and the pattern:
//!
//! - [`Pattern::may_cover`] returns `true` if the pattern covers at least one reading. It is an
//!   automaton that follows all choices in parallel, so no combination is left out.
//! - [`CertainPath::is_covered`] returns `true` only if the pattern covers every reading. It
//!   matches the pattern against the symbols that no reading changes.
//!
//! If the most specific pattern that may cover a path does so certainly, then every reading leads
//! to its application. Patterns that differ only in case are the exception: an origin that ignores
//! case serves the paths of both. The router rejects those, see
//! [`case_rivals`](super::case_rivals).

use smallvec::SmallVec;

use crate::model::{CleanPath, FULL_WIDTH_DOT, Symbol, is_ignorable};

/// The way in which an origin compares the letters of a path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PathCase {
    /// `/Admin` may be `/admin`: the origin's way is not known.
    #[default]
    Insensitive,
    /// `/Admin` and `/admin` are two paths.
    Sensitive,
}

impl PathCase {
    fn same(self, one: Unit, other: Unit) -> bool {
        one == other || self == Self::Insensitive && folded(one) == folded(other)
    }
}

/// Maps the spellings of a character that some origins take for the same to one: letters in either
/// case, also if only one of the cases is ASCII (`K` and the Kelvin sign), and full-width forms,
/// which Windows maps to ASCII.
fn folded(unit: Unit) -> Unit {
    let Some(character) = char::from_u32(unit) else {
        return unit;
    };
    if character.is_ascii() {
        return Unit::from(character.to_ascii_lowercase());
    }
    let narrow = match unit {
        FULL_WIDTH_FIRST..=FULL_WIDTH_LAST => unit - FULL_WIDTH_FIRST + Unit::from(b'!'),
        _ => unit,
    };
    // The first character of a longer mapping is the simple one, which origins use.
    let upper = char::from_u32(narrow).and_then(|character| character.to_uppercase().next());
    upper
        .and_then(|upper| upper.to_lowercase().next())
        .map_or(unit, Unit::from)
}

/// A pattern of paths, ready for matching.
#[derive(Debug)]
pub(super) struct Pattern {
    steps: Box<[Step]>,
    /// Returns `true` after the last step whatever follows; otherwise a slash or the end must.
    is_open: bool,
    units: Box<[Unit]>,
}

/// A character of a pattern.
#[derive(Debug)]
struct Step {
    decoded: Unit,
    /// `true` if any text may come before it.
    after_star: bool,
}

impl Pattern {
    /// Compiles the path of a domain.
    pub(super) fn compile(path: &str) -> Self {
        let (mut steps, mut units) = (Vec::new(), Vec::new());
        let mut after_star = false;
        // Domains with a malformed path were rejected before.
        let path = CleanPath::parse(path).unwrap_or_default();
        for (symbol, _) in path.symbols() {
            if symbol == Symbol::Letter(b'*') {
                after_star = true;
                units.push(STAR);
                continue;
            }
            let (Some(decoded), Some(unit)) = (decoded(symbol), undecoded(symbol)) else {
                continue;
            };
            units.push(unit);
            steps.push(Step {
                decoded,
                after_star: std::mem::take(&mut after_star),
            });
        }
        let is_open = after_star || path.as_str().ends_with('/');
        Self {
            steps: steps.into(),
            is_open,
            units: units.into(),
        }
    }

    /// Returns `true` if the pattern has a character that [`PathCase::Insensitive`] replaces by
    /// another one.
    pub(super) fn has_case(&self) -> bool {
        self.steps
            .iter()
            .any(|step| folded(step.decoded) != step.decoded)
    }

    /// Returns `true` if the pattern covers at least one reading of the path.
    pub(super) fn may_cover(&self, path: &CleanPath<'_>, case: PathCase) -> bool {
        let length = self.steps.len() + 1;
        let mut now = States::from_elem(0, length);
        let mut next = States::from_elem(0, length);
        if let Some(start) = now.first_mut() {
            *start = NAME;
        }
        for (symbol, written) in path.symbols() {
            next.fill(0);
            if self.advance(&now, &mut next, symbol, written, case) {
                return true;
            }
            std::mem::swap(&mut now, &mut next);
            if now.iter().all(|modes| *modes == 0) {
                return false;
            }
        }
        now.last().is_some_and(|modes| *modes != 0)
    }

    /// Follows one symbol from all states; returns `true` once the pattern is fulfilled whatever
    /// follows.
    fn advance(
        &self,
        now: &States,
        next: &mut States,
        symbol: Symbol,
        written: &[u8],
        case: PathCase,
    ) -> bool {
        let mut done = false;
        for (at, &modes) in now.iter().enumerate().filter(|(_, modes)| **modes != 0) {
            let read = |next: &mut States, unit: Option<Unit>, mode: u8| {
                self.read(next, at, unit, mode, case)
            };
            // Of those that are in front of the symbol in a reading, the ones that are in a name,
            // or after a separator.
            let is_reading = modes & (NAME | EDGE) != 0;
            let mut stay = modes & (DROP | EDGE_DROP);
            match symbol {
                Symbol::Letter(_) | Symbol::Escaped(_) | Symbol::Character(_) => {
                    if is_reading {
                        done |= read(next, decoded(symbol), NAME);
                    }
                    if is_droppable(symbol) {
                        stay = modes;
                    }
                    if is_trimmable(symbol) {
                        stay |= if modes & (NAME | TRIM) != 0 { TRIM } else { 0 };
                        stay |= if modes & (EDGE | EDGE_TRIM) != 0 {
                            EDGE_TRIM
                        } else {
                            0
                        };
                    }
                    if is_blank(symbol) {
                        stay |= modes & EDGE;
                    }
                }
                Symbol::Separator | Symbol::EscapedSeparator => {
                    done |= read(next, Some(SLASH), EDGE);
                    if symbol == Symbol::Separator {
                        stay = 0;
                    }
                    // Several separators may be merged.
                    stay |= if modes & (EDGE | EDGE_DROP | EDGE_TRIM) != 0 {
                        EDGE
                    } else {
                        0
                    };
                }
                Symbol::Suffix => {
                    stay |= if modes & (NAME | TRIM) != 0 { DROP } else { 0 };
                    stay |= if modes & (EDGE | EDGE_TRIM) != 0 {
                        EDGE_DROP
                    } else {
                        0
                    };
                    if is_reading {
                        done |= read(next, None, NAME);
                    }
                }
                Symbol::End => done |= at == self.steps.len(),
            }
            if let Some(states) = next.get_mut(at) {
                *states |= stay;
            }
            if is_reading && written.first() == Some(&b'%') {
                done |= self.read_undecoded(next, at, written, case);
            }
        }
        done
    }

    /// Reads a character, `None` for one that no pattern names; returns `true` once the pattern is
    /// fulfilled.
    fn read(
        &self,
        next: &mut States,
        at: usize,
        unit: Option<Unit>,
        mode: u8,
        case: PathCase,
    ) -> bool {
        let Some(step) = self.steps.get(at) else {
            return unit == Some(SLASH);
        };
        if step.after_star
            && let Some(states) = next.get_mut(at)
        {
            *states |= mode;
        }
        if !unit.is_some_and(|unit| case.same(step.decoded, unit)) {
            return false;
        }
        if let Some(states) = next.get_mut(at + 1) {
            *states |= mode;
        }
        at + 1 == self.steps.len() && self.is_open
    }

    /// Reads an escape as the text that it is. A pattern names none of its `%`, so there must be a
    /// star.
    fn read_undecoded(&self, next: &mut States, at: usize, written: &[u8], case: PathCase) -> bool {
        if !self.steps.get(at).is_some_and(|step| step.after_star) {
            return false;
        }
        let mut now = States::from_elem(0, self.steps.len() + 1);
        if let Some(states) = now.get_mut(at) {
            *states = NAME;
        }
        let mut done = false;
        for &octet in written.iter().skip(1) {
            let mut after = States::from_elem(0, now.len());
            for (at, _) in now.iter().enumerate().filter(|(_, modes)| **modes != 0) {
                let unit = Some(Unit::from(octet)).filter(|_| octet != b'%');
                done |= self.read(&mut after, at, unit, NAME, case);
            }
            now = after;
        }
        next.iter_mut()
            .zip(&now)
            .for_each(|(next, now)| *next |= now);
        done
    }
}

/// The modes of a reading at each step of a pattern.
type States = SmallVec<[u8; 64]>;

/// The reading is inside a name.
const NAME: u8 = 1;
/// Right after a separator: nothing of the segment was read.
const EDGE: u8 = 1 << 1;
/// In parameters or a stream, which this reading drops.
const DROP: u8 = 1 << 2;
/// Like `DROP`, and nothing of the segment was kept.
const EDGE_DROP: u8 = 1 << 3;
/// In dots and blanks that this reading drops: the segment must end.
const TRIM: u8 = 1 << 4;
/// Like `TRIM`, and nothing of the segment was kept.
const EDGE_TRIM: u8 = 1 << 5;

/// The symbols of a path that no reading changes.
#[derive(Debug)]
pub(super) struct CertainPath(SmallVec<[Unit; 128]>);

impl CertainPath {
    pub(super) fn new(path: &CleanPath<'_>) -> Self {
        let (symbols, lengths): (SmallVec<[Symbol; 128]>, SmallVec<[usize; 128]>) = path
            .symbols()
            .map(|(symbol, written)| (symbol, written.len()))
            .unzip();
        let trimmed = trimmed(&symbols);
        let mut units = SmallVec::with_capacity(symbols.len());
        // Whether the rest of the segment may be dropped; whether nothing certain of it was read.
        let (mut is_dropped, mut is_edge) = (false, false);
        // The first slash of those that may be merged with the next one.
        let mut run: Option<usize> = None;
        for ((symbol, length), is_trimmed) in symbols.into_iter().zip(lengths).zip(trimmed) {
            let unit = match symbol {
                // After a segment that may vanish, a separator may be merged with the one before.
                Symbol::Separator => {
                    is_dropped = false;
                    let before = run.filter(|_| is_edge);
                    is_edge = true;
                    units.truncate(before.unwrap_or(units.len()));
                    run = Some(units.len());
                    if before.is_some() { SLASHES } else { SLASH }
                }
                Symbol::EscapedSeparator => {
                    run = run.filter(|_| is_edge);
                    is_edge = true;
                    UNCERTAIN
                }
                Symbol::Suffix => {
                    is_dropped = true;
                    UNCERTAIN
                }
                // All that follows may be no part of the path.
                Symbol::End => {
                    units.push(UNCERTAIN);
                    break;
                }
                _ if is_dropped || is_trimmed => UNCERTAIN,
                _ if is_edge && is_blank(symbol) || is_droppable(symbol) => UNCERTAIN,
                Symbol::Letter(_) | Symbol::Escaped(_) | Symbol::Character(_) => {
                    is_edge = false;
                    // After one decoding, an escape of an escape is another text.
                    let is_nested = match symbol {
                        Symbol::Escaped(_) => length > ESCAPE,
                        Symbol::Character(character) => length > ESCAPE * character.len_utf8(),
                        _ => false,
                    };
                    undecoded(symbol)
                        .filter(|_| !is_nested)
                        .unwrap_or(UNCERTAIN)
                }
            };
            units.push(unit);
        }
        Self(units)
    }

    /// Returns `true` only if the pattern covers every reading, letters compared with their case.
    pub(super) fn is_covered(&self, pattern: &Pattern) -> bool {
        covers(&pattern.units, &self.0, &ALPHABET, |one, other| {
            one == other
        })
    }
}

/// Marks the dots and blanks that end a segment in some reading.
fn trimmed(symbols: &[Symbol]) -> SmallVec<[bool; 128]> {
    let mut is_end = true;
    let mut marks: SmallVec<[bool; 128]> = symbols
        .iter()
        .rev()
        .map(|symbol| match symbol {
            symbol if is_trimmable(*symbol) => is_end,
            symbol if is_droppable(*symbol) => false,
            Symbol::Letter(_) | Symbol::Escaped(_) | Symbol::Character(_) => {
                is_end = false;
                false
            }
            Symbol::Separator | Symbol::EscapedSeparator | Symbol::Suffix | Symbol::End => {
                is_end = true;
                false
            }
        })
        .collect();
    marks.reverse();
    marks
}

/// A character: its code, or one of the marks below. A piece of a pattern cannot match inside of an
/// escape.
type Unit = u32;

const SLASH: Unit = b'/' as Unit;
/// Added to an octet that is no character.
const OCTET: Unit = 1 << 24;
/// Added to escaped characters.
const ESCAPED: Unit = 1 << 25;
const STAR: Unit = 1 << 26;
const UNCERTAIN: Unit = 1 << 27;
/// One slash or several, with the characters between them that may vanish.
const SLASHES: Unit = 1 << 28;
const ALPHABET: Alphabet<Unit> = Alphabet {
    star: STAR,
    slash: SLASH,
    slashes: SLASHES,
};
/// The full-width form of `!`, the first of the printable characters of ASCII.
const FULL_WIDTH_FIRST: Unit = 0xff01;
/// The full-width form of `~`, the last of them.
const FULL_WIDTH_LAST: Unit = 0xff5e;
/// The bytes of an escape that is not nested.
const ESCAPE: usize = 3;

/// A part of a name after decoding.
fn decoded(symbol: Symbol) -> Option<Unit> {
    match symbol {
        Symbol::Letter(octet) | Symbol::Escaped(octet @ ..0x80) => Some(Unit::from(octet)),
        Symbol::Escaped(octet) => Some(OCTET | Unit::from(octet)),
        Symbol::Character(character) => Some(Unit::from(character)),
        Symbol::Separator => Some(SLASH),
        Symbol::EscapedSeparator | Symbol::Suffix | Symbol::End => None,
    }
}

/// A part of a name, for origins that do not decode it and those that do.
fn undecoded(symbol: Symbol) -> Option<Unit> {
    let mark = if matches!(symbol, Symbol::Escaped(_) | Symbol::Character(_)) {
        ESCAPED
    } else {
        0
    };
    decoded(symbol).map(|unit| unit | mark)
}

/// Returns `true` for a part of a name that some origins drop.
pub(super) fn is_droppable(symbol: Symbol) -> bool {
    match symbol {
        Symbol::Escaped(octet) => octet >= 0x80,
        Symbol::Character(character) => is_ignorable(character),
        _ => false,
    }
}

/// Returns `true` for a blank, which some origins drop at either end of a segment.
pub(super) fn is_blank(symbol: Symbol) -> bool {
    match symbol {
        Symbol::Escaped(octet) => octet == b' ',
        Symbol::Character(character) => character.is_whitespace(),
        _ => false,
    }
}

pub(super) fn is_trimmable(symbol: Symbol) -> bool {
    matches!(
        symbol,
        Symbol::Letter(b'.') | Symbol::Character(FULL_WIDTH_DOT)
    ) || is_blank(symbol)
}

/// The special characters of patterns and texts.
pub(super) struct Alphabet<T> {
    /// Any text, in a pattern.
    pub(super) star: T,
    /// The end of a segment.
    pub(super) slash: T,
    /// In a text, one slash or several with text between them.
    pub(super) slashes: T,
}

impl Alphabet<u8> {
    /// The alphabet of plain paths, in which every slash is one slash.
    pub(super) const PLAIN: Self = Self {
        star: b'*',
        slash: b'/',
        slashes: b'/',
    };
}

/// Returns `true` if a pattern covers a text: all of it, or up to a slash.
pub(super) fn covers<T: Copy + PartialEq>(
    pattern: &[T],
    path: &[T],
    alphabet: &Alphabet<T>,
    same: impl Fn(T, T) -> bool + Copy,
) -> bool {
    let Alphabet {
        star,
        slash,
        slashes,
    } = *alphabet;
    // A run of slashes begins and ends with a slash. The rest of it belongs to the text after the
    // piece, or to the star before it.
    let equal = |text: &[T], piece: &[T], is_after_star: bool| {
        let alike = |(at, (theirs, ours)): (usize, (&T, &T))| {
            same(*ours, *theirs)
                || *ours == slash
                    && *theirs == slashes
                    && (at + 1 == piece.len() || at == 0 && is_after_star)
        };
        text.len() == piece.len() && text.iter().zip(piece).enumerate().all(alike)
    };
    let after = |at: usize, piece: &[T], is_after_star: bool| -> Option<usize> {
        let end = at.checked_add(piece.len())?;
        equal(path.get(at..end)?, piece, is_after_star).then_some(end)
    };
    let at_boundary = |end: usize, piece: &[T]| {
        path.get(end)
            .is_none_or(|next| *next == slash || *next == slashes)
            || piece.last() == Some(&slash)
    };
    let mut pieces = pattern.split(|unit| *unit == star);
    let first = pieces.next().unwrap_or_default();
    let Some(mut at) = after(0, first, false) else {
        return false;
    };
    let Some(last) = pieces.next_back() else {
        return at_boundary(at, first);
    };
    // Text between two stars is taken at its first occurrence: that leaves the most for the rest.
    for piece in pieces {
        match (at..=path.len()).find_map(|from| after(from, piece, true)) {
            Some(end) => at = end,
            None => return false,
        }
    }
    last.is_empty()
        || (at..=path.len())
            .any(|from| after(from, last, true).is_some_and(|end| at_boundary(end, last)))
}
