//! Properties of decisions over random requests, facts and changes.

use proptest::prelude::*;

use super::*;
use crate::model::LoginOrder;
use crate::policy::{Rule, Truth};
use crate::session::Presented;
use crate::token::MAX_TOKEN_BYTES;

/// An event on a node.
#[derive(Clone, Debug)]
enum Event {
    Ask {
        app: usize,
        with: Vec<String>,
        from: [u8; 4],
        method: usize,
        preflight: bool,
    },
    Keys {
        which: usize,
        good_for: u64,
        retry: bool,
    },
    Record {
        person: usize,
        what: usize,
    },
    End {
        person: usize,
        what: usize,
    },
    Follow {
        good_for: u64,
    },
    Reload {
        reverse: bool,
    },
    Wait(u64),
}

const FLAWS: &[&str] = &[
    "",
    "",
    "",
    "expired",
    "ending",
    "early",
    "fresh",
    "org",
    "issuer",
    "forged",
    "both",
    "none",
    "hs256",
    "crit",
    "nameless",
    "stranger",
    "impostor",
    "nobody",
    "impersonation",
    "cut",
    "quoted",
];

/// Most events are about the first few users and applications, so that they coincide.
const FEW: usize = 5;

const METHODS: &[&str] = &["GET", "POST", "OPTIONS", "HEAD", "TRACE", "PURGE"];

fn credentials() -> impl Strategy<Value = Vec<String>> {
    let people: Vec<_> = WORLD
        .people
        .iter()
        .map(|person| person.name.clone())
        .collect();
    let apps: Vec<_> = WORLD
        .applications
        .iter()
        .map(|app| app.name.clone())
        .collect();
    let place = prop::sample::select(vec![
        "cookie",
        "cookie",
        "cookie",
        "line",
        "header",
        "assertion",
    ]);
    let parts = (
        place,
        prop::sample::select(people),
        prop::sample::select(apps),
        prop::sample::select(FLAWS),
    );
    prop::collection::vec(
        parts.prop_map(|(place, person, app, flaw)| format!("{place} {person} {app} {flaw}")),
        0..3,
    )
}

/// Mostly requests with a token of the requested application: otherwise nothing would ever be
/// forwarded.
fn ask() -> impl Strategy<Value = Event> {
    let own = (0..FEW, 0..FEW, prop::sample::select(FLAWS)).prop_map(|(a, p, flaw)| {
        let with = format!(
            "cookie {} {} {flaw}",
            WORLD.people[p].name, WORLD.applications[a].name
        );
        (a, vec![with])
    });
    let any = (0..WORLD.applications.len(), credentials());
    let from = prop::sample::select(vec![[198, 51, 100, 7], [10, 0, 0, 1], [203, 0, 113, 9]]);
    let method = prop_oneof![6 => Just(0), 1 => 0..METHODS.len()];
    (
        prop_oneof![3 => own.boxed(), 1 => any.boxed()],
        from,
        method,
        prop::bool::weighted(0.1),
    )
        .prop_map(|((app, with), from, method, preflight)| Event::Ask {
            app,
            with,
            from,
            method,
            preflight,
        })
}

fn event() -> impl Strategy<Value = Event> {
    let people = 0..FEW;
    prop_oneof![
        12 => ask(),
        1 => (0..5_usize, prop::sample::select(vec![0, 30, 4_000, 8_000]), any::<bool>()).prop_map(|(which, good_for, retry)| Event::Keys { which, good_for, retry }),
        2 => (people.clone(), 0..5_usize).prop_map(|(person, what)| Event::Record { person, what }),
        1 => (people, 0..3_usize).prop_map(|(person, what)| Event::End { person, what }),
        1 => prop::sample::select(vec![0, 60, 4_000]).prop_map(|good_for| Event::Follow { good_for }),
        1 => any::<bool>().prop_map(|reverse| Event::Reload { reverse }),
        2 => prop::sample::select(vec![0, 1, 29, 60, 1_800, 3_600]).prop_map(Event::Wait),
    ]
}

/// Everything that a decision may depend on, in the simplest form.
struct Truths {
    now: UnixTime,
    keys: Option<Vec<(&'static str, &'static SigningKey)>>,
    good_until: UnixTime,
    retry_from: UnixTime,
    records: Vec<Option<IdentityState>>,
    ended: Revocations,
    followed_until: UnixTime,
    apps: Vec<App>,
    generation: u64,
}

impl Truths {
    fn new() -> Self {
        Self {
            now: NOW,
            keys: Some(vec![(MINT.key.kid(), &MINT.key)]),
            good_until: after(7_200),
            retry_from: UnixTime(u64::MAX),
            records: WORLD
                .people
                .iter()
                .map(|person| {
                    (person.record == Record::Known)
                        .then(|| IdentityState::Known(Arc::new(person.identity())))
                })
                .collect(),
            ended: Revocations::default(),
            followed_until: after(7_200),
            apps: WORLD.applications.clone(),
            generation: 1,
        }
    }

    fn publish_keys(&self, node: &Snapshot) {
        let keys = self.keys.as_deref().map(key_set);
        node.cache().set_keys(
            node.issuer(),
            IssuerKeys {
                keys,
                good_until: self.good_until,
                retry_from: self.retry_from,
            },
        );
    }

    fn publish_record(&self, node: &Snapshot, person: usize) {
        if let Some(state) = &self.records[person] {
            node.cache()
                .set_identity(WORLD.people[person].nonce(), state.clone());
        }
    }

    /// Returns a node with the same facts that has never seen a request.
    fn fresh(&self) -> Snapshot {
        let cache = Arc::new(NodeCache::new(1_000));
        let node = compile(self.generation, cases::TEAM_DOMAIN, &self.apps, &cache);
        cache.set_revocations_good_until(self.followed_until);
        self.publish_keys(&node);
        (0..self.records.len()).for_each(|person| self.publish_record(&node, person));
        node.with_revocations(Arc::new(self.ended.clone()))
    }

    /// Applies an event to these facts and to a node that has seen requests.
    fn apply(&mut self, event: &Event, node: Snapshot) -> Snapshot {
        match *event {
            Event::Ask { .. } => return node,
            Event::Keys {
                which,
                good_for,
                retry,
            } => {
                let (ours, theirs): (_, &'static SigningKey) =
                    ((MINT.key.kid(), &MINT.key), &MINT.stranger);
                self.keys = match which {
                    0 | 1 => Some(vec![ours]),
                    2 => Some(vec![("other", theirs), ours]),
                    3 => Some(vec![(MINT.key.kid(), theirs)]),
                    _ => None,
                };
                self.good_until = UnixTime(self.now.0 + good_for);
                self.retry_from = UnixTime(if retry { self.now.0 } else { u64::MAX });
                self.publish_keys(&node);
            }
            Event::Record { person, what } => {
                let groups = |groups: Option<&[&str]>| {
                    let groups =
                        groups.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
                    IdentityState::Known(Arc::new(
                        Person {
                            groups,
                            ..WORLD.people[person].clone()
                        }
                        .identity(),
                    ))
                };
                self.records[person] = Some(match what {
                    0 => groups(Some(&["Eng", "Admins"])),
                    1 => groups(Some(&["Contractors"])),
                    2 => groups(None),
                    3 => IdentityState::Unavailable {
                        retry_from: UnixTime(self.now.0 + 30),
                    },
                    _ => IdentityState::Missing,
                });
                self.publish_record(&node, person);
            }
            Event::End { person, what } => {
                let person = &WORLD.people[person];
                match what {
                    0 => self.ended.end_session(person.nonce(), UnixTime(u64::MAX)),
                    1 => self.ended.end_user(
                        person.user(),
                        Until::Revision(cases::REVISION + 1),
                        UnixTime(u64::MAX),
                    ),
                    _ => self.ended.end_application(
                        aud("app"),
                        UnixTime(NOW.0 - 1),
                        UnixTime(u64::MAX),
                    ),
                }
                return node.with_revocations(Arc::new(self.ended.clone()));
            }
            Event::Follow { good_for } => {
                self.followed_until = UnixTime(self.now.0 + good_for);
                node.cache().set_revocations_good_until(self.followed_until);
            }
            Event::Reload { reverse } => {
                if reverse {
                    self.apps.reverse();
                }
                self.generation += 1;
                let reloaded = compile(
                    self.generation,
                    cases::TEAM_DOMAIN,
                    &self.apps,
                    node.cache(),
                );
                return reloaded.with_revocations(Arc::new(self.ended.clone()));
            }
            Event::Wait(seconds) => self.now = UnixTime(self.now.0 + seconds),
        }
        node
    }

    /// Checks that a request may be forwarded, from the token alone and with another library.
    fn justify(&self, permit: &Permit, request: &Raw<'_>) -> Result<(), String> {
        let app = permit.application().settings();
        let (app, session) = match permit.service_client() {
            Some(ServiceClient::LinkedApp {
                application,
                session,
            }) => (application.settings(), Some(session)),
            Some(other) => return Err(format!("no client showed {other:?}")),
            None => (app, permit.session()),
        };
        let Some(session) = session else {
            let preflight = app.options_preflight_bypass && request.method == Method::OPTIONS;
            let ignores_the_user =
                |rule: &Rule| matches!(rule, Rule::Everyone {} | Rule::Ip { .. });
            let open = app.policies.iter().any(|policy| {
                policy.decision.is_early() && policy.include.iter().any(ignores_the_user)
            });
            return (preflight || open)
                .then_some(())
                .ok_or_else(|| "no user, and no bypass".to_owned());
        };
        let token = session.assertion().to_str().map_err(|e| e.to_string())?;
        let sent = request.headers.iter().any(|(name, value)| {
            matches!(name.as_str(), "cookie" | "cf-access-token")
                && value.to_str().is_ok_and(|v| v.contains(token))
        });
        let mut rules = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::RS256);
        rules.set_issuer(&[&MINT.issuer]);
        rules.set_audience(&[app.aud.as_str()]);
        rules.validate_exp = false;
        let kid = jsonwebtoken::decode_header(token)
            .map_err(|e| e.to_string())?
            .kid
            .ok_or("no kid")?;
        let keys = self.keys.as_ref().ok_or("no keys")?;
        let (_, key) = keys
            .iter()
            .find(|(name, _)| *name == kid)
            .ok_or("unknown key")?;
        let jwk = serde_json::from_value(key.to_jwk()).map_err(|e| e.to_string())?;
        let key = jsonwebtoken::DecodingKey::from_jwk(&jwk).map_err(|e| e.to_string())?;
        let claims = jsonwebtoken::decode::<serde_json::Value>(token, &key, &rules)
            .map_err(|e| e.to_string())?
            .claims;
        let number = |name: &str| claims[name].as_u64().ok_or_else(|| name.to_owned());
        let person = WORLD
            .people
            .iter()
            .position(|p| claims["sub"] == p.user().0.as_ref())
            .ok_or("an unknown user")?;
        let nonce = claims["identity_nonce"]
            .as_str()
            .and_then(|n| IdentityNonce::parse(n).ok());
        let user = WORLD.people[person].user();
        let issued = UnixTime(number("iat")?);
        let login = match (nonce, &self.records[person]) {
            (None, _) => Some(LoginOrder {
                revision: 0,
                at: issued,
            }),
            (_, Some(IdentityState::Known(identity))) => Some(identity.order()),
            _ => None,
        };
        let aud = std::slice::from_ref(&app.aud);
        let presented = Presented {
            nonce,
            user: &user,
            aud,
            issued,
            login,
        };
        for (what, holds) in [
            ("was sent", sent),
            ("is short enough", token.len() <= MAX_TOKEN_BYTES),
            ("is an application's", claims["type"] == "app"),
            (
                "names who is forwarded",
                claims["email"].as_str() == session.email().map(|e| e.as_str()),
            ),
            ("has not expired", self.now.0 < number("exp")?),
            (
                "has begun",
                number("iat")?.max(number("nbf")?) <= self.now.0 + LEEWAY,
            ),
            ("was not ended", self.ended.cover(presented) == Truth::False),
            ("is of keys that are fresh", self.now < self.good_until),
            (
                "is held against fresh revocations",
                self.now < self.followed_until,
            ),
            (
                "has its record",
                nonce.is_none()
                    || !matches!(self.records[person], None | Some(IdentityState::Missing)),
            ),
        ] {
            if !holds {
                return Err(format!("not true that the token {what}"));
            }
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// A node answers as a fresh one with the same facts, whatever happened before; and every
    /// forward is justified.
    #[test]
    fn history_of_a_node_changes_no_answer(events in prop::collection::vec(event(), 1..24)) {
        let mut truths = Truths::new();
        let mut node = truths.fresh();
        for event in &events {
            node = truths.apply(event, node);
            let Event::Ask { app, with, from, method, preflight } = event else { continue };
            let with: Vec<_> = with.iter().map(|w| w.trim_end()).collect();
            let mut request = get(&WORLD.applications[*app].name, &with);
            request.method = METHODS[*method].parse().unwrap();
            request.client = IpAddr::from(*from);
            if *preflight {
                request.headers.insert("origin", "https://a.example".parse().unwrap());
                request.headers.insert("access-control-request-method", "GET".parse().unwrap());
            }
            let answer = request.decide(&node, truths.now).unwrap();
            prop_assert_eq!(describe(&answer), request.ask(&truths.fresh(), truths.now), "with {:?} after {:?}", with, events);
            if let Decision::Forward(permit) = &answer {
                let right = truths.justify(permit, &request);
                prop_assert!(right.is_ok(), "{} with {:?}: {:?}", describe(&answer), with, right);
            }
        }
    }

    /// Random bytes in place of the credential never open a session.
    #[test]
    fn random_credential_is_rejected(value in "[!-~]{0,200}", header in any::<bool>()) {
        let mut request = get("app", &[]);
        let value = if header { value } else { format!("CF_Authorization={value}") };
        let name = if header { "cf-access-token" } else { "cookie" };
        request.headers.insert(name, value.parse().unwrap());
        prop_assert!(request.ask(&node(), NOW).starts_with("log in"));
    }
}
