//! Revocations in memory, which every request with a session is compared with.
//!
//! Decides if a token is covered by a revocation, and when one can be forgotten. Trusts the order
//! of logins and revocations that the store assigned. Never reports a token as not covered if that
//! depends on an order that was not read.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use foldhash::fast::RandomState;

use crate::model::{Aud, IdentityNonce, LoginOrder, UnixTime, UserId};
use crate::policy::Truth;

/// Revocations: of single logins, of all earlier logins of a user, and of the earlier tokens of an
/// application. Each has a moment from which on it can be forgotten, because nothing that it covers
/// can still be valid.
///
/// In two parts, so that a copy with one more, which every change makes, does not copy everything:
/// recent ones are copied, the rest is shared. The recent ones become part of the rest when they
/// have grown to about the root of it.
#[derive(Clone, Debug, Default)]
pub struct Revocations {
    recent: Ended,
    settled: Option<Arc<Ended>>,
    /// Users who are revoked here and not yet in the store, so that there is no revision to compare
    /// with.
    pending: HashSet<UserId, RandomState>,
}

#[derive(Clone, Debug, Default)]
struct Ended {
    sessions: HashMap<IdentityNonce, UnixTime, RandomState>,
    users: HashMap<UserId, UserEnd, RandomState>,
    applications: HashMap<Aud, Before, RandomState>,
}

/// Revocations of one user.
#[derive(Clone, Copy, Debug, Default)]
struct UserEnd {
    /// Covers logins of an earlier revision.
    revision: u64,
    /// Covers logins without a revision that began, and their tokens that were issued, up to and at
    /// that second.
    before: Option<UnixTime>,
    forget: UnixTime,
}

/// A revocation of every token that was issued up to and at a second.
#[derive(Clone, Copy, Debug, Default)]
struct Before {
    before: UnixTime,
    forget: UnixTime,
}

/// The logins that a revocation of a user covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// Those that began before the store had this revision.
    Revision(u64),
    /// Logins of earlier releases up to and including this second.
    Second(UnixTime),
}

/// The facts about a token that revocations compare.
#[derive(Clone, Copy, Debug)]
pub struct Presented<'a> {
    /// The login that it came from.
    pub nonce: Option<IdentityNonce>,
    /// Its user.
    pub user: &'a UserId,
    /// Its audience.
    pub aud: &'a [Aud],
    /// The time of issue, in Unix seconds (`iat`).
    pub issued: UnixTime,
    /// The order of its login; `None` if the record was not read.
    pub login: Option<LoginOrder>,
}

impl Revocations {
    /// Revokes one login, and with it every session that came from it.
    pub fn end_session(&mut self, nonce: IdentityNonce, forget: UnixTime) {
        let at = self.recent.sessions.entry(nonce).or_default();
        *at = forget.max(*at);
        self.settle();
    }

    /// Revokes the earlier logins of a user, whenever their tokens were issued.
    pub fn end_user(&mut self, user: UserId, until: Until, forget: UnixTime) {
        let end = match until {
            Until::Revision(revision) => UserEnd {
                revision,
                forget,
                ..UserEnd::default()
            },
            Until::Second(before) => UserEnd {
                before: Some(before),
                forget,
                ..UserEnd::default()
            },
        };
        self.recent.users.entry(user).or_default().extend(end);
        self.settle();
    }

    /// Revokes the tokens of an application that were issued up to and at that second.
    pub fn end_application(&mut self, aud: Aud, before: UnixTime, forget: UnixTime) {
        self.recent
            .applications
            .entry(aud)
            .or_default()
            .extend(Before { before, forget });
        self.settle();
    }

    /// Revokes every login of these users, and of no others, until this is called again.
    pub fn set_pending(&mut self, users: impl IntoIterator<Item = UserId>) {
        self.pending = users.into_iter().collect();
    }

    /// Returns [`Truth::True`] if any of them covers the token, and [`Truth::Unknown`] if that
    /// depends on the order of its login, which was not read.
    pub fn cover(&self, token: Presented<'_>) -> Truth {
        if !self.pending.is_empty() && self.pending.contains(token.user) {
            return Truth::True;
        }
        match (
            self.recent.cover(token),
            self.settled
                .as_ref()
                .map_or(Truth::False, |settled| settled.cover(token)),
        ) {
            // A revocation that certainly covers the token decides, whatever the other part leaves
            // open.
            (Truth::True, _) | (_, Truth::True) => Truth::True,
            (Truth::False, Truth::False) => Truth::False,
            (Truth::Unknown, _) | (_, Truth::Unknown) => Truth::Unknown,
        }
    }

    /// Returns `true` if any can be forgotten.
    pub fn are_any_over(&self, now: UnixTime) -> bool {
        self.recent.is_any_over(now)
            || self
                .settled
                .as_ref()
                .is_some_and(|settled| settled.is_any_over(now))
    }

    /// Forgets those that cover only expired tokens.
    pub fn forget(&mut self, now: UnixTime) {
        self.recent.forget(now);
        if let Some(settled) = self.settled.take_if(|settled| settled.is_any_over(now)) {
            let mut settled = Arc::unwrap_or_clone(settled);
            settled.forget(now);
            self.settled = Some(Arc::new(settled)).filter(|settled| settled.len() > 0);
        }
    }

    fn settle(&mut self) {
        let (recent, settled) = (
            self.recent.len(),
            self.settled.as_ref().map_or(0, |settled| settled.len()),
        );
        // The root balances the cost of copying the recent part on each change with that of merging
        // it.
        if recent < LEAST_SETTLED || recent.saturating_mul(recent) < settled {
            return;
        }
        let mut all = self
            .settled
            .take()
            .map(Arc::unwrap_or_clone)
            .unwrap_or_default();
        all.absorb(std::mem::take(&mut self.recent));
        self.settled = Some(Arc::new(all));
    }
}

impl Ended {
    fn len(&self) -> usize {
        self.sessions.len() + self.users.len() + self.applications.len()
    }

    fn cover(
        &self,
        Presented {
            nonce,
            user,
            aud,
            issued,
            login,
        }: Presented<'_>,
    ) -> Truth {
        // Tokens of the same second are covered: the order within a second is unknown, and a missed
        // one would stay valid.
        let ended = |at: Option<&Before>| at.is_some_and(|at| issued <= at.before);
        if (!self.sessions.is_empty()
            && nonce.is_some_and(|nonce| self.sessions.contains_key(&nonce)))
            || (!self.applications.is_empty()
                && aud.iter().any(|aud| ended(self.applications.get(aud))))
        {
            return Truth::True;
        }
        if self.users.is_empty() {
            return Truth::False;
        }
        self.users
            .get(user)
            .map_or(Truth::False, |end| end.covers(login, issued))
    }

    fn absorb(&mut self, other: Self) {
        for (nonce, forget) in other.sessions {
            let at = self.sessions.entry(nonce).or_default();
            *at = forget.max(*at);
        }
        other
            .users
            .into_iter()
            .for_each(|(user, end)| self.users.entry(user).or_default().extend(end));
        other
            .applications
            .into_iter()
            .for_each(|(aud, at)| self.applications.entry(aud).or_default().extend(at));
    }

    fn is_any_over(&self, now: UnixTime) -> bool {
        self.sessions.values().any(|forget| *forget <= now)
            || self.users.values().any(|end| end.forget <= now)
            || self.applications.values().any(|at| at.forget <= now)
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

impl UserEnd {
    /// The later of two revocations holds, and is kept for the longer of the two times.
    fn extend(&mut self, other: Self) {
        self.revision = self.revision.max(other.revision);
        self.before = self.before.max(other.before);
        self.forget = self.forget.max(other.forget);
    }

    fn covers(&self, login: Option<LoginOrder>, issued: UnixTime) -> Truth {
        let Some(LoginOrder { revision, at }) = login else {
            return Truth::Unknown;
        };
        // A login with a revision is compared by that alone: seconds of different clocks would
        // revoke newer logins.
        let by_time = revision == 0 && self.before.is_some_and(|before| issued.min(at) <= before);
        if revision < self.revision || by_time {
            Truth::True
        } else {
            Truth::False
        }
    }
}

impl Before {
    /// The later of two revocations holds, and is kept for the longer of the two times.
    fn extend(&mut self, other: Self) {
        self.before = self.before.max(other.before);
        self.forget = self.forget.max(other.forget);
    }
}

/// So few are copied in no time.
const LEAST_SETTLED: usize = 64;

#[cfg(test)]
mod tests;
