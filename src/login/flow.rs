use std::time::Duration;

use aws_lc_rs::digest;
use http::{HeaderMap, HeaderValue, header};
use serde::{Deserialize, Serialize};

use super::{Destination, ReturnTo, organisation_aud};
use crate::cookie::{self, FLOW_PREFIX, SameSite, SealError, SealingKey, SetCookie};
use crate::engine::Snapshot;
use crate::model::{Aud, UnixTime, fill_random, hex};

/// The target of a login, sealed into the `state` parameter. The browser returns to the right page
/// with it, even if the flow itself is over.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct State {
    /// The name of the flow and of its cookie.
    #[serde(rename = "f")]
    pub(crate) flow: String,
    /// The application, or the team itself for a login without one.
    #[serde(rename = "a")]
    pub(crate) aud: Aud,
    /// The host, as the browser names it.
    #[serde(rename = "h")]
    pub(crate) host: String,
    #[serde(rename = "r")]
    pub(crate) to: ReturnTo,
    /// The hash of the browser's cookie on that host.
    #[serde(rename = "s", default, skip_serializing_if = "Option::is_none")]
    pub(crate) app_session: Option<String>,
    #[serde(rename = "t")]
    pub(crate) began: UnixTime,
    /// `true` if this login replaces one that could not be finished. It is not replaced again.
    #[serde(rename = "2", default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) is_restart: bool,
}

impl State {
    /// Begins a login to a page of an application.
    pub(crate) fn to_application(destination: &Destination, now: UnixTime) -> Self {
        Self {
            flow: new_flow(),
            aud: destination.application.aud().clone(),
            host: destination.host.clone(),
            to: destination.to.clone(),
            app_session: destination.app_session.clone(),
            began: now,
            is_restart: false,
        }
    }

    /// Begins a login that ends at an endpoint of the team domain, with that path.
    pub(crate) fn to_team(snapshot: &Snapshot, host: &str, path: &str, now: UnixTime) -> Self {
        Self {
            flow: new_flow(),
            aud: organisation_aud(snapshot),
            host: host.to_owned(),
            to: ReturnTo::parse(path),
            app_session: None,
            began: now,
            is_restart: false,
        }
    }

    /// Begins the same login once more, under another name.
    pub(crate) fn begun_again(&self, now: UnixTime) -> Self {
        Self {
            flow: new_flow(),
            began: now,
            ..self.clone()
        }
    }

    /// Returns the state with the application's front page, if the page's URL is not short.
    pub(crate) fn shortened(&self) -> Self {
        if self.to.as_str().len() > SHORT {
            self.to_front_page()
        } else {
            self.clone()
        }
    }

    /// Returns the state of the same login to the application's front page.
    pub(crate) fn to_front_page(&self) -> Self {
        Self {
            to: ReturnTo::parse("/"),
            ..self.clone()
        }
    }

    /// Returns the approximate size in memory, in bytes.
    pub(crate) fn size(&self) -> usize {
        size_of::<Self>() + self.flow.len() + self.host.len() + self.to.as_str().len() + 128
    }

    pub(crate) fn seal(&self, key: &SealingKey) -> Result<String, SealError> {
        key.seal(STATE, self)
    }

    pub(crate) fn open(key: &SealingKey, text: &str) -> Result<Self, SealError> {
        key.open(STATE, text)
    }

    /// Returns the time at which the flow expires.
    pub(crate) fn ends(&self) -> UnixTime {
        self.began.after(LIFETIME)
    }

    /// Returns `true` if the flow has expired, or began in the future by more than clocks differ.
    pub(crate) fn has_expired(&self, now: UnixTime) -> bool {
        now.since(self.began) >= LIFETIME || self.began > now.after(Duration::from_secs(60))
    }
}

/// The browser's half of a flow, sealed into a cookie of its own on the team domain.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Flow<P> {
    /// The hash of the flow's `state`.
    #[serde(rename = "s")]
    state: String,
    #[serde(rename = "t")]
    began: UnixTime,
    /// The data of the provider's protocol, such as nonce and code verifier.
    #[serde(rename = "p")]
    pub(crate) pending: P,
}

impl<P: Serialize + for<'de> Deserialize<'de>> Flow<P> {
    pub(crate) fn new(state: &str, pending: P, now: UnixTime) -> Self {
        Self {
            state: fingerprint(state),
            began: now,
            pending,
        }
    }

    /// Returns the cookie for a provider that redirects the browser back.
    pub(crate) fn to_cookie(
        &self,
        key: &SealingKey,
        id: &str,
        now: UnixTime,
    ) -> Option<HeaderValue> {
        let value = key.seal(&purpose(id), self).ok()?;
        flow_cookie(&format!("{FLOW_PREFIX}{id}"), &value, now).to_header()
    }

    /// Returns the cookie for a provider that returns the browser with a form; `None` if it is too
    /// long. Browsers send only `SameSite=None` cookies with a form from another site. The cookie
    /// is useless without the flow's name, and to any sender but this browser.
    pub(crate) fn to_cookie_for_forms(
        &self,
        key: &SealingKey,
        id: &str,
        now: UnixTime,
    ) -> Option<HeaderValue> {
        let (name, value) = (
            format!("{FLOW_PREFIX}{id}"),
            key.seal(&purpose(id), self).ok()?,
        );
        let cookie = SetCookie {
            same_site: SameSite::None,
            ..flow_cookie(&name, &value, now)
        };
        if cookie.fits() {
            cookie.to_header()
        } else {
            None
        }
    }

    /// Returns the flow with that name, if this browser began it.
    pub(crate) fn named(headers: &HeaderMap, key: &SealingKey, id: &str) -> Option<Self> {
        let name = format!("{FLOW_PREFIX}{id}");
        cookie::values(headers, &name).find_map(|value| key.open::<Self>(&purpose(id), value).ok())
    }

    /// Returns the flow of a `state`, if this browser began it.
    pub(crate) fn for_state(
        headers: &HeaderMap,
        key: &SealingKey,
        id: &str,
        state: &str,
    ) -> Option<Self> {
        let name = format!("{FLOW_PREFIX}{id}");
        let found = cookie::values(headers, &name)
            .find_map(|value| key.open::<Self>(&purpose(id), value).ok())?;
        // The cookie must be that of this very `state`, and not only of a flow with this name.
        (found.state == fingerprint(state)).then_some(found)
    }
}

/// The flow cookies of a browser, oldest first.
pub(crate) struct FlowCookies(Vec<(UnixTime, String)>);

impl FlowCookies {
    /// Reads the flow cookies of a request. Unreadable ones count as the oldest.
    pub(crate) fn from_headers(headers: &HeaderMap, key: &SealingKey) -> Self {
        let lines = headers
            .get_all(header::COOKIE)
            .into_iter()
            .filter_map(|line| line.to_str().ok());
        let ours = lines.flat_map(|line| line.split(';')).filter_map(|pair| {
            let (name, value) = pair.trim().split_once('=')?;
            // Other names are not ours, and a response must not repeat them.
            let id = name.strip_prefix(FLOW_PREFIX).filter(|id| is_flow(id))?;
            let began = key
                .open::<Flow<serde::de::IgnoredAny>>(&purpose(id), value)
                .map_or(UnixTime(0), |flow| flow.began);
            Some((began, name.to_owned()))
        });
        let mut all: Vec<_> = ours.collect();
        // Browsers send older cookies first (RFC 6265 §5.4): within one second their order decides.
        all.sort_by_key(|(began, _)| *began);
        Self(all)
    }

    /// Returns `true` if there are so many logins that older cookies may have been removed for
    /// them.
    pub(crate) fn are_many(&self) -> bool {
        self.0.len() >= MAX_FLOWS - 1
    }

    /// Returns the removals that make room for one more cookie. Of a number that we never set, only
    /// some are removed: the response must stay small.
    pub(crate) fn make_room(&self, now: UnixTime) -> impl Iterator<Item = HeaderValue> {
        let surplus = (self.0.len() + 1).saturating_sub(MAX_FLOWS);
        self.0
            .iter()
            .take(surplus.min(MAX_REMOVALS))
            .filter_map(move |(_, name)| removal(name, now))
    }

    /// Returns the removal of one flow's cookie.
    pub(crate) fn removal(id: &str, now: UnixTime) -> Option<HeaderValue> {
        removal(&format!("{FLOW_PREFIX}{id}"), now)
    }
}

fn flow_cookie<'a>(name: &'a str, value: &'a str, now: UnixTime) -> SetCookie<'a> {
    // Lax: the provider's redirect back is a top-level navigation.
    SetCookie {
        name,
        value,
        path: "/",
        expires: now.after(COOKIE_LIFETIME),
        now,
        http_only: true,
        same_site: SameSite::Lax,
    }
}

/// Returns a cookie's removal. It is `SameSite=None`, because browsers ignore a `Lax` cookie in the
/// response to a request from another site.
fn removal(name: &str, now: UnixTime) -> Option<HeaderValue> {
    SetCookie {
        same_site: SameSite::None,
        ..flow_cookie(name, "", now)
    }
    .to_removal()
}

fn fingerprint(state: &str) -> String {
    let digest = digest::digest(&digest::SHA256, state.as_bytes());
    // 128 bits suffice against a second preimage, and keep the cookie short.
    hex(digest.as_ref().get(..16).unwrap_or_default())
}

fn new_flow() -> String {
    let mut id = [0; 8];
    fill_random(&mut id);
    hex(&id)
}

/// Returns `true` for an id as [`State`] makes them.
pub(crate) fn is_flow(id: &str) -> bool {
    id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn purpose(id: &str) -> String {
    format!("flow {id}")
}

const STATE: &str = "state";
/// In bytes: five cookies with such URLs have less than 4 KiB together.
const SHORT: usize = 128;
/// The time that a user may spend at the provider.
pub(super) const LIFETIME: Duration = Duration::from_secs(600);
// Longer than the flow: a SAML response that comes late then belongs to an expired login, and not
// to a lost cookie.
const COOKIE_LIFETIME: Duration = Duration::from_secs(900);
/// More would exceed the header size that intermediate servers accept.
const MAX_FLOWS: usize = 5;
// A removal has more than 100 bytes, and the response must fit into common header limits.
const MAX_REMOVALS: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixTime = UnixTime(1_800_000_000);

    fn key() -> SealingKey {
        SealingKey::new(&[1; 32]).unwrap()
    }

    fn jar(cookies: &[HeaderValue]) -> HeaderMap {
        let pairs: Vec<_> = cookies
            .iter()
            .map(|c| c.to_str().unwrap().split(';').next().unwrap().to_owned())
            .collect();
        [(
            header::COOKIE,
            HeaderValue::try_from(pairs.join("; ")).unwrap(),
        )]
        .into_iter()
        .collect()
    }

    fn begin(now: UnixTime) -> (State, String, HeaderValue) {
        let state = State {
            flow: new_flow(),
            aud: Aud::derive(&["a"]),
            host: "a.example.com".into(),
            to: ReturnTo::parse("/x"),
            app_session: Some("hash".into()),
            began: now,
            is_restart: false,
        };
        let sealed = state.seal(&key()).unwrap();
        let cookie = Flow::new(&sealed, "verifier".to_owned(), now)
            .to_cookie(&key(), &state.flow, now)
            .unwrap();
        (state, sealed, cookie)
    }

    #[test]
    fn r02_r05_flow_belongs_to_its_browser_and_its_state() {
        let (one, one_sealed, one_cookie) = begin(NOW);
        let (two, two_sealed, two_cookie) = begin(NOW);
        let both = jar(&[one_cookie.clone(), two_cookie]);
        let of = |headers: &HeaderMap, id: &str, state: &str| {
            Flow::<String>::for_state(headers, &key(), id, state).map(|f| f.pending)
        };
        assert_eq!(
            of(&both, &one.flow, &one_sealed).as_deref(),
            Some("verifier")
        );
        assert_eq!(
            of(&both, &two.flow, &two_sealed).as_deref(),
            Some("verifier")
        );
        assert_eq!(
            of(&both, &one.flow, &two_sealed),
            None,
            "another flow's state"
        );
        assert_eq!(
            of(&jar(&[]), &one.flow, &one_sealed),
            None,
            "another browser"
        );
        let renamed =
            HeaderValue::try_from(one_cookie.to_str().unwrap().replace(&one.flow, &two.flow))
                .unwrap();
        assert_eq!(
            of(&jar(&[renamed]), &two.flow, &one_sealed),
            None,
            "a renamed cookie"
        );
        assert!(State::open(&SealingKey::new(&[2; 32]).unwrap(), &one_sealed).is_err());
        assert_eq!(State::open(&key(), &one_sealed).unwrap().to.as_str(), "/x");
        assert!(
            !one.has_expired(UnixTime(NOW.0 + 599))
                && one.has_expired(UnixTime(NOW.0 + 600))
                && one.has_expired(UnixTime(NOW.0 - 61))
        );
    }

    #[test]
    fn r15_invented_flow_cookies_get_a_small_answer() {
        let removals = |line: &str| {
            let jar = [(header::COOKIE, HeaderValue::try_from(line).unwrap())]
                .into_iter()
                .collect();
            FlowCookies::from_headers(&jar, &key())
                .make_room(NOW)
                .map(|removal| removal.len())
                .collect::<Vec<_>>()
        };
        let garbage = |n: usize| {
            (0..n)
                .map(|i| format!("__Host-CF_Session_{i:016x}=x; c=1; "))
                .collect::<String>()
        };
        assert_eq!(removals(&garbage(5)).len(), 1);
        assert!(
            removals(&garbage(1_500)).iter().sum::<usize>() < 2_048,
            "53 KB of invented cookies get a small answer"
        );
        assert!(
            removals("__Host-CF_Session_a=x; ".repeat(400).as_str()).is_empty(),
            "names that are not ours"
        );
        assert!(
            removals(&format!("__Host-CF_Session_{}=x; ", "a".repeat(9_000)).repeat(6)).is_empty()
        );
    }

    #[test]
    fn r15_sixth_flow_removes_the_oldest() {
        let cookies: Vec<_> = (0..7).map(|i| begin(UnixTime(NOW.0 + 10 - i))).collect();
        let removed = |n: usize| {
            let jar = jar(&cookies
                .iter()
                .take(n)
                .map(|c| c.2.clone())
                .collect::<Vec<_>>());
            let removals: Vec<_> = FlowCookies::from_headers(&jar, &key())
                .make_room(NOW)
                .collect();
            removals
                .iter()
                .map(|r| {
                    r.to_str()
                        .unwrap()
                        .split('=')
                        .next()
                        .unwrap()
                        .trim_start_matches(FLOW_PREFIX)
                        .to_owned()
                })
                .collect::<Vec<_>>()
        };
        assert!(removed(4).is_empty());
        assert_eq!(removed(5), [cookies[4].0.flow.clone()]);
        assert_eq!(
            removed(7),
            [
                cookies[6].0.flow.clone(),
                cookies[5].0.flow.clone(),
                cookies[4].0.flow.clone()
            ]
        );
        let all: usize = cookies
            .iter()
            .take(5)
            .map(|c| c.2.to_str().unwrap().split(';').next().unwrap().len() + 2)
            .sum();
        assert!(all < 4096, "{all} bytes");
    }
}
