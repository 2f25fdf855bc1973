use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use foldhash::quality::RandomState;
use quick_cache::sync::Cache;

use crate::model::{Identity, IdentityNonce, UnixTime};
use crate::session::Session;
use crate::token::KeySet;

/// What this node has seen: keys, identity records and sessions. Shared by all snapshots; the control path fills the first
/// two, the engine the third, and everything in it can be lost without harm.
pub struct Known {
    keys: moka::sync::Cache<Box<str>, Arc<IssuerKeys>>,
    /// Counts changes of the keys: a session that was verified with others is verified again.
    key_changes: AtomicU64,
    /// Until when the keys of the team may be trusted: read on every request, so kept beside the cache.
    keys_good_until: AtomicU64,
    identities: moka::sync::Cache<IdentityNonce, IdentityState>,
    sessions: Cache<u64, Arc<Session>>,
    hasher: RandomState,
}

/// The keys of an issuer and their age.
#[derive(Debug)]
pub struct IssuerKeys {
    /// The last good ones.
    pub keys: Option<KeySet>,
    /// When the last attempt to fetch them ended, well or not.
    pub tried: UnixTime,
    /// The end of the trust in them: the last good fetch and the bound on staleness.
    pub good_until: UnixTime,
    /// A token that names an unknown key is worth another attempt from then on.
    pub retry_from: UnixTime,
}

/// What is known of an identity record.
#[derive(Clone, Debug)]
pub enum IdentityState {
    /// The record.
    Known(Arc<Identity>),
    /// There is none: whatever refers to it is no session.
    Missing,
    /// It could not be learned; worth asking again from then on.
    Unavailable {
        /// When.
        retry_from: UnixTime,
    },
}

impl Known {
    /// Room for that many sessions; the least used go first.
    pub fn new(sessions: usize) -> Self {
        Self {
            keys: moka::sync::Cache::new(64),
            key_changes: AtomicU64::new(0),
            keys_good_until: AtomicU64::new(0),
            identities: moka::sync::Cache::new(sessions as u64),
            sessions: Cache::new(sessions.max(1)),
            hasher: RandomState::default(),
        }
    }

    /// The keys of an issuer.
    pub fn keys(&self, issuer: &str) -> Option<Arc<IssuerKeys>> {
        self.keys.get(issuer)
    }

    /// Publishes the keys of an issuer.
    pub fn set_keys(&self, issuer: &str, keys: IssuerKeys) {
        let kids = |keys: &IssuerKeys| keys.keys.as_ref().map(|k| k.kids().map(str::to_owned).collect::<Vec<_>>());
        let changed = self.keys.get(issuer).is_none_or(|old| kids(&old) != kids(&keys));
        self.keys_good_until.store(keys.good_until.0, Ordering::Relaxed);
        self.keys.insert(issuer.into(), Arc::new(keys));
        if changed {
            self.key_changes.fetch_add(1, Ordering::Release);
        }
    }

    pub(super) fn key_changes(&self) -> u64 {
        self.key_changes.load(Ordering::Acquire)
    }

    pub(super) fn keys_are_good(&self, now: UnixTime) -> bool {
        now.0 < self.keys_good_until.load(Ordering::Relaxed)
    }

    /// What is known of an identity record.
    pub fn identity(&self, nonce: &IdentityNonce) -> Option<IdentityState> {
        self.identities.get(nonce)
    }

    /// Publishes what is known of an identity record.
    pub fn set_identity(&self, nonce: IdentityNonce, state: IdentityState) {
        self.identities.insert(nonce, state);
    }

    /// How many sessions are held.
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    pub(super) fn session(&self, token: &str) -> Option<Arc<Session>> {
        self.sessions.get(&self.hash(token)).filter(|session| session.is_of(token))
    }

    pub(super) fn remember(&self, token: &str, session: Arc<Session>) {
        self.sessions.insert(self.hash(token), session);
    }

    pub(super) fn forget(&self, token: &str) {
        self.sessions.remove(&self.hash(token));
    }

    /// Seeded per process. Two tokens with one hash take each other's place and nothing else: the whole token is compared.
    fn hash(&self, token: &str) -> u64 {
        use std::hash::BuildHasher as _;
        self.hasher.hash_one(token.as_bytes())
    }
}

impl std::fmt::Debug for Known {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Known").field("sessions", &self.sessions.len()).finish_non_exhaustive()
    }
}
