use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Response, header};
use ipnet::IpNet;
use pingora::http::RequestHeader;
use pingora::prelude::{Error, ErrorType, ErrorType::InvalidHTTPHeader, OrErr, Result, Session};

use super::request::{client, client_tls, has_fragment, read_form, view};
use super::respond;
use super::watch::WatchState;
use crate::config::Config;
use crate::control::Access;
use crate::engine::{Need, Permit, Style};
use crate::gate::{
    Downstream, Evaluate, Failure, Forwarded, Gate, HeaderEdits, Malformed, Reevaluation, Reply,
};
use crate::model::{ClientTls, Reason, RequestId, RequestView, UnixTime};

/// The Access check for your own `ProxyHttp`.
///
/// Call [`AccessFilter::request_filter`] from `request_filter`, and
/// [`AccessFilter::upstream_request_filter`] from `upstream_request_filter`. To end long requests
/// when access ends, also call `request_body_filter`, `response_filter` and `response_body_filter`,
/// and wrap the proxy in [`Cuttable`](super::Cuttable). `examples/embed.rs` is a complete example.
#[derive(Clone, Debug)]
pub struct AccessFilter {
    gate: Gate,
    settings: Arc<FilterSettings>,
}

/// The listeners in front of the filter, and limits of request heads.
#[derive(Clone, Debug)]
pub struct FilterSettings {
    /// The listeners and their trusted proxies.
    pub listeners: Vec<ListenerSettings>,
    /// The limit for header names and values together, in bytes.
    pub max_header_bytes: usize,
    /// The limit of header lines.
    pub max_headers: usize,
    /// The limit for a request's target, in bytes.
    pub max_target_bytes: usize,
}

impl Default for FilterSettings {
    /// No trusted proxies; 64 KiB of headers in at most 128 lines, and 16 KiB of target.
    fn default() -> Self {
        Self {
            listeners: Vec::new(),
            max_header_bytes: 64 * 1024,
            max_headers: 128,
            max_target_bytes: 16 * 1024,
        }
    }
}

impl From<&Config> for FilterSettings {
    fn from(config: &Config) -> Self {
        let listeners = config.listen.iter().map(|listen| ListenerSettings {
            address: listen.address,
            // With the PROXY protocol, the peer's address is already the client's. A client may be
            // in a trusted network, but it is not a proxy, so its headers must not be trusted.
            trusted_proxies: if listen.proxy_protocol {
                Vec::new()
            } else {
                listen.trusted_proxies.clone()
            },
        });
        let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        Self {
            listeners: listeners.collect(),
            max_header_bytes: size(config.limits.header_bytes),
            max_headers: size(config.limits.header_count),
            max_target_bytes: size(config.limits.target_bytes),
        }
    }
}

/// A listener.
#[derive(Clone, Debug)]
pub struct ListenerSettings {
    /// The address that the listener is bound to.
    pub address: SocketAddr,
    /// The networks of peers whose `X-Forwarded-For` is trusted.
    pub trusted_proxies: Vec<IpNet>,
}

impl ListenerSettings {
    /// Returns `true` if the listener accepts connections to that local address.
    pub(super) fn is_at(&self, local: &SocketAddr) -> bool {
        is_bound_to(self.address, local)
    }
}

/// Returns `true` if a listener bound to `address` accepts connections to that local address.
pub(super) fn is_bound_to(address: SocketAddr, local: &SocketAddr) -> bool {
    let here = address.ip();
    address.port() == local.port()
        && (here.is_unspecified() || here.to_canonical() == local.ip().to_canonical())
}

/// The state of the check in a request's context.
#[derive(Debug, Default)]
pub struct AccessCtx {
    client: Option<IpAddr>,
    forwarded: Option<Forwarded>,
    pub(super) watch: WatchState,
}

impl AccessCtx {
    /// Returns the permission to forward the request, once the check has granted it.
    pub const fn permit(&self) -> Option<&Permit> {
        match &self.forwarded {
            Some(forwarded) => Some(&forwarded.permit),
            None => None,
        }
    }

    /// Returns the id of the request's audit event, if there is one.
    pub const fn request_id(&self) -> Option<RequestId> {
        match &self.forwarded {
            Some(forwarded) => forwarded.id,
            None => None,
        }
    }

    fn admit(&mut self, forwarded: Forwarded) {
        self.forwarded = Some(forwarded);
        self.watch = WatchState::admitted();
    }

    /// Sets the id of the audit event about the end of the request.
    pub(super) fn end(&mut self, id: RequestId) {
        if let Some(forwarded) = &mut self.forwarded {
            forwarded.id = Some(id);
        }
    }
}

impl AccessFilter {
    /// Creates a filter.
    pub fn new(access: Arc<Access>, settings: FilterSettings) -> Self {
        Self {
            gate: Gate::new(access),
            settings: Arc::new(settings),
        }
    }

    /// Checks a request. As in Pingora, `Ok(true)` means that a response was sent. `Ok(false)` means
    /// that the request may be forwarded, and `ctx` holds the permit.
    ///
    /// # Errors
    /// If the response could not be written.
    pub async fn request_filter(&self, session: &mut Session, ctx: &mut AccessCtx) -> Result<bool> {
        let now = self.gate.now();
        let client = client(session, &self.settings.listeners);
        ctx.client = Some(client);
        let checked = match self.read(session, client) {
            Ok(request) => self.gate.check(&request, now),
            Err(reason) => Ok(self.reject(session, client, reason)),
        };
        match checked {
            Ok(Reply::Forward(forwarded)) => {
                ctx.admit(forwarded);
                Ok(false)
            }
            // Everything that waits is boxed, so that the future of a forwarded request stays small.
            checked => Box::pin(self.finish(session, ctx, checked, now)).await,
        }
    }

    async fn finish(
        &self,
        session: &mut Session,
        ctx: &mut AccessCtx,
        checked: Result<Reply, Need>,
        now: UnixTime,
    ) -> Result<bool> {
        let client = ctx.client.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let reply = match checked {
            Ok(reply) => reply,
            Err(need) => match self.read(session, client) {
                Ok(request) => self.gate.check_after(need, &request, now).await,
                Err(reason) => self.reject(session, client, reason),
            },
        };
        let (response, id) = match reply {
            Reply::Forward(forwarded) => {
                ctx.admit(forwarded);
                return Ok(false);
            }
            Reply::Respond(response, id) => (response, id),
            Reply::Portal(mut request) => {
                let id = request.id;
                let most = self.gate.max_body(&request);
                let form =
                    tokio::time::timeout(FORM_TIMEOUT, read_form(session, &request.method, most))
                        .await;
                let too_slow =
                    |_| Error::explain(ErrorType::ReadTimedout, "the form did not end").into_down();
                let response = match form.map_err(too_slow)?? {
                    Some(body) => {
                        request.body = body;
                        self.gate.handle(*request).await
                    }
                    None => self.refused(Reason::BodyTooLarge, style(session), id),
                };
                (response, id)
            }
        };
        respond::send(session, response, id).await?;
        Ok(true)
    }

    /// Returns the request in the engine's form.
    fn read<'a>(&self, session: &'a Session, client: IpAddr) -> Result<RequestView<'a>, Reason> {
        if has_fragment(session) {
            return Err(Reason::PathAmbiguous);
        }
        view(
            session.req_header(),
            client,
            client_tls(session),
            &self.settings,
        )
    }

    fn reject(&self, session: &Session, client: IpAddr, reason: Reason) -> Reply {
        let request = session.req_header();
        self.gate.reject(
            reason,
            &Malformed {
                method: &request.method,
                headers: &request.headers,
                client,
            },
        )
    }

    /// Turns the client's request into the one for the origin: the evaluated host and path, with our
    /// identity headers in place of the client's.
    ///
    /// Header names are sent in lower case, as over HTTP/2. Pingora keeps the original spelling in a
    /// second map, and writing to both maps costs more than the whole decision.
    ///
    /// # Errors
    /// If there is no permit, or a header cannot be set. Then nothing is forwarded.
    pub fn upstream_request_filter(
        &self,
        session: &Session,
        request: &mut RequestHeader,
        ctx: &AccessCtx,
    ) -> Result<()> {
        let Some(forwarded) = &ctx.forwarded else {
            // Cannot happen after `request_filter`. If a hook was forgotten, nothing is forwarded.
            return Error::e_explain(ErrorType::HTTPStatus(500), "no permit");
        };
        if let Some(rewritten) = &forwarded.rewritten {
            if let Some(target) = &rewritten.target {
                request.set_uri(target.clone());
            }
            if let Some(host) = &rewritten.host {
                request.insert_header(header::HOST, host.clone())?;
            }
        }
        let is_tls = session
            .digest()
            .is_some_and(|digest| digest.ssl_digest.is_some());
        let (none, ()) = http::Request::new(()).into_parts();
        let mut parts: http::request::Parts = std::mem::replace(request, none.into()).into();
        let downstream = Downstream {
            authority: parts.uri.authority().map(http::uri::Authority::as_str),
            client: ctx.client,
            is_tls,
        };
        let edits = HeaderEdits::new(&parts.headers, forwarded, downstream);
        let edited = edits.map(|edits| edits.apply(&mut parts.headers));
        *request = parts.into();
        edited.or_err(InvalidHTTPHeader, "a header for the origin")
    }

    /// Returns the response to a refused request, with the team's support contact.
    pub(super) fn refused(&self, reason: Reason, style: Style, id: RequestId) -> Response<Bytes> {
        self.gate.refused(reason, style, id)
    }

    /// Returns the response to a failed request.
    pub(super) fn failed(
        &self,
        failure: Failure,
        request: &RequestHeader,
        id: RequestId,
    ) -> Response<Bytes> {
        let style = Style::for_parts(&request.method, &request.headers);
        self.gate
            .failed(failure, &request.method, &request.uri, style, id)
    }

    /// Copies the parts of a request that its watch needs to evaluate it again.
    pub(super) fn copy_running(
        &self,
        session: &Session,
        ctx: &AccessCtx,
    ) -> Option<RunningRequest> {
        Some(RunningRequest {
            filter: self.clone(),
            request: session.req_header().clone(),
            client: ctx.client.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
            tls: client_tls(session).cloned(),
            permit: ctx.permit()?.for_the_log(),
            id: ctx.request_id(),
        })
    }

    /// Records that a permitted request is refused after all. Returns the id of the event, which is
    /// the request's own if it has one.
    pub(super) fn refuse(&self, session: &Session, ctx: &AccessCtx, reason: Reason) -> RequestId {
        let client = ctx.client.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let request = view(
            session.req_header(),
            client,
            client_tls(session),
            &self.settings,
        )
        .ok();
        self.gate
            .refuse(ctx.forwarded.as_ref(), request.as_ref(), reason)
    }
}

/// A running request, with everything that is needed to evaluate it again.
pub(super) struct RunningRequest {
    filter: AccessFilter,
    request: RequestHeader,
    client: IpAddr,
    tls: Option<ClientTls>,
    /// The permit under which it was forwarded.
    permit: Permit,
    id: Option<RequestId>,
}

impl Evaluate for RunningRequest {
    async fn evaluate(&self) -> Reevaluation {
        match self.view() {
            Ok(request) => self.filter.gate.judge(&request, &self.permit).await,
            Err(reason) => Reevaluation::Ended(Some(reason)),
        }
    }

    fn record_cut(&self, reason: Option<Reason>) -> RequestId {
        self.filter
            .gate
            .record_cut(self.view().ok().as_ref(), &self.permit, reason, self.id)
    }
}

impl RunningRequest {
    /// Evaluates the request as a new one, without waiting for missing facts.
    pub(super) fn evaluate_now(&self) -> Reevaluation {
        match self.view() {
            Ok(request) => self
                .filter
                .gate
                .judge_now(&request, &self.permit)
                .unwrap_or(Reevaluation::Unknown),
            Err(reason) => Reevaluation::Ended(Some(reason)),
        }
    }

    fn view(&self) -> Result<RequestView<'_>, Reason> {
        view(
            &self.request,
            self.client,
            self.tls.as_ref(),
            &self.filter.settings,
        )
    }
}

/// Returns the form of errors that this client can read.
pub(super) fn style(session: &Session) -> Style {
    let request = session.req_header();
    Style::for_parts(&request.method, &request.headers)
}

// A browser sends a form at once. A client that sends it slowly must not hold a connection.
const FORM_TIMEOUT: Duration = Duration::from_secs(10);
