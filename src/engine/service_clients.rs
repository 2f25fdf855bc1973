use std::collections::HashMap;
use std::sync::Arc;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName};

use super::credential::{self, TOKEN_HEADER};
use super::steps::{Presented, SessionVerdict, judge};
use super::verification::{NoSession, judged, remembered};
use super::{Application, Need, Snapshot, client_ca};
use crate::model::{
    ClientCertificate, ClientId, Reason, RequestView, SecretDigest, ServiceToken, UnixTime,
};
use crate::policy::{Fact, Facts, Truth};
use crate::session::{ApplicationIndex, Session};
use crate::token::{Candidate, Candidates, Claims};

/// A client that needs no login.
#[derive(Clone, Debug)]
pub enum ServiceClient {
    /// The holder of a service token.
    ServiceToken(Arc<ServiceToken>),
    /// The holder of a client certificate's key.
    Certificate(Arc<ClientCertificate>),
    /// Another application, on behalf of a user with a session there.
    LinkedApp {
        /// The other application.
        application: Arc<Application>,
        /// The user's session there.
        session: Arc<Session>,
    },
}

impl ServiceClient {
    /// Returns the `common_name` for the origin (`docs/wire.md` 5.3); `None` for a credential that
    /// has no name.
    pub(super) fn common_name(&self) -> Option<&str> {
        match self {
            Self::ServiceToken(token) => Some(token.client_id.as_str()),
            // Ignore certificates with a common name in the form of a client id: origins would take
            // them for a service token.
            Self::Certificate(certificate) => Some(&*certificate.common_name)
                .filter(|name| !name.is_empty() && ClientId::parse(name).is_err()),
            Self::LinkedApp { .. } => None,
        }
    }

    /// Returns the first second at which the credential is expired; `None` if it never expires.
    pub(super) fn expires(&self) -> Option<UnixTime> {
        match self {
            Self::ServiceToken(token) => token.expires_at,
            Self::Certificate(certificate) => Some(certificate.expires),
            Self::LinkedApp { session, .. } => Some(session.expires()),
        }
    }
}

/// The service tokens of a team, by client id.
#[derive(Debug, Default)]
pub(super) struct ServiceTokens(HashMap<Box<str>, Arc<ServiceToken>>);

impl ServiceTokens {
    pub(super) fn new(tokens: impl IntoIterator<Item = ServiceToken>) -> Self {
        Self(
            tokens
                .into_iter()
                .map(|token| (token.client_id.as_str().into(), Arc::new(token)))
                .collect(),
        )
    }

    /// Returns the service token in a request's two headers. No other place counts.
    fn shown(&self, headers: &HeaderMap, now: UnixTime) -> PresentedToken<'_> {
        if !headers.contains_key(&CLIENT_ID) && !headers.contains_key(&CLIENT_SECRET) {
            return PresentedToken::Absent;
        }
        let token = only(headers, &CLIENT_ID)
            .and_then(|id| std::str::from_utf8(id).ok())
            .and_then(|id| self.0.get(id));
        // Hash the secret of an unknown client id too, so that it takes as long as a known one.
        let secret = only(headers, &CLIENT_SECRET)
            // The bound comes before the hash: its cost must not grow with the request.
            .filter(|secret| secret.len() <= MAX_SECRET)
            .map(SecretDigest::sha256);
        match (token, secret) {
            // The secret is checked first: a client without it learns nothing about the token's
            // state.
            (Some(token), Some(secret)) if token.has_secret(&secret) => match () {
                () if !token.enabled => {
                    PresentedToken::Rejected(Reason::ServiceTokenDisabled, Some(token))
                }
                () if token.has_expired(now) => {
                    PresentedToken::Rejected(Reason::ServiceTokenExpired, Some(token))
                }
                () => PresentedToken::Valid(token),
            },
            _ => PresentedToken::Rejected(Reason::ServiceTokenInvalid, token),
        }
    }
}

/// The service token of a request.
enum PresentedToken<'a> {
    Absent,
    Valid(&'a Arc<ServiceToken>),
    /// The reason, and the token of that client id, if there is one.
    Rejected(Reason, Option<&'a Arc<ServiceToken>>),
}

/// Another application's token in a request.
enum LinkedToken<'a> {
    Absent,
    Valid {
        application: &'a Arc<Application>,
        session: Arc<Session>,
    },
    /// It could not be verified.
    Unknown(Reason),
}

/// Facts about the client of a request, apart from a session.
pub(super) struct ClientFacts<'a> {
    token: PresentedToken<'a>,
    certificate: Fact<&'a Arc<ClientCertificate>>,
    linked: LinkedToken<'a>,
    takes_authorization: bool,
    is_service_auth: bool,
}

impl<'a> ClientFacts<'a> {
    /// Reads the facts that the application requires.
    ///
    /// # Errors
    ///
    /// The need that must be met first.
    pub(super) fn read(
        snapshot: &'a Snapshot,
        application: &Application,
        request: &RequestView<'a>,
        now: UnixTime,
    ) -> Result<Self, Need> {
        let asks = &application.required;
        let token = snapshot.service_tokens().shown(request.headers, now);
        let certificate = if asks.certificate {
            client_ca::certificate(
                snapshot.client_cas(),
                &request.authority.host,
                request.tls,
                now,
            )
        } else {
            Fact::Unknown
        };
        let (linked, takes_authorization) = if asks.linked.is_empty() {
            (LinkedToken::Absent, false)
        } else {
            linked(snapshot, &asks.linked, request, now)?
        };
        // A valid credential does not make up for an invalid one.
        let linked = if matches!(token, PresentedToken::Rejected(..)) {
            LinkedToken::Absent
        } else {
            linked
        };
        Ok(Self {
            token,
            certificate,
            linked,
            takes_authorization,
            is_service_auth: asks.certificate_of_service_clients,
        })
    }

    /// Returns the same as facts for policies.
    pub(super) fn facts<'f>(
        &'f self,
        snapshot: &'f Snapshot,
        request: &RequestView<'f>,
        now: UnixTime,
    ) -> Facts<'f> {
        let service_token = match &self.token {
            PresentedToken::Valid(token) => Fact::Present(&*token.id),
            // A rejected token counts as absent here. The steps of a decision deny the request
            // later.
            PresentedToken::Absent | PresentedToken::Rejected(..) => Fact::Absent,
        };
        let certificate = match &self.certificate {
            Fact::Unknown => Fact::Unknown,
            Fact::Absent => Fact::Absent,
            Fact::Present(certificate) => Fact::Present(&*certificate.common_name),
        };
        let linked_app = match &self.linked {
            LinkedToken::Absent => Fact::Absent,
            LinkedToken::Valid { application, .. } => {
                Fact::Present(application.settings().id.as_str())
            }
            LinkedToken::Unknown(_) => Fact::Unknown,
        };
        let facts = Facts::new(request.client, request.method, now, snapshot.countries());
        Facts {
            service_token,
            certificate,
            linked_app,
            ..facts
        }
    }

    /// Returns the service client. A credential that was sent on purpose has precedence over the
    /// certificate of the connection.
    pub(super) fn service_client(&self) -> Option<ServiceClient> {
        match (&self.token, &self.linked, &self.certificate) {
            (PresentedToken::Valid(token), _, _) => {
                Some(ServiceClient::ServiceToken(Arc::clone(token)))
            }
            (
                _,
                LinkedToken::Valid {
                    application,
                    session,
                    ..
                },
                _,
            ) => Some(ServiceClient::LinkedApp {
                application: Arc::clone(application),
                session: Arc::clone(session),
            }),
            (_, _, Fact::Present(certificate)) if self.is_service_auth => {
                Some(ServiceClient::Certificate(Arc::clone(certificate)))
            }
            _ => None,
        }
    }

    /// Returns the service client that presented a credential, valid or not. For a rejected service
    /// token it is the owner of its client id, if there is one.
    pub(super) fn identified(&self) -> Option<ServiceClient> {
        match &self.token {
            PresentedToken::Rejected(_, token) => {
                token.map(|token| ServiceClient::ServiceToken(Arc::clone(token)))
            }
            PresentedToken::Absent | PresentedToken::Valid(_) => self.service_client(),
        }
    }

    /// Returns the state of the service token.
    pub(super) const fn service_token(&self) -> Presented {
        match self.token {
            PresentedToken::Absent => Presented::Absent,
            PresentedToken::Valid(_) => Presented::Valid,
            PresentedToken::Rejected(reason, _) => Presented::Rejected(reason),
        }
    }

    /// Returns the state of another application's token.
    pub(super) const fn linked_app(&self) -> Presented {
        match self.linked {
            LinkedToken::Absent => Presented::Absent,
            LinkedToken::Valid { .. } => Presented::Valid,
            LinkedToken::Unknown(reason) => Presented::Unknown(reason),
        }
    }

    /// Returns `true` if `Authorization` holds another application's token, which must not reach
    /// the origin.
    pub(super) const fn takes_authorization(&self) -> bool {
        self.takes_authorization
    }
}

/// Returns [`Truth::True`] if a session is allowed at its own application, so that its token counts
/// here for no longer than there.
///
/// The client certificate is unknown: it would be requested on that application's host.
fn is_allowed(
    snapshot: &Snapshot,
    application: &Application,
    session: &Session,
    request: &RequestView<'_>,
    now: UnixTime,
) -> Truth {
    let facts = Facts::new(request.client, request.method, now, snapshot.countries());
    let identity = session.identity().map(Arc::as_ref);
    let verdict = || snapshot.evaluate(application, session, &facts);
    match judge(application, identity, verdict) {
        SessionVerdict::Allow(_) => Truth::True,
        SessionVerdict::UnknownProvider | SessionVerdict::UnknownIdentity(_) => Truth::Unknown,
        SessionVerdict::OtherProvider | SessionVerdict::Deny(_) => Truth::False,
    }
}

/// Reads the token of one of those applications, from `Cf-Access-Token` or `Authorization: Bearer`.
/// Anything else counts as absent, because both headers carry other credentials too.
///
/// Returns also `true` if `Authorization` holds such a token in any form. It must not reach this
/// application's origin, valid here or not.
fn linked<'a>(
    snapshot: &'a Snapshot,
    indices: &[ApplicationIndex],
    request: &RequestView<'_>,
    now: UnixTime,
) -> Result<(LinkedToken<'a>, bool), Need> {
    let headers = request.headers;
    let applications = || {
        indices
            .iter()
            .filter_map(|index| snapshot.applications().get(index.0))
    };
    let bearer = only(headers, &AUTHORIZATION).and_then(bearer);
    let in_lines = headers
        .get_all(&AUTHORIZATION)
        .into_iter()
        .flat_map(|line| possible_tokens(line.as_bytes()));
    let in_lines = in_lines.map(|token| (token, true));
    let ours = only(headers, &TOKEN_HEADER).map(|token| (token, false));
    let mut candidates = Candidates::default();
    let (mut found, mut unknown, mut takes_authorization) = (None, None, false);
    for (token, is_authorization) in ours.into_iter().chain(in_lines) {
        let known = remembered(snapshot, token);
        let opens = |claims: &Claims| {
            applications().any(|application| credential::fits(claims, application))
        };
        match &known {
            _ if !is_authorization => {}
            // Skips the tokens that the choice of candidates skips, so that a cached one is treated
            // alike.
            Some(session)
                if session.has_expired(now)
                    || !applications().any(|app| session.is_for(app.aud())) =>
            {
                continue;
            }
            Some(_) => {}
            None => match credential::unseen(&mut candidates, token, snapshot, opens, now) {
                Candidate::Unverified { .. } => {}
                Candidate::Hopeless => continue,
                Candidate::TooMany => {
                    takes_authorization = true;
                    break;
                }
            },
        }
        let counts = !is_authorization || bearer == Some(token);
        match judged(snapshot, applications(), token, known, now) {
            Ok((session, application)) => {
                takes_authorization |= is_authorization;
                if found.is_some() || !counts {
                    continue;
                }
                match is_allowed(snapshot, application, &session, request, now) {
                    Truth::True => found = Some((application, session)),
                    Truth::False => {}
                    Truth::Unknown => unknown = Some(Reason::IdentityUnavailable),
                }
            }
            Err(NoSession::Need(need)) => return Err(need),
            Err(NoSession::Unavailable(reason)) => {
                takes_authorization |= is_authorization;
                if counts {
                    unknown = Some(reason);
                }
            }
            Err(NoSession::Rejected(_)) => {}
        }
    }
    let shown = match (found, unknown) {
        (Some((application, session)), _) => LinkedToken::Valid {
            application,
            session,
        },
        (None, Some(reason)) => LinkedToken::Unknown(reason),
        (None, None) => LinkedToken::Absent,
    };
    Ok((shown, takes_authorization))
}

/// Returns the value of a header that occurs once.
fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h [u8]> {
    let mut lines = headers.get_all(name).into_iter();
    lines
        .next()
        // Two lines are ambiguous, so they count as none.
        .filter(|_| lines.next().is_none())
        .map(http::HeaderValue::as_bytes)
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
/// The header with the client id.
pub(super) const CLIENT_ID: HeaderName = HeaderName::from_static("cf-access-client-id");
/// The header with the client secret.
pub(super) const CLIENT_SECRET: HeaderName = HeaderName::from_static("cf-access-client-secret");
/// The longest secret that is hashed. Ours are shorter, and hashing takes time.
const MAX_SECRET: usize = 256;
