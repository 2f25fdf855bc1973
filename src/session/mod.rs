//! Sessions: verified tokens that are kept between requests, and revocations.
//!
//! Decides whether a session is still valid. Trusts verified tokens and identity records of the
//! store. Never outlives its token: expiry, revocations and changes of keys are checked on every
//! use.

mod revocations;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::{HeaderName, HeaderValue};
use smallvec::SmallVec;

pub use revocations::{Presented, Revocations, Until};

use crate::model::{Aud, Email, Identity, IdentityNonce, LoginOrder, SentHeader, UnixTime, UserId};
use crate::policy::{self, PartialVerdict, Policies, PolicySet, Requester, Truth};
use crate::token::{Claims, Kind, VerifiedToken};

/// A verified application session, ready for the next request: nothing has to be parsed, looked up
/// or built again.
#[derive(Debug)]
pub struct Session {
    /// The whole token: compared with the one in a request, and sent to the origin.
    assertion: HeaderValue,
    /// The email address as a header value, for the origin.
    email_header: Option<HeaderValue>,
    email: Email,
    user: UserId,
    nonce: Option<IdentityNonce>,
    aud: SmallVec<[Aud; 1]>,
    issued: UnixTime,
    expires: UnixTime,
    /// The key set that verified it.
    key_set: u64,
    user_state: UserState,
}

/// The state of the user, in the numbers of one snapshot.
#[derive(Debug)]
struct UserState {
    /// The identity record; `None` if the token has none or it could not be fetched.
    identity: Option<Arc<Identity>>,
    /// The order of the login among revocations; `None` if the record could not be looked up.
    login: Option<LoginOrder>,
    answers: policy::UserFacts,
    /// The application that `partial` is for.
    application: ApplicationIndex,
    partial: PartialVerdict,
    /// The headers for origins, apart from the email address.
    headers: Box<[(HeaderName, HeaderValue)]>,
    /// The snapshot of these numbers.
    generation: u64,
    /// The time from which a missing record is looked up again.
    recheck: Option<UnixTime>,
    /// The cache's count of identity changes at the last look-up of the record.
    identity_changes: AtomicU64,
}

/// A verified token that opens no session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the token is not an application's session")]
pub struct NotASession;

/// The index of an application in its snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApplicationIndex(pub usize);

/// The part of a session that comes from the snapshot.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The snapshot's Access groups and questions.
    pub policy_set: &'a PolicySet,
    /// Its number.
    pub generation: u64,
    /// The number of the key set.
    pub key_set: u64,
    /// The cache's count of identity changes.
    pub identity_changes: u64,
    /// The application of the request.
    pub application: ApplicationIndex,
    /// Its policies.
    pub policies: &'a Policies,
    /// The headers with attributes of the user that origins receive.
    pub sent_headers: &'a [SentHeader],
}

/// The result of looking up an identity record.
#[derive(Clone, Debug, Default)]
pub struct IdentityLookup {
    /// The record; `None` if the token has none or it could not be fetched.
    pub identity: Option<Arc<Identity>>,
    /// The time from which a missing record is looked up again.
    pub recheck: Option<UnixTime>,
}

impl UserState {
    /// `without_record`: the order of a login that has no record.
    fn new(
        email: &Email,
        lookup: IdentityLookup,
        without_record: Option<LoginOrder>,
        context: Context<'_>,
    ) -> Result<Self, NotASession> {
        let IdentityLookup { identity, recheck } = lookup;
        if identity.as_ref().is_some_and(|i| i.email != *email) {
            return Err(NotASession);
        }
        let answers = context.policy_set.user_facts(Requester::User {
            email,
            identity: identity.as_deref(),
        });
        let partial = context
            .policy_set
            .partial_verdict(context.policies, &answers);
        let headers = identity
            .as_ref()
            .map(|identity| headers(identity, context.sent_headers))
            .transpose()?;
        Ok(Self {
            login: identity
                .as_ref()
                .map(|identity| identity.order())
                .or(without_record),
            identity,
            answers,
            application: context.application,
            partial,
            headers: headers.unwrap_or_default(),
            generation: context.generation,
            recheck,
            identity_changes: AtomicU64::new(context.identity_changes),
        })
    }
}

/// Drops headers that are not configured, because clients could forge them, and headers that belong
/// to another provider.
fn headers(
    identity: &Identity,
    sent: &[SentHeader],
) -> Result<Box<[(HeaderName, HeaderValue)]>, NotASession> {
    let header = |(name, value): &(String, String)| {
        let SentHeader { name, .. } = sent
            .iter()
            .find(|sent| sent.idp == identity.idp.id && sent.name == **name)?;
        Some(
            HeaderValue::from_bytes(value.as_bytes())
                .map(|value| (name.clone(), value))
                .map_err(|_| NotASession),
        )
    };
    identity.headers.iter().filter_map(header).collect()
}

/// A token without a nonce has no record, so it is older than every revocation.
const fn without_record(nonce: Option<IdentityNonce>, issued: UnixTime) -> Option<LoginOrder> {
    match nonce {
        Some(_) => None,
        None => Some(LoginOrder {
            revision: 0,
            at: issued,
        }),
    }
}

impl Session {
    /// Creates a session from a verified token and its identity record.
    ///
    /// # Errors
    ///
    /// The token is not an application token, names no user, or another user than the record.
    pub fn new(
        token: &str,
        verified: VerifiedToken,
        lookup: IdentityLookup,
        context: Context<'_>,
    ) -> Result<Self, NotASession> {
        let Claims {
            kind,
            aud,
            sub,
            email,
            identity_nonce,
            iat,
            exp,
            ..
        } = verified.into_claims();
        let email = Email::parse(&email.ok_or(NotASession)?).map_err(|_| NotASession)?;
        let nonce = identity_nonce
            .map(|n| IdentityNonce::parse(&n))
            .transpose()
            .map_err(|_| NotASession)?;
        let aud: SmallVec<[Aud; 1]> = aud
            .iter()
            .map(|a| Aud::parse(a))
            .collect::<Result<_, _>>()
            .map_err(|_| NotASession)?;
        if kind != Kind::App || sub.is_empty() || aud.is_empty() {
            return Err(NotASession);
        }
        let mut assertion = HeaderValue::try_from(token).map_err(|_| NotASession)?;
        assertion.set_sensitive(true);
        let email_header =
            HeaderValue::from_bytes(email.as_str().as_bytes()).map_err(|_| NotASession)?;
        Ok(Self {
            user_state: UserState::new(&email, lookup, without_record(nonce, iat), context)?,
            assertion,
            email_header: Some(email_header),
            email,
            user: UserId(sub.into()),
            nonce,
            aud,
            issued: iat,
            expires: exp,
            key_set: context.key_set,
        })
    }

    /// Returns the session under another snapshot, or with another identity record.
    ///
    /// # Errors
    ///
    /// The record is that of another user.
    pub fn renewed(
        &self,
        lookup: IdentityLookup,
        context: Context<'_>,
    ) -> Result<Self, NotASession> {
        Ok(Self {
            assertion: self.assertion.clone(),
            email_header: self.email_header.clone(),
            email: self.email.clone(),
            user: self.user.clone(),
            nonce: self.nonce,
            aud: self.aud.clone(),
            issued: self.issued,
            expires: self.expires,
            key_set: self.key_set,
            user_state: UserState::new(
                &self.email,
                lookup,
                without_record(self.nonce, self.issued),
                context,
            )?,
        })
    }

    /// Returns `true` if both came from one login. Tokens without a login are compared by user.
    pub fn is_same_login(&self, other: &Self) -> bool {
        match (self.nonce, other.nonce) {
            (None, None) => self.user == other.user,
            (one, other) => one == other,
        }
    }

    /// Returns the one of two sessions of a login that lasts longer, whichever way they are given.
    #[must_use]
    pub fn longer_of(one: Arc<Self>, other: Arc<Self>) -> Arc<Self> {
        let rank = |session: &Self| (session.expires, session.issued);
        let tie = || one.assertion.as_bytes() >= other.assertion.as_bytes();
        match rank(&one).cmp(&rank(&other)) {
            std::cmp::Ordering::Greater => one,
            std::cmp::Ordering::Equal if tie() => one,
            _ => other,
        }
    }

    /// Returns `true` if this is the session of exactly that token.
    pub fn is_of(&self, token: &[u8]) -> bool {
        self.assertion.as_bytes() == token
    }

    /// Returns `true` if it was verified with that key set. A session of another one counts as
    /// never seen.
    pub const fn was_verified_with(&self, key_set: u64) -> bool {
        self.key_set == key_set
    }

    /// Returns `true` if the state of the user is up to date: the snapshot's numbers, the record,
    /// the time of the next look-up.
    pub fn is_current(&self, generation: u64, identity_changes: u64, now: UnixTime) -> bool {
        self.user_state.generation == generation
            && self.user_state.identity_changes.load(Ordering::Relaxed) == identity_changes
            && self.user_state.recheck.is_none_or(|at| now < at)
    }

    /// Marks the session as up to date if nothing changed for this user. Returns `true` in that
    /// case.
    pub fn confirm(&self, lookup: &IdentityLookup, generation: u64, identity_changes: u64) -> bool {
        let same = match (&self.user_state.identity, &lookup.identity) {
            (Some(ours), Some(found)) => Arc::ptr_eq(ours, found),
            (None, None) => true,
            _ => false,
        };
        let confirmed = same
            && self.user_state.recheck == lookup.recheck
            && self.user_state.generation == generation;
        if confirmed {
            self.user_state
                .identity_changes
                .store(identity_changes, Ordering::Relaxed);
        }
        confirmed
    }

    /// Returns `true` if it has expired.
    pub fn has_expired(&self, now: UnixTime) -> bool {
        now >= self.expires
    }

    /// Returns [`Truth::True`] if a revocation covers the session, and [`Truth::Unknown`] if that
    /// depends on a record that could not be looked up.
    pub fn is_revoked(&self, revocations: &Revocations) -> Truth {
        revocations.cover(Presented {
            nonce: self.nonce,
            user: &self.user,
            aud: &self.aud,
            issued: self.issued,
            login: self.user_state.login,
        })
    }

    /// Returns `true` if it is for an application.
    pub fn is_for(&self, aud: &Aud) -> bool {
        self.aud.contains(aud)
    }

    /// Returns the answers to the policies' questions about the user.
    pub const fn answers(&self) -> &policy::UserFacts {
        &self.user_state.answers
    }

    /// Returns the user's partial verdict, if the session keeps that of this application.
    pub fn partial_verdict(&self, application: ApplicationIndex) -> Option<&PartialVerdict> {
        (self.user_state.application == application).then_some(&self.user_state.partial)
    }

    /// Returns the token, for the origin.
    pub const fn assertion(&self) -> &HeaderValue {
        &self.assertion
    }

    /// Returns the email address as a header value, for the origin.
    pub const fn email_header(&self) -> Option<&HeaderValue> {
        self.email_header.as_ref()
    }

    /// Returns the headers with attributes of the user, for the origin: the same name once for each
    /// value.
    pub fn headers(&self) -> &[(HeaderName, HeaderValue)] {
        &self.user_state.headers
    }

    /// Returns the email address.
    pub const fn email(&self) -> Option<&Email> {
        Some(&self.email)
    }

    /// Returns the user.
    pub const fn user(&self) -> &UserId {
        &self.user
    }

    /// Returns the login that it came from.
    pub const fn nonce(&self) -> Option<IdentityNonce> {
        self.nonce
    }

    /// Returns the identity record, if it could be fetched.
    pub const fn identity(&self) -> Option<&Arc<Identity>> {
        self.user_state.identity.as_ref()
    }

    /// Returns the time at which its token was issued.
    pub const fn issued(&self) -> UnixTime {
        self.issued
    }

    /// Returns the first second at which it is expired.
    pub const fn expires(&self) -> UnixTime {
        self.expires
    }
}
