//! Values that several sections share.

/// Parses a display name.
pub(super) fn label(text: &str) -> Result<String, String> {
    let odd =
        text.trim().is_empty() || text.chars().any(char::is_control) || text.chars().count() > 350;
    if odd {
        Err("this must be one line of 1 to 350 characters".to_owned())
    } else {
        Ok(text.to_owned())
    }
}

/// Parses an id, which rules, logs and URLs contain.
pub(super) fn id(text: &str) -> Result<String, String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if (1..=64).contains(&text.len()) && text.bytes().all(plain) {
        return Ok(text.to_owned());
    }
    Err(format!(
        "`{text}` is not an id; use 1 to 64 letters of `a`-`z`, `A`-`Z`, `0`-`9`, `-`, `_` and `.`"
    ))
}

/// Parses a number of bytes with its unit, such as `10MiB`.
pub(super) fn bytes(text: &str) -> Option<u64> {
    let at = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(at)?;
    let unit = match unit.trim_start() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "kB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit)
}
