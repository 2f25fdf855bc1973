//! Sessions: what stays of a verified token between requests, and what ends one.
//!
//! Decides whether a session that was good is good still. Trusts tokens that were verified and identity records that the
//! store gave. Never outlives its token: the end of its time, a revocation and a change of keys are looked at on every use.

mod revocations;

use std::sync::Arc;

use http::HeaderValue;

pub use revocations::Revocations;

use crate::model::{Aud, Email, Identity, IdentityNonce, UnixTime, UserId};
use crate::policy::{Facts, Interner, Membership};
use crate::token::{Claims, Kind, VerifiedToken};

/// A verified application token, ready for the next request: nothing in it has to be parsed, looked up or built again.
#[derive(Debug)]
pub struct Session {
    /// The whole token: compared with what a request presents, and sent to the origin.
    assertion: HeaderValue,
    /// The address as a header value, for the origin.
    email_header: Option<HeaderValue>,
    email: Option<Email>,
    user: UserId,
    nonce: Option<IdentityNonce>,
    aud: Box<[Aud]>,
    issued: UnixTime,
    expires: UnixTime,
    /// The identity record, where there is one; `None` where it could not be learned.
    identity: Option<Arc<Identity>>,
    idp: Option<u32>,
    groups: Option<Membership>,
    /// Which snapshot's numbers `idp` and `groups` are.
    generation: u64,
    /// Which state of the keys it was verified against.
    keys: u64,
    /// When an identity that could not be learned is asked for again.
    recheck: Option<UnixTime>,
}

/// Why a verified token makes no session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the token is not an application's session")]
pub struct NotASession;

/// What the snapshot contributes to a session.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The names of the snapshot.
    pub interner: &'a Interner,
    /// Its number.
    pub generation: u64,
    /// The state of the keys.
    pub keys: u64,
}

impl Session {
    /// Makes a session of a verified token and the identity behind it.
    ///
    /// # Errors
    /// Where the token is not an application token, or names nobody.
    pub fn new(
        token: &str,
        verified: VerifiedToken,
        identity: Option<Arc<Identity>>,
        recheck: Option<UnixTime>,
        context: Context<'_>,
    ) -> Result<Self, NotASession> {
        let Claims { kind, aud, sub, email, identity_nonce, iat, exp, .. } = verified.into_claims();
        let email = email.map(|e| Email::parse(&e)).transpose().map_err(|_| NotASession)?;
        let nonce = identity_nonce.map(|n| IdentityNonce::parse(&n)).transpose().map_err(|_| NotASession)?;
        let aud: Box<[Aud]> = aud.iter().map(|a| Aud::parse(a)).collect::<Result<_, _>>().map_err(|_| NotASession)?;
        let same_person = identity.as_ref().is_none_or(|i| Some(&i.email) == email.as_ref());
        if kind != Kind::App || email.is_none() || sub.is_empty() || aud.is_empty() || !same_person {
            return Err(NotASession);
        }
        let mut assertion = HeaderValue::try_from(token).map_err(|_| NotASession)?;
        assertion.set_sensitive(true);
        let header = |email: &Email| HeaderValue::from_bytes(email.as_str().as_bytes());
        let email_header = email.as_ref().map(header).transpose().map_err(|_| NotASession)?;
        let idp = identity.as_ref().map(|i| context.interner.provider_number(&i.idp.id));
        let groups = identity.as_ref().and_then(|i| context.interner.membership(&i.idp.id, &i.groups));
        Ok(Self {
            assertion,
            email_header,
            email,
            user: UserId(sub.into()),
            nonce,
            aud,
            issued: iat,
            expires: exp,
            identity,
            idp,
            groups,
            generation: context.generation,
            keys: context.keys,
            recheck,
        })
    }

    /// The same session under another snapshot.
    #[must_use]
    pub fn under(&self, context: Context<'_>) -> Self {
        Self {
            assertion: self.assertion.clone(),
            email_header: self.email_header.clone(),
            email: self.email.clone(),
            user: self.user.clone(),
            nonce: self.nonce,
            aud: self.aud.clone(),
            issued: self.issued,
            expires: self.expires,
            identity: self.identity.clone(),
            idp: self.identity.as_ref().map(|i| context.interner.provider_number(&i.idp.id)),
            groups: self.identity.as_ref().and_then(|i| context.interner.membership(&i.idp.id, &i.groups)),
            generation: context.generation,
            keys: self.keys,
            recheck: self.recheck,
        }
    }

    /// Whether this is the session of exactly that token.
    pub fn is_of(&self, token: &str) -> bool {
        self.assertion.as_bytes() == token.as_bytes()
    }

    /// Whether the snapshot's names are the ones it was made with.
    pub const fn is_current(&self, generation: u64) -> bool {
        self.generation == generation
    }

    /// Whether the keys are still those it was verified with, and its identity need not be asked for again.
    pub fn is_settled(&self, keys: u64, now: UnixTime) -> bool {
        self.keys == keys && self.recheck.is_none_or(|at| now < at)
    }

    /// Whether its time is over.
    pub fn has_expired(&self, now: UnixTime) -> bool {
        now >= self.expires
    }

    /// Whether it was signed out or revoked.
    pub fn is_revoked(&self, revocations: &Revocations) -> bool {
        revocations.cover(self.nonce, &self.user, &self.aud, self.issued)
    }

    /// Whether it is for that application.
    pub fn is_for(&self, aud: &Aud) -> bool {
        self.aud.contains(aud)
    }

    /// What policies may ask about the person.
    pub fn facts(&self, ip: std::net::IpAddr) -> Facts<'_> {
        Facts { email: self.email.as_ref().map(Email::as_str), idp: self.idp, groups: self.groups.as_ref(), ip }
    }

    /// The token, for the origin.
    pub const fn assertion(&self) -> &HeaderValue {
        &self.assertion
    }

    /// The address, for the origin.
    pub const fn email_header(&self) -> Option<&HeaderValue> {
        self.email_header.as_ref()
    }

    /// The address.
    pub const fn email(&self) -> Option<&Email> {
        self.email.as_ref()
    }

    /// The person.
    pub const fn user(&self) -> &UserId {
        &self.user
    }

    /// The login it came from.
    pub const fn nonce(&self) -> Option<IdentityNonce> {
        self.nonce
    }

    /// The identity record, where it could be learned.
    pub const fn identity(&self) -> Option<&Arc<Identity>> {
        self.identity.as_ref()
    }

    /// The first second at which it is over.
    pub const fn expires(&self) -> UnixTime {
        self.expires
    }
}
