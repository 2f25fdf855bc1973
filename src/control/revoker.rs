//! Revoking logins.
//!
//! Decides which logins are revoked together, and for how long a revocation is kept. Trusts the
//! store's time for that. Never lets a deactivated user in because the store does not accept a
//! write.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::records::Records;
use super::repositories::{Watched, WatchedStore};
use super::running::Running;
use super::store_watch::StoreWatch;
use crate::model::{Identity, IdentityNonce, UnixTime, UserId};
use crate::store::{Revocation, RevocationRepository, StoreError, StoredRevocation};

/// Revokes logins.
pub(super) struct Revoker {
    running: Arc<Running>,
    revocations: Watched<dyn RevocationRepository>,
    store_watch: Arc<StoreWatch>,
    records: Arc<Records>,
    unpersisted_revocations: UnpersistedRevocations,
}

impl Revoker {
    pub(super) fn new(
        running: &Arc<Running>,
        store: &WatchedStore,
        records: &Arc<Records>,
    ) -> Self {
        Self {
            running: Arc::clone(running),
            revocations: store.revocations(),
            store_watch: Arc::clone(store.watch()),
            records: Arc::clone(records),
            unpersisted_revocations: UnpersistedRevocations::default(),
        }
    }

    /// Returns the time at which a revocation that is made now may be forgotten. If this machine's
    /// clock is behind the store's time, that one counts, because it decides what is deleted.
    fn expiry(&self, now: UnixTime) -> UnixTime {
        now.max(self.store_watch.time()).after(LONGEST_LIVED)
    }

    /// Revokes in the store first, so that no restart undoes it, and then here.
    async fn revoke(&self, revocation: Revocation, now: UnixTime) -> Result<(), StoreError> {
        let expires = self.expiry(now);
        let revision = self
            .revocations
            .revoke(&revocation, expires)
            .await
            .inspect_err(|error| self.revocations.failed(error))?;
        self.running.apply_revocations([StoredRevocation {
            revision,
            revocation,
            ordered: true,
            expires,
        }]);
        Ok(())
    }

    /// Revokes one login.
    ///
    /// # Errors
    /// If the store does not answer. The login is not revoked then.
    pub(super) async fn revoke_login(
        &self,
        nonce: IdentityNonce,
        now: UnixTime,
    ) -> Result<(), StoreError> {
        self.revoke(Revocation::Session(nonce), now).await
    }

    /// Revokes a login, those linked to it, and every other login of the same user in the store.
    ///
    /// # Errors
    /// If the store does not answer. Some of them may be revoked then.
    pub(super) async fn revoke_user(
        &self,
        nonce: IdentityNonce,
        user: &UserId,
        now: UnixTime,
    ) -> Result<(), StoreError> {
        let stored = self
            .records
            .read(nonce)
            .await
            .inspect_err(|error| self.records.failed(error))?;
        // Either record may miss a link: another process may have changed the stored one, and the
        // known one may have been read before a login was linked to it.
        let known = self.records.known(nonce);
        let linked: HashSet<_> = stored
            .iter()
            .chain(known.as_deref())
            .flat_map(|identity| identity.beside.iter().copied())
            .collect();
        for login in linked {
            let record = self.records.stored(login).await;
            match record.inspect_err(|error| self.records.failed(error))? {
                Some(other) => self.revoke_login_and_user(login, &other.user, now).await?,
                None => self.revoke_login(login, now).await?,
            }
        }
        // The login of the session itself is the last, so that after an error the user is still
        // signed in and can sign out again.
        self.revoke_login_and_user(nonce, user, now).await
    }

    /// Revokes the same logins as [`Revoker::revoke_user`], even if the store accepts no write: here
    /// at once, and in the store as soon as it does. A restart before that undoes it. `identity` is
    /// the login's record, which the engine may not know yet.
    pub(super) async fn revoke_even_if_store_fails(
        &self,
        nonce: IdentityNonce,
        identity: &Identity,
        now: UnixTime,
    ) {
        let known = self.records.known(nonce);
        let linked = known
            .as_deref()
            .into_iter()
            .chain([identity])
            .flat_map(|identity| identity.beside.iter().copied());
        let sessions: HashSet<_> = linked.chain([nonce]).collect();
        let others = sessions
            .iter()
            .filter_map(|other| Some(self.records.known(*other)?.user.clone()));
        let users = others.chain([identity.user.clone()]).collect();
        let expires = self.expiry(now);
        {
            let mut all = self.unpersisted_revocations.lock();
            all.entry(nonce).or_insert_with(|| UnpersistedRevocation {
                user: identity.user.clone(),
                users,
                at: now,
                failed: false,
            });
            self.running.change_revocations(|revocations| {
                for session in sessions {
                    revocations.end_session(session, expires);
                }
                revocations.set_pending(pending_users(&all));
            });
        }
        // If the store does not accept it now, the background task tries again.
        let _ = self.persist_revocations().await;
    }

    /// Writes the revocations to the store that it has not accepted yet. Logs its own errors.
    ///
    /// # Errors
    /// If the store does not accept one of them.
    pub(super) async fn persist_revocations(&self) -> Result<(), StoreError> {
        // One caller at a time: a second revocation for the same cause would cover a login that
        // started after the first.
        let _lock = self.unpersisted_revocations.writing.lock().await;
        let revocations = self.unpersisted_revocations.lock().clone();
        let mut outcome = Ok(());
        for (nonce, revocation) in revocations {
            let UnpersistedRevocation {
                user, at, failed, ..
            } = revocation;
            // One that cannot be stored must not keep the others out of the store.
            if let Err(error) = self.revoke_user(nonce, &user, at).await {
                self.unpersisted_revocations
                    .lock()
                    .entry(nonce)
                    .and_modify(|one| one.failed = true);
                outcome = Err(error);
                continue;
            }
            let mut all = self.unpersisted_revocations.lock();
            all.remove(&nonce);
            self.running
                .change_revocations(|revocations| revocations.set_pending(pending_users(&all)));
            if failed {
                tracing::info!(
                    user = &*user.0,
                    "persisted a revocation that the store had rejected earlier"
                );
            }
        }
        outcome
    }

    async fn revoke_login_and_user(
        &self,
        nonce: IdentityNonce,
        user: &UserId,
        now: UnixTime,
    ) -> Result<(), StoreError> {
        self.revoke_login(nonce, now).await?;
        let user = Revocation::User {
            user: user.clone(),
            before: now,
        };
        self.revoke(user, now).await
    }

    /// Returns `true` if the store has not accepted a revocation of that user yet.
    pub(super) fn awaits_store(&self, user: &UserId) -> bool {
        self.unpersisted_revocations.concern(user)
    }
}

/// Revocations applied here that the store has not accepted yet, by the login that caused them.
#[derive(Default)]
struct UnpersistedRevocations {
    all: Mutex<HashMap<IdentityNonce, UnpersistedRevocation>>,
    writing: tokio::sync::Mutex<()>,
}

#[derive(Clone)]
struct UnpersistedRevocation {
    user: UserId,
    /// Every user who is revoked with this login.
    users: HashSet<UserId>,
    at: UnixTime,
    /// `true` if the store has rejected it before.
    failed: bool,
}

impl UnpersistedRevocations {
    /// Returns `true` if one of them covers that user.
    fn concern(&self, user: &UserId) -> bool {
        self.lock()
            .values()
            .any(|revoked| revoked.users.contains(user))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IdentityNonce, UnpersistedRevocation>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn pending_users(
    all: &HashMap<IdentityNonce, UnpersistedRevocation>,
) -> impl Iterator<Item = UserId> {
    all.values()
        .flat_map(|revoked| revoked.users.iter().cloned())
}

/// No configuration lets a token live longer: thirty days of the team's session, and as many of an
/// application's after it.
const LONGEST_LIVED: Duration = Duration::from_secs(61 * 24 * 3600);
