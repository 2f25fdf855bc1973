use std::net::IpAddr;

use http::{HeaderMap, Method};

use super::{CleanPath, ClientTls, HostPort};

/// A request as it is judged: read once from the native one, and what is forwarded is built from
/// the same values.
#[derive(Debug)]
pub struct RequestView<'a> {
    /// As sent; methods are case-sensitive (RFC 9110 §9.1).
    pub method: &'a Method,
    /// The host and port that the client named.
    pub authority: HostPort<'a>,
    /// The canonical path, without the query.
    pub path: CleanPath<'a>,
    /// What stands after `?`. No rule sees it.
    pub query: Option<&'a str>,
    /// All headers, as sent.
    pub headers: &'a HeaderMap,
    /// Where the request came from: the peer, or what a trusted proxy said of it.
    pub client: IpAddr,
    /// What TLS learnt of the client; none where it was not asked for a certificate.
    pub tls: Option<&'a ClientTls>,
}
