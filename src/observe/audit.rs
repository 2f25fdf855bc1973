//! The audit trail: one structured event for every login, logout and rejection, and for a
//! configurable share of the allowed requests.
//!
//! Decides the fields and their form. Relies on a `tracing` subscriber for the target [`TARGET`];
//! the standalone proxy has one that writes JSON. Never waits and never fails: an event without a
//! subscriber is dropped silently.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::model::{Email, Identity, IdpId, RequestId, UserId};
use crate::policy::Country;

/// The `tracing` target of all audit events.
pub const TARGET: &str = "portcullis::audit";

/// The fields with JSON text. The standalone proxy's log writes them as lists and objects.
pub const JSON_FIELDS: [&str; 4] = ["groups", "amr", "claims", "listeners"];

/// An audit event. Unknown facts are left out.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// The step of the decision or login that the event is about.
    pub event: Kind,
    /// The outcome.
    pub outcome: Outcome,
    /// The reason ID, unless the outcome is good.
    pub reason: Option<&'a str>,
    /// The request ID, which is also on the page and in the origin's log.
    pub request_id: RequestId,
    /// The application's name in the configuration.
    pub application: Option<&'a str>,
    /// The application's audience tag.
    pub aud: Option<&'a str>,
    /// The user's email address.
    pub email: Option<&'a Email>,
    /// The user's ID.
    pub user: Option<&'a UserId>,
    /// The service token in the request, by client ID and name. A rejected credential is logged
    /// under the client ID that it stated.
    pub service_token: Option<(&'a str, &'a str)>,
    /// The common name of the client certificate that authenticated a service client.
    pub common_name: Option<&'a str>,
    /// The name of the application that issued the token in the request.
    pub linked_application: Option<&'a str>,
    /// The identity provider of the user.
    pub idp: Option<&'a IdpId>,
    /// The way in which a login identified the user.
    pub via: Option<Via>,
    /// The user's facts for policies, logged as `groups`, `amr` and `claims` ([`JSON_FIELDS`]) if
    /// they are known and not too long. Answers of external evaluations are left out, because their
    /// URLs may be confidential.
    pub identity: Option<&'a Identity>,
    /// The name of the policy that decided.
    pub policy: Option<&'a str>,
    /// The name of the shadow policy that would have decided, and its outcome.
    pub shadow: Option<(&'a str, &'static str)>,
    /// The client's IP address, determined with `trusted_proxies`.
    pub client: Option<IpAddr>,
    /// The country of that address.
    pub country: Option<Country>,
    /// The request's method.
    pub method: Option<&'a str>,
    /// The requested host, as the client named it.
    pub host: Option<&'a str>,
    /// The path. A query is cut off here too, because it may contain codes and tokens.
    pub path: Option<&'a str>,
    /// The `User-Agent` header as received.
    pub user_agent: Option<&'a [u8]>,
}

/// The kinds of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A login to an application succeeded or failed.
    Login,
    /// A user signed out or was signed out.
    Logout,
    /// A request was evaluated.
    Access,
    /// An administrator tested an identity provider with a link. No session was created.
    IdpTest,
}

/// The outcomes of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done, or allowed.
    Allowed,
    /// Denied, because of the user, the credential or the request.
    Refused,
    /// No decision was possible.
    Unavailable,
    /// Allowed at first, and terminated when a new request would no longer have been allowed.
    Ended,
}

/// The way in which a login identified the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// By a login at the identity provider.
    Provider,
    /// By an existing session on the team domain, without the identity provider.
    Session,
}

impl Via {
    /// Returns the word in the event.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Provider => "provider",
            Self::Session => "session",
        }
    }
}

impl Kind {
    /// Returns the word in the event.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Logout => "logout",
            Self::Access => "access",
            Self::IdpTest => "idp_test",
        }
    }
}

impl Outcome {
    /// Returns the word in the event.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Refused => "refused",
            Self::Unavailable => "unavailable",
            Self::Ended => "ended",
        }
    }
}

impl<'a> Event<'a> {
    /// Creates an event without further facts.
    pub const fn new(event: Kind, outcome: Outcome, request_id: RequestId) -> Self {
        Self {
            event,
            outcome,
            reason: None,
            request_id,
            application: None,
            aud: None,
            email: None,
            user: None,
            service_token: None,
            common_name: None,
            linked_application: None,
            idp: None,
            via: None,
            identity: None,
            policy: None,
            shadow: None,
            client: None,
            country: None,
            method: None,
            host: None,
            path: None,
            user_agent: None,
        }
    }

    /// Passes the event to the subscriber. For allowed requests, check [`Sample`] first, before
    /// collecting any facts.
    pub fn emit(&self) {
        let Self {
            event,
            outcome,
            reason,
            request_id,
            application,
            aud,
            email,
            user,
            service_token,
            common_name,
            linked_application,
            idp,
            via,
            identity,
            policy,
            shadow,
            client,
            country,
            method,
            host,
            path,
            user_agent,
        } = *self;
        let plain =
            |text: Option<&'a str>, limit| text.map(|text| displayable(text.as_bytes(), limit));
        let path = path.map(|path| path.split_once('?').map_or(path, |(path, _)| path));
        let (application, policy) = (plain(application, MAX_NAME), plain(policy, MAX_NAME));
        let service_token_id = plain(service_token.map(|(id, _)| id), MAX_NAME);
        let service_token = plain(service_token.map(|(_, name)| name), MAX_NAME);
        let (common_name, linked_application) = (
            plain(common_name, MAX_NAME),
            plain(linked_application, MAX_NAME),
        );
        let shadow_policy = plain(shadow.map(|(name, _)| name), MAX_NAME);
        let (method, host, path) = (
            plain(method, MAX_NAME),
            plain(host, MAX_HOST),
            plain(path, MAX_PATH),
        );
        let user_agent = user_agent.map(|text| displayable(text, MAX_USER_AGENT));
        let [groups, amr, claims] = identity.map_or([const { None }; 3], facts);
        tracing::info!(
            target: TARGET,
            event = event.as_str(),
            outcome = outcome.as_str(),
            reason,
            request_id = %request_id,
            application = application.as_deref(),
            aud,
            email = email.map(Email::as_str),
            user = user.map(|user| &*user.0),
            service_token_id = service_token_id.as_deref(),
            service_token = service_token.as_deref(),
            common_name = common_name.as_deref(),
            linked_application = linked_application.as_deref(),
            idp = idp.map(|idp| &*idp.0),
            via = via.map(Via::as_str),
            groups,
            amr,
            claims,
            policy = policy.as_deref(),
            shadow_policy = shadow_policy.as_deref(),
            shadow_outcome = shadow.map(|(_, outcome)| outcome),
            client = client.map(tracing::field::display),
            country = country.map(tracing::field::display),
            method = method.as_deref(),
            host = host.as_deref(),
            path = path.as_deref(),
            user_agent = user_agent.as_deref(),
        );
    }
}

fn facts(identity: &Identity) -> [Option<String>; 3] {
    let groups = identity.groups.known().map(|groups| {
        groups
            .iter()
            .map(|group| group.name.as_str())
            .collect::<Vec<_>>()
    });
    [
        groups.and_then(json),
        identity.amr.as_ref().and_then(json),
        json(&identity.claims),
    ]
}

/// Returns JSON that is safe to display. `None` if it is too long, because half of it would be a
/// different identity.
fn json(value: impl serde::Serialize) -> Option<String> {
    let text = serde_json::to_string(&value)
        .ok()
        .filter(|text| text.len() <= MAX_FACT)?;
    if !text.contains(is_unsafe_to_display) {
        return Some(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        // All of these characters are in the first plane.
        if is_unsafe_to_display(c) {
            let _ = write!(out, "\\u{:04x}", u32::from(c));
        } else {
            out.push(c);
        }
    }
    Some(out)
}

/// The share of allowed requests that become events: none, all, or a random part. It takes no lock,
/// allocates nothing, and shares no state between threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    // The share, as a part of 2^32.
    part: u64,
}

impl Sample {
    /// No request; the default.
    pub const OFF: Self = Self { part: 0 };
    /// Every request.
    pub const ALL: Self = Self { part: 1 << 32 };

    /// A share from 0 to 1. Other values are clamped, and NaN counts as 0.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the value was clamped to the range"
    )]
    pub fn part(rate: f64) -> Self {
        let rate = if rate.is_nan() {
            0.0
        } else {
            rate.clamp(0.0, 1.0)
        };
        Self {
            part: (rate * (1_u64 << 32) as f64) as u64,
        }
    }

    /// Returns `true` if this request is in the sample.
    pub fn hit(self) -> bool {
        match self.part {
            0 => false,
            Self::ALL_PARTS => true,
            part => (random() >> 32) < part,
        }
    }

    const ALL_PARTS: u64 = Self::ALL.part;
}

/// A [`Sample`] that a reload can change.
#[derive(Debug, Default)]
pub struct RunningSample(AtomicU64);

impl RunningSample {
    /// Replaces the sample.
    pub fn set(&self, sample: Sample) {
        self.0.store(sample.part, Ordering::Relaxed);
    }

    /// Returns `true` if this request is in the sample.
    pub fn hit(&self) -> bool {
        Sample {
            part: self.0.load(Ordering::Relaxed),
        }
        .hit()
    }
}

/// Returns a random number by xorshift64*, with a state for each thread. It only has to be evenly
/// distributed, not unpredictable.
fn random() -> u64 {
    thread_local! {
        static STATE: Cell<u64> = const { Cell::new(0) };
    }
    let mut x = STATE.get();
    // Zero is the state of a thread without a seed. xorshift never reaches it from another state.
    if x == 0 {
        let mut seed = [0; 8];
        crate::model::fill_random(&mut seed);
        x = u64::from_ne_bytes(seed) | 1;
    }
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    STATE.set(x);
    x.wrapping_mul(0x2545_F491_4F6C_DD1D)
}

/// Makes text safe to display anywhere: at most `limit` characters, with escapes for characters
/// that move a cursor, end a line or change the writing direction. Borrows text that is already
/// safe.
fn displayable(text: &[u8], limit: usize) -> Cow<'_, str> {
    // A character has at most four bytes, so bytes beyond this are never needed.
    let max_bytes = limit.saturating_add(1).saturating_mul(4);
    let text = String::from_utf8_lossy(text.get(..max_bytes).unwrap_or(text));
    let cut = text.char_indices().nth(limit).map(|(at, _)| at);
    if cut.is_none() && !text.contains(is_unsafe_to_display) {
        return text;
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars().take(limit) {
        if is_unsafe_to_display(c) {
            let _ = write!(out, "{}", c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    if cut.is_some() {
        out.push('…');
    }
    Cow::Owned(out)
}

fn is_unsafe_to_display(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

// Clients and administrators choose these texts, so their length is bounded.
const MAX_USER_AGENT: usize = 200;
const MAX_PATH: usize = 1_024;
const MAX_HOST: usize = 255;
const MAX_NAME: usize = 200;
/// The maximum length of one fact, in bytes; room for more than a thousand groups.
const MAX_FACT: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_is_borrowed() {
        assert!(matches!(
            displayable("Mozilla/5.0 (Ünïcode)".as_bytes(), 200),
            Cow::Borrowed(_)
        ));
        assert_eq!(displayable(&[b'a'; 200], 200), "a".repeat(200));
    }

    #[test]
    fn t12_control_characters_are_escaped() {
        assert_eq!(
            displayable(b"a\n{\"level\":\"x\"}\x1b[31m\0\x7f", 200),
            r#"a\u{a}{"level":"x"}\u{1b}[31m\u{0}\u{7f}"#
        );
        assert_eq!(
            displayable("\u{202e}x\u{2028}\u{85}".as_bytes(), 200),
            r"\u{202e}x\u{2028}\u{85}"
        );
        assert_eq!(displayable(b"\xff\xfe", 200), "\u{fffd}\u{fffd}");
    }

    #[test]
    fn t12_long_text_is_cut_at_a_character() {
        assert_eq!(
            displayable(&vec![b'a'; 65_536], 200),
            format!("{}…", "a".repeat(200))
        );
        assert_eq!(
            displayable("ü".repeat(201).as_bytes(), 200),
            format!("{}…", "ü".repeat(200))
        );
        assert_eq!(
            displayable("🦀".repeat(200).as_bytes(), 200),
            "🦀".repeat(200)
        );
        assert_eq!(
            displayable(&[0; 1_000], 200),
            format!("{}…", r"\u{0}".repeat(200))
        );
        assert_eq!(
            displayable("🦀".repeat(300).as_bytes(), 200),
            format!("{}…", "🦀".repeat(200)),
            "no half character"
        );
    }

    #[test]
    fn t12_facts_are_json_in_plain_text() {
        let names = ["R&D <x>", "a\u{202e}b\u{2028}", "\"\n\u{85}"];
        let text = json(names).unwrap();
        assert!(!text.contains(is_unsafe_to_display), "{text:?}");
        assert_eq!(serde_json::from_str::<Vec<String>>(&text).unwrap(), names);
        assert_eq!(
            json(vec!["x".repeat(100); 1_000]),
            None,
            "half of the groups would be other groups"
        );
    }

    #[test]
    fn a_sample_keeps_its_rate() {
        let hits = |sample: Sample| (0..100_000).filter(|_| sample.hit()).count();
        assert_eq!(hits(Sample::OFF), 0);
        assert_eq!(hits(Sample::default()), 0);
        assert_eq!(hits(Sample::part(0.0)), 0);
        assert_eq!(hits(Sample::part(-1.0)), 0);
        assert_eq!(hits(Sample::part(f64::NAN)), 0);
        assert_eq!(hits(Sample::ALL), 100_000);
        assert_eq!(hits(Sample::part(7.0)), 100_000);
        let tenth = hits(Sample::part(0.1));
        assert!((9_000..11_000).contains(&tenth), "{tenth}");
    }
}
