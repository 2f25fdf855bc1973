//! Requests to real origins: protocols on both sides, streams, TLS, reloads and limits.

use std::collections::HashSet;

use crate::support::certs::Certificate;
use crate::support::origin::Origin;
use crate::support::portcullis::{Config, Portcullis};
use crate::support::raw::{self, Connection};
use crate::support::wire::Framing;
use crate::support::{APPLICATIONS, Idp, Person, World, at, before, eventually, open_application};

/// One open application at these origins, with further keys.
pub(super) fn open_at(origins: &str, keys: &str) -> String {
    open_application("Open", origins, keys)
}

fn get(host: &str, path: &str) -> http::Request<()> {
    http::Request::get(format!("https://{host}{path}"))
        .body(())
        .unwrap()
}

#[tokio::test]
async fn https_down_in_both_versions_with_the_whole_login() {
    let world = World::with(APPLICATIONS, |config| config.tls = true).await;
    let mut browser = world.browser();
    browser.assert_opens("https://wiki.test/page").await;
    assert_eq!(
        world.origin.last().headers.one("x-forwarded-proto"),
        Some("https")
    );
    for line in browser.given.iter().filter(|value| value.starts_with("ey")) {
        assert!(line.len() < 4000, "a cookie of {} bytes", line.len());
    }

    let token = browser.cookie("wiki.test", "CF_Authorization").unwrap();
    let mut connection = world.proxy.connect2("wiki.test").await;
    let mut request = get("wiki.test", "/two");
    // HTTP/2 clients may send each cookie as a line of its own.
    request
        .headers_mut()
        .append("cookie", "theme=dark".parse().unwrap());
    request.headers_mut().append(
        "cookie",
        format!("CF_Authorization={token}").parse().unwrap(),
    );
    let answer = connection.request(request, b"").await.unwrap();
    assert_eq!(answer.head.status, 200);
    let seen = world.origin.last();
    assert_eq!(
        seen.headers.one("cf-access-authenticated-user-email"),
        Some("alice@example.com")
    );
    assert_eq!(seen.cookies(), [("theme".to_owned(), "dark".to_owned())]);
    let answer = connection
        .request(get("wiki.test", "/no-cookie"), b"")
        .await
        .unwrap();
    assert_eq!(answer.head.status, 302);
}

#[tokio::test]
async fn conflicting_http2_authority_and_host_are_malformed() {
    let world = World::with(APPLICATIONS, |config| config.tls = true).await;
    let mut connection = world.proxy.connect2("open.test").await;
    let mut request = get("open.test", "/");
    request
        .headers_mut()
        .insert("host", "wiki.test".parse().unwrap());
    let answer = connection.request(request, b"").await;
    assert!(
        answer
            .as_ref()
            .map_or(true, |a| matches!(a.head.status.as_u16(), 400 | 421)),
        "{answer:?}"
    );
    world
        .origin
        .assert_untouched("an authority and a host that disagree");
}

#[tokio::test]
async fn paths_over_http2_are_decided_as_over_http1() {
    let world = World::with(APPLICATIONS, |config| config.tls = true).await;
    for path in [
        "/public/../admin",
        "/public/%2e%2e/admin",
        "//admin",
        "/%61dmin",
        "/admin;x=1",
        "/public/%252e%252e/admin",
    ] {
        let mut connection = world.proxy.connect2("app.test").await;
        let answer = connection.request(get("app.test", path), b"").await;
        assert!(
            answer
                .as_ref()
                .map_or(true, |a| matches!(a.head.status.as_u16(), 302 | 400)),
            "{path}: {answer:?}"
        );
        world.origin.assert_untouched(path);
    }
}

#[tokio::test]
async fn http2_up_without_tls_carries_the_identity() {
    let (idp, origin) = (Idp::start().await, Origin::start().await);
    let config = Config::new(&idp.issuer, APPLICATIONS);
    let proxy = Portcullis::start(at(config, &origin.url("h2c"))).await;
    let mut browser = crate::support::Browser::new(&proxy);
    assert_eq!(
        browser
            .open("http://wiki.localhost/x?y")
            .await
            .response
            .status,
        200,
        "{:#?}",
        browser.trail
    );
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
    let answer = raw::exchange(
        proxy.address,
        raw::request("GET", "open.localhost", "/", &[]),
    )
    .await
    .unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());

    origin.forget();
    let (proxy, _idp) = before(&open_at(&url, ""), |_| ()).await;
    let answer = raw::exchange(
        proxy.address,
        raw::request("GET", "open.localhost", "/", &[]),
    )
    .await
    .unwrap();
    assert_eq!(answer.status, 502, "an untrusted certificate");
    origin.assert_untouched("an untrusted certificate");
}

/// One open application, at `name.localhost`.
pub(super) fn open_named(name: &str, origin: &str, settings: &str) -> String {
    open_at(
        &format!("\"{origin}\""),
        &format!("origin_settings = {{ {settings} }}"),
    )
    .replace("\"Open\"", &format!("\"{name}\""))
    .replace("open.$TLD", &format!("{name}.$TLD"))
}

#[tokio::test]
async fn origin_ca_counts_for_its_application_alone() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, certificate: &Certificate| {
        let path = folder.path().join(name);
        std::fs::write(&path, &certificate.pem).unwrap();
        path
    };
    let [first, second, public] = [(); 3].map(|()| Certificate::new(&["localhost", "127.0.0.1"]));
    let (at_first, at_second, at_public) = (
        Origin::tls(&first).await,
        Origin::tls(&second).await,
        Origin::tls(&public).await,
    );
    let (first, second) = (file("first.pem", &first), file("second.pem", &second));
    let system = file("system.pem", &public);
    let check = r#"health_check = { path = "/healthz", interval = "1s" }"#;
    let applications = [
        open_named(
            "one",
            &at_first.url("https"),
            &format!("ca = {first:?}, {check}"),
        ),
        open_named("two", &at_second.url("https"), &format!("ca = {second:?}")),
        open_named("mixed", &at_first.url("https"), &format!("ca = {second:?}")),
        open_named("plain", &at_first.url("https"), ""),
        open_named("public", &at_public.url("https"), ""),
        open_named(
            "private",
            &at_public.url("https"),
            &format!("ca = {first:?}"),
        ),
    ]
    .concat();
    let (mut proxy, _idp) = before(&applications, |config| {
        config.env = vec![("SSL_CERT_FILE", system)]
    })
    .await;
    let ask = async |proxy: &Portcullis, name: &str| {
        let host = format!("{name}.localhost");
        raw::exchange(proxy.address, raw::request("GET", &host, "/", &[]))
            .await
            .unwrap()
            .status
    };
    // Twice: a connection that one application has opened must not serve another either.
    for _ in 0..2 {
        for (name, status) in [
            ("one", 200),
            ("two", 200),
            ("mixed", 502),
            ("plain", 502),
            ("public", 200),
            ("private", 502),
        ] {
            assert_eq!(ask(&proxy, name).await, status, "{name}");
        }
    }
    at_first.until_more("/healthz", 1).await;
    assert_eq!(
        ask(&proxy, "one").await,
        200,
        "the health check knows the authority"
    );

    // The file's content counts, and it is read at a reload.
    std::fs::copy(&second, &first).unwrap();
    proxy.config.rest.push('\n');
    proxy.write_config();
    proxy.signal("HUP");
    eventually("the new authority is not looked at", async || {
        ask(&proxy, "one").await != 200
    })
    .await;
    assert_eq!(ask(&proxy, "two").await, 200);
}

#[tokio::test]
async fn unchanged_origins_survive_a_reload() {
    let origin = Origin::start().await;
    let check = r#"health_check = { path = "/healthz", interval = "1h" }"#;
    let applications = open_named("one", &origin.url("http"), check);
    let (mut proxy, _idp) = before(&applications, |_| ()).await;
    let ask = async |proxy: &Portcullis| {
        raw::exchange(
            proxy.address,
            raw::request("GET", "one.localhost", "/", &[]),
        )
        .await
        .unwrap()
        .status
    };
    assert_eq!(ask(&proxy).await, 200);
    origin.until_more("/healthz", 0).await;
    let connections = || -> HashSet<_> {
        let seen = origin.seen().into_iter();
        seen.filter(|seen| seen.target == "/")
            .map(|seen| seen.connection)
            .collect()
    };
    let before = connections();
    let reloaded = async |proxy: &Portcullis, times: usize| {
        eventually("no reload", async || {
            proxy
                .log()
                .matches("the configuration was reloaded")
                .count()
                >= times
        })
        .await;
    };
    proxy.config.rest = proxy
        .config
        .rest
        .replace("name = \"all\"", "name = \"everybody\"");
    proxy.write_config();
    reloaded(&proxy, 1).await;
    origin.forget();
    for _ in 0..10 {
        assert_eq!(ask(&proxy).await, 200);
    }
    assert_eq!(origin.count("/healthz"), 0, "the same pool");
    // A request may begin before the connection of the last one is back in the pool.
    assert!(
        !connections().is_disjoint(&before),
        "a pooled connection is used again"
    );

    proxy.config.rest = proxy.config.rest.replace("\"1h\"", "\"30m\"");
    proxy.write_config();
    reloaded(&proxy, 2).await;
    // A pool with other settings checks its origins anew.
    origin.until_more("/healthz", 0).await;
}

#[tokio::test]
async fn http2_on_both_sides_forwards_the_decided_request() {
    let (idp, origin) = (Idp::start().await, Origin::start().await);
    let mut config = Config::new(&idp.issuer, APPLICATIONS);
    config.tls = true;
    let proxy = Portcullis::start(at(config, &origin.url("h2c"))).await;
    let mut connection = proxy.connect2("open.test").await;
    for (sent, judged) in [
        ("https://open.test/a/../b//c?x=%2e%2e", "/b//c?x=%2e%2e"),
        ("https://open.test/%61%2Dz", "/%61%2Dz"),
        ("https://OPEN.test:443/plain?q", "/plain?q"),
        ("https://open.test./plain", "/plain"),
    ] {
        origin.forget();
        let request = http::Request::get(sent).body(()).unwrap();
        let answer = connection.request(request, b"").await.unwrap();
        assert_eq!(answer.head.status, 200, "{sent}");
        let seen = origin.last();
        assert_eq!(
            (seen.version, seen.target.as_str()),
            ("HTTP/2", judged),
            "{sent}"
        );
        let named = seen.authority.as_deref().or(seen.headers.one("host"));
        assert_eq!(named, Some("open.test"), "{sent}: {seen:?}");
        let host = seen.headers.one("host");
        assert!(
            host.is_none_or(|host| host == "open.test"),
            "{sent}: {seen:?}"
        );
        assert_eq!(
            seen.headers.one("x-forwarded-host"),
            Some("open.test"),
            "{sent}"
        );
    }
}

#[tokio::test]
async fn web_socket_carries_data_both_ways() {
    let world = World::start().await;
    let browser = world
        .signed_in(Person::alice(), "http://wiki.localhost/")
        .await;
    let mut connection = world.proxy.connect("wiki.localhost").await;
    let token = browser
        .cookie("wiki.localhost", "CF_Authorization")
        .unwrap();
    connection
        .send(format!(
            "GET /origin/ws HTTP/1.1\r\nHost: wiki.localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nCookie: CF_Authorization={token}\r\n\r\n"
        ))
        .await;
    let answer = connection.response_head().await.unwrap();
    assert_eq!(answer.status, 101);
    assert!(
        world.origin.last().assertion().is_some(),
        "the upgrade carries the identity"
    );
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
    let answer = connection
        .request(request.body(()).unwrap(), b"\0\0\0\0\x05hello")
        .await
        .unwrap();
    assert_eq!(answer.body, b"\0\0\0\0\x05hello");
    let trailers = answer.trailers.expect("trailers");
    assert_eq!(
        (&trailers["grpc-status"], &trailers["x-checksum"]),
        (&"0".parse().unwrap(), &"10".parse().unwrap())
    );
}

#[tokio::test]
async fn download_arrives_piece_by_piece() {
    let world = World::start().await;
    let mut connection = world.proxy.connect("open.localhost").await;
    connection
        .send(raw::request("GET", "open.localhost", "/origin/stream", &[]))
        .await;
    world.origin.release();
    let head = connection.response_head().await.unwrap();
    let mut framing = crate::support::wire::framing(&head.headers, Framing::UntilClose);
    assert_eq!(
        connection.piece(&mut framing).await.unwrap(),
        b"one",
        "before the origin has sent the second"
    );
    world.origin.release();
    assert_eq!(connection.piece(&mut framing).await.unwrap(), b"two");
    world.origin.release();
    assert_eq!(connection.piece(&mut framing).await.unwrap(), b"three");
    assert_eq!(connection.piece(&mut framing).await, None);
}

#[tokio::test]
async fn upload_arrives_piece_by_piece() {
    let world = World::start().await;
    for head in ["Transfer-Encoding: chunked", "Content-Length: 200000"] {
        let chunked = head.starts_with("Transfer");
        let piece = |bytes: &[u8]| match chunked {
            true => [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat(),
            false => bytes.to_vec(),
        };
        let mut connection = world.proxy.connect("open.localhost").await;
        connection
            .send(format!(
                "POST /origin/upload HTTP/1.1\r\nHost: open.localhost\r\n{head}\r\n\r\n"
            ))
            .await;
        connection.send(piece(&[b'a'; 100_000])).await;
        world.origin.uploaded(100_000).await;
        connection.send(piece(&[b'b'; 100_000])).await;
        if chunked {
            connection.send("0\r\n\r\n").await;
        }
        let answer = connection.response("POST").await.unwrap();
        assert_eq!(
            (answer.status, answer.text().as_str()),
            (200, "200000"),
            "{head}"
        );
        world.origin.forget();
    }
}

#[tokio::test]
async fn every_request_of_a_connection_is_decided_anew() {
    let world = World::start().await;
    let mut connection = world.proxy.connect("open.localhost").await;
    for (host, status) in [
        ("open.localhost", 200),
        ("wiki.localhost", 302),
        ("open.localhost", 200),
        ("pay.localhost", 302),
    ] {
        connection
            .send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"))
            .await;
        let answer = connection
            .response("GET")
            .await
            .expect("the connection stays open");
        assert_eq!(answer.status, status, "{host}");
    }
    assert_eq!(world.origin.seen().len(), 2);
}

#[tokio::test]
async fn body_beyond_the_limit_gets_413() {
    let origin = Origin::start().await;
    let (proxy, _idp) = before(
        &open_at(
            &format!("\"{}\"", origin.url("http")),
            r#"max_body = "64KiB""#,
        ),
        |_| (),
    )
    .await;
    let request = raw::request("POST", "open.localhost", "/", &["Content-Length: 100000"]);
    let mut connection = Connection::plain(proxy.address).await;
    connection.send(request).await;
    assert_eq!(
        connection.response("POST").await.unwrap().status,
        413,
        "told before the body is sent"
    );
    origin.assert_untouched("a body beyond the limit");
    let body = format!("{:x}\r\n{}\r\n0\r\n\r\n", 100_000, "a".repeat(100_000));
    let request = raw::request(
        "POST",
        "open.localhost",
        "/",
        &["Transfer-Encoding: chunked"],
    ) + &body;
    let answer = raw::exchange(proxy.address, request).await;
    assert!(
        answer.as_ref().is_none_or(|a| a.status == 413),
        "{answer:?}"
    );
    let events = proxy.events("access");
    assert_eq!(events.len(), 2, "one refusal each: {events:?}");
    for event in events {
        let [outcome, reason, application, method, path] =
            ["outcome", "reason", "application", "method", "path"]
                .map(|key| event[key].as_str().unwrap_or_default());
        assert_eq!(
            [outcome, reason, application, method, path],
            ["refused", "body_too_large", "Open", "POST", "/"]
        );
    }
}
