//! What people put in front of real origins: protocols up and down, streams, timeouts, several origins, a clean end.

use std::time::{Duration, Instant};

use crate::support::certs::Certificate;
use crate::support::origin::Origin;
use crate::support::portcullis::{Config, Portcullis, free_address};
use crate::support::raw::{self, Connection};
use crate::support::wire::Framing;
use crate::support::{APPLICATIONS, Idp, Person, World, at};

/// One open application at these origins, with further keys.
fn open_at(origins: &str, keys: &str) -> String {
    format!(
        r#"
[[applications]]
name = "Open"
domain = "open.$TLD"
origin = {origins}
{keys}
[[applications.policies]]
name = "all"
decision = "bypass"
include = [{{ everyone = {{}} }}]
"#
    )
}

/// A proxy before something that is not the usual origin.
async fn before(rest: &str, change: impl FnOnce(&mut Config)) -> (Portcullis, Idp) {
    let idp = Idp::start().await;
    let mut config = Config::new(&idp.issuer, rest);
    change(&mut config);
    (Portcullis::start(at(config, "")).await, idp)
}

fn get(host: &str, path: &str) -> http::Request<()> {
    http::Request::get(format!("https://{host}{path}")).body(()).unwrap()
}

#[tokio::test]
async fn https_down_in_both_versions_with_the_whole_login() {
    let world = World::with(APPLICATIONS, |config| config.tls = true).await;
    let mut browser = world.browser();
    let page = browser.open("https://wiki.test/page").await;
    assert_eq!((page.url.as_str(), page.response.status), ("https://wiki.test/page", 200), "{:#?}", browser.trail);
    assert_eq!(world.origin.last().headers.one("x-forwarded-proto"), Some("https"));
    for line in browser.given.iter().filter(|value| value.starts_with("ey")) {
        assert!(line.len() < 4000, "a cookie of {} bytes", line.len());
    }

    let token = browser.cookie("wiki.test", "CF_Authorization").unwrap();
    let mut connection = world.proxy.connect2("wiki.test").await;
    let mut request = get("wiki.test", "/two");
    // HTTP/2 clients may send each cookie as a line of its own.
    request.headers_mut().append("cookie", "theme=dark".parse().unwrap());
    request.headers_mut().append("cookie", format!("CF_Authorization={token}").parse().unwrap());
    let answer = connection.request(request, b"").await.unwrap();
    assert_eq!(answer.head.status, 200);
    let seen = world.origin.last();
    assert_eq!(seen.headers.one("cf-access-authenticated-user-email"), Some("alice@example.com"));
    assert_eq!(seen.cookies(), [("theme".to_owned(), "dark".to_owned())]);
    let answer = connection.request(get("wiki.test", "/no-cookie"), b"").await.unwrap();
    assert_eq!(answer.head.status, 302);
}

#[tokio::test]
async fn an_http2_authority_and_host_that_disagree_are_malformed() {
    let world = World::with(APPLICATIONS, |config| config.tls = true).await;
    let mut connection = world.proxy.connect2("open.test").await;
    let mut request = get("open.test", "/");
    request.headers_mut().insert("host", "wiki.test".parse().unwrap());
    let answer = connection.request(request, b"").await;
    assert!(answer.as_ref().map_or(true, |a| matches!(a.head.status.as_u16(), 400 | 421)), "{answer:?}");
    world.origin.assert_untouched("an authority and a host that disagree");
}

#[tokio::test]
async fn paths_over_http2_are_judged_as_over_http1() {
    let world = World::with(APPLICATIONS, |config| config.tls = true).await;
    for path in
        ["/public/../admin", "/public/%2e%2e/admin", "//admin", "/%61dmin", "/admin;x=1", "/public/%252e%252e/admin"]
    {
        let mut connection = world.proxy.connect2("app.test").await;
        let answer = connection.request(get("app.test", path), b"").await;
        assert!(answer.as_ref().map_or(true, |a| matches!(a.head.status.as_u16(), 302 | 400)), "{path}: {answer:?}");
        world.origin.assert_untouched(path);
    }
}

#[tokio::test]
async fn http2_up_without_tls_carries_the_identity() {
    let (idp, origin) = (Idp::start().await, Origin::start().await);
    let config = Config::new(&idp.issuer, APPLICATIONS);
    let proxy = Portcullis::start(at(config, &origin.url("h2c"))).await;
    let mut browser = crate::support::Browser::new(&proxy);
    assert_eq!(browser.open("http://wiki.localhost/x?y").await.response.status, 200, "{:#?}", browser.trail);
    let seen = origin.last();
    assert_eq!((seen.version, seen.target.as_str()), ("HTTP/2", "/x?y"));
    assert!(seen.assertion().is_some());
}

#[tokio::test]
async fn tls_up_is_verified() {
    let certificate = Certificate::new(&["localhost", "127.0.0.1"]);
    let origin = Origin::tls(&certificate).await;
    let folder = tempfile::tempdir().unwrap();
    let authority = folder.path().join("origin-ca.pem");
    std::fs::write(&authority, &certificate.pem).unwrap();
    let url = format!("\"{}\"", origin.url("https"));
    let trusting = open_at(&url, &format!("origin_settings = {{ ca = {authority:?} }}"));

    let (proxy, _idp) = before(&trusting, |_| ()).await;
    let answer = raw::exchange(proxy.address, raw::request("GET", "open.localhost", "/", &[])).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());

    origin.forget();
    let (proxy, _idp) = before(&open_at(&url, ""), |_| ()).await;
    let answer = raw::exchange(proxy.address, raw::request("GET", "open.localhost", "/", &[])).await.unwrap();
    assert_eq!(answer.status, 502, "a certificate that nobody vouches for");
    origin.assert_untouched("a certificate that nobody vouches for");
}

#[tokio::test]
async fn a_web_socket_goes_both_ways() {
    let world = World::start().await;
    let browser = world.signed_in(Person::alice(), "http://wiki.localhost/").await;
    let mut connection = world.proxy.connect("wiki.localhost").await;
    let token = browser.cookie("wiki.localhost", "CF_Authorization").unwrap();
    connection
        .send(format!(
            "GET /origin/ws HTTP/1.1\r\nHost: wiki.localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nCookie: CF_Authorization={token}\r\n\r\n"
        ))
        .await;
    let answer = connection.response_head().await.unwrap();
    assert_eq!(answer.status, 101);
    assert!(world.origin.last().assertion().is_some(), "the upgrade carries the identity");
    for round in 0..3 {
        let frame = [b"\x82\x04ping".as_slice(), &[round]].concat();
        connection.send(&frame).await;
        assert_eq!(connection.bytes(frame.len()).await, frame);
    }
}

#[tokio::test]
async fn grpc_passes_with_its_trailers() {
    let (idp, origin) = (Idp::start().await, Origin::start().await);
    let mut config = Config::new(&idp.issuer, APPLICATIONS);
    config.tls = true;
    let proxy = Portcullis::start(at(config, &origin.url("h2c"))).await;
    let mut browser = crate::support::Browser::new(&proxy);
    browser.open("https://wiki.test/").await;
    let token = browser.cookie("wiki.test", "CF_Authorization").unwrap();
    let mut connection = proxy.connect2("wiki.test").await;
    let request = http::Request::post("https://wiki.test/echo.Echo/Say")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("cf-access-token", token);
    let answer = connection.request(request.body(()).unwrap(), b"\0\0\0\0\x05hello").await.unwrap();
    assert_eq!(answer.body, b"\0\0\0\0\x05hello");
    let trailers = answer.trailers.expect("trailers");
    assert_eq!((&trailers["grpc-status"], &trailers["x-checksum"]), (&"0".parse().unwrap(), &"10".parse().unwrap()));
}

#[tokio::test]
async fn a_download_arrives_piece_by_piece() {
    let world = World::start().await;
    let mut connection = world.proxy.connect("open.localhost").await;
    connection.send(raw::request("GET", "open.localhost", "/origin/stream", &[])).await;
    world.origin.release();
    let head = connection.response_head().await.unwrap();
    let mut framing = crate::support::wire::framing(&head.headers, Framing::UntilClose);
    assert_eq!(connection.piece(&mut framing).await.unwrap(), b"one", "before the origin has sent the second");
    world.origin.release();
    assert_eq!(connection.piece(&mut framing).await.unwrap(), b"two");
    world.origin.release();
    assert_eq!(connection.piece(&mut framing).await.unwrap(), b"three");
    assert_eq!(connection.piece(&mut framing).await, None);
}

#[tokio::test]
async fn an_upload_arrives_piece_by_piece() {
    let world = World::start().await;
    for head in ["Transfer-Encoding: chunked", "Content-Length: 200000"] {
        let chunked = head.starts_with("Transfer");
        let piece = |bytes: &[u8]| match chunked {
            true => [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat(),
            false => bytes.to_vec(),
        };
        let mut connection = world.proxy.connect("open.localhost").await;
        connection.send(format!("POST /origin/upload HTTP/1.1\r\nHost: open.localhost\r\n{head}\r\n\r\n")).await;
        connection.send(piece(&[b'a'; 100_000])).await;
        world.origin.uploaded(100_000).await;
        connection.send(piece(&[b'b'; 100_000])).await;
        if chunked {
            connection.send("0\r\n\r\n").await;
        }
        let answer = connection.response("POST").await.unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (200, "200000"), "{head}");
        world.origin.forget();
    }
}

#[tokio::test]
async fn a_connection_serves_many_requests_each_judged_anew() {
    let world = World::start().await;
    let mut connection = world.proxy.connect("open.localhost").await;
    for (host, status) in
        [("open.localhost", 200), ("wiki.localhost", 302), ("open.localhost", 200), ("pay.localhost", 302)]
    {
        connection.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        let answer = connection.response("GET").await.expect("the connection stays open");
        assert_eq!(answer.status, status, "{host}");
    }
    assert_eq!(world.origin.seen().len(), 2);
}

#[tokio::test]
async fn with_one_of_several_origins_dead_nobody_notices() {
    let (alive, also) = (Origin::start().await, Origin::start().await);
    let dead = free_address();
    let origins = format!("[\"{}\", \"http://{dead}\", \"{}\"]", alive.url("http"), also.url("http"));
    let (proxy, _idp) = before(&open_at(&origins, ""), |_| ()).await;
    for i in 0..30 {
        let answer =
            raw::exchange(proxy.address, raw::request("GET", "open.localhost", &format!("/{i}"), &[])).await.unwrap();
        assert_eq!(answer.status, 200, "request {i}");
    }
    let (first, second) = (alive.seen().len(), also.seen().len());
    assert!(first >= 5 && second >= 5 && first + second >= 30, "{first} and {second}");
}

#[tokio::test]
async fn origin_trouble_is_told_by_status_and_a_clear_page() {
    let dead = free_address();
    let (proxy, _idp) = before(&open_at(&format!("\"http://{dead}\""), ""), |_| ()).await;
    let answer =
        raw::exchange(proxy.address, raw::request("GET", "open.localhost", "/", &["Accept: text/html"])).await.unwrap();
    assert_eq!(answer.status, 502);
    assert!(answer.text().contains("<html"), "{}", answer.text());
    assert!(!answer.text().contains(&dead.to_string()), "the page names the origin's address");

    let origin = Origin::start().await;
    let keys = r#"origin_settings = { connect_timeout = "1s", read_timeout = "1s" }"#;
    let (proxy, _idp) = before(&open_at(&format!("\"{}\"", origin.url("http")), keys), |_| ()).await;
    for (path, status) in [("/origin/hang", 504), ("/origin/close", 502)] {
        let started = Instant::now();
        let answer = raw::exchange(proxy.address, raw::request("GET", "open.localhost", path, &[])).await.unwrap();
        assert_eq!(answer.status, status, "{path}");
        assert!(started.elapsed() < Duration::from_secs(5), "{path} took {:?}", started.elapsed());
        assert!(answer.headers.lists("cache-control", "no-store"), "{path}");
    }
    let mut connection = Connection::plain(proxy.address).await;
    connection.send(raw::request("GET", "open.localhost", "/origin/half", &[])).await;
    let head = connection.response_head().await.unwrap();
    assert_eq!((head.status, head.headers.one("content-length")), (200, Some("100")));
    assert_eq!(connection.bytes(10).await, b"half of it");
    assert!(connection.is_closed().await, "an answer cut short ends the connection");
}

#[tokio::test]
async fn a_request_whose_body_has_begun_is_not_sent_twice() {
    let world = World::start().await;
    let lines = ["Content-Length: 5"];
    let request = raw::request("POST", "open.localhost", "/origin/close", &lines) + "hello";
    let answer = world.raw(request).await.unwrap();
    assert_eq!(answer.status, 502);
    assert_eq!(world.origin.seen().len(), 1, "a POST that may have had its effect");
}

#[tokio::test]
async fn a_body_beyond_the_limit_gets_413() {
    let origin = Origin::start().await;
    let (proxy, _idp) = before(&open_at(&format!("\"{}\"", origin.url("http")), r#"max_body = "64KiB""#), |_| ()).await;
    let request = raw::request("POST", "open.localhost", "/", &["Content-Length: 100000"]);
    let mut connection = Connection::plain(proxy.address).await;
    connection.send(request).await;
    assert_eq!(connection.response("POST").await.unwrap().status, 413, "told before the body is sent");
    origin.assert_untouched("a body beyond the limit");
    let body = format!("{:x}\r\n{}\r\n0\r\n\r\n", 100_000, "a".repeat(100_000));
    let request = raw::request("POST", "open.localhost", "/", &["Transfer-Encoding: chunked"]) + &body;
    let answer = raw::exchange(proxy.address, request).await;
    assert!(answer.as_ref().is_none_or(|a| a.status == 413), "{answer:?}");
}

#[tokio::test]
async fn a_graceful_stop_finishes_what_runs_and_takes_seconds() {
    let mut world = World::start().await;
    let mut idle = world.proxy.connect("open.localhost").await;
    idle.send("GET / HTTP/1.1\r\nHost: open.localhost\r\n\r\n").await;
    idle.response("GET").await.unwrap();
    let mut connection = world.proxy.connect("open.localhost").await;
    connection.send(raw::request("GET", "open.localhost", "/origin/slow", &[])).await;
    while world.origin.seen().len() < 2 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let started = Instant::now();
    world.proxy.signal("TERM");
    let answer = connection.response("GET").await.expect("the request under way is answered");
    assert_eq!((answer.status, answer.text().as_str()), (200, "slow"));
    let status = world.proxy.ended(Duration::from_secs(15)).await;
    assert!(status.success(), "{status}");
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
    assert!(idle.is_closed().await);
}

#[tokio::test]
async fn an_upgrade_loses_no_request_and_no_session() {
    let applications = format!("[server]\nupgrade_socket = \"upgrade.sock\"\ngrace_period = \"2s\"\n{APPLICATIONS}");
    let mut world = World::with(&applications, |_| ()).await;
    let mut browser = world.signed_in(Person::alice(), "http://wiki.localhost/").await;
    let address = world.proxy.address;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let visitor = tokio::spawn(async move {
        let mut answered = 0;
        while !*stopped.borrow() {
            let answer = raw::exchange(address, raw::request("GET", "open.localhost", "/", &[])).await;
            assert_eq!(answer.map(|a| a.status), Some(200), "after {answered} answered requests");
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
    assert_eq!(browser.fetch("GET", "http://wiki.localhost/", &[], b"").await.status, 200);
}

#[tokio::test]
async fn health_and_metrics_are_told_on_their_own_listener() {
    let world = World::start().await;
    world.signed_in(Person::alice(), "http://wiki.localhost/").await;
    world.raw(raw::request("GET", "wiki.localhost", "/", &[])).await;
    let health = raw::exchange(world.proxy.metrics, raw::request("GET", "localhost", "/healthz", &[])).await.unwrap();
    assert_eq!(health.status, 200);
    let metrics = world.proxy.metrics().await;
    assert!(metrics.lines().any(|line| line.starts_with("portcullis_")), "{metrics}");
    for private in ["alice", "eyJ", "/page"] {
        assert!(!metrics.contains(private), "`{private}` in the metrics");
    }
}
