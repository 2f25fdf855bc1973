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

/// The native request as the engine sees it. The one place where host and path are read.
pub(super) fn view<'a>(
    request: &'a RequestHeader,
    client: IpAddr,
    tls: Option<&'a ClientTls>,
    limits: &FilterSettings,
) -> Result<RequestView<'a>, Reason> {
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
    if !request.raw_path_is_utf8() {
        return Err(Reason::PathAmbiguous);
    }
    // HTTP/2 has the authority in the target, HTTP/1.1 in a header; Pingora refuses the two to
    // differ.
    let mut hosts = request.headers.get_all(header::HOST).into_iter();
    let named = hosts
        .next()
        .map(|host| host.to_str().map_err(|_| Reason::HostMalformed))
        .transpose()?;
    let target = request.uri.authority().map(http::uri::Authority::as_str);
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
    let raw = std::str::from_utf8(request.raw_path()).map_err(|_| Reason::PathAmbiguous)?;
    let raw = origin_form(raw, &authority)?;
    // The raw target may carry more than the parsed one, a fragment for instance; both must say the
    // same.
    let path = request.uri.path();
    let query = request.uri.query();
    // Of an absolute form, the path may be empty (RFC 9112 3.2.2).
    let raw_path = if raw.is_empty() || raw.starts_with('?') {
        raw.get(..0).filter(|_| path == "/")
    } else {
        Some(path)
    };
    let rebuilt_is_raw = match (raw_path.and_then(|path| raw.strip_prefix(path)), query) {
        (Some(rest), Some(query)) => rest.strip_prefix('?') == Some(query),
        (Some(rest), None) => rest.is_empty(),
        (None, _) => false,
    };
    if !rebuilt_is_raw {
        return Err(Reason::PathAmbiguous);
    }
    let path = CleanPath::parse(path).map_err(|_| Reason::PathAmbiguous)?;
    Ok(RequestView {
        method: &request.method,
        authority,
        path,
        query,
        headers: &request.headers,
        client,
        tls,
    })
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

/// The target behind scheme and authority, where a client sent these too (RFC 9112 3.2.2). They
/// must be what `Host` names.
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

/// What whoever made the TLS connection left with it.
pub(super) fn client_tls(session: &Session) -> Option<&ClientTls> {
    session.digest()?.ssl_digest.as_ref()?.extension.get()
}

/// Whether the target was sent with a fragment, which no target has. Parsing drops it, so the line
/// itself is looked at.
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

/// Where a request came from: the peer, or, where the peer is a proxy that this listener trusts,
/// the nearest address that such a proxy reported and that is not one itself.
pub(super) fn client(session: &Session, listeners: &[ListenerSettings]) -> IpAddr {
    let peer = session.client_addr().and_then(|addr| addr.as_inet());
    let Some(peer) = peer.map(|addr| addr.ip().to_canonical()) else {
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

/// A login's address has the longest page that it can come back to, escaped, and a hand-over has it
/// sealed.
const OWN_TARGET_BYTES: usize = 24 * 1024;

fn parse_hop(hop: &str) -> Option<IpAddr> {
    let hop = hop.trim();
    // Some proxies write the brackets of an IPv6 address also without a port.
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

/// The body of a form to one of our own endpoints; `None` where it is longer than any of ours.
pub(super) async fn read_form(
    session: &mut Session,
    method: &Method,
    max: usize,
) -> Result<Option<Bytes>> {
    let mut body = Vec::new();
    if *method == Method::POST {
        Progress::report_reading();
        while let Some(part) = session.read_request_body().await? {
            Progress::report_body(false);
            body.extend_from_slice(&part);
            if body.len() > max {
                break;
            }
        }
    }
    // Nothing more of it is awaited, however long the answer takes.
    Progress::report_body(true);
    Ok((body.len() <= max).then(|| body.into()))
}
