//! Creating and linking logins.

mod logout_hint;

use std::sync::Arc;

use super::flows::Flows;
use super::records::Records;
use super::revoker::Revoker;
use super::running::Running;
use super::sessions::{Login, Sessions};
use super::store_watch::WatchedStore;
use crate::idp::ProviderIdentity;
use crate::login::{PortalRequest, organisation_aud};
use crate::model::{Identity, IdentityNonce, UnixTime, UserId};
use crate::policy::Truth;
use crate::session::Presented;
use crate::store::StoreError;

/// Why nobody was logged in.
#[derive(Clone, Copy, Debug)]
pub(crate) enum NoLogin {
    /// The login that was to go on is over.
    Over,
    /// The store does not answer.
    Store,
}

/// What a login is to become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Becomes {
    /// A session, whether there is one or not.
    Session,
    /// What goes on of the browser's session: where that was ended, nothing.
    Renewal,
}

/// Begins logins, links them, and ends them.
pub(crate) struct Logins {
    running: Arc<Running>,
    pub(super) store: Arc<WatchedStore>,
    records: Arc<Records>,
    pub(super) revoker: Arc<Revoker>,
    sessions: Arc<Sessions>,
    flows: Arc<Flows>,
}

impl Logins {
    pub(super) const fn new(
        running: Arc<Running>,
        store: Arc<WatchedStore>,
        records: Arc<Records>,
        revoker: Arc<Revoker>,
        sessions: Arc<Sessions>,
        flows: Arc<Flows>,
    ) -> Self {
        Self {
            running,
            store,
            records,
            revoker,
            sessions,
            flows,
        }
    }

    /// Ends a login, those beside it, and every other login of the same user that the store has.
    ///
    /// # Errors
    /// If the store does not answer; then not everything was ended.
    pub(crate) async fn end_sessions(
        &self,
        nonce: IdentityNonce,
        user: &UserId,
        now: UnixTime,
    ) -> Result<(), StoreError> {
        self.revoker.end_sessions(nonce, user, now).await
    }

    /// Writes down who logged in, and makes it known to the engine. `before`: the login that the
    /// browser had when it left for the provider, for where it does not show it now.
    pub(crate) async fn log_in(
        &self,
        profile: ProviderIdentity,
        before: Option<IdentityNonce>,
        becomes: Becomes,
        request: &PortalRequest,
    ) -> Result<Login, NoLogin> {
        let now = request.now;
        let services = self.running.services();
        let expires = now.after(services.identity_lifetime);
        let id_token = profile.id_token.clone();
        let team_session = now.after(services.team_session);
        let kept = async {
            let persisted = self.revoker.persist_revocations().await;
            let user = self.store.user(&profile.idp.id, &profile.subject).await?;
            if self.revoker.awaits_store(&user) {
                // A revocation that the store does not have yet would get a later revision than
                // this login.
                return Err(persisted.err().unwrap_or(StoreError::Stale));
            }
            let mut identity = profile.into_identity(user);
            let mut others = self.logins_of_browser(before, request).await?;
            if becomes == Becomes::Renewal && others.is_empty() {
                return Ok(None);
            }
            // Who logs in over their own session goes on with it, under one name: what is in other
            // tabs, and on other hosts of this browser, then ends with it.
            let own = others
                .iter()
                .position(|other| other.identity.user == identity.user);
            let own = own.map(|place| others.swap_remove(place));
            // Applications may each have a provider of their own: the same person may be logged in
            // through several.
            let same_person = |other: &Login| other.identity.email == identity.email;
            let elsewhere = |other: &Login| other.identity.idp.id != identity.idp.id;
            let (beside, ended): (Vec<_>, Vec<_>) = others
                .into_iter()
                .partition(|o| same_person(o) && elsewhere(o));
            identity.beside = beside.iter().map(|other| other.nonce).collect();
            let continued = match &own {
                Some(own) => self.continue_login(own.nonce, &identity, expires).await?,
                None => None,
            };
            let (nonce, identity) = match (own, continued) {
                (Some(own), Some(identity)) => (own.nonce, identity),
                // It was revoked in the meantime, here or at another process.
                (Some(_), None) if becomes == Becomes::Renewal => return Ok(None),
                _ => self.records.insert(identity, expires).await?,
            };
            if let Some(hint) = id_token.and_then(|token| self.logout_hint(nonce, &token)) {
                self.store.put_logout_hint(&nonce, &hint, expires).await?;
            }
            for other in ended {
                self.revoker.end_session(other.nonce, now).await?;
            }
            let all: Vec<_> = beside
                .iter()
                .map(|other| other.nonce)
                .chain([nonce])
                .collect();
            for Login { nonce: one, .. } in beside {
                let others = all.iter().copied().filter(|other| *other != one).collect();
                self.stand_beside(one, others, expires).await?;
            }
            let expires = identity.ends_by(team_session);
            Ok::<_, StoreError>(Some(Login {
                nonce,
                identity,
                expires,
            }))
        };
        match kept.await {
            Ok(login) => login.ok_or(NoLogin::Over),
            Err(error) => {
                self.store.failed(&error);
                Err(NoLogin::Store)
            }
        }
    }

    /// Replaces the record of a login by that of the same user's next one; `None` if the login is
    /// over. It keeps its place in the order of revocations: tokens from before come of it too, and
    /// a revocation that covers them covers it.
    async fn continue_login(
        &self,
        nonce: IdentityNonce,
        identity: &Identity,
        expires: UnixTime,
    ) -> Result<Option<Arc<Identity>>, StoreError> {
        // Answers about this person may be on their way into the record.
        let _one = self.records.lock(nonce).await;
        let Some(last) = self.records.stored(nonce).await? else {
            return Ok(None);
        };
        let evaluations = last.evaluations.clone();
        let identity = Identity {
            evaluations,
            revision: last.revision,
            ..identity.clone()
        };
        self.records
            .update(nonce, Arc::new(identity), expires)
            .await
    }

    /// The logins of a browser: the team's session, and those beside it.
    async fn logins_of_browser(
        &self,
        before: Option<IdentityNonce>,
        request: &PortalRequest,
    ) -> Result<Vec<Login>, StoreError> {
        let now = request.now;
        let session = match (
            self.sessions
                .organisation_session(&request.headers, now)
                .await?,
            before,
        ) {
            (None, Some(before)) => self.living(before, now).await?,
            (session, _) => session,
        };
        let mut logins: Vec<Login> = session.into_iter().collect();
        let beside = logins
            .first()
            .map(|login| login.identity.beside.clone())
            .unwrap_or_default();
        for nonce in beside.into_iter().take(MAX_BESIDE) {
            logins.extend(self.living(nonce, now).await?);
        }
        Ok(logins)
    }

    /// The login of that name, if it was not ended.
    async fn living(
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
        let lives = snapshot.revocations().cover(presented) == Truth::False;
        Ok(lives.then_some(Login {
            nonce,
            identity,
            expires: now,
        }))
    }

    /// Has a login end with these others, and with no more: what stood beside it and is over does
    /// not count.
    async fn stand_beside(
        &self,
        nonce: IdentityNonce,
        others: Vec<IdentityNonce>,
        expires: UnixTime,
    ) -> Result<(), StoreError> {
        let _one = self.records.lock(nonce).await;
        let known = self.records.known(nonce).is_some();
        let Some(identity) = self.records.stored(nonce).await? else {
            return Ok(());
        };
        if identity.beside == others {
            return Ok(());
        }
        let identity = Identity {
            beside: others,
            ..Identity::clone(&identity)
        };
        // What nobody looked at since it was written must be looked at when it is used.
        if self
            .records
            .update(nonce, Arc::new(identity), expires)
            .await?
            .is_some()
            && !known
        {
            self.running.known().forget_identity(&nonce);
        }
        Ok(())
    }
}

/// More providers than anybody uses at once.
const MAX_BESIDE: usize = 8;

#[cfg(test)]
mod tests;
