use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use pingora::connectors::ConnectorOptions;
use pingora::connectors::http::v1::Connector;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::modules::http::HttpModules;
use pingora::prelude::{Error, ErrorSource, ErrorType, HttpPeer, ProxyHttp, Result, Session};
use pingora::protocols::Digest;
use pingora::proxy::{FailToProxy, ProxyWarnLogContext};

use super::filter::style;
use super::hsts::{self, HstsBuilder, HstsListener};
use super::origins::{Attempts, OriginPool, cause};
use super::progress::Progress;
use super::{AccessCtx, AccessFilter, respond, response, tunnel};
use crate::gate;
use crate::model::{Reason, RequestId};
use crate::observe::metrics::{InFlight, UpstreamError, metrics};
use crate::pages::{ErrorPage, Link, TRY_AGAIN};

/// The standalone proxy: the Access check in front of the origins that the configuration names.
pub struct AccessProxy {
    pub(super) filter: AccessFilter,
    settings: ProxySettings,
    /// Makes the connections that switch protocols; they are never shared.
    pub(super) upgrades: Connector,
}

/// The settings of the standalone proxy that are not about access.
#[derive(Clone, Debug)]
pub struct ProxySettings {
    /// The longest gap in the body of a request, and in what a client takes of the response; 60 s
    /// by default.
    pub body_timeout: Duration,
    /// The listeners that send `Strict-Transport-Security`; none by default.
    pub hsts: Vec<HstsListener>,
    /// The first file descriptor that no connection to an origin may have: from here on they are
    /// reserved.
    pub reserved_descriptor: Option<RawFd>,
}

impl Default for ProxySettings {
    fn default() -> Self {
        Self {
            body_timeout: Duration::from_secs(60),
            hsts: Vec::new(),
            reserved_descriptor: None,
        }
    }
}

/// A request's context.
#[derive(Debug, Default)]
pub struct ProxyCtx {
    pub(super) access: AccessCtx,
    body_bytes: u64,
    attempts: Attempts,
    no_origin: bool,
    _in_flight: InFlight,
}

impl ProxyCtx {
    pub(super) fn pool(&self) -> Option<&Arc<OriginPool>> {
        pool(&self.access)
    }

    /// Leaves origins that speak HTTP/2 alone out of further attempts.
    pub(super) fn require_http1(&mut self) {
        let Self {
            access, attempts, ..
        } = self;
        if let Some(pool) = pool(access) {
            pool.require_http1(attempts);
        }
    }
}

fn pool(access: &AccessCtx) -> Option<&Arc<OriginPool>> {
    access
        .permit()?
        .application()
        .settings()
        .origins
        .get::<Arc<OriginPool>>()
}

impl AccessProxy {
    /// A proxy behind that filter.
    pub fn new(filter: AccessFilter) -> Self {
        Self {
            filter,
            settings: ProxySettings::default(),
            upgrades: Connector::new(None),
        }
    }

    /// Sets the options of connections that switch protocols: those that Pingora uses for the other
    /// ones.
    #[must_use]
    pub fn with_connector_options(self, options: ConnectorOptions) -> Self {
        Self {
            upgrades: Connector::new(Some(options)),
            ..self
        }
    }

    /// Replaces the default settings.
    #[must_use]
    pub fn with_settings(self, settings: ProxySettings) -> Self {
        Self { settings, ..self }
    }
}

impl std::fmt::Debug for AccessProxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AccessProxy")
            .field("filter", &self.filter)
            .finish_non_exhaustive()
    }
}

/// Reads `Content-Length`. A sender must not forward one that is no number (RFC 9110 8.6), and
/// origins read lists differently.
fn declared_length(headers: &HeaderMap) -> Result<Option<u64>> {
    let mut lines = headers.get_all(header::CONTENT_LENGTH).into_iter();
    let Some(line) = lines.next() else {
        return Ok(None);
    };
    let digits = Some(line.as_bytes())
        .filter(|digits| digits.iter().all(u8::is_ascii_digit) && lines.next().is_none());
    let length = digits.and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
    match length {
        Some(length) => Ok(Some(length)),
        None => Err(
            Error::explain(ErrorType::HTTPStatus(400), "malformed `Content-Length`").into_down(),
        ),
    }
}

#[async_trait]
impl ProxyHttp for AccessProxy {
    type CTX = ProxyCtx;

    fn new_ctx(&self) -> ProxyCtx {
        ProxyCtx::default()
    }

    fn init_downstream_modules(&self, modules: &mut HttpModules) {
        modules.add_module(Box::new(response::OldClients));
        if !self.settings.hsts.is_empty() {
            modules.add_module(Box::new(HstsBuilder));
        }
    }

    async fn request_filter(&self, session: &mut Session, ctx: &mut ProxyCtx) -> Result<bool> {
        let awaits_body = !session.as_downstream_mut().is_body_done();
        Progress::report_head(awaits_body);
        if !self.settings.hsts.is_empty() {
            hsts::activate(session, &self.settings.hsts);
        }
        // Pingora reads the rest of an unwanted body as long as single bytes of it arrive.
        session.set_total_drain_timeout(Some(self.settings.body_timeout));
        // A client that stops in the middle of a body, or stops reading, is not waited for.
        session.set_read_timeout(Some(self.settings.body_timeout));
        session.set_write_timeout(Some(self.settings.body_timeout));
        if response::is_old(session.req_header()) {
            // RFC 9110 15.2: no interim responses to HTTP/1.0 clients.
            session.as_downstream_mut().set_ignore_info_resp(true);
        }
        if self.filter.request_filter(session, &mut ctx.access).await? {
            return Ok(true);
        }
        let limit = ctx.pool().and_then(|pool| pool.settings().max_body);
        let declared = declared_length(&session.req_header().headers)?;
        if limit
            .zip(declared)
            .is_some_and(|(limit, declared)| declared > limit)
        {
            let id = self
                .filter
                .refuse(session, &ctx.access, Reason::BodyTooLarge);
            let response = self
                .filter
                .refused(Reason::BodyTooLarge, style(session), id);
            // Boxed, so that the future of a request that goes on stays small: it is moved with
            // each of them.
            Box::pin(respond::send(session, response, id)).await?;
            return Ok(true);
        }
        if session.req_header().headers.contains_key(header::UPGRADE)
            && let Some(pool) = ctx.pool().filter(|pool| pool.settings().speaks_http1())
            && let Some(offer) = tunnel::offered(session.req_header(), &pool.settings().upgrades)
        {
            self.filter.watch(session, &mut ctx.access);
            Box::pin(self.upgrade(session, ctx, &offer)).await?;
            return Ok(true);
        }
        Ok(false)
    }

    async fn upstream_peer(
        &self,
        _session: &mut Session,
        ctx: &mut ProxyCtx,
    ) -> Result<Box<HttpPeer>> {
        let ProxyCtx {
            access,
            attempts,
            body_bytes,
            no_origin,
            ..
        } = ctx;
        let Some(pool) = pool(access) else {
            return Error::e_explain(ErrorType::HTTPStatus(500), "no permit, or no origins");
        };
        // Every attempt sends the body from its start.
        *body_bytes = 0;
        let mut peer = pool.next(attempts);
        if peer.is_none() {
            // Boxed, because every request carries this future and hardly one waits here.
            Box::pin(pool.resolved()).await;
            peer = pool.next(attempts);
        }
        match peer {
            Some(peer) => Ok(peer),
            None => {
                *no_origin = true;
                metrics().upstream_error(UpstreamError::NoPeer);
                Error::e_explain(
                    ErrorType::HTTPStatus(503),
                    "no origin of the application is healthy",
                )
            }
        }
    }

    async fn connected_to_upstream(
        &self,
        _session: &mut Session,
        reused: bool,
        _peer: &HttpPeer,
        descriptor: RawFd,
        _digest: Option<&Digest>,
        ctx: &mut ProxyCtx,
    ) -> Result<()> {
        // The last descriptors are for the listener of the metrics.
        if !reused
            && self
                .settings
                .reserved_descriptor
                .is_some_and(|reserved| descriptor >= reserved)
        {
            metrics().upstream_error(UpstreamError::NoDescriptor);
            return Error::e_explain(
                ErrorType::HTTPStatus(503),
                "the process has no file descriptors left",
            );
        }
        if let Some(pool) = ctx.pool() {
            pool.connected(&ctx.attempts, reused);
        }
        Progress::report_reading();
        Ok(())
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        ctx: &mut ProxyCtx,
    ) -> Result<()> {
        self.filter
            .upstream_request_filter(session, request, &ctx.access)?;
        if let Some(host) = ctx
            .pool()
            .and_then(|pool| pool.settings().host_header.clone())
        {
            request.insert_header(header::HOST, host)?;
        }
        Ok(())
    }

    async fn request_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        end_of_stream: bool,
        ctx: &mut ProxyCtx,
    ) -> Result<()> {
        Progress::report_body(end_of_stream);
        // Pingora writes an empty last part to an HTTP/1.1 origin as a chunk of length zero, which
        // ends the body, and then ends the body again (cloudflare/pingora#935). The second end
        // would be read as the next request on that connection.
        if end_of_stream && body.as_ref().is_some_and(Bytes::is_empty) {
            *body = None;
        }
        self.filter
            .request_body_filter(session, end_of_stream, &mut ctx.access)?;
        ctx.body_bytes = ctx
            .body_bytes
            .saturating_add(body.as_ref().map_or(0, |part| part.len() as u64));
        let limit = ctx.pool().and_then(|pool| pool.settings().max_body);
        if limit.is_some_and(|limit| ctx.body_bytes > limit) {
            return Error::e_explain(
                ErrorType::HTTPStatus(413),
                "the body is longer than the application takes",
            );
        }
        Ok(())
    }

    async fn upstream_response_filter(
        &self,
        _session: &mut Session,
        response: &mut ResponseHeader,
        _ctx: &mut ProxyCtx,
    ) -> Result<()> {
        if !response.status.is_informational() {
            Progress::report_response();
        }
        Ok(())
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut ProxyCtx,
    ) -> Result<()> {
        self.filter
            .response_filter(session, response, &mut ctx.access)?;
        response::edit(session, response)
    }

    fn response_body_filter(
        &self,
        session: &mut Session,
        _body: &mut Option<Bytes>,
        _end_of_stream: bool,
        ctx: &mut ProxyCtx,
    ) -> Result<Option<Duration>> {
        self.filter
            .response_body_filter(session, &mut ctx.access)
            .map(|()| None)
    }

    /// Nothing was sent yet, so whatever the method another address or origin may be tried. Once
    /// bytes were sent, `error_while_proxy` repeats only idempotent requests, and only if a kept
    /// connection turned out to be closed.
    fn fail_to_connect(
        &self,
        _session: &mut Session,
        _peer: &HttpPeer,
        ctx: &mut ProxyCtx,
        mut error: Box<Error>,
    ) -> Box<Error> {
        let ProxyCtx {
            access, attempts, ..
        } = ctx;
        let again = pool(access).is_some_and(|pool| pool.failed(attempts, &error));
        error.set_retry(again);
        error
    }

    /// Repeats idempotent requests if the origin has closed a kept connection, like Pingora's own.
    /// Pingora sees that in reads alone, and a part of the body may meet the closed connection
    /// first.
    fn error_while_proxy(
        &self,
        peer: &HttpPeer,
        session: &mut Session,
        error: Box<Error>,
        _ctx: &mut ProxyCtx,
        reused: bool,
    ) -> Box<Error> {
        let mut error = error.more_context(format!("Peer: {peer}"));
        let is_repeatable = session.req_header().method.is_idempotent()
            && !session.as_ref().retry_buffer_truncated()
            && session.response_written().is_none();
        match (error.etype(), error.esource()) {
            _ if !is_repeatable => error.set_retry(false),
            (ErrorType::WriteError, ErrorSource::Upstream) => error.set_retry(reused),
            _ => error.retry.decide_reuse(reused),
        }
        error
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        ctx: &mut ProxyCtx,
    ) -> FailToProxy {
        let id = match error.etype() {
            ErrorType::HTTPStatus(413) => {
                self.filter
                    .refuse(session, &ctx.access, Reason::BodyTooLarge)
            }
            _ => ctx.access.request_id().unwrap_or_else(RequestId::random),
        };
        let text = id.to_string();
        let (page, reason) = match (error.etype(), error.esource()) {
            (ErrorType::HTTPStatus(503), _) if ctx.no_origin => {
                (ErrorPage::upstream_unhealthy(&text), "origin_unhealthy")
            }
            (ErrorType::HTTPStatus(503), _) => (ErrorPage::overloaded(&text), "overloaded"),
            (ErrorType::HTTPStatus(413), _) => (
                ErrorPage::content_too_large(&text),
                Reason::BodyTooLarge.id(),
            ),
            (ErrorType::HTTPStatus(403), _) => {
                let sentence = "Your access ended while this request was in progress.";
                let page = ErrorPage::new(StatusCode::FORBIDDEN, "Not allowed", sentence, &text);
                (
                    page,
                    ctx.access.ended().unwrap_or(Reason::NoPolicyApplied).id(),
                )
            }
            (ErrorType::HTTPStatus(400..500), _) => (ErrorPage::bad_request(&text), "bad_request"),
            (
                ErrorType::ConnectTimedout | ErrorType::ReadTimedout | ErrorType::WriteTimedout,
                ErrorSource::Upstream,
            ) => (ErrorPage::upstream_too_slow(&text), "origin_too_slow"),
            (_, ErrorSource::Upstream) => {
                (ErrorPage::upstream_unreachable(&text), "origin_unreachable")
            }
            // The client is gone: there is nobody to tell.
            (
                ErrorType::WriteError | ErrorType::ReadError | ErrorType::ConnectionClosed,
                ErrorSource::Downstream,
            ) => {
                return FailToProxy {
                    error_code: 0,
                    can_reuse_downstream: false,
                };
            }
            // The client reads no more: a page would wait for it again.
            (ErrorType::WriteTimedout, ErrorSource::Downstream) => {
                log_failure(session, ctx, error, id);
                return FailToProxy {
                    error_code: 0,
                    can_reuse_downstream: false,
                };
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
        // A request that is no longer allowed is in the log already.
        if *error.etype() != ErrorType::HTTPStatus(403) {
            log_failure(session, ctx, error, id);
        }
        let status = page.status.as_u16();
        let request = session.req_header();
        let retry = gate::retry(&request.method, &request.uri, page.status);
        let retry = retry.as_deref().map(|href| Link {
            href,
            label: TRY_AGAIN,
        });
        let response = self
            .filter
            .told(page.with_retry(retry).with_reason(reason), style(session));
        session.set_keepalive(None);
        // Where a part of the answer is out already, breaking off is the only way to say that it is
        // no whole.
        if session.response_written().is_none()
            && let Err(error) = respond::send(session, response, id).await
        {
            tracing::debug!(%error, "the error could not be told");
        }
        FailToProxy {
            error_code: status,
            can_reuse_downstream: false,
        }
    }

    async fn logging(&self, session: &mut Session, error: Option<&Error>, _ctx: &mut ProxyCtx) {
        let client_is_gone = error.is_some_and(|error| *error.esource() == ErrorSource::Downstream);
        if !client_is_gone && !session.as_downstream_mut().is_body_done() {
            Box::pin(respond::read_rest(session)).await;
        }
    }

    /// For Pingora's own log lines: no query, which may hold a code.
    fn request_summary(&self, session: &Session, _ctx: &ProxyCtx) -> String {
        let request = session.req_header();
        format!("{} {}", request.method, request.uri.path())
    }

    /// `fail_to_connect` logs what matters of an attempt, and Pingora's own line repeats bytes of
    /// the origin.
    fn suppress_proxy_warn_log(
        &self,
        _session: &Session,
        _ctx: &ProxyCtx,
        _error: &Error,
        _context: ProxyWarnLogContext,
    ) -> bool {
        true
    }

    fn suppress_error_log(&self, _session: &Session, _ctx: &ProxyCtx, _error: &Error) -> bool {
        true
    }
}

/// Names everything that an operator needs to find the cause. The error's own text stays out: it
/// may hold what the origin sent, cookies too.
fn log_failure(session: &Session, ctx: &ProxyCtx, error: &Error, id: RequestId) {
    let request = session.req_header();
    let host = request
        .headers
        .get(header::HOST)
        .map(|host| String::from_utf8_lossy(host.as_bytes()));
    let host = host.or_else(|| {
        request
            .uri
            .authority()
            .map(|authority| authority.as_str().into())
    });
    let permit = ctx.access.permit();
    tracing::warn!(
        request_id = %id,
        application = permit.map(|permit| permit.application().settings().name.as_str()),
        method = request.method.as_str(),
        host = host.as_deref(),
        path = request.uri.path(),
        origin = ctx.pool().and_then(|pool| pool.label(&ctx.attempts)),
        address = ctx.attempts.address().map(tracing::field::display),
        kind = error.etype().as_str(),
        source = error.esource().as_str(),
        cause = cause(error),
        "a request was not proxied to its end",
    );
}

const fn upstream_error(kind: &ErrorType) -> UpstreamError {
    match kind {
        ErrorType::ConnectTimedout | ErrorType::ReadTimedout | ErrorType::WriteTimedout => {
            UpstreamError::Timeout
        }
        ErrorType::ConnectRefused
        | ErrorType::ConnectNoRoute
        | ErrorType::ConnectError
        | ErrorType::SocketError => UpstreamError::Connect,
        ErrorType::TLSHandshakeFailure
        | ErrorType::TLSHandshakeTimedout
        | ErrorType::InvalidCert
        | ErrorType::HandshakeError
        | ErrorType::TLSWantX509Lookup => UpstreamError::Tls,
        ErrorType::ReadError | ErrorType::WriteError | ErrorType::ConnectionClosed => {
            UpstreamError::Closed
        }
        ErrorType::InvalidHTTPHeader
        | ErrorType::H1Error
        | ErrorType::H2Error
        | ErrorType::InvalidH2 => UpstreamError::Protocol,
        _ => UpstreamError::Other,
    }
}
