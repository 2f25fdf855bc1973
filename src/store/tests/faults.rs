//! Writes that fail: nothing is lost in silence, and every later write works again.

use super::file::set_mode;
use super::*;

/// Asserts that every write fails, and that no failure looks like a missing row.
pub(super) async fn assert_writes_fail(store: &SqliteStore, why: &str) {
    let nonce = IdentityNonce::random();
    let results = [
        (
            "identity",
            store
                .insert_identity(&nonce, &identity("a@example.com"), u64::MAX, NOW)
                .await
                .map(drop),
        ),
        ("key", store.put_signing_key(&key("a", 1, None)).await),
        ("secret", store.secret("new").await.map(drop)),
        ("hint", store.put_logout_hint(&nonce, "sealed", NOW).await),
        ("taken hint", store.take_logout_hint(&nonce).await.map(drop)),
        (
            "update",
            store
                .update_identity(&nonce, &identity("a@example.com"), NOW)
                .await
                .map(drop),
        ),
        ("use", store.first_use("new", NOW).await.map(drop)),
        ("clock", store.advance_clock(NOW).await.map(drop)),
        ("probe", store.probe().await),
        ("user", store.user(&okta(), "new").await.map(drop)),
        (
            "revocation",
            store.revoke(&user_revocation("u"), NOW).await.map(drop),
        ),
    ];
    for (what, result) in results {
        let error = result.expect_err(what);
        assert!(
            matches!(error, StoreError::Unavailable { .. }),
            "{what}, {why}: {error:?}"
        );
        let cause = error.source().unwrap().to_string();
        assert!(cause.contains(why), "{what}: {cause}");
    }
}

#[tokio::test]
async fn locked_file_is_an_outage() {
    let dir = dir();
    let store = SqliteStore::open_with(&path(&dir), Duration::from_millis(100))
        .await
        .unwrap();
    let secret = store.secret("old").await.unwrap();
    let other = sqlite(&dir).await;
    let lock = other
        .database()
        .begin_with("BEGIN EXCLUSIVE")
        .await
        .unwrap();
    assert_writes_fail(&store, "locked").await;
    assert_eq!(store.secret("old").await.unwrap(), secret, "readers go on");
    let third = SqliteStore::open_with(&path(&dir), Duration::from_millis(100)).await;
    assert!(matches!(third, Err(StoreError::Open { .. })), "{third:?}");
    lock.rollback().await.unwrap();
    store.revoke(&user_revocation("u"), NOW).await.unwrap();
}

/// Every call that writes.
const WRITES: [&str; 9] = [
    "identity",
    "update",
    "key",
    "secret",
    "hint",
    "user",
    "revocation",
    "use",
    "probe",
];

/// Makes one of them. Each writes more than a page, so that it does not fit into an existing page.
async fn write(store: &SqliteStore, what: &str, nonce: &IdentityNonce) -> Result<(), StoreError> {
    let new = IdentityNonce::random();
    let name = format!("{}{}", new.as_str(), "n".repeat(20_000));
    let identity = Identity {
        name: Some(name.clone()),
        ..identity("a@example.com")
    };
    match what {
        "identity" => store
            .insert_identity(&new, &identity, u64::MAX, NOW)
            .await
            .map(drop),
        "update" => store
            .update_identity(nonce, &identity, UnixTime(u64::MAX))
            .await
            .map(|updated| assert!(updated)),
        "key" => {
            store
                .put_signing_key(&StoredKey {
                    certificate_pem: name,
                    ..key(new.as_str(), 1, None)
                })
                .await
        }
        "secret" => store.secret(&name).await.map(drop),
        "hint" => store.put_logout_hint(&new, &name, NOW).await,
        "user" => store.user(&okta(), &name).await.map(drop),
        "revocation" => store.revoke(&user_revocation(&name), NOW).await.map(drop),
        "use" => store.first_use(&name, NOW).await.map(drop),
        "probe" => store.probe().await,
        _ => panic!("{what} writes nothing"),
    }
}

#[tokio::test]
async fn full_disk_fails_every_write_and_all_recover_after_each() {
    let dir = dir();
    let store = sqlite(&dir).await;
    for failing in WRITES {
        let nonce = IdentityNonce::random();
        store
            .insert_identity(
                &nonce,
                &identity("alice@example.com"),
                u64::MAX,
                UnixTime(u64::MAX),
            )
            .await
            .unwrap();
        // The limit is never below the size of the file, and does not count free pages.
        sqlx::query("VACUUM")
            .execute(store.database())
            .await
            .unwrap();
        store.inject(Some("PRAGMA max_page_count = 1"));
        for _ in 0..2 {
            let error = write(&store, failing, &nonce).await.expect_err(failing);
            assert!(
                error.source().unwrap().to_string().contains("full"),
                "{failing}: {error:?}"
            );
            assert!(
                store
                    .write_failure()
                    .is_some_and(|cause| cause.contains("full")),
                "{failing}"
            );
        }
        store.inject(None);
        for what in WRITES {
            let done = write(&store, what, &nonce).await;
            done.unwrap_or_else(|error| {
                panic!("{what} after {failing}: {}", crate::model::chain(&error))
            });
            assert_eq!(store.write_failure(), None, "{what} after {failing}");
        }
    }
    assert_eq!(
        store.revocations_after(0).await.unwrap().len(),
        WRITES.len(),
        "those that were confirmed, and no more"
    );
}

/// A small file system in memory, for as long as this lives. `None` without the right to mount one.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let dir = dir();
        let mount = ["-t", "tmpfs", "-o", "size=16m,mode=0700", "tmpfs"];
        let mounted = std::process::Command::new("mount")
            .args(mount)
            .arg(dir.path())
            .output();
        mounted
            .is_ok_and(|output| output.status.success())
            .then_some(Self(dir))
    }

    /// Fills it to the last byte.
    fn fill(&self) -> PathBuf {
        let filler = self.0.path().join("filler");
        let mut file = std::fs::File::create(&filler).unwrap();
        while std::io::Write::write_all(&mut file, &[0; 4096]).is_ok() {}
        filler
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount")
            .arg("-l")
            .arg(self.0.path())
            .status();
    }
}

/// The injected faults of the other tests need no privileges. This test shows that they are like
/// the real ones.
#[tokio::test]
async fn every_write_recovers_from_a_disk_that_was_full() {
    let Some(disk) = SmallDisk::mount() else {
        return;
    };
    let store = sqlite(&disk.0).await;
    for failing in WRITES {
        let nonce = IdentityNonce::random();
        store
            .insert_identity(
                &nonce,
                &identity("alice@example.com"),
                u64::MAX,
                UnixTime(u64::MAX),
            )
            .await
            .unwrap();
        // Without this the write-ahead log has room that it can use again.
        sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)")
            .execute(store.database())
            .await
            .unwrap();
        let filler = disk.fill();
        for _ in 0..2 {
            write(&store, failing, &nonce).await.expect_err(failing);
            assert!(store.write_failure().is_some(), "{failing}");
        }
        std::fs::remove_file(filler).unwrap();
        for what in WRITES {
            let done = write(&store, what, &nonce).await;
            done.unwrap_or_else(|error| {
                panic!("{what} after {failing}: {}", crate::model::chain(&error))
            });
        }
    }
    store.close().await;
}

#[tokio::test]
async fn transaction_that_sqlite_rolls_back_spoils_no_later_one() {
    let dir = dir();
    let store = sqlite(&dir).await;
    let full = "CREATE TRIGGER full BEFORE INSERT ON revocations BEGIN SELECT RAISE(ROLLBACK, 'no room'); END";
    sqlx::query(full).execute(store.database()).await.unwrap();
    for _ in 0..3 {
        store.revoke(&user_revocation("u"), NOW).await.unwrap_err();
    }
    sqlx::query("DROP TRIGGER full")
        .execute(store.database())
        .await
        .unwrap();
    let revision = store.revoke(&user_revocation("u"), NOW).await.unwrap();
    assert_eq!(revision, 1, "nothing of the failed ones was kept");
    assert_eq!(store.revocations_after(0).await.unwrap().len(), 1);
}

#[tokio::test]
async fn abandoned_write_keeps_no_lock() {
    let dir = dir();
    let store = Arc::new(sqlite(&dir).await);
    for micros in (0..4_000).step_by(50) {
        let revoke = store.revoke(&user_revocation("u"), NOW).await;
        revoke.unwrap();
        let abandoned = Arc::clone(&store);
        let revocation = user_revocation("v");
        let _ = tokio::time::timeout(
            Duration::from_micros(micros),
            abandoned.revoke(&revocation, NOW),
        )
        .await;
    }
    store.revoke(&user_revocation("u"), NOW).await.unwrap();
    assert_eq!(
        sqlite(&dir)
            .await
            .revoke(&user_revocation("w"), NOW)
            .await
            .map(drop)
            .map_err(|e| e.to_string()),
        Ok(())
    );
}

#[tokio::test]
async fn deleted_or_replaced_file_rejects_writes() {
    let dir = dir();
    let store = sqlite(&dir).await;
    store.revoke(&user_revocation("u"), NOW).await.unwrap();
    assert_eq!(store.revocations_after(0).await.unwrap().len(), 1);
    // The pool takes a connection back in a task of its own.
    while store.database().num_idle() == 0 {
        tokio::task::yield_now().await;
    }
    let aside = dir.path().join("aside");
    std::fs::hard_link(path(&dir), &aside).unwrap();
    std::fs::remove_file(path(&dir)).unwrap();
    let error = store.revoke(&user_revocation("v"), NOW).await.unwrap_err();
    assert!(matches!(error, StoreError::Lost { .. }), "{error:?}");
    assert_eq!(error.kind(), "unavailable");
    let cause = store.write_failure().unwrap();
    assert!(
        cause.contains("portcullis.db") && cause.contains("deleted or replaced"),
        "{cause}"
    );
    assert_eq!(
        store.revocations_after(0).await.unwrap().len(),
        1,
        "the open file can still be read"
    );
    std::fs::write(path(&dir), "").unwrap();
    set_mode(&path(&dir), 0o600);
    assert!(
        matches!(store.probe().await, Err(StoreError::Lost { .. })),
        "another file at the path"
    );
    let lost = |what: &str, read: Result<(), StoreError>| {
        assert!(
            matches!(read, Err(StoreError::Lost { .. })),
            "{what}: {read:?}"
        );
    };
    // Every other process writes to that one from now on.
    lost("revocations", store.revocations_after(0).await.map(drop));
    lost(
        "identity",
        store.identity(&IdentityNonce::random()).await.map(drop),
    );
    lost("signing keys", store.signing_keys().await.map(drop));
    lost("secret", store.secret("s").await.map(drop));
    lost("user", store.user(&okta(), "a").await.map(drop));
    std::fs::rename(&aside, path(&dir)).unwrap();
    store.probe().await.unwrap();
    assert_eq!(store.write_failure(), None);
    assert_eq!(store.revocations_after(0).await.unwrap().len(), 1);
}
