use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ReturnTo;
use crate::cookie::{SealError, SealingKey};
use crate::model::{Aud, IdentityNonce, UnixTime, fill_random, hex};

/// Permission to open an application's session, sent from the team domain to the application's
/// host. It is valid for one minute, for one browser, once.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Handover {
    /// The name under which it is used up.
    #[serde(rename = "i")]
    pub(crate) id: String,
    #[serde(rename = "a")]
    pub(crate) aud: Aud,
    #[serde(rename = "h")]
    pub(crate) host: String,
    #[serde(rename = "r")]
    pub(crate) to: ReturnTo,
    /// The login behind it.
    #[serde(rename = "n")]
    nonce: String,
    /// The end of the session that it opens.
    #[serde(rename = "x")]
    pub(crate) session_expires: UnixTime,
    /// The hash of the browser's cookie on the application's host.
    #[serde(rename = "s")]
    pub(crate) app_session: String,
    #[serde(rename = "t")]
    expires: UnixTime,
}

/// The contents of a new hand-over.
pub(crate) struct Terms {
    pub(crate) aud: Aud,
    pub(crate) host: String,
    pub(crate) to: ReturnTo,
    pub(crate) nonce: IdentityNonce,
    pub(crate) session_expires: UnixTime,
    pub(crate) app_session: String,
}

impl Handover {
    pub(crate) fn new(terms: Terms, now: UnixTime) -> Self {
        let Terms {
            aud,
            host,
            to,
            nonce,
            session_expires,
            app_session,
        } = terms;
        let mut id = [0; 16];
        fill_random(&mut id);
        let nonce = nonce.as_str().to_owned();
        Self {
            id: hex(&id),
            aud,
            host,
            to,
            nonce,
            session_expires,
            app_session,
            expires: now.after(LIFETIME),
        }
    }

    /// `https://<application host>/cdn-cgi/access/authorized?nonce=…&state=…`
    pub(crate) fn url(&self, key: &SealingKey, base: &str) -> Result<String, SealError> {
        let state = key.seal(PURPOSE, self)?;
        Ok(format!(
            "{base}/cdn-cgi/access/authorized?nonce={}&state={state}",
            self.id
        ))
    }

    /// Returns the time at which the hand-over expires.
    pub(crate) const fn expires(&self) -> UnixTime {
        self.expires
    }

    /// Opens a hand-over that has not expired.
    ///
    /// # Errors
    /// If this team did not seal it, if `id` is another one's, or if it has expired.
    pub(crate) fn open(
        key: &SealingKey,
        id: &str,
        state: &str,
        now: UnixTime,
    ) -> Result<Self, SealError> {
        let handover: Self = key.open(PURPOSE, state)?;
        // The id is sealed, too: it must be the one under which this hand-over is used up.
        if handover.id == id && now < handover.expires {
            Ok(handover)
        } else {
            Err(SealError)
        }
    }

    /// Returns the time at which it was made. A revocation of the login since then covers it.
    pub(crate) const fn made(&self) -> UnixTime {
        UnixTime(self.expires.0.saturating_sub(LIFETIME.as_secs()))
    }

    /// Returns the page of a hand-over, for a browser of the same login. The hand-over may have
    /// expired, because nothing but the page is used.
    pub(crate) fn page(
        key: &SealingKey,
        state: &str,
        host: &str,
        login: IdentityNonce,
    ) -> Option<ReturnTo> {
        let handover: Self = key.open(PURPOSE, state).ok()?;
        (handover.host == host && handover.nonce() == Ok(login)).then_some(handover.to)
    }

    pub(crate) fn nonce(&self) -> Result<IdentityNonce, SealError> {
        IdentityNonce::parse(&self.nonce).map_err(|_| SealError)
    }
}

const PURPOSE: &str = "handover";
// The browser follows a redirect, which takes seconds. The URL may be in histories and logs for
// longer.
pub(super) const LIFETIME: Duration = Duration::from_secs(60);

/// A hand-over as a browser presents it.
pub(crate) struct Claim<'a> {
    pub(crate) nonce: &'a str,
    pub(crate) state: &'a str,
    pub(crate) app_session: &'a str,
    pub(crate) host: &'a str,
}

impl Claim<'_> {
    /// Returns `true` if a genuine hand-over can have these lengths.
    pub(crate) fn is_plausible(&self) -> bool {
        [self.nonce, self.state]
            .iter()
            .all(|sealed| (1..=MAX_SEALED).contains(&sealed.len()))
    }
}

/// In bytes. A hand-over to the longest page URL, all of it backslashes, has 17 KB.
const MAX_SEALED: usize = 18 * 1024;

/// The session that a hand-over gives.
#[derive(Deserialize)]
pub(crate) struct Granted {
    pub(crate) aud: Aud,
    #[serde(rename = "redirect_url")]
    pub(crate) to: ReturnTo,
    pub(crate) token: String,
    pub(crate) expires: UnixTime,
    /// The time at which the user last signed out, if that was a moment ago.
    #[serde(default)]
    pub(crate) signed_out: Option<UnixTime>,
}

/// The reason for which a hand-over gives no session.
pub(crate) enum Refused {
    /// It is no hand-over of this team, or is for another host.
    Invalid,
    /// It is bound to a different cookie than the browser's. Names the application.
    Unbound(Aud),
    /// It was used before.
    Used(ReturnTo),
    /// Its login was revoked or has expired.
    Over(ReturnTo),
    /// The store, or the team, did not answer.
    Unavailable,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handover_is_valid_for_a_minute_under_its_name() {
        let key = SealingKey::new(&[1; 32]).unwrap();
        let now = UnixTime(1000);
        let terms = Terms {
            aud: Aud::derive(&["a"]),
            host: "a.example.com".into(),
            to: ReturnTo::parse("/p?q=1"),
            nonce: IdentityNonce::random(),
            session_expires: UnixTime(2000),
            app_session: "h".into(),
        };
        let handover = Handover::new(terms, now);
        let url = handover.url(&key, "https://a.example.com").unwrap();
        let state = url.split("state=").nth(1).unwrap();
        let opened = Handover::open(&key, &handover.id, state, UnixTime(1059)).unwrap();
        assert_eq!(opened.nonce().unwrap().as_str(), handover.nonce);
        assert!(Handover::open(&key, &handover.id, state, UnixTime(1060)).is_err());
        assert!(Handover::open(&key, "other", state, now).is_err());
        assert!(
            Handover::open(
                &SealingKey::new(&[2; 32]).unwrap(),
                &handover.id,
                state,
                now
            )
            .is_err()
        );
        assert!(
            super::super::State::open(&key, state).is_err(),
            "sealed for another purpose"
        );
    }
}
