use std::collections::{HashMap, HashSet};

use foldhash::fast::RandomState;

use crate::model::{Aud, IdentityNonce, UnixTime, UserId};

/// What was ended before its time: logins one by one, and all of a person's or an application's that began too early.
#[derive(Clone, Debug, Default)]
pub struct Revocations {
    sessions: HashSet<IdentityNonce, RandomState>,
    users: HashMap<UserId, UnixTime, RandomState>,
    applications: HashMap<Aud, UnixTime, RandomState>,
}

impl Revocations {
    /// Ends one login, and with it every session that came from it.
    pub fn end_session(&mut self, nonce: IdentityNonce) {
        self.sessions.insert(nonce);
    }

    /// Ends whatever the person began up to and at that second.
    pub fn end_user(&mut self, user: UserId, before: UnixTime) {
        let at = self.users.entry(user).or_default();
        *at = before.max(*at);
    }

    /// Ends whatever was begun for an application up to and at that second.
    pub fn end_application(&mut self, aud: Aud, before: UnixTime) {
        let at = self.applications.entry(aud).or_default();
        *at = before.max(*at);
    }

    /// Whether any of them covers a session.
    pub fn cover(&self, nonce: Option<IdentityNonce>, user: &UserId, aud: &[Aud], issued: UnixTime) -> bool {
        let ended = |before: Option<&UnixTime>| before.is_some_and(|before| issued <= *before);
        (!self.sessions.is_empty() && nonce.is_some_and(|nonce| self.sessions.contains(&nonce)))
            || (!self.users.is_empty() && ended(self.users.get(user)))
            || (!self.applications.is_empty() && aud.iter().any(|aud| ended(self.applications.get(aud))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_covers_what_it_says() {
        let (nonce, other) = (IdentityNonce::random(), IdentityNonce::random());
        let (user, aud) = (UserId("u".into()), [Aud::derive(&["a"])]);
        let at = UnixTime(100);
        let mut revocations = Revocations::default();
        assert!(!revocations.cover(Some(nonce), &user, &aud, at));
        revocations.end_session(nonce);
        assert!(revocations.cover(Some(nonce), &user, &aud, at));
        assert!(!revocations.cover(Some(other), &user, &aud, at) && !revocations.cover(None, &user, &aud, at));
        revocations.end_user(user.clone(), at);
        revocations.end_user(user.clone(), UnixTime(50));
        assert!(revocations.cover(None, &user, &aud, at));
        assert!(!revocations.cover(None, &user, &aud, UnixTime(101)));
        assert!(!revocations.cover(None, &UserId("v".into()), &aud, at));
        revocations.end_application(aud[0].clone(), UnixTime(200));
        assert!(revocations.cover(None, &UserId("v".into()), &aud, UnixTime(200)));
        assert!(!revocations.cover(None, &UserId("v".into()), &[Aud::derive(&["b"])], at));
    }
}
