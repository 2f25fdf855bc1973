use std::net::{IpAddr, Ipv4Addr};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header};
use ipnet::IpNet;
use pingora::http::RequestHeader;
use pingora::prelude::{Result, Session};
use smallvec::SmallVec;

use super::filter::{FilterSettings, ListenerSettings};
use super::progress::Progress;
use crate::model::{CleanPath, ClientTls, HostPort, Reason, RequestView};
use crate::route::Endpoint;

/// Returns the request in the engine's form. No other code reads the host and the path.
pub(super) fn view<'a>(
    request: &'a RequestHeader,
    client: IpAddr,
    tls: Option<&'a ClientTls>,
    limits: &FilterSettings,
) -> Result<RequestView<'a>, Reason> {
    check_size(request, limits)?;
    if !request.raw_path_is_utf8() {
        return Err(Reason::PathAmbiguous);
    }
    let authority = authority(request)?;
    check_target(request, &authority)?;
    let path = CleanPath::parse(request.uri.path()).map_err(|_| Reason::PathAmbiguous)?;
    Ok(RequestView {
        method: &request.method,
        authority,
        path,
        query: request.uri.query(),
        headers: &request.headers,
        client,
        tls,
    })
}

fn check_size(request: &RequestHeader, limits: &FilterSettings) -> Result<(), Reason> {
    let bytes: usize = request
        .headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len())
        .sum();
    if bytes > limits.max_header_bytes || has_too_many(&request.headers, limits.max_headers) {
        return Err(Reason::HeadersTooLarge);
    }
    let is_ours = request.uri.path().starts_with(Endpoint::PREFIX);
    let max_target_bytes = if is_ours {
        limits.max_target_bytes.max(OWN_TARGET_BYTES)
    } else {
        limits.max_target_bytes
    };
    if request.raw_path().len() > max_target_bytes {
        return Err(Reason::TargetTooLong);
    }
    Ok(())
}

/// Returns host and port, from the target or from `Host`. Both must be equal if both are sent.
fn authority(request: &RequestHeader) -> Result<HostPort<'_>, Reason> {
    // HTTP/2 has the authority in the target, HTTP/1.1 in a header. Pingora rejects requests in
    // which they differ.
    let mut hosts = request.headers.get_all(header::HOST).into_iter();
    let named = hosts
        .next()
        .map(|host| host.to_str().map_err(|_| Reason::HostMalformed))
        .transpose()?;
    let target = request.uri.authority().map(http::uri::Authority::as_str);
    // Origins disagree about which of two `Host` lines counts.
    if hosts.next().is_some() {
        return Err(Reason::HostMalformed);
    }
    let authority =
        HostPort::parse(target.or(named).unwrap_or_default()).map_err(|_| Reason::HostMalformed)?;
    if let (Some(target), Some(named)) = (target, named)
        && target != named
        && !names(named, &authority)
    {
        return Err(Reason::HostMalformed);
    }
    Ok(authority)
}

/// Rejects a raw target that contains more than the parsed one, such as a fragment: an origin could
/// interpret it differently.
fn check_target(request: &RequestHeader, authority: &HostPort<'_>) -> Result<(), Reason> {
    let raw = std::str::from_utf8(request.raw_path()).map_err(|_| Reason::PathAmbiguous)?;
    let raw = origin_form(raw, authority)?;
    let path = request.uri.path();
    // In absolute form, the path may be empty (RFC 9112 3.2.2).
    let raw_path = if raw.is_empty() || raw.starts_with('?') {
        raw.get(..0).filter(|_| path == "/")
    } else {
        Some(path)
    };
    let rest = raw_path.and_then(|path| raw.strip_prefix(path));
    let is_equal = match (rest, request.uri.query()) {
        (Some(rest), Some(query)) => rest.strip_prefix('?') == Some(query),
        (Some(rest), None) => rest.is_empty(),
        (None, _) => false,
    };
    if is_equal {
        Ok(())
    } else {
        Err(Reason::PathAmbiguous)
    }
}

/// Returns `true` if there are more header lines than that. Cookies count once: HTTP/2 clients send
/// each in a line (RFC 9113 8.2.3).
fn has_too_many(headers: &HeaderMap, most: usize) -> bool {
    headers.len() > most
        && headers.len()
            - headers
                .get_all(header::COOKIE)
                .iter()
                .count()
                .saturating_sub(1)
            > most
}

/// Returns the target without scheme and authority, which a client may send (RFC 9112 3.2.2). The
/// authority must equal `Host`.
fn origin_form<'a>(target: &'a str, host: &HostPort<'_>) -> Result<&'a str, Reason> {
    if target.starts_with('/') {
        return Ok(target);
    }
    let rest = target.split_once("://").filter(|(scheme, _)| {
        scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https")
    });
    // `*`, or a path without a slash in front.
    let Some((_, rest)) = rest else {
        return Ok(target);
    };
    let (authority, rest) = rest
        .split_at_checked(rest.find(['/', '?', '#']).unwrap_or(rest.len()))
        .unwrap_or_default();
    if names(authority, host) {
        Ok(rest)
    } else {
        Err(Reason::HostMalformed)
    }
}

/// Returns `true` if a text names the same host and port, however it is spelt.
fn names(text: &str, authority: &HostPort<'_>) -> bool {
    HostPort::parse(text).is_ok_and(|named| {
        (named.host, named.port) == (authority.host.as_ref().into(), authority.port)
    })
}

/// Returns the client's certificate as the TLS layer stored it with the connection.
pub(super) fn client_tls(session: &Session) -> Option<&ClientTls> {
    session.digest()?.ssl_digest.as_ref()?.extension.get()
}

/// Returns `true` if the target has a fragment, which is malformed. Parsing drops it, so this reads
/// the request line itself.
pub(super) fn has_fragment(session: &Session) -> bool {
    let Some(native) = session.as_downstream().as_http1() else {
        return false;
    };
    let head = native.get_headers_raw_bytes();
    // Empty lines may come before the request line (RFC 9112 2.2).
    let line = head
        .iter()
        .position(|byte| !matches!(byte, b'\r' | b'\n'))
        .and_then(|at| head.get(at..));
    let line = line.unwrap_or_default();
    let found = memchr::memchr2(b'#', b'\n', line);
    found.and_then(|at| line.get(at)) == Some(&b'#')
}

/// Returns the client's IP address. If the peer is a trusted proxy of this listener, it is the last
/// address in `X-Forwarded-For` that is not a trusted proxy itself; else it is the peer.
pub(super) fn client(session: &Session, listeners: &[ListenerSettings]) -> IpAddr {
    let peer = session.client_addr().and_then(|addr| addr.as_inet());
    let Some(peer) = peer.map(|addr| addr.ip().to_canonical()) else {
        // No rule can match this address by mistake.
        return IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    };
    let trusted: &[IpNet] = if listeners
        .iter()
        .all(|listener| listener.trusted_proxies.is_empty())
    {
        &[]
    } else {
        let local = session.server_addr().and_then(|addr| addr.as_inet());
        let listener = local.and_then(|local| listeners.iter().find(|l| l.is_at(local)));
        listener
            .map(|listener| listener.trusted_proxies.as_slice())
            .unwrap_or_default()
    };
    let is_trusted = |ip: &IpAddr| trusted.iter().any(|net| net.contains(ip));
    if !is_trusted(&peer) {
        return peer;
    }
    let lines: SmallVec<[&HeaderValue; 2]> = session
        .req_header()
        .headers
        .get_all("x-forwarded-for")
        .iter()
        .collect();
    let hops = lines
        .iter()
        .rev()
        .flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','));
    // An unreadable address must not be replaced by that of the proxy, which rules may trust.
    let unknown = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let mut nearest = unknown;
    for hop in hops {
        match std::str::from_utf8(hop).ok().and_then(parse_hop) {
            // Read from the right: each proxy appends, so entries left of an untrusted one may be
            // made up.
            Some(ip) if is_trusted(&ip) => nearest = ip,
            Some(ip) => return ip,
            None => return unknown,
        }
    }
    nearest
}

/// Enough for the URL of a login or a hand-over with the longest page to return to, escaped and
/// sealed.
const OWN_TARGET_BYTES: usize = 24 * 1024;

fn parse_hop(hop: &str) -> Option<IpAddr> {
    let hop = hop.trim();
    // Some proxies put an IPv6 address in brackets even without a port.
    let hop = hop
        .strip_prefix('[')
        .and_then(|hop| hop.strip_suffix(']'))
        .filter(|hop| hop.contains(':'))
        .unwrap_or(hop);
    let ip = hop
        .parse::<IpAddr>()
        .or_else(|_| hop.parse::<std::net::SocketAddr>().map(|addr| addr.ip()));
    ip.ok().map(|ip| ip.to_canonical())
}

/// Reads the form that was posted to one of our endpoints. Returns `None` if it is longer than
/// `most` bytes.
pub(super) async fn read_form(
    session: &mut Session,
    method: &Method,
    max: usize,
) -> Result<Option<Bytes>> {
    let mut body = Vec::new();
    if *method == Method::POST {
        Progress::report_reading();
        while let Some(part) = session.read_request_body().await? {
            Progress::report_body_part();
            body.extend_from_slice(&part);
            if body.len() > max {
                break;
            }
        }
    }
    // The body is complete. The time until the response must not count as a gap in it.
    Progress::report_body_end();
    Ok((body.len() <= max).then(|| body.into()))
}
