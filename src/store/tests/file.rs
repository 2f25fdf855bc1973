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
    sqlx::query("DROP TABLE portcullis_schema").execute(store.writer()).await.unwrap();
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
    sqlx::query("UPDATE portcullis_schema SET version = 99").execute(store.writer()).await.unwrap();
    store.close().await;
    let error = SqliteStore::open(&path(&dir)).await.unwrap_err();
    assert!(matches!(error, StoreError::Newer { found: 99, known: schema::KNOWN, .. }), "{error:?}");
}

#[tokio::test]
async fn a_schema_that_stopped_half_way_is_finished() {
    let dir = dir();
    let store = sqlite(&dir).await;
    // As it was before the first step.
    for table in ["secrets", "signing_keys", "identities", "users", "revision", "revocations", "uses", "logout_hints"] {
        let drop = sqlx::AssertSqlSafe(format!("DROP TABLE {table}"));
        sqlx::query(drop).execute(store.writer()).await.unwrap();
    }
    sqlx::query("UPDATE portcullis_schema SET version = 0").execute(store.writer()).await.unwrap();
    store.close().await;
    let store = sqlite(&dir).await;
    store.secret("s").await.unwrap();
    let version: i64 =
        sqlx::query_scalar("SELECT version FROM portcullis_schema").fetch_one(store.writer()).await.unwrap();
    assert_eq!(version, schema::KNOWN);
}

#[tokio::test]
async fn a_store_of_the_first_schema_is_brought_along() {
    let dir = dir();
    let store = sqlite(&dir).await;
    let secret = store.secret("s").await.unwrap();
    for drop in ["DROP TABLE uses", "DROP TABLE logout_hints"] {
        sqlx::query(drop).execute(store.writer()).await.unwrap();
    }
    sqlx::query("UPDATE portcullis_schema SET version = 1").execute(store.writer()).await.unwrap();
    store.close().await;
    let store = sqlite(&dir).await;
    assert_eq!(store.secret("s").await.unwrap(), secret);
    assert!(store.first_use("a", NOW).await.unwrap());
}

/// Nothing that writes succeeds, and nothing says that there is nothing.
async fn no_write_is_lost_in_silence(store: &SqliteStore, why: &str) {
    let nonce = IdentityNonce::random();
    let results = [
        ("identity", store.put_identity(&nonce, &identity("a@example.com"), NOW).await),
        ("key", store.put_signing_key(&key("a", 1, None)).await),
        ("secret", store.secret("new").await.map(drop)),
        ("hint", store.put_logout_hint(&nonce, "sealed", NOW).await),
        ("taken hint", store.take_logout_hint(&nonce).await.map(drop)),
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
    let lock = other.writer().begin_with("BEGIN EXCLUSIVE").await.unwrap();
    no_write_is_lost_in_silence(&store, "locked").await;
    assert_eq!(store.secret("old").await.unwrap(), secret, "readers go on");
    let third = SqliteStore::open_with(&path(&dir), Duration::from_millis(100)).await;
    assert!(matches!(third, Err(StoreError::Open { .. })), "{third:?}");
    lock.rollback().await.unwrap();
    store.revoke(&user_revocation("u"), NOW).await.unwrap();
}

#[tokio::test]
async fn a_full_disk_is_an_outage() {
    let dir = dir();
    let store = sqlite(&dir).await;
    sqlx::query("PRAGMA max_page_count = 1").execute(store.writer()).await.unwrap();
    let big = |at: usize| StoredKey { certificate_pem: "x".repeat(200_000), ..key(&at.to_string(), 1, None) };
    let error = store.put_signing_key(&big(0)).await.unwrap_err();
    assert!(error.source().unwrap().to_string().contains("full"), "{error:?}");
    assert_eq!(store.signing_keys().await.unwrap(), [], "nothing of it was kept");
    sqlx::query("PRAGMA max_page_count = 1000000").execute(store.writer()).await.unwrap();
    store.put_signing_key(&big(1)).await.unwrap();
}

#[tokio::test]
async fn a_read_only_file_is_an_outage() {
    let dir = dir();
    let store = sqlite(&dir).await;
    // The same error as from a disk that was mounted so, and file modes do not bind the superuser.
    sqlx::query("PRAGMA query_only = ON").execute(store.writer()).await.unwrap();
    no_write_is_lost_in_silence(&store, "readonly").await;
}

#[tokio::test]
async fn a_lost_table_and_a_closed_store_are_outages() {
    let dir = dir();
    let store = sqlite(&dir).await;
    sqlx::query("DROP TABLE identities").execute(store.writer()).await.unwrap();
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
    store.put_identity(&nonce, &identity("a@example.com"), NOW).await.unwrap();
    store.secret("s").await.unwrap();
    store.revoke(&user_revocation("u"), NOW).await.unwrap();
    store.put_signing_key(&key("a", 1, None)).await.unwrap();
    for damage in [
        "UPDATE identities SET identity = '{}'",
        "UPDATE secrets SET value = 'AAAA'",
        "UPDATE revocations SET kind = 'planet'",
        "UPDATE signing_keys SET made = -1",
    ] {
        sqlx::query(damage).execute(store.writer()).await.unwrap();
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
