//! Bytes on the wire: no smuggled request, no unbounded one, no second door.

use std::time::{Duration, Instant};

use super::{cookie_line, member};
use crate::support::raw::{self, Connection};
use crate::support::{APPLICATIONS, World, assert_refused};

#[tokio::test]
async fn t03_body_of_a_refused_request_is_not_read_as_a_request() {
    let world = World::start().await;
    let smuggled = raw::request("GET", "open.localhost", "/smuggled", &[]);
    let heads = [
        format!(
            "POST / HTTP/1.1\r\nHost: wiki.localhost\r\nContent-Length: {}\r\n\r\n{smuggled}",
            smuggled.len()
        ),
        format!(
            "POST / HTTP/1.1\r\nHost: wiki.localhost\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{smuggled}\r\n0\r\n\r\n",
            smuggled.len()
        ),
        format!(
            "POST /cdn-cgi/access/logout HTTP/1.1\r\nHost: wiki.localhost\r\nContent-Length: {}\r\n\r\n{smuggled}",
            smuggled.len()
        ),
        format!(
            "GET / HTTP/1.1\r\nHost: wiki.localhost\r\nContent-Length: {}\r\n\r\n{smuggled}",
            smuggled.len()
        ),
    ];
    for request in heads {
        let mut connection = Connection::plain(world.proxy.address).await;
        connection.send(&request).await;
        let first = connection.response("POST").await;
        let by_origin = first
            .as_ref()
            .is_some_and(|answer| answer.headers.one("x-from").is_some());
        assert!(!by_origin, "the origin answered {request}");
        connection
            .send(raw::request("GET", "wiki.localhost", "/next", &[]))
            .await;
        let second = connection.response("GET").await;
        assert_refused(second.as_ref(), &request);
        world.origin.assert_untouched(&request);
    }
}

#[tokio::test]
async fn t03_conflicting_framings_are_refused_or_corrected() {
    let world = World::start().await;
    let smuggled = raw::request("GET", "wiki.localhost", "/smuggled", &[]);
    let length = smuggled.len();
    let requests = [
        format!(
            "POST / HTTP/1.1\r\nHost: open.localhost\r\nContent-Length: {length}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}"
        ),
        format!(
            "POST / HTTP/1.1\r\nHost: open.localhost\r\nContent-Length: 0\r\nContent-Length: {length}\r\n\r\n{smuggled}"
        ),
        format!(
            "POST / HTTP/1.1\r\nHost: open.localhost\r\nContent-Length: 0, {length}\r\n\r\n{smuggled}"
        ),
        format!(
            "POST / HTTP/1.1\r\nHost: open.localhost\r\nContent-Length: +{length}\r\n\r\n{smuggled}"
        ),
        format!("POST / HTTP/1.1\r\nHost: open.localhost\r\nContent-Length: -1\r\n\r\n{smuggled}"),
        format!(
            "POST / HTTP/1.1\r\nHost: open.localhost\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n{smuggled}"
        ),
        format!(
            "POST / HTTP/1.1\r\nHost: open.localhost\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n{smuggled}"
        ),
        format!(
            "POST / HTTP/1.1\r\nHost: open.localhost\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n{smuggled}"
        ),
        format!(
            "POST / HTTP/1.0\r\nHost: open.localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}"
        ),
        format!(
            "POST / HTTP/1.1\r\nHost: open.localhost\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n{smuggled}"
        ),
        format!(
            "GET / HTTP/1.1\r\nHost: open.localhost\r\nUpgrade: foo\r\nConnection: Upgrade\r\n\r\n{smuggled}"
        ),
    ];
    for request in requests {
        world.origin.forget();
        let mut connection = Connection::plain(world.proxy.address).await;
        connection.send(&request).await;
        while let Some(answer) = connection.response("POST").await {
            assert_ne!(answer.status, 500, "{request}");
        }
        let smuggled = world
            .origin
            .seen()
            .iter()
            .any(|seen| seen.target.contains("smuggled"));
        assert!(!smuggled, "arrived after {request}");
    }
}

#[tokio::test]
async fn t05_upgrade_to_http2_is_not_forwarded() {
    let world = World::start().await;
    let lines = [
        "Upgrade: h2c",
        "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA",
        "Connection: Upgrade, HTTP2-Settings",
    ];
    let request =
        raw::request("GET", "open.localhost", "/", &lines).replace("Connection: close\r\n", "");
    let mut connection = Connection::plain(world.proxy.address).await;
    connection.send(request).await;
    let answer = connection.response("GET").await;
    assert!(
        answer.as_ref().is_none_or(|a| a.status != 101),
        "{answer:?}"
    );
    for seen in world.origin.seen() {
        assert!(
            seen.headers.all("http2-settings").is_empty(),
            "{:?}",
            seen.headers
        );
        assert!(!seen.headers.lists("upgrade", "h2c"), "{:?}", seen.headers);
    }
}

#[tokio::test]
async fn t09_headers_beyond_the_limits_get_431() {
    let world = World::start().await;
    let cookie = cookie_line(&member(&world).await);
    let long = format!("X-Long: {}", "a".repeat(128 * 1024));
    let thousand: Vec<String> = (0..1000).map(|i| format!("X-{i}: v")).collect();
    let thousand: Vec<&str> = thousand.iter().map(String::as_str).collect();
    for lines in [vec![long.as_str(), &cookie], thousand] {
        let answer = world
            .raw(raw::request("GET", "app.localhost", "/", &lines))
            .await;
        assert!(
            answer
                .as_ref()
                .is_none_or(|a| matches!(a.status, 400 | 431)),
            "{answer:?}"
        );
        world.origin.assert_untouched("headers beyond the limits");
    }
    let target = format!("/{}", "a".repeat(128 * 1024));
    let answer = world
        .raw(raw::request("GET", "app.localhost", &target, &[&cookie]))
        .await;
    assert!(
        answer
            .as_ref()
            .is_none_or(|a| matches!(a.status, 400 | 414 | 431)),
        "{answer:?}"
    );
    world.origin.assert_untouched("a target beyond the limits");

    let target = format!("/{}", "a".repeat(20 * 1024));
    let long = format!("X-Long: {}", "a".repeat(70 * 1024));
    for (target, line, status) in [
        (target.as_str(), "X-Short: a", 414),
        ("/", &long, 431),
        (&target, &long, 431),
    ] {
        let answer = world
            .raw(raw::request(
                "GET",
                "app.localhost",
                target,
                &[&cookie, line],
            ))
            .await
            .unwrap();
        assert_eq!(answer.status, status, "{:.20} {line:.20}", target);
    }
    world
        .origin
        .assert_untouched("targets and headers beyond the limits");
}

#[tokio::test]
async fn t09_endless_form_is_not_waited_for() {
    let world = World::with(APPLICATIONS, |config| config.tls = true).await;
    let started = Instant::now();
    let over_http1 = async {
        let mut connection = world.proxy.connect("access.test").await;
        let head = "POST /cdn-cgi/access/logout HTTP/1.1\r\nHost: access.test\r\nContent-Length: 10\r\n\r\ncsrf";
        connection.send(head).await;
        let answer = connection.response("POST").await.unwrap();
        assert!(
            connection.is_closed().await,
            "what is left of the form is no request"
        );
        answer.status
    };
    let over_http2 = async {
        let mut connection = world.proxy.connect2("access.test").await;
        let request = http::Request::post("https://access.test/cdn-cgi/access/logout")
            .body(())
            .unwrap();
        let (answer, mut form) = connection.begin(request).await;
        form.send_data("csrf".into(), false).unwrap();
        let status = answer.await.unwrap().status();
        let request = http::Request::get("https://open.test/").body(()).unwrap();
        let next = connection.request(request, b"").await.unwrap();
        assert_eq!(next.head.status, 200, "the connection goes on");
        status.as_u16()
    };
    assert_eq!(tokio::join!(over_http1, over_http2), (408, 408));
    assert!(
        started.elapsed() < Duration::from_secs(14),
        "{:?}",
        started.elapsed()
    );
}

#[tokio::test]
async fn t12_log_entry_is_one_line() {
    let world = World::start().await;
    let agent = format!(
        "User-Agent: x\\n{{\"level\":\"ERROR\",\"event\":\"login\"}}\x1b[31m{}",
        "A".repeat(8 * 1024)
    );
    let bytes = raw::request(
        "GET",
        "wiki.localhost",
        "/%22,%22event%22:%22login",
        &[&agent],
    );
    world.raw(bytes).await;
    world
        .raw(raw::request(
            "GET",
            "open.localhost",
            "/",
            &[&agent.replace('\x1b', "")],
        ))
        .await;
    assert_eq!(world.proxy.events("login").len(), 0);
    let log = world.proxy.log();
    assert!(!log.contains('\x1b'), "an escape sequence in the log");
    for line in log.lines() {
        assert!(
            serde_json::from_str::<serde_json::Value>(line).is_ok_and(|l| l.is_object()),
            "not a JSON line: {line:.200}"
        );
    }
}

#[tokio::test]
async fn t13_metrics_and_health_are_not_on_the_public_listener() {
    let world = World::start().await;
    for host in [
        "app.localhost",
        "access.localhost",
        "open.localhost",
        "127.0.0.1",
    ] {
        for target in ["/metrics", "/healthz", "/readyz"] {
            let answer = world
                .raw(raw::request("GET", host, target, &[]))
                .await
                .unwrap();
            assert!(!answer.text().contains("# TYPE"), "{host}{target}");
            assert!(
                host == "open.localhost" || answer.status != 200,
                "{host}{target}"
            );
        }
    }
    assert!(world.proxy.metrics().await.contains("# TYPE"));
}
