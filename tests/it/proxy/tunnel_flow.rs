//! The flow of bytes through tunnels: both directions at once, back-pressure, and the end of
//! tunnels that break.

use std::time::Duration;

use tokio::time::Instant;

use super::tunnels::{open_at, open_with, switched, upgrade};
use crate::support::origin::Origin;
use crate::support::portcullis::Portcullis;
use crate::support::raw::Connection;
use crate::support::switcher::{Manner, Switcher};

/// More than all buffers on the way hold together.
const LARGE: usize = 24 << 20;

/// Waits until the proxy handles that many requests.
async fn until_in_flight(proxy: &Portcullis, requests: usize) {
    let deadline = Instant::now() + Duration::from_secs(20);
    let line = format!("portcullis_requests_in_flight {requests}");
    while !proxy.metrics().await.lines().any(|one| one == line) {
        assert!(
            Instant::now() < deadline,
            "not {requests} requests in flight"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn both_directions_of_a_tunnel_move_at_once() {
    let origin = Switcher::start(Manner::Echo).await;
    let (proxy, _idp) = open_at(&origin.url(), "").await;
    let mut connection = switched(&proxy, &upgrade("POST", "tcp", &[])).await;
    let bytes: Vec<u8> = (0..LARGE).map(|at| (at / 7) as u8).collect();
    assert!(
        connection.exchange_bytes(&bytes).await == bytes,
        "other bytes came back"
    );
}

#[tokio::test]
async fn tunnel_survives_a_pause_of_its_reader() {
    let origin = Switcher::start(Manner::Late).await;
    let (proxy, _idp) = open_at(&origin.url(), r#"read_timeout = "1s""#).await;
    let mut connection = switched(&proxy, &upgrade("POST", "tcp", &[])).await;
    let bytes = vec![1; LARGE];
    assert!(
        connection.exchange_bytes(&bytes).await == bytes,
        "other bytes came back"
    );

    let origin = Switcher::start(Manner::Burst(LARGE)).await;
    let limits = "[limits]\nbody_timeout = \"1s\"";
    let (proxy, _idp) = open_with(&format!("\"{}\"", origin.url()), "", limits).await;
    let mut connection = switched(&proxy, &upgrade("POST", "tcp", &[])).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(connection.bytes(LARGE).await.iter().all(|byte| *byte == 7));
    connection.finish().await;
    until_in_flight(&proxy, 0).await;
}

#[tokio::test]
async fn tunnel_to_a_client_that_never_reads_ends() {
    let origin = Switcher::start(Manner::Burst(LARGE)).await;
    let (proxy, _idp) = open_at(&origin.url(), r#"tunnel_timeout = "2s""#).await;
    let connection = switched(&proxy, &upgrade("POST", "tcp", &[])).await;
    until_in_flight(&proxy, 1).await;
    until_in_flight(&proxy, 0).await;
    proxy
        .logged(0, &["closed a tunnel that was idle", "Open"])
        .await;
    drop(connection);
}

#[tokio::test]
async fn tunnel_that_the_origin_breaks_is_reported() {
    let origin = Switcher::start(Manner::Reset).await;
    let (proxy, _idp) = open_at(&origin.url(), "").await;
    let mut connection = switched(&proxy, &upgrade("POST", "tcp", &[])).await;
    connection.send("a").await;
    assert!(connection.is_closed().await);
    proxy
        .logged(0, &["failed to proxy a request", "Open", "Upstream"])
        .await;
    let metrics = proxy.metrics().await;
    assert!(
        metrics
            .lines()
            .any(|line| line == "portcullis_upstream_errors_total{kind=\"closed\"} 1"),
        "{metrics}"
    );
    until_in_flight(&proxy, 0).await;
}

#[tokio::test]
async fn tunnels_go_to_origins_that_speak_http1() {
    let (origin, other) = (Switcher::start(Manner::Echo).await, Origin::start().await);
    let origins = format!("[\"{}\", \"{}\"]", origin.url(), other.url("h2c"));
    let (proxy, _idp) = open_with(&origins, "", "").await;
    for _ in 0..4 {
        switched(&proxy, &upgrade("GET", "websocket", &[])).await;
    }
    other.assert_untouched("upgrades");
}

#[tokio::test]
async fn request_body_follows_an_early_answer_to_an_upgrade() {
    let origin = Switcher::start(Manner::Early).await;
    let (proxy, _idp) = open_at(&origin.url(), "").await;
    let mut connection = Connection::plain(proxy.address).await;
    connection
        .send(upgrade("POST", "tcp", &["Content-Length: 10"]) + "first")
        .await;
    let head = connection.response_head().await.unwrap();
    assert_eq!(head.status, 200);
    connection.send("after").await;
    let body = connection.bytes(12).await;
    assert_eq!(String::from_utf8_lossy(&body), "2\r\n10\r\n0\r\n\r\n");
}

#[tokio::test]
async fn client_that_leaves_an_answer_to_an_upgrade_is_noticed() {
    let origin = Switcher::start(Manner::Fixed(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    ))
    .await;
    let (proxy, _idp) = open_at(&origin.url(), "").await;
    let mut connection = Connection::plain(proxy.address).await;
    connection.send(upgrade("GET", "websocket", &[])).await;
    assert_eq!(connection.response_head().await.unwrap().status, 200);
    drop(connection);
    until_in_flight(&proxy, 0).await;
}
