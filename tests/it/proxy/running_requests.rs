//! Requests that take long without being streams, and the trace of requests that are cut.

use std::time::Duration;

use crate::support::portcullis::find;
use crate::support::raw::{Connection, Response};
use crate::support::{APPLICATIONS, Person, World};

/// Longer than the interval in which running requests are judged, with room for a slow machine.
const INTERVAL: Duration = Duration::from_secs(12);
const LIMIT: Duration = Duration::from_secs(30);
const HOST: &str = "app.localhost";

async fn send(world: &World, token: &str, request: &str) -> Connection {
    let mut connection = world.proxy.connect(HOST).await;
    let (first, rest) = request.split_once("\r\n").unwrap();
    connection
        .send(format!(
            "{first}\r\nHost: {HOST}\r\nCookie: CF_Authorization={token}\r\n{rest}"
        ))
        .await;
    connection
}

fn ended(world: &World) -> Vec<serde_json::Value> {
    let events = world.proxy.events("access");
    events
        .into_iter()
        .filter(|event| find(event, "outcome") == Some("ended"))
        .collect()
}

/// A late answer, a response and an upload of known and small length.
struct Slow {
    late: Connection,
    response: Connection,
    upload: Connection,
}

impl Slow {
    async fn start(world: &World, token: &str) -> Self {
        let late = send(world, token, "GET /origin/slow?13 HTTP/1.1\r\n\r\n").await;
        // Its head comes with the end of the body.
        let response = send(world, token, "GET /origin/drip HTTP/1.1\r\n\r\n").await;
        let upload = send(
            world,
            token,
            "POST /origin/upload HTTP/1.1\r\nContent-Length: 4\r\n\r\nab",
        )
        .await;
        world.origin.uploaded(2).await;
        Self {
            late,
            response,
            upload,
        }
    }

    async fn late(mut self) -> Response {
        self.late.response("GET").await.unwrap()
    }
}

#[tokio::test]
async fn slow_requests_end_when_access_is_revoked() {
    let world = World::start().await;
    let mut alice = world
        .signed_in(Person::alice(), "http://app.localhost/")
        .await;
    let token = alice.cookie(HOST, "CF_Authorization").unwrap().to_owned();
    let mut slow = Slow::start(&world, &token).await;
    alice
        .open("http://access.localhost/cdn-cgi/access/logout")
        .await;
    tokio::time::sleep(INTERVAL).await;
    world.origin.release();
    let (bytes, _) = slow
        .response
        .rest_within(LIMIT)
        .await
        .expect("the response goes on");
    let text = String::from_utf8_lossy(&bytes);
    assert!(!text.contains("one"), "a part of the body: {text}");
    slow.upload.send("cd").await;
    let refused = slow.upload.response("POST").await;
    assert!(
        refused.is_none_or(|refused| refused.status == 403),
        "the upload went on"
    );
    let refused = slow.late().await;
    assert_eq!(refused.status, 403, "{}", refused.text());
    assert!(
        refused.text().contains("session_revoked"),
        "{}",
        refused.text()
    );

    let events = ended(&world);
    assert_eq!(events.len(), 3, "{events:?}");
    for event in &events {
        let told = (
            find(event, "reason"),
            find(event, "email"),
            find(event, "application"),
            find(event, "policy"),
        );
        assert_eq!(
            told,
            (
                Some("session_revoked"),
                Some("alice@example.com"),
                Some("App"),
                Some("members")
            )
        );
        assert!(
            find(event, "request_id").is_some()
                && find(event, "path").unwrap().starts_with("/origin/"),
            "{event}"
        );
    }
    let ids: Vec<_> = events
        .iter()
        .filter_map(|event| find(event, "request_id"))
        .collect();
    assert!(
        ids.iter().any(|id| refused.text().contains(id)),
        "the page has another id than {ids:?}: {}",
        refused.text()
    );
    let line = "portcullis_requests_cut_total{reason=\"session_revoked\"} 3";
    let metrics = world.proxy.metrics().await;
    assert!(metrics.lines().any(|one| one == line), "{metrics}");
}

#[tokio::test]
async fn slow_requests_continue_while_allowed() {
    let world = World::start().await;
    let alice = world
        .signed_in(Person::alice(), "http://app.localhost/")
        .await;
    let token = alice.cookie(HOST, "CF_Authorization").unwrap().to_owned();
    let mut slow = Slow::start(&world, &token).await;
    tokio::time::sleep(INTERVAL).await;
    for _ in 0..2 {
        world.origin.release();
    }
    assert_eq!(
        slow.response.response("GET").await.unwrap().text(),
        "onetwo"
    );
    slow.upload.send("cd").await;
    assert_eq!(slow.upload.response("POST").await.unwrap().text(), "4");
    assert_eq!(slow.late().await.text(), "slow");
    assert!(ended(&world).is_empty());
}

#[tokio::test]
async fn stream_ends_when_revocations_are_out_of_reach() {
    let world = World::with(APPLICATIONS, |config| config.store = "max_stale = \"10s\"").await;
    let alice = world
        .signed_in(Person::alice(), "http://app.localhost/")
        .await;
    let token = alice.cookie(HOST, "CF_Authorization").unwrap().to_owned();
    let mut stream = send(&world, &token, "GET /origin/stream HTTP/1.1\r\n\r\n").await;
    assert_eq!(stream.response_head().await.unwrap().status, 200);
    let database = world.proxy.database().await;
    sqlx::query("ALTER TABLE revocations RENAME TO elsewhere")
        .execute(&database)
        .await
        .unwrap();
    assert!(stream.closes_within(LIMIT + Duration::from_secs(10)).await);
    let events = ended(&world);
    assert_eq!(
        events
            .iter()
            .map(|event| find(event, "reason"))
            .collect::<Vec<_>>(),
        [Some("revocations_unavailable")]
    );
}

#[tokio::test]
async fn cut_tunnel_over_tls_has_no_clean_end() {
    let world = World::with(APPLICATIONS, |config| config.tls = true).await;
    world.idp.script(|script| script.person = Person::alice());
    let mut browser = world.browser();
    browser.open("https://app.test/").await;
    let token = browser.cookie("app.test", "CF_Authorization").unwrap();
    let lines = format!("Host: app.test\r\nCookie: CF_Authorization={token}\r\n");
    let mut tunnel = world.proxy.connect("app.test").await;
    tunnel
        .send(format!(
            "GET /origin/ws HTTP/1.1\r\n{lines}Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
        ))
        .await;
    assert_eq!(tunnel.response_head().await.unwrap().status, 101);
    browser
        .open("https://access.test/cdn-cgi/access/logout")
        .await;
    let (_, is_clean) = tunnel.rest_within(LIMIT).await.expect("the tunnel goes on");
    assert!(!is_clean, "a cut looks like an end");
}
