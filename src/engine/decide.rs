use std::sync::Arc;

use http::Method;

use super::challenge::is_preflight;
use super::other_target;
use super::reserved::overrides_method;
use super::service_clients::ClientFacts;
use super::{
    Application, Challenge, Decision, IdentityState, Need, Permit, Refusal, ServiceClient,
    Snapshot, Style, credential,
};
use crate::model::{CleanPath, IdentityNonce, PathError, Reason, RequestView, Secret, UnixTime};
use crate::policy::{EarlyVerdict, Facts, Outcome, ShadowVerdict, Truth, Verdict};
use crate::route::Endpoint;
use crate::session::{IdentityLookup, Session};
use crate::token::{TokenError, UnverifiedToken};

/// Decides what should happen to a request, from what is known right now.
///
/// On [`Decision::Resolve`] the caller awaits the control path and calls again, once for each
/// [`Need`]; a need that comes a second time is treated as [`Decision::Unavailable`].
pub fn decide(snapshot: &Snapshot, request: &RequestView<'_>, now: UnixTime) -> Decision {
    let application = match route(snapshot, request) {
        Ok(application) => application,
        Err(decision) => return decision,
    };
    let client = match ClientFacts::read(snapshot, application, request, now) {
        Ok(client) => client,
        Err(need) => return Decision::Resolve(need),
    };
    let facts = client.facts(snapshot, request, now);
    let EarlyVerdict { verdict, shadow } = snapshot
        .policies()
        .early_verdict(&application.policies, &facts);
    match verdict {
        // Whoever shows a service token that is no good has failed, also where no token is asked
        // for.
        Some(verdict) if verdict.outcome == Outcome::ServiceAuth && client.is_bad() => {}
        Some(verdict) if verdict.outcome == Outcome::ServiceAuth => {
            return service_auth(snapshot, application, &client, verdict, now);
        }
        Some(_) => return forward(Permit::new(Arc::clone(application), None, verdict), &client),
        None => {}
    }
    if is_preflight(request) {
        return preflight(application, request);
    }
    if let Some((reason, service_client)) = client.refusal() {
        return Decision::Deny(Refusal {
            service_client,
            shadow,
            ..Refusal::new(reason, application)
        });
    }
    let session = match credential::session(snapshot, application, request.headers, now) {
        Ok(session) => session,
        Err(NoSession::Need(need)) => return Decision::Resolve(need),
        Err(NoSession::Unavailable(reason)) => {
            return Decision::Unavailable(Refusal {
                shadow,
                ..Refusal::new(reason, application)
            });
        }
        Err(NoSession::Rejected(reason)) => {
            return no_session(application, (reason, shadow), &client, request);
        }
    };
    match application.admits(session.identity().map(|identity| &identity.idp.id)) {
        Truth::True => permit(snapshot, application, session, &facts, shadow, &client),
        // Nothing is said against the person: another provider may let them in.
        Truth::False => no_session(
            application,
            (Reason::SessionInvalid, shadow),
            &client,
            request,
        ),
        Truth::Unknown => {
            let refusal = Refusal::new(Reason::IdentityUnavailable, application);
            Decision::Unavailable(Refusal {
                session: Some(session),
                shadow,
                ..refusal
            })
        }
    }
}

/// Routes a request to an application, or decides it without one.
pub(super) fn route<'a>(
    snapshot: &'a Snapshot,
    request: &RequestView<'_>,
) -> Result<&'a Arc<Application>, Decision> {
    if matches!(*request.method, Method::TRACE | Method::CONNECT) {
        return Err(Decision::Refuse(Reason::MethodRefused));
    }
    if request
        .authority
        .port
        .is_some_and(|port| !snapshot.team().is_served_on(port))
    {
        return Err(Decision::Refuse(Reason::PortUnknown));
    }
    match match_route(snapshot, &request.authority.host, &request.path) {
        Ok(RouteMatch::Endpoint { endpoint, on_team }) => {
            Err(Decision::Handle { endpoint, on_team })
        }
        // The policies would judge another method than the origin acts on.
        Ok(RouteMatch::Application(application))
            if application.required.method && request.query.is_some_and(overrides_method) =>
        {
            Err(Decision::Refuse(Reason::MethodRefused))
        }
        Ok(RouteMatch::Application(application))
            if other_target::stay_inside(snapshot, application, request) =>
        {
            Ok(application)
        }
        // The origin would act on what another application protects.
        Ok(RouteMatch::Application(_)) => Err(Decision::Refuse(Reason::PathAmbiguous)),
        Ok(RouteMatch::Nowhere) => Err(Decision::Refuse(Reason::NoApplication)),
        Err(_) => Err(Decision::Refuse(Reason::PathAmbiguous)),
    }
}

fn forward(permit: Permit, client: &ClientFacts<'_>) -> Decision {
    Decision::Forward(permit.taking_authorization(client.takes_authorization()))
}

/// Admits a service client. The token that names it to the origin (`docs/wire.md` 5.3) must exist
/// before anything is sent.
fn service_auth(
    snapshot: &Snapshot,
    application: &Arc<Application>,
    client: &ClientFacts<'_>,
    verdict: Verdict,
    now: UnixTime,
) -> Decision {
    let service_client = client.service_client();
    let assertion = match service_client.as_ref().and_then(ServiceClient::common_name) {
        None => None,
        Some(common_name) => {
            let of = (application.aud(), common_name);
            let Some(assertion) = snapshot
                .cache()
                .assertion(of, snapshot.keys().key_set(), now)
            else {
                let policy = verdict.policy.and_then(|index| application.policy(index));
                let lasts = policy
                    .and_then(|(_, lasts)| lasts)
                    .unwrap_or(application.settings().session_duration);
                let ends = service_client.as_ref().and_then(ServiceClient::expires);
                let expires = ends.map_or(now.after(lasts), |ends| ends.min(now.after(lasts)));
                let (aud, common_name) = (application.aud().clone(), common_name.into());
                return Decision::Resolve(Need::Assertion {
                    aud,
                    common_name,
                    expires,
                });
            };
            Some(assertion)
        }
    };
    let permit = Permit::new(Arc::clone(application), None, Some(verdict));
    forward(
        permit.with_service_client(service_client, assertion),
        client,
    )
}

/// What is left for a request that no policy for programs lets in and that brings no session, with
/// what a shadow one would have done.
fn no_session(
    application: &Arc<Application>,
    (reason, shadow): (Reason, Option<ShadowVerdict>),
    client: &ClientFacts<'_>,
    request: &RequestView<'_>,
) -> Decision {
    if let Some(reason) = client.undecided() {
        return Decision::Unavailable(Refusal {
            shadow,
            ..Refusal::new(reason, application)
        });
    }
    match client.service_client() {
        // A login would not help: it is known who that is, and they may not.
        Some(client @ ServiceClient::LinkedApp { .. }) => {
            let refusal = Refusal::new(Reason::NoPolicyApplied, application);
            Decision::Deny(Refusal {
                service_client: Some(client),
                shadow,
                ..refusal
            })
        }
        service_client if application.required.only_service_clients => {
            let refusal = Refusal::new(Reason::ServiceAuthRequired, application);
            Decision::Deny(Refusal {
                service_client,
                shadow,
                ..refusal
            })
        }
        _ => {
            let application = Arc::clone(application);
            Decision::LogIn(Challenge {
                application,
                reason,
                style: Style::for_request(request),
                shadow,
            })
        }
    }
}

pub(super) enum RouteMatch<'a> {
    Endpoint { endpoint: Endpoint, on_team: bool },
    Application(&'a Arc<Application>),
    Nowhere,
}

pub(super) fn match_route<'a>(
    snapshot: &'a Snapshot,
    host: &str,
    path: &CleanPath<'_>,
) -> Result<RouteMatch<'a>, PathError> {
    let on_team = *host == *snapshot.team().domain.as_str();
    match Endpoint::for_path(path)? {
        Some(endpoint) if on_team || snapshot.router().knows_host(host) => {
            Ok(RouteMatch::Endpoint { endpoint, on_team })
        }
        Some(_) => Ok(RouteMatch::Nowhere),
        None if on_team => {
            let endpoint = if path.as_str() == "/" {
                Endpoint::Home
            } else {
                Endpoint::Unknown
            };
            Ok(RouteMatch::Endpoint { endpoint, on_team })
        }
        None => {
            let found = snapshot.router().route(host, path)?;
            Ok(found
                .and_then(|i| snapshot.applications().get(i))
                .map_or(RouteMatch::Nowhere, RouteMatch::Application))
        }
    }
}

fn preflight(application: &Arc<Application>, request: &RequestView<'_>) -> Decision {
    let settings = application.settings();
    if settings.cors.is_some() {
        Decision::Preflight(Arc::clone(application))
    } else if settings.options_preflight_bypass {
        // No identity is checked, so the origin must not take the request for one that does more.
        if request.query.is_some_and(overrides_method) {
            return Decision::Refuse(Reason::MethodRefused);
        }
        Decision::Forward(Permit::new(Arc::clone(application), None, None))
    } else {
        Decision::Deny(Refusal::new(Reason::PreflightRefused, application))
    }
}

fn permit(
    snapshot: &Snapshot,
    application: &Arc<Application>,
    session: Arc<Session>,
    facts: &Facts<'_>,
    shadow: Option<ShadowVerdict>,
    client: &ClientFacts<'_>,
) -> Decision {
    let (set, policies) = (snapshot.policies(), &application.policies);
    let verdict = match session.partial_verdict(application.index) {
        Some(partial) => set.evaluate(policies, partial, facts),
        None => set.evaluate(
            policies,
            &set.partial_verdict(policies, session.answers()),
            facts,
        ),
    };
    let verdict = Verdict {
        shadow: shadow.or(verdict.shadow),
        ..verdict
    };
    match verdict {
        Verdict {
            outcome: Outcome::Allow,
            ..
        } => forward(
            Permit::new(Arc::clone(application), Some(session), Some(verdict)),
            client,
        ),
        // Whose record cannot be had is not judged. A record that leaves something open is: asking
        // again would not help.
        Verdict { unknown: true, .. } if session.identity().is_none() => Decision::Unavailable(
            Refusal::from_verdict(Arc::clone(application), session, verdict),
        ),
        _ => Decision::Deny(Refusal::from_verdict(
            Arc::clone(application),
            session,
            verdict,
        )),
    }
}

/// Why a request has no session.
#[derive(Clone)]
pub(super) enum NoSession {
    /// Something must be learned first.
    Need(Need),
    /// The keys, or what was revoked, are not known or too old.
    Unavailable(Reason),
    /// This is wrong with what it presents.
    Rejected(Reason),
}

impl NoSession {
    /// Returns the more informative of two reasons.
    pub(super) fn or(self, other: Self) -> Self {
        if other.weight() > self.weight() {
            other
        } else {
            self
        }
    }

    /// Returns `true` if the credential may be a valid one.
    pub(super) const fn may_be_a_session(&self) -> bool {
        matches!(self, Self::Need(_) | Self::Unavailable(_))
    }

    /// Ranks reasons: what may yet turn out valid, then what once was.
    const fn weight(&self) -> u8 {
        match self {
            Self::Need(_) => 5,
            Self::Unavailable(_) => 4,
            Self::Rejected(Reason::SessionExpired) => 3,
            Self::Rejected(Reason::SessionRevoked) => 2,
            Self::Rejected(Reason::SessionInvalid) => 1,
            Self::Rejected(_) => 0,
        }
    }
}

/// The session that a token is at one of these applications, and at which.
pub(super) fn session_of<'a>(
    snapshot: &Snapshot,
    applications: impl Iterator<Item = &'a Arc<Application>>,
    token: &[u8],
    now: UnixTime,
) -> Result<(Arc<Session>, &'a Arc<Application>), NoSession> {
    judged(
        snapshot,
        applications,
        token,
        remembered(snapshot, token),
        now,
    )
}

/// Returns the session of a token that this node verified before, with the keys that count now.
pub(super) fn remembered(snapshot: &Snapshot, token: &[u8]) -> Option<Arc<Session>> {
    snapshot
        .cache()
        .session(token)
        .filter(|session| session.was_verified_with(snapshot.keys().key_set()))
}

/// The same as [`session_of`], after a look at what is remembered.
pub(super) fn judged<'a>(
    snapshot: &Snapshot,
    mut applications: impl Iterator<Item = &'a Arc<Application>>,
    token: &[u8],
    remembered: Option<Arc<Session>>,
    now: UnixTime,
) -> Result<(Arc<Session>, &'a Arc<Application>), NoSession> {
    let (session, application) = match remembered {
        None => first_sight(snapshot, applications, token, now)?,
        Some(session) => {
            still_verified(snapshot, &session, token, now)?;
            let application = applications.find(|application| session.is_for(application.aud()));
            let application = application.ok_or(NoSession::Rejected(Reason::SessionInvalid))?;
            (session, application)
        }
    };
    Ok((current(snapshot, application, session, now)?, application))
}

/// Repeats what a verification of the token checks and time can change, in the same order, so that
/// a request is answered alike whether this node has seen its token before or not.
pub(super) fn still_verified(
    snapshot: &Snapshot,
    session: &Session,
    token: &[u8],
    now: UnixTime,
) -> Result<(), NoSession> {
    if !snapshot.keys().is_good(now) {
        return Err(without_keys(snapshot, now));
    }
    if session.has_expired(now) {
        snapshot.cache().forget(token);
        return Err(NoSession::Rejected(Reason::SessionExpired));
    }
    Ok(())
}

/// Returns the session of a verified token as it is now, unless it was revoked.
pub(super) fn current(
    snapshot: &Snapshot,
    application: &Application,
    session: Arc<Session>,
    now: UnixTime,
) -> Result<Arc<Session>, NoSession> {
    let cache = snapshot.cache();
    if !cache.revocations_are_good(now) {
        return Err(NoSession::Unavailable(Reason::RevocationsUnavailable));
    }
    let session = match session.is_current(snapshot.generation(), cache.identity_changes(), now) {
        true => session,
        false => renewed(snapshot, application, session, now)?,
    };
    // After the record: revocations are compared with the order of the login that is in it.
    match session.is_revoked(snapshot.revocations()) {
        Truth::False => Ok(session),
        Truth::True => Err(NoSession::Rejected(Reason::SessionRevoked)),
        Truth::Unknown => Err(NoSession::Unavailable(Reason::IdentityUnavailable)),
    }
}

/// Fetches keys that are missing or too old, unless a fetch failed a moment ago.
fn without_keys(snapshot: &Snapshot, now: UnixTime) -> NoSession {
    let issuer = snapshot.keys().keys();
    match &*issuer {
        Some(issuer) if now < issuer.retry_from => NoSession::Unavailable(Reason::KeysUnavailable),
        _ => NoSession::Need(Need::Keys),
    }
}

/// Verifies a token that this node has not seen, or not with these keys, and remembers it.
fn first_sight<'a>(
    snapshot: &Snapshot,
    mut applications: impl Iterator<Item = &'a Arc<Application>>,
    token: &[u8],
    now: UnixTime,
) -> Result<(Arc<Session>, &'a Arc<Application>), NoSession> {
    let invalid = NoSession::Rejected(Reason::SessionInvalid);
    let Ok(text) = std::str::from_utf8(token) else {
        return Err(invalid);
    };
    let Ok(unverified) = UnverifiedToken::parse(text) else {
        return Err(invalid);
    };
    let context = snapshot.context();
    let issuer = snapshot.keys().keys();
    let Some(issuer) = &*issuer else {
        return Err(NoSession::Need(Need::Keys));
    };
    let may_ask = now >= issuer.retry_from;
    let keys = match &issuer.keys {
        Some(keys) if now < issuer.good_until => keys,
        _ => return Err(without_keys(snapshot, now)),
    };
    let verified = match unverified.verify(keys, snapshot.issuer(), now, snapshot.team().leeway) {
        Ok(verified) => verified,
        Err(error) if may_ask && error.may_be_rotation() => {
            return Err(NoSession::Need(Need::Keys));
        }
        Err(TokenError::Expired) => return Err(NoSession::Rejected(Reason::SessionExpired)),
        Err(_) => return Err(invalid),
    };
    let for_it = |application: &&Arc<Application>| {
        verified
            .claims()
            .aud
            .iter()
            .any(|a| a == application.aud().as_str())
    };
    let Some(application) = applications.find(for_it) else {
        return Err(invalid);
    };
    let nonce = verified
        .claims()
        .identity_nonce
        .as_deref()
        .map(IdentityNonce::parse);
    let Ok(nonce) = nonce.transpose() else {
        return Err(invalid);
    };
    if !snapshot.cache().revocations_are_good(now) {
        return Err(NoSession::Unavailable(Reason::RevocationsUnavailable));
    }
    let lookup = identity(snapshot, nonce, verified.claims().iat, text, now)?;
    let session =
        Arc::new(Session::new(text, verified, lookup, context(application)).map_err(|_| invalid)?);
    snapshot.cache().remember(token, Arc::clone(&session));
    Ok((session, application))
}

/// Brings a session up to date with the snapshot and with what was learned of identities since.
fn renewed(
    snapshot: &Snapshot,
    application: &Application,
    session: Arc<Session>,
    now: UnixTime,
) -> Result<Arc<Session>, NoSession> {
    let invalid = NoSession::Rejected(Reason::SessionInvalid);
    let context = snapshot.context()(application);
    let Ok(token) = session.assertion().to_str() else {
        return Err(invalid);
    };
    let lookup = identity(snapshot, session.nonce(), session.issued(), token, now)?;
    if session.confirm(&lookup, context.generation, context.identity_changes) {
        return Ok(session);
    }
    let renewed = Arc::new(session.renewed(lookup, context).map_err(|_| invalid)?);
    snapshot
        .cache()
        .remember(token.as_bytes(), Arc::clone(&renewed));
    Ok(renewed)
}

/// The record behind a token. A token without a nonce has none; a record that is gone takes its
/// sessions with it.
fn identity(
    snapshot: &Snapshot,
    nonce: Option<IdentityNonce>,
    issued: UnixTime,
    token: &str,
    now: UnixTime,
) -> Result<IdentityLookup, NoSession> {
    let Some(nonce) = nonce else {
        return Ok(IdentityLookup::default());
    };
    match snapshot.cache().identity(&nonce) {
        Some(IdentityState::Known(identity)) => Ok(IdentityLookup {
            identity: Some(identity),
            recheck: None,
        }),
        Some(IdentityState::Borrowed { identity, recheck }) if now < recheck => {
            Ok(IdentityLookup {
                identity: Some(identity),
                recheck: Some(recheck),
            })
        }
        Some(IdentityState::Missing) => Err(NoSession::Rejected(Reason::SessionRevoked)),
        Some(IdentityState::Refused {
            issued: refused,
            recheck,
        }) if issued <= refused && now < recheck => {
            Err(NoSession::Rejected(Reason::SessionRevoked))
        }
        Some(IdentityState::Unavailable { retry_from }) if now < retry_from => Ok(IdentityLookup {
            identity: None,
            recheck: Some(retry_from),
        }),
        Some(
            IdentityState::Borrowed { .. }
            | IdentityState::Refused { .. }
            | IdentityState::Unavailable { .. },
        )
        | None => Err(NoSession::Need(Need::Identity {
            nonce,
            issued,
            token: Secret::new(token),
        })),
    }
}

#[cfg(test)]
#[path = "tests/mod.rs"]
mod tests;
