mod changes;
mod faults;
mod file;

use std::error::Error as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::model::{
    Aud, Email, Group, Groups, Identity, IdentityNonce, IdpId, IdpRef, Secret, UnixTime, UserId,
};

const NOW: UnixTime = UnixTime(1_800_000_000);

/// Returns one of each kind. Everything that the traits promise is tested on both.
async fn stores(dir: &TempDir) -> Vec<Arc<dyn Store>> {
    vec![Arc::new(MemoryStore::new()), Arc::new(sqlite(dir).await)]
}

fn path(dir: &TempDir) -> PathBuf {
    dir.path().join("portcullis.db")
}

async fn sqlite(dir: &TempDir) -> SqliteStore {
    SqliteStore::open_with(&path(dir), Duration::from_secs(5))
        .await
        .unwrap()
}

fn dir() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn okta() -> IdpId {
    IdpId("okta".into())
}

fn identity(email: &str) -> Identity {
    Identity {
        user: UserId("0190-a".into()),
        subject: "00u1".into(),
        email: Email::parse(email).unwrap(),
        name: Some("Ålice \"A\" O'Hara; DROP TABLE users".into()),
        idp: IdpRef {
            id: okta(),
            kind: "okta".into(),
        },
        groups: Groups::Known(vec![Group {
            id: "00g1".into(),
            name: "engineering".into(),
        }]),
        groups_seen: None,
        amr: Some(vec!["mfa".into()]),
        evaluations: std::collections::BTreeMap::new(),
        linked_logins: Vec::new(),
        session_ends: None,
        claims: [("department".to_owned(), json!({"nested": [1, null, "🦀"]}))]
            .into_iter()
            .collect(),
        headers: vec![("x-department".to_owned(), "Köln, R&D".to_owned())],
        at: NOW,
        ip: Some("2001:db8::1".parse().unwrap()),
        revision: 0,
    }
}

fn key(kid: &str, made: u64, retired: Option<u64>) -> StoredKey {
    StoredKey {
        kid: kid.into(),
        pkcs8: Secret::new(format!("pkcs8 of {kid}")),
        certificate_pem: format!("-----BEGIN CERTIFICATE-----\n{kid}\n"),
        made: UnixTime(made),
        retired: retired.map(UnixTime),
    }
}

fn user_revocation(id: &str) -> Revocation {
    Revocation::User {
        user: UserId(id.into()),
        before: NOW,
    }
}

#[tokio::test]
async fn secret_is_created_once_per_name() {
    let dir = dir();
    for store in stores(&dir).await {
        let first = store.secret("cookie").await.unwrap();
        assert_eq!(store.secret("cookie").await.unwrap(), first);
        assert_ne!(store.secret("flow").await.unwrap(), first);
        assert_ne!(*first, [0; 32]);
    }
}

#[tokio::test]
async fn signing_keys_come_newest_first() {
    let dir = dir();
    for store in stores(&dir).await {
        assert_eq!(store.signing_keys().await.unwrap(), []);
        for key in [key("b", 2, None), key("a", 1, Some(9)), key("c", 2, None)] {
            store.put_signing_key(&key).await.unwrap();
        }
        let kept = store.signing_keys().await.unwrap();
        assert_eq!(
            kept,
            [key("c", 2, None), key("b", 2, None), key("a", 1, Some(9))]
        );
        store.put_signing_key(&key("b", 2, Some(50))).await.unwrap();
        store.delete_signing_key("c").await.unwrap();
        store.delete_signing_key("c").await.unwrap();
        assert_eq!(
            store.signing_keys().await.unwrap(),
            [key("b", 2, Some(50)), key("a", 1, Some(9))]
        );
    }
}

#[tokio::test]
async fn identity_is_returned_as_stored() {
    let dir = dir();
    for store in stores(&dir).await {
        let nonce = IdentityNonce::random();
        assert_eq!(store.identity(&nonce).await.unwrap(), None);
        store
            .insert_identity(
                &nonce,
                &identity("alice@example.com"),
                u64::MAX,
                UnixTime(u64::MAX),
            )
            .await
            .unwrap();
        assert_eq!(
            store.identity(&nonce).await.unwrap(),
            Some(identity("alice@example.com"))
        );
        let unknown = Identity {
            groups: Groups::Unknown,
            ..identity("bob@example.com")
        };
        assert!(store.update_identity(&nonce, &unknown, NOW).await.unwrap());
        assert_eq!(
            store.identity(&nonce).await.unwrap(),
            Some(unknown.clone()),
            "a refresh takes the place of the login"
        );
        let other = IdentityNonce::random();
        assert!(!store.update_identity(&other, &unknown, NOW).await.unwrap());
        assert_eq!(
            store.identity(&other).await.unwrap(),
            None,
            "an update makes no record"
        );
    }
}

#[tokio::test]
async fn login_is_ordered_by_the_revision_it_began_at() {
    let dir = dir();
    for store in stores(&dir).await {
        let ever = UnixTime(u64::MAX);
        let alice = identity("alice@example.com");
        let user = Revocation::User {
            user: alice.user.clone(),
            before: NOW,
        };
        let (before, after) = (IdentityNonce::random(), IdentityNonce::random());
        assert_eq!(
            store
                .insert_identity(&before, &alice, u64::MAX, ever)
                .await
                .unwrap(),
            Some(0)
        );
        let first = store.revoke(&user, ever).await.unwrap();
        assert_eq!(
            store
                .insert_identity(
                    &after,
                    &Identity {
                        revision: 99,
                        ..alice.clone()
                    },
                    u64::MAX,
                    ever
                )
                .await
                .unwrap(),
            Some(first)
        );
        let during = IdentityNonce::random();
        let refused = store.insert_identity(&during, &alice, first - 1, ever);
        assert_eq!(refused.await.unwrap(), None, "it began before");
        assert_eq!(store.identity(&during).await.unwrap(), None);
        store
            .revoke(&user_revocation("somebody else"), ever)
            .await
            .unwrap();

        assert!(
            !store.update_identity(&before, &alice, ever).await.unwrap(),
            "no update brings it back"
        );
        // Neither a clock nor a revision that the caller names makes a difference.
        let claimed = Identity {
            at: UnixTime(u64::MAX >> 1),
            revision: 99,
            ..alice.clone()
        };
        assert!(
            !store
                .update_identity(&before, &claimed, ever)
                .await
                .unwrap()
        );
        assert!(store.update_identity(&after, &claimed, ever).await.unwrap());
        let kept = store.identity(&after).await.unwrap().unwrap();
        assert_eq!(
            (kept.revision, kept.at),
            (first, claimed.at),
            "an update keeps the place in the order"
        );
        store.revoke(&user, ever).await.unwrap();
        assert!(!store.update_identity(&after, &claimed, ever).await.unwrap());

        let session = IdentityNonce::random();
        store
            .insert_identity(&session, &alice, u64::MAX, ever)
            .await
            .unwrap();
        store
            .revoke(&Revocation::Session(session), ever)
            .await
            .unwrap();
        assert!(!store.update_identity(&session, &alice, ever).await.unwrap());
    }
}

#[tokio::test]
async fn store_time_follows_the_clock_in_steps() {
    let dir = dir();
    for store in stores(&dir).await {
        let step = CLOCK_STEP.as_secs();
        let advance = async |now: u64| store.advance_clock(UnixTime(now)).await.unwrap().0;
        assert_eq!(
            advance(NOW.0).await,
            NOW.0,
            "a new store believes the clock"
        );
        assert_eq!(advance(NOW.0 + step).await, NOW.0 + step);
        let ahead = NOW.0 + 62 * 24 * 3600;
        assert_eq!(advance(ahead).await, NOW.0 + 2 * step);
        assert_eq!(advance(ahead).await, NOW.0 + 3 * step);
        assert_eq!(
            advance(NOW.0 + 5).await,
            NOW.0 + 5,
            "it is never ahead of the clock"
        );
    }
}

#[tokio::test]
async fn logout_hint_is_returned_once() {
    let dir = dir();
    for store in stores(&dir).await {
        let (one, other) = (IdentityNonce::random(), IdentityNonce::random());
        store
            .put_logout_hint(&one, "first", UnixTime(u64::MAX))
            .await
            .unwrap();
        store
            .put_logout_hint(&one, "second", UnixTime(u64::MAX))
            .await
            .unwrap();
        store.put_logout_hint(&other, "old", NOW).await.unwrap();
        store.prune(NOW).await.unwrap();
        assert_eq!(
            store.take_logout_hint(&other).await.unwrap(),
            None,
            "its time is over"
        );
        assert_eq!(
            store.take_logout_hint(&one).await.unwrap().as_deref(),
            Some("second")
        );
        assert_eq!(store.take_logout_hint(&one).await.unwrap(), None);
    }
}

#[tokio::test]
async fn user_is_unique_per_provider_and_subject() {
    let dir = dir();
    for store in stores(&dir).await {
        let alice = store.user(&okta(), "00u1").await.unwrap();
        assert_eq!(
            uuid::Uuid::parse_str(&alice.0).unwrap().get_version_num(),
            4
        );
        assert_eq!(store.user(&okta(), "00u1").await.unwrap(), alice);
        assert_ne!(
            store.user(&okta(), "00U1").await.unwrap(),
            alice,
            "subjects are compared byte for byte"
        );
        assert_ne!(
            store.user(&IdpId("other".into()), "00u1").await.unwrap(),
            alice
        );
        let odd = store
            .user(&okta(), "'; DROP TABLE users; --\0é")
            .await
            .unwrap();
        assert_eq!(
            store
                .user(&okta(), "'; DROP TABLE users; --\0é")
                .await
                .unwrap(),
            odd
        );
    }
}

#[tokio::test]
async fn revocations_are_returned_in_order() {
    let dir = dir();
    for store in stores(&dir).await {
        assert_eq!(store.revocations_after(0).await.unwrap(), []);
        let aud = Aud::derive(&["wiki"]);
        let all = [
            Revocation::Session(IdentityNonce::random()),
            user_revocation("u1"),
            Revocation::Application { aud, before: NOW },
        ];
        let mut revisions = Vec::new();
        for revocation in &all {
            revisions.push(
                store
                    .revoke(revocation, NOW.after(Duration::from_secs(60)))
                    .await
                    .unwrap(),
            );
        }
        assert!(revisions.is_sorted_by(|a, b| a < b) && revisions[0] > 0);
        let seen = store.revocations_after(0).await.unwrap();
        assert_eq!(
            seen.iter()
                .map(|one| one.revocation.clone())
                .collect::<Vec<_>>(),
            all
        );
        assert_eq!(
            seen.iter().map(|one| one.revision).collect::<Vec<_>>(),
            revisions
        );
        assert!(seen.iter().all(|one| one.expires == UnixTime(NOW.0 + 60)));
        assert_eq!(
            store.revocations_after(revisions[0]).await.unwrap(),
            seen[1..]
        );
        assert_eq!(store.revocations_after(revisions[2]).await.unwrap(), []);
        assert_eq!(store.revocations_after(u64::MAX).await.unwrap(), []);
    }
}

#[tokio::test]
async fn revocations_are_returned_in_pages() {
    let dir = dir();
    for store in stores(&dir).await {
        for at in 0..PAGE + 5 {
            store
                .revoke(&user_revocation(&at.to_string()), NOW)
                .await
                .unwrap();
        }
        let first = store.revocations_after(0).await.unwrap();
        assert_eq!(first.len(), PAGE);
        let rest = store
            .revocations_after(first[PAGE - 1].revision)
            .await
            .unwrap();
        assert_eq!(rest.len(), 5);
        assert_eq!(rest[4].revocation, user_revocation(&(PAGE + 4).to_string()));
    }
}

#[tokio::test]
async fn one_use_of_a_name_is_the_first() {
    let dir = dir();
    for store in stores(&dir).await {
        let calls: Vec<_> = (0..20)
            .map(|_| {
                let store = Arc::clone(&store);
                tokio::spawn(
                    async move { store.first_use("assertion", NOW).await.unwrap().is_some() },
                )
            })
            .collect();
        let mut first = 0;
        for call in calls {
            first += usize::from(call.await.unwrap());
        }
        assert_eq!(first, 1);
        assert!(store.first_use("another", NOW).await.unwrap().is_some());
        assert!(
            store
                .first_use("assertion", UnixTime(NOW.0 + 900))
                .await
                .unwrap()
                .is_none()
        );
    }
}

#[tokio::test]
async fn expired_rows_alone_are_pruned() {
    let dir = dir();
    for store in stores(&dir).await {
        let (old, new) = (IdentityNonce::random(), IdentityNonce::random());
        store
            .insert_identity(&old, &identity("a@example.com"), u64::MAX, NOW)
            .await
            .unwrap();
        store
            .insert_identity(
                &new,
                &identity("b@example.com"),
                u64::MAX,
                UnixTime(NOW.0 + 1),
            )
            .await
            .unwrap();
        store.revoke(&user_revocation("old"), NOW).await.unwrap();
        store
            .revoke(&user_revocation("new"), UnixTime(NOW.0 + 1))
            .await
            .unwrap();
        let last = store.revoke(&user_revocation("last"), NOW).await.unwrap();
        assert!(
            store.first_use("old", NOW).await.unwrap().is_some()
                && store
                    .first_use("new", UnixTime(NOW.0 + 1))
                    .await
                    .unwrap()
                    .is_some()
        );
        let gone = store.prune(NOW).await.unwrap();
        assert_eq!(
            gone,
            Pruned {
                identities: 1,
                revocations: 2,
                uses: 1,
                changes: 3
            }
        );
        assert!(!gone.is_full());
        assert_eq!(store.prune(NOW).await.unwrap(), Pruned::default());
        assert_eq!(store.identity(&old).await.unwrap(), None);
        assert!(store.identity(&new).await.unwrap().is_some());
        assert!(
            store.first_use("old", NOW).await.unwrap().is_some(),
            "forgotten"
        );
        assert!(
            store.first_use("new", NOW).await.unwrap().is_none(),
            "remembered"
        );
        assert_eq!(
            store.revocations_after(0).await.unwrap()[0].revocation,
            user_revocation("new")
        );
        let next = store.revoke(&user_revocation("next"), NOW).await.unwrap();
        assert!(
            next > last,
            "a revision is never used twice, or who has seen the first would miss the second"
        );
    }
}

#[tokio::test]
async fn prune_is_bounded() {
    let dir = dir();
    for store in stores(&dir).await {
        for _ in 0..BATCH + 3 {
            store
                .insert_identity(
                    &IdentityNonce::random(),
                    &identity("a@example.com"),
                    u64::MAX,
                    NOW,
                )
                .await
                .unwrap();
        }
        let first = store.prune(NOW).await.unwrap();
        assert!(first.identities == BATCH as u64 && first.is_full());
        assert_eq!(store.prune(NOW).await.unwrap().identities, 3);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_callers_get_one_value() {
    let dir = dir();
    for store in stores(&dir).await {
        let calls: Vec<_> = (0..100)
            .map(|_| {
                let store = Arc::clone(&store);
                tokio::spawn(async move {
                    (
                        store.secret("s").await.unwrap(),
                        store.user(&okta(), "00u1").await.unwrap(),
                    )
                })
            })
            .collect();
        let mut got = Vec::new();
        for call in calls {
            got.push(call.await.unwrap());
        }
        assert!(got.windows(2).all(|pair| pair[0] == pair[1]));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_processes_get_the_same_values() {
    let dir = dir();
    let (one, two) = tokio::join!(sqlite(&dir), sqlite(&dir));
    let okta = okta();
    for name in 0..20 {
        let name = name.to_string();
        let (a, b) = tokio::join!(one.secret(&name), two.secret(&name));
        assert_eq!(a.unwrap(), b.unwrap());
        let (a, b) = tokio::join!(one.user(&okta, &name), two.user(&okta, &name));
        assert_eq!(a.unwrap(), b.unwrap());
    }
    one.revoke(&user_revocation("u"), NOW).await.unwrap();
    assert_eq!(two.revocations_after(0).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_thousand_concurrent_calls_succeed() {
    let dir = dir();
    for store in stores(&dir).await {
        let calls: Vec<_> = (0..1_000)
            .map(|at| {
                let store = Arc::clone(&store);
                tokio::spawn(async move {
                    match at % 5 {
                        0 => {
                            let nonce = IdentityNonce::random();
                            store
                                .insert_identity(&nonce, &identity("a@example.com"), u64::MAX, NOW)
                                .await?;
                            assert!(
                                store.identity(&nonce).await?.is_some(),
                                "a login reads what it wrote"
                            );
                        }
                        1 => drop(store.user(&okta(), &at.to_string()).await?),
                        2 => drop(store.revoke(&user_revocation(&at.to_string()), NOW).await?),
                        3 => drop(store.revocations_after(0).await?),
                        _ => drop(store.secret("s").await?),
                    }
                    Ok::<_, StoreError>(())
                })
            })
            .collect();
        for call in calls {
            call.await.unwrap().unwrap();
        }
        assert_eq!(store.revocations_after(0).await.unwrap().len(), 200);
        assert_eq!(
            store.prune(NOW).await.unwrap(),
            Pruned {
                identities: 200,
                revocations: 200,
                uses: 0,
                changes: 200
            }
        );
    }
}

#[tokio::test]
async fn restart_keeps_every_row() {
    let dir = dir();
    let nonce = IdentityNonce::random();
    let store = sqlite(&dir).await;
    let (secret, user) = (
        store.secret("s").await.unwrap(),
        store.user(&okta(), "00u1").await.unwrap(),
    );
    store
        .insert_identity(&nonce, &identity("alice@example.com"), u64::MAX, NOW)
        .await
        .unwrap();
    store.put_signing_key(&key("a", 1, Some(2))).await.unwrap();
    let revision = store.revoke(&user_revocation("u"), NOW).await.unwrap();
    // Not closed: a process that is killed closes nothing.
    let again = sqlite(&dir).await;
    assert_eq!(
        again.revocations_after(0).await.unwrap()[0].revision,
        revision
    );
    store.close().await;
    again.close().await;
    let again = sqlite(&dir).await;
    assert_eq!(again.secret("s").await.unwrap(), secret);
    assert_eq!(again.user(&okta(), "00u1").await.unwrap(), user);
    assert_eq!(
        again.identity(&nonce).await.unwrap(),
        Some(identity("alice@example.com"))
    );
    assert_eq!(again.signing_keys().await.unwrap(), [key("a", 1, Some(2))]);
    assert_eq!(again.revocations_after(0).await.unwrap().len(), 1);
    assert!(again.revoke(&user_revocation("v"), NOW).await.unwrap() > revision);
}

#[test]
fn private_key_is_not_printed() {
    assert!(!format!("{:?}", key("a", 1, None)).contains("pkcs8 of a"));
}
