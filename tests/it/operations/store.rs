//! A store that is full, deleted or new: sessions survive, logins and logouts fail with a reason,
//! and all recover.

use std::time::{Duration, Instant};

use sqlx::SqlitePool;

use crate::support::portcullis::find;
use crate::support::{APPLICATIONS, Person, Portcullis, World, eventually};

const WIKI: &str = "http://wiki.localhost/page";
const LOGOUT: &str = "http://wiki.localhost/cdn-cgi/access/logout";
const NAVIGATION: &[&str] = &[
    "Sec-Fetch-Site: same-origin",
    "Sec-Fetch-Mode: navigate",
    "Sec-Fetch-Dest: document",
];

const WRITTEN: [&str; 3] = ["identities", "revocations", "probe"];

/// As on a full disk: SQLite rolls the transaction back by itself.
async fn fill_up(database: &SqlitePool) {
    for table in WRITTEN {
        let full = format!(
            "CREATE TRIGGER full_{table} BEFORE INSERT ON {table} \
             BEGIN SELECT RAISE(ROLLBACK, 'database or disk is full'); END"
        );
        sqlx::query(sqlx::AssertSqlSafe(full))
            .execute(database)
            .await
            .unwrap();
    }
}

async fn free(database: &SqlitePool) {
    for table in WRITTEN {
        sqlx::query(sqlx::AssertSqlSafe(format!("DROP TRIGGER full_{table}")))
            .execute(database)
            .await
            .unwrap();
    }
}

/// Waits until `/readyz` has that body; the status is 200 all the time.
async fn until_readiness(proxy: &Portcullis, right: impl Fn(&str) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let (status, body) = proxy.readiness().await;
        assert_eq!(status, 200, "{body}");
        if right(&body) {
            return;
        }
        assert!(Instant::now() < deadline, "/readyz still says {body:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test]
async fn full_store_fails_logins_and_logouts_aloud_and_recovers() {
    let world = World::start().await;
    let mut alice = world.signed_in(Person::alice(), WIKI).await;
    let mut bob = world.signed_in(Person::alice(), WIKI).await;
    let database = world.proxy.database().await;
    assert_eq!(world.proxy.readiness().await, (200, "ready\n".to_owned()));
    fill_up(&database).await;
    for _ in 0..2 {
        assert_eq!(
            alice.request("GET", LOGOUT, NAVIGATION, b"").await.status,
            503
        );
    }
    assert_eq!(world.browser().open(WIKI).await.response.status, 503);
    assert_eq!(alice.get(WIKI).await.status, 200, "sessions continue");
    let (status, body) = world.proxy.readiness().await;
    assert_eq!(status, 200);
    assert!(
        body.starts_with("ready\nwrites to the store fail: ") && body.contains("full"),
        "{body}"
    );

    let logouts = world.proxy.events("logout");
    assert_eq!(logouts.len(), 2, "{logouts:?}");
    for event in &logouts {
        let told = (
            find(event, "outcome"),
            find(event, "reason"),
            find(event, "email"),
        );
        assert_eq!(
            told,
            (
                Some("unavailable"),
                Some("store_unavailable"),
                Some("alice@example.com")
            )
        );
    }
    let logins = world.proxy.events("login");
    let told = |key| find(logins.last().unwrap(), key);
    assert_eq!(
        (
            told("outcome"),
            told("reason"),
            told("idp"),
            told("application")
        ),
        (
            Some("unavailable"),
            Some("store_unavailable"),
            Some("okta"),
            Some("Wiki")
        )
    );
    let metrics = world.proxy.metrics().await;
    for line in [
        "portcullis_store_writable 0",
        "portcullis_logouts_total{outcome=\"unavailable\"} 2",
        "portcullis_logins_total{outcome=\"unavailable\",reason=\"store_unavailable\"} 1",
    ] {
        assert!(metrics.lines().any(|one| one == line), "{line}\n{metrics}");
    }
    world
        .proxy
        .logged_within(
            Duration::from_secs(30),
            0,
            &["cannot write to the store: logins"],
        )
        .await;

    free(&database).await;
    assert_eq!(
        bob.request("GET", LOGOUT, NAVIGATION, b"").await.status,
        302,
        "the first logout after that"
    );
    for browser in [&mut alice, &mut bob] {
        assert_eq!(browser.get(WIKI).await.status, 401);
    }
    until_readiness(&world.proxy, |body| body == "ready\n").await;
    let metrics = world.proxy.metrics().await;
    assert!(
        metrics
            .lines()
            .any(|line| line == "portcullis_logouts_total{outcome=\"success\"} 1"),
        "{metrics}"
    );
    world
        .proxy
        .logged_within(
            Duration::from_secs(30),
            0,
            &["writing to the store works again"],
        )
        .await;
    assert!(
        world
            .proxy
            .metrics()
            .await
            .lines()
            .any(|line| line == "portcullis_store_writable 1")
    );
}

#[tokio::test]
async fn store_that_is_deleted_while_in_use_is_reported() {
    let world = World::start().await;
    let mut alice = world.signed_in(Person::alice(), WIKI).await;
    let (file, aside) = (world.proxy.path("portcullis.db"), world.proxy.path("aside"));
    std::fs::hard_link(&file, &aside).unwrap();
    std::fs::remove_file(&file).unwrap();
    until_readiness(&world.proxy, |body| body.contains("deleted or replaced")).await;
    world
        .proxy
        .logged(
            0,
            &[
                "cannot write to the store",
                "deleted or replaced",
                "portcullis.db",
            ],
        )
        .await;
    assert_eq!(alice.get(WIKI).await.status, 200, "sessions continue");
    let answer = alice.request("GET", LOGOUT, NAVIGATION, b"").await;
    assert_eq!(
        answer.status, 503,
        "a logout that a restart would forget is not confirmed"
    );
    std::fs::rename(&aside, &file).unwrap();
    assert_eq!(
        alice.request("GET", LOGOUT, NAVIGATION, b"").await.status,
        302
    );
    until_readiness(&world.proxy, |body| body == "ready\n").await;
}

#[tokio::test]
async fn session_ends_after_the_store_file_is_replaced() {
    let world = World::with(APPLICATIONS, |config| config.store = "max_stale = \"10s\"").await;
    let mut alice = world.signed_in(Person::alice(), WIKI).await;
    let file = world.proxy.path("portcullis.db");
    // A backup, which another process would use from now on. Its revocations never appear in the
    // old file.
    let backup = world.proxy.path("backup");
    let database = world.proxy.database().await;
    sqlx::query(sqlx::AssertSqlSafe(format!(
        "VACUUM INTO '{}'",
        backup.display()
    )))
    .execute(&database)
    .await
    .unwrap();
    database.close().await;
    std::fs::set_permissions(&backup, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    std::fs::rename(&backup, &file).unwrap();
    eventually("the session survives a replaced store", async || {
        alice.get(WIKI).await.status == 503
    })
    .await;
    assert_eq!(world.proxy.readiness().await.0, 503);
    world
        .proxy
        .logged(0, &["deleted or replaced", "portcullis.db"])
        .await;
}

#[tokio::test]
async fn new_store_is_reported_once() {
    let mut world = World::with(APPLICATIONS, |config| config.new_store = true).await;
    let created = |log: &str| {
        log.lines()
            .filter(|line| line.contains("created a new store at "))
            .count()
    };
    let log = world.proxy.log();
    assert_eq!(created(&log), 1, "{log}");
    assert!(
        log.lines()
            .any(|line| line.contains("created a new store at ") && line.contains("WARN")),
        "{log}"
    );
    world.proxy.stop().await;
    world.proxy.run().await;
    assert_eq!(created(&world.proxy.log()), 1);
}
