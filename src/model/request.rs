use std::net::IpAddr;

use http::{HeaderMap, Method};

use super::{CleanPath, ClientTls, HostPort};

/// A request as it is evaluated. It is read once from the native request, and the forwarded one is
/// built from the same values.
#[derive(Debug)]
pub struct RequestView<'a> {
    /// As sent; methods are case-sensitive (RFC 9110 §9.1).
    pub method: &'a Method,
    /// The host and port that the client named.
    pub authority: HostPort<'a>,
    /// The canonical path, without the query.
    pub path: CleanPath<'a>,
    /// The text after `?`. No rule depends on it.
    pub query: Option<&'a str>,
    /// All headers, as sent.
    pub headers: &'a HeaderMap,
    /// The client's IP address: the peer's, or the one that a trusted proxy sent.
    pub client: IpAddr,
    /// The client's TLS facts; `None` if no certificate was requested.
    pub tls: Option<&'a ClientTls>,
}
