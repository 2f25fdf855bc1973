//! Several origins, several addresses of one, their health, and the log of their failures.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::support::certs::Certificate;
use crate::support::origin::Origin;
use crate::support::portcullis::{Portcullis, find, free_address};
use crate::support::raw::{self, Connection};
use crate::support::{self, Idp, open_application};

/// An application without a login at `NAME.localhost`.
fn open(name: &str, origins: &[&str], keys: &str) -> String {
    open_application(name, &format!("{origins:?}"), keys)
}

async fn before(rest: &str) -> (Portcullis, Idp) {
    support::before(rest, |_| ()).await
}

async fn status(proxy: &Portcullis, name: &str, path: &str) -> u16 {
    send(proxy, "GET", name, path, "").await
}

async fn send(proxy: &Portcullis, method: &str, name: &str, path: &str, body: &str) -> u16 {
    let length = format!("Content-Length: {}", body.len());
    let request = raw::request(method, &format!("{name}.localhost"), path, &[&length]) + body;
    raw::exchange(proxy.address, request)
        .await
        .expect("a response")
        .status
}

async fn until(proxy: &Portcullis, name: &str, wanted: u16) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while status(proxy, name, "/").await != wanted {
        assert!(
            Instant::now() < deadline,
            "`{name}` does not come to {wanted}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Sends requests at once and expects 200 for each.
async fn all_succeed(proxy: &Portcullis, name: &str, count: usize) {
    let mut running = JoinSet::new();
    for i in 0..count {
        let (address, host) = (proxy.address, format!("{name}.localhost"));
        running.spawn(async move {
            let request = raw::request("GET", &host, &format!("/{i}"), &[]);
            raw::exchange(address, request)
                .await
                .map(|answer| answer.status)
        });
    }
    let failed: Vec<_> = running
        .join_all()
        .await
        .into_iter()
        .filter(|status| *status != Some(200))
        .collect();
    assert!(
        failed.is_empty(),
        "{} of {count} failed: {failed:?}",
        failed.len()
    );
}

/// A listener on which TLS never gets anywhere: it closes connections, or is silent.
async fn broken_tls(silent: bool) -> (SocketAddr, std::sync::Arc<std::sync::atomic::AtomicUsize>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let count = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = std::sync::Arc::clone(&count);
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            if silent {
                kept.push(stream);
            }
        }
    });
    (address, count)
}

#[tokio::test]
async fn localhost_is_reached_at_either_address() {
    let Ok(listener) = TcpListener::bind("[::1]:0").await else {
        return eprintln!("skipped: no IPv6 here");
    };
    let address = listener.local_addr().unwrap();
    drop(listener);
    let (six, four) = (Origin::start_at(address).await, Origin::start().await);
    let applications = [
        open(
            "six",
            &[&format!("http://localhost:{}", six.address.port())],
            "",
        ),
        open(
            "four",
            &[&format!("http://app.localhost:{}", four.address.port())],
            "",
        ),
    ];
    let (proxy, _idp) = before(&applications.concat()).await;
    for name in ["six", "four"] {
        for i in 0..10 {
            assert_eq!(
                status(&proxy, name, &format!("/{i}")).await,
                200,
                "{name} {i}"
            );
        }
    }
    assert_eq!((six.seen().len(), four.seen().len()), (10, 10));
}

#[tokio::test]
async fn refusing_member_fails_no_request() {
    let (alive, dead) = (Origin::start().await, free_address());
    let application = open("app", &[&alive.url("http"), &format!("http://{dead}")], "");
    let (proxy, _idp) = before(&application).await;
    for _ in 0..4 {
        all_succeed(&proxy, "app", 60).await;
    }
    let line = proxy.logged(0, &["setting it aside"]).await;
    assert!(
        line.contains("\"app\"") && line.contains(&dead.to_string()) && line.contains("refused"),
        "{line}"
    );
    let lines = proxy
        .log()
        .lines()
        .filter(|line| line.contains("setting it aside"))
        .count();
    assert!(lines <= 2, "{lines} lines about one origin");
}

#[tokio::test]
async fn member_without_tls_is_excluded() {
    let certificate = Certificate::new(&["127.0.0.1"]);
    let alive = Origin::tls(&certificate).await;
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, &certificate.pem).unwrap();
    let (closing, attempts) = broken_tls(false).await;
    let (silent, silent_attempts) = broken_tls(true).await;
    let settings = format!("origin_settings = {{ ca = {ca:?}, connect_timeout = \"1s\" }}");
    let applications = [
        open(
            "closing",
            &[&format!("https://{closing}"), &alive.url("https")],
            &settings,
        ),
        open(
            "silent",
            &[&format!("https://{silent}"), &alive.url("https")],
            &settings,
        ),
    ];
    let (proxy, _idp) = before(&applications.concat()).await;
    for i in 0..20 {
        assert_eq!(
            status(&proxy, "closing", &format!("/{i}")).await,
            200,
            "{i}"
        );
    }
    let count = attempts.load(std::sync::atomic::Ordering::Relaxed);
    assert!((1..=5).contains(&count), "{count} attempts of 20 requests");
    all_succeed(&proxy, "silent", 40).await;
    assert!(
        silent_attempts.load(std::sync::atomic::Ordering::Relaxed) > 0,
        "it was tried"
    );
}

#[tokio::test]
async fn last_member_is_never_excluded() {
    let (first, second) = (free_address(), free_address());
    let application = open(
        "app",
        &[&format!("http://{first}"), &format!("http://{second}")],
        "",
    );
    let (proxy, _idp) = before(&application).await;
    for _ in 0..3 {
        assert_eq!(
            status(&proxy, "app", "/").await,
            502,
            "tried and failed, not 503"
        );
    }
    let _alive = Origin::start_at(second).await;
    assert_eq!(
        status(&proxy, "app", "/").await,
        200,
        "it is tried again before the time is over"
    );
}

#[tokio::test]
async fn responses_exclude_no_member() {
    let (first, second) = (Origin::start().await, Origin::start().await);
    let (proxy, _idp) = before(&open("app", &[&first.url("http"), &second.url("http")], "")).await;
    for path in [
        "/origin/close",
        "/origin/malformed",
        "/origin/status/500",
        "/origin/status/503",
    ] {
        for _ in 0..4 {
            send(&proxy, "POST", "app", path, "x").await;
        }
        first.forget();
        second.forget();
        for i in 0..10 {
            assert_eq!(status(&proxy, "app", &format!("/{i}")).await, 200, "{path}");
        }
        assert_eq!(
            (first.seen().len(), second.seen().len()),
            (5, 5),
            "after {path}"
        );
    }
}

#[tokio::test]
async fn post_is_never_sent_twice() {
    let (first, second) = (Origin::start().await, Origin::start().await);
    let (proxy, _idp) = before(&open("app", &[&first.url("http"), &second.url("http")], "")).await;
    let posts =
        || [&first, &second].map(|o| o.seen().iter().filter(|seen| seen.method == "POST").count());
    for path in ["/origin/close", "/origin/malformed", "/origin/close-once"] {
        // From the second request on there are connections that were kept.
        for _ in 0..4 {
            assert_eq!(status(&proxy, "app", "/").await, 200);
        }
        assert_eq!(
            send(&proxy, "POST", "app", path, "a payment").await,
            502,
            "{path}"
        );
        assert_eq!(posts().iter().sum::<usize>(), 1, "{path} was sent once");
        first.forget();
        second.forget();
    }
}

#[tokio::test]
async fn repeated_put_counts_its_body_once() {
    let origin = Origin::start().await;
    let (proxy, _idp) = before(&open("app", &[&origin.url("http")], "max_body = \"64KiB\"")).await;
    assert_eq!(status(&proxy, "app", "/").await, 200);
    let body = "x".repeat(40 * 1024);
    assert_eq!(
        send(&proxy, "PUT", "app", "/origin/close-once", &body).await,
        200,
        "idempotent, on a kept connection"
    );
    assert_eq!(
        origin
            .seen()
            .iter()
            .filter(|seen| seen.method == "PUT")
            .count(),
        2
    );
}

#[tokio::test]
async fn failure_of_an_origin_is_logged_with_its_circumstances() {
    let certificate = Certificate::new(&["127.0.0.1"]);
    let (untrusted, plain, dead) = (
        Origin::tls(&certificate).await,
        Origin::start().await,
        free_address(),
    );
    let applications = [
        open("Dead", &[&format!("http://{dead}")], ""),
        open("Untrusted", &[&untrusted.url("https")], ""),
        open(
            "Broken",
            &[&plain.url("http")],
            "origin_settings = { read_timeout = \"1s\" }",
        ),
        open("Nowhere", &["http://name.invalid"], ""),
    ];
    let (mut proxy, _idp) = before(&applications.concat()).await;
    for (name, path, code, origin, causes) in [
        (
            "Dead",
            "/page",
            502,
            dead.to_string(),
            ["the connection was refused", "os error 111"],
        ),
        (
            "Untrusted",
            "/page",
            502,
            untrusted.address.to_string(),
            ["the TLS handshake failed", "UnknownIssuer"],
        ),
        (
            "Broken",
            "/origin/close",
            502,
            plain.address.to_string(),
            ["closed", ""],
        ),
        (
            "Broken",
            "/origin/hang",
            504,
            plain.address.to_string(),
            ["`read_timeout`", ""],
        ),
        (
            "Broken",
            "/origin/malformed",
            502,
            plain.address.to_string(),
            ["malformed", ""],
        ),
    ] {
        let host = format!("{name}.localhost");
        let target = format!("{path}?code=a-secret-of-the-client");
        let request = raw::request("POST", &host, &target, &["Content-Length: 0"]);
        let answer = raw::exchange(proxy.address, request).await.unwrap();
        assert_eq!(answer.status, code, "{name}{path}");
        let id = answer
            .headers
            .one("cf-ray")
            .expect("the id that is on the page")
            .to_owned();
        let line = proxy.logged(0, &["WARN", &id]).await;
        let event: serde_json::Value = serde_json::from_str(&line).unwrap();
        let told = ["application", "path", "origin", "address"]
            .map(|key| find(&event, key).unwrap_or_default());
        assert_eq!(told, [name, path, &origin, &origin], "{line}");
        assert_eq!(
            find(&event, "host").unwrap().to_lowercase(),
            host.to_lowercase(),
            "{line}"
        );
        let cause = find(&event, "cause").unwrap();
        assert!(
            causes.iter().all(|word| cause.contains(word)),
            "{name}{path}: {cause}"
        );
    }
    assert_eq!(status(&proxy, "Nowhere", "/").await, 503);
    let line = proxy.logged(0, &["WARN", "cannot resolve"]).await;
    assert!(line.contains("name.invalid"), "{line}");
    proxy.stop().await;
    let log = proxy.log();
    assert_eq!(
        log.lines()
            .filter(|line| line.contains("cannot resolve"))
            .count(),
        1,
        "{log}"
    );
    for secret in ["a-cookie-of-the-origin", "a-secret-of-the-client"] {
        assert!(!log.contains(secret), "`{secret}` in the log");
    }
}

#[tokio::test]
async fn health_is_judged_by_the_expected_status() {
    let origin = Origin::start().await;
    let check = |path: &str, more: &str| {
        format!(
            "origin_settings = {{ health_check = {{ path = \"{path}\", interval = \"1s\"{more} }} }}"
        )
    };
    let http = origin.url("http");
    let applications = [
        open("no-content", &[&http], &check("/origin/status/204", "")),
        open("unauthorized", &[&http], &check("/origin/status/401", "")),
        open(
            "expected",
            &[&http],
            &check("/origin/status/401", ", expect = 401"),
        ),
        open(
            "several",
            &[&http],
            &check("/origin/status/302", ", expect = [200, 302]"),
        ),
        open(
            "unexpected",
            &[&http],
            &check("/origin/status/200", ", expect = [204]"),
        ),
        open("two", &[&origin.url("h2c")], &check("/healthz", "")),
        open(
            "opens",
            &[&http],
            "origin_settings = { health_check = { interval = \"1s\" } }",
        ),
    ];
    let (proxy, _idp) = before(&applications.concat()).await;
    until(&proxy, "unauthorized", 503).await;
    until(&proxy, "unexpected", 503).await;
    // By now every application was checked once; another round must not change the result.
    origin
        .until_more("/healthz", origin.count("/healthz"))
        .await;
    for name in ["no-content", "expected", "several", "two", "opens"] {
        assert_eq!(status(&proxy, name, "/").await, 200, "{name}");
    }
    let checked = origin
        .seen()
        .into_iter()
        .find(|seen| seen.target == "/healthz")
        .expect("a check");
    assert_eq!(checked.version, "HTTP/2", "in the protocol of requests");
    let line = proxy
        .logged(0, &["WARN", "unauthorized", "health check"])
        .await;
    assert!(
        line.contains("status 401") && line.contains(&origin.address.to_string()),
        "{line}"
    );
    assert!(!proxy.log().contains("Backend {"), "a dump in the log");
}

#[tokio::test]
async fn health_changes_are_logged_with_the_application() {
    let address = free_address();
    let check = "origin_settings = { health_check = { path = \"/\", interval = \"1s\" } }";
    let (proxy, _idp) = before(&open("app", &[&format!("http://{address}")], check)).await;
    until(&proxy, "app", 503).await;
    let line = proxy.logged(0, &["WARN", "fails its health check"]).await;
    assert!(
        line.contains("\"app\"") && line.contains(&address.to_string()) && line.contains("refused"),
        "{line}"
    );
    let _origin = Origin::start_at(address).await;
    until(&proxy, "app", 200).await;
    let line = proxy
        .logged(0, &["INFO", "passes its health check again"])
        .await;
    assert!(
        line.contains("\"app\"") && line.contains(&address.to_string()),
        "{line}"
    );
}

#[tokio::test]
async fn certificate_of_an_address_is_verified_by_the_server_name() {
    let certificate = Certificate::new(&["intern.corp.test"]);
    let origin = Origin::tls(&certificate).await;
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, &certificate.pem).unwrap();
    let url = origin.url("https");
    let with = |more: &str| format!("origin_settings = {{ ca = {ca:?}{more} }}");
    let check = ", health_check = { path = \"/healthz\", interval = \"1s\" }";
    let applications = [
        open(
            "named",
            &[&url],
            &with(&format!(", tls_server_name = \"intern.corp.test\"{check}")),
        ),
        open(
            "other",
            &[&url],
            &with(", tls_server_name = \"other.corp.test\""),
        ),
        open("none", &[&url], &with("")),
    ];
    let (proxy, _idp) = before(&applications.concat()).await;
    // Twice, so that no application gets a connection of another one.
    for _ in 0..2 {
        for (name, code) in [("named", 200), ("other", 502), ("none", 502)] {
            assert_eq!(status(&proxy, name, "/").await, code, "{name}");
        }
    }
    origin.until_more("/healthz", 1).await;
    assert_eq!(
        status(&proxy, "named", "/").await,
        200,
        "the health check uses the name, too"
    );
}

#[tokio::test]
async fn unresolved_names_delay_no_start_and_no_request() {
    let origin = Origin::start().await;
    let mut names: Vec<_> = (0..10)
        .map(|i| {
            open(
                &format!("gone{i}"),
                &[&format!("http://gone{i}.invalid")],
                "",
            )
        })
        .collect();
    names.push(open("app", &[&origin.url("http")], ""));
    let (proxy, _idp) = before(&names.concat()).await;
    assert_eq!(status(&proxy, "app", "/").await, 200);
    let mut connection = Connection::plain(proxy.address).await;
    connection
        .send(raw::request("GET", "gone1.localhost", "/", &[]))
        .await;
    assert_eq!(connection.response("GET").await.unwrap().status, 503);
}
