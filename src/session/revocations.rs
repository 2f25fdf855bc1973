use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use foldhash::fast::RandomState;

use crate::model::{Aud, IdentityNonce, UnixTime, UserId};

/// What was ended before its time: logins one by one, and all of a person's or an application's that began too early. Each
/// with a moment from which on it can be forgotten, because nothing that it ends can still be valid.
///
/// In two parts, so that a copy with one more, which every change makes, does not copy everything: what ended lately is
/// copied, the rest is shared. What ended lately becomes part of the rest when it has grown to about the root of it.
#[derive(Clone, Debug, Default)]
pub struct Revocations {
    recent: Ended,
    settled: Option<Arc<Ended>>,
}

#[derive(Clone, Debug, Default)]
struct Ended {
    sessions: HashMap<IdentityNonce, UnixTime, RandomState>,
    users: HashMap<UserId, Before, RandomState>,
    applications: HashMap<Aud, Before, RandomState>,
}

/// An end for everything that began up to and at a second.
#[derive(Clone, Copy, Debug, Default)]
struct Before {
    before: UnixTime,
    forget: UnixTime,
}

impl Revocations {
    /// Ends one login, and with it every session that came from it.
    pub fn end_session(&mut self, nonce: IdentityNonce, forget: UnixTime) {
        let at = self.recent.sessions.entry(nonce).or_default();
        *at = forget.max(*at);
        self.settle();
    }

    /// Ends whatever the person began up to and at that second.
    pub fn end_user(&mut self, user: UserId, before: UnixTime, forget: UnixTime) {
        extend(&mut self.recent.users, user, Before { before, forget });
        self.settle();
    }

    /// Ends whatever was begun for an application up to and at that second.
    pub fn end_application(&mut self, aud: Aud, before: UnixTime, forget: UnixTime) {
        extend(&mut self.recent.applications, aud, Before { before, forget });
        self.settle();
    }

    /// Whether any of them covers a session.
    pub fn cover(&self, nonce: Option<IdentityNonce>, user: &UserId, aud: &[Aud], issued: UnixTime) -> bool {
        self.recent.cover(nonce, user, aud, issued)
            || self.settled.as_ref().is_some_and(|settled| settled.cover(nonce, user, aud, issued))
    }

    /// Whether any can be forgotten.
    pub fn are_any_over(&self, now: UnixTime) -> bool {
        self.recent.is_any_over(now) || self.settled.as_ref().is_some_and(|settled| settled.is_any_over(now))
    }

    /// Forgets those whose time is over.
    pub fn forget(&mut self, now: UnixTime) {
        self.recent.forget(now);
        if let Some(settled) = self.settled.take_if(|settled| settled.is_any_over(now)) {
            let mut settled = Arc::unwrap_or_clone(settled);
            settled.forget(now);
            self.settled = Some(Arc::new(settled)).filter(|settled| settled.len() > 0);
        }
    }

    fn settle(&mut self) {
        let (recent, settled) = (self.recent.len(), self.settled.as_ref().map_or(0, |settled| settled.len()));
        if recent < LEAST_SETTLED || recent.saturating_mul(recent) < settled {
            return;
        }
        let mut all = self.settled.take().map(Arc::unwrap_or_clone).unwrap_or_default();
        all.absorb(std::mem::take(&mut self.recent));
        self.settled = Some(Arc::new(all));
    }
}

impl Ended {
    fn len(&self) -> usize {
        self.sessions.len() + self.users.len() + self.applications.len()
    }

    fn cover(&self, nonce: Option<IdentityNonce>, user: &UserId, aud: &[Aud], issued: UnixTime) -> bool {
        let ended = |at: Option<&Before>| at.is_some_and(|at| issued <= at.before);
        (!self.sessions.is_empty() && nonce.is_some_and(|nonce| self.sessions.contains_key(&nonce)))
            || (!self.users.is_empty() && ended(self.users.get(user)))
            || (!self.applications.is_empty() && aud.iter().any(|aud| ended(self.applications.get(aud))))
    }

    fn absorb(&mut self, other: Self) {
        for (nonce, forget) in other.sessions {
            let at = self.sessions.entry(nonce).or_default();
            *at = forget.max(*at);
        }
        other.users.into_iter().for_each(|(user, at)| extend(&mut self.users, user, at));
        other.applications.into_iter().for_each(|(aud, at)| extend(&mut self.applications, aud, at));
    }

    fn is_any_over(&self, now: UnixTime) -> bool {
        let over = |at: &Before| at.forget <= now;
        self.sessions.values().any(|forget| *forget <= now)
            || self.users.values().any(over)
            || self.applications.values().any(over)
    }

    fn forget(&mut self, now: UnixTime) {
        self.sessions.retain(|_, forget| *forget > now);
        self.users.retain(|_, at| at.forget > now);
        self.applications.retain(|_, at| at.forget > now);
        self.sessions.shrink_to_fit();
        self.users.shrink_to_fit();
        self.applications.shrink_to_fit();
    }
}

/// The later of two ends holds, and is kept for the longer of the two times.
fn extend<K: Eq + Hash>(all: &mut HashMap<K, Before, RandomState>, key: K, end: Before) {
    let at = all.entry(key).or_default();
    *at = Before { before: end.before.max(at.before), forget: end.forget.max(at.forget) };
}

/// So few are copied in no time.
const LEAST_SETTLED: usize = 64;

#[cfg(test)]
mod tests;
