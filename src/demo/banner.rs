use std::fmt::Write as _;

use super::Ports;
use super::users::{APPLICATIONS, USERS};

/// Returns the text that the demo prints at its start.
pub(super) fn text(ports: Ports) -> String {
    let Ports {
        proxy,
        provider,
        origin,
    } = ports;
    // Writing to a string cannot fail.
    let mut text = format!(
        "\n  Portcullis demo, on 127.0.0.1 only: proxy on port {proxy}, identity provider\n  \
         on {provider}, applications on {origin}. Open one of them through the proxy:\n\n"
    );
    for application in &APPLICATIONS {
        let _ = writeln!(
            text,
            "    {:<31} {}",
            ports.application(application.label),
            application.who
        );
    }
    text.push_str("\n  Then choose a user. No password is needed. Expected results:\n\n");
    let _ = write!(text, "    {:<47}", "");
    for application in APPLICATIONS
        .iter()
        .filter(|application| application.requires_login())
    {
        let _ = write!(text, " {:<8}", application.label);
    }
    text.push('\n');
    for user in &USERS {
        let _ = write!(text, "    {:<10}  {:<35}", user.name, user.about);
        for (expected, _) in user
            .expected
            .iter()
            .zip(&APPLICATIONS)
            .filter(|(_, application)| application.requires_login())
        {
            let _ = write!(text, " {expected:<8}");
        }
        text.push('\n');
    }
    text.push_str(
        "\n  To switch users, click \"Sign out\" on an application's page.\n  \
         Chrome, Edge and Firefox resolve *.localhost names; other browsers may not.\n  \
         Press Ctrl-C to stop. The demo stores nothing.\n",
    );
    text.lines()
        .map(|line| format!("{}\n", line.trim_end()))
        .collect()
}
