//! Logins, from the record of who came to their end, and which of them belong to one browser.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Access;
use super::access::{Login, organisation_aud};
use crate::engine::IdentityState;
use crate::idp::Profile;
use crate::login::PortalRequest;
use crate::model::{Identity, IdentityNonce, UnixTime, UserId};
use crate::policy::Truth;
use crate::session::Presented;
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
    /// Writes down who logged in, and makes it known to the engine. `before`: the login that the
    /// browser had when it left for the provider, for where it does not show it now.
    pub(crate) async fn log_in(
        &self,
        profile: Profile,
        before: Option<IdentityNonce>,
        becomes: Becomes,
        request: &PortalRequest,
    ) -> Result<Login, NoLogin> {
        let now = request.now;
        let services = self.services();
        let expires = now.after(services.identity_lifetime);
        let id_token = profile.id_token.clone();
        let team_session = now.after(services.team_session);
        let kept = async {
            let persisted = self.persist_revocations().await;
            let user = self.store.user(&profile.idp.id, &profile.subject).await?;
            if self.unpersisted.concern(&user) {
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
                _ => self.begin_login(identity, expires).await?,
            };
            if let Some(hint) = id_token.and_then(|token| self.logout_hint(nonce, &token)) {
                self.store.put_logout_hint(&nonce, &hint, expires).await?;
            }
            for other in ended {
                self.end_session(other.nonce, now).await?;
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
                self.store_failed(&error);
                Err(NoLogin::Store)
            }
        }
    }

    /// Stores a new login. No revocation so far covers it, and every later one of its user does.
    async fn begin_login(
        &self,
        identity: Identity,
        expires: UnixTime,
    ) -> Result<(IdentityNonce, Arc<Identity>), StoreError> {
        let nonce = IdentityNonce::random();
        let revision = self
            .store
            .insert_identity(&nonce, &identity, expires)
            .await?;
        let identity = Arc::new(Identity {
            revision,
            ..identity
        });
        self.known
            .set_identity(nonce, IdentityState::Known(Arc::clone(&identity)));
        Ok((nonce, identity))
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
        let one = self.asking.get_with(nonce, Arc::default);
        let _one = one.lock().await;
        let Some(last) = self.record(nonce).await? else {
            return Ok(None);
        };
        let evaluations = last.evaluations.clone();
        let identity = Identity {
            evaluations,
            revision: last.revision,
            ..identity.clone()
        };
        self.update_record(nonce, Arc::new(identity), expires).await
    }

    /// Writes a changed record and publishes it; `None` if the login is over in the store. The
    /// caller holds the lock of the login in `asking`.
    pub(super) async fn update_record(
        &self,
        nonce: IdentityNonce,
        identity: Arc<Identity>,
        expires: UnixTime,
    ) -> Result<Option<Arc<Identity>>, StoreError> {
        if self
            .store
            .update_identity(&nonce, &identity, expires)
            .await?
        {
            self.known
                .set_identity(nonce, IdentityState::Known(Arc::clone(&identity)));
            Ok(Some(identity))
        } else {
            // Another process has revoked the login. Its sessions here end now, before that is
            // followed.
            self.known.set_identity(nonce, IdentityState::Missing);
            Ok(None)
        }
    }

    /// The logins of a browser: the team's session, and those beside it.
    async fn logins_of_browser(
        &self,
        before: Option<IdentityNonce>,
        request: &PortalRequest,
    ) -> Result<Vec<Login>, StoreError> {
        let now = request.now;
        let session = match (
            self.organisation_session(&request.headers, now).await?,
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
        let snapshot = self.snapshot();
        let Some(identity) = self.record(nonce).await? else {
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

    /// The record behind a login as it was written, whatever became of the person since.
    async fn record(&self, nonce: IdentityNonce) -> Result<Option<Arc<Identity>>, StoreError> {
        match self.known_identity(nonce) {
            Some(identity) => Ok(Some(identity)),
            None => Ok(self.store.identity(&nonce).await?.map(Arc::new)),
        }
    }

    /// Has a login end with these others, and with no more: what stood beside it and is over does
    /// not count.
    async fn stand_beside(
        &self,
        nonce: IdentityNonce,
        others: Vec<IdentityNonce>,
        expires: UnixTime,
    ) -> Result<(), StoreError> {
        let one = self.asking.get_with(nonce, Arc::default);
        let _one = one.lock().await;
        let known = matches!(self.known.identity(&nonce), Some(IdentityState::Known(_)));
        let Some(identity) = self.record(nonce).await? else {
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
            .update_record(nonce, Arc::new(identity), expires)
            .await?
            .is_some()
            && !known
        {
            self.known.forget_identity(&nonce);
        }
        Ok(())
    }

    /// Ends a login everywhere: in the store first, so that no restart brings it back, then here.
    ///
    /// # Errors
    /// Where the store does not answer; then nothing was ended.
    pub(crate) async fn end_session(
        &self,
        nonce: IdentityNonce,
        now: UnixTime,
    ) -> Result<(), StoreError> {
        self.revoke(Revocation::Session(nonce), now).await
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
        let stored = self
            .store
            .identity(&nonce)
            .await
            .inspect_err(|error| self.store_failed(error))?;
        // What was read of the store while another login came to stand beside this one may be all
        // that is known here.
        let known = self.known_identity(nonce);
        let beside = stored
            .iter()
            .chain(known.as_deref())
            .flat_map(|identity| identity.beside.iter().copied());
        for beside in beside.collect::<HashSet<_>>() {
            match self
                .record(beside)
                .await
                .inspect_err(|error| self.store_failed(error))?
            {
                Some(other) => self.revoke_all(ends(beside, &other.user, now), now).await?,
                None => self.end_session(beside, now).await?,
            }
        }
        // Last, so that whoever is told that it failed can try again.
        self.revoke_all(ends(nonce, user, now), now).await
    }

    /// The same, even if the store takes no writes: here at once, for every login of these users,
    /// and in the store as soon as it accepts it. Only if this process ends before that, a restart
    /// brings them back. `identity` is the record as it was found, which need not be known here
    /// yet.
    pub(super) async fn end_sessions_whatever(
        &self,
        nonce: IdentityNonce,
        identity: &Identity,
        now: UnixTime,
    ) {
        let known = self.known_identity(nonce);
        let beside = known
            .as_deref()
            .into_iter()
            .chain([identity])
            .flat_map(|identity| identity.beside.iter().copied());
        let sessions: HashSet<_> = beside.chain([nonce]).collect();
        let others = sessions
            .iter()
            .filter_map(|other| Some(self.known_identity(*other)?.user.clone()));
        let users = others.chain([identity.user.clone()]).collect();
        let forget = self.forget_from(now);
        {
            let mut all = self.unpersisted.lock();
            all.entry(nonce).or_insert_with(|| Revoked {
                user: identity.user.clone(),
                users,
                at: now,
                failed: false,
            });
            self.publisher.change(&self.snapshot, |revocations| {
                sessions
                    .into_iter()
                    .for_each(|session| revocations.end_session(session, forget));
                revocations.set_pending(pending(&all));
            });
        }
        // If the store does not accept it now, the task that follows revocations tries again.
        let _ = self.persist_revocations().await;
    }

    /// Writes the revocations to the store that it has not accepted before.
    pub(super) async fn persist_revocations(&self) -> Result<(), StoreError> {
        // One at a time: a second revocation for the same reason would cover a login that began
        // after the first.
        let _one = self.unpersisted.writing.lock().await;
        let unpersisted = self.unpersisted.lock().clone();
        let mut outcome = Ok(());
        for (
            nonce,
            Revoked {
                user, at, failed, ..
            },
        ) in unpersisted
        {
            // One that cannot be stored must not keep the others out of the store.
            if let Err(error) = self.end_sessions(nonce, &user, at).await {
                self.unpersisted
                    .lock()
                    .entry(nonce)
                    .and_modify(|one| one.failed = true);
                outcome = Err(error);
                continue;
            }
            let mut all = self.unpersisted.lock();
            all.remove(&nonce);
            self.publisher.change(&self.snapshot, |revocations| {
                revocations.set_pending(pending(&all))
            });
            if failed {
                tracing::info!(
                    user = &*user.0,
                    "the store has accepted a revocation that it did not accept before"
                );
            }
        }
        outcome
    }

    async fn revoke_all(
        &self,
        revocations: [Revocation; 2],
        now: UnixTime,
    ) -> Result<(), StoreError> {
        for revocation in revocations {
            self.revoke(revocation, now).await?;
        }
        Ok(())
    }

    pub(super) fn known_identity(&self, nonce: IdentityNonce) -> Option<Arc<Identity>> {
        match self.known.identity(&nonce) {
            Some(IdentityState::Known(identity)) => Some(identity),
            _ => None,
        }
    }
}

/// The revocations that a logout makes.
fn ends(nonce: IdentityNonce, user: &UserId, now: UnixTime) -> [Revocation; 2] {
    [
        Revocation::Session(nonce),
        Revocation::User {
            user: user.clone(),
            before: now,
        },
    ]
}

/// Revocations applied here that the store has not accepted yet, by the login that they began with.
#[derive(Default)]
pub(super) struct Unpersisted {
    all: Mutex<HashMap<IdentityNonce, Revoked>>,
    writing: tokio::sync::Mutex<()>,
}

#[derive(Clone)]
struct Revoked {
    user: UserId,
    /// Every user who is revoked with this login.
    users: HashSet<UserId>,
    at: UnixTime,
    /// The store has rejected it before.
    failed: bool,
}

impl Unpersisted {
    /// Returns `true` if one of them is of that user.
    fn concern(&self, user: &UserId) -> bool {
        self.lock()
            .values()
            .any(|revoked| revoked.users.contains(user))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IdentityNonce, Revoked>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn pending(all: &HashMap<IdentityNonce, Revoked>) -> impl Iterator<Item = UserId> {
    all.values()
        .flat_map(|revoked| revoked.users.iter().cloned())
}

/// More providers than anybody uses at once.
const MAX_BESIDE: usize = 8;

#[cfg(test)]
mod tests;
