//! The file: its permissions, its content, and its failures.

use super::faults::assert_writes_fail;
use super::*;

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

pub(super) fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[tokio::test]
async fn files_are_private_to_their_owner() {
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
    assert_eq!(
        names,
        ["portcullis.db", "portcullis.db-shm", "portcullis.db-wal"]
    );
}

#[tokio::test]
async fn file_that_others_can_read_is_rejected() {
    for exposed in [0o640, 0o604, 0o666, 0o620] {
        let dir = dir();
        sqlite(&dir).await.close().await;
        set_mode(&path(&dir), exposed);
        let error = SqliteStore::open(&path(&dir)).await.unwrap_err();
        assert!(
            matches!(error, StoreError::Exposed { mode, .. } if mode == exposed),
            "{error}"
        );
        let text = error.to_string();
        assert!(
            text.contains("portcullis.db")
                && text.contains(&format!("{exposed:04o}"))
                && text.contains("0600"),
            "{text}"
        );
        set_mode(&path(&dir), 0o600);
        let store = sqlite(&dir).await;
        set_mode(&dir.path().join("portcullis.db-wal"), exposed);
        assert!(
            matches!(
                SqliteStore::open(&path(&dir)).await,
                Err(StoreError::Exposed { .. })
            ),
            "the log holds rows too"
        );
        drop(store);
    }
}

#[tokio::test]
async fn foreign_file_is_rejected() {
    let dir = dir();
    let garbage = "to whom it may concern: this is a letter\n".repeat(200);
    std::fs::write(path(&dir), &garbage).unwrap();
    set_mode(&path(&dir), 0o600);
    let error = SqliteStore::open(&path(&dir)).await.unwrap_err();
    assert!(
        matches!(
            error,
            StoreError::Foreign {
                source: Some(_),
                ..
            }
        ),
        "{error:?}"
    );
    assert!(
        error.to_string().contains("is not a portcullis store"),
        "{error}"
    );
    assert_eq!(std::fs::read_to_string(path(&dir)).unwrap(), garbage);

    std::fs::remove_file(path(&dir)).unwrap();
    let store = sqlite(&dir).await;
    sqlx::query("DROP TABLE portcullis_schema")
        .execute(store.database())
        .await
        .unwrap();
    store.close().await;
    let error = SqliteStore::open(&path(&dir)).await.unwrap_err();
    assert!(
        matches!(error, StoreError::Foreign { source: None, .. }),
        "another program's database: {error:?}"
    );

    for missing in [
        dir.path().join("no/such/place.db"),
        dir.path().to_path_buf(),
    ] {
        let error = SqliteStore::open(&missing).await.unwrap_err();
        assert!(
            matches!(error, StoreError::Open { .. } | StoreError::Exposed { .. }),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn empty_file_becomes_a_store_and_a_newer_one_is_rejected() {
    let dir = dir();
    std::fs::write(path(&dir), "").unwrap();
    set_mode(&path(&dir), 0o600);
    let store = sqlite(&dir).await;
    store.secret("s").await.unwrap();
    sqlx::query("UPDATE portcullis_schema SET version = 99")
        .execute(store.database())
        .await
        .unwrap();
    store.close().await;
    let error = SqliteStore::open(&path(&dir)).await.unwrap_err();
    assert!(
        matches!(
            error,
            StoreError::Newer {
                found: 99,
                known: sqlite::schema::KNOWN,
                ..
            }
        ),
        "{error:?}"
    );
}

#[tokio::test]
async fn interrupted_migration_is_finished() {
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
        "changes",
    ];
    for table in tables {
        let drop = sqlx::AssertSqlSafe(format!("DROP TABLE {table}"));
        sqlx::query(drop).execute(store.database()).await.unwrap();
    }
    sqlx::query("UPDATE portcullis_schema SET version = 0")
        .execute(store.database())
        .await
        .unwrap();
    store.close().await;
    let store = sqlite(&dir).await;
    store.secret("s").await.unwrap();
    let version: i64 = sqlx::query_scalar("SELECT version FROM portcullis_schema")
        .fetch_one(store.database())
        .await
        .unwrap();
    assert_eq!(version, sqlite::schema::KNOWN);
}

/// Reverts the schema to that of the second release.
async fn take_back(store: &SqliteStore) {
    for statement in [
        "DROP TRIGGER identities_revision",
        "DROP TRIGGER revocations_logged",
        "DROP TRIGGER identities_logged",
        "DROP TRIGGER keys_added",
        "DROP TRIGGER keys_changed",
        "DROP TRIGGER keys_deleted",
        "DROP TABLE changes",
        "DROP TABLE clock",
        "DROP TABLE probe",
        "DROP INDEX revocations_subject",
        "ALTER TABLE revocations DROP COLUMN ordered",
        "ALTER TABLE identities DROP COLUMN revision",
        "UPDATE portcullis_schema SET version = 2",
    ] {
        sqlx::query(statement)
            .execute(store.database())
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn store_of_the_first_schema_is_migrated() {
    let dir = dir();
    let store = sqlite(&dir).await;
    let secret = store.secret("s").await.unwrap();
    take_back(&store).await;
    for statement in [
        "DROP TABLE uses",
        "DROP TABLE logout_hints",
        "UPDATE portcullis_schema SET version = 1",
    ] {
        sqlx::query(statement)
            .execute(store.database())
            .await
            .unwrap();
    }
    store.close().await;
    let store = sqlite(&dir).await;
    assert_eq!(store.secret("s").await.unwrap(), secret);
    assert!(store.first_use("a", NOW).await.unwrap().is_some());
}

#[tokio::test]
async fn rows_of_the_release_before_keep_their_meaning() {
    let dir = dir();
    let store = sqlite(&dir).await;
    let (old, later) = (IdentityNonce::random(), IdentityNonce::random());
    let alice = identity("alice@example.com");
    let ever = UnixTime(u64::MAX);
    store
        .insert_identity(&old, &alice, u64::MAX, ever)
        .await
        .unwrap();
    store
        .revoke(
            &Revocation::User {
                user: alice.user.clone(),
                before: NOW,
            },
            ever,
        )
        .await
        .unwrap();
    store
        .insert_identity(
            &later,
            &Identity {
                at: UnixTime(NOW.0 + 1),
                ..alice.clone()
            },
            u64::MAX,
            ever,
        )
        .await
        .unwrap();
    take_back(&store).await;
    store.close().await;

    let store = sqlite(&dir).await;
    let seen = store.revocations_after(0).await.unwrap();
    assert!(
        seen.len() == 1 && !seen[0].ordered,
        "its `before` counts: {seen:?}"
    );
    assert_eq!(store.identity(&old).await.unwrap().unwrap().revision, 0);
    assert!(
        !store.update_identity(&old, &alice, ever).await.unwrap(),
        "it was revoked by time"
    );
    assert!(
        store
            .update_identity(
                &later,
                &Identity {
                    at: UnixTime(NOW.0 + 1),
                    ..alice.clone()
                },
                ever
            )
            .await
            .unwrap()
    );

    // The process of the release before writes this while both run.
    sqlx::query("UPDATE revision SET latest = latest + 1")
        .execute(store.database())
        .await
        .unwrap();
    sqlx::query("INSERT INTO revocations (revision, kind, subject, before, expires) VALUES (2, 'user', $1, $2, $2)")
        .bind(&*alice.user.0)
        .bind(i64::try_from(NOW.0).unwrap())
        .execute(store.database())
        .await
        .unwrap();
    assert!(store.revocations_after(1).await.unwrap()[0].ordered);
    assert!(
        !store.update_identity(&later, &alice, ever).await.unwrap(),
        "its clock does not matter"
    );
    let new = IdentityNonce::random();
    assert_eq!(
        store
            .insert_identity(&new, &alice, u64::MAX, ever)
            .await
            .unwrap(),
        Some(2)
    );
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
    let user = Revocation::User {
        user: alice.user.clone(),
        before: NOW,
    };
    let (early, late) = (IdentityNonce::random(), IdentityNonce::random());
    let write = async |nonce: &IdentityNonce| {
        let login = sqlx::query(LOGIN)
            .bind(nonce.as_str())
            .bind(serde_json::to_string(&alice).unwrap());
        login
            .bind(i64::MAX)
            .execute(store.database())
            .await
            .unwrap();
    };
    write(&early).await;
    store.revoke(&user, ever).await.unwrap();
    store.revoke(&user, ever).await.unwrap();
    write(&late).await;
    write(&early).await;
    let revision =
        async |nonce: &IdentityNonce| store.identity(nonce).await.unwrap().unwrap().revision;
    assert_eq!((revision(&early).await, revision(&late).await), (0, 2));
    assert!(
        !store.update_identity(&early, &alice, ever).await.unwrap(),
        "revoked since"
    );
    assert!(
        store.update_identity(&late, &alice, ever).await.unwrap(),
        "a login after the logout"
    );
    store.revoke(&user, ever).await.unwrap();
    write(&late).await;
    assert_eq!(revision(&late).await, 2, "an update is no new login");
    assert!(!store.update_identity(&late, &alice, ever).await.unwrap());
}

#[tokio::test]
async fn new_store_is_reported() {
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
async fn check_reports_errors_of_open_and_changes_nothing() {
    let dir = dir();
    let check = |path: PathBuf| async move {
        SqliteStore::check(&path)
            .await
            .map_err(|error| crate::model::chain(&error))
    };
    assert_eq!(
        check(path(&dir)).await,
        Ok(()),
        "the first start creates it"
    );
    assert!(!path(&dir).exists());
    let error = check(dir.path().join("none/portcullis.db"))
        .await
        .unwrap_err();
    assert!(
        error.contains("there is no directory") && error.contains("`[store] path`"),
        "{error}"
    );
    let store = sqlite(&dir).await;
    assert_eq!(check(path(&dir)).await, Ok(()), "in use");
    store.close().await;
    let before = std::fs::read(path(&dir)).unwrap();
    assert_eq!(check(path(&dir)).await, Ok(()));
    set_mode(&path(&dir), 0o644);
    assert!(
        check(path(&dir))
            .await
            .unwrap_err()
            .contains("its mode is 0644")
    );
    set_mode(&path(&dir), 0o600);
    assert_eq!(std::fs::read(path(&dir)).unwrap(), before);
    std::fs::write(path(&dir), "a letter".repeat(500)).unwrap();
    assert!(
        check(path(&dir))
            .await
            .unwrap_err()
            .contains("is not a portcullis store")
    );
    let names: Vec<_> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, ["portcullis.db"], "no side files");
}

#[tokio::test]
async fn error_names_the_setting_and_repeats_nothing() {
    let dir = dir();
    std::fs::create_dir(path(&dir)).unwrap();
    let error = SqliteStore::open(&path(&dir)).await.unwrap_err();
    assert!(error.to_string().contains("(`[store] path`)"), "{error}");
    let lost = dir.path().join("lost.db");
    let store = SqliteStore::open_with(&lost, Duration::from_millis(100))
        .await
        .unwrap();
    sqlx::query("DROP TABLE revocations")
        .execute(store.database())
        .await
        .unwrap();
    let error = crate::model::chain(&store.revoke(&user_revocation("u"), NOW).await.unwrap_err());
    assert_eq!(error.matches("no such table").count(), 1, "{error}");
}

#[tokio::test]
async fn read_only_file_is_an_outage() {
    let dir = dir();
    let store = sqlite(&dir).await;
    // The same error as from a disk that was mounted so, and file modes do not bind the superuser.
    store.inject(Some("PRAGMA query_only = ON"));
    assert_writes_fail(&store, "readonly").await;
}

#[tokio::test]
async fn lost_table_and_closed_store_are_outages() {
    let dir = dir();
    let store = sqlite(&dir).await;
    sqlx::query("DROP TABLE identities")
        .execute(store.database())
        .await
        .unwrap();
    let error = store.identity(&IdentityNonce::random()).await.unwrap_err();
    assert_eq!(
        (error.to_string().as_str(), error.kind()),
        ("the store could not read an identity", "unavailable")
    );
    store.close().await;
    assert!(store.revocations_after(0).await.is_err());
    assert!(store.signing_keys().await.is_err());
    assert!(store.secret("s").await.is_err());
    assert!(store.prune(NOW).await.is_err());
}

#[tokio::test]
async fn damaged_row_is_an_error() {
    let dir = dir();
    let store = sqlite(&dir).await;
    let nonce = IdentityNonce::random();
    store
        .insert_identity(&nonce, &identity("a@example.com"), u64::MAX, NOW)
        .await
        .unwrap();
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
async fn deleted_key_is_overwritten() {
    let dir = dir();
    let store = sqlite(&dir).await;
    let secret = "a private key that must not lie about";
    store
        .put_signing_key(&StoredKey {
            pkcs8: Secret::new(secret),
            ..key("a", 1, None)
        })
        .await
        .unwrap();
    store.delete_signing_key("a").await.unwrap();
    store.close().await;
    let file = std::fs::read(path(&dir)).unwrap();
    assert!(
        !file
            .windows(secret.len())
            .any(|part| part == secret.as_bytes())
    );
}
