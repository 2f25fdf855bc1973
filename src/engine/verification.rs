//! From the text of a token to a valid session.
//!
//! A token is verified once and kept in the node's cache. Every later request repeats only the
//! checks that time, revocations and a new snapshot can change, in the order of the first
//! verification.

use std::sync::Arc;

use super::{Application, IdentityState, Need, Snapshot};
use crate::model::{IdentityNonce, Reason, Secret, UnixTime};
use crate::policy::Truth;
use crate::session::{IdentityLookup, Session};
use crate::token::{TokenError, UnverifiedToken};

/// The reason why a request has no session.
#[derive(Clone)]
pub(super) enum NoSession {
    /// Something must be fetched first.
    Need(Need),
    /// The keys or the revocations are unknown or too old.
    Unavailable(Reason),
    /// The credential is absent or invalid.
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

    /// Ranks reasons: credentials that may be valid first, then those that were valid once.
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

/// Returns the session that a token opens at one of these applications, and that application.
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

/// Same as [`session_of`], for a token that was looked up in the cache before.
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

/// Repeats the checks of a verification that time can change, in the same order. So a cache hit
/// gives the same answer.
pub(super) fn still_verified(
    snapshot: &Snapshot,
    session: &Session,
    token: &[u8],
    now: UnixTime,
) -> Result<(), NoSession> {
    // Stale keys may have been revoked by the issuer, so a cached result is not trusted either.
    if !snapshot.keys().is_good(now) {
        return Err(without_keys(snapshot, now));
    }
    if session.has_expired(now) {
        // The token never becomes valid again, so its place in the cache is free for another.
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
    // A revocation may have been missed. An unavailable page is better than a revoked session that
    // works.
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

/// Asks for a fetch of keys that are missing or too old, unless a fetch failed just before.
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
        // `retry_from` bounds these fetches, because anyone can send tokens with made-up keys.
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
    // After the verification, so that unsigned tokens cause no reads of the store.
    let lookup = identity(snapshot, nonce, verified.claims().iat, text, now)?;
    let session =
        Arc::new(Session::new(text, verified, lookup, context(application)).map_err(|_| invalid)?);
    snapshot.cache().remember(token, Arc::clone(&session));
    Ok((session, application))
}

/// Brings a session up to date with the snapshot and with the latest state of its identity record.
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

/// Looks up the identity record of a token. A token without a nonce has none. A record that was
/// deleted revokes its sessions.
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
        // Records outlive their sessions, so a session without its record has ended.
        Some(IdentityState::Missing) => Err(NoSession::Rejected(Reason::SessionRevoked)),
        Some(IdentityState::Refused {
            issued: refused,
            recheck,
            // A token that was issued after the rejected one may come from a newer login, so it is
            // tried.
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
