//! Graceful stops and upgrades, and the listener for health and metrics.

use std::time::{Duration, Instant};

use crate::support::raw;
use crate::support::{APPLICATIONS, Person, World};

/// With room for a slow machine.
const LESS_THAN_THE_GRACE_PERIOD: Duration = Duration::from_secs(30);

#[tokio::test]
async fn graceful_stop_finishes_running_requests() {
    let mut world = World::with(
        &format!("[server]\nlame_duck = \"0s\"\ngrace_period = \"50s\"\n{APPLICATIONS}"),
        |_| (),
    )
    .await;
    let mut idle = world.proxy.connect("open.localhost").await;
    idle.send("GET / HTTP/1.1\r\nHost: open.localhost\r\n\r\n")
        .await;
    idle.response("GET").await.unwrap();
    let mut connection = world.proxy.connect("open.localhost").await;
    connection
        .send(raw::request("GET", "open.localhost", "/origin/slow", &[]))
        .await;
    while world.origin.seen().len() < 2 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    world.proxy.signal("TERM");
    let answer = connection
        .response("GET")
        .await
        .expect("the request under way is answered");
    assert_eq!((answer.status, answer.text().as_str()), (200, "slow"));
    let status = world.proxy.ended(LESS_THAN_THE_GRACE_PERIOD).await;
    assert!(status.success(), "{status}");
    assert!(idle.is_closed().await);
}

#[tokio::test]
async fn graceful_stop_without_requests_is_quick() {
    let mut world = World::with(
        &format!("[server]\nlame_duck = \"0s\"\ngrace_period = \"50s\"\n{APPLICATIONS}"),
        |_| (),
    )
    .await;
    let mut idle = world.proxy.connect("open.localhost").await;
    idle.send("GET / HTTP/1.1\r\nHost: open.localhost\r\n\r\n")
        .await;
    idle.response("GET").await.unwrap();
    world.proxy.signal("TERM");
    let status = world.proxy.ended(LESS_THAN_THE_GRACE_PERIOD).await;
    assert!(status.success(), "{status}");
    assert!(idle.is_closed().await);
    let log = world.proxy.log();
    let said = |text: &str| log.lines().filter(|line| line.contains(text)).count();
    assert_eq!(
        (
            said("stopping: no new connections; waiting up to 50s"),
            said("\"stopped\"")
        ),
        (1, 1),
        "{log}"
    );
}

#[tokio::test]
async fn graceful_stop_ends_with_the_grace_period() {
    let mut world = World::with(
        &format!("[server]\nlame_duck = \"0s\"\ngrace_period = \"1s\"\n{APPLICATIONS}"),
        |_| (),
    )
    .await;
    let mut connection = world.proxy.connect("open.localhost").await;
    connection
        .send(raw::request("GET", "open.localhost", "/origin/hang", &[]))
        .await;
    while world.origin.seen().is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let started = Instant::now();
    world.proxy.signal("TERM");
    assert!(world.proxy.ended(Duration::from_secs(15)).await.success());
    assert!(started.elapsed() >= Duration::from_secs(1));
    assert!(world.proxy.log().contains("requests are cut off"));
}

#[tokio::test]
async fn upgrade_loses_no_request_and_no_session() {
    let applications = format!(
        "[server]\nupgrade_socket = \"upgrade.sock\"\ngrace_period = \"2s\"\n{APPLICATIONS}"
    );
    let mut world = World::with(&applications, |_| ()).await;
    let mut browser = world
        .signed_in(Person::alice(), "http://wiki.localhost/")
        .await;
    let address = world.proxy.address;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let visitor = tokio::spawn(async move {
        let mut answered = 0;
        while !*stopped.borrow() {
            let answer =
                raw::exchange(address, raw::request("GET", "open.localhost", "/", &[])).await;
            assert_eq!(
                answer.map(|a| a.status),
                Some(200),
                "after {answered} answered requests"
            );
            answered += 1;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        answered
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    world.proxy.upgrade().await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    stop.send(true).unwrap();
    assert!(visitor.await.unwrap() > 20);
    assert_eq!(browser.get("http://wiki.localhost/").await.status, 200);
}

#[tokio::test]
async fn health_and_metrics_have_their_own_listener() {
    let world = World::start().await;
    world
        .signed_in(Person::alice(), "http://wiki.localhost/")
        .await;
    world
        .raw(raw::request("GET", "wiki.localhost", "/", &[]))
        .await;
    let health = raw::exchange(
        world.proxy.metrics,
        raw::request("GET", "localhost", "/healthz", &[]),
    )
    .await
    .unwrap();
    assert_eq!(health.status, 200);
    let metrics = world.proxy.metrics().await;
    assert!(
        metrics.lines().any(|line| line.starts_with("portcullis_")),
        "{metrics}"
    );
    for private in ["alice", "eyJ", "/page"] {
        assert!(!metrics.contains(private), "`{private}` in the metrics");
    }
}
