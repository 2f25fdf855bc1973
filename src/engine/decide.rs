use std::sync::Arc;

use http::Method;

use super::challenge::is_preflight;
use super::credential::presented;
use super::{Application, Challenge, Decision, IdentityState, Need, Permit, Refusal, Snapshot, Style};
use crate::model::{CleanPath, IdentityNonce, PathError, Reason, RequestView, Secret, UnixTime};
use crate::policy::{Facts, First, Outcome, Truth, Verdict};
use crate::route::Endpoint;
use crate::session::{Learned, Session};
use crate::token::{TokenError, UnverifiedToken};

/// Decides what should happen to a request, from what is known right now.
///
/// On [`Decision::Resolve`] the caller awaits the control path and asks again, once for each kind of [`Need`]; what it still
/// needs then is treated as [`Decision::Unavailable`].
pub fn decide(snapshot: &Snapshot, request: &RequestView<'_>, now: UnixTime) -> Decision {
    let application = match place(snapshot, request) {
        Ok(application) => application,
        Err(decision) => return decision,
    };
    let facts = Facts::new(request.client, request.method, now, snapshot.countries());
    let First { verdict, shadow } = snapshot.policies().first(&application.policies, &facts);
    if verdict.is_some() {
        return Decision::Forward(Permit::new(Arc::clone(application), None, verdict));
    }
    if is_preflight(request) {
        return preflight(application);
    }
    match session(snapshot, application, request, now) {
        Ok(session) => permit(snapshot, application, session, request, &facts, shadow),
        Err(Missing::Need(need)) => Decision::Resolve(need),
        Err(Missing::Unavailable(reason)) => Decision::Unavailable(refusal(reason, application)),
        Err(Missing::Because(reason)) => {
            Decision::LogIn(Challenge { application: Arc::clone(application), reason, style: Style::of(request) })
        }
    }
}

/// The application that a request is for; or the decision, where it is for none.
pub(super) fn place<'a>(snapshot: &'a Snapshot, request: &RequestView<'_>) -> Result<&'a Arc<Application>, Decision> {
    if matches!(*request.method, Method::TRACE | Method::CONNECT) {
        return Err(Decision::Refuse(Reason::MethodRefused));
    }
    if request.authority.port.is_some_and(|port| !snapshot.team().is_served_on(port)) {
        return Err(Decision::Refuse(Reason::PortUnknown));
    }
    match route(snapshot, &request.authority.host, &request.path) {
        Ok(Route::Endpoint { endpoint, on_team }) => Err(Decision::Handle { endpoint, on_team }),
        Ok(Route::Application(application)) => Ok(application),
        Ok(Route::Nowhere) => Err(Decision::Refuse(Reason::NoApplication)),
        Err(_) => Err(Decision::Refuse(Reason::PathAmbiguous)),
    }
}

enum Route<'a> {
    Endpoint { endpoint: Endpoint, on_team: bool },
    Application(&'a Arc<Application>),
    Nowhere,
}

fn route<'a>(snapshot: &'a Snapshot, host: &str, path: &CleanPath<'_>) -> Result<Route<'a>, PathError> {
    let on_team = *host == *snapshot.team().domain.as_str();
    let (one, other) = path.readings();
    let endpoint = Endpoint::of(one);
    if other.is_some_and(|other| Endpoint::of(other) != endpoint) {
        return Err(PathError::Ambiguous);
    }
    match endpoint {
        Some(endpoint) if on_team || snapshot.router().knows_host(host) => Ok(Route::Endpoint { endpoint, on_team }),
        Some(_) => Ok(Route::Nowhere),
        None if on_team => {
            let endpoint = if one == "/" { Endpoint::Home } else { Endpoint::Unknown };
            Ok(Route::Endpoint { endpoint, on_team })
        }
        None => {
            let found = snapshot.router().route(host, path)?;
            Ok(found.and_then(|i| snapshot.applications().get(i)).map_or(Route::Nowhere, Route::Application))
        }
    }
}

fn preflight(application: &Arc<Application>) -> Decision {
    let settings = application.settings();
    if settings.cors.is_some() {
        Decision::Preflight(Arc::clone(application))
    } else if settings.options_preflight_bypass {
        Decision::Forward(Permit::new(Arc::clone(application), None, None))
    } else {
        Decision::Deny(refusal(Reason::PreflightRefused, application))
    }
}

fn permit(
    snapshot: &Snapshot,
    application: &Arc<Application>,
    session: Arc<Session>,
    request: &RequestView<'_>,
    facts: &Facts<'_>,
    shadow: Option<(usize, Outcome)>,
) -> Decision {
    match application.admits(session.identity().map(|identity| &identity.idp.id)) {
        Truth::True => {}
        // Nothing is said against the person: another provider may let them in.
        Truth::False => {
            let (application, reason) = (Arc::clone(application), Reason::SessionInvalid);
            return Decision::LogIn(Challenge { application, reason, style: Style::of(request) });
        }
        Truth::Unknown => {
            let (application, session) = (Some(Arc::clone(application)), Some(session));
            let reason = Reason::IdentityUnavailable;
            return Decision::Unavailable(Refusal { reason, application, session, policy: None, shadow: None });
        }
    }
    let (set, policies) = (snapshot.policies(), &application.policies);
    let verdict = match session.standing(application.place) {
        Some(standing) => set.evaluate(policies, standing, facts),
        None => set.evaluate(policies, &set.standing(policies, session.answers()), facts),
    };
    let verdict = Verdict { shadow: shadow.or(verdict.shadow), ..verdict };
    match verdict {
        Verdict { outcome: Outcome::Allow, .. } => {
            Decision::Forward(Permit::new(Arc::clone(application), Some(session), Some(verdict)))
        }
        // Whose record cannot be had is not judged. A record that leaves something open is: asking again would not help.
        Verdict { unknown: true, .. } if session.identity().is_none() => {
            Decision::Unavailable(Refusal::from_verdict(Arc::clone(application), session, verdict))
        }
        _ => Decision::Deny(Refusal::from_verdict(Arc::clone(application), session, verdict)),
    }
}

fn refusal(reason: Reason, application: &Arc<Application>) -> Refusal {
    Refusal { reason, application: Some(Arc::clone(application)), session: None, policy: None, shadow: None }
}

/// Why a request has no session.
enum Missing {
    /// Something must be learned first.
    Need(Need),
    /// The keys, or what was revoked, are not known or too old.
    Unavailable(Reason),
    /// This is wrong with what it presents.
    Because(Reason),
}

impl Missing {
    /// Of several credentials that are no good, which tells the most: what may yet turn out good, then what once was.
    const fn weight(&self) -> u8 {
        match self {
            Self::Need(_) => 5,
            Self::Unavailable(_) => 4,
            Self::Because(Reason::SessionExpired) => 3,
            Self::Because(Reason::SessionRevoked) => 2,
            Self::Because(Reason::SessionInvalid) => 1,
            Self::Because(_) => 0,
        }
    }
}

/// The session of the first credential that is good for the application.
fn session(
    snapshot: &Snapshot,
    application: &Application,
    request: &RequestView<'_>,
    now: UnixTime,
) -> Result<Arc<Session>, Missing> {
    let mut missing = Missing::Because(Reason::NoSession);
    for token in presented(request.headers) {
        match session_of(snapshot, application, token, now) {
            Ok(session) => return Ok(session),
            Err(reason) if reason.weight() > missing.weight() => missing = reason,
            Err(_) => {}
        }
    }
    Err(missing)
}

fn session_of(
    snapshot: &Snapshot,
    application: &Application,
    token: &[u8],
    now: UnixTime,
) -> Result<Arc<Session>, Missing> {
    let known = snapshot.known();
    let session = match known.session(token) {
        Some(session) if session.was_verified_with(snapshot.keys().key_set()) => session,
        _ => first_sight(snapshot, application, token, now)?,
    };
    if session.has_expired(now) {
        known.forget(token);
        return Err(Missing::Because(Reason::SessionExpired));
    }
    // In the order of the first sight, so that what was seen before makes no difference to the answer.
    if !session.is_for(application.aud()) {
        return Err(Missing::Because(Reason::SessionInvalid));
    }
    if !snapshot.keys().is_good(now) {
        return Err(Missing::Unavailable(Reason::KeysUnavailable));
    }
    if !known.revocations_are_good(now) {
        return Err(Missing::Unavailable(Reason::RevocationsUnavailable));
    }
    if session.is_revoked(snapshot.revocations()) {
        return Err(Missing::Because(Reason::SessionRevoked));
    }
    if session.is_current(snapshot.generation(), known.identity_changes(), now) {
        return Ok(session);
    }
    renewed(snapshot, application, session, now)
}

/// Verifies a token that this node has not seen, or not with these keys, and remembers it.
fn first_sight(
    snapshot: &Snapshot,
    application: &Application,
    token: &[u8],
    now: UnixTime,
) -> Result<Arc<Session>, Missing> {
    let invalid = Missing::Because(Reason::SessionInvalid);
    let Ok(text) = std::str::from_utf8(token) else { return Err(invalid) };
    let Ok(unverified) = UnverifiedToken::parse(text) else { return Err(invalid) };
    let context = snapshot.context(application);
    let issuer = snapshot.keys().keys();
    let Some(issuer) = &*issuer else { return Err(Missing::Need(Need::Keys)) };
    let may_ask = now >= issuer.retry_from;
    let keys = match &issuer.keys {
        Some(keys) if now < issuer.good_until => keys,
        _ if may_ask => return Err(Missing::Need(Need::Keys)),
        _ => return Err(Missing::Unavailable(Reason::KeysUnavailable)),
    };
    let verified = match unverified.verify(keys, snapshot.issuer(), now, snapshot.team().leeway) {
        Ok(verified) => verified,
        Err(TokenError::UnknownKey) if may_ask => return Err(Missing::Need(Need::Keys)),
        Err(TokenError::Expired) => return Err(Missing::Because(Reason::SessionExpired)),
        Err(_) => return Err(invalid),
    };
    if !verified.claims().aud.iter().any(|aud| aud == application.aud().as_str()) {
        return Err(invalid);
    }
    let nonce = verified.claims().identity_nonce.as_deref().map(IdentityNonce::parse);
    let Ok(nonce) = nonce.transpose() else { return Err(invalid) };
    if !snapshot.known().revocations_are_good(now) {
        return Err(Missing::Unavailable(Reason::RevocationsUnavailable));
    }
    let learned = identity(snapshot, nonce, verified.claims().iat, text, now)?;
    let session = Arc::new(Session::new(text, verified, learned, context).map_err(|_| invalid)?);
    snapshot.known().remember(token, Arc::clone(&session));
    Ok(session)
}

/// Brings a session up to date with the snapshot and with what was learned of identities since.
fn renewed(
    snapshot: &Snapshot,
    application: &Application,
    session: Arc<Session>,
    now: UnixTime,
) -> Result<Arc<Session>, Missing> {
    let invalid = Missing::Because(Reason::SessionInvalid);
    let context = snapshot.context(application);
    let Ok(token) = session.assertion().to_str() else { return Err(invalid) };
    let learned = identity(snapshot, session.nonce(), session.issued(), token, now)?;
    if session.confirm(&learned, context.generation, context.identity_changes) {
        return Ok(session);
    }
    let renewed = Arc::new(session.renewed(learned, context).map_err(|_| invalid)?);
    snapshot.known().remember(token.as_bytes(), Arc::clone(&renewed));
    Ok(renewed)
}

/// The record behind a token. A token without a nonce has none; a record that is gone takes its sessions with it.
fn identity(
    snapshot: &Snapshot,
    nonce: Option<IdentityNonce>,
    issued: UnixTime,
    token: &str,
    now: UnixTime,
) -> Result<Learned, Missing> {
    let Some(nonce) = nonce else { return Ok(Learned::default()) };
    match snapshot.known().identity(&nonce) {
        Some(IdentityState::Known(identity)) => Ok(Learned { identity: Some(identity), recheck: None }),
        Some(IdentityState::Borrowed { identity, recheck }) if now < recheck => {
            Ok(Learned { identity: Some(identity), recheck: Some(recheck) })
        }
        Some(IdentityState::Missing) => Err(Missing::Because(Reason::SessionRevoked)),
        Some(IdentityState::Refused { issued: refused, recheck }) if issued <= refused && now < recheck => {
            Err(Missing::Because(Reason::SessionRevoked))
        }
        Some(IdentityState::Unavailable { retry_from }) if now < retry_from => {
            Ok(Learned { identity: None, recheck: Some(retry_from) })
        }
        Some(IdentityState::Borrowed { .. } | IdentityState::Refused { .. } | IdentityState::Unavailable { .. })
        | None => Err(Missing::Need(Need::Identity { nonce, issued, token: Secret::new(token) })),
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
