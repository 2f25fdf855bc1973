//! Durations as Cloudflare's API writes them: Go's `time.ParseDuration`, such as `24h` or `1h30m`.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serializer, de};

/// Reads a Go duration; it has no unit for days.
///
/// # Errors
///
/// A message with the form of a duration.
pub fn parse(text: &str) -> Result<Duration, String> {
    let malformed = || format!("`{text}` is not a duration like `30m`, `24h` or `1h30m`");
    let mut rest = text;
    let mut total = 0_u128;
    if rest.is_empty() {
        return Err(malformed());
    }
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit())
            .ok_or_else(malformed)?;
        let (number, tail) = rest.split_at_checked(digits).ok_or_else(malformed)?;
        let unit_end = tail
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at_checked(unit_end).ok_or_else(malformed)?;
        let nanos: u128 = match unit {
            "h" => 3_600_000_000_000,
            "m" => 60_000_000_000,
            "s" => 1_000_000_000,
            "ms" => 1_000_000,
            "us" | "µs" => 1_000,
            "ns" => 1,
            _ => return Err(malformed()),
        };
        let number: u64 = number.parse().map_err(|_| malformed())?;
        total = total.saturating_add(u128::from(number) * nanos);
        rest = tail;
    }
    u64::try_from(total)
        .map(Duration::from_nanos)
        .map_err(|_| format!("`{text}` is too long"))
}

/// Writes a duration so that [`parse`] reads it back.
pub fn format(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match (seconds, duration.subsec_nanos()) {
        (0, 0) => "0s".to_owned(),
        (_, 0) if seconds.is_multiple_of(3600) => format!("{}h", seconds / 3600),
        (_, 0) if seconds.is_multiple_of(60) => format!("{}m", seconds / 60),
        (_, 0) => format!("{seconds}s"),
        (_, nanos) if nanos % 1_000_000 == 0 => format!("{}ms", duration.as_millis()),
        _ => format!("{}ns", duration.as_nanos()),
    }
}

pub(crate) mod option {
    use super::{Deserialize, Deserializer, Duration, Serializer, de};

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        Option::<String>::deserialize(deserializer)?
            .map(|text| super::parse(&text).map_err(de::Error::custom))
            .transpose()
    }

    #[expect(clippy::ref_option, reason = "the signature that serde calls")]
    pub(crate) fn serialize<S: Serializer>(
        duration: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => serializer.serialize_str(&super::format(*duration)),
            None => serializer.serialize_none(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_duration_is_parsed_and_others_are_rejected() {
        for (text, seconds) in [
            ("24h", 86_400),
            ("1h30m", 5_400),
            ("90s", 90),
            ("0s", 0),
            ("1500ms", 1),
        ] {
            assert_eq!(parse(text).unwrap().as_secs(), seconds, "{text}");
        }
        for text in ["24h", "90m", "90s", "0s", "1500ms", "1500000001ns"] {
            assert_eq!(format(parse(text).unwrap()), text);
        }
        for bad in [
            "",
            "24",
            "h",
            "1d",
            "-1h",
            "1 h",
            "1h ",
            "99999999999999999999h",
            "9999999999h",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
