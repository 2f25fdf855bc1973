use std::collections::HashSet;
use std::hash::{BuildHasher as _, BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use foldhash::quality::RandomState;
use http::HeaderValue;
use quick_cache::UnitWeighter;
use quick_cache::sync::{Cache, DefaultLifecycle};

use crate::model::{Aud, Identity, IdentityNonce, UnixTime};
use crate::policy::Truth;
use crate::session::{Revocations, Session};
use crate::token::KeySet;

/// The node's cache of keys, identity records and sessions, shared by all snapshots. The control
/// path fills the first two, the engine the third. Everything in it can be lost without harm.
pub struct NodeCache {
    issuers: moka::sync::Cache<String, Arc<CachedKeys>>,
    /// The source of unique numbers for key sets, so that a session of one issuer never passes for
    /// one of another.
    key_sets: AtomicU64,
    identities: moka::sync::Cache<IdentityNonce, IdentityState>,
    /// Counts publications about identities. A session that began before the latest one looks its
    /// record up again.
    identity_changes: AtomicU64,
    /// The time until which the snapshots' revocations are fresh, in Unix seconds.
    revocations_good_until: AtomicU64,
    /// The tokens that name service clients to origins, by a hash of client and application.
    assertions: moka::sync::Cache<u64, Arc<Assertion>>,
    sessions: Cache<u64, Arc<Session>, UnitWeighter, BuildHasherDefault<AsItIs>>,
    hasher: RandomState,
}

/// A token that names a service client to an origin.
#[derive(Debug)]
pub(super) struct Assertion {
    aud: Aud,
    common_name: Box<str>,
    pub(super) token: HeaderValue,
    renew_from: UnixTime,
    /// The key set that was current when it was signed.
    key_set: u64,
}

/// One issuer's keys, with copies of the fields that every request reads.
#[derive(Default)]
pub(super) struct CachedKeys {
    keys: ArcSwapOption<IssuerKeys>,
    key_set: AtomicU64,
    good_until: AtomicU64,
}

impl std::fmt::Debug for CachedKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.keys.load().fmt(f)
    }
}

impl CachedKeys {
    /// Returns the number of the key set. A session that was verified with another one is verified
    /// again.
    pub(super) fn key_set(&self) -> u64 {
        self.key_set.load(Ordering::Acquire)
    }

    /// Returns `true` if the keys may still be trusted.
    pub(super) fn is_good(&self, now: UnixTime) -> bool {
        now.0 < self.good_until.load(Ordering::Acquire)
    }

    pub(super) fn keys(&self) -> arc_swap::Guard<Option<Arc<IssuerKeys>>> {
        self.keys.load()
    }
}

/// The keys of an issuer and their age.
#[derive(Debug)]
pub struct IssuerKeys {
    /// The keys of the last successful fetch.
    pub keys: Option<KeySet>,
    /// The time until which they are trusted: the last successful fetch and the bound on staleness.
    pub good_until: UnixTime,
    /// Earliest time to fetch the keys again for a token that none of them verifies.
    pub retry_from: UnixTime,
}

/// The state of an identity record.
#[derive(Clone, Debug)]
pub enum IdentityState {
    /// The record.
    Known(Arc<Identity>),
    /// A remote team's record. It is fetched again from `recheck` on, because the team may have
    /// revoked the login.
    Borrowed {
        /// The record.
        identity: Arc<Identity>,
        /// The time of the next request for it.
        recheck: UnixTime,
    },
    /// The record does not exist, so its sessions are revoked.
    Missing,
    /// A remote team rejected the token. Either the login was revoked, or this token alone. So a
    /// token that was issued later is tried at once, and the others again from `recheck` on.
    Refused {
        /// The issue time of the latest rejected token.
        issued: UnixTime,
        /// The time of the next request for it.
        recheck: UnixTime,
    },
    /// It could not be fetched.
    Unavailable {
        /// The time of the next attempt.
        retry_from: UnixTime,
    },
}

impl NodeCache {
    /// Creates a cache of that many sessions. The least used ones are evicted first.
    pub fn new(sessions: usize) -> Self {
        let sessions = sessions.max(1);
        Self {
            // Without a bound: there are as many issuers as the process was ever configured with.
            issuers: moka::sync::Cache::builder().build(),
            key_sets: AtomicU64::new(0),
            // The default eviction policy may reject a new entry. A record that was just fetched
            // must be there for the retry.
            identities: moka::sync::Cache::builder()
                .max_capacity(sessions as u64)
                .eviction_policy(moka::policy::EvictionPolicy::lru())
                .build(),
            identity_changes: AtomicU64::new(0),
            revocations_good_until: AtomicU64::new(u64::MAX),
            assertions: moka::sync::Cache::builder()
                .max_capacity(MOST_ASSERTIONS)
                .eviction_policy(moka::policy::EvictionPolicy::lru())
                .build(),
            sessions: Cache::with(
                sessions,
                sessions as u64,
                UnitWeighter,
                BuildHasherDefault::default(),
                DefaultLifecycle::default(),
            ),
            hasher: RandomState::default(),
        }
    }

    /// Returns the keys of an issuer.
    pub fn keys(&self, issuer: &str) -> Option<Arc<IssuerKeys>> {
        self.issuers
            .get(issuer)
            .and_then(|issuer| issuer.keys.load_full())
    }

    /// Publishes the keys of an issuer.
    pub fn set_keys(&self, issuer: &str, keys: IssuerKeys) {
        let issuer = self.issuer(issuer);
        let (good_until, keys) = (keys.good_until, Arc::new(keys));
        // `key_set` last: a reader that sees the new number also sees the keys.
        let old = issuer.keys.swap(Some(Arc::clone(&keys)));
        issuer.good_until.store(good_until.0, Ordering::Release);
        if old.is_none_or(|old| old.keys != keys.keys) {
            // Relaxed is enough for the counter, because only its uniqueness matters.
            let number = self.key_sets.fetch_add(1, Ordering::Relaxed) + 1;
            issuer.key_set.store(number, Ordering::Release);
        }
    }

    pub(super) fn issuer(&self, issuer: &str) -> Arc<CachedKeys> {
        self.issuers.get_with_by_ref(issuer, Arc::default)
    }

    /// The state of an identity record.
    pub fn identity(&self, nonce: &IdentityNonce) -> Option<IdentityState> {
        self.identities.get(nonce)
    }

    /// Publishes a record as read from the store, unless the cache has one by now: a login may have
    /// written a newer record after the read.
    pub fn found_identity(&self, nonce: IdentityNonce, state: IdentityState) {
        let known =
            |old: &IdentityState| matches!(old, IdentityState::Known(_) | IdentityState::Missing);
        self.identities
            .entry(nonce)
            .or_insert_with_if(|| state, |old| !known(old));
        // After the record, with release: a session that sees this number and looks the record up
        // finds the new one.
        self.identity_changes.fetch_add(1, Ordering::Release);
    }

    /// Publishes the state of an identity record. It applies from the next request on, also to
    /// sessions that began with an earlier one.
    pub fn set_identity(&self, nonce: IdentityNonce, state: IdentityState) {
        self.identities.insert(nonce, state);
        // After the record, as in `found_identity`.
        self.identity_changes.fetch_add(1, Ordering::Release);
    }

    /// Forgets a record. The next request that needs it has it fetched from the store.
    pub fn forget_identity(&self, nonce: &IdentityNonce) {
        self.identities.invalidate(nonce);
        // After the record, as in `found_identity`.
        self.identity_changes.fetch_add(1, Ordering::Release);
    }

    /// The records that the store or a login gave.
    pub fn identities(&self) -> Vec<(IdentityNonce, Arc<Identity>)> {
        let known = |(nonce, state): (Arc<IdentityNonce>, IdentityState)| match state {
            IdentityState::Known(identity) => Some((*nonce, identity)),
            _ => None,
        };
        self.identities.iter().filter_map(known).collect()
    }

    /// Returns the logins with a session here that has neither expired nor been revoked.
    pub fn living(&self, revocations: &Revocations, now: UnixTime) -> HashSet<IdentityNonce> {
        // Only a session that is certainly not revoked counts. An unknown one may belong to a login
        // that ended.
        let lives = |session: &Session| {
            !session.has_expired(now) && session.is_revoked(revocations) == Truth::False
        };
        self.sessions
            .iter()
            .filter(|(_, session)| lives(session))
            .filter_map(|(_, session)| session.nonce())
            .collect()
    }

    pub(super) fn identity_changes(&self) -> u64 {
        self.identity_changes.load(Ordering::Acquire)
    }

    /// Sets the time until which the running snapshot's revocations are fresh. No session is valid
    /// after that. Without a call they are fresh forever.
    pub fn set_revocations_good_until(&self, end: UnixTime) {
        // Relaxed: the bound is one independent value, and a request may see it one round late.
        self.revocations_good_until.store(end.0, Ordering::Relaxed);
    }

    /// Returns `true` if the running snapshot's revocations are fresh.
    pub fn revocations_are_good(&self, now: UnixTime) -> bool {
        now.0 < self.revocations_good_until.load(Ordering::Relaxed)
    }

    /// Stores the token that names a service client to an application's origin. From `renew_from`
    /// on a new one is needed.
    pub fn set_assertion(
        &self,
        issuer: &str,
        (aud, common_name): (&Aud, &str),
        mut token: HeaderValue,
        renew_from: UnixTime,
    ) {
        // Keeps the token out of `Debug` output and of HPACK's dynamic table.
        token.set_sensitive(true);
        let key = self.hasher.hash_one((aud, common_name));
        let (aud, common_name, key_set) = (
            aud.clone(),
            common_name.into(),
            self.issuer(issuer).key_set(),
        );
        self.assertions.insert(
            key,
            Arc::new(Assertion {
                aud,
                common_name,
                token,
                renew_from,
                key_set,
            }),
        );
    }

    /// Returns `true` if there is a token that need not be renewed yet.
    pub fn has_assertion(&self, issuer: &str, of: (&Aud, &str), now: UnixTime) -> bool {
        self.assertion(of, self.issuer(issuer).key_set(), now)
            .is_some()
    }

    pub(super) fn assertion(
        &self,
        (aud, common_name): (&Aud, &str),
        key_set: u64,
        now: UnixTime,
    ) -> Option<Arc<Assertion>> {
        let found = self
            .assertions
            .get(&self.hasher.hash_one((aud, common_name)))?;
        // Two pairs may have the same hash. A token for another application or client must not be
        // sent.
        let fits = found.aud == *aud && *found.common_name == *common_name;
        (fits && found.key_set == key_set && now < found.renew_from).then_some(found)
    }

    /// Returns the number of sessions.
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    pub(super) fn session(&self, token: &[u8]) -> Option<Arc<Session>> {
        self.sessions
            .get(&self.hash(token))
            .filter(|session| session.is_of(token))
    }

    pub(super) fn remember(&self, token: &[u8], session: Arc<Session>) {
        self.sessions.insert(self.hash(token), session);
    }

    pub(super) fn forget(&self, token: &[u8]) {
        self.sessions.remove(&self.hash(token));
    }

    /// Hashes the end of a token, with a seed per process. The signature is there, which is as
    /// unique as the whole token. Two tokens with one hash only evict each other, because the whole
    /// token is compared.
    fn hash(&self, token: &[u8]) -> u64 {
        self.hasher
            .hash_one(token.last_chunk::<64>().map_or(token, <[u8; 64]>::as_slice))
    }
}

impl std::fmt::Debug for NodeCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeCache")
            .field("sessions", &self.sessions.len())
            .finish_non_exhaustive()
    }
}

/// More than there are service clients. The bound matters for certificates, because their
/// authorities may issue any number.
const MOST_ASSERTIONS: u64 = 10_000;

/// Passes keys through that are hashes already.
#[derive(Clone, Copy, Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes
            .iter()
            .fold(self.0, |hash, byte| hash.rotate_left(8) ^ u64::from(*byte));
    }
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}
