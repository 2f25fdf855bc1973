//! `portcullis demo`: everything that it needs beside the product itself, in one process and on
//! loopback only.
//!
//! Decides who exists in the demo, what there is to open, and how the proxy is configured for it.
//! Trusts nobody, for anyone can be anyone here: the built-in OpenID provider asks for no password.
//! Never is any of it reachable outside the demo: the provider has no public path, and its
//! credentials are made anew for each run.

mod banner;
mod config;
mod origin;
mod pages;
mod people;
mod provider;
mod serve;

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

/// A demo that is ready to be served.
#[derive(Debug)]
pub struct Demo {
    ports: Ports,
    credentials: Credentials,
    provider: Arc<DemoProvider>,
}

impl Demo {
    /// Makes the provider with new keys and credentials, which takes a good part of a second.
    ///
    /// # Errors
    /// Where the machine gives no randomness for a key.
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

    /// The proxy's configuration, in TOML. It holds this run's secrets, so it is not for printing.
    pub fn config(&self) -> String {
        config::text(self.ports, &self.credentials)
    }

    /// What to open, who exists and what each will see, for a terminal of 80 columns.
    pub fn banner(&self) -> String {
        banner::text(self.ports)
    }

    /// The identity provider and the origin, each on its port of 127.0.0.1, to be added to the
    /// server that runs the proxy.
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

/// A port that the demo cannot have.
#[derive(Debug, Error)]
#[error("port {port} of 127.0.0.1 cannot be listened on")]
pub struct PortTaken {
    /// Which.
    pub port: u16,
    /// What the operating system said.
    #[source]
    pub source: std::io::Error,
}

impl Ports {
    /// This port for the proxy and the two that follow for the rest; `None` for 0 and where there
    /// are no two more.
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

    /// Asks for each port once, so that one in use can be named before anything starts.
    ///
    /// # Errors
    /// The first that is not to be had.
    pub fn check(self) -> Result<(), PortTaken> {
        for port in [self.proxy, self.provider, self.origin] {
            TcpListener::bind(loopback(port)).map_err(|source| PortTaken { port, source })?;
        }
        Ok(())
    }

    /// The team domain's address.
    fn team(self) -> String {
        url("team", self.proxy)
    }

    /// An application's address.
    fn application(self, label: &str) -> String {
        url(label, self.proxy)
    }

    /// The identity provider's address: its issuer.
    fn issuer(self) -> String {
        url("idp", self.provider)
    }

    /// Where the identity provider sends people back to.
    fn callback(self) -> String {
        format!("{}/cdn-cgi/access/callback", self.team())
    }
}

/// As browsers write it: an origin with its scheme's own port has none.
fn url(label: &str, port: u16) -> String {
    match port {
        80 => format!("http://{label}.localhost"),
        _ => format!("http://{label}.localhost:{port}"),
    }
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// How the proxy shows the provider that it is the registered client.
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

/// 43 letters, digits, `-` and `_`: 256 bits.
fn random() -> String {
    let mut bytes = [0_u8; 32];
    fill_random(&mut bytes);
    URL_SAFE_NO_PAD.encode(bytes)
}

#[cfg(test)]
mod tests;
