//! Sessions: what stays of a verified token between requests, and what ends one.
//!
//! Decides whether a session that was good is good still. Trusts tokens that were verified and
//! identity records that the store gave. Never outlives its token: the end of its time, a
//! revocation and a change of keys are looked at on every use.

mod revocations;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::{HeaderName, HeaderValue};
use smallvec::SmallVec;

pub use revocations::{Presented, Revocations, Until};

use crate::model::{Aud, Email, Identity, IdentityNonce, LoginOrder, SentHeader, UnixTime, UserId};
use crate::policy::{self, PartialVerdict, Policies, PolicySet, Requester, Truth};
use crate::token::{Claims, Kind, VerifiedToken};

/// A verified application token, ready for the next request: nothing in it has to be parsed, looked
/// up or built again.
#[derive(Debug)]
pub struct Session {
    /// The whole token: compared with what a request presents, and sent to the origin.
    assertion: HeaderValue,
    /// The address as a header value, for the origin.
    email_header: Option<HeaderValue>,
    email: Email,
    user: UserId,
    nonce: Option<IdentityNonce>,
    aud: SmallVec<[Aud; 1]>,
    issued: UnixTime,
    expires: UnixTime,
    /// Which key set it was verified with.
    key_set: u64,
    user_state: UserState,
}

/// What is known of the person, in the numbers of one snapshot.
#[derive(Debug)]
struct UserState {
    /// The identity record, where there is one; `None` where it could not be lookup.
    identity: Option<Arc<Identity>>,
    /// The order of the login among revocations; `None` if the record could not be lookup.
    login: Option<LoginOrder>,
    answers: policy::UserFacts,
    /// The application that `partial` is for.
    application: ApplicationIndex,
    partial: PartialVerdict,
    /// What origins are sent beside the address.
    headers: Box<[(HeaderName, HeaderValue)]>,
    /// Which snapshot's numbers these are.
    generation: u64,
    /// When an identity that could not be learned is asked for again.
    recheck: Option<UnixTime>,
    /// How many changes of identities were known when the record was last looked up.
    identity_changes: AtomicU64,
}

/// Why a verified token makes no session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the token is not an application's session")]
pub struct NotASession;

/// The index of an application in its snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApplicationIndex(pub usize);

/// What the snapshot contributes to a session.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The snapshot's Access groups and questions.
    pub policy_set: &'a PolicySet,
    /// Its number.
    pub generation: u64,
    /// The number of the key set.
    pub key_set: u64,
    /// How often identities have changed.
    pub identity_changes: u64,
    /// The application of the request.
    pub application: ApplicationIndex,
    /// Its policies.
    pub policies: &'a Policies,
    /// Which headers origins are sent of what a provider says.
    pub sent_headers: &'a [SentHeader],
}

/// An identity record as it was found.
#[derive(Clone, Debug, Default)]
pub struct IdentityLookup {
    /// The record; `None` where there is none, or where it could not be lookup.
    pub identity: Option<Arc<Identity>>,
    /// When one that could not be learned is asked for again.
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

/// A name that is no longer configured is nobody's, and so is not sent: clients might send it as
/// well. One that another provider has is not this one's to set.
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

/// A token without a nonce has no record: it comes before every revocation.
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
    /// Makes a session of a verified token and the identity behind it.
    ///
    /// # Errors
    /// Where the token is not an application token, or names nobody, or somebody else than the
    /// identity.
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

    /// The same session under another snapshot, or with another identity record.
    ///
    /// # Errors
    /// Where the record is somebody else's.
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

    /// Returns `true` if both came from one login. Tokens that name no login are told apart by the
    /// user.
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

    /// Whether this is the session of exactly that token.
    pub fn is_of(&self, token: &[u8]) -> bool {
        self.assertion.as_bytes() == token
    }

    /// Whether it was verified with that key set. Where it was not, it is as good as never seen.
    pub const fn was_verified_with(&self, key_set: u64) -> bool {
        self.key_set == key_set
    }

    /// Whether what is known of the person is up to date: the snapshot's numbers, the record, the
    /// time to ask again.
    pub fn is_current(&self, generation: u64, identity_changes: u64, now: UnixTime) -> bool {
        self.user_state.generation == generation
            && self.user_state.identity_changes.load(Ordering::Relaxed) == identity_changes
            && self.user_state.recheck.is_none_or(|at| now < at)
    }

    /// Makes it up to date, where it turns out that nothing changed for this person; answers
    /// whether that is so.
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

    /// Whether its time is over.
    pub fn has_expired(&self, now: UnixTime) -> bool {
        now >= self.expires
    }

    /// Returns [`Truth::True`] if a revocation covers the session, and [`Truth::Unknown`] if that
    /// depends on a record that could not be lookup.
    pub fn is_revoked(&self, revocations: &Revocations) -> Truth {
        revocations.cover(Presented {
            nonce: self.nonce,
            user: &self.user,
            aud: &self.aud,
            issued: self.issued,
            login: self.user_state.login,
        })
    }

    /// Whether it is for that application.
    pub fn is_for(&self, aud: &Aud) -> bool {
        self.aud.contains(aud)
    }

    /// What the policies ask about the person, answered.
    pub const fn answers(&self) -> &policy::UserFacts {
        &self.user_state.answers
    }

    /// Returns the user's partial verdict, if the session keeps that of this application.
    pub fn partial_verdict(&self, application: ApplicationIndex) -> Option<&PartialVerdict> {
        (self.user_state.application == application).then_some(&self.user_state.partial)
    }

    /// The token, for the origin.
    pub const fn assertion(&self) -> &HeaderValue {
        &self.assertion
    }

    /// The address, for the origin.
    pub const fn email_header(&self) -> Option<&HeaderValue> {
        self.email_header.as_ref()
    }

    /// What the provider says of the person, for the origin: the same name once for each value.
    pub fn headers(&self) -> &[(HeaderName, HeaderValue)] {
        &self.user_state.headers
    }

    /// The address.
    pub const fn email(&self) -> Option<&Email> {
        Some(&self.email)
    }

    /// The person.
    pub const fn user(&self) -> &UserId {
        &self.user
    }

    /// The login it came from.
    pub const fn nonce(&self) -> Option<IdentityNonce> {
        self.nonce
    }

    /// The identity record, where it could be lookup.
    pub const fn identity(&self) -> Option<&Arc<Identity>> {
        self.user_state.identity.as_ref()
    }

    /// When its token was issued.
    pub const fn issued(&self) -> UnixTime {
        self.issued
    }

    /// The first second at which it is over.
    pub const fn expires(&self) -> UnixTime {
        self.expires
    }
}
