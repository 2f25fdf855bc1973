//! The environment of `portcullis demo`: an identity provider and applications, in the same process.
//!
//! Decides the demo's users, applications and configuration. Trusts the visitor: the built-in
//! OpenID provider requires no password. Never listens on other addresses than loopback, and never
//! reuses credentials: each run generates new ones.

mod banner;
mod config;
mod origin;
mod pages;
mod provider;
mod serve;
mod users;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use pingora::services::ServiceWithDependents;
use thiserror::Error;

use crate::model::{Secret, fill_random};
use crate::token::SigningKeyError;
use origin::DemoOrigin;
use provider::DemoProvider;

/// A demo that is ready to run.
#[derive(Debug)]
pub struct Demo {
    ports: Ports,
    credentials: Credentials,
    provider: Arc<DemoProvider>,
}

impl Demo {
    /// Creates the provider with new keys and credentials. This takes up to a second.
    ///
    /// # Errors
    /// If no signing key can be generated.
    pub fn new(ports: Ports) -> Result<Self, SigningKeyError> {
        let credentials = Credentials::random();
        let provider = Arc::new(DemoProvider::new(
            ports.issuer(),
            ports.callback(),
            credentials.clone(),
        )?);
        Ok(Self {
            ports,
            credentials,
            provider,
        })
    }

    /// Returns the proxy's configuration in TOML. It contains secrets; do not print it.
    pub fn config(&self) -> String {
        config::text(self.ports, &self.credentials)
    }

    /// Returns the instructions for the terminal, at most 80 columns wide.
    pub fn banner(&self) -> String {
        banner::text(self.ports)
    }

    /// Returns the services of the identity provider and the origin, for the proxy's server.
    pub fn services(&self) -> Vec<Box<dyn ServiceWithDependents>> {
        vec![
            serve::service(
                "demo provider",
                self.ports.provider,
                Arc::clone(&self.provider),
            ),
            serve::service(
                "demo origin",
                self.ports.origin,
                Arc::new(DemoOrigin::new(self.ports)),
            ),
        ]
    }
}

/// The ports of the demo, all on 127.0.0.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// The proxy: the team domain and the applications.
    pub proxy: u16,
    /// The identity provider.
    pub provider: u16,
    /// The origin behind the applications.
    pub origin: u16,
}

/// A port that the demo needs and cannot listen on.
#[derive(Debug, Error)]
#[error("cannot listen on 127.0.0.1:{port}; choose other ports with --port")]
pub struct PortTaken {
    /// The port.
    pub port: u16,
    /// The cause.
    #[source]
    pub source: std::io::Error,
}

impl Ports {
    /// Returns three consecutive ports from `proxy` on. Returns `None` for 0 and if two more ports
    /// do not exist.
    pub const fn starting_at(proxy: u16) -> Option<Self> {
        match (proxy, proxy.checked_add(1), proxy.checked_add(2)) {
            (1.., Some(provider), Some(origin)) => Some(Self {
                proxy,
                provider,
                origin,
            }),
            _ => None,
        }
    }

    /// Binds each port once, so that a port in use is reported before anything starts.
    ///
    /// # Errors
    /// The first port that is in use.
    pub fn check(self) -> Result<(), PortTaken> {
        for port in [self.proxy, self.provider, self.origin] {
            TcpListener::bind(loopback(port)).map_err(|source| PortTaken { port, source })?;
        }
        Ok(())
    }

    /// Returns the URL of the team domain.
    fn team(self) -> String {
        url("team", self.proxy)
    }

    /// Returns the URL of an application.
    fn application(self, label: &str) -> String {
        url(label, self.proxy)
    }

    /// Returns the identity provider's issuer URL.
    fn issuer(self) -> String {
        url("idp", self.provider)
    }

    /// Returns the redirect URI that the identity provider accepts.
    fn callback(self) -> String {
        format!("{}/cdn-cgi/access/callback", self.team())
    }
}

/// Returns the origin as browsers write it: without the port if it is the scheme's default.
fn url(label: &str, port: u16) -> String {
    match port {
        80 => format!("http://{label}.localhost"),
        _ => format!("http://{label}.localhost:{port}"),
    }
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// The proxy's credentials at the provider.
#[derive(Clone, Debug)]
struct Credentials {
    client_id: &'static str,
    client_secret: Secret,
    api_token: Secret,
}

impl Credentials {
    fn random() -> Self {
        Self {
            client_id: "0oademo",
            client_secret: Secret::new(random()),
            api_token: Secret::new(random()),
        }
    }
}

/// Returns 256 random bits as 43 characters of base64url.
fn random() -> String {
    let mut bytes = [0_u8; 32];
    fill_random(&mut bytes);
    URL_SAFE_NO_PAD.encode(bytes)
}

#[cfg(test)]
mod tests;
