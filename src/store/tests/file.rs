//! The file: who may read it, what it must hold, and what fails in it.

use super::*;

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[tokio::test]
async fn nobody_else_can_read_any_of_its_files() {
    let dir = dir();
    let store = sqlite(&dir).await;
    store.secret("s").await.unwrap();
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(mode(&entry.path()), 0o600, "{}", entry.path().display());
        names.push(entry.file_name().into_string().unwrap());
    }
    names.sort();
    assert_eq!(names, ["portcullis.db", "portcullis.db-shm", "portcullis.db-wal"]);
}

#[tokio::test]
async fn a_file_that_others_can_read_is_refused() {
    for exposed in [0o640, 0o604, 0o666, 0o620] {
        let dir = dir();
        sqlite(&dir).await.close().await;
        set_mode(&path(&dir), exposed);
        let error = SqliteStore::open(&path(&dir)).await.unwrap_err();
        assert!(matches!(error, StoreError::Exposed { mode, .. } if mode == exposed), "{error}");
        let text = error.to_string();
        assert!(
            text.contains("portcullis.db") && text.contains(&format!("{exposed:04o}")) && text.contains("0600"),
            "{text}"
        );
        set_mode(&path(&dir), 0o600);
        let store = sqlite(&dir).await;
        set_mode(&dir.path().join("portcullis.db-wal"), exposed);
        assert!(
            matches!(SqliteStore::open(&path(&dir)).await, Err(StoreError::Exposed { .. })),
            "the log holds rows too"
        );
        drop(store);
    }
}

#[tokio::test]
async fn what_is_not_a_store_is_refused() {
    let dir = dir();
    let garbage = "to whom it may concern: this is a letter\n".repeat(200);
    std::fs::write(path(&dir), &garbage).unwrap();
    set_mode(&path(&dir), 0o600);
    let error = SqliteStore::open(&path(&dir)).await.unwrap_err();
    assert!(matches!(error, StoreError::Foreign { source: Some(_), .. }), "{error:?}");
    assert!(error.to_string().contains("is not a portcullis store"), "{error}");
    assert_eq!(std::fs::read_to_string(path(&dir)).unwrap(), garbage);

    std::fs::remove_file(path(&dir)).unwrap();
    let store = sqlite(&dir).await;
    sqlx::query("DROP TABLE portcullis_schema").execute(store.database()).await.unwrap();
    store.close().await;
    let error = SqliteStore::open(&path(&dir)).await.unwrap_err();
    assert!(matches!(error, StoreError::Foreign { source: None, .. }), "another program's database: {error:?}");

    for missing in [dir.path().join("no/such/place.db"), dir.path().to_path_buf()] {
        let error = SqliteStore::open(&missing).await.unwrap_err();
        assert!(matches!(error, StoreError::Open { .. } | StoreError::Exposed { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn an_empty_file_becomes_a_store_and_a_newer_one_does_not() {
    let dir = dir();
    std::fs::write(path(&dir), "").unwrap();
    set_mode(&path(&dir), 0o600);
    let store = sqlite(&dir).await;
    store.secret("s").await.unwrap();
    sqlx::query("UPDATE portcullis_schema SET version = 99").execute(store.database()).await.unwrap();
    store.close().await;
    let error = SqliteStore::open(&path(&dir)).await.unwrap_err();
    assert!(matches!(error, StoreError::Newer { found: 99, known: schema::KNOWN, .. }), "{error:?}");
}

#[tokio::test]
async fn a_schema_that_stopped_half_way_is_finished() {
    let dir = dir();
    let store = sqlite(&dir).await;
    // As it was before the first step.
    let tables = [
        "secrets",
        "signing_keys",
        "identities",
        "users",
        "revision",
        "revocations",
        "uses",
        "logout_hints",
        "clock",
        "probe",
    ];
    for table in tables {
        let drop = sqlx::AssertSqlSafe(format!("DROP TABLE {table}"));
        sqlx::query(drop).execute(store.database()).await.unwrap();
    }
    sqlx::query("UPDATE portcullis_schema SET version = 0").execute(store.database()).await.unwrap();
    store.close().await;
    let store = sqlite(&dir).await;
    store.secret("s").await.unwrap();
    let version: i64 =
        sqlx::query_scalar("SELECT version FROM portcullis_schema").fetch_one(store.database()).await.unwrap();
    assert_eq!(version, schema::KNOWN);
}

/// Takes the schema back to that of the second release.
async fn take_back(store: &SqliteStore) {
    for statement in [
        "DROP TRIGGER IF EXISTS identities_revision",
        "DROP TABLE clock",
        "DROP TABLE probe",
        "DROP INDEX revocations_subject",
        "ALTER TABLE revocations DROP COLUMN ordered",
        "ALTER TABLE identities DROP COLUMN revision",
        "UPDATE portcullis_schema SET version = 2",
    ] {
        sqlx::query(statement).execute(store.database()).await.unwrap();
    }
}

#[tokio::test]
async fn a_store_of_the_first_schema_is_brought_along() {
    let dir = dir();
    let store = sqlite(&dir).await;
    let secret = store.secret("s").await.unwrap();
    take_back(&store).await;
    for statement in ["DROP TABLE uses", "DROP TABLE logout_hints", "UPDATE portcullis_schema SET version = 1"] {
        sqlx::query(statement).execute(store.database()).await.unwrap();
    }
    store.close().await;
    let store = sqlite(&dir).await;
    assert_eq!(store.secret("s").await.unwrap(), secret);
    assert!(store.first_use("a", NOW).await.unwrap());
}

#[tokio::test]
async fn revocations_and_logins_of_the_release_before_keep_their_meaning() {
    let dir = dir();
    let store = sqlite(&dir).await;
    let (old, later) = (IdentityNonce::random(), IdentityNonce::random());
    let alice = identity("alice@example.com");
    let ever = UnixTime(u64::MAX);
    store.insert_identity(&old, &alice, ever).await.unwrap();
    store.revoke(&Revocation::User { user: alice.user.clone(), before: NOW }, ever).await.unwrap();
    store.insert_identity(&later, &Identity { at: UnixTime(NOW.0 + 1), ..alice.clone() }, ever).await.unwrap();
    take_back(&store).await;
    store.close().await;

    let store = sqlite(&dir).await;
    let seen = store.revocations_after(0).await.unwrap();
    assert!(seen.len() == 1 && !seen[0].ordered, "its `before` counts: {seen:?}");
    assert_eq!(store.identity(&old).await.unwrap().unwrap().revision, 0);
    assert!(!store.update_identity(&old, &alice, ever).await.unwrap(), "it was revoked by time");
    assert!(store.update_identity(&later, &Identity { at: UnixTime(NOW.0 + 1), ..alice.clone() }, ever).await.unwrap());

    // The process of the release before writes this while both run.
    sqlx::query("UPDATE revision SET latest = latest + 1").execute(store.database()).await.unwrap();
    sqlx::query("INSERT INTO revocations (revision, kind, subject, before, expires) VALUES (2, 'user', $1, $2, $2)")
        .bind(&*alice.user.0)
        .bind(i64::try_from(NOW.0).unwrap())
        .execute(store.database())
        .await
        .unwrap();
    assert!(store.revocations_after(1).await.unwrap()[0].ordered);
    assert!(!store.update_identity(&later, &alice, ever).await.unwrap(), "its clock does not matter");
    let new = IdentityNonce::random();
    assert_eq!(store.insert_identity(&new, &alice, ever).await.unwrap(), 2);
    assert!(store.update_identity(&new, &alice, ever).await.unwrap());
}

#[tokio::test]
async fn login_of_the_release_before_keeps_its_order() {
    // As that release writes a login and updates its record.
    const LOGIN: &str = "INSERT INTO identities (nonce, identity, expires) VALUES ($1, $2, $3) \
        ON CONFLICT (nonce) DO UPDATE SET identity = excluded.identity, expires = excluded.expires";
    let dir = dir();
    let store = sqlite(&dir).await;
    let alice = identity("alice@example.com");
    let ever = UnixTime(u64::MAX);
    let user = Revocation::User { user: alice.user.clone(), before: NOW };
    let (early, late) = (IdentityNonce::random(), IdentityNonce::random());
    let write = async |nonce: &IdentityNonce| {
        let login = sqlx::query(LOGIN).bind(nonce.as_str()).bind(serde_json::to_string(&alice).unwrap());
        login.bind(i64::MAX).execute(store.database()).await.unwrap();
    };
    write(&early).await;
    store.revoke(&user, ever).await.unwrap();
    store.revoke(&user, ever).await.unwrap();
    write(&late).await;
    write(&early).await;
    let revision = async |nonce: &IdentityNonce| store.identity(nonce).await.unwrap().unwrap().revision;
    assert_eq!((revision(&early).await, revision(&late).await), (0, 2));
    assert!(!store.update_identity(&early, &alice, ever).await.unwrap(), "revoked since");
    assert!(store.update_identity(&late, &alice, ever).await.unwrap(), "a login after the logout");
    store.revoke(&user, ever).await.unwrap();
    write(&late).await;
    assert_eq!(revision(&late).await, 2, "an update is no new login");
    assert!(!store.update_identity(&late, &alice, ever).await.unwrap());
}

/// Nothing that writes succeeds, and nothing says that there is nothing.
async fn no_write_is_lost_in_silence(store: &SqliteStore, why: &str) {
    let nonce = IdentityNonce::random();
    let results = [
        ("identity", store.insert_identity(&nonce, &identity("a@example.com"), NOW).await.map(drop)),
        ("key", store.put_signing_key(&key("a", 1, None)).await),
        ("secret", store.secret("new").await.map(drop)),
        ("hint", store.put_logout_hint(&nonce, "sealed", NOW).await),
        ("taken hint", store.take_logout_hint(&nonce).await.map(drop)),
        ("update", store.update_identity(&nonce, &identity("a@example.com"), NOW).await.map(drop)),
        ("use", store.first_use("new", NOW).await.map(drop)),
        ("clock", store.advance_clock(NOW).await.map(drop)),
        ("probe", store.probe().await),
        ("user", store.user(&okta(), "new").await.map(drop)),
        ("revocation", store.revoke(&user_revocation("u"), NOW).await.map(drop)),
    ];
    for (what, result) in results {
        let error = result.expect_err(what);
        assert!(matches!(error, StoreError::Unavailable { .. }), "{what}, {why}: {error:?}");
        let cause = error.source().unwrap().to_string();
        assert!(cause.contains(why), "{what}: {cause}");
    }
}

#[tokio::test]
async fn a_locked_file_is_an_outage() {
    let dir = dir();
    let store = SqliteStore::open_with(&path(&dir), Duration::from_millis(100)).await.unwrap();
    let secret = store.secret("old").await.unwrap();
    let other = sqlite(&dir).await;
    let lock = other.database().begin_with("BEGIN EXCLUSIVE").await.unwrap();
    no_write_is_lost_in_silence(&store, "locked").await;
    assert_eq!(store.secret("old").await.unwrap(), secret, "readers go on");
    let third = SqliteStore::open_with(&path(&dir), Duration::from_millis(100)).await;
    assert!(matches!(third, Err(StoreError::Open { .. })), "{third:?}");
    lock.rollback().await.unwrap();
    store.revoke(&user_revocation("u"), NOW).await.unwrap();
}

/// Every call that writes.
const WRITES: [&str; 9] = ["identity", "update", "key", "secret", "hint", "user", "revocation", "use", "probe"];

/// Makes one of them. Each writes more than a page, so that none finds room in a page that the file has.
async fn write(store: &SqliteStore, what: &str, nonce: &IdentityNonce) -> Result<(), StoreError> {
    let new = IdentityNonce::random();
    let name = format!("{}{}", new.as_str(), "n".repeat(20_000));
    let identity = Identity { name: Some(name.clone()), ..identity("a@example.com") };
    match what {
        "identity" => store.insert_identity(&new, &identity, NOW).await.map(drop),
        "update" => store.update_identity(nonce, &identity, UnixTime(u64::MAX)).await.map(|updated| assert!(updated)),
        "key" => store.put_signing_key(&StoredKey { certificate_pem: name, ..key(new.as_str(), 1, None) }).await,
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
        store.insert_identity(&nonce, &identity("alice@example.com"), UnixTime(u64::MAX)).await.unwrap();
        // The limit is never below what the file has, and free pages are no concern of it.
        sqlx::query("VACUUM").execute(store.database()).await.unwrap();
        store.inject(Some("PRAGMA max_page_count = 1"));
        for _ in 0..2 {
            let error = write(&store, failing, &nonce).await.expect_err(failing);
            assert!(error.source().unwrap().to_string().contains("full"), "{failing}: {error:?}");
            assert!(store.write_failure().is_some_and(|cause| cause.contains("full")), "{failing}");
        }
        store.inject(None);
        for what in WRITES {
            let done = write(&store, what, &nonce).await;
            done.unwrap_or_else(|error| panic!("{what} after {failing}: {}", crate::model::chain(&error)));
            assert_eq!(store.write_failure(), None, "{what} after {failing}");
        }
    }
    assert_eq!(store.revocations_after(0).await.unwrap().len(), WRITES.len(), "those that were confirmed, and no more");
}

/// A small file system in memory, for as long as this lives. `None` without the right to mount one.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let dir = dir();
        let mount = ["-t", "tmpfs", "-o", "size=16m,mode=0700", "tmpfs"];
        let mounted = std::process::Command::new("mount").args(mount).arg(dir.path()).output();
        mounted.is_ok_and(|output| output.status.success()).then_some(Self(dir))
    }

    /// Leaves no byte free.
    fn fill(&self) -> PathBuf {
        let filler = self.0.path().join("filler");
        let mut file = std::fs::File::create(&filler).unwrap();
        while std::io::Write::write_all(&mut file, &[0; 4096]).is_ok() {}
        filler
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

/// The injected faults of the other tests need no rights; this one shows that they are like the real ones.
#[tokio::test]
async fn every_write_recovers_from_a_disk_that_was_full() {
    let Some(disk) = SmallDisk::mount() else { return };
    let store = sqlite(&disk.0).await;
    for failing in WRITES {
        let nonce = IdentityNonce::random();
        store.insert_identity(&nonce, &identity("alice@example.com"), UnixTime(u64::MAX)).await.unwrap();
        // Without this the write-ahead log has room that it can use again.
        sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(store.database()).await.unwrap();
        let filler = disk.fill();
        for _ in 0..2 {
            write(&store, failing, &nonce).await.expect_err(failing);
            assert!(store.write_failure().is_some(), "{failing}");
        }
        std::fs::remove_file(filler).unwrap();
        for what in WRITES {
            let done = write(&store, what, &nonce).await;
            done.unwrap_or_else(|error| panic!("{what} after {failing}: {}", crate::model::chain(&error)));
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
    sqlx::query("DROP TRIGGER full").execute(store.database()).await.unwrap();
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
        let _ = tokio::time::timeout(Duration::from_micros(micros), abandoned.revoke(&revocation, NOW)).await;
    }
    store.revoke(&user_revocation("u"), NOW).await.unwrap();
    assert_eq!(
        sqlite(&dir).await.revoke(&user_revocation("w"), NOW).await.map(drop).map_err(|e| e.to_string()),
        Ok(())
    );
}

#[tokio::test]
async fn deleted_or_replaced_file_takes_no_writes() {
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
    assert!(cause.contains("portcullis.db") && cause.contains("deleted or replaced"), "{cause}");
    assert_eq!(store.revocations_after(0).await.unwrap().len(), 1, "the open file can still be read");
    std::fs::write(path(&dir), "").unwrap();
    set_mode(&path(&dir), 0o600);
    assert!(matches!(store.probe().await, Err(StoreError::Lost { .. })), "another file at the path");
    let lost = |what: &str, read: Result<(), StoreError>| {
        assert!(matches!(read, Err(StoreError::Lost { .. })), "{what}: {read:?}");
    };
    // Whatever else writes from now on writes there.
    lost("revocations", store.revocations_after(0).await.map(drop));
    lost("identity", store.identity(&IdentityNonce::random()).await.map(drop));
    lost("signing keys", store.signing_keys().await.map(drop));
    lost("secret", store.secret("s").await.map(drop));
    lost("user", store.user(&okta(), "a").await.map(drop));
    std::fs::rename(&aside, path(&dir)).unwrap();
    store.probe().await.unwrap();
    assert_eq!(store.write_failure(), None);
    assert_eq!(store.revocations_after(0).await.unwrap().len(), 1);
}

#[tokio::test]
async fn older_content_in_the_same_file_gives_no_revocations() {
    let dir = dir();
    let store = sqlite(&dir).await;
    for _ in 0..3 {
        store.revoke(&user_revocation("u"), NOW).await.unwrap();
    }
    assert_eq!(store.revocations_after(3).await.unwrap(), []);
    // A backup of the time before, restored over the file. Its next revocations have revisions that were followed already.
    for statement in ["UPDATE revision SET latest = 1", "DELETE FROM revocations WHERE revision > 1"] {
        sqlx::query(statement).execute(store.database()).await.unwrap();
    }
    let error = store.revocations_after(3).await.unwrap_err();
    assert!(matches!(error, StoreError::Lost { .. }), "{error:?}");
    for _ in 0..3 {
        store.revoke(&user_revocation("v"), NOW).await.unwrap();
    }
    let error = store.revocations_after(3).await.unwrap_err();
    assert!(matches!(error, StoreError::Lost { .. }), "revocations 2 and 3 were missed: {error:?}");
    assert_eq!(sqlite(&dir).await.revocations_after(0).await.unwrap().len(), 4, "after a restart");
}

#[tokio::test]
async fn new_store_says_that_it_is_new() {
    let dir = dir();
    assert!(sqlite(&dir).await.is_new());
    assert!(!sqlite(&dir).await.is_new());
    std::fs::write(path(&dir), "").unwrap();
    for side in ["portcullis.db-wal", "portcullis.db-shm"] {
        let _ = std::fs::remove_file(dir.path().join(side));
    }
    assert!(sqlite(&dir).await.is_new(), "an empty file held no store");
}

#[tokio::test]
async fn check_finds_what_open_would_and_changes_nothing() {
    let dir = dir();
    let check =
        |path: PathBuf| async move { SqliteStore::check(&path).await.map_err(|error| crate::model::chain(&error)) };
    assert_eq!(check(path(&dir)).await, Ok(()), "the first start creates it");
    assert!(!path(&dir).exists());
    let error = check(dir.path().join("none/portcullis.db")).await.unwrap_err();
    assert!(error.contains("there is no folder") && error.contains("`[store] path`"), "{error}");
    let store = sqlite(&dir).await;
    assert_eq!(check(path(&dir)).await, Ok(()), "in use");
    store.close().await;
    let before = std::fs::read(path(&dir)).unwrap();
    assert_eq!(check(path(&dir)).await, Ok(()));
    set_mode(&path(&dir), 0o644);
    assert!(check(path(&dir)).await.unwrap_err().contains("its mode is 0644"));
    set_mode(&path(&dir), 0o600);
    assert_eq!(std::fs::read(path(&dir)).unwrap(), before);
    std::fs::write(path(&dir), "a letter".repeat(500)).unwrap();
    assert!(check(path(&dir)).await.unwrap_err().contains("is not a portcullis store"));
    let names: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["portcullis.db"], "no side files");
}

#[tokio::test]
async fn error_of_sqlite_is_told_once_and_names_the_setting() {
    let dir = dir();
    std::fs::create_dir(path(&dir)).unwrap();
    let error = SqliteStore::open(&path(&dir)).await.unwrap_err();
    assert!(error.to_string().contains("(`[store] path`)"), "{error}");
    let lost = dir.path().join("lost.db");
    let store = SqliteStore::open_with(&lost, Duration::from_millis(100)).await.unwrap();
    sqlx::query("DROP TABLE revocations").execute(store.database()).await.unwrap();
    let error = crate::model::chain(&store.revoke(&user_revocation("u"), NOW).await.unwrap_err());
    assert_eq!(error.matches("no such table").count(), 1, "{error}");
}

#[tokio::test]
async fn a_read_only_file_is_an_outage() {
    let dir = dir();
    let store = sqlite(&dir).await;
    // The same error as from a disk that was mounted so, and file modes do not bind the superuser.
    store.inject(Some("PRAGMA query_only = ON"));
    no_write_is_lost_in_silence(&store, "readonly").await;
}

#[tokio::test]
async fn a_lost_table_and_a_closed_store_are_outages() {
    let dir = dir();
    let store = sqlite(&dir).await;
    sqlx::query("DROP TABLE identities").execute(store.database()).await.unwrap();
    let error = store.identity(&IdentityNonce::random()).await.unwrap_err();
    assert_eq!((error.to_string().as_str(), error.kind()), ("the store could not read an identity", "unavailable"));
    store.close().await;
    assert!(store.revocations_after(0).await.is_err());
    assert!(store.signing_keys().await.is_err());
    assert!(store.secret("s").await.is_err());
    assert!(store.prune(NOW).await.is_err());
}

#[tokio::test]
async fn a_damaged_row_is_not_a_missing_one() {
    let dir = dir();
    let store = sqlite(&dir).await;
    let nonce = IdentityNonce::random();
    store.insert_identity(&nonce, &identity("a@example.com"), NOW).await.unwrap();
    store.secret("s").await.unwrap();
    store.revoke(&user_revocation("u"), NOW).await.unwrap();
    store.put_signing_key(&key("a", 1, None)).await.unwrap();
    for damage in [
        "UPDATE identities SET identity = '{}'",
        "UPDATE secrets SET value = 'AAAA'",
        "UPDATE revocations SET kind = 'planet'",
        "UPDATE signing_keys SET made = -1",
    ] {
        sqlx::query(damage).execute(store.database()).await.unwrap();
    }
    let malformed = |error: &StoreError| matches!(error, StoreError::Malformed { .. });
    assert!(malformed(&store.identity(&nonce).await.unwrap_err()));
    assert!(malformed(&store.secret("s").await.unwrap_err()));
    assert!(malformed(&store.revocations_after(0).await.unwrap_err()));
    assert!(malformed(&store.signing_keys().await.unwrap_err()));
}

#[tokio::test]
async fn a_deleted_key_leaves_no_trace() {
    let dir = dir();
    let store = sqlite(&dir).await;
    let secret = "a private key that must not lie about";
    store.put_signing_key(&StoredKey { pkcs8: Secret::new(secret), ..key("a", 1, None) }).await.unwrap();
    store.delete_signing_key("a").await.unwrap();
    store.close().await;
    let file = std::fs::read(path(&dir)).unwrap();
    assert!(!file.windows(secret.len()).any(|part| part == secret.as_bytes()));
}
