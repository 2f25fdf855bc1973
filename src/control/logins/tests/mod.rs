//! Two processes on one store, one of which has not followed the other's revocations yet.

mod clocks;

use std::path::Path;

use bytes::Bytes;
use http::{HeaderMap, Method, header};
use tempfile::TempDir;

use super::*;
use crate::config::{self, System};
use crate::control::signing_keys::tests::put_fixed_keys;
use crate::control::{Access, Clock, Resources, compile};
use crate::engine::{Decision, NodeCache, Origins, decide};
use crate::http_client::{HttpClient, Roots, Timeouts};
use crate::model::{
    CleanPath, Email, Group, Groups, HostPort, IdpId, IdpRef, RequestId, RequestView, UnixTime,
};
use crate::route::{Endpoint, HostRole};
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

/// A process without background tasks: it follows revocations only when the test does.
async fn process(store: Arc<dyn Store>) -> Arc<Access> {
    process_with_clock(store, Clock::default()).await
}

async fn process_with_clock(store: Arc<dyn Store>, clock: Clock) -> Arc<Access> {
    let config = config::parse(CONFIG, Path::new("portcullis.toml"), &System)
        .unwrap_or_else(|e| panic!("{e}"))
        .config;
    let http = HttpClient::new(&Roots::default(), Timeouts::default()).unwrap();
    let made = compile(&config, 1, Arc::new(NodeCache::new(100)), &http, |_| {
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
            clock,
        },
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

/// A user who returns from the provider after every revocation.
fn authenticated(email: &str) -> Authenticated {
    Authenticated {
        profile: profile(email),
        previous: None,
        began: u64::MAX,
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
        .endpoints
        .logins
        .log_in(
            authenticated("alice@example.com"),
            LoginMode::Start,
            &request(session),
        )
        .await
        .unwrap()
}

/// The organisation session as a browser sends it.
fn session(access: &Access, login: &Login) -> String {
    let cookie = access
        .endpoints
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

/// Redeems a hand-over that was made at that time.
async fn token(access: &Access, login: &Login, made: UnixTime) -> Option<String> {
    let (snapshot, now) = (access.snapshot(), access.running.now());
    let expires = now.after(std::time::Duration::from_secs(3600));
    access
        .endpoints
        .sessions
        .application_token(&snapshot.applications()[0], login.nonce, made, expires, now)
        .await
        .unwrap()
}

/// Returns `true` if a request with that token is forwarded.
async fn is_allowed(access: &Arc<Access>, token: &str) -> bool {
    let headers: HeaderMap = [(
        header::COOKIE,
        format!("CF_Authorization={token}").parse().unwrap(),
    )]
    .into_iter()
    .collect();
    let authority = HostPort::parse("app.localhost:8080").unwrap();
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
        match decide(&access.snapshot(), &view, access.running.now()) {
            Decision::Resolve(need) => access.resolve(need).await,
            Decision::Forward(_) => return true,
            _ => return false,
        }
    }
    false
}

/// Applies the changes of other processes.
async fn follow(access: &Access) {
    let now = access.running.now();
    access.upkeep.follower.follow(now).await.unwrap();
}

async fn log_out(access: &Access, login: &Login) {
    access
        .endpoints
        .logins
        .end_sessions(login.nonce, &login.identity.user, UnixTime::now())
        .await
        .unwrap();
}

#[tokio::test]
async fn token_of_a_logout_elsewhere_is_rejected_once_followed() {
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
    assert!(is_allowed(&two, &late).await);
    assert!(
        !is_allowed(&one, &late).await,
        "at the process of the logout"
    );
    follow(&two).await;
    assert!(!is_allowed(&two, &late).await);
    assert_eq!(
        token(&two, &telephone, made).await,
        None,
        "nor is a hand-over worth anything"
    );
    assert!(
        two.endpoints
            .sessions
            .organisation_session(&request(Some(&cookie)).headers, UnixTime::now())
            .await
            .unwrap()
            .is_none()
    );
    assert!(
        two.endpoints
            .sessions
            .in_browser(&request(Some(&cookie)))
            .await
            .unwrap()
            .found
            .is_empty()
    );

    let third = process(open(&dir).await).await;
    assert!(!is_allowed(&third, &late).await, "after a restart");
    let anew = log_in(&two, Some(&cookie)).await;
    let good = token(&two, &anew, UnixTime::now()).await.unwrap();
    for process in [&one, &two, &third] {
        assert!(
            is_allowed(process, &good).await,
            "a new login in the same second"
        );
    }
}

#[tokio::test]
async fn login_over_a_session_revoked_elsewhere_starts_a_new_one() {
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
        !is_allowed(&two, &old).await,
        "out at once, before the revocation is followed"
    );
    let good = token(&two, &anew, UnixTime::now()).await.unwrap();
    follow(&two).await;
    for process in [&one, &two] {
        assert!(is_allowed(process, &good).await && !is_allowed(process, &old).await);
    }

    // A refresh of the identity renews a session and never begins one.
    let desk = log_in(&one, None).await;
    let cookie = session(&two, &anew);
    log_out(&one, &desk).await;
    let renewed = two
        .endpoints
        .logins
        .log_in(
            authenticated("alice@example.com"),
            LoginMode::Refresh,
            &request(Some(&cookie)),
        )
        .await;
    assert!(matches!(renewed, Err(LoginError::Revoked)), "{renewed:?}");
}

#[tokio::test]
async fn login_over_a_session_keeps_its_revision() {
    let dir = tempfile::tempdir().unwrap();
    let stores: [Arc<dyn Store>; 2] = [Arc::new(MemoryStore::new()), open(&dir).await];
    for store in stores {
        let access = process(store).await;
        let first = log_in(&access, None).await;
        let early = token(&access, &first, UnixTime::now()).await.unwrap();
        let mallory = access
            .endpoints
            .logins
            .log_in(
                authenticated("mallory@example.com"),
                LoginMode::Start,
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
            is_allowed(&access, &early).await,
            "another user's logout does not matter"
        );
        let desk = log_in(&access, None).await;
        let late = token(&access, &second, UnixTime::now()).await.unwrap();
        log_out(&access, &desk).await;
        assert!(!is_allowed(&access, &early).await && !is_allowed(&access, &late).await);
        let after = log_in(&access, Some(&session(&access, &second))).await;
        let good = token(&access, &after, UnixTime::now()).await.unwrap();
        assert!(is_allowed(&access, &good).await && !is_allowed(&access, &late).await);
    }
}

#[tokio::test]
async fn record_update_ends_a_session_revoked_by_another_process() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (
        process(open(&dir).await).await,
        process(open(&dir).await).await,
    );
    let (desk, telephone) = (log_in(&one, None).await, log_in(&two, None).await);
    let good = token(&two, &telephone, UnixTime::now()).await.unwrap();
    assert!(is_allowed(&two, &good).await);
    log_out(&one, &desk).await;
    let groups = Arc::new(Identity {
        groups: Groups::Known(Vec::new()),
        ..Identity::clone(&telephone.identity)
    });
    let expires = UnixTime::now().after(std::time::Duration::from_secs(3600));
    assert!(
        two.endpoints
            .logins
            .records
            .update(telephone.nonce, groups, expires)
            .await
            .unwrap()
            .is_none()
    );
    assert!(!is_allowed(&two, &good).await);
}

#[tokio::test]
async fn deactivated_user_is_rejected_while_the_store_is_full() {
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
        .endpoints
        .logins
        .revoker
        .revoke_even_if_store_fails(login.nonce, &login.identity, UnixTime::now())
        .await;
    for token in &tokens {
        assert!(!is_allowed(&access, token).await, "every login of the user");
    }
    let refused = access
        .endpoints
        .logins
        .log_in(
            authenticated("alice@example.com"),
            LoginMode::Start,
            &request(None),
        )
        .await;
    assert!(
        matches!(refused, Err(LoginError::Store)),
        "the revocation would come after it: {refused:?}"
    );
    sqlx::query("DROP TRIGGER full")
        .execute(&database)
        .await
        .unwrap();
    let anew = log_in(&access, None).await;
    let good = token(&access, &anew, UnixTime::now()).await.unwrap();
    access
        .endpoints
        .logins
        .revoker
        .persist_revocations()
        .await
        .unwrap();
    follow(&access).await;
    assert!(is_allowed(&access, &good).await);
    for token in &tokens {
        assert!(!is_allowed(&access, token).await);
    }
}

#[tokio::test]
async fn logout_during_a_callback_covers_its_login() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (
        process(open(&dir).await).await,
        process(open(&dir).await).await,
    );
    let ends = UnixTime::now().after(std::time::Duration::from_secs(600));
    let log_in_since = async |process: &Access, began| {
        let user = Authenticated {
            began,
            ..authenticated("alice@example.com")
        };
        process
            .endpoints
            .logins
            .log_in(user, LoginMode::Start, &request(None))
            .await
    };
    let desk = log_in(&one, None).await;
    let began = two
        .endpoints
        .flows
        .use_up("flow", ends)
        .await
        .unwrap()
        .unwrap();
    log_out(&one, &desk).await;
    for process in [&one, &two] {
        let late = log_in_since(process, began).await;
        assert!(matches!(late, Err(LoginError::Revoked)), "{late:?}");
    }

    let began = two
        .endpoints
        .flows
        .use_up("next flow", ends)
        .await
        .unwrap()
        .unwrap();
    let next = log_in_since(&two, began).await.unwrap();
    let good = token(&two, &next, UnixTime::now()).await.unwrap();
    follow(&two).await;
    assert!(is_allowed(&two, &good).await);
}
