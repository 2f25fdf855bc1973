use std::time::Duration;

use aws_lc_rs::digest;
use http::{HeaderMap, HeaderValue};
use subtle::ConstantTimeEq as _;

use crate::cookie::{self, SameSite, SetCookie};
use crate::model::{Aud, Reason, UnixTime, fill_random, hex};

/// The cookie on the application's host that binds a login to the browser that began it: `n` and
/// 16 hexadecimal digits.
///
/// After a completed login it also counts logins: `n<16 hex>.<logins>.<time>.<application>`. If a
/// browser returns this count without a session that is accepted, another login would fail in the
/// same way. The user then gets a page instead of another redirect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AppSession {
    id: String,
    /// Completed logins in a row, for the same application.
    rounds: u32,
    /// The time of the last one.
    at: UnixTime,
    /// The first digits of that application's audience tag.
    aud: String,
}

impl AppSession {
    /// Returns the first valid cookie of a request.
    pub(crate) fn from_headers(headers: &HeaderMap) -> Option<Self> {
        cookie::values(headers, cookie::APP_SESSION).find_map(Self::parse)
    }

    pub(crate) fn random() -> Self {
        let mut bytes = [0; 8];
        fill_random(&mut bytes);
        Self {
            id: format!("n{}", hex(&bytes)),
            rounds: 0,
            at: UnixTime(0),
            aud: String::new(),
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let id = parts.next()?;
        let digits = id.strip_prefix('n')?;
        if digits.len() != 16 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        let (rounds, at, aud) = match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (None, None, None, None) => (0, 0, ""),
            (Some(rounds), Some(at), Some(aud), None) => {
                (rounds.parse().ok()?, at.parse().ok()?, aud)
            }
            _ => return None,
        };
        // Another host of the domain may have set the cookie, so only the form that is written here
        // is accepted.
        let sound = aud.len() <= AUD_DIGITS && aud.bytes().all(|b| b.is_ascii_hexdigit());
        sound.then(|| Self {
            id: id.to_owned(),
            rounds,
            at: UnixTime(at),
            aud: aud.to_owned(),
        })
    }

    /// Returns the secret id.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Returns the hash of the id, which other hosts may know.
    pub(crate) fn hash(&self) -> String {
        hex(digest::digest(&digest::SHA256, self.id.as_bytes()).as_ref())
    }

    pub(crate) fn has_hash(&self, hash: &str) -> bool {
        // Constant time: the time of a comparison must not reveal how much of a guessed hash is
        // right.
        self.hash().as_bytes().ct_eq(hash.as_bytes()).into()
    }

    /// Returns `true` if a request brings this cookie more than once, with different ids. Only
    /// another host of the domain can have set the second one.
    pub(crate) fn is_ambiguous(headers: &HeaderMap) -> bool {
        let mut all = cookie::values(headers, cookie::APP_SESSION).filter_map(Self::parse);
        all.next()
            .is_some_and(|first| all.any(|other| other.id != first.id))
    }

    /// Counts a login to that application, completed now. The first login after the user signed out
    /// restarts the count.
    #[must_use]
    pub(crate) fn completed(&self, aud: &Aud, signed_out: Option<UnixTime>, now: UnixTime) -> Self {
        let counts = self.is_recent(aud, now) && signed_out.is_none_or(|at| at < self.at);
        let rounds = if counts {
            self.rounds.saturating_add(1)
        } else {
            1
        };
        Self {
            id: self.id.clone(),
            rounds,
            at: now,
            aud: beginning(aud).to_owned(),
        }
    }

    /// Returns the cookie with the count reset, for a user who signed out.
    #[must_use]
    pub(crate) fn restarted(&self) -> Self {
        Self {
            id: self.id.clone(),
            rounds: 0,
            at: UnixTime(0),
            aud: String::new(),
        }
    }

    /// Returns `true` if so many logins to that application were just completed that another one
    /// would change nothing.
    pub(crate) fn loops(&self, aud: &Aud, refused: Reason, now: UnixTime) -> bool {
        // A revoked session came back, so its cookie is not lost. Usually the user signed out
        // elsewhere, after logins in several tabs.
        let most = if refused == Reason::SessionRevoked {
            MAX_ROUNDS_REVOKED
        } else {
            MAX_ROUNDS
        };
        self.rounds >= most && self.is_recent(aud, now)
    }

    /// Returns `true` if the last login to that application was within [`LOOP_WINDOW`].
    // The clocks of two nodes differ a little, so a time slightly in the future counts. A later one
    // was not written by any node, and would count forever.
    fn is_recent(&self, aud: &Aud, now: UnixTime) -> bool {
        self.aud == beginning(aud)
            && now.since(self.at) < LOOP_WINDOW
            && self.at.since(now) < LOOP_WINDOW
    }

    pub(crate) fn to_header(&self, now: UnixTime) -> Option<HeaderValue> {
        let value = if self.rounds == 0 {
            self.id.clone()
        } else {
            format!("{}.{}.{}.{}", self.id, self.rounds, self.at, self.aud)
        };
        let cookie = SetCookie {
            name: cookie::APP_SESSION,
            value: &value,
            path: "/",
            expires: now.after(LIFETIME),
            now,
            http_only: true,
            same_site: SameSite::None,
        };
        cookie.to_header()
    }
}

fn beginning(aud: &Aud) -> &str {
    aud.as_str().get(..AUD_DIGITS).unwrap_or_default()
}

// Eight digits distinguish the applications of one host. A collision only makes their logins count
// together.
const AUD_DIGITS: usize = 8;
// Longer than any login. The cookie is set again at the next login, so an early end costs nothing.
const LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// The third login in a row is a loop.
const MAX_ROUNDS: u32 = 2;
// More than `MAX_ROUNDS`: logins in several tabs count together, and a sign-out after them is not a
// loop.
const MAX_ROUNDS_REVOKED: u32 = 5;
// A redirect loop takes a second or two per round. A user who logs in again later must not meet the
// page about a loop.
const LOOP_WINDOW: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use super::*;

    const LOST: Reason = Reason::NoSession;

    #[test]
    fn two_logins_in_a_row_without_session_are_a_loop() {
        let fresh = AppSession::random();
        let (now, aud) = (UnixTime(1000), Aud::derive(&["a"]));
        assert_eq!(AppSession::parse(&fresh.id), Some(fresh.clone()));
        let once = fresh.completed(&aud, None, now);
        let twice = once.completed(&aud, None, UnixTime(1002));
        let loops = |session: &AppSession, at| session.loops(&aud, LOST, UnixTime(at));
        assert!(!loops(&fresh, 1000) && !loops(&once, 1000) && loops(&twice, 1004));
        assert!(!loops(&twice, 1100), "a while later it may be tried again");
        assert!(
            !twice.loops(&Aud::derive(&["b"]), LOST, UnixTime(1004)),
            "another application on the host is no round"
        );
        assert!(!loops(&twice.completed(&aud, None, UnixTime(1100)), 1100));
        assert!(fresh.has_hash(&twice.hash()));
        let header = twice.to_header(now).unwrap();
        let value = header
            .to_str()
            .unwrap()
            .split([';', '='])
            .nth(1)
            .unwrap()
            .to_owned();
        assert_eq!(AppSession::parse(&value), Some(twice));
    }

    #[test]
    fn login_from_the_future_is_not_counted() {
        let aud = Aud::derive(&["a"]);
        let planted = AppSession::parse(&format!(
            "n0123456789abcdef.9.99999999999.{}",
            beginning(&aud)
        ))
        .unwrap();
        for now in [UnixTime(1_000), UnixTime(1_800_000_000)] {
            assert!(
                !planted.loops(&aud, LOST, now)
                    && !planted.loops(&aud, Reason::SessionRevoked, now)
            );
            assert_eq!(planted.completed(&aud, None, now).rounds, 1);
        }
        // The clock of another node may be slightly ahead.
        let twice = AppSession {
            rounds: 2,
            at: UnixTime(1_003),
            ..planted
        };
        assert!(twice.loops(&aud, LOST, UnixTime(1_000)));
    }

    #[test]
    fn logout_restarts_the_count() {
        let (fresh, aud) = (AppSession::random(), Aud::derive(&["a"]));
        let once = fresh.completed(&aud, None, UnixTime(1000));
        let again = once.completed(&aud, Some(UnixTime(1003)), UnixTime(1005));
        assert!(
            !again.loops(&aud, LOST, UnixTime(1005)),
            "the user signed out in between"
        );
        let lost = again.completed(&aud, Some(UnixTime(1003)), UnixTime(1007));
        assert!(
            lost.loops(&aud, LOST, UnixTime(1007)),
            "an earlier logout does not excuse every login after it"
        );
        assert!(
            !lost.restarted().loops(&aud, LOST, UnixTime(1007)) && lost.restarted().id == fresh.id
        );
    }

    #[test]
    fn revoked_session_is_a_loop_later_than_a_lost_cookie() {
        let aud = Aud::derive(&["a"]);
        let rounds = |n: u64| {
            (0..n).fold(AppSession::random(), |s, i| {
                s.completed(&aud, None, UnixTime(1000 + i))
            })
        };
        let now = UnixTime(1006);
        assert!(
            rounds(2).loops(&aud, LOST, now) && !rounds(3).loops(&aud, Reason::SessionRevoked, now)
        );
        assert!(rounds(6).loops(&aud, Reason::SessionRevoked, now));
    }

    #[test]
    fn two_cookies_with_different_ids_are_ambiguous() {
        let (one, other) = (AppSession::random(), AppSession::random());
        let counted = one
            .completed(&Aud::derive(&["a"]), None, UnixTime(1000))
            .to_header(UnixTime(1000))
            .unwrap();
        let counted = counted
            .to_str()
            .unwrap()
            .split([';', '='])
            .nth(1)
            .unwrap()
            .to_owned();
        let is_ambiguous = |values: &[&str]| {
            let line = values
                .iter()
                .map(|v| format!("CF_AppSession={v}"))
                .collect::<Vec<_>>()
                .join("; ");
            AppSession::is_ambiguous(
                &[(http::header::COOKIE, line.parse().unwrap())]
                    .into_iter()
                    .collect(),
            )
        };
        assert!(
            is_ambiguous(&[&one.id, &other.id])
                && is_ambiguous(&["junk", &counted, &one.id, &other.id])
        );
        assert!(
            !is_ambiguous(&[])
                && !is_ambiguous(&[&one.id])
                && !is_ambiguous(&[&one.id, "junk", &counted])
        );
    }

    #[test]
    fn malformed_cookie_is_ignored() {
        for bad in [
            "",
            "n",
            "n123",
            "m0123456789abcdef",
            "n0123456789abcdeg",
            "n0123456789abcdef.1",
            "n0123456789abcdef.1.2",
            "n0123456789abcdef.1.2.3.4",
            "n0123456789abcdef.x.1",
        ] {
            assert_eq!(AppSession::parse(bad), None, "{bad}");
        }
    }
}
