//! Origins that are down or fail: retries, status codes and pages.

use std::time::{Duration, Instant};

use super::requests::{open_at, open_named};
use crate::support::origin::Origin;
use crate::support::portcullis::free_address;
use crate::support::raw::{self, Connection};
use crate::support::{World, before, eventually};

#[tokio::test]
async fn one_dead_origin_of_several_fails_no_request() {
    let (alive, also) = (Origin::start().await, Origin::start().await);
    let dead = free_address();
    let origins = format!(
        "[\"{}\", \"http://{dead}\", \"{}\"]",
        alive.url("http"),
        also.url("http")
    );
    let (proxy, _idp) = before(&open_at(&origins, ""), |_| ()).await;
    for i in 0..30 {
        let answer = raw::exchange(
            proxy.address,
            raw::request("GET", "open.localhost", &format!("/{i}"), &[]),
        )
        .await
        .unwrap();
        assert_eq!(answer.status, 200, "request {i}");
    }
    let (first, second) = (alive.seen().len(), also.seen().len());
    assert!(
        first >= 5 && second >= 5 && first + second >= 30,
        "{first} and {second}"
    );
}

#[tokio::test]
async fn origin_failure_has_a_status_and_a_page() {
    let dead = free_address();
    let (proxy, _idp) = before(&open_at(&format!("\"http://{dead}\""), ""), |_| ()).await;
    let answer = raw::exchange(
        proxy.address,
        raw::request("GET", "open.localhost", "/", &["Accept: text/html"]),
    )
    .await
    .unwrap();
    assert_eq!(answer.status, 502);
    assert!(answer.text().contains("<html"), "{}", answer.text());
    assert!(
        !answer.text().contains(&dead.to_string()),
        "the page names the origin's address"
    );

    let origin = Origin::start().await;
    let keys = r#"origin_settings = { connect_timeout = "1s", read_timeout = "1s" }"#;
    let (proxy, _idp) = before(
        &open_at(&format!("\"{}\"", origin.url("http")), keys),
        |_| (),
    )
    .await;
    for (path, status) in [("/origin/hang", 504), ("/origin/close", 502)] {
        let started = Instant::now();
        let answer = raw::exchange(
            proxy.address,
            raw::request("GET", "open.localhost", path, &[]),
        )
        .await
        .unwrap();
        assert_eq!(answer.status, status, "{path}");
        assert!(
            started.elapsed() < Duration::from_secs(15),
            "{path} took {:?}",
            started.elapsed()
        );
        assert!(answer.headers.lists("cache-control", "no-store"), "{path}");
    }
    let mut connection = Connection::plain(proxy.address).await;
    connection
        .send(raw::request("GET", "open.localhost", "/origin/half", &[]))
        .await;
    let head = connection.response_head().await.unwrap();
    assert_eq!(
        (head.status, head.headers.one("content-length")),
        (200, Some("100"))
    );
    assert_eq!(connection.bytes(10).await, b"half of it");
    assert!(
        connection.is_closed().await,
        "an answer cut short ends the connection"
    );
}

#[tokio::test]
async fn origin_failure_has_the_format_of_the_client() {
    let origin = Origin::start().await;
    let applications = [
        open_named("dead", &format!("http://{}", free_address()), ""),
        open_named("slow", &origin.url("http"), r#"read_timeout = "1s""#),
        open_named(
            "sick",
            &format!("http://{}", free_address()),
            r#"health_check = { path = "/healthz", interval = "1s" }"#,
        ),
        open_named("small", &origin.url("http"), "")
            .replace("origin_settings", "max_body = \"1KiB\"\norigin_settings"),
    ]
    .concat();
    let (proxy, _idp) = before(&applications, |_| ()).await;
    let ask = async |name: &str, path: &str, kind: &str, body: &str| {
        let lines = [kind.to_owned(), format!("Content-Length: {}", body.len())];
        let lines: Vec<_> = lines.iter().map(String::as_str).collect();
        let request = raw::request("POST", &format!("{name}.localhost"), path, &lines) + body;
        raw::exchange(proxy.address, request).await.unwrap()
    };
    eventually("an origin that is down is not found out", async || {
        ask("sick", "/", "Accept: text/html", "").await.status == 503
    })
    .await;
    let big = "a".repeat(2000);
    for (name, path, body, status, grpc, reason) in [
        ("dead", "/", "", 502, "14", "origin_unreachable"),
        ("sick", "/", "", 503, "14", "origin_unhealthy"),
        ("slow", "/origin/hang", "", 504, "4", "origin_too_slow"),
        ("small", "/", big.as_str(), 413, "8", "body_too_large"),
        ("dead", "/%zz", "", 400, "3", "path_ambiguous"),
        ("nobody", "/", "", 404, "12", "no_application"),
    ] {
        let answer = ask(name, path, "Content-Type: application/grpc", body).await;
        let told =
            ["grpc-status", "grpc-message", "content-type"].map(|field| answer.headers.one(field));
        assert_eq!(answer.status, 200, "{name}{path}");
        assert_eq!(
            told,
            [Some(grpc), Some(reason), Some("application/grpc")],
            "{name}{path}"
        );
        assert_eq!(
            (answer.text().as_str(), answer.headers.one("content-length")),
            ("", Some("0")),
            "{name}{path}"
        );

        let answer = ask(name, path, "Sec-Fetch-Mode: cors", body).await;
        assert_eq!(
            (answer.status, answer.headers.one("content-type")),
            (status, Some("application/json")),
            "{name}"
        );
        let (json, id) = (answer.json(), answer.headers.one("cf-ray").unwrap());
        assert_eq!(
            (json["reason"].as_str(), json["request_id"].as_str()),
            (Some(reason), Some(id)),
            "{name}{path}"
        );
        assert!(
            json["error"].is_string() && answer.headers.lists("cache-control", "no-store"),
            "{json}"
        );

        let answer = ask(name, path, "Accept: text/html", body).await;
        assert_eq!(answer.status, status, "{name}{path}");
        assert!(
            answer.text().contains("<html"),
            "{name}{path}: {}",
            answer.text()
        );
    }
    let tunnel = "CONNECT one.localhost:80 HTTP/1.1\r\nHost: dead.localhost\r\nContent-Type: application/grpc\r\n\r\n";
    let trace = raw::request(
        "TRACE",
        "dead.localhost",
        "/",
        &["Content-Type: application/grpc"],
    );
    for request in [tunnel, trace.as_str()] {
        let answer = raw::exchange(proxy.address, request).await;
        assert!(
            answer
                .as_ref()
                .is_none_or(|a| matches!(a.status, 400 | 405)),
            "{answer:?}"
        );
    }
}

#[tokio::test]
async fn request_with_a_started_body_is_not_retried() {
    let world = World::start().await;
    let lines = ["Content-Length: 5"];
    let request = raw::request("POST", "open.localhost", "/origin/close", &lines) + "hello";
    let answer = world.raw(request).await.unwrap();
    assert_eq!(answer.status, 502);
    assert_eq!(
        world.origin.seen().len(),
        1,
        "a POST that may have had its effect"
    );
}
