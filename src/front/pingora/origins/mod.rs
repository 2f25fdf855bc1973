//! The origins of the standalone proxy: their addresses, their health and load balancing.

mod failure;
mod health;
mod names;
mod pool;

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Uri};
use pingora::prelude::HttpPeer;
use pingora::protocols::tls::CaType;

pub(super) use self::failure::cause;
pub(super) use self::pool::Attempts;
pub use self::pool::{OriginContext, OriginPool};

/// The settings for connections to the origins of an application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolSettings {
    /// The application's name, for the log.
    pub application: String,
    /// The origins, at least one.
    pub targets: Vec<Target>,
    /// The time limit for a connection with its TLS handshake. The addresses of a name share it.
    pub connect_timeout: Duration,
    /// The time limit between two parts of a response.
    pub read_timeout: Duration,
    /// The longest time that an unused connection is kept.
    pub idle_timeout: Duration,
    /// The `Host` header for the origin; the client's if `None`.
    pub host_header: Option<HeaderValue>,
    /// `true` if the origin's certificate is verified.
    pub tls_verify: bool,
    /// The name that TLS requests and that the certificate must match; the target's host if `None`.
    pub tls_server_name: Option<String>,
    /// The authorities for the origin's certificate; those of the connector if `None`.
    pub trust: Option<Trust>,
    /// The health check, if configured.
    pub health_check: Option<Check>,
    /// The longest idle time of a tunnel.
    pub tunnel_timeout: Duration,
    /// Protocols for upgrades, beside the built-in ones.
    pub upgrades: Vec<String>,
    /// The longest request body, in bytes.
    pub max_body: Option<u64>,
}

impl PoolSettings {
    /// Returns `true` if some origin speaks HTTP/1.1, which upgrades require.
    pub(super) fn speaks_http1(&self) -> bool {
        self.targets
            .iter()
            .any(|target| matches!(target.protocol, Protocol::Http | Protocol::Https))
    }
}

/// The certificate authorities for the origins of one application.
#[derive(Clone)]
pub struct Trust {
    authorities: Arc<CaType>,
    fingerprint: [u8; 32],
}

impl Trust {
    /// Creates the set of these authorities, in the form of Pingora's TLS back end. The fingerprint
    /// is a hash of all of them. Pools are compared by it, and connections are shared only under the
    /// same one. With an empty set, no origin is trusted.
    pub const fn new(authorities: Arc<CaType>, fingerprint: [u8; 32]) -> Self {
        Self {
            authorities,
            fingerprint,
        }
    }

    /// Returns the key that keeps pooled connections apart. Pingora does not compare the authorities
    /// themselves.
    const fn group(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.fingerprint;
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }

    fn set(trust: Option<&Self>, peer: &mut HttpPeer) {
        peer.options.ca = trust.map(|trust| Arc::clone(&trust.authorities));
        peer.group_key = trust.map_or(0, Self::group);
    }
}

impl PartialEq for Trust {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint
    }
}

impl Eq for Trust {}

impl std::fmt::Debug for Trust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Trust")
            .field(&self.authorities.len())
            .finish()
    }
}

/// One origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The host name or IP address. An IPv6 address is in brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The protocol.
    pub protocol: Protocol,
}

/// The protocol of an origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1 without TLS.
    Http,
    /// HTTP/2 or HTTP/1.1 over TLS, as the origin chooses.
    Https,
    /// HTTP/2 without TLS, with prior knowledge.
    H2c,
    /// HTTP/2 over TLS only.
    H2,
}

impl Protocol {
    const fn is_tls(self) -> bool {
        matches!(self, Self::Https | Self::H2)
    }
}

/// A health check. It uses the host, the protocol and the TLS settings of requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// The path to request. If `None`, opening a connection is enough.
    pub path: Option<Uri>,
    /// The time between two checks.
    pub interval: Duration,
    /// The statuses of a healthy origin; any 2xx if empty.
    pub expect: Vec<u16>,
}
