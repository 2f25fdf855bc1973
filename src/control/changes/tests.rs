//! Two processes on one store file. Their tasks do not run, so each follows the log only when the
//! test does.

use std::path::Path;

use sqlx::SqlitePool;
use tempfile::TempDir;

use super::*;
use crate::config::{self, System};
use crate::control::signing_keys::tests::put_fixed_keys;
use crate::control::{Access, Clock, Resources, compile};
use crate::engine::{IdentityState, NodeCache, Origins};
use crate::http_client::{HttpClient, Roots, Timeouts};
use crate::model::{
    Email, Group, Groups, GroupsSeen, GroupsSource, Identity, IdpId, IdpRef, LoginOrder, UserId,
};
use crate::policy::Truth;
use crate::session::Presented;
use crate::store::{Revocation, SqliteStore, Store};

const CONFIG: &str = r#"
    [insecure]
    plain_http = true
    inline_secrets = true
    [store]
    path = "unused.db"
    max_stale = "30s"
    [[listen]]
    address = "127.0.0.1:8080"
    [team]
    domain = "access.localhost:8080"
    [[identity_providers]]
    id = "okta"
    name = "Okta"
    type = "okta"
    config = { client_id = "id", client_secret = "example-secret", okta_account = "https://dev-1.okta.com" }
"#;

const EVER: UnixTime = UnixTime(u64::MAX);

struct Process {
    access: Arc<Access>,
    store: Arc<dyn Store>,
    database: SqlitePool,
}

impl Process {
    async fn start(dir: &TempDir) -> Self {
        let config = config::parse(CONFIG, Path::new("portcullis.toml"), &System)
            .unwrap_or_else(|e| panic!("{e}"))
            .config;
        let http = HttpClient::new(&Roots::default(), Timeouts::default()).unwrap();
        let (snapshot, services) =
            compile(&config, 1, Arc::new(NodeCache::new(100)), &http, |_| {
                Origins::new(())
            })
            .unwrap();
        let path = dir.path().join("portcullis.db");
        let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&path).await.unwrap());
        put_fixed_keys(&*store).await;
        let resources = Resources {
            store: Arc::clone(&store),
            http,
            runtime: tokio::runtime::Handle::current(),
            clock: Clock::default(),
        };
        let access = Access::start(snapshot, services, resources).await.unwrap();
        let url = format!("sqlite://{}", path.display());
        Self {
            access,
            store,
            database: SqlitePool::connect(&url).await.unwrap(),
        }
    }

    async fn follow(&self) {
        let followed = self.access.upkeep.follower.follow(UnixTime::now()).await;
        followed.unwrap_or_else(|error| panic!("{}", crate::model::chain(&error)));
    }

    async fn sql(&self, statement: &'static str) {
        sqlx::query(statement)
            .execute(&self.database)
            .await
            .unwrap();
    }

    fn known(&self, nonce: IdentityNonce) -> Option<Arc<Identity>> {
        match self.access.running.cache().identity(&nonce) {
            Some(IdentityState::Known(identity)) => Some(identity),
            _ => None,
        }
    }

    async fn identity(&self, nonce: IdentityNonce) -> Arc<Identity> {
        let found = self
            .access
            .upkeep
            .identities
            .identity(nonce, UnixTime::now())
            .await;
        found.unwrap().unwrap()
    }

    /// Returns `true` if a revocation covers the login.
    fn is_revoked(&self, nonce: IdentityNonce, login: &Identity) -> bool {
        let presented = Presented {
            nonce: Some(nonce),
            user: &login.user,
            aud: &[],
            issued: login.at,
            login: Some(LoginOrder {
                revision: login.revision,
                at: login.at,
            }),
        };
        self.access.snapshot().revocations().cover(presented) == Truth::True
    }

    async fn revoke(&self, user: &str) -> u64 {
        let revocation = Revocation::User {
            user: UserId(user.into()),
            before: UnixTime::now(),
        };
        self.store.revoke(&revocation, EVER).await.unwrap()
    }

    fn kids(&self) -> Vec<String> {
        let keys = self.access.endpoints.issuer.signing().unwrap();
        let mut kids: Vec<_> = keys.kids().map(str::to_owned).collect();
        kids.sort();
        kids
    }

    fn are_sessions_valid(&self, at: UnixTime) -> bool {
        self.access.running.cache().revocations_are_good(at)
    }
}

fn groups(names: &[&str]) -> Groups {
    let group = |name: &&str| Group {
        id: (*name).into(),
        name: (*name).into(),
    };
    Groups::Known(names.iter().map(group).collect())
}

fn alice(names: &[&str]) -> Identity {
    Identity {
        user: UserId("alice".into()),
        subject: "00u1".into(),
        email: Email::parse("alice@example.com").unwrap(),
        name: None,
        idp: IdpRef {
            id: IdpId("okta".into()),
            kind: "okta".into(),
        },
        groups: groups(names),
        groups_seen: None,
        amr: None,
        evaluations: std::collections::BTreeMap::new(),
        linked_logins: Vec::new(),
        session_ends: None,
        claims: serde_json::Map::new(),
        headers: Vec::new(),
        at: UnixTime::now(),
        ip: None,
        revision: 0,
    }
}

/// Two processes, and a login that both of them know.
async fn two_processes(dir: &TempDir) -> (Process, Process, IdentityNonce) {
    let (one, two) = (Process::start(dir).await, Process::start(dir).await);
    let nonce = IdentityNonce::random();
    let login = alice(&["eng"]);
    one.store
        .insert_identity(&nonce, &login, u64::MAX, EVER)
        .await
        .unwrap();
    one.identity(nonce).await;
    two.identity(nonce).await;
    (one, two, nonce)
}

#[tokio::test]
async fn record_changed_by_one_process_is_known_to_the_other() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two, nonce) = two_processes(&dir).await;
    let changed = Identity {
        evaluations: [("key".to_owned(), false)].into(),
        ..alice(&["sales"])
    };
    one.store
        .update_identity(&nonce, &changed, EVER)
        .await
        .unwrap();
    two.follow().await;
    let known = two.known(nonce).unwrap();
    assert_eq!(
        (&known.groups, &known.evaluations),
        (&changed.groups, &changed.evaluations)
    );
}

#[tokio::test]
async fn unchanged_record_stays_cached() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two, nonce) = two_processes(&dir).await;
    let known = two.known(nonce).unwrap();
    let other = IdentityNonce::random();
    let bob = alice(&[]);
    one.store
        .insert_identity(&other, &bob, u64::MAX, EVER)
        .await
        .unwrap();
    let changed = alice(&["sales"]);
    one.store
        .update_identity(&other, &changed, EVER)
        .await
        .unwrap();
    two.follow().await;
    assert!(Arc::ptr_eq(&known, &two.known(nonce).unwrap()));
    assert!(two.known(other).is_none(), "it was not known before");
}

#[tokio::test]
async fn signing_key_deleted_by_one_process_is_dropped_by_the_other() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (Process::start(&dir).await, Process::start(&dir).await);
    let kids = one.kids();
    assert_eq!((kids.len(), two.kids()), (2, kids.clone()));
    let signer = one.access.endpoints.issuer.signing().unwrap();
    let signer = signer.kids().next().unwrap().to_owned();
    one.store.delete_signing_key(&signer).await.unwrap();
    for process in [&one, &two] {
        process.follow().await;
        assert_eq!(process.kids().len(), 1);
        assert!(!process.kids().contains(&signer));
        let published = process.access.endpoints.issuer.jwks().unwrap();
        assert!(!String::from_utf8_lossy(&published).contains(&signer));
        let snapshot = process.access.snapshot();
        let engine = process.access.running.cache().keys(snapshot.issuer());
        let engine = format!("{:?}", engine.unwrap());
        assert!(
            !engine.contains(&signer),
            "the engine verifies with it: {engine}"
        );
    }
}

#[tokio::test]
async fn pruned_log_makes_everything_be_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two, nonce) = two_processes(&dir).await;
    let login = two.known(nonce).unwrap();
    let changed = alice(&["sales"]);
    one.store
        .update_identity(&nonce, &changed, EVER)
        .await
        .unwrap();
    one.revoke("alice").await;
    one.store.delete_signing_key(&one.kids()[0]).await.unwrap();
    one.sql("DELETE FROM changes").await;
    two.follow().await;
    assert!(two.is_revoked(nonce, &login));
    assert!(two.known(nonce).is_none(), "read again when it is needed");
    assert_eq!(two.identity(nonce).await.groups, changed.groups);
    assert_eq!(two.kids().len(), 1);
    let later = IdentityNonce::random();
    one.store
        .insert_identity(&later, &alice(&[]), u64::MAX, EVER)
        .await
        .unwrap();
    let later_login = two.identity(later).await;
    assert!(!two.is_revoked(later, &later_login));
    one.revoke("alice").await;
    two.follow().await;
    assert!(two.is_revoked(later, &later_login), "and the log goes on");
}

#[tokio::test]
async fn restored_backup_takes_no_revocation_back_and_blocks_no_login() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two, nonce) = two_processes(&dir).await;
    let login = two.known(nonce).unwrap();
    let backup = "CREATE TABLE backup AS SELECT latest FROM revision";
    one.sql(backup).await;
    let lost = one.revoke("alice").await;
    two.follow().await;
    assert!(two.is_revoked(nonce, &login));
    for statement in [
        "UPDATE revision SET latest = (SELECT latest FROM backup)",
        "DELETE FROM revocations WHERE revision > (SELECT latest FROM backup)",
        "DELETE FROM changes WHERE revision > (SELECT latest FROM backup)",
    ] {
        one.sql(statement).await;
    }
    two.follow().await;
    assert!(
        two.is_revoked(nonce, &login),
        "the store has lost it, and this process has not"
    );
    let again = IdentityNonce::random();
    let revision = one
        .store
        .insert_identity(&again, &alice(&[]), u64::MAX, EVER)
        .await
        .unwrap()
        .unwrap();
    assert!(revision > lost, "{revision} {lost}");
    let again_login = two.identity(again).await;
    assert!(!two.is_revoked(again, &again_login), "no login loop");
    one.revoke("alice").await;
    two.follow().await;
    assert!(two.is_revoked(again, &again_login));
}

#[tokio::test]
async fn damaged_record_delays_no_revocation() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two, nonce) = two_processes(&dir).await;
    let login = two.known(nonce).unwrap();
    one.sql("UPDATE identities SET identity = '{}'").await;
    one.revoke("alice").await;
    two.follow().await;
    assert!(two.is_revoked(nonce, &login));
    assert!(two.known(nonce).is_none(), "nor is the last record used");
}

#[tokio::test]
async fn unreadable_keys_delay_no_revocation_and_make_sessions_stale() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two, nonce) = two_processes(&dir).await;
    let login = two.known(nonce).unwrap();
    let start = UnixTime::now();
    let at = |seconds| UnixTime(start.0 + seconds);
    two.access.upkeep.follower.follow(at(0)).await.unwrap();
    one.store.delete_signing_key(&one.kids()[0]).await.unwrap();
    one.revoke("alice").await;
    one.sql("ALTER TABLE signing_keys RENAME TO elsewhere")
        .await;
    two.access.upkeep.follower.follow(at(10)).await.unwrap_err();
    two.access.upkeep.follower.follow(at(20)).await.unwrap_err();
    assert!(two.is_revoked(nonce, &login));
    assert!(two.are_sessions_valid(at(29)) && !two.are_sessions_valid(at(30)));
    one.sql("ALTER TABLE elsewhere RENAME TO signing_keys")
        .await;
    two.access.upkeep.follower.follow(at(40)).await.unwrap();
    assert!(two.are_sessions_valid(at(69)));
    assert_eq!(two.kids().len(), 1);
}

#[tokio::test]
async fn unreadable_log_makes_sessions_stale() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two, _) = two_processes(&dir).await;
    let start = UnixTime::now();
    let at = |seconds| UnixTime(start.0 + seconds);
    two.access.upkeep.follower.follow(at(0)).await.unwrap();
    one.sql("DROP TABLE changes").await;
    two.access.upkeep.follower.follow(at(10)).await.unwrap_err();
    assert!(two.are_sessions_valid(at(29)) && !two.are_sessions_valid(at(30)));
}

#[tokio::test]
async fn later_groups_that_the_store_did_not_accept_stay() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two, nonce) = two_processes(&dir).await;
    let seen = |at| {
        Some(GroupsSeen {
            source: GroupsSource::Api,
            at,
        })
    };
    let known = two.known(nonce).unwrap();
    let later = Identity {
        groups: groups(&[]),
        groups_seen: seen(known.at.after(Duration::from_secs(60))),
        ..Identity::clone(&known)
    };
    let state = IdentityState::Known(Arc::new(later.clone()));
    two.access.running.cache().set_identity(nonce, state);
    let changed = Identity {
        evaluations: [("key".to_owned(), true)].into(),
        ..alice(&["eng"])
    };
    one.store
        .update_identity(&nonce, &changed, EVER)
        .await
        .unwrap();
    two.follow().await;
    let merged = two.known(nonce).unwrap();
    assert_eq!(
        merged.groups, later.groups,
        "a withdrawn group stays withdrawn"
    );
    assert_eq!(merged.evaluations, changed.evaluations);
    agree(&one, &two, nonce, &merged).await;
}

#[tokio::test]
async fn later_groups_in_the_store_survive_a_later_login() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two, nonce) = two_processes(&dir).await;
    let known = two.known(nonce).unwrap();
    let later_login = Identity {
        at: known.at.after(Duration::from_secs(10)),
        ..Identity::clone(&known)
    };
    let state = IdentityState::Known(Arc::new(later_login.clone()));
    two.access.running.cache().set_identity(nonce, state);
    let refreshed = Identity {
        groups: groups(&[]),
        groups_seen: Some(GroupsSeen {
            source: GroupsSource::Api,
            at: known.at.after(Duration::from_secs(60)),
        }),
        ..Identity::clone(&known)
    };
    one.store
        .update_identity(&nonce, &refreshed, EVER)
        .await
        .unwrap();
    two.follow().await;
    let merged = two.known(nonce).unwrap();
    assert_eq!(
        (&merged.groups, merged.at),
        (&refreshed.groups, later_login.at),
        "a withdrawn group stays withdrawn"
    );
    agree(&one, &two, nonce, &merged).await;
}

/// Waits until the first process has the record that the second one wrote back.
async fn agree(one: &Process, two: &Process, nonce: IdentityNonce, wanted: &Identity) {
    for _ in 0..500 {
        one.follow().await;
        if *one.known(nonce).unwrap() == *wanted {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(*one.known(nonce).unwrap(), *wanted);
    let stored = one.store.identity(&nonce).await.unwrap().unwrap();
    assert_eq!(stored, *wanted);
    let position = one.store.newest_position(0).await.unwrap();
    for process in [two, one, two] {
        process.follow().await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(
        one.store.newest_position(0).await.unwrap(),
        position,
        "no process writes any longer"
    );
}

#[tokio::test]
async fn login_that_a_stale_write_replaced_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two, nonce) = two_processes(&dir).await;
    let before = one.known(nonce).unwrap();
    // The user signs in again at one process, and the other writes an answer into the record of
    // before: it has not followed the change yet.
    let login = Identity {
        groups: groups(&[]),
        at: before.at.after(Duration::from_secs(60)),
        ..Identity::clone(&before)
    };
    two.store
        .update_identity(&nonce, &login, EVER)
        .await
        .unwrap();
    let state = IdentityState::Known(Arc::new(login.clone()));
    two.access.running.cache().set_identity(nonce, state);
    let stale = Identity {
        evaluations: [("key".to_owned(), true)].into(),
        ..Identity::clone(&before)
    };
    one.store
        .update_identity(&nonce, &stale, EVER)
        .await
        .unwrap();
    two.follow().await;
    let merged = Identity {
        evaluations: stale.evaluations.clone(),
        ..login
    };
    assert_eq!(*two.known(nonce).unwrap(), merged);
    agree(&one, &two, nonce, &merged).await;
}

#[tokio::test]
async fn record_read_while_it_changes_is_not_kept() {
    let dir = tempfile::tempdir().unwrap();
    let (_, two, nonce) = two_processes(&dir).await;
    let records = &two.access.upkeep.identities;
    let seen = two.access.upkeep.identities.seen(&nonce);
    records.note_change(nonce);
    assert_ne!(two.access.upkeep.identities.seen(&nonce), seen);
    let other = two.access.upkeep.identities.seen(&IdentityNonce::random());
    records.note_change(nonce);
    assert_eq!(
        two.access.upkeep.identities.seen(&IdentityNonce::random()),
        other
    );
    records.forget_all();
    assert_ne!(
        two.access.upkeep.identities.seen(&IdentityNonce::random()),
        other
    );
}
