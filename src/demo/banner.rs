use std::fmt::Write as _;

use super::Ports;
use super::people::{APPLICATIONS, PEOPLE};

/// What is printed when the demo runs.
pub(super) fn text(ports: Ports) -> String {
    let mut text =
        String::from("\n  Portcullis demo, all of it on this machine. Open one of these:\n\n");
    // Writing to a string cannot fail.
    for application in &APPLICATIONS {
        let _ = writeln!(
            text,
            "    {:<31} {}",
            ports.application(application.label),
            application.who
        );
    }
    text.push_str("\n  Then choose who to be; nobody has a password here:\n\n");
    let _ = write!(text, "    {:<47}", "");
    for application in APPLICATIONS
        .iter()
        .filter(|application| application.is_guarded())
    {
        let _ = write!(text, " {:<8}", application.label);
    }
    text.push('\n');
    for person in &PEOPLE {
        let _ = write!(text, "    {:<10}  {:<35}", person.name, person.about);
        for (sees, _) in person
            .sees
            .iter()
            .zip(&APPLICATIONS)
            .filter(|(_, application)| application.is_guarded())
        {
            let _ = write!(text, " {sees:<8}");
        }
        text.push('\n');
    }
    text.push_str(
        "\n  To be another user: *Sign out* on any application's page.\n  \
         Chrome, Edge and Firefox know *.localhost names; other browsers may not.\n  \
         Ctrl-C ends it, and everything is forgotten.\n",
    );
    text.lines()
        .map(|line| format!("{}\n", line.trim_end()))
        .collect()
}
