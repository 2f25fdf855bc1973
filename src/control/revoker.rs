//! Revoking logins: in the store first, then here.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::records::Records;
use super::running::Running;
use super::store_watch::WatchedStore;
use crate::model::{Identity, IdentityNonce, UnixTime, UserId};
use crate::store::{Revocation, StoreError, StoredRevocation};

/// Revokes logins, and follows the revocations of other processes.
pub(super) struct Revoker {
    running: Arc<Running>,
    store: Arc<WatchedStore>,
    records: Arc<Records>,
    unpersisted: Unpersisted,
}

impl Revoker {
    pub(super) fn new(
        running: &Arc<Running>,
        store: &Arc<WatchedStore>,
        records: &Arc<Records>,
    ) -> Self {
        Self {
            running: Arc::clone(running),
            store: Arc::clone(store),
            records: Arc::clone(records),
            unpersisted: Unpersisted::default(),
        }
    }

    pub(super) fn running(&self) -> &Running {
        &self.running
    }

    pub(super) fn store(&self) -> &WatchedStore {
        &self.store
    }

    /// The time from which on a revocation that is made now concerns nothing any more. If this
    /// machine's clock is behind, the store's time counts: deletions go by that.
    fn forget_from(&self, now: UnixTime) -> UnixTime {
        now.max(self.store.time()).after(LONGEST_LIVED)
    }

    async fn revoke(&self, revocation: Revocation, now: UnixTime) -> Result<(), StoreError> {
        let forget = self.forget_from(now);
        let revision = self
            .store
            .revoke(&revocation, forget)
            .await
            .inspect_err(|error| self.store.failed(error))?;
        self.running.apply_revocations([StoredRevocation {
            revision,
            revocation,
            ordered: true,
            expires: forget,
        }]);
        Ok(())
    }

    /// Ends a login everywhere: in the store first, so that no restart brings it back, then here.
    ///
    /// # Errors
    /// Where the store does not answer; then nothing was ended.
    pub(super) async fn end_session(
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
    pub(super) async fn end_sessions(
        &self,
        nonce: IdentityNonce,
        user: &UserId,
        now: UnixTime,
    ) -> Result<(), StoreError> {
        let stored = self
            .store
            .identity(&nonce)
            .await
            .inspect_err(|error| self.store.failed(error))?;
        // What was read of the store while another login came to stand beside this one may be all
        // that is known here.
        let known = self.records.known(nonce);
        let beside = stored
            .iter()
            .chain(known.as_deref())
            .flat_map(|identity| identity.beside.iter().copied());
        for beside in beside.collect::<HashSet<_>>() {
            match self
                .records
                .stored(beside)
                .await
                .inspect_err(|error| self.store.failed(error))?
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
        let known = self.records.known(nonce);
        let beside = known
            .as_deref()
            .into_iter()
            .chain([identity])
            .flat_map(|identity| identity.beside.iter().copied());
        let sessions: HashSet<_> = beside.chain([nonce]).collect();
        let others = sessions
            .iter()
            .filter_map(|other| Some(self.records.known(*other)?.user.clone()));
        let users = others.chain([identity.user.clone()]).collect();
        let forget = self.forget_from(now);
        {
            let mut all = self.unpersisted.lock();
            all.entry(nonce).or_insert_with(|| UnpersistedRevocation {
                user: identity.user.clone(),
                users,
                at: now,
                failed: false,
            });
            self.running.change_revocations(|revocations| {
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
            UnpersistedRevocation {
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
            self.running
                .change_revocations(|revocations| revocations.set_pending(pending(&all)));
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

    /// Returns `true` if the store has not accepted a revocation of that user yet.
    pub(super) fn awaits_store(&self, user: &UserId) -> bool {
        self.unpersisted.concern(user)
    }

    /// Deletes what is over by the store's own time, which one wrong reading of the clock does not
    /// change much.
    pub(super) async fn prune(&self, now: UnixTime) {
        let time = match self.store.advance(now).await {
            Ok(time) => time,
            Err(error) => return self.store.failed(&error),
        };
        self.running.forget_revocations(time);
        loop {
            match self.store.prune(time).await {
                Ok(pruned) if pruned.is_full() => {}
                Ok(_) => return,
                Err(error) => return self.store.failed(&error),
            }
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
struct Unpersisted {
    all: Mutex<HashMap<IdentityNonce, UnpersistedRevocation>>,
    writing: tokio::sync::Mutex<()>,
}

#[derive(Clone)]
struct UnpersistedRevocation {
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

    fn lock(&self) -> MutexGuard<'_, HashMap<IdentityNonce, UnpersistedRevocation>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn pending(all: &HashMap<IdentityNonce, UnpersistedRevocation>) -> impl Iterator<Item = UserId> {
    all.values()
        .flat_map(|revoked| revoked.users.iter().cloned())
}

/// No configuration lets a token live longer: thirty days of the team's session, and as many of an
/// application's after it.
const LONGEST_LIVED: Duration = Duration::from_secs(61 * 24 * 3600);
