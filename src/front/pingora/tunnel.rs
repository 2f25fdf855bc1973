//! Protocol upgrades such as WebSocket (RFC 9110 7.8).
//!
//! Decides which protocols are allowed, and when a tunnel ends. Trusts the permit of the request,
//! and uses the same hooks for peers and headers as any request. Never offers the origin a protocol
//! that could carry further requests past the check: HTTP, HTTP/2 and TLS.
//!
//! Pingora's own tunnels are not used. They fail if the origin's 101 arrives before the end of the
//! empty request body (cloudflare/pingora#946). They also close while one side only listens, and
//! when the first half ends.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version, header};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::prelude::{Error, ErrorType, ProxyHttp, Result, Session};
use pingora::protocols::ALPN;
use pingora::protocols::http::HttpTask;
use pingora::protocols::http::v1::client::HttpSession as Origin;

use super::proxy::{AccessProxy, ProxyCtx};
use super::relay::{End, IdleLimits, relay};
use super::{respond, response};
use crate::config::UNJUDGED_UPGRADES;

/// Returns the protocols to offer the origin, if the request names any that may be tunnelled.
///
/// `further` are the configured protocols beside the built-in ones.
pub(super) fn offered(request: &RequestHeader, further: &[String]) -> Option<HeaderValue> {
    if request.version != Version::HTTP_11
        || !response::tokens(&request.headers).any(|t| t.eq_ignore_ascii_case(b"upgrade"))
    {
        return None;
    }
    let lines = request.headers.get_all(header::UPGRADE).into_iter();
    let asked = lines
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii);
    let built_in = TUNNELLED
        .into_iter()
        .chain(further.iter().map(String::as_str));
    let mut offer = Vec::new();
    for protocol in asked.filter(|protocol| may_tunnel(protocol)) {
        if let Some(known) = built_in
            .clone()
            .find(|known| known.as_bytes().eq_ignore_ascii_case(protocol))
        {
            // Origins compare the spelling, so use that of each protocol's specification.
            offer.extend_from_slice(if offer.is_empty() { b"" } else { b", " });
            offer.extend_from_slice(known.as_bytes());
        }
    }
    (!offer.is_empty())
        .then(|| HeaderValue::from_bytes(&offer).ok())
        .flatten()
}

/// Returns `true` unless the protocol could carry requests past the check.
fn may_tunnel(protocol: &[u8]) -> bool {
    let name = protocol
        .split(|byte| *byte == b'/')
        .next()
        .unwrap_or_default();
    !UNJUDGED_UPGRADES
        .iter()
        .any(|unchecked| name.eq_ignore_ascii_case(unchecked.as_bytes()))
}

/// The origin's response to an offered upgrade.
enum Offered {
    /// The origin switches protocols.
    Switched(Box<ResponseHeader>),
    /// The origin responds as to an ordinary request.
    Answered(Answer),
}

/// The head of a response that refuses the upgrade.
struct Answer {
    response: Box<ResponseHeader>,
    /// `true` if the response has no body.
    ends: bool,
    request_body: RequestBody,
}

/// The progress of the request body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RequestBody {
    /// The body is incomplete.
    Open,
    /// The body was forwarded completely.
    Sent,
    /// The origin stopped reading the body before its response, as it may if it refuses.
    Unwanted,
}

impl AccessProxy {
    /// Offers the upgrade to an origin, and runs the tunnel or forwards the answer. The response is
    /// written when this returns.
    ///
    /// # Errors
    /// If no origin responds, or the tunnel does not end regularly. Pingora then drops the
    /// connection. After `Ok` it would flush the connection first, without a time limit.
    pub(super) async fn upgrade(
        &self,
        session: &mut Session,
        ctx: &mut ProxyCtx,
        offer: &HeaderValue,
    ) -> Result<()> {
        let mut origin = self.connect(session, ctx).await?;
        let mut request = head(session)?;
        self.upstream_request_filter(session, &mut request, ctx)
            .await?;
        if request.uri.authority().is_some()
            && let Some(target) = request.uri.path_and_query().cloned()
        {
            request.set_uri(target.into());
        }
        request.insert_header(header::CONNECTION, "Upgrade")?;
        request.insert_header(header::UPGRADE, offer.clone())?;
        origin
            .write_request_header(Box::new(request))
            .await
            .map_err(|error| error.into_up())?;
        match self.exchange(session, ctx, &mut origin).await? {
            Offered::Answered(answer) => self.answer(session, ctx, &mut origin, answer).await,
            Offered::Switched(response) => {
                if !was_offered(offer, &response.headers) {
                    let why = "the origin switched to a protocol that it was not offered";
                    return Err(Error::explain(ErrorType::InvalidHTTPHeader, why).into_up());
                }
                let patience = origin.read_timeout;
                respond::write(session, vec![HttpTask::Header(response, false)]).await?;
                let open = ctx.pool().map_or(Duration::from_secs(3600), |pool| {
                    pool.settings().tunnel_timeout
                });
                let limits = IdleLimits {
                    open,
                    half_closed: patience.unwrap_or(open).min(open),
                };
                match relay(session, origin, limits).await? {
                    End::Complete => Ok(()),
                    End::Idle => {
                        log_idle(session, ctx);
                        Err(Error::explain(
                            ErrorType::ConnectionClosed,
                            "the tunnel was idle for too long",
                        )
                        .into_down())
                    }
                }
            }
        }
    }

    /// Opens an HTTP/1.1 connection to one of the origins.
    async fn connect(&self, session: &mut Session, ctx: &mut ProxyCtx) -> Result<Origin> {
        ctx.require_http1();
        for _ in 0..MAX_TRIES {
            let mut peer = self.upstream_peer(session, ctx).await?;
            // Only HTTP/1.1 switches protocols.
            peer.options.alpn = ALPN::H1;
            match self.upgrades.get_http_session(&*peer).await {
                Ok((mut origin, reused)) => {
                    let descriptor = origin.stream().id();
                    self.connected_to_upstream(session, reused, &peer, descriptor, None, ctx)
                        .await?;
                    origin.read_timeout = peer.options.read_timeout;
                    origin.write_timeout = peer.options.write_timeout;
                    return Ok(origin);
                }
                Err(error) => {
                    let error = self.fail_to_connect(session, &peer, ctx, error.into_up());
                    if !error.retry() {
                        return Err(error.into_up());
                    }
                }
            }
        }
        Err(Error::explain(ErrorType::ConnectError, "no origin could be reached").into_up())
    }

    /// Sends the body, and reads up to the final response head. Forwards interim responses.
    async fn exchange(
        &self,
        session: &mut Session,
        ctx: &mut ProxyCtx,
        origin: &mut Origin,
    ) -> Result<Offered> {
        let mut body = RequestBody::Open;
        if session.as_downstream_mut().is_body_done() {
            origin
                .finish_body()
                .await
                .map_err(|error| error.into_up())?;
            body = RequestBody::Sent;
        }
        loop {
            tokio::select! {
                // Bytes after the body belong to the tunnel, so nothing is read beyond it. A client
                // that disconnects meanwhile is noticed after `read_timeout` at the latest.
                part = session.read_request_body(), if body == RequestBody::Open => {
                    let part = part.map_err(|error| error.into_down())?;
                    body = self.forward(session, ctx, origin, part).await?;
                }
                task = origin.read_response_task() => match task.map_err(|error| error.into_up())? {
                    HttpTask::Header(response, _) if response.status == StatusCode::SWITCHING_PROTOCOLS => {
                        if !origin.was_upgraded() || body != RequestBody::Sent {
                            let why = "the origin switched protocols before the request was complete";
                            return Err(Error::explain(ErrorType::InvalidHTTPHeader, why).into_up());
                        }
                        return Ok(Offered::Switched(response));
                    }
                    HttpTask::Header(mut response, _) if response.status.is_informational() => {
                        response::edit(session, &mut response)?;
                        respond::write(session, vec![HttpTask::Header(response, false)]).await?;
                    }
                    HttpTask::Header(response, ends) => {
                        return Ok(Offered::Answered(Answer { response, ends, request_body: body }));
                    }
                    _ => {
                        let why = "the origin sent a body without a head";
                        return Err(Error::explain(ErrorType::InvalidHTTPHeader, why).into_up());
                    }
                },
            }
        }
    }

    /// Forwards a part of the request body, or its end.
    async fn forward(
        &self,
        session: &mut Session,
        ctx: &mut ProxyCtx,
        origin: &mut Origin,
        mut part: Option<Bytes>,
    ) -> Result<RequestBody> {
        let ends = part.is_none() || session.as_downstream_mut().is_body_done();
        self.request_body_filter(session, &mut part, ends, ctx)
            .await?;
        let written = async {
            if let Some(part) = part.filter(|part| !part.is_empty()) {
                origin.write_body(&part).await?;
            }
            if ends {
                origin.finish_body().await?;
            }
            Ok::<(), Box<Error>>(())
        };
        Ok(match written.await {
            Err(_) => RequestBody::Unwanted,
            Ok(()) if ends => RequestBody::Sent,
            Ok(()) => RequestBody::Open,
        })
    }

    /// Forwards a response that refuses the upgrade, and the rest of the request body meanwhile.
    async fn answer(
        &self,
        session: &mut Session,
        ctx: &mut ProxyCtx,
        origin: &mut Origin,
        answer: Answer,
    ) -> Result<()> {
        let Answer {
            mut response,
            ends,
            request_body: mut body,
        } = answer;
        let bodiless = response::is_bodiless(&session.req_header().method, response.status);
        let framed = [header::CONTENT_LENGTH, header::TRANSFER_ENCODING]
            .iter()
            .any(|name| response.headers.contains_key(name));
        if !ends && !bodiless && !framed {
            response.set_version(Version::HTTP_11);
            response.insert_header(header::TRANSFER_ENCODING, "chunked")?;
        }
        self.response_filter(session, &mut response, ctx).await?;
        let mut done = respond::write(session, vec![HttpTask::Header(response, ends)]).await?;
        while !done {
            tokio::select! {
                // After the body this detects that the client disconnects.
                part = session.as_downstream_mut().read_body_or_idle(false), if body != RequestBody::Unwanted => match part {
                    Ok(part) => body = self.forward(session, ctx, origin, part).await?,
                    // The client has sent its next request already. It is not read.
                    Err(error) if *error.etype() == ErrorType::ConnectError => {
                        session.set_keepalive(None);
                        body = RequestBody::Unwanted;
                    }
                    Err(error) => return Err(error.into_down()),
                },
                task = origin.read_response_task() => {
                    let task = task.map_err(|error| error.into_up())?;
                    done = respond::write(session, vec![task]).await?;
                }
            }
        }
        Ok(())
    }
}

/// Returns the head for the origin, without the fields of the client's connection (RFC 9110 7.6.1).
fn head(session: &mut Session) -> Result<RequestHeader> {
    let mut request = session.req_header().clone();
    for name in named(&request.headers)? {
        request.remove_header(&name);
    }
    for name in HOP_BY_HOP {
        request.remove_header(&name);
    }
    if !session.as_downstream_mut().is_body_empty()
        && !request.headers.contains_key(header::CONTENT_LENGTH)
    {
        request.insert_header(header::TRANSFER_ENCODING, "chunked")?;
    }
    Ok(request)
}

/// Returns the fields that `Connection` names. Fields that every origin relies on must not be named.
fn named(headers: &HeaderMap) -> Result<Vec<HeaderName>> {
    let mut named = Vec::new();
    for token in response::tokens(headers) {
        let name = HeaderName::from_bytes(token).ok().filter(|name| {
            // A client that names these in `Connection` would have them removed after the decision.
            let protected = matches!(
                name.as_str(),
                "host" | "content-length" | "cookie" | "authorization"
            );
            !protected && !name.as_str().starts_with("x-forwarded-")
        });
        match name {
            Some(name) if named.len() < MAX_NAMED => named.push(name),
            _ => {
                return Err(Error::explain(
                    ErrorType::InvalidHTTPHeader,
                    "malformed `Connection` header",
                )
                .into_down());
            }
        }
    }
    Ok(named)
}

/// Returns `true` if the origin names its choice, as RFC 9110 7.8 requires, and if every protocol
/// that it names was offered.
fn was_offered(offer: &HeaderValue, response: &HeaderMap) -> bool {
    let listed = |lines: &HeaderValue, protocol: &[u8]| {
        lines
            .as_bytes()
            .split(|byte| *byte == b',')
            .any(|one| one.trim_ascii().eq_ignore_ascii_case(protocol))
    };
    let lines = response.get_all(header::UPGRADE).into_iter();
    let mut chosen = lines
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .peekable();
    chosen.peek().is_some() && chosen.all(|protocol| listed(offer, protocol))
}

fn log_idle(session: &Session, ctx: &ProxyCtx) {
    let permit = ctx.access.permit();
    tracing::info!(
        request_id = ctx.access.request_id().map(tracing::field::display),
        application = permit.map(|permit| permit.application().settings().name.as_str()),
        path = session.req_header().uri.path(),
        "closed a tunnel that was idle for `tunnel_timeout`"
    );
}

/// Protocols that need no configuration: WebSocket, `kubectl exec` and `docker attach`.
const TUNNELLED: [&str; 3] = ["websocket", "SPDY/3.1", "tcp"];
// Fields of the client's connection (RFC 9110 7.6.1). An origin that acted on them could read the
// request differently.
const HOP_BY_HOP: [HeaderName; 10] = [
    header::CONNECTION,
    header::UPGRADE,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("http2-settings"),
];
// Clients name one or two fields. Each name is searched for in the headers, so a long list would
// only cost time.
const MAX_NAMED: usize = 10;
// Each try is at another address or origin. The bound ends the loop if names resolve anew
// meanwhile.
const MAX_TRIES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(version: Version, lines: &[(&str, &str)], further: &[&str]) -> Option<String> {
        let mut request = RequestHeader::build("GET", b"/", None).unwrap();
        request.set_version(version);
        for (name, value) in lines {
            request.append_header((*name).to_owned(), *value).unwrap();
        }
        let further: Vec<_> = further.iter().map(|token| (*token).to_owned()).collect();
        offered(&request, &further).map(|offer| offer.to_str().unwrap().to_owned())
    }

    #[test]
    fn only_tunnelled_protocols_are_offered() {
        for (upgrade, expected) in [
            ("websocket", Some("websocket")),
            ("WebSocket", Some("websocket")),
            ("SPDY/3.1", Some("SPDY/3.1")),
            ("tcp", Some("tcp")),
            ("h2c, websocket", Some("websocket")),
            ("websocket, tcp", Some("websocket, tcp")),
            ("own/2", Some("own/2")),
            ("own/1", None),
            ("h2c", None),
            ("H2C", None),
            ("h2c/1", None),
            ("h2", None),
            ("HTTP/2.0", None),
            ("http/3", None),
            ("TLS/1.3", None),
            ("tls", None),
            ("unknown", None),
            ("", None),
        ] {
            let lines = [("upgrade", upgrade), ("connection", "keep-alive, Upgrade")];
            // Forbidden protocols stay forbidden if they are configured.
            let further = [
                "own/2", "h2c", "HTTP/2.0", "tls", "h2", "h2c/1", "http/3", "TLS/1.3",
            ];
            assert_eq!(
                offer(Version::HTTP_11, &lines, &further).as_deref(),
                expected,
                "{upgrade}"
            );
        }
    }

    #[test]
    fn upgrade_without_http11_or_connection_option_is_ignored() {
        assert_eq!(
            offer(Version::HTTP_11, &[("upgrade", "websocket")], &[]),
            None
        );
        assert_eq!(
            offer(
                Version::HTTP_11,
                &[("upgrade", "websocket"), ("connection", "close")],
                &[]
            ),
            None
        );
        let lines = [("upgrade", "websocket"), ("connection", "upgrade")];
        assert_eq!(offer(Version::HTTP_10, &lines, &[]), None);
        assert_eq!(offer(Version::HTTP_2, &lines, &[]), None);
        assert_eq!(
            offer(Version::HTTP_11, &lines, &[]).as_deref(),
            Some("websocket")
        );
    }

    #[test]
    fn connection_must_not_name_fields_that_origins_rely_on() {
        let headers = |value: &str| {
            HeaderMap::from_iter([(header::CONNECTION, HeaderValue::try_from(value).unwrap())])
        };
        for refused in [
            "upgrade, host",
            "X-Forwarded-For",
            "cookie",
            "a b",
            "\"x\"",
            "a,b,c,d,e,f,g,h,i,j,k",
        ] {
            assert!(named(&headers(refused)).is_err(), "{refused}");
        }
        assert_eq!(
            named(&headers("Upgrade, X-Hop")).unwrap(),
            ["upgrade", "x-hop"]
        );
    }
}
