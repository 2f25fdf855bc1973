//! The change log: every kind of change, in order, and no change is lost.

use super::*;

const EVER: UnixTime = UnixTime(u64::MAX);

/// Reads the log to its end.
async fn follow(store: &dyn Store, position: &mut Position) -> Vec<Change> {
    let mut all = Vec::new();
    loop {
        match store.changes_after(*position).await.unwrap() {
            Changes::Next { position: last, .. } if last == *position => return all,
            Changes::Next {
                changes,
                position: last,
            } => {
                all.extend(changes);
                *position = last;
            }
            Changes::Gap => panic!("a gap after {position:?}"),
        }
    }
}

async fn start(store: &dyn Store) -> Position {
    store.newest_position(0).await.unwrap()
}

fn revision(change: &Change) -> u64 {
    match change {
        Change::Revocation(revoked) => revoked.revision,
        other => panic!("not a revocation: {other:?}"),
    }
}

#[tokio::test]
async fn log_holds_every_kind_of_change_in_order() {
    let dir = dir();
    for store in stores(&dir).await {
        let mut position = start(&*store).await;
        let alice = identity("alice@example.com");
        let nonce = IdentityNonce::random();
        store
            .insert_identity(&nonce, &alice, u64::MAX, EVER)
            .await
            .unwrap();
        assert_eq!(
            follow(&*store, &mut position).await,
            [],
            "no node can have read a new record before"
        );
        let changed = Identity {
            groups: Groups::Unknown,
            ..alice.clone()
        };
        store.update_identity(&nonce, &changed, EVER).await.unwrap();
        store.update_identity(&nonce, &changed, EVER).await.unwrap();
        store.put_signing_key(&key("a", 1, None)).await.unwrap();
        store
            .revoke(&Revocation::Session(nonce), EVER)
            .await
            .unwrap();
        assert!(!store.update_identity(&nonce, &alice, EVER).await.unwrap());
        store.put_signing_key(&key("a", 1, Some(9))).await.unwrap();
        store.delete_signing_key("a").await.unwrap();
        store.delete_signing_key("a").await.unwrap();
        let seen = follow(&*store, &mut position).await;
        let kept = store.revocations_after(0).await.unwrap();
        assert_eq!(
            seen,
            [
                Change::Identity(nonce),
                Change::SigningKeys,
                Change::Revocation(kept[0].clone()),
                Change::SigningKeys,
                Change::SigningKeys,
            ],
            "the second update and the second deletion changed nothing"
        );
        assert_eq!(follow(&*store, &mut position).await, []);
    }
}

#[tokio::test]
async fn changes_of_records_leave_the_order_of_logins_alone() {
    let dir = dir();
    for store in stores(&dir).await {
        let alice = identity("alice@example.com");
        let revocation = Revocation::User {
            user: alice.user.clone(),
            before: NOW,
        };
        let (before, after) = (IdentityNonce::random(), IdentityNonce::random());
        store
            .insert_identity(&before, &alice, u64::MAX, EVER)
            .await
            .unwrap();
        let changed = Identity {
            name: None,
            ..alice.clone()
        };
        store
            .update_identity(&before, &changed, EVER)
            .await
            .unwrap();
        let revoked = store.revoke(&revocation, EVER).await.unwrap();
        store.put_signing_key(&key("a", 1, None)).await.unwrap();
        let login = store
            .insert_identity(&after, &alice, u64::MAX, EVER)
            .await
            .unwrap()
            .unwrap();
        let kept = store.identity(&before).await.unwrap().unwrap().revision;
        assert!(
            kept < revoked && revoked <= login,
            "{kept} {revoked} {login}"
        );
        assert!(!store.update_identity(&before, &alice, EVER).await.unwrap());
        assert!(store.update_identity(&after, &changed, EVER).await.unwrap());
    }
}

#[tokio::test]
async fn log_is_read_in_pages_without_loss() {
    let dir = dir();
    for store in stores(&dir).await {
        let mut position = start(&*store).await;
        for at in 0..2 * PAGE + 5 {
            store
                .revoke(&user_revocation(&at.to_string()), EVER)
                .await
                .unwrap();
        }
        let Changes::Next { changes, .. } = store.changes_after(position).await.unwrap() else {
            panic!("a gap");
        };
        assert_eq!(changes.len(), PAGE);
        let all = follow(&*store, &mut position).await;
        assert_eq!(all.len(), 2 * PAGE + 5);
        assert!(all.is_sorted_by_key(revision));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_follower_misses_no_revocation() {
    let dir = dir();
    let (one, two) = (Arc::new(sqlite(&dir).await), Arc::new(sqlite(&dir).await));
    let reader = sqlite(&dir).await;
    reader.advance_clock(NOW).await.unwrap();
    let mut position = start(&reader).await;
    let writers: Vec<_> = [one, two]
        .into_iter()
        .map(|store| {
            tokio::spawn(async move {
                for at in 0..100_u64 {
                    store.revoke(&user_revocation("u"), EVER).await.unwrap();
                    store.put_signing_key(&key("a", at, None)).await.unwrap();
                    store.advance_clock(UnixTime(NOW.0 + at)).await.unwrap();
                    store.prune(UnixTime(NOW.0 + at)).await.unwrap();
                }
            })
        })
        .collect();
    let mut seen = Vec::new();
    while !writers.iter().all(|writer| writer.is_finished()) {
        seen.extend(follow(&reader, &mut position).await);
    }
    for writer in writers {
        writer.await.unwrap();
    }
    seen.extend(follow(&reader, &mut position).await);
    let kept = reader.revocations_after(0).await.unwrap();
    let followed: Vec<_> = seen
        .into_iter()
        .filter(|change| matches!(change, Change::Revocation(_)))
        .collect();
    assert_eq!(kept.len(), 200);
    assert_eq!(
        followed,
        kept.into_iter().map(Change::Revocation).collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn pruned_entry_is_a_gap() {
    let dir = dir();
    for store in stores(&dir).await {
        let first = start(&*store).await;
        store.advance_clock(NOW).await.unwrap();
        store.revoke(&user_revocation("u"), EVER).await.unwrap();
        let mut position = start(&*store).await;
        assert_ne!(position, first);
        let soon = NOW.after(Duration::from_secs(1_799));
        assert_eq!(store.prune(soon).await.unwrap().changes, 0);
        assert_eq!(follow(&*store, &mut { first }).await.len(), 1);
        let later = NOW.after(Duration::from_secs(1_800));
        assert_eq!(store.prune(later).await.unwrap().changes, 1);
        assert_eq!(
            store.changes_after(first).await.unwrap(),
            Changes::Gap,
            "the revocation after it may be gone, too"
        );
        assert_eq!(follow(&*store, &mut position).await, []);
        assert_eq!(
            store.revocations_after(0).await.unwrap().len(),
            1,
            "revocations outlive their entries"
        );
    }
}

#[tokio::test]
async fn entry_just_before_a_pruning_is_followed_without_a_gap() {
    let dir = dir();
    for store in stores(&dir).await {
        store.advance_clock(NOW).await.unwrap();
        for _ in 0..3 {
            store.revoke(&user_revocation("u"), EVER).await.unwrap();
        }
        let mut position = start(&*store).await;
        store.put_signing_key(&key("a", 1, None)).await.unwrap();
        // The store's time of all these entries is ten minutes old by now.
        let later = NOW.after(Duration::from_secs(600));
        store.advance_clock(later).await.unwrap();
        store.prune(later).await.unwrap();
        assert_eq!(follow(&*store, &mut position).await, [Change::SigningKeys]);
    }
}

#[tokio::test]
async fn quiet_log_is_followed_without_a_gap() {
    let dir = dir();
    for store in stores(&dir).await {
        store.advance_clock(NOW).await.unwrap();
        store.revoke(&user_revocation("u"), EVER).await.unwrap();
        let mut position = start(&*store).await;
        let later = NOW.after(Duration::from_secs(3600));
        store.advance_clock(later).await.unwrap();
        store.prune(later).await.unwrap();
        store.put_signing_key(&key("a", 1, None)).await.unwrap();
        store.prune(later).await.unwrap();
        assert_eq!(follow(&*store, &mut position).await, [Change::SigningKeys]);
    }
}

#[tokio::test]
async fn pruned_revocation_is_left_out_of_the_log() {
    let dir = dir();
    for store in stores(&dir).await {
        let mut position = start(&*store).await;
        store.advance_clock(NOW).await.unwrap();
        store.revoke(&user_revocation("u"), NOW).await.unwrap();
        let last = store.revoke(&user_revocation("v"), EVER).await.unwrap();
        store.prune(NOW).await.unwrap();
        let seen = follow(&*store, &mut position).await;
        assert_eq!(seen.iter().map(revision).collect::<Vec<_>>(), [last]);
    }
}

/// Takes the file's content back to a copy of it, as the restoration of a backup does.
async fn restore(store: &SqliteStore, revision: i64) {
    for statement in [
        "UPDATE revision SET latest = $1",
        "DELETE FROM revocations WHERE revision > $1",
        "DELETE FROM changes WHERE revision > $1",
    ] {
        sqlx::query(statement)
            .bind(revision)
            .execute(store.database())
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn restored_backup_is_a_gap() {
    let dir = dir();
    let store = sqlite(&dir).await;
    for _ in 0..3 {
        store.revoke(&user_revocation("u"), EVER).await.unwrap();
    }
    let followed = start(&store).await;
    restore(&store, 1).await;
    assert_eq!(store.changes_after(followed).await.unwrap(), Changes::Gap);
    // The revisions that were followed are used a second time.
    for _ in 0..3 {
        store.revoke(&user_revocation("v"), EVER).await.unwrap();
    }
    assert_eq!(store.changes_after(followed).await.unwrap(), Changes::Gap);
    assert_eq!(store.revocations_after(0).await.unwrap().len(), 4);
}

#[tokio::test]
async fn counter_is_advanced_past_followed_revisions_after_a_restore() {
    let dir = dir();
    for store in stores(&dir).await {
        store.revoke(&user_revocation("u"), EVER).await.unwrap();
        let mut position = store.newest_position(7).await.unwrap();
        assert_eq!(position.revision, 8);
        assert_eq!(store.newest_position(7).await.unwrap(), position);
        let nonce = IdentityNonce::random();
        let login = store
            .insert_identity(&nonce, &identity("a@example.com"), u64::MAX, EVER)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(login, 8, "no revocation up to 7 covers a new login");
        assert_eq!(store.revoke(&user_revocation("v"), EVER).await.unwrap(), 9);
        assert_eq!(follow(&*store, &mut position).await.len(), 1);
    }
}

#[tokio::test]
async fn emptied_log_is_a_gap_and_starts_again() {
    let dir = dir();
    let store = sqlite(&dir).await;
    let followed = start(&store).await;
    sqlx::query("DELETE FROM changes")
        .execute(store.database())
        .await
        .unwrap();
    assert_eq!(store.changes_after(followed).await.unwrap(), Changes::Gap);
    let mut again = start(&store).await;
    store.revoke(&user_revocation("u"), EVER).await.unwrap();
    assert_eq!(follow(&store, &mut again).await.len(), 1);
}

#[tokio::test]
async fn change_of_a_later_release_is_left_out() {
    let dir = dir();
    let store = sqlite(&dir).await;
    let mut position = start(&store).await;
    sqlx::query("INSERT INTO changes SELECT latest + 1, 'catalog', 'x', 1, 0 FROM revision")
        .execute(store.database())
        .await
        .unwrap();
    sqlx::query("UPDATE revision SET latest = latest + 1")
        .execute(store.database())
        .await
        .unwrap();
    let last = store.revoke(&user_revocation("u"), EVER).await.unwrap();
    let seen = follow(&store, &mut position).await;
    assert_eq!(seen.iter().map(revision).collect::<Vec<_>>(), [last]);
}

#[tokio::test]
async fn damaged_revocation_stops_the_log() {
    let dir = dir();
    let store = sqlite(&dir).await;
    let position = start(&store).await;
    store.revoke(&user_revocation("u"), EVER).await.unwrap();
    sqlx::query("UPDATE revocations SET kind = 'planet'")
        .execute(store.database())
        .await
        .unwrap();
    let error = store.changes_after(position).await.unwrap_err();
    assert!(matches!(error, StoreError::Malformed { .. }), "{error:?}");
}

#[tokio::test]
async fn failed_write_has_no_entry() {
    let dir = dir();
    let store = sqlite(&dir).await;
    let mut position = start(&store).await;
    store.inject(Some("PRAGMA query_only = ON"));
    store.revoke(&user_revocation("u"), EVER).await.unwrap_err();
    store.put_signing_key(&key("a", 1, None)).await.unwrap_err();
    store.inject(None);
    assert_eq!(follow(&store, &mut position).await, []);
}

#[tokio::test]
async fn changes_of_the_release_before_are_logged() {
    let dir = dir();
    let store = sqlite(&dir).await;
    let mut position = start(&store).await;
    let nonce = IdentityNonce::random();
    store
        .insert_identity(&nonce, &identity("a@example.com"), u64::MAX, EVER)
        .await
        .unwrap();
    // As that release writes them, which does not know the log.
    for statement in [
        "UPDATE revision SET latest = latest + 1",
        "INSERT INTO revocations (revision, kind, subject, before, expires, ordered) \
         SELECT latest, 'user', 'u', 5, 9000000000, 1 FROM revision",
        "UPDATE identities SET identity = replace(identity, 'engineering', 'sales')",
        "INSERT INTO signing_keys (kid, pkcs8, certificate, made) VALUES ('k', 'p', 'c', 1) \
         ON CONFLICT (kid) DO UPDATE SET made = excluded.made",
        "INSERT INTO signing_keys (kid, pkcs8, certificate, made) VALUES ('k', 'p', 'c', 2) \
         ON CONFLICT (kid) DO UPDATE SET made = excluded.made",
        "DELETE FROM signing_keys WHERE kid = 'k'",
    ] {
        sqlx::query(statement)
            .execute(store.database())
            .await
            .unwrap();
    }
    let seen = follow(&store, &mut position).await;
    assert!(
        matches!(
            seen.as_slice(),
            [
                Change::Revocation(revoked),
                Change::Identity(changed),
                Change::SigningKeys,
                Change::SigningKeys,
                Change::SigningKeys,
            ] if revoked.revocation == Revocation::User { user: UserId("u".into()), before: UnixTime(5) } && *changed == nonce
        ),
        "{seen:?}"
    );
}

#[tokio::test]
async fn migration_to_the_log_keeps_every_row() {
    let dir = dir();
    let store = sqlite(&dir).await;
    let nonce = IdentityNonce::random();
    let secret = store.secret("s").await.unwrap();
    let user = store.user(&okta(), "00u1").await.unwrap();
    for _ in 0..3 {
        store.revoke(&user_revocation("u"), EVER).await.unwrap();
    }
    store
        .insert_identity(&nonce, &identity("a@example.com"), u64::MAX, EVER)
        .await
        .unwrap();
    store.put_signing_key(&key("a", 1, Some(2))).await.unwrap();
    store.put_logout_hint(&nonce, "hint", EVER).await.unwrap();
    assert!(store.first_use("once", EVER).await.unwrap().is_some());
    // As the release before left the file.
    for statement in [
        "DROP TRIGGER revocations_logged",
        "DROP TRIGGER identities_logged",
        "DROP TRIGGER keys_added",
        "DROP TRIGGER keys_changed",
        "DROP TRIGGER keys_deleted",
        "DROP TABLE changes",
        "UPDATE portcullis_schema SET version = 4",
    ] {
        sqlx::query(statement)
            .execute(store.database())
            .await
            .unwrap();
    }
    let revoked = store.revocations_after(0).await.unwrap();
    let login = store.identity(&nonce).await.unwrap();
    store.close().await;

    let store = sqlite(&dir).await;
    let mut position = start(&store).await;
    assert_eq!(store.revocations_after(0).await.unwrap(), revoked);
    assert_eq!(store.identity(&nonce).await.unwrap(), login);
    assert_eq!(store.signing_keys().await.unwrap(), [key("a", 1, Some(2))]);
    assert_eq!(store.secret("s").await.unwrap(), secret);
    assert_eq!(store.user(&okta(), "00u1").await.unwrap(), user);
    assert!(store.first_use("once", EVER).await.unwrap().is_none());
    assert_eq!(
        store.take_logout_hint(&nonce).await.unwrap().as_deref(),
        Some("hint")
    );
    let next = store.revoke(&user_revocation("u"), EVER).await.unwrap();
    assert!(next > revoked[2].revision);
    let seen = follow(&store, &mut position).await;
    assert_eq!(seen.iter().map(revision).collect::<Vec<_>>(), [next]);
}
