//! Reads tokens of other applications, which some policies accept.

use std::sync::Arc;

use http::header::AUTHORIZATION;

use super::credential_headers::{self, only};
use super::permit::Authorization;
use super::steps::{SessionVerdict, judge};
use super::verification::{NoSession, judged, remembered};
use super::{Application, Need, Snapshot, credential};
use crate::model::{Reason, RequestView, UnixTime};
use crate::policy::{Facts, Truth};
use crate::session::{ApplicationIndex, Session};
use crate::token::{Candidate, Candidates, Claims};

/// Another application's token in a request.
pub(super) enum LinkedToken<'a> {
    Absent,
    Valid {
        application: &'a Arc<Application>,
        session: Arc<Session>,
    },
    /// It could not be verified.
    Unknown(Reason),
}

/// Reads the token of one of those applications, from `Cf-Access-Token` or `Authorization: Bearer`.
/// Anything else counts as absent, because both headers carry other credentials too.
///
/// [`Authorization::Ours`] if that header holds such a token in any form: it must not reach this
/// application's origin, valid here or not.
pub(super) fn linked_token<'a>(
    snapshot: &'a Snapshot,
    indices: &[ApplicationIndex],
    request: &RequestView<'_>,
    now: UnixTime,
) -> Result<(LinkedToken<'a>, Authorization), Need> {
    let headers = request.headers;
    let bearer = only(headers, &AUTHORIZATION).and_then(bearer);
    let in_lines = headers
        .get_all(&AUTHORIZATION)
        .into_iter()
        .flat_map(|line| possible_tokens(line.as_bytes()));
    let in_lines = in_lines.map(|token| {
        let is_bearer = bearer == Some(token);
        (token, Source::Authorization { is_bearer })
    });
    let ours = only(headers, &credential_headers::TOKEN).map(|token| (token, Source::TokenHeader));
    let mut search = Search {
        snapshot,
        indices,
        request,
        now,
        candidates: Candidates::default(),
        valid: None,
        unknown: None,
        authorization: Authorization::Origin,
    };
    for (token, source) in ours.into_iter().chain(in_lines) {
        let known = remembered(snapshot, token);
        match search.candidate(token, source, known.as_ref()) {
            IsCandidate::Yes => search.verify(token, source, known)?,
            IsCandidate::No => {}
            IsCandidate::Undecided => {
                search.authorization = Authorization::Ours;
                break;
            }
        }
    }
    let found = match (search.valid, search.unknown) {
        (Some(valid), _) => valid,
        (None, Some(reason)) => LinkedToken::Unknown(reason),
        (None, None) => LinkedToken::Absent,
    };
    Ok((found, search.authorization))
}

/// The header that a token is in.
#[derive(Clone, Copy)]
enum Source {
    TokenHeader,
    /// Only a token that is the whole credential of the only line identifies the client.
    Authorization {
        is_bearer: bool,
    },
}

/// The result of the checks before a verification.
enum IsCandidate {
    Yes,
    No,
    /// There are too many to decide.
    Undecided,
}

/// A search for the token of a linked application.
struct Search<'a, 'r> {
    snapshot: &'a Snapshot,
    indices: &'r [ApplicationIndex],
    request: &'r RequestView<'r>,
    now: UnixTime,
    candidates: Candidates<'r>,
    /// The first token that is valid here.
    valid: Option<LinkedToken<'a>>,
    /// The reason why the last token of unknown validity could not be verified.
    unknown: Option<Reason>,
    authorization: Authorization,
}

impl<'a, 'r> Search<'a, 'r> {
    /// Selects the tokens of `Authorization` that are worth a verification. One in our own header
    /// always is.
    fn candidate(
        &mut self,
        token: &'r [u8],
        source: Source,
        known: Option<&Arc<Session>>,
    ) -> IsCandidate {
        if matches!(source, Source::TokenHeader) {
            return IsCandidate::Yes;
        }
        let (snapshot, indices) = (self.snapshot, self.indices);
        if let Some(session) = known {
            // Skips the tokens that the choice of candidates skips, so that a cached one is treated
            // alike.
            let is_for_one = applications(snapshot, indices).any(|app| session.is_for(app.aud()));
            return if is_for_one && !session.has_expired(self.now) {
                IsCandidate::Yes
            } else {
                IsCandidate::No
            };
        }
        let opens = |claims: &Claims| {
            applications(snapshot, indices).any(|application| credential::fits(claims, application))
        };
        match credential::unseen(&mut self.candidates, token, snapshot, opens, self.now) {
            Candidate::Unverified { .. } => IsCandidate::Yes,
            Candidate::Hopeless => IsCandidate::No,
            Candidate::TooMany => IsCandidate::Undecided,
        }
    }

    fn verify(
        &mut self,
        token: &[u8],
        source: Source,
        known: Option<Arc<Session>>,
    ) -> Result<(), Need> {
        let counts = matches!(
            source,
            Source::TokenHeader | Source::Authorization { is_bearer: true }
        );
        let applications = applications(self.snapshot, self.indices);
        match judged(self.snapshot, applications, token, known, self.now) {
            Ok((session, application)) => {
                self.withhold(source);
                if counts && self.valid.is_none() {
                    match self.is_allowed(application, &session) {
                        Truth::True => {
                            self.valid = Some(LinkedToken::Valid {
                                application,
                                session,
                            });
                        }
                        Truth::False => {}
                        Truth::Unknown => self.unknown = Some(Reason::IdentityUnavailable),
                    }
                }
            }
            Err(NoSession::Need(need)) => return Err(need),
            Err(NoSession::Unavailable(reason)) => {
                self.withhold(source);
                if counts {
                    self.unknown = Some(reason);
                }
            }
            Err(NoSession::Rejected(_)) => {}
        }
        Ok(())
    }

    /// Withholds `Authorization` from the origin if a token is in it.
    fn withhold(&mut self, source: Source) {
        if let Source::Authorization { .. } = source {
            self.authorization = Authorization::Ours;
        }
    }

    /// Returns [`Truth::True`] if a session is allowed at its own application, so that its token
    /// counts here for no longer than there.
    ///
    /// The client certificate is unknown: it would be requested on that application's host.
    fn is_allowed(&self, application: &Application, session: &Session) -> Truth {
        let (snapshot, request) = (self.snapshot, self.request);
        let facts = Facts::new(
            request.client,
            request.method,
            self.now,
            snapshot.countries(),
        );
        let identity = session.identity().map(Arc::as_ref);
        let verdict = || snapshot.evaluate(application, session, &facts);
        match judge(application, identity, verdict) {
            SessionVerdict::Allow(_) => Truth::True,
            SessionVerdict::UnknownProvider | SessionVerdict::UnknownIdentity(_) => Truth::Unknown,
            SessionVerdict::OtherProvider | SessionVerdict::Deny(_) => Truth::False,
        }
    }
}

fn applications<'a>(
    snapshot: &'a Snapshot,
    indices: &[ApplicationIndex],
) -> impl Iterator<Item = &'a Arc<Application>> {
    let all = snapshot.applications();
    indices.iter().filter_map(|index| all.get(index.0))
}

/// Yields the texts of a header that may be a token (RFC 7515 7.1), whatever is around them.
fn possible_tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    value
        .split(move |byte| !is_part(byte))
        .filter(|text| text.contains(&b'.'))
}

/// Returns the token of a `Bearer` credential (RFC 6750 2.1); the scheme is case-insensitive (RFC
/// 9110 11.1).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(BEARER.len())?;
    scheme
        .eq_ignore_ascii_case(BEARER)
        .then(|| token.trim_ascii())
}

const BEARER: &[u8] = b"Bearer ";
