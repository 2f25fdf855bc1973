//! Reads the credential of a request: the token header, or else the cookies, of which there may be several.

use std::sync::Arc;

use http::{HeaderMap, HeaderName};
use smallvec::SmallVec;

use super::decide::{Missing, judged, remembered, session_of};
use super::{Application, Snapshot};
use crate::cookie;
use crate::model::{Reason, UnixTime};
use crate::session::Session;
use crate::token::{Claims, Kind, Outlook, UnverifiedToken};

/// Returns the session that a request's credential opens at an application.
///
/// # Errors
/// Why there is none.
pub(super) fn session(
    snapshot: &Snapshot,
    application: &Arc<Application>,
    headers: &HeaderMap,
    now: UnixTime,
) -> Result<Arc<Session>, Missing> {
    let Some(token) = header(headers) else { return of_cookies(snapshot, application, headers, now) };
    session_of(snapshot, std::iter::once(application), token, now).map(|(session, _)| session)
}

/// Returns the token in the header. If there is one, cookies do not count: a bad header is not made good by a cookie.
fn header(headers: &HeaderMap) -> Option<&[u8]> {
    let mut lines = headers.get_all(&TOKEN_HEADER).into_iter();
    let first = lines.next()?;
    Some(if lines.next().is_none() { first.as_bytes() } else { TWO_HEADERS })
}

/// Returns the session of the one login that the cookies hold a valid token of.
///
/// Another host of the domain can set a cookie of this name for this host, and browsers send both. Their order says nothing
/// about which is the browser's own. So every cookie is looked at: invalid tokens are passed over, and valid tokens of two
/// logins cancel each other out.
fn of_cookies(
    snapshot: &Snapshot,
    application: &Arc<Application>,
    headers: &HeaderMap,
    now: UnixTime,
) -> Result<Arc<Session>, Missing> {
    let mut found: Option<Arc<Session>> = None;
    let mut missing = Missing::Because(Reason::NoSession);
    let mut unseen = Unseen::default();
    for token in cookie::octets(headers, cookie::AUTHORIZATION) {
        let known = remembered(snapshot, token);
        let session = match known {
            None if !unseen.takes(token, snapshot, application, now)? => Err(Missing::Because(Reason::SessionInvalid)),
            known => judged(snapshot, std::iter::once(application), token, known, now),
        };
        match (session, found.take()) {
            (Ok((session, _)), None) => found = Some(session),
            (Ok((session, _)), Some(other)) if session.is_same_login(&other) => {
                found = Some(Session::longer_of(session, other));
            }
            (Ok(_), Some(_)) => return Err(Missing::Because(Reason::SessionConflict)),
            (Err(reason), before) => {
                found = before;
                missing = missing.or(reason);
            }
        }
    }
    match (found, unseen.expired) {
        // A token that may turn out to be another login decides first.
        (Some(session), _) if !missing.may_be_a_session() => Ok(session),
        (None, Some(token)) => {
            let expired = session_of(snapshot, std::iter::once(application), token, now);
            Err(expired.err().map_or(missing.clone(), |reason| missing.or(reason)))
        }
        _ => Err(missing),
    }
}

/// The cookies whose signature this node has not checked before.
///
/// A check costs as much as hundreds of look-ups, and another host of the domain can set as many cookies as a browser keeps.
/// So what cannot verify is passed over unchecked, and a token is checked once. Beyond [`MAX_CHECKS`] others nobody can know
/// which login is the browser's own, which is answered like two logins.
#[derive(Default)]
struct Unseen<'h> {
    checked: SmallVec<[&'h [u8]; 4]>,
    /// One whose time is over. Its signature matters only for the reason that is given.
    expired: Option<&'h [u8]>,
}

impl<'h> Unseen<'h> {
    /// Returns `true` if the token is worth a verification.
    fn takes(
        &mut self,
        token: &'h [u8],
        snapshot: &Snapshot,
        application: &Application,
        now: UnixTime,
    ) -> Result<bool, Missing> {
        let text = std::str::from_utf8(token).ok().and_then(|text| UnverifiedToken::parse(text).ok());
        let Some(unverified) = text else { return Ok(false) };
        let issuer = snapshot.keys().keys();
        // Without keys nothing is verified, and the first token says so.
        let Some(keys) = issuer.as_ref().and_then(|issuer| issuer.keys.as_ref()) else { return Ok(true) };
        // As `Session::new` and the audience check will want it.
        let fits = |claims: &Claims| {
            let here = claims.aud.iter().any(|aud| aud == application.aud().as_str());
            here && claims.kind == Kind::App && claims.email.is_some()
        };
        match unverified.outlook(keys, snapshot.issuer(), fits, now) {
            Outlook::Hopeless => Ok(false),
            Outlook::Expired => {
                self.expired.get_or_insert(token);
                Ok(false)
            }
            Outlook::UnknownKey => Ok(true),
            Outlook::Open if self.checked.contains(&token) => Ok(false),
            Outlook::Open if self.checked.len() == MAX_CHECKS => Err(Missing::Because(Reason::SessionConflict)),
            Outlook::Open => {
                self.checked.push(token);
                Ok(true)
            }
        }
    }
}

/// As good as the cookie; used by cloudflared and by service clients.
pub(super) const TOKEN_HEADER: HeaderName = HeaderName::from_static("cf-access-token");

/// Stands for a credential that is present and cannot be read.
const TWO_HEADERS: &[u8] = b"";

/// The most signatures that are checked for one request, in the time of two handshakes or so.
const MAX_CHECKS: usize = 32;
