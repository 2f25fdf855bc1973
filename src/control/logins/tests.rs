//! Two processes on one store, of which one has not followed the other's revocations yet.

use std::path::Path;

use bytes::Bytes;
use http::{HeaderMap, Method, header};
use tempfile::TempDir;

use super::*;
use crate::config::{self, System};
use crate::control::{Access, compile};
use crate::engine::{Decision, Known, Origins, decide};
use crate::http_client::{HttpClient, Roots, Timeouts};
use crate::login::HostRole;
use crate::model::{
    Authority, CleanPath, Email, Group, Groups, IdpId, IdpRef, RequestId, RequestView, UnixTime,
};
use crate::route::Endpoint;
use crate::store::{MemoryStore, SqliteStore, Store};

const CONFIG: &str = r#"
    [insecure]
    plain_http = true
    inline_secrets = true
    memory_store = true
    [[listen]]
    address = "127.0.0.1:8080"
    [team]
    domain = "access.localhost:8080"
    [[identity_providers]]
    id = "okta"
    name = "Okta"
    type = "okta"
    config = { client_id = "id", client_secret = "example-secret", okta_account = "https://dev-1.okta.com" }
    [[applications]]
    domain = "app.localhost"
    origin = "http://127.0.0.1:9"
    [[applications.policies]]
    name = "all"
    decision = "allow"
    include = [{ everyone = {} }]
"#;

/// A process: its tasks do not run, so that it follows revocations only when the test does.
async fn process(store: Arc<dyn Store>) -> Arc<Access> {
    let config = config::parse(CONFIG, Path::new("portcullis.toml"), &System)
        .unwrap_or_else(|e| panic!("{e}"))
        .config;
    let http = HttpClient::new(&Roots::default(), Timeouts::default()).unwrap();
    let made = compile(&config, 1, Arc::new(Known::new(100)), &http, |_| {
        Origins::new(())
    })
    .unwrap();
    Access::start(
        made.0,
        made.1,
        store,
        http,
        tokio::runtime::Handle::current(),
    )
    .await
    .unwrap()
}

async fn open(dir: &TempDir) -> Arc<dyn Store> {
    Arc::new(
        SqliteStore::open(&dir.path().join("portcullis.db"))
            .await
            .unwrap(),
    )
}

fn profile(email: &str) -> ProviderIdentity {
    ProviderIdentity {
        subject: email.to_owned(),
        email: Email::parse(email).unwrap(),
        name: None,
        idp: IdpRef {
            id: IdpId("okta".into()),
            kind: "okta".into(),
        },
        groups: Groups::Known(vec![Group {
            id: "1".into(),
            name: "Eng".into(),
        }]),
        groups_seen: None,
        groups_missing: None,
        amr: None,
        claims: serde_json::Map::new(),
        headers: Vec::new(),
        at: UnixTime::now(),
        ip: None,
        session_ends: None,
        id_token: None,
    }
}

/// A browser at the team domain, with a session or without.
fn request(session: Option<&str>) -> PortalRequest {
    let cookie = session.map(|session| (header::COOKIE, session.parse().unwrap()));
    PortalRequest {
        endpoint: Endpoint::Home,
        host_role: HostRole::Team,
        method: Method::GET,
        host: "access.localhost".to_owned(),
        path: "/".to_owned(),
        query: None,
        headers: cookie.into_iter().collect(),
        client: [127, 0, 0, 1].into(),
        body: Bytes::new(),
        id: RequestId::random(),
        now: UnixTime::now(),
        support: None,
    }
}

async fn log_in(access: &Access, session: Option<&str>) -> Login {
    access
        .logins
        .log_in(
            profile("alice@example.com"),
            None,
            Becomes::Session,
            &request(session),
        )
        .await
        .unwrap()
}

/// The organisation session as a browser sends it.
fn session(access: &Access, login: &Login) -> String {
    let cookie = access
        .sessions
        .organisation_cookie(login, UnixTime::now())
        .unwrap();
    cookie
        .to_str()
        .unwrap()
        .split(';')
        .next()
        .unwrap()
        .to_owned()
}

/// Redeems a hand-over that was made at that moment.
async fn token(access: &Access, login: &Login, made: UnixTime) -> Option<String> {
    let snapshot = access.snapshot();
    let now = UnixTime::now();
    let expires = now.after(std::time::Duration::from_secs(3600));
    access
        .sessions
        .application_token(&snapshot.applications()[0], login.nonce, made, expires, now)
        .await
        .unwrap()
}

/// Returns `true` if a request with that token gets to the application.
async fn is_let_in(access: &Arc<Access>, token: &str) -> bool {
    let headers: HeaderMap = [(
        header::COOKIE,
        format!("CF_Authorization={token}").parse().unwrap(),
    )]
    .into_iter()
    .collect();
    let authority = Authority::parse("app.localhost:8080").unwrap();
    for _ in 0..3 {
        let view = RequestView {
            method: &Method::GET,
            authority: authority.clone(),
            path: CleanPath::parse("/").unwrap(),
            query: None,
            headers: &headers,
            client: [127, 0, 0, 1].into(),
            tls: None,
        };
        match decide(&access.snapshot(), &view, UnixTime::now()) {
            Decision::Resolve(need) => access.resolve(need).await,
            Decision::Forward(_) => return true,
            _ => return false,
        }
    }
    false
}

async fn log_out(access: &Access, login: &Login) {
    access
        .logins
        .end_sessions(login.nonce, &login.identity.user, UnixTime::now())
        .await
        .unwrap();
}

#[tokio::test]
async fn token_issued_where_the_logout_is_not_known_ends_once_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (
        process(open(&dir).await).await,
        process(open(&dir).await).await,
    );
    let (desk, telephone) = (log_in(&one, None).await, log_in(&two, None).await);
    let cookie = session(&two, &telephone);
    log_out(&one, &desk).await;
    // The other process renews for another 500 ms at the most. A clock that runs ahead makes no
    // difference either.
    let made = UnixTime::now().after(std::time::Duration::from_secs(2));
    let late = token(&two, &telephone, made).await.unwrap();
    assert!(is_let_in(&two, &late).await);
    assert!(
        !is_let_in(&one, &late).await,
        "at the process of the logout"
    );
    two.logins
        .revoker
        .tail_revocations(UnixTime::now())
        .await
        .unwrap();
    assert!(!is_let_in(&two, &late).await);
    assert_eq!(
        token(&two, &telephone, made).await,
        None,
        "nor is a hand-over worth anything"
    );
    assert!(
        two.sessions
            .organisation_session(&request(Some(&cookie)).headers, UnixTime::now())
            .await
            .unwrap()
            .is_none()
    );
    assert!(
        two.sessions
            .signed_in(&request(Some(&cookie)))
            .await
            .unwrap()
            .found
            .is_empty()
    );

    let third = process(open(&dir).await).await;
    assert!(!is_let_in(&third, &late).await, "after a restart");
    let anew = log_in(&two, Some(&cookie)).await;
    let good = token(&two, &anew, UnixTime::now()).await.unwrap();
    for process in [&one, &two, &third] {
        assert!(
            is_let_in(process, &good).await,
            "a new login in the same second"
        );
    }
}

#[tokio::test]
async fn login_over_a_session_revoked_elsewhere_brings_nothing_back() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (
        process(open(&dir).await).await,
        process(open(&dir).await).await,
    );
    let (desk, telephone) = (log_in(&one, None).await, log_in(&two, None).await);
    let cookie = session(&two, &telephone);
    let old = token(&two, &telephone, UnixTime::now()).await.unwrap();
    log_out(&one, &desk).await;
    // Not followed here yet, so that the browser seems to go on with its session.
    let anew = log_in(&two, Some(&cookie)).await;
    assert_ne!(anew.nonce, telephone.nonce);
    assert!(
        !is_let_in(&two, &old).await,
        "out at once, before the revocation is followed"
    );
    let good = token(&two, &anew, UnixTime::now()).await.unwrap();
    two.logins
        .revoker
        .tail_revocations(UnixTime::now())
        .await
        .unwrap();
    for process in [&one, &two] {
        assert!(is_let_in(process, &good).await && !is_let_in(process, &old).await);
    }

    // A refresh of the identity renews a session and never begins one.
    let desk = log_in(&one, None).await;
    let cookie = session(&two, &anew);
    log_out(&one, &desk).await;
    let renewed = two
        .logins
        .log_in(
            profile("alice@example.com"),
            None,
            Becomes::Renewal,
            &request(Some(&cookie)),
        )
        .await;
    assert!(matches!(renewed, Err(NoLogin::Over)), "{renewed:?}");
}

#[tokio::test]
async fn login_over_a_session_keeps_its_place_in_the_order() {
    let dir = tempfile::tempdir().unwrap();
    let stores: [Arc<dyn Store>; 2] = [Arc::new(MemoryStore::new()), open(&dir).await];
    for store in stores {
        let access = process(store).await;
        let first = log_in(&access, None).await;
        let early = token(&access, &first, UnixTime::now()).await.unwrap();
        let mallory = access
            .logins
            .log_in(
                profile("mallory@example.com"),
                None,
                Becomes::Session,
                &request(None),
            )
            .await
            .unwrap();
        log_out(&access, &mallory).await;
        let second = log_in(&access, Some(&session(&access, &first))).await;
        assert_eq!(
            (second.nonce, second.identity.revision),
            (first.nonce, first.identity.revision)
        );
        assert!(
            is_let_in(&access, &early).await,
            "another user's logout does not matter"
        );
        let desk = log_in(&access, None).await;
        let late = token(&access, &second, UnixTime::now()).await.unwrap();
        log_out(&access, &desk).await;
        assert!(!is_let_in(&access, &early).await && !is_let_in(&access, &late).await);
        let after = log_in(&access, Some(&session(&access, &second))).await;
        let good = token(&access, &after, UnixTime::now()).await.unwrap();
        assert!(is_let_in(&access, &good).await && !is_let_in(&access, &late).await);
    }
}

#[tokio::test]
async fn update_of_a_record_ends_a_session_that_another_process_revoked() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (
        process(open(&dir).await).await,
        process(open(&dir).await).await,
    );
    let (desk, telephone) = (log_in(&one, None).await, log_in(&two, None).await);
    let good = token(&two, &telephone, UnixTime::now()).await.unwrap();
    assert!(is_let_in(&two, &good).await);
    log_out(&one, &desk).await;
    let groups = Arc::new(Identity {
        groups: Groups::Known(Vec::new()),
        ..Identity::clone(&telephone.identity)
    });
    let expires = UnixTime::now().after(std::time::Duration::from_secs(3600));
    assert!(
        two.logins
            .records
            .update(telephone.nonce, groups, expires)
            .await
            .unwrap()
            .is_none()
    );
    assert!(!is_let_in(&two, &good).await);
}

#[tokio::test]
async fn user_who_is_gone_is_out_before_the_store_knows_and_a_later_login_is_in() {
    let dir = tempfile::tempdir().unwrap();
    let access = process(open(&dir).await).await;
    let other = log_in(&access, None).await;
    let login = log_in(&access, None).await;
    let tokens = [
        token(&access, &login, UnixTime::now()).await.unwrap(),
        token(&access, &other, UnixTime::now()).await.unwrap(),
    ];
    let path = format!("sqlite://{}", dir.path().join("portcullis.db").display());
    let database = sqlx::SqlitePool::connect(&path).await.unwrap();
    let full = "CREATE TRIGGER full BEFORE INSERT ON revocations BEGIN SELECT RAISE(ROLLBACK, 'full'); END";
    sqlx::query(full).execute(&database).await.unwrap();
    access
        .logins
        .revoker
        .end_sessions_whatever(login.nonce, &login.identity, UnixTime::now())
        .await;
    for token in &tokens {
        assert!(!is_let_in(&access, token).await, "every login of the user");
    }
    let refused = access
        .logins
        .log_in(
            profile("alice@example.com"),
            None,
            Becomes::Session,
            &request(None),
        )
        .await;
    assert!(
        matches!(refused, Err(NoLogin::Store)),
        "the revocation would come after it: {refused:?}"
    );
    sqlx::query("DROP TRIGGER full")
        .execute(&database)
        .await
        .unwrap();
    let anew = log_in(&access, None).await;
    let good = token(&access, &anew, UnixTime::now()).await.unwrap();
    access.logins.revoker.persist_revocations().await.unwrap();
    access
        .logins
        .revoker
        .tail_revocations(UnixTime::now())
        .await
        .unwrap();
    assert!(is_let_in(&access, &good).await);
    for token in &tokens {
        assert!(!is_let_in(&access, token).await);
    }
}

#[tokio::test]
async fn clock_that_was_ahead_for_one_prune_forgets_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let stores: [Arc<dyn Store>; 2] = [Arc::new(MemoryStore::new()), open(&dir).await];
    for store in stores {
        let access = process(store).await;
        let (ended, login) = (log_in(&access, None).await, log_in(&access, None).await);
        let dead = token(&access, &ended, UnixTime::now()).await.unwrap();
        access
            .logins
            .revoker
            .end_session(ended.nonce, UnixTime::now())
            .await
            .unwrap();
        let good = token(&access, &login, UnixTime::now()).await.unwrap();
        let ahead = UnixTime::now().after(std::time::Duration::from_secs(62 * 24 * 3600));
        access.logins.revoker.prune(ahead).await;
        access.running.known().forget_identity(&login.nonce);
        access.logins.revoker.prune(UnixTime::now()).await;
        assert!(
            !is_let_in(&access, &dead).await,
            "a revoked session stays revoked"
        );
        assert!(is_let_in(&access, &good).await, "no identity is lost");
    }
}

#[tokio::test]
async fn revocation_by_a_clock_that_is_behind_outlives_the_tokens() {
    let dir = tempfile::tempdir().unwrap();
    let stores: [Arc<dyn Store>; 2] = [Arc::new(MemoryStore::new()), open(&dir).await];
    for store in stores {
        let access = process(Arc::clone(&store)).await;
        let behind = UnixTime(UnixTime::now().0 - 100 * 24 * 3600);
        let (first, second) = (log_in(&access, None).await, log_in(&access, None).await);
        access
            .logins
            .revoker
            .end_session(first.nonce, behind)
            .await
            .unwrap();
        access
            .logins
            .revoker
            .end_sessions_whatever(second.nonce, &second.identity, behind)
            .await;
        let token = token(&access, &second, UnixTime::now()).await;
        access.logins.revoker.prune(UnixTime::now()).await;
        let left = store.revocations_after(0).await.unwrap();
        assert_eq!(left.len(), 3, "{left:?}");
        let until = UnixTime::now().after(std::time::Duration::from_secs(60 * 24 * 3600));
        assert!(
            left.iter().all(|revoked| revoked.expires > until),
            "{left:?}"
        );
        assert!(token.is_none());
    }
}
