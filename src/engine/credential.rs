//! Reads the credential of a request: the token header, or else the cookies, of which there may be
//! several.

use std::sync::Arc;

use http::HeaderMap;

use super::verification::{NoSession, current, judged, remembered, session_of, still_verified};
use super::{Application, Snapshot, credential_headers};
use crate::cookie;
use crate::model::{Reason, UnixTime};
use crate::session::Session;
use crate::token::{Candidate, Candidates, Claims, Kind};

/// Returns the session that a request's credential opens at an application.
///
/// # Errors
///
/// The reason why the credential opens no session.
pub(super) fn session(
    snapshot: &Snapshot,
    application: &Arc<Application>,
    headers: &HeaderMap,
    now: UnixTime,
) -> Result<Arc<Session>, NoSession> {
    let Some(token) = header(headers) else {
        return of_cookies(snapshot, application, headers, now);
    };
    session_of(snapshot, std::iter::once(application), token, now).map(|(session, _)| session)
}

/// Returns the token in the header. If there is one, cookies do not count: a bad header is not made
/// good by a cookie.
fn header(headers: &HeaderMap) -> Option<&[u8]> {
    let mut lines = headers.get_all(&credential_headers::TOKEN).into_iter();
    let first = lines.next()?;
    // Two headers may hold tokens of different users, and an origin could read the other one.
    Some(if lines.next().is_none() {
        first.as_bytes()
    } else {
        TWO_HEADERS
    })
}

/// Returns the session of the one login that has a valid token among the cookies.
///
/// Another host of the domain can set a cookie of this name for this host, and browsers send both
/// in any order. So every cookie is checked: invalid tokens are skipped, and valid tokens of two
/// logins cancel each other out.
fn of_cookies(
    snapshot: &Snapshot,
    application: &Arc<Application>,
    headers: &HeaderMap,
    now: UnixTime,
) -> Result<Arc<Session>, NoSession> {
    let mut found: Option<Arc<Session>> = None;
    let mut missing = NoSession::Rejected(Reason::NoSession);
    let mut candidates = Candidates::default();
    for token in cookie::octets(headers, cookie::AUTHORIZATION) {
        let session = match remembered(snapshot, token) {
            // The check of the audience comes first, as in the choice of candidates.
            Some(session) if !session.is_for(application.aud()) => {
                Err(NoSession::Rejected(Reason::SessionInvalid))
            }
            Some(session) => still_verified(snapshot, &session, token, now)
                .and_then(|()| current(snapshot, application, session, now)),
            None => {
                let fits = |claims: &Claims| fits(claims, application);
                match unseen(&mut candidates, token, snapshot, fits, now) {
                    // The browser's own login cannot be identified among so many.
                    Candidate::TooMany => return Err(NoSession::Rejected(Reason::SessionConflict)),
                    Candidate::Hopeless => Err(NoSession::Rejected(Reason::SessionInvalid)),
                    Candidate::Unverified { .. } => {
                        judged(snapshot, std::iter::once(application), token, None, now)
                            .map(|(session, _)| session)
                    }
                }
            }
        };
        match (session, found.take()) {
            (Ok(session), None) => found = Some(session),
            (Ok(session), Some(other)) if session.is_same_login(&other) => {
                found = Some(Session::longer_of(session, other));
            }
            // Neither may win: the other one may be an attacker's login, and the user would work in
            // it unnoticed.
            (Ok(_), Some(_)) => return Err(NoSession::Rejected(Reason::SessionConflict)),
            (Err(reason), before) => {
                found = before;
                missing = missing.or(reason);
            }
        }
    }
    match (found, candidates.expired()) {
        // A token that may turn out to be another login decides first.
        (Some(session), _) if !missing.may_be_a_session() => Ok(session),
        // An expired token is verified last, only for the reason: a genuine one gives a better page
        // than an unknown one.
        (None, Some(token)) => {
            let expired = session_of(snapshot, std::iter::once(application), token, now);
            Err(expired
                .err()
                .map_or(missing.clone(), |reason| missing.or(reason)))
        }
        _ => Err(missing),
    }
}

/// Judges whether a token that this node has not verified is worth a verification.
pub(super) fn unseen<'h>(
    candidates: &mut Candidates<'h>,
    token: &'h [u8],
    snapshot: &Snapshot,
    fits: impl FnOnce(&Claims) -> bool,
    now: UnixTime,
) -> Candidate<'h> {
    let issuer = snapshot.keys().keys();
    // Without keys every token stays a candidate, and the verification of the first one asks for
    // the keys.
    let keys = issuer.as_ref().and_then(|issuer| issuer.keys.as_ref());
    candidates.judge(token, keys, snapshot.issuer(), fits, now)
}

/// Returns `true` if a token has the claims without which it opens no session at an application.
pub(super) fn fits(claims: &Claims, application: &Application) -> bool {
    let here = claims
        .aud
        .iter()
        .any(|aud| aud == application.aud().as_str());
    here && claims.kind == Kind::App && claims.email.is_some()
}

/// Stands for a credential that is present and cannot be read.
const TWO_HEADERS: &[u8] = b"";
