use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header;
use pingora::http::RequestHeader;
use pingora::prelude::{Error, ErrorSource, ErrorType, HttpPeer, ProxyHttp, Result, Session};
use pingora::proxy::FailToProxy;

use super::filter::style;
use super::origins::OriginPool;
use super::{AccessCtx, AccessFilter, respond};
use crate::model::{Reason, RequestId};
use crate::observe::metrics::{InFlight, UpstreamError, metrics};
use crate::portal::pages::ErrorPage;

/// The standalone proxy: the Access check in front of the origins that the configuration names.
#[derive(Debug)]
pub struct AccessProxy {
    filter: AccessFilter,
}

/// A request's context.
#[derive(Debug, Default)]
pub struct ProxyCtx {
    access: AccessCtx,
    body_bytes: u64,
    tries: usize,
    no_origin: bool,
    _in_flight: InFlight,
}

impl ProxyCtx {
    fn pool(&self) -> Option<&Arc<OriginPool>> {
        self.access.permit()?.application().settings().origins.get::<Arc<OriginPool>>()
    }
}

impl AccessProxy {
    /// A proxy behind that filter.
    pub const fn new(filter: AccessFilter) -> Self {
        Self { filter }
    }
}

#[async_trait]
impl ProxyHttp for AccessProxy {
    type CTX = ProxyCtx;

    fn new_ctx(&self) -> ProxyCtx {
        ProxyCtx::default()
    }

    async fn request_filter(&self, session: &mut Session, ctx: &mut ProxyCtx) -> Result<bool> {
        // A client that stops in the middle of a body, or stops reading, is not waited for. A tunnel may rest.
        if !session.req_header().headers.contains_key(header::UPGRADE) {
            session.set_read_timeout(Some(CLIENT_TIMEOUT));
            session.set_write_timeout(Some(CLIENT_TIMEOUT));
        }
        if self.filter.request_filter(session, &mut ctx.access).await? {
            return Ok(true);
        }
        let Some(limit) = ctx.pool().and_then(|pool| pool.settings().max_body) else { return Ok(false) };
        let declared = session.req_header().headers.get(header::CONTENT_LENGTH);
        let declared = declared.and_then(|length| length.to_str().ok()).and_then(|length| length.parse::<u64>().ok());
        if declared.is_some_and(|declared| declared > limit) {
            let id = self.filter.refuse(session, &ctx.access, Reason::BodyTooLarge);
            let response = respond::refused(Reason::BodyTooLarge, style(session), id);
            // Boxed, so that the future of a request that goes on stays small: it is moved with each of them.
            Box::pin(respond::send(session, response, id)).await?;
            return Ok(true);
        }
        Ok(false)
    }

    async fn upstream_peer(&self, _session: &mut Session, ctx: &mut ProxyCtx) -> Result<Box<HttpPeer>> {
        let Some(pool) = ctx.pool() else {
            return Error::e_explain(ErrorType::HTTPStatus(500), "no permit, or no origins");
        };
        match pool.next() {
            Some(peer) => Ok(peer),
            None => {
                ctx.no_origin = true;
                metrics().upstream_error(UpstreamError::NoPeer);
                Error::e_explain(ErrorType::HTTPStatus(503), "no origin of the application is healthy")
            }
        }
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        ctx: &mut ProxyCtx,
    ) -> Result<()> {
        self.filter.upstream_request_filter(session, request, &ctx.access)?;
        if let Some(host) = ctx.pool().and_then(|pool| pool.settings().host_header.clone()) {
            request.insert_header(header::HOST, host)?;
        }
        Ok(())
    }

    async fn request_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        end_of_stream: bool,
        ctx: &mut ProxyCtx,
    ) -> Result<()> {
        // Pingora writes an empty last part to an HTTP/1.1 origin as a chunk of length zero, which ends the body, and then
        // ends the body again (cloudflare/pingora#935). The second end would be read as the next request on that connection.
        if end_of_stream && body.as_ref().is_some_and(Bytes::is_empty) {
            *body = None;
        }
        ctx.body_bytes = ctx.body_bytes.saturating_add(body.as_ref().map_or(0, |part| part.len() as u64));
        let limit = ctx.pool().and_then(|pool| pool.settings().max_body);
        if limit.is_some_and(|limit| ctx.body_bytes > limit) {
            return Error::e_explain(ErrorType::HTTPStatus(413), "the body is longer than the application takes");
        }
        Ok(())
    }

    /// Nothing was sent yet: the next origin may do better.
    fn fail_to_connect(
        &self,
        _session: &mut Session,
        _peer: &HttpPeer,
        ctx: &mut ProxyCtx,
        mut error: Box<Error>,
    ) -> Box<Error> {
        ctx.tries += 1;
        let targets = ctx.pool().map_or(0, |pool| pool.settings().targets.len());
        error.set_retry(ctx.tries < targets);
        error
    }

    async fn fail_to_proxy(&self, session: &mut Session, error: &Error, ctx: &mut ProxyCtx) -> FailToProxy {
        let id = match error.etype() {
            ErrorType::HTTPStatus(413) => self.filter.refuse(session, &ctx.access, Reason::BodyTooLarge),
            _ => ctx.access.request_id().unwrap_or_else(RequestId::random),
        };
        let text = id.to_string();
        let (page, reason) = match (error.etype(), error.esource()) {
            (ErrorType::HTTPStatus(503), _) if ctx.no_origin => {
                (ErrorPage::upstream_unhealthy(&text), "origin_unhealthy")
            }
            (ErrorType::HTTPStatus(413), _) => (ErrorPage::content_too_large(&text), Reason::BodyTooLarge.id()),
            (ErrorType::HTTPStatus(400..500), _) => (ErrorPage::bad_request(&text), "bad_request"),
            (
                ErrorType::ConnectTimedout | ErrorType::ReadTimedout | ErrorType::WriteTimedout,
                ErrorSource::Upstream,
            ) => (ErrorPage::upstream_too_slow(&text), "origin_too_slow"),
            (_, ErrorSource::Upstream) => (ErrorPage::upstream_unreachable(&text), "origin_unreachable"),
            // The client is gone: there is nobody to tell.
            (ErrorType::WriteError | ErrorType::ReadError | ErrorType::ConnectionClosed, ErrorSource::Downstream) => {
                return FailToProxy { error_code: 0, can_reuse_downstream: false };
            }
            (ErrorType::ReadTimedout, ErrorSource::Downstream) => {
                (ErrorPage::request_too_slow(&text), "request_too_slow")
            }
            (_, ErrorSource::Downstream) => (ErrorPage::bad_request(&text), "bad_request"),
            _ => (ErrorPage::internal(&text), Reason::Internal.id()),
        };
        if *error.esource() == ErrorSource::Upstream {
            metrics().upstream_error(upstream_error(error.etype()));
        }
        // Its context may hold what the origin sent, cookies too.
        let (kind, source) = (error.etype().as_str(), error.esource().as_str());
        tracing::warn!(request_id = %id, kind, source, "a request was not proxied to its end");
        let status = page.status.as_u16();
        let response = respond::told(page.with_reason(reason), style(session));
        session.set_keepalive(None);
        // Where a part of the answer is out already, breaking off is the only way to say that it is no whole.
        if session.response_written().is_none()
            && let Err(error) = respond::send(session, response, id).await
        {
            tracing::debug!(%error, "the error could not be told");
        }
        FailToProxy { error_code: status, can_reuse_downstream: false }
    }

    /// For Pingora's own log lines: no query, which may hold a code.
    fn request_summary(&self, session: &Session, _ctx: &ProxyCtx) -> String {
        let request = session.req_header();
        format!("{} {}", request.method, request.uri.path())
    }

    fn suppress_error_log(&self, _session: &Session, _ctx: &ProxyCtx, _error: &Error) -> bool {
        true
    }
}

const CLIENT_TIMEOUT: Duration = Duration::from_secs(60);

const fn upstream_error(kind: &ErrorType) -> UpstreamError {
    match kind {
        ErrorType::ConnectTimedout | ErrorType::ReadTimedout | ErrorType::WriteTimedout => UpstreamError::Timeout,
        ErrorType::ConnectRefused | ErrorType::ConnectNoRoute | ErrorType::ConnectError | ErrorType::SocketError => {
            UpstreamError::Connect
        }
        ErrorType::TLSHandshakeFailure
        | ErrorType::TLSHandshakeTimedout
        | ErrorType::InvalidCert
        | ErrorType::HandshakeError
        | ErrorType::TLSWantX509Lookup => UpstreamError::Tls,
        ErrorType::ReadError | ErrorType::WriteError | ErrorType::ConnectionClosed => UpstreamError::Closed,
        ErrorType::InvalidHTTPHeader | ErrorType::H1Error | ErrorType::H2Error | ErrorType::InvalidH2 => {
            UpstreamError::Protocol
        }
        _ => UpstreamError::Other,
    }
}
