//! Measures `engine::decide`: time, and heap allocations on a repeat request.
//!
//! The last line is JSON with the medians of the headline case, 20 groups and one policy, in
//! nanoseconds. `verify_ns` is the bare RS256 verification by aws-lc-rs with a parsed key, which
//! every first verification of a token includes.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a benchmark stops where its world is not as made"
)]
#![expect(clippy::print_stdout, reason = "the report")]

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::signature::{ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use criterion::{BatchSize, Criterion};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use portcullis::cookie::SameSite;
use portcullis::engine::{
    ApplicationSettings, CookieAttributes, Decision, IdentityState, IssuerKeys, NodeCache, Origins,
    Snapshot, Team, decide,
};
use portcullis::model::{
    Aud, CleanPath, Email, Group, Groups, Host, HostPort, Identity, IdentityNonce, IdpId, IdpRef,
    RequestView, UnixTime, UserId,
};
use portcullis::policy::{List, Policy, Requester, SharedRules};
use portcullis::route::{Domain, PathCase};
use portcullis::token::{KeySet, SigningKey};
use serde_json::{Value, json};

const NOW: UnixTime = UnixTime(1_800_000_000);
const HOST: &str = "wiki.example.com";
const PATH: &str = "/spaces/engineering/pages/1842/how-we-release";
const EMAIL: &str = "alice.liddell@example.com";
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 7));
const GROUPS: [usize; 4] = [5, 20, 100, 500];
const POLICIES: [usize; 3] = [1, 100, 1_000];
const CURVE: [usize; 5] = [1, 10, 100, 1_000, 10_000];
const MANY: usize = 100_000;

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3))
        .output_directory(Path::new(OUTPUT))
        .configure_from_args();
    let key = SigningKey::generate().unwrap();
    let _ = std::fs::remove_dir_all(OUTPUT);

    let allocations = one_session(&mut criterion, &key);
    curves(&mut criterion, &key);
    other_answers(&mut criterion, &key);
    first_sight(&mut criterion, &key);
    parts(&mut criterion, &key);
    many_sessions(&mut criterion, &key);
    criterion.final_summary();

    let report = json!({
        "repeat_ns": median("repeat/20 groups, 1 policies"),
        "repeat_500_groups_1000_policies_ns": median("repeat/500 groups, 1000 policies"),
        "first_sight_ns": median("first sight/20 groups, 1 policies"),
        "verify_ns": median("parts/bare RS256 verification"),
        "allocations": allocations,
    });
    println!("{report}");
}

const OUTPUT: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/decide");

/// The repeat request, over groups and policies; the answer is the most allocations that any of
/// them made.
fn one_session(criterion: &mut Criterion, key: &SigningKey) -> u64 {
    let mut group = criterion.benchmark_group("repeat");
    let mut most = 0;
    for (groups, policies) in GROUPS
        .iter()
        .flat_map(|g| POLICIES.iter().map(move |p| (*g, *p)))
    {
        let world = World::new(key, groups, policies, 1_000);
        let request = Request::new(Some(&world.token(key, 0)));
        assert!(matches!(world.ask(&request), Decision::Forward(_)));
        let counted =
            allocation_counter::measure(|| drop(black_box(world.ask(black_box(&request)))));
        assert_eq!(
            counted.count_total, 0,
            "{groups} groups, {policies} policies"
        );
        most = most.max(counted.count_total);
        group.bench_function(name(groups, policies), |b| {
            b.iter(|| world.ask(black_box(&request)))
        });
    }
    most
}

/// Measures repeat requests of many sessions in random order. The request itself is in the
/// processor's cache, as it is when it has just been read.
fn many_sessions(criterion: &mut Criterion, key: &SigningKey) {
    // One signature each takes minutes, so there are few unless this is a measurement.
    let measured = std::env::args().any(|arg| arg == "--bench");
    let count = if measured { MANY } else { 100 };
    let world = World::new(key, 20, 1, count);
    let tokens = sign(&world, key, count);
    let mut group = criterion.benchmark_group(format!("repeat, {count} sessions at random"));
    for (groups, policies) in GROUPS
        .iter()
        .flat_map(|g| POLICIES.iter().map(move |p| (*g, *p)))
    {
        let world = World::new(key, groups, policies, 2 * count);
        for (nonce, token) in &tokens {
            world
                .known
                .set_identity(*nonce, IdentityState::Known(Arc::clone(&world.identity)));
            assert!(matches!(
                world.ask(&Request::new(Some(token))),
                Decision::Forward(_)
            ));
        }
        assert_eq!(world.known.sessions(), count);
        let mut seed = 88_172_645_463_325_252_u64;
        let mut next = || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            Request::new(Some(&tokens[usize::try_from(seed).unwrap() % count].1))
        };
        group.bench_function(name(groups, policies), |b| {
            b.iter_batched_ref(
                &mut next,
                |request| world.ask(request),
                BatchSize::NumIterations(16),
            );
        });
    }
}

/// Measures the growth of a repeat request: not with policies that depend on the user alone, but
/// with those that depend on the request. Measures also the partial verdict, once per session.
fn curves(criterion: &mut Criterion, key: &SigningKey) {
    let mut group = criterion.benchmark_group("settled policies");
    for policies in CURVE {
        let world = World::new(key, 500, policies, 1_000);
        let request = world.seen(key);
        group.bench_function(policies.to_string(), |b| {
            b.iter(|| world.ask(black_box(&request)))
        });
    }
    drop(group);

    let mut group = criterion.benchmark_group("open policies");
    for policies in CURVE {
        // All of them are about the person's group, and only the last about the network that the
        // request comes from.
        let policies = (0..policies).map(|i| {
            allow_from(
                if i + 1 == policies {
                    "203.0.113.0/24"
                } else {
                    "192.0.2.0/24"
                },
                i,
            )
        });
        let world = World::with_policies(key, 500, (&[], policies.collect()), 1_000, true);
        let request = world.seen(key);
        let counted =
            allocation_counter::measure(|| drop(black_box(world.ask(black_box(&request)))));
        assert_eq!(counted.count_total, 0);
        group.bench_function(world.policies().to_string(), |b| {
            b.iter(|| world.ask(black_box(&request)))
        });
    }
    drop(group);

    let mut group = criterion.benchmark_group("networks in a list");
    for nets in [10_u32, 1_000, 100_000] {
        let ips: Vec<_> = (0..nets)
            .map(|i| Ipv4Addr::from(0x0a00_0000 + 2 * i).to_string())
            .chain(["203.0.113.7".to_owned()])
            .map(|ip| json!({"value": ip}))
            .collect();
        let lists: Vec<List> =
            serde_json::from_value(json!([{"id": "nets", "name": "nets", "items": {"ip": ips}}]))
                .unwrap();
        let policy =
            json!({"name": "x", "decision": "allow", "include": [{"ip_list": {"id": "nets"}}]});
        let world = World::with_policies(
            key,
            20,
            (&lists, vec![serde_json::from_value(policy).unwrap()]),
            1_000,
            true,
        );
        let request = world.seen(key);
        group.bench_function(nets.to_string(), |b| {
            b.iter(|| world.ask(black_box(&request)))
        });
    }
    drop(group);

    let mut group = criterion.benchmark_group("settle for a session, 500 groups");
    for policies in CURVE {
        let world = World::new(key, 500, policies, 1_000);
        let (set, application) = (world.snapshot.policies(), &world.snapshot.applications()[0]);
        let who = Requester::User {
            email: &world.identity.email,
            identity: Some(&world.identity),
        };
        group.bench_function(policies.to_string(), |b| {
            b.iter(|| set.partial_verdict(application.policies(), &set.user_facts(black_box(who))));
        });
    }
}

/// Everything that is not forwarded.
fn other_answers(criterion: &mut Criterion, key: &SigningKey) {
    let world = World::new(key, 20, 1, 1_000);
    let good = world.token(key, 0);
    let mut group = criterion.benchmark_group("refused");

    let none = Request::new(None);
    assert!(matches!(world.ask(&none), Decision::LogIn(_)));
    group.bench_function("no cookie", |b| b.iter(|| world.ask(black_box(&none))));

    // The signature of another token, which only a verification detects.
    let (head, _) = good.rsplit_once('.').unwrap();
    let other = world.token(key, 1);
    let forged = Request::new(Some(&format!(
        "{head}.{}",
        other.rsplit_once('.').unwrap().1
    )));
    assert!(matches!(world.ask(&forged), Decision::LogIn(_)));
    group.bench_function("forged token", |b| b.iter(|| world.ask(black_box(&forged))));

    let garbage = Request::new(Some("not a token"));
    group.bench_function("garbage", |b| b.iter(|| world.ask(black_box(&garbage))));

    let strangers = World::with_membership(key, 20, 1, 1_000, false);
    let request = Request::new(Some(&good));
    assert!(matches!(strangers.ask(&request), Decision::Deny(_)));
    group.bench_function("denied", |b| b.iter(|| strangers.ask(black_box(&request))));
}

/// Tokens that were not seen before, or so long ago that the memory of them is gone.
fn first_sight(criterion: &mut Criterion, key: &SigningKey) {
    let mut group = criterion.benchmark_group("first sight");
    for (groups, policies) in [(20, 1), (500, 1_000)] {
        let world = World::new(key, groups, policies, 1);
        let requests: Vec<_> = (0..512)
            .map(|i| Request::new(Some(&world.token(key, i))))
            .collect();
        let mut turn = requests.iter().cycle();
        group.bench_function(name(groups, policies), |b| {
            b.iter(|| world.ask(black_box(turn.next().unwrap())))
        });
        assert!(
            world.known.sessions() < 100,
            "the tokens of a round must be gone before the next"
        );
    }
}

fn parts(criterion: &mut Criterion, key: &SigningKey) {
    let world = World::new(key, 20, 1, 1_000);
    let token = world.token(key, 0);
    let request = Request::new(Some(&token));
    let mut group = criterion.benchmark_group("parts");
    group.bench_function("request view", |b| {
        b.iter(|| black_box(black_box(&request).view()).path.is_rewritten())
    });

    let jwk = key.to_jwk();
    let part = |name: &str| URL_SAFE_NO_PAD.decode(jwk[name].as_str().unwrap()).unwrap();
    let components = RsaPublicKeyComponents {
        n: part("n"),
        e: part("e"),
    };
    let parsed: ParsedPublicKey = components
        .to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256)
        .unwrap();
    let (message, signature) = token.rsplit_once('.').unwrap();
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let verify = || parsed.verify_sig(black_box(message.as_bytes()), black_box(&signature));
    assert!(verify().is_ok());
    group.bench_function("bare RS256 verification", |b| b.iter(verify));
}

fn name(groups: usize, policies: usize) -> String {
    format!("{groups} groups, {policies} policies")
}

/// Returns the median that criterion wrote, if it measured.
fn median(id: &str) -> Option<f64> {
    let (group, function) = id.split_once('/')?;
    let file = Path::new(OUTPUT)
        .join(group)
        .join(function)
        .join("new/estimates.json");
    let estimates: Value = serde_json::from_slice(&std::fs::read(file).ok()?).ok()?;
    estimates["median"]["point_estimate"]
        .as_f64()
        .map(|ns| (ns * 10.0).round() / 10.0)
}

/// A team with one application. Its last policy allows the user.
struct World {
    snapshot: Snapshot,
    known: Arc<NodeCache>,
    aud: Aud,
    identity: Arc<Identity>,
    nonce: IdentityNonce,
}

impl World {
    fn new(key: &SigningKey, groups: usize, policies: usize, sessions: usize) -> Self {
        Self::with_membership(key, groups, policies, sessions, true)
    }

    fn with_membership(
        key: &SigningKey,
        groups: usize,
        policies: usize,
        sessions: usize,
        member: bool,
    ) -> Self {
        let policies = (0..policies).map(|i| allow(i + 1 == policies, i)).collect();
        Self::with_policies(key, groups, (&[], policies), sessions, member)
    }

    fn with_policies(
        key: &SigningKey,
        groups: usize,
        (lists, policies): (&[List], Vec<Policy>),
        sessions: usize,
        member: bool,
    ) -> Self {
        let known = Arc::new(NodeCache::new(sessions));
        let team = Team {
            name: "Example".into(),
            domain: Host::parse("access.example.com").unwrap(),
            port: None,
            plain_http: false,
            leeway: 60,
            support: None,
        };
        let aud = Aud::derive(&[HOST]);
        let application = ApplicationSettings {
            id: "wiki".into(),
            aud: aud.clone(),
            name: "Wiki".into(),
            domain: Domain::parse(HOST).unwrap(),
            session_duration: Duration::from_secs(86_400),
            allowed_idps: Vec::new(),
            auto_redirect_to_identity: false,
            cookie: CookieAttributes {
                same_site: SameSite::Lax,
                http_only: true,
                path: false,
            },
            cors: None,
            path_case: PathCase::default(),
            options_preflight_bypass: false,
            pass_cookies: false,
            sent_headers: Arc::default(),
            custom_deny_message: None,
            policies,
            origins: Origins::new(0_usize),
        };
        let rules = SharedRules { lists, groups: &[] };
        let snapshot =
            Snapshot::compile(1, team, rules, vec![application], Arc::clone(&known)).unwrap();
        let set =
            KeySet::from_jwks(json!({"keys": [key.to_jwk()]}).to_string().as_bytes()).unwrap();
        let later = NOW.after(Duration::from_secs(3_600));
        let keys = IssuerKeys {
            keys: Some(set),
            good_until: later,
            retry_from: later,
        };
        known.set_keys(snapshot.issuer(), keys);
        let named = |i: usize| Group {
            id: format!("00g{i:017}"),
            name: format!("Engineering Team {i:04}"),
        };
        let mut memberships: Vec<_> = (1..groups).map(named).collect();
        memberships.push(if member { named(0) } else { named(groups) });
        let identity = Arc::new(Identity {
            user: UserId(USER.into()),
            subject: "00u1a2b3c4d5e6f7g8h9".into(),
            email: Email::parse(EMAIL).unwrap(),
            name: Some("Alice Liddell".into()),
            idp: IdpRef {
                id: IdpId("okta".into()),
                kind: "okta".into(),
            },
            groups: Groups::Known(memberships),
            groups_seen: None,
            amr: None,
            evaluations: std::collections::BTreeMap::new(),
            linked_logins: Vec::new(),
            session_ends: None,
            claims: serde_json::Map::new(),
            headers: Vec::new(),
            at: NOW,
            ip: None,
            revision: 0,
        });
        let nonce = IdentityNonce::parse("0123456789abcdef").unwrap();
        known.set_identity(nonce, IdentityState::Known(Arc::clone(&identity)));
        Self {
            snapshot,
            known,
            aud,
            identity,
            nonce,
        }
    }

    /// An application token of about 1.2 KB.
    fn token(&self, key: &SigningKey, serial: u64) -> String {
        self.token_of(key, self.nonce, serial)
    }

    fn token_of(&self, key: &SigningKey, nonce: IdentityNonce, serial: u64) -> String {
        let token = key
            .sign(&json!({
                "iss": self.snapshot.issuer(), "aud": [self.aud], "type": "app",
                "exp": NOW.0 + 86_400 + serial, "iat": NOW.0 - 60, "nbf": NOW.0 - 60,
                "sub": USER, "email": EMAIL, "identity_nonce": nonce.as_str(), "country": "NL",
                "custom": {"department": "Engineering", "office": "Amsterdam", "cost_center": "4711-0815"},
            }))
            .unwrap();
        debug_assert!((900..1_300).contains(&token.len()), "{}", token.len());
        token
    }

    /// A request of a session that this node has seen.
    fn seen(&self, key: &SigningKey) -> Request {
        let request = Request::new(Some(&self.token(key, 0)));
        assert!(matches!(self.ask(&request), Decision::Forward(_)));
        request
    }

    fn policies(&self) -> usize {
        self.snapshot.applications()[0].settings().policies.len()
    }

    fn ask(&self, request: &Request) -> Decision {
        decide(&self.snapshot, &request.read(), NOW)
    }
}

const USER: &str = "7c0a1f0e-8c7e-5d9c-a3f1-2b6c8d4e9f10";

/// Returns an allow policy for a group: the last one for a group of the user, the others for groups
/// without members.
fn allow(last: bool, place: usize) -> Policy {
    let group = if last {
        "Engineering Team 0000".to_owned()
    } else {
        format!("Some Other Team {place}")
    };
    serde_json::from_value(json!({
        "name": format!("policy {place}"), "decision": "allow",
        "include": [{"okta": {"name": group, "identity_provider_id": "okta"}}],
    }))
    .unwrap()
}

fn allow_from(net: &str, place: usize) -> Policy {
    let group = json!({"okta": {"name": "Engineering Team 0000", "identity_provider_id": "okta"}});
    serde_json::from_value(json!({
        "name": format!("policy {place}"), "decision": "allow", "include": [group], "require": [{"ip": {"ip": net}}],
    }))
    .unwrap()
}

fn sign(world: &World, key: &SigningKey, count: usize) -> Vec<(IdentityNonce, String)> {
    let one = || {
        let nonce = IdentityNonce::random();
        (nonce, world.token_of(key, nonce, 0))
    };
    std::thread::scope(|scope| {
        let half = scope.spawn(|| (0..count / 2).map(|_| one()).collect::<Vec<_>>());
        let mut tokens: Vec<_> = (count / 2..count).map(|_| one()).collect();
        tokens.append(&mut half.join().unwrap());
        tokens
    })
}

/// A page view as a browser sends it.
struct Request {
    method: Method,
    headers: HeaderMap,
    authority: HostPort<'static>,
    path: CleanPath<'static>,
}

impl Request {
    fn new(token: Option<&str>) -> Self {
        let mut headers = HeaderMap::with_capacity(16);
        let session = token.map_or(String::new(), |token| format!("; CF_Authorization={token}"));
        let cookies = format!(
            "_ga=GA1.1.1234567890.1700000000; theme=dark{session}; JSESSIONID=5F3C9A1B7D2E4F60A8B1C3D5E7F90123"
        );
        for (name, value) in [
            ("host", HOST),
            (
                "user-agent",
                "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
            ),
            (
                "accept",
                "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
            ),
            ("accept-language", "en-US,en;q=0.5"),
            ("accept-encoding", "gzip, deflate, br, zstd"),
            ("referer", "https://wiki.example.com/spaces/engineering"),
            ("upgrade-insecure-requests", "1"),
            ("sec-fetch-dest", "document"),
            ("sec-fetch-mode", "navigate"),
            ("sec-fetch-site", "same-origin"),
            ("priority", "u=0, i"),
            ("cookie", &cookies),
        ] {
            headers.insert(
                HeaderName::from_static(name),
                HeaderValue::from_str(value).unwrap(),
            );
        }
        let authority = HostPort::parse(HOST).unwrap();
        Self {
            method: Method::GET,
            headers,
            authority,
            path: CleanPath::parse(PATH).unwrap(),
        }
    }

    /// As a front makes it of a native request.
    fn view(&self) -> RequestView<'_> {
        let host = self.headers["host"].to_str().unwrap();
        RequestView {
            method: &self.method,
            authority: HostPort::parse(host).unwrap(),
            path: CleanPath::parse(PATH).unwrap(),
            query: None,
            headers: &self.headers,
            client: CLIENT,
            tls: None,
        }
    }

    /// The same without the work of reading host and path, which is measured by itself.
    fn read(&self) -> RequestView<'_> {
        RequestView {
            method: &self.method,
            authority: self.authority.clone(),
            path: self.path.clone(),
            query: None,
            headers: &self.headers,
            client: CLIENT,
            tls: None,
        }
    }
}
