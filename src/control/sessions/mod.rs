//! Sessions that a browser presents: on the team domain, and on an application's host.
//!
//! Decides which of the tokens in its cookies are valid. Trusts the team's keys and revocations.
//! Never uses one of two logins if both are valid: another host of the domain may have set a
//! cookie.

mod tokens;

use std::sync::Arc;

use http::HeaderMap;

use super::browser_session::BrowserSession;
use super::identities::Identities;
use super::issuer::TokenIssuer;
use super::running::Running;
use crate::cookie;
use crate::engine::Snapshot;
use crate::login::{PortalRequest, organisation_aud};
use crate::model::{Aud, Email, Identity, IdentityNonce, LoginOrder, Secret, UnixTime, UserId};
use crate::policy::Truth;
use crate::session::Presented;
use crate::store::StoreError;
use crate::token::{Candidate, Candidates, Claims, Kind};

/// Verifies the sessions of a browser, and issues them.
pub(crate) struct Sessions {
    running: Arc<Running>,
    issuer: Arc<TokenIssuer>,
    identities: Arc<Identities>,
}

/// A valid login: an organisation session and its identity.
#[derive(Clone, Debug)]
pub(crate) struct Login {
    pub(crate) nonce: IdentityNonce,
    pub(crate) identity: Arc<Identity>,
    pub(super) expires: UnixTime,
}

/// The organisation session of a browser on the team domain.
#[derive(Debug)]
pub(crate) enum Organisation {
    /// No session.
    Nobody,
    /// The session of one login.
    SignedIn(Login),
    /// Sessions of two logins. Another host of the domain may have set one of the cookies, so
    /// neither is used.
    Conflict,
}

/// The valid tokens among a request's cookies.
struct Tokens<'a> {
    valid: Vec<(&'a str, Claims)>,
    /// `true` if there were more than are checked.
    too_many: bool,
}

/// The sessions of a browser on one host.
pub(crate) struct BrowserSessions {
    /// One for each login: a single one, unless another host of the domain set a cookie.
    pub(crate) found: Vec<BrowserSession>,
    /// `true` if more tokens came than are verified, so that there may be other logins.
    pub(crate) are_incomplete: bool,
}

impl Sessions {
    pub(super) const fn new(
        running: Arc<Running>,
        issuer: Arc<TokenIssuer>,
        identities: Arc<Identities>,
    ) -> Self {
        Self {
            running,
            issuer,
            identities,
        }
    }

    /// Returns the identity record behind a login.
    ///
    /// # Errors
    /// If the store does not answer.
    pub(crate) async fn identity(
        &self,
        nonce: IdentityNonce,
        now: UnixTime,
    ) -> Result<Option<Arc<Identity>>, StoreError> {
        self.identities.identity(nonce, now).await
    }

    /// Returns the identity behind a browser's session, and keeps it up to date until the session
    /// ends: the caller may be an edge node, and this process does not see the requests there.
    ///
    /// # Errors
    /// If the store does not answer.
    pub(crate) async fn identity_behind(
        &self,
        session: &BrowserSession,
        now: UnixTime,
    ) -> Result<Option<Arc<Identity>>, StoreError> {
        let BrowserSession {
            nonce,
            issued,
            expires,
            ref token,
            ..
        } = *session;
        self.identities.keep_fresh_until(nonce, expires);
        self.identities.look_up(nonce, issued, token).await;
        self.identities.identity(nonce, now).await
    }

    /// Returns the organisation session of a browser on the team domain, if it has a single valid
    /// one.
    ///
    /// # Errors
    /// If the store does not answer, or has not for too long.
    pub(crate) async fn organisation_session(
        &self,
        headers: &HeaderMap,
        now: UnixTime,
    ) -> Result<Option<Login>, StoreError> {
        Ok(match self.organisation(headers, now).await? {
            Organisation::SignedIn(login) => Some(login),
            Organisation::Nobody | Organisation::Conflict => None,
        })
    }

    /// Returns the organisation session of a browser on the team domain.
    ///
    /// # Errors
    /// If the store does not answer, or has not for too long.
    pub(crate) async fn organisation(
        &self,
        headers: &HeaderMap,
        now: UnixTime,
    ) -> Result<Organisation, StoreError> {
        if !self.running.cache().revocations_are_good(now) {
            return Err(StoreError::Stale);
        }
        let snapshot = self.running.snapshot();
        let ours = organisation_aud(&snapshot);
        let is_ours = |claims: &Claims| {
            claims.kind == Kind::Org && claims.aud.iter().any(|a| *a == *ours.as_str())
        };
        let Tokens { valid, too_many } = self.tokens(&snapshot, headers, is_ours, now).await?;
        let mut found: Option<Login> = None;
        for (_, claims) in valid {
            let Some(nonce) = claims
                .identity_nonce
                .as_deref()
                .and_then(|n| IdentityNonce::parse(n).ok())
            else {
                continue;
            };
            let Some(identity) = self.identities.identity(nonce, now).await? else {
                continue;
            };
            let expires = identity.ends_by(claims.exp);
            if now >= expires {
                continue;
            }
            match &mut found {
                None => {
                    found = Some(Login {
                        nonce,
                        identity,
                        expires,
                    })
                }
                Some(login) if login.nonce == nonce => login.expires = login.expires.max(expires),
                Some(_) => return Ok(Organisation::Conflict),
            }
        }
        Ok(match found {
            _ if too_many => Organisation::Conflict,
            Some(login) => Organisation::SignedIn(login),
            None => Organisation::Nobody,
        })
    }

    /// Returns the sessions of a browser on this host.
    ///
    /// # Errors
    /// If a revocation can be decided only with the login's record, and the store does not answer.
    pub(crate) async fn in_browser(
        &self,
        request: &PortalRequest,
    ) -> Result<BrowserSessions, StoreError> {
        let snapshot = self.running.snapshot();
        let Tokens { valid, too_many } = self
            .tokens(&snapshot, &request.headers, |_| true, request.now)
            .await?;
        let mut logins: Vec<BrowserSession> = Vec::new();
        for (token, claims) in valid {
            let nonce = claims
                .identity_nonce
                .as_deref()
                .and_then(|n| IdentityNonce::parse(n).ok());
            let Some(nonce) =
                nonce.filter(|nonce| logins.iter().all(|login| login.nonce != *nonce))
            else {
                continue;
            };
            let email = claims.email.and_then(|email| Email::parse(&email).ok());
            let (user, issued, expires) = (UserId(claims.sub.into()), claims.iat, claims.exp);
            logins.push(BrowserSession {
                nonce,
                email,
                user,
                issued,
                expires,
                token: Secret::new(token),
            });
        }
        Ok(BrowserSessions {
            found: logins,
            are_incomplete: too_many,
        })
    }

    /// Returns every valid token among a request's cookies that was not revoked and fits, with its
    /// claims.
    async fn tokens<'a>(
        &self,
        snapshot: &Snapshot,
        headers: &'a HeaderMap,
        fits: impl Fn(&Claims) -> bool,
        now: UnixTime,
    ) -> Result<Tokens<'a>, StoreError> {
        let (mut verified, mut too_many) = (Vec::new(), false);
        let issuer = self
            .running
            .cache()
            .keys(snapshot.issuer())
            .filter(|keys| now < keys.good_until);
        if let Some(keys) = issuer.as_ref().and_then(|issuer| issuer.keys.as_ref()) {
            let mut candidates = Candidates::default();
            for token in cookie::octets(headers, cookie::AUTHORIZATION) {
                match candidates.judge(token, Some(keys), snapshot.issuer(), &fits, now) {
                    Candidate::Unverified { text, token } => {
                        let token =
                            token.verify(keys, snapshot.issuer(), now, snapshot.team().leeway);
                        verified.extend(token.ok().map(|token| (text, token.into_claims())));
                    }
                    Candidate::Hopeless => {}
                    Candidate::TooMany => too_many = true,
                }
            }
        }
        let mut valid = Vec::with_capacity(verified.len());
        for (token, claims) in verified {
            if !self.is_revoked(&claims, now).await? {
                valid.push((token, claims));
            }
        }
        Ok(Tokens { valid, too_many })
    }

    /// Returns `true` if a revocation covers the token. The record of its login is read only if
    /// that depends on it.
    async fn is_revoked(&self, claims: &Claims, now: UnixTime) -> Result<bool, StoreError> {
        let nonce = claims
            .identity_nonce
            .as_deref()
            .and_then(|n| IdentityNonce::parse(n).ok());
        let aud: Vec<Aud> = claims
            .aud
            .iter()
            .filter_map(|a| Aud::parse(a).ok())
            .collect();
        let (user, issued) = (UserId(claims.sub.as_str().into()), claims.iat);
        let cover = |login| {
            let presented = Presented {
                nonce,
                user: &user,
                aud: &aud,
                issued,
                login,
            };
            self.running.load().revocations().cover(presented)
        };
        let Some(nonce) = nonce else {
            return Ok(cover(Some(LoginOrder {
                revision: 0,
                at: issued,
            })) != Truth::False);
        };
        let covered = match cover(
            self.identities
                .known(nonce)
                .map(|identity| identity.order()),
        ) {
            Truth::Unknown => match self.identities.identity(nonce, now).await? {
                Some(identity) => cover(Some(identity.order())),
                None => Truth::True,
            },
            known => known,
        };
        Ok(covered != Truth::False)
    }
}
