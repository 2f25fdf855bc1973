use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use zeroize::Zeroizing;

use super::keys::new_secret;
use super::logins::new_user;
use super::{
    BATCH, CLOCK_STEP, KeyRepository, LoginRepository, Maintenance, PAGE, Pruned, Revocation,
    RevocationRepository, StoreError, StoredKey, StoredRevocation, UseRepository,
};
use crate::model::{Identity, IdentityNonce, IdpId, UnixTime, UserId};

/// A store in memory, for the demo and for tests: it ends with the process.
#[derive(Default)]
pub struct MemoryStore(Mutex<Tables>);

#[derive(Default)]
struct Tables {
    secrets: HashMap<Box<str>, Zeroizing<[u8; 32]>>,
    keys: HashMap<Box<str>, StoredKey>,
    identities: HashMap<IdentityNonce, (Identity, UnixTime)>,
    hints: HashMap<IdentityNonce, (String, UnixTime)>,
    users: HashMap<(IdpId, Box<str>), UserId>,
    revision: u64,
    revocations: BTreeMap<u64, (Revocation, UnixTime)>,
    uses: HashMap<Box<str>, UnixTime>,
    clock: Option<UnixTime>,
}

impl Tables {
    fn covers(&self, nonce: &IdentityNonce, login: &Identity) -> bool {
        self.revocations
            .iter()
            .any(|(revision, (revocation, _))| match revocation {
                Revocation::Session(ended) => ended == nonce,
                Revocation::User { user, .. } => *user == login.user && login.revision < *revision,
                Revocation::Application { .. } => false,
            })
    }
}

impl MemoryStore {
    /// Creates an empty store.
    pub fn new() -> Self {
        Self::default()
    }

    // No call leaves a table half changed, so the tables are sound after a panic, too.
    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl KeyRepository for MemoryStore {
    async fn secret(&self, name: &str) -> Result<Zeroizing<[u8; 32]>, StoreError> {
        Ok(self
            .tables()
            .secrets
            .entry(name.into())
            .or_insert_with(new_secret)
            .clone())
    }

    async fn signing_keys(&self) -> Result<Vec<StoredKey>, StoreError> {
        let mut keys: Vec<_> = self.tables().keys.values().cloned().collect();
        keys.sort_by(|a, b| (b.made, &b.kid).cmp(&(a.made, &a.kid)));
        Ok(keys)
    }

    async fn put_signing_key(&self, key: &StoredKey) -> Result<(), StoreError> {
        self.tables().keys.insert(key.kid.clone(), key.clone());
        Ok(())
    }

    async fn delete_signing_key(&self, kid: &str) -> Result<(), StoreError> {
        self.tables().keys.remove(kid);
        Ok(())
    }
}

#[async_trait]
impl LoginRepository for MemoryStore {
    async fn insert_identity(
        &self,
        nonce: &IdentityNonce,
        identity: &Identity,
        expires: UnixTime,
    ) -> Result<u64, StoreError> {
        let mut tables = self.tables();
        let revision = tables.revision;
        tables.identities.insert(
            *nonce,
            (
                Identity {
                    revision,
                    ..identity.clone()
                },
                expires,
            ),
        );
        Ok(revision)
    }

    async fn update_identity(
        &self,
        nonce: &IdentityNonce,
        identity: &Identity,
        expires: UnixTime,
    ) -> Result<bool, StoreError> {
        let mut tables = self.tables();
        let Some((login, _)) = tables.identities.get(nonce) else {
            return Ok(false);
        };
        if tables.covers(nonce, login) {
            return Ok(false);
        }
        let revision = login.revision;
        tables.identities.insert(
            *nonce,
            (
                Identity {
                    revision,
                    ..identity.clone()
                },
                expires,
            ),
        );
        Ok(true)
    }

    async fn identity(&self, nonce: &IdentityNonce) -> Result<Option<Identity>, StoreError> {
        Ok(self
            .tables()
            .identities
            .get(nonce)
            .map(|(identity, _)| identity.clone()))
    }

    async fn put_logout_hint(
        &self,
        nonce: &IdentityNonce,
        hint: &str,
        expires: UnixTime,
    ) -> Result<(), StoreError> {
        self.tables()
            .hints
            .insert(*nonce, (hint.to_owned(), expires));
        Ok(())
    }

    async fn take_logout_hint(&self, nonce: &IdentityNonce) -> Result<Option<String>, StoreError> {
        Ok(self.tables().hints.remove(nonce).map(|(hint, _)| hint))
    }

    async fn user(&self, idp: &IdpId, subject: &str) -> Result<UserId, StoreError> {
        Ok(self
            .tables()
            .users
            .entry((idp.clone(), subject.into()))
            .or_insert_with(new_user)
            .clone())
    }
}

#[async_trait]
impl RevocationRepository for MemoryStore {
    async fn revoke(&self, revocation: &Revocation, expires: UnixTime) -> Result<u64, StoreError> {
        let mut tables = self.tables();
        tables.revision += 1;
        let revision = tables.revision;
        tables
            .revocations
            .insert(revision, (revocation.clone(), expires));
        Ok(revision)
    }

    async fn revocations_after(&self, revision: u64) -> Result<Vec<StoredRevocation>, StoreError> {
        let Some(next) = revision.checked_add(1) else {
            return Ok(Vec::new());
        };
        let tables = self.tables();
        let later = tables.revocations.range(next..).take(PAGE);
        let read =
            |(revision, (revocation, expires)): (&u64, &(Revocation, UnixTime))| StoredRevocation {
                revision: *revision,
                revocation: revocation.clone(),
                ordered: true,
                expires: *expires,
            };
        Ok(later.map(read).collect())
    }
}

#[async_trait]
impl UseRepository for MemoryStore {
    async fn first_use(&self, name: &str, expires: UnixTime) -> Result<bool, StoreError> {
        let mut tables = self.tables();
        let first = !tables.uses.contains_key(name);
        if first {
            tables.uses.insert(name.into(), expires);
        }
        Ok(first)
    }
}

#[async_trait]
impl Maintenance for MemoryStore {
    async fn advance_clock(&self, now: UnixTime) -> Result<UnixTime, StoreError> {
        let mut tables = self.tables();
        let seen = tables
            .clock
            .map_or(now, |seen| seen.after(CLOCK_STEP).min(now));
        tables.clock = Some(seen);
        Ok(seen)
    }

    async fn prune(&self, now: UnixTime) -> Result<Pruned, StoreError> {
        let mut tables = self.tables();
        let over = |expires: &UnixTime| *expires <= now;
        let identities: Vec<_> = tables
            .identities
            .iter()
            .filter(|(_, (_, at))| over(at))
            .map(|(nonce, _)| *nonce)
            .take(BATCH)
            .collect();
        for nonce in &identities {
            tables.identities.remove(nonce);
        }
        tables.hints.retain(|_, (_, at)| !over(at));
        let revocations: Vec<_> = tables
            .revocations
            .iter()
            .filter(|(_, (_, at))| over(at))
            .map(|(revision, _)| *revision)
            .take(BATCH)
            .collect();
        for revision in &revocations {
            tables.revocations.remove(revision);
        }
        let uses: Vec<_> = tables
            .uses
            .iter()
            .filter(|(_, at)| over(at))
            .map(|(name, _)| name.clone())
            .take(BATCH)
            .collect();
        for name in &uses {
            tables.uses.remove(name);
        }
        let count = |gone: usize| gone as u64;
        Ok(Pruned {
            identities: count(identities.len()),
            revocations: count(revocations.len()),
            uses: count(uses.len()),
        })
    }

    async fn probe(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn write_failure(&self) -> Option<Arc<str>> {
        None
    }
}

impl std::fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MemoryStore")
    }
}
