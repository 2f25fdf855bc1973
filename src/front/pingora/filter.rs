use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Response, Uri, header};
use ipnet::IpNet;
use pingora::http::RequestHeader;
use pingora::prelude::{Error, ErrorType, Result, Session};

use super::request::{client, client_tls, has_fragment, read_form, view};
use super::watch::{Judge, Standing, WatchState};
use super::{respond, upstream};
use crate::config::Config;
use crate::control::Access;
use crate::engine::{Application, Challenge, Decision, Need, Permit, Program, Refusal, Snapshot, Style, decide};
use crate::login;
use crate::model::{ClientTls, Reason, RequestId, RequestView, UnixTime};
use crate::observe::audit::{Event, Kind, Outcome};
use crate::observe::metrics::{self, metrics};
use crate::policy;
use crate::portal::pages::ErrorPage;
use crate::portal::{self, PortalRequest, answer};

/// The Access check, for a `ProxyHttp` of one's own.
///
/// Call [`AccessFilter::request_filter`] from `request_filter`, and [`AccessFilter::upstream_request_filter`] from
/// `upstream_request_filter`. Requests that go on for long end with the access only if its `request_body_filter`,
/// `response_filter` and `response_body_filter` are called, too, and [`Cuttable`](super::Cuttable) is around the proxy.
/// `examples/embed.rs` is the whole of it.
#[derive(Clone, Debug)]
pub struct AccessFilter {
    access: Arc<Access>,
    settings: Arc<FilterSettings>,
}

/// What the filter has to know of the world it stands in.
#[derive(Clone, Debug)]
pub struct FilterSettings {
    /// The listeners, and whom each of them trusts to say where a request came from.
    pub listeners: Vec<ListenerSettings>,
    /// The most bytes of header names and values together.
    pub max_header_bytes: usize,
    /// The most header lines.
    pub max_headers: usize,
    /// The most bytes of a request's target.
    pub max_target_bytes: usize,
}

impl Default for FilterSettings {
    /// No trusted proxy; 64 KiB of headers in at most 128 lines, 16 KiB of target.
    fn default() -> Self {
        Self { listeners: Vec::new(), max_header_bytes: 64 * 1024, max_headers: 128, max_target_bytes: 16 * 1024 }
    }
}

impl From<&Config> for FilterSettings {
    fn from(config: &Config) -> Self {
        let listeners = config.listen.iter().map(|listen| ListenerSettings {
            address: listen.address,
            trusted_proxies: listen.trusted_proxies.clone(),
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
    /// Where it listens.
    pub address: SocketAddr,
    /// Peers whose `X-Forwarded-For` is believed. Nobody's, where empty.
    pub trusted_proxies: Vec<IpNet>,
}

impl ListenerSettings {
    /// Whether a connection to that local address came in here.
    pub(super) fn is_at(&self, local: &SocketAddr) -> bool {
        is_bound_to(self.address, local)
    }
}

/// Returns `true` if a listener bound to `address` accepts connections to that local address.
pub(super) fn is_bound_to(address: SocketAddr, local: &SocketAddr) -> bool {
    let here = address.ip();
    address.port() == local.port() && (here.is_unspecified() || here.to_canonical() == local.ip().to_canonical())
}

/// What the check leaves in a request's context.
#[derive(Debug, Default)]
pub struct AccessCtx {
    permit: Option<Permit>,
    client: Option<IpAddr>,
    /// Whether the team is on plain HTTP, in the snapshot that judged.
    plain_http: bool,
    rewritten: Option<Box<Rewritten>>,
    id: Option<RequestId>,
    pub(super) watch: WatchState,
}

/// What was judged, where it differs from what was sent.
#[derive(Debug, Default)]
struct Rewritten {
    target: Option<Uri>,
    host: Option<HeaderValue>,
}

impl AccessCtx {
    /// Leave to forward, once the check has given it.
    pub const fn permit(&self) -> Option<&Permit> {
        self.permit.as_ref()
    }

    /// The id of the request's event in the audit trail, where it has one.
    pub const fn request_id(&self) -> Option<RequestId> {
        self.id
    }

    /// Notes that the request has ended, under the id of its event.
    pub(super) fn end(&mut self, id: RequestId) {
        self.id = Some(id);
    }

    /// Takes the permit in; not answered here, as `request_filter` says it.
    fn admit(&mut self, admitted: Admitted) -> bool {
        let Admitted { permit, plain_http, rewritten, id } = admitted;
        self.permit = Some(permit);
        self.plain_http = plain_http;
        self.rewritten = rewritten;
        self.id = id;
        self.watch = WatchState::admitted();
        false
    }
}

/// What the check has to say of a request that may go on.
struct Admitted {
    permit: Permit,
    plain_http: bool,
    rewritten: Option<Box<Rewritten>>,
    id: Option<RequestId>,
}

/// What comes after a look at the request.
enum Next {
    Forward(Admitted),
    Respond(Response<Bytes>, RequestId),
    Handle(Box<PortalRequest>),
    Resolve(Need),
}

impl AccessFilter {
    /// A filter in front of whatever it is called from.
    pub fn new(access: Arc<Access>, settings: FilterSettings) -> Self {
        Self { access, settings: Arc::new(settings) }
    }

    /// Judges a request. `Ok(true)` means that it was answered here, as in Pingora; `Ok(false)` that it may go on, and then
    /// `ctx` holds the permit.
    ///
    /// # Errors
    /// Where the answer could not be written.
    pub async fn request_filter(&self, session: &mut Session, ctx: &mut AccessCtx) -> Result<bool> {
        let now = UnixTime::now();
        let client = client(session, &self.settings.listeners);
        ctx.client = Some(client);
        match self.look(session, client, now, &[]) {
            Next::Forward(admitted) => Ok(ctx.admit(admitted)),
            // What waits is boxed, so that the future of a request that is forwarded stays small.
            next => Box::pin(self.answer(session, ctx, next, client, now)).await,
        }
    }

    async fn answer(
        &self,
        session: &mut Session,
        ctx: &mut AccessCtx,
        next: Next,
        client: IpAddr,
        now: UnixTime,
    ) -> Result<bool> {
        let (mut next, mut tried) = (next, Vec::new());
        // It ends: `look` needs nothing twice, and no more than that many things.
        while let Next::Resolve(need) = next {
            tried.push(need.clone());
            self.access.resolve(need).await;
            next = self.look(session, client, now, &tried);
        }
        let (response, id) = match next {
            Next::Forward(admitted) => return Ok(ctx.admit(admitted)),
            Next::Respond(response, id) => (response, id),
            Next::Handle(mut request) => {
                let (id, style) = (request.id, style(session));
                let most = portal::max_body(&self.access, &request);
                let form = tokio::time::timeout(FORM_TIMEOUT, read_form(session, &request.method, most)).await;
                let too_slow = |_| Error::explain(ErrorType::ReadTimedout, "the form did not end").into_down();
                let response = match form.map_err(too_slow)?? {
                    Some(body) => {
                        request.body = body;
                        let answered = self.access.handle(*request).await;
                        answered.unwrap_or_else(|| self.refused(Reason::Internal, style, id))
                    }
                    None => self.refused(Reason::BodyTooLarge, style, id),
                };
                (response, id)
            }
            // There is none after the loop.
            Next::Resolve(_) => {
                let id = RequestId::random();
                (self.refused(Reason::Internal, style(session), id), id)
            }
        };
        respond::send(session, response, id).await?;
        Ok(true)
    }

    /// Makes the request that goes to the origin: what was judged, with our headers and nobody else's.
    ///
    /// # Errors
    /// Where there is no permit, or a header cannot be set: then nothing is forwarded.
    pub fn upstream_request_filter(
        &self,
        session: &Session,
        request: &mut RequestHeader,
        ctx: &AccessCtx,
    ) -> Result<()> {
        let Some(permit) = &ctx.permit else {
            return Error::e_explain(ErrorType::HTTPStatus(500), "no permit");
        };
        if let Some(rewritten) = &ctx.rewritten {
            if let Some(target) = &rewritten.target {
                request.set_uri(target.clone());
            }
            if let Some(host) = &rewritten.host {
                request.insert_header(header::HOST, host.clone())?;
            }
        }
        let tls = session.digest().is_some_and(|digest| digest.ssl_digest.is_some());
        let secure = tls || !ctx.plain_http;
        upstream::edit(request, permit, ctx.client, secure, ctx.id)
    }

    /// Returns the answer to a refused request, with the team's support.
    pub(super) fn refused(&self, reason: Reason, style: Style, id: RequestId) -> Response<Bytes> {
        respond::refused(reason, style, id, self.access.running().team())
    }

    /// Returns the answer that tells of an error, with the team's support.
    pub(super) fn told(&self, page: ErrorPage<'_>, style: Style) -> Response<Bytes> {
        respond::told(page, style, self.access.running().team())
    }

    /// Copies what a request is judged by, for its watch.
    pub(super) fn copy_running(&self, session: &Session, ctx: &AccessCtx) -> Option<Running> {
        Some(Running {
            filter: self.clone(),
            request: session.req_header().clone(),
            client: ctx.client.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
            tls: client_tls(session).cloned(),
            permit: ctx.permit.as_ref()?.for_the_log(),
            id: ctx.id,
        })
    }

    /// Refuses after all what was let through: counts and tells it under the id that the request has, or a new one.
    pub(super) fn refuse(&self, session: &Session, ctx: &AccessCtx, reason: Reason) -> RequestId {
        let id = ctx.id.unwrap_or_else(RequestId::random);
        metrics().request(metrics::Decision::Deny, Some(reason));
        let client = ctx.client.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let seen = view(session.req_header(), client, client_tls(session), &self.settings);
        if let (Some(permit), Ok(request)) = (&ctx.permit, seen) {
            let refused = permitted(permit, event(&self.access.running(), Outcome::Refused, &request, id));
            Event { reason: Some(reason.id()), ..refused }.emit();
        }
        id
    }

    /// One look at the request, after attempts to learn these things. Everything that borrows from it ends here.
    fn look(&self, session: &Session, client: IpAddr, now: UnixTime, tried: &[Need]) -> Next {
        let native = session.req_header();
        let seen = match has_fragment(session) {
            false => view(native, client, client_tls(session), &self.settings),
            true => Err(Reason::PathAmbiguous),
        };
        let request = match seen {
            Ok(request) => request,
            Err(reason) => {
                let id = RequestId::random();
                metrics().request(metrics::Decision::Deny, Some(reason));
                let refused = Event {
                    reason: Some(reason.id()),
                    client: Some(client),
                    country: self.access.running().country_of(Some(client)),
                    method: Some(native.method.as_str()),
                    ..Event::new(Kind::Access, Outcome::Refused, id)
                };
                refused.emit();
                return Next::Respond(self.refused(reason, style(session), id), id);
            }
        };
        let snapshot = self.access.running();
        match decide(&snapshot, &request, now) {
            Decision::Forward(permit) => self.forward(&snapshot, &request, permit),
            Decision::Resolve(need) if tried.len() < MAX_NEEDS && !tried.contains(&need) => Next::Resolve(need),
            Decision::Handle { endpoint, on_team } => Next::Handle(Box::new(PortalRequest {
                endpoint,
                on_team,
                method: request.method.clone(),
                host: request.authority.host.to_string(),
                path: request.path.normalized().into_owned(),
                query: request.query.map(str::to_owned),
                headers: request.headers.clone(),
                client,
                body: Bytes::new(),
                id: RequestId::random(),
                support: snapshot.team().support.clone(),
                now,
            })),
            Decision::Preflight(application) => {
                metrics().request(metrics::Decision::Endpoint, None);
                let mut response = answer::empty(http::StatusCode::NO_CONTENT);
                if let Some(cors) = &application.settings().cors {
                    response.headers_mut().extend(cors.preflight(request.headers));
                }
                Next::Respond(response, RequestId::random())
            }
            decision => {
                let id = RequestId::random();
                Next::Respond(self.answer_to(&snapshot, &request, decision, id, now), id)
            }
        }
    }

    fn forward(&self, snapshot: &Snapshot, request: &RequestView<'_>, permit: Permit) -> Next {
        metrics().request(metrics::Decision::Allow, None);
        let shadow = permit.shadow();
        count_shadow(permit.application(), shadow);
        if let Some(Program::ServiceToken(token)) = permit.program() {
            metrics().service_token(&token.id, metrics::Decision::Allow);
        }
        let told = shadow.is_some() || permit.is_authenticated() && self.access.samples();
        let id = told.then(RequestId::random);
        if let Some(id) = id {
            permitted(&permit, event(snapshot, Outcome::Allowed, request, id)).emit();
        }
        let plain_http = snapshot.team().plain_http;
        match rewritten(request, snapshot.team().port.is_none()) {
            Ok(rewritten) => Next::Forward(Admitted { permit, plain_http, rewritten, id }),
            Err(reason) => {
                let id = id.unwrap_or_else(RequestId::random);
                Next::Respond(self.refused(reason, Style::of(request), id), id)
            }
        }
    }

    /// Everything that is neither forwarded nor handled.
    fn answer_to(
        &self,
        snapshot: &Snapshot,
        request: &RequestView<'_>,
        decision: Decision,
        id: RequestId,
        now: UnixTime,
    ) -> Response<Bytes> {
        let style = Style::of(request);
        match decision {
            Decision::LogIn(challenge) => {
                metrics().request(metrics::Decision::Login, Some(challenge.reason));
                challenged(snapshot, &challenge, request, id);
                login::respond(snapshot.team(), &challenge, request, id, now)
            }
            Decision::Deny(refusal) => {
                record(snapshot, metrics::Decision::Deny, Outcome::Refused, &refusal, request, id);
                let login = login_again(snapshot, &refusal, request, now);
                respond::denied(&refusal, &login, request, snapshot.team(), id)
            }
            Decision::Unavailable(refusal) => {
                record(snapshot, metrics::Decision::Unavailable, Outcome::Unavailable, &refusal, request, id);
                respond::unavailable(refusal.reason, request, snapshot.team(), id)
            }
            Decision::Refuse(reason) => {
                metrics().request(metrics::Decision::Deny, Some(reason));
                Event { reason: Some(reason.id()), ..event(snapshot, Outcome::Refused, request, id) }.emit();
                self.refused(reason, style, id)
            }
            // What is not there after it was to be learned cannot be.
            Decision::Resolve(_) => {
                metrics().request(metrics::Decision::Unavailable, Some(Reason::IdentityUnavailable));
                Event { reason: Some("unresolved"), ..event(snapshot, Outcome::Unavailable, request, id) }.emit();
                respond::unavailable(Reason::IdentityUnavailable, request, snapshot.team(), id)
            }
            Decision::Forward(_) | Decision::Preflight(_) | Decision::Handle { .. } => {
                self.refused(Reason::Internal, style, id)
            }
        }
    }
}

/// A request that goes on, with everything that it was judged by.
pub(super) struct Running {
    filter: AccessFilter,
    request: RequestHeader,
    client: IpAddr,
    tls: Option<ClientTls>,
    /// The permit that it was let through with.
    permit: Permit,
    id: Option<RequestId>,
}

impl Judge for Running {
    async fn judge(&self) -> Standing {
        let mut tried = Vec::new();
        loop {
            match self.evaluate() {
                Ok(standing) => return standing,
                Err(need) if tried.len() < MAX_NEEDS && !tried.contains(&need) => {
                    tried.push(need.clone());
                    self.filter.access.resolve(need).await;
                }
                Err(_) => return Standing::Unknown,
            }
        }
    }

    fn record_cut(&self, reason: Option<Reason>) -> RequestId {
        let id = self.id.unwrap_or_else(RequestId::random);
        metrics().cut(reason);
        let (name, reason) = (&self.permit.application().settings().name, reason.map(Reason::id));
        tracing::info!(
            request_id = %id,
            application = name,
            reason,
            "cut a running request that is no longer allowed"
        );
        if let Ok(request) = view(&self.request, self.client, self.tls.as_ref(), &self.filter.settings) {
            let ended = event(&self.filter.access.running(), Outcome::Ended, &request, id);
            Event { reason, ..permitted(&self.permit, ended) }.emit();
        }
        id
    }
}

impl Running {
    /// Evaluates the request as a new one, without waiting for what is missing.
    pub(super) fn judge_now(&self) -> Standing {
        self.evaluate().unwrap_or(Standing::Unknown)
    }

    fn evaluate(&self) -> Result<Standing, Need> {
        let request = match view(&self.request, self.client, self.tls.as_ref(), &self.filter.settings) {
            Ok(request) => request,
            Err(reason) => return Ok(Standing::Ended(Some(reason))),
        };
        Ok(match decide(&self.filter.access.running(), &request, UnixTime::now()) {
            Decision::Forward(permit) if permit.application().aud() == self.permit.application().aud() => {
                Standing::Allowed
            }
            Decision::Resolve(need) => return Err(need),
            // Both have been out of reach for longer than a new request may rely on them.
            Decision::Unavailable(Refusal {
                reason: reason @ (Reason::KeysUnavailable | Reason::RevocationsUnavailable),
                ..
            }) => Standing::Ended(Some(reason)),
            Decision::Unavailable(_) => Standing::Unknown,
            Decision::LogIn(challenge) => Standing::Ended(Some(challenge.reason)),
            Decision::Deny(refusal) => Standing::Ended(Some(refusal.reason)),
            Decision::Refuse(reason) => Standing::Ended(Some(reason)),
            Decision::Forward(_) | Decision::Preflight(_) | Decision::Handle { .. } => Standing::Ended(None),
        })
    }
}

/// In which way this client can be told that something went wrong.
pub(super) fn style(session: &Session) -> Style {
    let request = session.req_header();
    Style::asked(&request.method, &request.headers)
}

/// What the origin gets in place of what was sent, where it differs.
fn rewritten(request: &RequestView<'_>, default_port: bool) -> Result<Option<Box<Rewritten>>, Reason> {
    let host = request.authority.rewritten(default_port);
    if host.is_none() && !request.path.is_rewritten() {
        return Ok(None);
    }
    let mut rewritten = Box::<Rewritten>::default();
    if request.path.is_rewritten() {
        let path = request.path.as_str();
        let target = request.query.map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
        rewritten.target = Some(target.parse().map_err(|_| Reason::PathAmbiguous)?);
    }
    // A target that is a path alone carries no authority: HTTP/2 takes it from the header then.
    let host = host.or_else(|| rewritten.target.as_ref().map(|_| request.authority.text(default_port)));
    if let Some(host) = host {
        rewritten.host = Some(HeaderValue::try_from(host).map_err(|_| Reason::HostMalformed)?);
    }
    Ok(Some(rewritten))
}

/// The login of the page that somebody may not see.
fn login_again(snapshot: &Snapshot, refusal: &Refusal, request: &RequestView<'_>, now: UnixTime) -> String {
    let Some(application) = &refusal.application else { return "/".to_owned() };
    let to = login::ReturnTo::parse(request.path.as_str());
    let host = request.authority.host.as_ref();
    let session = login::AppSession::of(request.headers);
    login::login_url(snapshot.team(), application, host, &to, session.as_ref(), now)
}

fn count_shadow(application: &Application, shadow: Option<(&str, policy::Outcome)>) {
    if let Some((name, outcome)) = shadow {
        metrics().shadow(&application.settings().name, name, outcome.as_str());
    }
}

/// A challenge is no event, unless a shadow policy would have made another decision of it.
fn challenged(snapshot: &Snapshot, challenge: &Challenge, request: &RequestView<'_>, id: RequestId) {
    let Some((policy, outcome)) = challenge.shadow() else { return };
    let Challenge { application, reason, .. } = challenge;
    count_shadow(application, Some((policy, outcome)));
    let told = Event {
        reason: Some(reason.id()),
        application: Some(&application.settings().name),
        aud: Some(application.aud().as_str()),
        shadow: Some((policy, outcome.as_str())),
        ..event(snapshot, Outcome::Refused, request, id)
    };
    told.emit();
}

fn record(
    snapshot: &Snapshot,
    counted: metrics::Decision,
    outcome: Outcome,
    refusal: &Refusal,
    request: &RequestView<'_>,
    id: RequestId,
) {
    metrics().request(counted, Some(refusal.reason));
    let application = refusal.application.as_deref();
    if let Some(application) = application {
        count_shadow(application, refusal.shadow());
    }
    let refused = Event {
        reason: Some(refusal.reason.id()),
        application: application.map(|a| a.settings().name.as_str()),
        aud: application.map(|a| a.aud().as_str()),
        email: refusal.email(),
        user: refusal.user(),
        policy: application.zip(refusal.policy).and_then(|(a, place)| a.policy(place)).map(|(name, _)| name),
        shadow: refusal.shadow().map(|(name, outcome)| (name, outcome.as_str())),
        ..of_program(refusal.program.as_ref(), event(snapshot, outcome, request, id))
    };
    refused.emit();
    if let Some(Program::ServiceToken(token)) = &refusal.program {
        metrics().service_token(&token.id, counted);
    }
}

/// The event with which program it is.
fn of_program<'a>(program: Option<&'a Program>, event: Event<'a>) -> Event<'a> {
    match program {
        None => event,
        Some(Program::ServiceToken(token)) => Event { service_token: Some((&token.id, &token.name)), ..event },
        Some(Program::Certificate(certificate)) => Event { common_name: Some(&certificate.common_name), ..event },
        Some(Program::LinkedApp { application, .. }) => {
            Event { linked_application: Some(&application.settings().name), ..event }
        }
    }
}

fn event<'a>(snapshot: &Snapshot, outcome: Outcome, request: &'a RequestView<'_>, id: RequestId) -> Event<'a> {
    Event {
        client: Some(request.client),
        country: snapshot.country_of(Some(request.client)),
        method: Some(request.method.as_str()),
        host: Some(&request.authority.host),
        path: Some(request.path.as_str()),
        user_agent: request.headers.get(http::header::USER_AGENT).map(http::HeaderValue::as_bytes),
        ..Event::new(Kind::Access, outcome, id)
    }
}

/// The event with who was let through, where, and by which policy.
fn permitted<'a>(permit: &'a Permit, event: Event<'a>) -> Event<'a> {
    Event {
        application: Some(&permit.application().settings().name),
        aud: Some(permit.application().aud().as_str()),
        email: permit.email(),
        user: permit.user(),
        policy: permit.policy(),
        shadow: permit.shadow().map(|(name, outcome)| (name, outcome.as_str())),
        ..of_program(permit.program(), event)
    }
}

/// Keys, an assertion, and the records of a few logins.
const MAX_NEEDS: usize = 6;
const FORM_TIMEOUT: Duration = Duration::from_secs(10);
