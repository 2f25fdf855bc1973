use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use zeroize::Zeroizing;

use super::changes::prunable_until;
use super::keys::new_secret;
use super::logins::new_user;
use super::{
    BATCH, CLOCK_STEP, Change, ChangeLog, Changes, KeyRepository, LoginRepository, Maintenance,
    PAGE, Position, Pruned, Revocation, RevocationRepository, StoreError, StoredKey,
    StoredRevocation, UseRepository,
};
use crate::model::{Identity, IdentityNonce, IdpId, UnixTime, UserId};

/// A store in memory, for the demo and for tests: it ends with the process.
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
    /// The change log, with the store's time of each entry. It is never empty.
    log: BTreeMap<u64, (Entry, UnixTime)>,
}

#[derive(Clone, Copy)]
enum Entry {
    Start,
    Revocation,
    Identity(IdentityNonce),
    Keys,
}

impl Tables {
    /// Adds an entry to the change log and returns its revision.
    fn log(&mut self, entry: Entry) -> u64 {
        self.revision += 1;
        let made = self.clock.unwrap_or(UnixTime(0));
        self.log.insert(self.revision, (entry, made));
        self.revision
    }

    fn change(&self, revision: u64, entry: Entry) -> Option<Change> {
        match entry {
            Entry::Start => None,
            Entry::Revocation => {
                let (revocation, expires) = self.revocations.get(&revision)?;
                Some(Change::Revocation(StoredRevocation {
                    revision,
                    revocation: revocation.clone(),
                    ordered: true,
                    expires: *expires,
                }))
            }
            Entry::Identity(nonce) => Some(Change::Identity(nonce)),
            Entry::Keys => Some(Change::SigningKeys),
        }
    }

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

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryStore {
    /// Creates an empty store.
    pub fn new() -> Self {
        let mut tables = Tables::default();
        tables.log.insert(0, (Entry::Start, UnixTime(0)));
        Self(Mutex::new(tables))
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
        let mut tables = self.tables();
        tables.keys.insert(key.kid.clone(), key.clone());
        tables.log(Entry::Keys);
        Ok(())
    }

    async fn delete_signing_key(&self, kid: &str) -> Result<(), StoreError> {
        let mut tables = self.tables();
        if tables.keys.remove(kid).is_some() {
            tables.log(Entry::Keys);
        }
        Ok(())
    }
}

#[async_trait]
impl LoginRepository for MemoryStore {
    async fn insert_identity(
        &self,
        nonce: &IdentityNonce,
        identity: &Identity,
        began: u64,
        expires: UnixTime,
    ) -> Result<Option<u64>, StoreError> {
        let mut tables = self.tables();
        let revision = tables.revision.min(began);
        let login = Identity {
            revision,
            ..identity.clone()
        };
        if tables.covers(nonce, &login) {
            return Ok(None);
        }
        tables.identities.insert(*nonce, (login, expires));
        Ok(Some(revision))
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
        // An update must not bring back a login that was revoked meanwhile.
        if tables.covers(nonce, login) {
            return Ok(false);
        }
        let changed = Identity {
            revision: login.revision,
            ..identity.clone()
        };
        let differs = *login != changed;
        tables.identities.insert(*nonce, (changed, expires));
        if differs {
            tables.log(Entry::Identity(*nonce));
        }
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
        let revision = tables.log(Entry::Revocation);
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
    async fn first_use(&self, name: &str, expires: UnixTime) -> Result<Option<u64>, StoreError> {
        let mut tables = self.tables();
        if tables.uses.contains_key(name) {
            return Ok(None);
        }
        tables.uses.insert(name.into(), expires);
        Ok(Some(tables.revision))
    }
}

#[async_trait]
impl ChangeLog for MemoryStore {
    async fn newest_position(&self, followed: u64) -> Result<Position, StoreError> {
        let mut tables = self.tables();
        if tables.revision < followed {
            tables.revision = followed;
            tables.log(Entry::Start);
        }
        Ok(position(tables.revision))
    }

    async fn changes_after(&self, after: Position) -> Result<Changes, StoreError> {
        let tables = self.tables();
        if !tables.log.contains_key(&after.revision) {
            return Ok(Changes::Gap);
        }
        let later = (Bound::Excluded(after.revision), Bound::Unbounded);
        let (mut changes, mut last) = (Vec::new(), after);
        for (revision, (entry, _)) in tables.log.range(later).take(PAGE) {
            last = position(*revision);
            changes.extend(tables.change(*revision, *entry));
        }
        Ok(Changes::Next {
            changes,
            position: last,
        })
    }
}

/// Older content cannot be restored here, so marks do not differ.
const fn position(revision: u64) -> Position {
    Position { revision, mark: 0 }
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
        let until = prunable_until(now);
        let mut changes = 0;
        while changes < BATCH {
            match tables.log.values().nth(1) {
                Some((_, made)) if *made <= until => tables.log.pop_first(),
                _ => break,
            };
            changes += 1;
        }
        let count = |gone: usize| gone as u64;
        Ok(Pruned {
            identities: count(identities.len()),
            revocations: count(revocations.len()),
            uses: count(uses.len()),
            changes: count(changes),
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
