use std::sync::Arc;

use crate::model::{Host, ServedPort, Support};

/// The team: the issuer of accepted tokens, and the host of logins.
#[derive(Clone, Debug)]
pub struct Team {
    /// The display name.
    pub name: String,
    /// The team domain.
    pub domain: Host,
    /// The port that browsers use on every host, unless it is the scheme's default.
    pub port: Option<u16>,
    /// `true` if browsers use plain HTTP.
    pub plain_http: bool,
    /// The tolerated difference between clocks, in seconds.
    pub leeway: u64,
    /// The contact for users.
    pub support: Option<Arc<Support>>,
}

impl Team {
    /// `https://<team domain>`: the issuer of its tokens, and the beginning of its URLs.
    pub fn url(&self) -> String {
        self.url_of(self.domain.as_str())
    }

    /// The same for another host of the team.
    pub fn url_of(&self, host: &str) -> String {
        let scheme = if self.plain_http { "http" } else { "https" };
        match self.port {
            Some(port) => format!("{scheme}://{host}:{port}"),
            None => format!("{scheme}://{host}"),
        }
    }

    /// Returns the kind of the port that browsers use.
    pub const fn served_port(&self) -> ServedPort {
        match self.port {
            Some(_) => ServedPort::Explicit,
            None => ServedPort::Default,
        }
    }

    /// Returns `true` if clients may use that port.
    pub fn is_served_on(&self, port: u16) -> bool {
        port == self.port.unwrap_or(if self.plain_http { 80 } else { 443 })
    }
}
