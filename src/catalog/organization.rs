use std::time::Duration;

use url::Url;

use crate::model::{Host, Support};

/// The team (`[team]`), which Cloudflare Access calls the organisation. Users sign in at its host,
/// and it issues every token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Organization {
    /// The display name.
    pub name: String,
    /// The host of the team domain.
    pub domain: Host,
    /// The port that browsers use, for the team domain and for every application; `None` for the
    /// scheme's own.
    pub port: Option<u16>,
    /// `true` if browsers use plain HTTP: with `[insecure] plain_http`, if no listener has TLS or a
    /// trusted proxy in front.
    pub plain_http: bool,
    /// The time for which one login serves all applications; 24 h by default, from 15 min to 30
    /// days.
    pub session_duration: Duration,
    /// The URL of another team's keys. This node then only verifies that team's tokens, and users
    /// do not sign in here.
    pub certs_url: Option<Url>,
    /// The accepted difference between clocks; 60 s by default, at most 300 s.
    pub clock_leeway: Duration,
    /// The contact for users, on every page about a denied or failed request.
    pub support: Option<Support>,
    /// The time for which keys are used while they cannot be fetched; 24 h by default, from 5 min
    /// to 7 days.
    pub jwks_max_stale: Duration,
}

impl Organization {
    /// Returns the team domain's URL, such as `https://access.example.com`, without a slash at the
    /// end: the `iss` of tokens.
    pub fn url(&self) -> String {
        self.application_url(self.domain.as_str())
    }

    /// Returns the URL of an application's host as browsers write it, without a slash at the end.
    pub fn application_url(&self, host: &str) -> String {
        let scheme = if self.plain_http { "http" } else { "https" };
        match self.port {
            Some(port) => format!("{scheme}://{host}:{port}"),
            None => format!("{scheme}://{host}"),
        }
    }

    /// Returns the team domain with its port, as `[team] domain` has it.
    pub fn auth_domain(&self) -> String {
        match self.port {
            Some(port) => format!("{}:{port}", self.domain),
            None => self.domain.to_string(),
        }
    }
}
