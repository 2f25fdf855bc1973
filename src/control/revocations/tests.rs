use std::path::Path;
use std::time::Duration;

use sqlx::SqlitePool;
use tempfile::TempDir;

use super::*;
use crate::config::{self, Config, System};
use crate::control::signing_keys::tests::put_fixed_keys;
use crate::control::{Access, Clock, Resources, compile};
use crate::engine::{NodeCache, Origins};
use crate::http_client::{HttpClient, Roots, Timeouts};
use crate::model::{IdentityNonce, LoginOrder, UserId};
use crate::policy::Truth;
use crate::session::Presented;
use crate::store::{MemoryStore, SqliteStore, Store, StoreError};

const OURS: &str = r#"
    [[identity_providers]]
    id = "okta"
    name = "Okta"
    type = "okta"
    config = { client_id = "id", client_secret = "example-secret", okta_account = "https://dev-1.okta.com" }
"#;

fn config(team: &str, rest: &str) -> Config {
    let text = format!(
        "[insecure]\nplain_http = true\ninline_secrets = true\nmemory_store = true\n[[listen]]\naddress = \"127.0.0.1:8080\"\n\
         [team]\ndomain = \"access.localhost:8080\"\n{team}\n{rest}"
    );
    config::parse(&text, Path::new("portcullis.toml"), &System)
        .unwrap_or_else(|e| panic!("{e}"))
        .config
}

async fn start(config: &Config, store: Arc<dyn Store>) -> Arc<Access> {
    let http = HttpClient::new(&Roots::default(), Timeouts::default()).unwrap();
    let made = compile(config, 1, Arc::new(NodeCache::new(10)), &http, |_| {
        Origins::new(())
    })
    .unwrap();
    put_fixed_keys(&*store).await;
    Access::start(
        made.0,
        made.1,
        Resources {
            store,
            http,
            runtime: tokio::runtime::Handle::current(),
            clock: Clock::default(),
        },
    )
    .await
    .unwrap()
}

async fn sqlite(dir: &TempDir) -> (SqlitePool, Arc<dyn Store>) {
    let path = dir.path().join("portcullis.db");
    let store = SqliteStore::open(&path).await.unwrap();
    (
        SqlitePool::connect(&format!("sqlite://{}", path.display()))
            .await
            .unwrap(),
        Arc::new(store),
    )
}

#[tokio::test]
async fn sessions_end_at_max_stale_and_resume_with_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let (database, store) = sqlite(&dir).await;
    let config = config("", &format!("[store]\nmax_stale = \"30s\"\n{OURS}"));
    let access = start(&config, store).await;
    assert!(access.is_ready());
    let start = UnixTime::now();
    let at = |seconds| UnixTime(start.0 + seconds);
    let good = |seconds| access.running.cache().revocations_are_good(at(seconds));
    access.upkeep.follower.follow(at(100)).await.unwrap();
    assert!(good(129) && !good(130));

    sqlx::query("ALTER TABLE revocations RENAME TO elsewhere")
        .execute(&database)
        .await
        .unwrap();
    access.upkeep.follower.follow(at(110)).await.unwrap_err();
    assert!(good(129) && !good(130), "a failure extends nothing");
    let session = access
        .endpoints
        .sessions
        .organisation_session(&http::HeaderMap::new(), at(130))
        .await;
    assert!(
        matches!(session, Err(StoreError::Stale)),
        "no session opens another application"
    );
    access.running.cache().set_revocations_good_until(start);
    assert!(!access.is_ready());

    sqlx::query("ALTER TABLE elsewhere RENAME TO revocations")
        .execute(&database)
        .await
        .unwrap();
    access.upkeep.follower.follow(at(140)).await.unwrap();
    assert!(good(169) && !good(170));
    assert!(
        access
            .endpoints
            .sessions
            .organisation_session(&http::HeaderMap::new(), at(169))
            .await
            .unwrap()
            .is_none()
    );
}

#[tokio::test]
async fn sessions_without_a_shared_store_are_never_stale() {
    let certs = "certs_url = \"https://example.cloudflareaccess.com/cdn-cgi/access/certs\"";
    for config in [
        config("", &format!("[store]\nmemory = true\n{OURS}")),
        config(certs, ""),
    ] {
        let access = start(&config, Arc::new(MemoryStore::new())).await;
        assert!(
            access
                .running
                .cache()
                .revocations_are_good(UnixTime(u64::MAX - 1)),
            "{:?}",
            config.store
        );
    }
}

#[tokio::test]
async fn revocation_outlives_every_token_that_it_covers() {
    // The longest that a configuration allows; `tests/golden/config-mistakes.txt` has the rejected
    // ones.
    let longest = "session_duration = \"720h\"\nclock_leeway = \"5m\"";
    let application = "[[applications]]\ndomain = \"app.localhost\"\norigin = \"http://127.0.0.1:9\"\nsession_duration = \"720h\"";
    let config = config(longest, &format!("{OURS}\n{application}"));
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let access = start(&config, Arc::clone(&store)).await;
    let (now, nonce, user) = (UnixTime::now(), IdentityNonce::random(), UserId("u".into()));
    access
        .endpoints
        .logins
        .end_sessions(nonce, &user, now)
        .await
        .unwrap();

    let kept = store.revocations_after(0).await.unwrap();
    // An organisation session that begins now may be handed over at its end.
    let last = now.after(
        config.catalog.team.session_duration + config.catalog.applications[0].session_duration,
    );
    let last = last.after(config.catalog.team.clock_leeway);
    assert!(
        kept.len() == 2 && kept.iter().all(|one| one.expires > last),
        "{kept:?}"
    );
    let ended = || {
        let snapshot = access.snapshot();
        let login = Some(LoginOrder {
            revision: 1,
            at: now,
        });
        let covers = |nonce, user| {
            let presented = Presented {
                nonce,
                user,
                aud: &[],
                issued: now,
                login,
            };
            snapshot.revocations().cover(presented) == Truth::True
        };
        (
            covers(Some(nonce), &UserId("v".into())),
            covers(None, &user),
        )
    };
    assert_eq!(ended(), (true, true));
    store.prune(last).await.unwrap();
    access.running.forget_revocations(last);
    assert_eq!(
        (ended(), store.revocations_after(0).await.unwrap().len()),
        ((true, true), 2)
    );
    let over = kept[0].expires.after(Duration::from_secs(1));
    store.prune(over).await.unwrap();
    access.running.forget_revocations(over);
    assert_eq!(
        (ended(), store.revocations_after(0).await.unwrap().len()),
        ((false, false), 0)
    );
    access.upkeep.follower.follow(over).await.unwrap();
    assert_eq!(ended(), (false, false), "it does not come back");
}
