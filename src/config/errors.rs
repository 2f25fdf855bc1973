use std::fmt;
use std::path::Path;

use thiserror::Error;

use super::document_name::DocumentName;

/// A mistake or a warning, with its position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The document that it is in.
    pub document: DocumentName,
    /// Line and column, both from 1, the column in characters; `None` for a whole document, and
    /// for a value in JSON.
    pub position: Option<(usize, usize)>,
    /// The key: in TOML such as `applications[1].policies[0].name`, in JSON a pointer (RFC 6901);
    /// empty for a whole document.
    pub key: String,
    /// The mistake and its correction, in one line without secrets.
    pub message: String,
}

impl Problem {
    /// Creates a problem of a key that is found after the file was read.
    #[cfg(feature = "standalone")]
    pub(crate) fn at_key(
        file: &Path,
        position: Option<(usize, usize)>,
        key: &str,
        message: &str,
    ) -> Self {
        Self {
            document: DocumentName::File(file.into()),
            position,
            key: key.to_owned(),
            message: one_line(message),
        }
    }

    /// Creates a problem of a whole file.
    pub(crate) fn of_file(file: &Path, message: &str) -> Self {
        Self {
            document: DocumentName::File(file.into()),
            position: None,
            key: String::new(),
            message: one_line(message),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.document)?;
        if let Some((line, column)) = self.position {
            write!(f, ":{line}:{column}")?;
        }
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        write!(f, ": {}", self.message)
    }
}

/// Every mistake of a configuration, in the order of the documents. Displays as one line each.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{}", .0.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n"))]
pub struct Errors(pub Vec<Problem>);

/// A file of another kind has a mistake on every line, and reading 500 of them is enough.
pub(super) const MOST_PROBLEMS: usize = 500;

/// The most names of a list in a message.
const LISTED: usize = 10;

/// No message of our own is longer; input in messages can have any length.
const LONGEST_MESSAGE: usize = 600;

/// Escapes control characters and shortens the text: input in a message must not break the line or
/// move the cursor.
pub(super) fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len().min(LONGEST_MESSAGE));
    for (count, c) in text.chars().enumerate() {
        if count == LONGEST_MESSAGE {
            line.push('…');
            break;
        }
        if c.is_control() {
            line.extend(c.escape_default())
        } else {
            line.push(c)
        }
    }
    line
}

/// Returns the most similar candidate as `; did you mean …?`, to be appended to a message, or
/// nothing.
pub(super) fn did_you_mean<'c>(
    word: &str,
    candidates: impl IntoIterator<Item = &'c str>,
) -> String {
    nearest(word, candidates)
        .map(|c| format!("; did you mean `{c}`?"))
        .unwrap_or_default()
}

/// Returns the correction of an unknown name, to be appended to a message: the most similar
/// candidate, or all of them.
pub(super) fn instead<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> String {
    let candidates: Vec<&str> = candidates.into_iter().collect();
    let meant = did_you_mean(word, candidates.iter().copied());
    if !meant.is_empty() {
        return meant;
    }
    let shown: Vec<_> = candidates
        .iter()
        .take(LISTED)
        .map(|candidate| format!("`{candidate}`"))
        .collect();
    let shown = shown.join(", ");
    match candidates.len().saturating_sub(LISTED) {
        _ if candidates.is_empty() => "; none is defined".to_owned(),
        0 => format!("; choose from {shown}"),
        more => format!("; choose from {shown} and {more} more"),
    }
}

/// Returns the closest candidate within a third of the word's length.
pub(super) fn nearest<'c>(
    word: &str,
    candidates: impl IntoIterator<Item = &'c str>,
) -> Option<&'c str> {
    let allowed = (word.chars().count() / 3).clamp(1, 4);
    candidates
        .into_iter()
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(distance, candidate)| {
            *distance <= allowed && *distance < candidate.chars().count()
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Returns the number of letters to add, drop, replace or swap with their neighbour, without regard
/// to case.
fn distance(a: &str, b: &str) -> usize {
    let letters = |text: &str| {
        text.chars()
            .take(65)
            .flat_map(char::to_lowercase)
            .collect::<Vec<_>>()
    };
    let (a, b) = (letters(a), letters(b));
    if a.len() > 64 || b.len() > 64 {
        return usize::MAX;
    }
    let (mut before, mut last) = (Vec::new(), (0..=b.len()).collect::<Vec<_>>());
    for (i, x) in a.iter().enumerate() {
        let mut row = Vec::with_capacity(last.len());
        row.push(i + 1);
        for (j, y) in b.iter().enumerate() {
            let at = |row: &[usize], j: usize| row.get(j).copied().unwrap_or(usize::MAX - 1);
            let mut best = (at(&last, j) + usize::from(x != y))
                .min(at(&last, j + 1) + 1)
                .min(at(&row, j) + 1);
            let swapped = i > 0 && j > 0 && a.get(i - 1) == Some(y) && b.get(j - 1) == Some(x);
            if swapped {
                best = best.min(at(&before, j - 1) + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last.last().copied().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspelt_word_is_matched_to_its_candidate() {
        let keys = ["domain", "session_duration", "name", "id", "a"];
        for (word, meant) in [
            ("domian", Some("domain")),
            ("Domain", Some("domain")),
            ("sesion_duraton", Some("session_duration")),
            ("nam", Some("name")),
            ("ip", Some("id")),
            ("x", None),
            ("", None),
            ("colour", None),
            (&"x".repeat(100_000), None),
        ] {
            assert_eq!(nearest(word, keys), meant, "{word:.20}");
        }
        assert_eq!(distance("abcd", "acbd"), 1);
        assert_eq!(distance("kitten", "sitting"), 3);
    }

    #[test]
    fn input_in_a_message_stays_on_one_line() {
        assert_eq!(one_line("a\nb\x1b[2J\tc"), "a\\nb\\u{1b}[2J\\tc");
        assert_eq!(
            one_line(&"ä".repeat(10_000)).chars().count(),
            LONGEST_MESSAGE + 1
        );
    }

    #[test]
    fn unknown_name_gets_the_existing_ones() {
        assert_eq!(
            instead("okat", ["okta", "keycloak"]),
            "; did you mean `okta`?"
        );
        assert_eq!(
            instead("github", ["okta", "keycloak"]),
            "; choose from `okta`, `keycloak`"
        );
        assert_eq!(instead("github", []), "; none is defined");
        let many: Vec<String> = (0..12).map(|n| format!("provider-{n}")).collect();
        let messages = instead("x", many.iter().map(String::as_str));
        assert!(
            messages.ends_with("`provider-9` and 2 more") && !messages.contains("provider-10"),
            "{messages}"
        );
    }
}
