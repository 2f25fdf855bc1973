use std::fmt;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use url::Url;

/// An origin server (`origin`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The protocol.
    pub scheme: OriginScheme,
    /// The canonical host name, or an IP address; IPv6 in brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// `host:port`, to connect to.
    pub address: String,
}

/// The protocol of an origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OriginScheme {
    /// HTTP/1.1 without TLS.
    Http,
    /// TLS, with HTTP/2 or HTTP/1.1 as the origin prefers.
    Https,
    /// HTTP/2 without TLS, from the first byte (RFC 9113 3.3).
    H2c,
    /// TLS with HTTP/2 only, for gRPC.
    H2,
}

impl OriginScheme {
    /// Returns `true` if connections are encrypted.
    pub const fn is_tls(self) -> bool {
        matches!(self, Self::Https | Self::H2)
    }
}

/// The settings of connections to an application's origins (`origin_settings`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginSettings {
    /// The time to establish a connection, with TLS; 5 s by default.
    pub connect_timeout: Duration,
    /// The longest silence of the origin within a response; 60 s by default.
    pub read_timeout: Duration,
    /// The time that an unused connection is kept; 60 s by default.
    pub idle_timeout: Duration,
    /// The longest silence of both sides of a tunnel (WebSocket and other upgrades); 1 h by
    /// default.
    pub tunnel_timeout: Duration,
    /// Protocols that requests may switch to beside `websocket`, `SPDY/3.1` and `tcp`, as `Upgrade`
    /// names them.
    pub upgrades: Vec<String>,
    /// The `Host` to send; the client's by default.
    pub host_header: Option<String>,
    /// Verifies the origin's certificate; `false` needs `[insecure] origin_tls_unverified`.
    pub tls_verify: bool,
    /// The authorities that origin certificates must come from, as read from the file; never empty.
    /// The system's by default.
    pub ca: Option<Vec<CertificateDer<'static>>>,
    /// The server name that TLS requests, and that the certificate must be for; the origin's host
    /// by default.
    pub tls_server_name: Option<String>,
    /// The health check; none by default.
    pub health_check: Option<HealthCheck>,
}

/// The health check of an origin (`health_check`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// The path to request; without one, a connection that opens is enough.
    pub path: Option<String>,
    /// The statuses of a healthy origin, from 100 to 599; the empty list, the default, for any 2xx.
    pub expect: Vec<u16>,
    /// The interval; 10 s by default.
    pub interval: Duration,
}

impl Origin {
    /// Parses an origin's URL.
    ///
    /// # Errors
    /// A message that names the mistake and its correction.
    pub fn parse(text: &str) -> Result<Self, String> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(format!(
                "`{text}` has no scheme; write `http://{text}` or `https://{text}`"
            ));
        };
        let (kind, equivalent) = match scheme.to_ascii_lowercase().as_str() {
            "http" => (OriginScheme::Http, "http"),
            "https" => (OriginScheme::Https, "https"),
            "h2c" => (OriginScheme::H2c, "http"),
            "h2" => (OriginScheme::H2, "https"),
            "ws" => {
                return Err(format!(
                    "WebSocket needs no separate scheme; write `http://{rest}`"
                ));
            }
            "wss" => {
                return Err(format!(
                    "WebSocket needs no separate scheme; write `https://{rest}`"
                ));
            }
            "grpc" => {
                return Err(format!(
                    "gRPC is HTTP/2; write `h2c://{rest}`, or `h2://{rest}` with TLS"
                ));
            }
            "grpcs" => return Err(format!("gRPC is HTTP/2; write `h2://{rest}`")),
            _ => {
                return Err(format!(
                    "`{scheme}` is not a scheme for an origin; there are `http`, `https`, `h2c` and `h2`"
                ));
            }
        };
        let malformed = || format!("`{text}` is not an address like `http://127.0.0.1:8080`");
        let url = Url::parse(&format!("{equivalent}://{rest}")).map_err(|_| malformed())?;
        let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
            return Err(malformed());
        };
        let address = format!("{host}:{port}");
        if port == 0 {
            return Err(malformed());
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(format!(
                "an origin's address must not contain a user name or password; write `{scheme}://{address}`"
            ));
        }
        if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
            return Err(format!(
                "paths go to the origin unchanged; write `{scheme}://{address}`"
            ));
        }
        Ok(Self {
            scheme: kind,
            host: host.to_owned(),
            port,
            address,
        })
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.scheme {
            OriginScheme::Http => "http",
            OriginScheme::Https => "https",
            OriginScheme::H2c => "h2c",
            OriginScheme::H2 => "h2",
        };
        write!(f, "{scheme}://{}", self.address)
    }
}
