use clap::builder::styling::AnsiColor;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    Warning,
    Error,
}

/// Prints each line of the text as a message on standard error, in colour if it is a terminal.
pub(crate) fn print(level: Level, text: &str) {
    let (label, colour) = match level {
        Level::Warning => ("warning", AnsiColor::Yellow),
        Level::Error => ("error", AnsiColor::Red),
    };
    let style = colour.on_default().bold();
    for line in text.lines() {
        anstream::eprintln!("{style}{label}{style:#}: {line}");
    }
}
