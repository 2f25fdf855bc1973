use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, header};
use pingora::connectors::ConnectorOptions;
use pingora::connectors::http::v1::Connector;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::modules::http::HttpModules;
use pingora::prelude::{Error, ErrorSource, ErrorType, HttpPeer, ProxyHttp, Result, Session};
use pingora::protocols::Digest;
use pingora::proxy::{FailToProxy, ProxyWarnLogContext};

use super::filter::style;
use super::hsts::{self, HstsBuilder, HstsListener};
use super::origins::{Attempts, OriginPool};
use super::progress::Progress;
use super::{AccessCtx, AccessFilter, failure, respond, response, tunnel};
use crate::model::Reason;
use crate::observe::metrics::{InFlight, UpstreamError, metrics};

/// The standalone proxy: the Access check in front of the configured origins.
pub struct AccessProxy {
    pub(super) filter: AccessFilter,
    settings: ProxySettings,
    /// Opens connections for protocol upgrades. They are never shared.
    pub(super) upgrades: Connector,
}

/// Settings of the standalone proxy beside those of access.
#[derive(Clone, Debug)]
pub struct ProxySettings {
    /// The longest gap in the body of a request, and in a client's reading of the response; 60 s by
    /// default.
    pub body_timeout: Duration,
    /// The listeners that send `Strict-Transport-Security`; none by default.
    pub hsts: Vec<HstsListener>,
    /// The first reserved file descriptor, which no connection to an origin may use.
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
    pub(super) attempts: Attempts,
    pub(super) no_origin: bool,
    _in_flight: InFlight,
}

impl ProxyCtx {
    pub(super) fn pool(&self) -> Option<&Arc<OriginPool>> {
        pool(&self.access)
    }

    /// Excludes origins that speak only HTTP/2 from further attempts.
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
    /// Creates a proxy behind a filter.
    pub fn new(filter: AccessFilter) -> Self {
        Self {
            filter,
            settings: ProxySettings::default(),
            upgrades: Connector::new(None),
        }
    }

    /// Sets the options of connections for protocol upgrades. They should equal Pingora's options
    /// for other connections.
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

/// Returns `Content-Length`. One that is not a number must not be forwarded (RFC 9110 8.6), and
/// origins interpret lists differently.
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
        // Without a limit, Pingora would read an unwanted body as long as single bytes arrive.
        session.set_total_drain_timeout(Some(self.settings.body_timeout));
        // These end connections of clients that stop sending a body, or stop reading a response.
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
            // Boxed, so that the future of a forwarded request stays small: it is moved for each
            // request.
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
            // Boxed, because every request holds this future and few wait here.
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
        // The last descriptors are reserved for the metrics listener.
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
        if end_of_stream {
            Progress::report_body_end();
        } else {
            Progress::report_body_part();
        }
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
                "the body is longer than the application accepts",
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

    /// Retries at another address or origin. No byte was sent, so any method may be retried. After
    /// the first byte, `error_while_proxy` repeats only idempotent requests, and only if a reused
    /// connection was closed.
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

    /// Repeats idempotent requests if the origin has closed a reused connection, like Pingora's
    /// default. That detects failed reads only, but writing a part of the body can fail first.
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
        failure::respond(&self.filter, session, error, ctx).await
    }

    async fn logging(&self, session: &mut Session, error: Option<&Error>, _ctx: &mut ProxyCtx) {
        let client_is_gone = error.is_some_and(|error| *error.esource() == ErrorSource::Downstream);
        if !client_is_gone && !session.as_downstream_mut().is_body_done() {
            Box::pin(respond::read_rest(session)).await;
        }
    }

    /// Returns the text for Pingora's own log lines. It omits the query, which may hold a code.
    fn request_summary(&self, session: &Session, _ctx: &ProxyCtx) -> String {
        let request = session.req_header();
        format!("{} {}", request.method, request.uri.path())
    }

    /// Suppresses Pingora's line, because it repeats bytes of the origin. `fail_to_connect` logs
    /// failed attempts.
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
