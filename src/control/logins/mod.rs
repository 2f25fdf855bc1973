//! Creating and linking logins.
//!
//! Decides which logins of a browser a new one continues, replaces or is linked to. Trusts the
//! identity that the provider authenticated. Never starts a login that a pending revocation would
//! cover.

mod logout_hint;

use std::sync::Arc;

use super::flows::Flows;
use super::records::Records;
use super::repositories::Watched;
use super::revoker::Revoker;
use super::running::Running;
use super::sessions::{Login, Sessions};
use crate::idp::ProviderIdentity;
use crate::login::{PortalRequest, organisation_aud};
use crate::model::{Identity, IdentityNonce, UnixTime, UserId};
use crate::policy::Truth;
use crate::session::Presented;
use crate::store::{LoginRepository, StoreError};

/// The cause for which a login did not start.
#[derive(Clone, Copy, Debug)]
pub(crate) enum LoginError {
    /// The session to refresh, or the user since the browser returned, was revoked.
    Revoked,
    /// The store did not answer.
    Store,
}

/// The effect of an authenticated identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LoginMode {
    /// Starts a session, or continues the user's session in this browser.
    Start,
    /// Updates the browser's session. Fails if it is revoked.
    Refresh,
}

/// A user, authenticated by the identity provider.
pub(crate) struct Authenticated {
    pub(crate) profile: ProviderIdentity,
    /// The login that the browser had when it left for the provider: it may not present that
    /// session when it returns.
    pub(crate) previous: Option<IdentityNonce>,
    /// The store's revision when the browser returned: a revocation of the user since then covers
    /// the login.
    pub(crate) began: u64,
}

/// Starts logins, links them, and revokes them.
pub(crate) struct Logins {
    running: Arc<Running>,
    repository: Watched<dyn LoginRepository>,
    records: Arc<Records>,
    revoker: Arc<Revoker>,
    sessions: Arc<Sessions>,
    flows: Arc<Flows>,
}

/// The logins of a browser, sorted by their relation to a new one.
struct BrowserLogins {
    /// The same user's. The new login continues it, so that other tabs and hosts of the browser end
    /// with it.
    own: Option<Login>,
    /// The same person's at other providers: applications may each require a provider of their own.
    linked: Vec<Login>,
    /// All others. The new login ends them.
    replaced: Vec<Login>,
}

impl Logins {
    pub(super) const fn new(
        running: Arc<Running>,
        repository: Watched<dyn LoginRepository>,
        records: Arc<Records>,
        revoker: Arc<Revoker>,
        sessions: Arc<Sessions>,
        flows: Arc<Flows>,
    ) -> Self {
        Self {
            running,
            repository,
            records,
            revoker,
            sessions,
            flows,
        }
    }

    /// Revokes a login, those linked to it, and every other login of the same user.
    ///
    /// # Errors
    /// If the store does not answer. Some of them may be revoked then.
    pub(crate) async fn end_sessions(
        &self,
        nonce: IdentityNonce,
        user: &UserId,
        now: UnixTime,
    ) -> Result<(), StoreError> {
        self.revoker.revoke_user(nonce, user, now).await
    }

    /// Stores the login of an authenticated user, and publishes its identity to the engine.
    ///
    /// # Errors
    /// See [`LoginError`].
    pub(crate) async fn log_in(
        &self,
        user: Authenticated,
        mode: LoginMode,
        request: &PortalRequest,
    ) -> Result<Login, LoginError> {
        match self.store_login(user, mode, request).await {
            Ok(login) => login.ok_or(LoginError::Revoked),
            Err(error) => {
                self.repository.failed(&error);
                Err(LoginError::Store)
            }
        }
    }

    /// Performs the steps of [`Logins::log_in`]; `None` if the login, or the session to refresh, is
    /// revoked.
    async fn store_login(
        &self,
        Authenticated {
            profile,
            previous,
            began,
        }: Authenticated,
        mode: LoginMode,
        request: &PortalRequest,
    ) -> Result<Option<Login>, StoreError> {
        let (services, now) = (self.running.services(), request.now);
        let expires = now.after(services.identity_lifetime);
        let id_token = profile.id_token.clone();
        let user = self.user(&profile).await?;
        let mut identity = profile.into_identity(user);
        let logins = self.logins_of_browser(previous, request).await?;
        if mode == LoginMode::Refresh && logins.is_empty() {
            return Ok(None);
        }
        let BrowserLogins {
            own,
            linked,
            replaced,
        } = BrowserLogins::sort(logins, &identity);
        identity.beside = linked.iter().map(|login| login.nonce).collect();
        let own = own.map(|login| login.nonce);
        let stored = self
            .continue_or_start(own, identity, began, mode, expires)
            .await?;
        let Some((nonce, identity)) = stored else {
            return Ok(None);
        };
        if let Some(hint) = id_token.and_then(|token| self.logout_hint(nonce, &token)) {
            self.repository
                .put_logout_hint(&nonce, &hint, expires)
                .await?;
        }
        for login in replaced {
            self.revoker.revoke_login(login.nonce, now).await?;
        }
        self.link_to(nonce, &identity.beside, expires).await?;
        let expires = identity.ends_by(now.after(services.team_session));
        Ok(Some(Login {
            nonce,
            identity,
            expires,
        }))
    }

    /// Returns the user of a profile.
    ///
    /// # Errors
    /// If the store does not answer, or has not accepted a revocation of the user yet: that would
    /// get a later revision than the login, and so cover it.
    async fn user(&self, profile: &ProviderIdentity) -> Result<UserId, StoreError> {
        let persisted = self.revoker.persist_revocations().await;
        let user = self
            .repository
            .user(&profile.idp.id, &profile.subject)
            .await?;
        if self.revoker.awaits_store(&user) {
            return Err(persisted.err().unwrap_or(StoreError::Stale));
        }
        Ok(user)
    }

    /// Continues the browser's own login, or stores a new one; `None` if the user, or the login to
    /// refresh, was revoked in the meantime, here or by another process.
    async fn continue_or_start(
        &self,
        own: Option<IdentityNonce>,
        identity: Identity,
        began: u64,
        mode: LoginMode,
        expires: UnixTime,
    ) -> Result<Option<(IdentityNonce, Arc<Identity>)>, StoreError> {
        if let Some(nonce) = own {
            if let Some(identity) = self.continue_login(nonce, &identity, expires).await? {
                return Ok(Some((nonce, identity)));
            }
            if mode == LoginMode::Refresh {
                return Ok(None);
            }
        }
        self.records.insert(identity, began, expires).await
    }

    /// Replaces the record of a login by that of the same user's next one; `None` if the login is
    /// revoked. The record keeps its revision. Earlier tokens belong to it too, so a revocation that
    /// covers them has to cover it.
    async fn continue_login(
        &self,
        nonce: IdentityNonce,
        identity: &Identity,
        expires: UnixTime,
    ) -> Result<Option<Arc<Identity>>, StoreError> {
        // An answer of an evaluation service may be about to change the record.
        let _lock = self.records.lock(nonce).await;
        let Some(last) = self.records.stored(nonce).await? else {
            return Ok(None);
        };
        let identity = Identity {
            evaluations: last.evaluations.clone(),
            revision: last.revision,
            ..identity.clone()
        };
        self.records
            .update(nonce, Arc::new(identity), expires)
            .await
    }

    /// Returns the logins of a browser: that of its organisation session, and those linked to it.
    async fn logins_of_browser(
        &self,
        before: Option<IdentityNonce>,
        request: &PortalRequest,
    ) -> Result<Vec<Login>, StoreError> {
        let (headers, now) = (&request.headers, request.now);
        let session = self.sessions.organisation_session(headers, now).await?;
        let login = match (session, before) {
            (None, Some(before)) => self.unrevoked(before, now).await?,
            (session, _) => session,
        };
        let Some(login) = login else {
            return Ok(Vec::new());
        };
        let linked = login.identity.beside.clone();
        let mut logins = vec![login];
        for nonce in linked.into_iter().take(MAX_LINKED) {
            logins.extend(self.unrevoked(nonce, now).await?);
        }
        Ok(logins)
    }

    /// Returns the login of that name, unless it is revoked.
    async fn unrevoked(
        &self,
        nonce: IdentityNonce,
        now: UnixTime,
    ) -> Result<Option<Login>, StoreError> {
        let snapshot = self.running.snapshot();
        let Some(identity) = self.records.stored(nonce).await? else {
            return Ok(None);
        };
        let presented = Presented {
            nonce: Some(nonce),
            user: &identity.user,
            aud: &[organisation_aud(&snapshot)],
            issued: identity.at,
            login: Some(identity.order()),
        };
        let is_valid = snapshot.revocations().cover(presented) == Truth::False;
        Ok(is_valid.then_some(Login {
            nonce,
            identity,
            expires: now,
        }))
    }

    /// Links each of `linked` to the new login and to one another.
    async fn link_to(
        &self,
        new: IdentityNonce,
        linked: &[IdentityNonce],
        expires: UnixTime,
    ) -> Result<(), StoreError> {
        for one in linked {
            let others = linked.iter().copied().chain([new]);
            let others = others.filter(|other| other != one).collect();
            self.link_logins(*one, others, expires).await?;
        }
        Ok(())
    }

    /// Replaces the set of logins that are revoked together with this one.
    async fn link_logins(
        &self,
        nonce: IdentityNonce,
        others: Vec<IdentityNonce>,
        expires: UnixTime,
    ) -> Result<(), StoreError> {
        let _lock = self.records.lock(nonce).await;
        let was_known = self.records.known(nonce).is_some();
        let Some(identity) = self.records.stored(nonce).await? else {
            return Ok(());
        };
        if identity.beside == others {
            return Ok(());
        }
        let identity = Arc::new(Identity {
            beside: others,
            ..Identity::clone(&identity)
        });
        let updated = self.records.update(nonce, identity, expires).await?;
        // No task kept this record's groups up to date, so its next use has to look it up.
        if updated.is_some() && !was_known {
            self.running.cache().forget_identity(&nonce);
        }
        Ok(())
    }
}

impl BrowserLogins {
    fn sort(mut logins: Vec<Login>, new: &Identity) -> Self {
        let own = logins
            .iter()
            .position(|login| login.identity.user == new.user)
            .map(|index| logins.swap_remove(index));
        let (linked, replaced) = logins.into_iter().partition(|login| {
            login.identity.email == new.email && login.identity.idp.id != new.idp.id
        });
        Self {
            own,
            linked,
            replaced,
        }
    }
}

/// The most linked logins that are read. No user needs as many providers.
const MAX_LINKED: usize = 8;

#[cfg(test)]
mod tests;
