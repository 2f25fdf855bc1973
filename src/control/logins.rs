//! Logins, from the record of who came to their end, and which of them belong to one browser.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError};

use super::Access;
use super::access::{Login, organisation_aud};
use crate::engine::IdentityState;
use crate::idp::Profile;
use crate::model::{Identity, IdentityNonce, UnixTime, UserId};
use crate::portal::PortalRequest;
use crate::store::{Revocation, StoreError};

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

impl Access {
    /// Writes down who logged in, and makes it known to the engine.
    /// `before`: the login that the browser had when it left for the provider, for where it does not show it now.
    pub(crate) async fn log_in(
        &self,
        profile: Profile,
        before: Option<IdentityNonce>,
        becomes: Becomes,
        request: &PortalRequest,
    ) -> Result<Login, NoLogin> {
        let now = request.now;
        let services = self.services();
        let lifetime = services.identity_lifetime;
        let id_token = profile.id_token.clone();
        let team_session = now.after(services.team_session);
        let kept = async {
            let user = self.store.user(&profile.idp.id, &profile.subject).await?;
            let mut identity = profile.into_identity(user);
            let mut others = self.logins_of_browser(before, request).await?;
            if becomes == Becomes::Renewal && others.is_empty() {
                return Ok(None);
            }
            // Who logs in over their own session goes on with it, under one name: what is in other tabs, and on other hosts of
            // this browser, then ends with it.
            let own = others.iter().position(|other| other.identity.user == identity.user);
            let own = own.map(|place| others.swap_remove(place));
            let nonce = own.as_ref().map_or_else(IdentityNonce::random, |own| own.nonce);
            // Applications may each have a provider of their own: the same person may be logged in through several.
            let same_person = |other: &Login| other.identity.email == identity.email;
            let elsewhere = |other: &Login| other.identity.idp.id != identity.idp.id;
            let (beside, ended): (Vec<_>, Vec<_>) = others.into_iter().partition(|o| same_person(o) && elsewhere(o));
            identity.beside = beside.iter().map(|other| other.nonce).collect();
            // Answers about this person may be on their way into the record.
            let one = self.asking.get_with(nonce, Arc::default);
            let held = one.lock().await;
            if own.is_some()
                && let Some(last) = self.identity(nonce, now).await?
            {
                identity.evaluations.clone_from(&last.evaluations);
            }
            self.store.put_identity(&nonce, &identity, now.after(lifetime)).await?;
            if let Some(hint) = id_token.and_then(|token| self.logout_hint(nonce, &token)) {
                self.store.put_logout_hint(&nonce, &hint, now.after(lifetime)).await?;
            }
            let identity = Arc::new(identity);
            self.known.set_identity(nonce, IdentityState::Known(Arc::clone(&identity)));
            drop(held);
            for other in ended {
                self.end_session(other.nonce, now).await?;
            }
            let all: Vec<_> = beside.iter().map(|other| other.nonce).chain([nonce]).collect();
            for Login { nonce: one, .. } in beside {
                let others = all.iter().copied().filter(|other| *other != one).collect();
                self.stand_beside(one, others, now.after(lifetime)).await?;
            }
            let expires = identity.ends_by(team_session);
            Ok::<_, StoreError>(Some(Login { nonce, identity, expires }))
        };
        match kept.await {
            Ok(login) => login.ok_or(NoLogin::Over),
            Err(error) => {
                self.store_failed(&error);
                Err(NoLogin::Store)
            }
        }
    }

    /// The logins of a browser: the team's session, and those beside it.
    async fn logins_of_browser(
        &self,
        before: Option<IdentityNonce>,
        request: &PortalRequest,
    ) -> Result<Vec<Login>, StoreError> {
        let now = request.now;
        let session = match (self.organisation_session(&request.headers, now).await?, before) {
            (None, Some(before)) => self.living(before, now).await?,
            (session, _) => session,
        };
        let mut logins: Vec<Login> = session.into_iter().collect();
        let beside = logins.first().map(|login| login.identity.beside.clone()).unwrap_or_default();
        for nonce in beside.into_iter().take(MAX_BESIDE) {
            logins.extend(self.living(nonce, now).await?);
        }
        Ok(logins)
    }

    /// The login of that name, if it was not ended.
    async fn living(&self, nonce: IdentityNonce, now: UnixTime) -> Result<Option<Login>, StoreError> {
        let snapshot = self.snapshot();
        let Some(identity) = self.record(nonce).await? else { return Ok(None) };
        let ours = [organisation_aud(&snapshot)];
        let ended = snapshot.revocations().cover(Some(nonce), &identity.user, &ours, identity.at);
        Ok((!ended).then_some(Login { nonce, identity, expires: now }))
    }

    /// The record behind a login as it was written, whatever became of the person since.
    async fn record(&self, nonce: IdentityNonce) -> Result<Option<Arc<Identity>>, StoreError> {
        match self.known_identity(nonce) {
            Some(identity) => Ok(Some(identity)),
            None => Ok(self.store.identity(&nonce).await?.map(Arc::new)),
        }
    }

    /// Has a login end with these others, and with no more: what stood beside it and is over does not count.
    async fn stand_beside(
        &self,
        nonce: IdentityNonce,
        others: Vec<IdentityNonce>,
        expires: UnixTime,
    ) -> Result<(), StoreError> {
        let one = self.asking.get_with(nonce, Arc::default);
        let _one = one.lock().await;
        let known = matches!(self.known.identity(&nonce), Some(IdentityState::Known(_)));
        let Some(identity) = self.record(nonce).await? else { return Ok(()) };
        if identity.beside == others {
            return Ok(());
        }
        let identity = Identity { beside: others, ..Identity::clone(&identity) };
        self.store.put_identity(&nonce, &identity, expires).await?;
        // What nobody looked at since it was written must be looked at when it is used.
        if known {
            self.known.set_identity(nonce, IdentityState::Known(Arc::new(identity)));
        } else {
            self.known.forget_identity(&nonce);
        }
        Ok(())
    }

    /// Ends a login everywhere: in the store first, so that no restart brings it back, then here.
    ///
    /// # Errors
    /// Where the store does not answer; then nothing was ended.
    pub(crate) async fn end_session(&self, nonce: IdentityNonce, now: UnixTime) -> Result<(), StoreError> {
        self.revoke(Revocation::Session(nonce), now).await
    }

    /// Ends a login, those beside it, and all others of the same person that began before this second.
    ///
    /// # Errors
    /// Where the store does not answer; then not everything was ended.
    pub(crate) async fn end_sessions(
        &self,
        nonce: IdentityNonce,
        user: &UserId,
        now: UnixTime,
    ) -> Result<(), StoreError> {
        let stored = self.store.identity(&nonce).await.inspect_err(|error| self.store_failed(error))?;
        // What was read of the store while another login came to stand beside this one may be all that is known here.
        let known = self.known_identity(nonce);
        let beside = stored.iter().chain(known.as_deref()).flat_map(|identity| identity.beside.iter().copied());
        for beside in beside.collect::<HashSet<_>>() {
            match self.record(beside).await.inspect_err(|error| self.store_failed(error))? {
                Some(other) => self.revoke_all(ends(beside, &other.user, now), now).await?,
                None => self.end_session(beside, now).await?,
            }
        }
        // Last, so that whoever is told that it failed can try again.
        self.revoke_all(ends(nonce, user, now), now).await
    }

    /// The same, whatever the store says: here at once, as far as these logins are known here, and in the store as soon as
    /// it takes it. Only where this process ends before that, a restart brings them back. `identity` is the record as it was
    /// found, which need not be known here yet.
    pub(super) async fn end_sessions_whatever(&self, nonce: IdentityNonce, identity: &Identity, now: UnixTime) {
        let user = &identity.user;
        let known = self.known_identity(nonce);
        let beside = known.as_deref().into_iter().chain([identity]).flat_map(|identity| &identity.beside);
        let beside = beside.flat_map(|beside| {
            let other = self.known_identity(*beside);
            other.map_or_else(|| vec![Revocation::Session(*beside)], |other| ends(*beside, &other.user, now).into())
        });
        self.revoke_here(beside.chain(ends(nonce, user, now)), now);
        if self.end_sessions(nonce, user, now).await.is_err() {
            let mut owed = self.owed.lock().unwrap_or_else(PoisonError::into_inner);
            owed.entry(nonce).or_insert_with(|| (user.clone(), now));
        }
    }

    /// Writes down what the store did not take before.
    pub(super) async fn end_those_owed(&self) -> Result<(), StoreError> {
        let owed = self.owed.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for (nonce, (user, at)) in owed {
            self.end_sessions(nonce, &user, at).await?;
            self.owed.lock().unwrap_or_else(PoisonError::into_inner).remove(&nonce);
            tracing::info!(user = &*user.0, "the end of a login that the store did not take before is in it");
        }
        Ok(())
    }

    async fn revoke_all(&self, revocations: [Revocation; 2], now: UnixTime) -> Result<(), StoreError> {
        for revocation in revocations {
            self.revoke(revocation, now).await?;
        }
        Ok(())
    }

    fn known_identity(&self, nonce: IdentityNonce) -> Option<Arc<Identity>> {
        match self.known.identity(&nonce) {
            Some(IdentityState::Known(identity)) => Some(identity),
            _ => None,
        }
    }
}

/// What ends with a login.
fn ends(nonce: IdentityNonce, user: &UserId, now: UnixTime) -> [Revocation; 2] {
    // Who signs out and in again within one second must not be out again.
    let before = UnixTime(now.0.saturating_sub(1));
    [Revocation::Session(nonce), Revocation::User { user: user.clone(), before }]
}

/// More providers than anybody uses at once.
const MAX_BESIDE: usize = 8;
