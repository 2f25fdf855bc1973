//! What people put in front of real origins: protocols up and down, streams, timeouts, several
//! origins, a clean end.

use std::time::{Duration, Instant};

use crate::support::certs::Certificate;
use crate::support::origin::Origin;
use crate::support::portcullis::{Config, Portcullis, free_address};
use crate::support::raw::{self, Connection};
use crate::support::wire::Framing;
use crate::support::{APPLICATIONS, Idp, Person, World, at, before, open_application};

/// One open application at these origins, with further keys.
fn open_at(origins: &str, keys: &str) -> String {
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
    let page = browser.open("https://wiki.test/page").await;
    assert_eq!(
        (page.url.as_str(), page.response.status),
        ("https://wiki.test/page", 200),
        "{:#?}",
        browser.trail
    );
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
async fn an_http2_authority_and_host_that_disagree_are_malformed() {
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
async fn paths_over_http2_are_judged_as_over_http1() {
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
    assert_eq!(answer.status, 502, "a certificate that nobody vouches for");
    origin.assert_untouched("a certificate that nobody vouches for");
}

/// One open application, at `name.localhost`.
fn open_named(name: &str, origin: &str, settings: &str) -> String {
    open_at(
        &format!("\"{origin}\""),
        &format!("origin_settings = {{ {settings} }}"),
    )
    .replace("\"Open\"", &format!("\"{name}\""))
    .replace("open.$TLD", &format!("{name}.$TLD"))
}

#[tokio::test]
async fn a_certificate_authority_vouches_for_the_origins_of_its_application_alone() {
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
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_eq!(
        ask(&proxy, "one").await,
        200,
        "the health check knows the authority"
    );
    assert!(
        at_first
            .seen()
            .iter()
            .filter(|seen| seen.target == "/healthz")
            .count()
            >= 2
    );

    // The file's content counts, and it is read at a reload.
    std::fs::copy(&second, &first).unwrap();
    proxy.config.rest.push('\n');
    proxy.write_config();
    proxy.signal("HUP");
    let deadline = Instant::now() + Duration::from_secs(10);
    while ask(&proxy, "one").await == 200 {
        assert!(
            Instant::now() < deadline,
            "the new authority is not looked at"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(ask(&proxy, "two").await, 200);
}

#[tokio::test]
async fn origins_that_a_reload_does_not_change_keep_their_connections_and_their_health() {
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
    let checks = || {
        origin
            .seen()
            .iter()
            .filter(|seen| seen.target == "/healthz")
            .count()
    };
    while checks() == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let (checked, connections) = (checks(), origin.connections());
    let reloaded = async |proxy: &Portcullis, times: usize| {
        let deadline = Instant::now() + Duration::from_secs(10);
        while proxy
            .log()
            .matches("the configuration was reloaded")
            .count()
            < times
        {
            assert!(Instant::now() < deadline, "no reload");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    proxy.config.rest = proxy
        .config
        .rest
        .replace("name = \"all\"", "name = \"everybody\"");
    proxy.write_config();
    reloaded(&proxy, 1).await;
    for _ in 0..3 {
        assert_eq!(ask(&proxy).await, 200);
    }
    assert_eq!(
        (checks(), origin.connections()),
        (checked, connections),
        "the same pool, and its connection"
    );

    proxy.config.rest = proxy.config.rest.replace("\"1h\"", "\"30m\"");
    proxy.write_config();
    reloaded(&proxy, 2).await;
    let deadline = Instant::now() + Duration::from_secs(10);
    while checks() == checked {
        assert!(
            Instant::now() < deadline,
            "a pool whose settings change begins anew"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn http2_on_both_sides_forwards_what_was_judged() {
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
async fn a_web_socket_goes_both_ways() {
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
async fn a_download_arrives_piece_by_piece() {
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
async fn an_upload_arrives_piece_by_piece() {
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
async fn a_connection_serves_many_requests_each_judged_anew() {
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
async fn with_one_of_several_origins_dead_nobody_notices() {
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
async fn origin_trouble_is_told_by_status_and_a_clear_page() {
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
            started.elapsed() < Duration::from_secs(5),
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
async fn each_kind_of_client_is_told_of_origin_trouble_in_its_own_way() {
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
    let deadline = Instant::now() + Duration::from_secs(10);
    while ask("sick", "/", "Accept: text/html", "").await.status != 503 {
        assert!(
            Instant::now() < deadline,
            "an origin that is down is not found out"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
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
async fn a_request_whose_body_has_begun_is_not_sent_twice() {
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

#[tokio::test]
async fn a_body_beyond_the_limit_gets_413() {
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

#[tokio::test]
async fn a_graceful_stop_finishes_what_runs_and_takes_seconds() {
    let mut world = World::with(
        &format!("[server]\nlame_duck = \"0s\"\n{APPLICATIONS}"),
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
    let started = Instant::now();
    world.proxy.signal("TERM");
    let answer = connection
        .response("GET")
        .await
        .expect("the request under way is answered");
    assert_eq!((answer.status, answer.text().as_str()), (200, "slow"));
    let status = world.proxy.ended(Duration::from_secs(15)).await;
    assert!(status.success(), "{status}");
    assert!(
        started.elapsed() < Duration::from_secs(4),
        "no longer than it takes: {:?}",
        started.elapsed()
    );
    assert!(idle.is_closed().await);
}

#[tokio::test]
async fn a_graceful_stop_with_nothing_under_way_is_quick_and_says_so() {
    let mut world = World::with(
        &format!("[server]\nlame_duck = \"0s\"\n{APPLICATIONS}"),
        |_| (),
    )
    .await;
    let mut idle = world.proxy.connect("open.localhost").await;
    idle.send("GET / HTTP/1.1\r\nHost: open.localhost\r\n\r\n")
        .await;
    idle.response("GET").await.unwrap();
    let started = Instant::now();
    world.proxy.signal("TERM");
    let status = world.proxy.ended(Duration::from_secs(15)).await;
    assert!(status.success(), "{status}");
    assert!(
        started.elapsed() < Duration::from_secs(3),
        "{:?}",
        started.elapsed()
    );
    assert!(idle.is_closed().await);
    let log = world.proxy.log();
    let said = |text: &str| log.lines().filter(|line| line.contains(text)).count();
    assert_eq!(
        (
            said("stopping: no new connections; waiting up to 5s"),
            said("\"stopped\"")
        ),
        (1, 1),
        "{log}"
    );
}

#[tokio::test]
async fn a_graceful_stop_ends_with_the_grace_period_whatever_runs() {
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
    let took = started.elapsed();
    assert!(
        (Duration::from_secs(1)..Duration::from_secs(4)).contains(&took),
        "{took:?}"
    );
    assert!(world.proxy.log().contains("remaining requests are cut off"));
}

#[tokio::test]
async fn an_upgrade_loses_no_request_and_no_session() {
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
    assert_eq!(
        browser
            .fetch("GET", "http://wiki.localhost/", &[], b"")
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn health_and_metrics_are_told_on_their_own_listener() {
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
