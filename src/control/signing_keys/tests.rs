use std::collections::HashSet;
use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::*;
use crate::keys;
use crate::store::MemoryStore;
use crate::token::{Claims, KeySet, Kind};

const START: UnixTime = UnixTime(1_800_000_000);

fn day(days: u64) -> UnixTime {
    UnixTime(START.0 + days * DAY)
}

fn fact(kid: &str, made: UnixTime, retired: Option<UnixTime>) -> KeyFacts {
    KeyFacts {
        kid: kid.into(),
        made,
        retired,
    }
}

/// Stores fixed keys in an empty store. Generating two would take longer than most tests.
pub(in crate::control) async fn put_fixed_keys(store: &dyn crate::store::Store) {
    if !store.signing_keys().await.unwrap().is_empty() {
        return;
    }
    for pem in [keys::TEAM, keys::TEAM_NEXT] {
        let key = StoredKey {
            kid: keys::signing_key(pem).kid().into(),
            pkcs8: keys::pkcs8(pem),
            certificate_pem: include_str!("../../../tests/keys/team.crt").to_owned(),
            made: UnixTime::now(),
            retired: None,
        };
        store.put_signing_key(&key).await.unwrap();
    }
}

/// The longest with default settings.
const LIFETIME: Duration = Duration::from_secs(DAY + 60);
/// The longest that a configuration allows.
const LONGEST: Duration = Duration::from_secs(30 * DAY + 300);

/// The store and the executor, without keys.
#[derive(Clone)]
struct World {
    keys: Vec<KeyFacts>,
    made: usize,
    lifetime: Duration,
}

impl Default for World {
    fn default() -> Self {
        Self {
            keys: Vec::new(),
            made: 0,
            lifetime: LIFETIME,
        }
    }
}

impl World {
    /// Does the same as `load_or_create`, and returns the key that signs.
    fn check(&mut self, now: UnixTime) -> Box<str> {
        for _ in 0..3 {
            let actions = plan(&self.keys, self.lifetime, now, now);
            for _ in 0..actions.make {
                self.keys
                    .push(fact(&format!("{:03}", self.made), now, None));
                self.made += 1;
            }
            if let Some((kid, end)) = actions.schedule {
                self.keys
                    .iter_mut()
                    .find(|key| key.kid == kid)
                    .unwrap()
                    .retired = Some(end);
            }
            self.keys.retain(|key| !actions.delete.contains(&key.kid));
        }
        assert_eq!(
            plan(&self.keys, self.lifetime, now, now),
            Actions::default(),
            "it comes to rest"
        );
        signer(&self.keys, now).unwrap().kid.clone()
    }

    fn kids(&self) -> Vec<&str> {
        self.keys.iter().map(|key| &*key.kid).collect()
    }
}

#[test]
fn the_life_of_the_first_keys_is_the_documented_one() {
    let mut world = World::default();
    let hour = Duration::from_secs(3600);
    for (now, signs, published) in [
        (day(0), "000", &["000", "001"]),
        (day(0).after(hour), "000", &["000", "001"]),
        (UnixTime(day(42).0 - 1), "000", &["000", "001"]),
        (day(42), "001", &["000", "001"]),
        (UnixTime(day(49).0 - 1), "001", &["000", "001"]),
        (day(49), "001", &["001", "002"]),
        (day(83), "001", &["001", "002"]),
        (day(84), "002", &["001", "002"]),
        (day(90), "002", &["001", "002"]),
        (day(91), "002", &["002", "003"]),
    ] {
        assert_eq!(
            (&*world.check(now), world.kids().as_slice()),
            (signs, published.as_slice()),
            "{now}"
        );
    }
}

#[test]
fn in_three_years_no_verifier_meets_an_unknown_key() {
    for (lifetime, overlap) in [
        (LIFETIME, 7),
        (Duration::from_secs(10 * DAY), 10),
        (LONGEST, 31),
    ] {
        let mut world = World {
            lifetime,
            ..World::default()
        };
        let mut day_old: HashSet<Box<str>> = HashSet::new();
        for hour in 0..3 * 365 * 24 {
            let now = START.after(Duration::from_secs(hour * 3600));
            let signs = world.check(now);
            assert_eq!(world.keys.len(), 2, "hour {hour}");
            // cloudflared keeps a JWKS for 24 hours.
            if hour % 24 == 0 {
                day_old = world.keys.iter().map(|key| key.kid.clone()).collect();
            }
            assert!(day_old.contains(&signs), "hour {hour}: {signs}");
        }
        assert_eq!(
            world.made,
            2 + (3 * 365 - overlap) / 42,
            "one for every six weeks, {overlap} days into them"
        );
    }
}

#[test]
fn token_is_verifiable_until_it_expires() {
    for lifetime in [LIFETIME, LONGEST] {
        let mut world = World {
            lifetime,
            ..World::default()
        };
        let mut signed: Vec<(UnixTime, Box<str>)> = Vec::new();
        for days in 0..400 {
            signed.push((day(days), world.check(day(days))));
            for (at, kid) in &signed {
                if day(days).since(*at) <= lifetime.max(PUBLISHED_FOR) {
                    assert!(
                        world.kids().contains(&&**kid),
                        "day {days}: signed at {at} with {kid}"
                    );
                }
            }
        }
    }
}

#[test]
fn changed_session_lifetime_keeps_two_keys_with_one_signer() {
    let mut world = World::default();
    for days in 0..400 {
        world.lifetime = if days / 20 % 2 == 0 {
            LIFETIME
        } else {
            LONGEST
        };
        world.check(day(days));
        assert_eq!(world.keys.len(), 2, "day {days}");
    }
    assert!(
        world.made >= 2 + 400 / 42 - 1,
        "{} keys in 400 days",
        world.made
    );
}

#[test]
fn rotation_after_a_long_absence_keeps_the_known_key_signing() {
    for away in [41, 43, 48, 50, 83, 85, 90, 92, 200, 4_000] {
        let mut world = World::default();
        world.check(day(0));
        let signs = world.check(day(away));
        assert_eq!(world.keys.len(), 2, "{away}");
        let key = world.keys.iter().find(|key| key.kid == signs).unwrap();
        assert!(key.retired.is_some_and(|end| end > day(away)), "{away}");
        assert!(
            key.made == day(0),
            "{away}: a key that verifiers may know goes first"
        );
    }
}

#[test]
fn late_key_signs_only_once_verifiers_can_know_it() {
    let old = fact("old", day(0), Some(day(42)));
    let mut world = World {
        keys: vec![old],
        made: 0,
        lifetime: LIFETIME,
    };
    assert_eq!(
        &*world.check(day(43)),
        "old",
        "it has expired, but no verifier knows the new one"
    );
    assert_eq!(world.kids(), ["old", "000"]);
    assert_eq!(&*world.check(UnixTime(day(43).0 + 3599)), "old");
    assert_eq!(&*world.check(UnixTime(day(43).0 + 3600)), "000");
    assert_eq!(world.keys[1].retired, Some(UnixTime(day(43 + 42).0 + 3600)));
}

#[test]
fn keys_of_concurrent_nodes_give_one_signer() {
    let keys = [
        fact("b", day(0), None),
        fact("a", day(0), None),
        fact("d", day(0), None),
        fact("c", day(0), None),
    ];
    let mut turned = keys.clone();
    turned.reverse();
    assert_eq!(
        signer(&keys, day(0)).unwrap().kid,
        signer(&turned, day(0)).unwrap().kid
    );
    let mut world = World {
        keys: keys.to_vec(),
        made: 0,
        lifetime: LIFETIME,
    };
    for days in 0..300 {
        world.check(day(days));
        assert!(world.keys.len() >= 2);
    }
    assert_eq!(world.keys.len(), 2, "the surplus is used up");
}

#[test]
fn a_clock_that_was_ahead_leaves_a_key_that_signs() {
    let mut world = World::default();
    world.check(day(10));
    assert_eq!(
        &*world.check(day(0)),
        "000",
        "made in the future, and still the best there is"
    );
    assert_eq!(world.keys.len(), 2);
    assert_eq!(
        plan(
            &world.keys,
            LIFETIME,
            UnixTime(u64::MAX),
            UnixTime(u64::MAX)
        )
        .make,
        1
    );
    assert_eq!(signer(&[], day(0)), None);
}

fn claims(now: UnixTime) -> Claims {
    Claims {
        iss: "https://access.example.com".into(),
        aud: vec!["a".repeat(64)],
        exp: now.after(Duration::from_secs(60)),
        iat: now,
        nbf: Some(now),
        kind: Kind::App,
        sub: "u1".into(),
        email: Some("alice@example.com".into()),
        identity_nonce: Some("0123456789abcdef".into()),
        country: None,
        custom: None,
    }
}

fn header(token: &str) -> Value {
    let part = token.split('.').next().unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

#[tokio::test]
async fn certs_document_has_its_shape() {
    let store = MemoryStore::new();
    let keys = SigningKeys::load_or_create(&store, LIFETIME, START, START)
        .await
        .unwrap();
    let certs: Value = serde_json::from_slice(&keys.jwks()).unwrap();
    let names = |value: &Value| {
        value
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&certs), ["keys", "public_cert", "public_certs"]);
    let list = |name: &str| certs[name].as_array().unwrap().clone();
    assert_eq!((list("keys").len(), list("public_certs").len()), (2, 2));
    for (jwk, cert) in list("keys").iter().zip(&list("public_certs")) {
        assert_eq!(
            names(jwk),
            ["alg", "e", "kid", "kty", "n", "use"],
            "and no private part"
        );
        assert_eq!(
            (&jwk["kty"], &jwk["alg"], &jwk["use"], &jwk["e"]),
            (
                &"RSA".into(),
                &"RS256".into(),
                &"sig".into(),
                &"AQAB".into()
            )
        );
        assert_eq!(names(cert), ["cert", "kid"]);
        assert_eq!(jwk["kid"], cert["kid"]);
        assert!(jwk["kid"].as_str().is_some_and(|kid| kid.len() == 64));
        same_public_key(jwk["n"].as_str().unwrap(), cert["cert"].as_str().unwrap());
    }
    assert_eq!(certs["public_cert"], list("public_certs")[0]);

    let token = keys.sign(&claims(START)).unwrap();
    assert_eq!(
        header(&token)["kid"],
        certs["public_cert"]["kid"],
        "the one that signs stands first"
    );
    assert_eq!(keys.kids().next(), certs["public_cert"]["kid"].as_str());
    assert_eq!(KeySet::from_jwks(&keys.jwks()).unwrap().kids().count(), 2);
}

#[tokio::test]
async fn certs_document_survives_a_restart_until_its_keys_retire() {
    let store = MemoryStore::new();
    let keys = SigningKeys::load_or_create(&store, LIFETIME, START, START)
        .await
        .unwrap();
    let certs: Value = serde_json::from_slice(&keys.jwks()).unwrap();
    let again = SigningKeys::load_or_create(
        &store,
        LIFETIME,
        START.after(Duration::from_secs(5)),
        START.after(Duration::from_secs(5)),
    )
    .await
    .unwrap();
    assert_eq!(again.jwks(), keys.jwks());
    let later = SigningKeys::load_or_create(&store, LIFETIME, day(42), day(42))
        .await
        .unwrap();
    let token = later.sign(&claims(day(42))).unwrap();
    assert_eq!(header(&token)["kid"], certs["keys"][1]["kid"]);
    let last = SigningKeys::load_or_create(&store, LIFETIME, day(49), day(49))
        .await
        .unwrap();
    let first = certs["keys"][0]["kid"].as_str().unwrap();
    assert!(last.kids().count() == 2 && last.kids().all(|kid| kid != first));
    assert!(
        store
            .signing_keys()
            .await
            .unwrap()
            .iter()
            .all(|key| &*key.kid != first),
        "the private half is gone too"
    );
    assert!(!format!("{last:?}").contains("pkcs8"));
}

/// As a verifier that knows nothing but X.509 sees it; the certificate's own signature is checked
/// on the way.
fn same_public_key(n: &str, pem: &str) {
    let openssl = |arguments: &[&str], input: &str| {
        let mut child = Command::new("openssl")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the tests need the `openssl` command");
        child
            .stdin
            .take()
            .unwrap()
            .write_all(input.as_bytes())
            .unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{arguments:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let modulus: String = URL_SAFE_NO_PAD
        .decode(n)
        .unwrap()
        .iter()
        .map(|byte| format!("{byte:02X}"))
        .collect();
    assert_eq!(
        openssl(&["x509", "-noout", "-modulus"], pem).trim(),
        format!("Modulus={modulus}")
    );
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("cert.pem");
    std::fs::write(&file, pem).unwrap();
    let file = file.to_str().unwrap();
    let at = START.0.to_string();
    openssl(
        &[
            "verify",
            "-check_ss_sig",
            "-attime",
            &at,
            "-CAfile",
            file,
            file,
        ],
        "",
    );
}

#[tokio::test]
async fn a_key_that_cannot_be_read_is_an_error() {
    let store = MemoryStore::new();
    SigningKeys::load_or_create(&store, LIFETIME, START, START)
        .await
        .unwrap();
    let key = store.signing_keys().await.unwrap().remove(0);
    store
        .put_signing_key(&StoredKey {
            pkcs8: Secret::new("AAAA"),
            ..key
        })
        .await
        .unwrap();
    let error = SigningKeys::load_or_create(&store, LIFETIME, START, START)
        .await
        .unwrap_err();
    assert!(matches!(error, SigningKeysError::Key(_)), "{error:?}");
    assert_eq!(
        store.signing_keys().await.unwrap().len(),
        2,
        "and nothing is thrown away over it"
    );
}

#[test]
fn clock_that_runs_ahead_deletes_no_key() {
    let mut world = World::default();
    world.check(START);
    let signing = world.check(day(1));
    let kids: Vec<Box<str>> = world.keys.iter().map(|key| key.kid.clone()).collect();
    let (ahead, seen) = (day(63), day(1));
    let actions = plan(&world.keys, LIFETIME, ahead, seen);
    assert_eq!((actions.make, actions.delete), (0, Vec::new()));
    if let Some((kid, end)) = actions.schedule {
        world
            .keys
            .iter_mut()
            .find(|key| key.kid == kid)
            .unwrap()
            .retired = Some(end);
    }
    assert_eq!(
        world.check(day(2)),
        signing,
        "the same key signs once the clock is right again"
    );
    assert_eq!(
        world
            .keys
            .iter()
            .map(|key| key.kid.clone())
            .collect::<Vec<_>>(),
        kids
    );
    assert_eq!(
        plan(&world.keys, LIFETIME, day(63), day(63)).delete,
        [signing],
        "the store's time has come"
    );
}
