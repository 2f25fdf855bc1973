//! The Access check behind every front: a request in, the next step of the front out.
//!
//! Decides which response each decision of the engine gets, which headers the origin receives, and
//! which requests are counted and audited. Trusts the engine's decision and the front's
//! [`RequestView`]. Never forwards without a permit, and never waits unless the engine needs a fact
//! that must be fetched first.

mod audit;
mod failure;
mod headers;
mod responses;
mod running;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Uri};

pub(crate) use self::failure::Failure;
pub(crate) use self::headers::{Downstream, HeaderEdits};
#[cfg(test)]
pub(crate) use self::running::tests::Scripted;
pub(crate) use self::running::{EVALUATE_EVERY, Evaluate, Reevaluation, may_last, until_ended};
use crate::control::Access;
use crate::engine::{Decision, Need, Permit, Refusal, Snapshot, Style, Team, decide};
use crate::login::{self, LoginUrl, PortalRequest};
use crate::model::{Reason, RequestId, RequestView, UnixTime};
use crate::observe::audit::Outcome;
use crate::observe::metrics::{self, metrics};
use crate::pages::answer;
use crate::portal::{self, LoginRequired};

/// The Access check.
#[derive(Clone, Debug)]
pub(crate) struct Gate {
    access: Arc<Access>,
}

/// The next step of a front with a request.
pub(crate) enum Reply {
    /// Send the request to the origin.
    Forward(Forwarded),
    /// Send this response to the client.
    Respond(Response<Bytes>, RequestId),
    /// Read the body, if there is one, and pass the request to [`Gate::handle`].
    Portal(Box<PortalRequest>),
}

/// A request that may go to the origin.
#[derive(Debug)]
pub(crate) struct Forwarded {
    pub(crate) permit: Permit,
    /// The target and host of the decision, if they differ from those that were sent.
    pub(crate) rewritten: Option<Box<Rewritten>>,
    /// The id of the request's audit event, if it has one.
    pub(crate) id: Option<RequestId>,
    /// `true` if the team is on plain HTTP, in the snapshot of the decision.
    pub(crate) plain_http: bool,
}

/// Parts of the request that replace those of the client.
#[derive(Debug, Default)]
pub(crate) struct Rewritten {
    pub(crate) target: Option<Uri>,
    pub(crate) host: Option<HeaderValue>,
}

/// The parts of a request that cannot become a [`RequestView`], for its refusal.
pub(crate) struct Malformed<'a> {
    pub(crate) method: &'a Method,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) client: IpAddr,
}

impl Gate {
    pub(crate) const fn new(access: Arc<Access>) -> Self {
        Self { access }
    }

    /// Returns the time by which requests are checked.
    pub(crate) fn now(&self) -> UnixTime {
        self.access.running.now()
    }

    /// Checks a request without waiting.
    ///
    /// # Errors
    /// If the engine needs a fact first. [`Gate::check_after`] fetches it and continues.
    pub(crate) fn check(&self, request: &RequestView<'_>, now: UnixTime) -> Result<Reply, Need> {
        self.attempt(request, now, &[])
    }

    /// Fetches the fact that [`Gate::check`] needs, and checks the request again.
    pub(crate) async fn check_after(
        &self,
        need: Need,
        request: &RequestView<'_>,
        now: UnixTime,
    ) -> Reply {
        let (mut need, mut fetched) = (need, Vec::new());
        // This ends: `attempt` needs no fact twice, and at most `MAX_NEEDS` facts.
        loop {
            fetched.push(need.clone());
            self.access.resolve(need).await;
            match self.attempt(request, now, &fetched) {
                Ok(reply) => return reply,
                Err(next) => need = next,
            }
        }
    }

    fn attempt(
        &self,
        request: &RequestView<'_>,
        now: UnixTime,
        fetched: &[Need],
    ) -> Result<Reply, Need> {
        let snapshot = self.access.running.load();
        Ok(match decide(&snapshot, request, now) {
            Decision::Forward(permit) => self.forward(&snapshot, request, permit),
            Decision::Resolve(need) if fetched.len() < MAX_NEEDS && !fetched.contains(&need) => {
                return Err(need);
            }
            Decision::Handle {
                endpoint,
                host_role,
            } => {
                let team = snapshot.team();
                Reply::Portal(Box::new(PortalRequest::new(
                    request, endpoint, host_role, team, now,
                )))
            }
            Decision::Preflight(application) => {
                metrics().request(metrics::Decision::Endpoint, None);
                let mut response = answer::empty(StatusCode::NO_CONTENT);
                if let Some(cors) = &application.settings().cors {
                    response
                        .headers_mut()
                        .extend(cors.preflight(request.headers));
                }
                Reply::Respond(response, RequestId::random())
            }
            decision => {
                let id = RequestId::random();
                Reply::Respond(self.respond(&snapshot, request, decision, id, now), id)
            }
        })
    }

    fn forward(&self, snapshot: &Snapshot, request: &RequestView<'_>, permit: Permit) -> Reply {
        let is_sampled = permit.is_authenticated() && self.access.running.samples();
        let id = audit::forwarded(snapshot, request, &permit, is_sampled);
        let plain_http = snapshot.team().plain_http;
        match rewritten(request, snapshot.team()) {
            Ok(rewritten) => Reply::Forward(Forwarded {
                permit,
                rewritten,
                id,
                plain_http,
            }),
            Err(reason) => {
                let id = id.unwrap_or_else(RequestId::random);
                Reply::Respond(self.refused(reason, Style::for_request(request), id), id)
            }
        }
    }

    /// Returns the response to a request that is neither forwarded nor handled.
    fn respond(
        &self,
        snapshot: &Snapshot,
        request: &RequestView<'_>,
        decision: Decision,
        id: RequestId,
        now: UnixTime,
    ) -> Response<Bytes> {
        let (team, style) = (snapshot.team(), Style::for_request(request));
        match decision {
            Decision::LogIn(challenge) => {
                audit::challenged(snapshot, &challenge, request, id);
                LoginRequired {
                    team,
                    challenge: &challenge,
                    request,
                    id,
                    now,
                }
                .respond()
            }
            Decision::Deny(refusal) => {
                audit::refused(
                    snapshot,
                    metrics::Decision::Deny,
                    Outcome::Refused,
                    &refusal,
                    request,
                    id,
                );
                let login = login_again(snapshot, &refusal, request, now);
                responses::denied(&refusal, &login, request, team, id)
            }
            Decision::Unavailable(refusal) => {
                audit::refused(
                    snapshot,
                    metrics::Decision::Unavailable,
                    Outcome::Unavailable,
                    &refusal,
                    request,
                    id,
                );
                responses::unavailable(refusal.reason, request, team, id)
            }
            Decision::Refuse(reason) => {
                audit::rejected(snapshot, reason, request, id);
                self.refused(reason, style, id)
            }
            // The fact was fetched and is still missing.
            Decision::Resolve(_) => {
                audit::unresolved(snapshot, request, id);
                responses::unavailable(Reason::IdentityUnavailable, request, team, id)
            }
            Decision::Forward(_) | Decision::Preflight(_) | Decision::Handle { .. } => {
                self.refused(Reason::Internal, style, id)
            }
        }
    }

    /// Refuses a request that cannot be read.
    pub(crate) fn reject(&self, reason: Reason, request: &Malformed<'_>) -> Reply {
        let id = RequestId::random();
        audit::malformed(&self.access.running.load(), reason, request, id);
        let style = Style::for_parts(request.method, request.headers);
        Reply::Respond(self.refused(reason, style, id), id)
    }

    /// Records that a forwarded request is refused after all, under its id or a new one. Returns
    /// that id.
    ///
    /// `request` is the request as the front reads it now, if it still can.
    pub(crate) fn refuse(
        &self,
        forwarded: Option<&Forwarded>,
        request: Option<&RequestView<'_>>,
        reason: Reason,
    ) -> RequestId {
        let id = forwarded
            .and_then(|forwarded| forwarded.id)
            .unwrap_or_else(RequestId::random);
        let permitted = forwarded.map(|forwarded| &forwarded.permit).zip(request);
        audit::refused_later(&self.access.running.load(), permitted, reason, id);
        id
    }

    /// Returns the most bytes that the body of a request to one of our endpoints may have.
    pub(crate) fn max_body(&self, request: &PortalRequest) -> usize {
        portal::max_body(&self.access.running, request)
    }

    /// Answers a request to one of our endpoints on the control runtime, and counts it. A refusal
    /// by policy carries its reason in the response's extensions.
    pub(crate) async fn handle(&self, request: PortalRequest) -> Response<Bytes> {
        let (id, style) = (
            request.id,
            Style::for_parts(&request.method, &request.headers),
        );
        let access = Arc::clone(&self.access);
        let answered = self
            .access
            .runtime()
            // On the control runtime: a client that disconnects must not cancel a login half-way,
            // because its code and flow are used up.
            .spawn(async move { portal::handle(&access.endpoints, &request).await })
            .await;
        let answered = answered
            .map_err(|error| tracing::error!(%error, "an endpoint failed"))
            .ok();
        let (decision, reason) = match &answered {
            None => (metrics::Decision::Unavailable, Some(Reason::Internal)),
            Some(answer) => match answer.extensions().get::<Reason>() {
                Some(reason) => (metrics::Decision::Deny, Some(*reason)),
                None => (metrics::Decision::Endpoint, None),
            },
        };
        metrics().request(decision, reason);
        answered.unwrap_or_else(|| self.refused(Reason::Internal, style, id))
    }

    /// Returns the response to a refused request, with the team's support.
    pub(crate) fn refused(&self, reason: Reason, style: Style, id: RequestId) -> Response<Bytes> {
        responses::refused(reason, style, id, self.access.running.load().team())
    }
}

/// Returns the target and host of the decision, if they differ from those that were sent.
fn rewritten(request: &RequestView<'_>, team: &Team) -> Result<Option<Box<Rewritten>>, Reason> {
    let default_port = team.port.is_none();
    let host = request.authority.rewritten(default_port);
    if host.is_none() && !request.path.is_rewritten() {
        return Ok(None);
    }
    let mut rewritten = Box::<Rewritten>::default();
    if request.path.is_rewritten() {
        let path = request.path.as_str();
        let target = request
            .query
            .map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
        rewritten.target = Some(target.parse().map_err(|_| Reason::PathAmbiguous)?);
    }
    // A target without an authority needs the header: HTTP/2 makes its `:authority` of it.
    let host = host.or_else(|| {
        rewritten
            .target
            .as_ref()
            .map(|_| request.authority.text(default_port))
    });
    if let Some(host) = host {
        rewritten.host = Some(HeaderValue::try_from(host).map_err(|_| Reason::HostMalformed)?);
    }
    Ok(Some(rewritten))
}

/// Returns the URL of a new login for a denied page.
fn login_again(
    snapshot: &Snapshot,
    refusal: &Refusal,
    request: &RequestView<'_>,
    now: UnixTime,
) -> String {
    let Some(application) = &refusal.application else {
        return "/".to_owned();
    };
    let to = login::ReturnTo::parse(request.path.as_str());
    let host = request.authority.host.as_ref();
    let session = login::AppSession::from_headers(request.headers);
    LoginUrl {
        team: snapshot.team(),
        application,
        host,
        to: &to,
        app_session: session.as_ref(),
    }
    .build(now)
}

/// Limits the fetches for one request: keys, an assertion, and the records of a few logins.
const MAX_NEEDS: usize = 6;
