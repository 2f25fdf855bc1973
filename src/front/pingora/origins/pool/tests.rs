use pingora::prelude::ErrorType;
use tokio::runtime::Handle;

use super::*;
use crate::control::Vital;

async fn pool(hosts: &[&str]) -> Arc<OriginPool> {
    let target = |host: &&str| Target {
        host: (*host).to_owned(),
        port: 8080,
        protocol: Protocol::Http,
    };
    let settings = PoolSettings {
        application: "Wiki".to_owned(),
        targets: hosts.iter().map(target).collect(),
        connect_timeout: Duration::from_secs(5),
        read_timeout: Duration::from_secs(5),
        idle_timeout: Duration::from_secs(5),
        tunnel_timeout: Duration::from_secs(5),
        upgrades: Vec::new(),
        host_header: None,
        tls_verify: true,
        tls_server_name: None,
        trust: None,
        health_check: None,
        max_body: None,
    };
    OriginPool::start(
        settings,
        &OriginContext::default(),
        &Background::new(Handle::current(), Vital::new().0),
    )
}

fn next(pool: &OriginPool, attempts: &mut Attempts) -> String {
    let peer = pool.next(attempts).expect("a peer");
    peer._address
        .as_inet()
        .expect("an IP address")
        .ip()
        .to_string()
}

fn refused() -> Box<Error> {
    Error::new(ErrorType::ConnectRefused)
}

/// Returns the addresses that one request tries if all of them refuse.
fn all_tried(pool: &OriginPool) -> Vec<String> {
    let mut attempts = Attempts::default();
    let mut tried = vec![next(pool, &mut attempts)];
    while pool.failed(&mut attempts, &refused()) {
        tried.push(next(pool, &mut attempts));
    }
    tried
}

#[tokio::test]
async fn every_address_is_tried_once_and_members_stay_together() {
    let pool = pool(&["localhost", "10.0.0.1", "10.0.0.2"]).await;
    for _ in 0..20 {
        let tried = all_tried(&pool);
        let mut sorted = tried.clone();
        sorted.sort();
        assert_eq!(
            sorted,
            ["10.0.0.1", "10.0.0.2", "127.0.0.1", "::1"],
            "{tried:?}"
        );
        let places = ["127.0.0.1", "::1"].map(|one| tried.iter().position(|ip| ip == one).unwrap());
        assert_eq!(
            places[0].abs_diff(places[1]),
            1,
            "alternatives of one name: {tried:?}"
        );
    }
}

#[tokio::test]
async fn address_that_works_is_tried_first() {
    let pool = pool(&["localhost"]).await;
    let mut attempts = Attempts::default();
    assert_eq!(next(&pool, &mut attempts), "127.0.0.1");
    assert!(pool.failed(&mut attempts, &refused()));
    assert_eq!(next(&pool, &mut attempts), "::1");
    pool.connected(&attempts, false);
    for _ in 0..3 {
        assert_eq!(next(&pool, &mut Attempts::default()), "::1");
    }
}

#[tokio::test]
async fn time_for_a_connection_is_shared_by_the_addresses() {
    let pool = pool(&["localhost"]).await;
    let peer = pool.next(&mut Attempts::default()).unwrap();
    assert_eq!(
        peer.options.total_connection_timeout,
        Some(Duration::from_millis(2500))
    );
}

#[tokio::test]
async fn unreachable_member_is_left_out_by_later_requests() {
    let pool = pool(&["10.0.0.1", "10.0.0.2"]).await;
    let mut attempts = Attempts::default();
    while next(&pool, &mut attempts) != "10.0.0.1" {
        attempts = Attempts::default();
    }
    assert!(pool.failed(&mut attempts, &refused()));
    assert_eq!(next(&pool, &mut attempts), "10.0.0.2");
    for _ in 0..10 {
        assert_eq!(next(&pool, &mut Attempts::default()), "10.0.0.2");
    }
    // The exclusion is over: one request tries it, and the others wait for the result.
    pool.members[0].set_aside_until.store(1, Ordering::Relaxed);
    let tried: Vec<_> = (0..10)
        .map(|_| next(&pool, &mut Attempts::default()))
        .collect();
    assert_eq!(
        tried.iter().filter(|ip| *ip == "10.0.0.1").count(),
        1,
        "{tried:?}"
    );
    attempts.current = Some((0, "10.0.0.1:8080".parse().unwrap()));
    pool.connected(&attempts, false);
    let tried: Vec<_> = (0..10)
        .map(|_| next(&pool, &mut Attempts::default()))
        .collect();
    assert_eq!(
        tried.iter().filter(|ip| *ip == "10.0.0.1").count(),
        5,
        "{tried:?}"
    );
}

#[tokio::test]
async fn members_that_are_all_set_aside_are_tried_nevertheless() {
    let several = pool(&["10.0.0.1", "10.0.0.2"]).await;
    for _ in 0..3 {
        assert_eq!(all_tried(&several).len(), 2);
    }
    let single = pool(&["10.0.0.1"]).await;
    for _ in 0..3 {
        assert_eq!(all_tried(&single), ["10.0.0.1"]);
    }
}

#[tokio::test]
async fn only_unreachable_origins_are_set_aside() {
    let pool = pool(&["10.0.0.1", "10.0.0.2"]).await;
    for kind in [
        ErrorType::InternalError,
        ErrorType::SocketError,
        ErrorType::H2Error,
        ErrorType::BindError,
    ] {
        let mut attempts = Attempts::default();
        let first = next(&pool, &mut attempts);
        assert!(pool.failed(&mut attempts, &Error::new(kind.clone())));
        assert_eq!(
            next(&pool, &mut attempts),
            first,
            "{kind:?}: nothing is known against the origin"
        );
        assert!(pool.failed(&mut attempts, &Error::new(kind.clone())));
        assert_ne!(next(&pool, &mut attempts), first, "{kind:?}");
        assert!(!pool.failed(&mut attempts, &Error::new(kind)));
    }
    assert!(
        pool.members
            .iter()
            .all(|member| member.set_aside_until.load(Ordering::Relaxed) == 0)
    );
}

#[tokio::test]
async fn closed_kept_connection_is_repeated_at_the_same_address() {
    let pool = pool(&["10.0.0.1", "10.0.0.2"]).await;
    let mut attempts = Attempts::default();
    let first = next(&pool, &mut attempts);
    pool.connected(&attempts, true);
    assert_eq!(next(&pool, &mut attempts), first);
}

#[tokio::test]
async fn unhealthy_members_get_nothing() {
    let pool = pool(&["10.0.0.1", "10.0.0.2"]).await;
    pool.observe(&pool.members[0], Err("status 503".to_owned()));
    for _ in 0..5 {
        assert_eq!(next(&pool, &mut Attempts::default()), "10.0.0.2");
    }
    pool.observe(&pool.members[1], Err("status 503".to_owned()));
    assert!(pool.next(&mut Attempts::default()).is_none());
    pool.observe(&pool.members[0], Ok(()));
    assert_eq!(next(&pool, &mut Attempts::default()), "10.0.0.1");
}
