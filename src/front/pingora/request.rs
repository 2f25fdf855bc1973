use std::net::{IpAddr, Ipv4Addr};

use bytes::Bytes;
use http::{HeaderValue, Method, header};
use ipnet::IpNet;
use pingora::http::RequestHeader;
use pingora::prelude::{Result, Session};
use smallvec::SmallVec;

use super::filter::{FilterSettings, ListenerSettings};
use crate::model::{Authority, CleanPath, ClientTls, Reason, RequestView};

/// The native request as the engine sees it. The one place where host and path are read.
pub(super) fn view<'a>(
    request: &'a RequestHeader,
    client: IpAddr,
    tls: Option<&'a ClientTls>,
    limits: &FilterSettings,
) -> Result<RequestView<'a>, Reason> {
    let bytes: usize = request.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if bytes > limits.max_header_bytes || request.headers.len() > limits.max_headers {
        return Err(Reason::HeadersTooLarge);
    }
    if request.raw_path().len() > limits.max_target_bytes {
        return Err(Reason::TargetTooLong);
    }
    if !request.raw_path_is_utf8() {
        return Err(Reason::PathAmbiguous);
    }
    // HTTP/2 has the authority in the target, HTTP/1.1 in a header; Pingora refuses the two to differ.
    let mut hosts = request.headers.get_all(header::HOST).into_iter();
    let named = hosts.next().map(|host| host.to_str().map_err(|_| Reason::HostMalformed)).transpose()?;
    let target = request.uri.authority().map(http::uri::Authority::as_str);
    if hosts.next().is_some() {
        return Err(Reason::HostMalformed);
    }
    let authority = Authority::parse(target.or(named).unwrap_or_default()).map_err(|_| Reason::HostMalformed)?;
    if let (Some(target), Some(named)) = (target, named)
        && target != named
        && Authority::parse(named) != Authority::parse(target)
    {
        return Err(Reason::HostMalformed);
    }
    let raw = std::str::from_utf8(request.raw_path()).map_err(|_| Reason::PathAmbiguous)?;
    // The raw target may carry more than the parsed one, a fragment for instance; both must say the same.
    let path = request.uri.path();
    let query = request.uri.query();
    let rebuilt_is_raw = match (raw.strip_prefix(path), query) {
        (Some(rest), Some(query)) => rest.strip_prefix('?') == Some(query),
        (Some(rest), None) => rest.is_empty(),
        (None, _) => false,
    };
    if !rebuilt_is_raw {
        return Err(Reason::PathAmbiguous);
    }
    let path = CleanPath::parse(path).map_err(|_| Reason::PathAmbiguous)?;
    Ok(RequestView { method: &request.method, authority, path, query, headers: &request.headers, client, tls })
}

/// What whoever made the TLS connection left with it.
pub(super) fn client_tls(session: &Session) -> Option<&ClientTls> {
    session.digest()?.ssl_digest.as_ref()?.extension.get()
}

/// Whether the target was sent with a fragment, which no target has. Parsing drops it, so the line itself is looked at.
pub(super) fn has_fragment(session: &Session) -> bool {
    let Some(native) = session.as_downstream().as_http1() else { return false };
    let head = native.get_headers_raw_bytes();
    let found = memchr::memchr2(b'#', b'\n', &head);
    found.and_then(|at| head.get(at)) == Some(&b'#')
}

/// Where a request came from: the peer, or, where the peer is a proxy that this listener trusts, the nearest address that
/// such a proxy reported and that is not one itself.
pub(super) fn client(session: &Session, listeners: &[ListenerSettings]) -> IpAddr {
    let peer = session.client_addr().and_then(|addr| addr.as_inet());
    let Some(peer) = peer.map(|addr| addr.ip().to_canonical()) else {
        return IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    };
    let trusted: &[IpNet] = if listeners.iter().all(|listener| listener.trusted_proxies.is_empty()) {
        &[]
    } else {
        let local = session.server_addr().and_then(|addr| addr.as_inet());
        let listener = local.and_then(|local| listeners.iter().find(|l| l.is_at(local)));
        listener.map(|listener| listener.trusted_proxies.as_slice()).unwrap_or_default()
    };
    let is_trusted = |ip: &IpAddr| trusted.iter().any(|net| net.contains(ip));
    if !is_trusted(&peer) {
        return peer;
    }
    let lines: SmallVec<[&HeaderValue; 2]> = session.req_header().headers.get_all("x-forwarded-for").iter().collect();
    let hops = lines.iter().rev().flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','));
    // What cannot be read could be anybody, and must not pass for the proxy itself.
    let nobody = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let mut nearest = nobody;
    for hop in hops {
        match std::str::from_utf8(hop).ok().and_then(parse_hop) {
            Some(ip) if is_trusted(&ip) => nearest = ip,
            Some(ip) => return ip,
            None => return nobody,
        }
    }
    nearest
}

fn parse_hop(hop: &str) -> Option<IpAddr> {
    let hop = hop.trim();
    let ip = hop.parse::<IpAddr>().or_else(|_| hop.parse::<std::net::SocketAddr>().map(|addr| addr.ip()));
    ip.ok().map(|ip| ip.to_canonical())
}

/// The body of a form to one of our own endpoints; `None` where it is longer than any of ours.
pub(super) async fn read_form(session: &mut Session, method: &Method, max: usize) -> Result<Option<Bytes>> {
    let mut body = Vec::new();
    if *method == Method::POST {
        while let Some(part) = session.read_request_body().await? {
            body.extend_from_slice(&part);
            if body.len() > max {
                return Ok(None);
            }
        }
    }
    Ok(Some(body.into()))
}
