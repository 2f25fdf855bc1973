//! Connections before, between and during requests, and listeners with other tasks.

use std::fs;
use std::time::Duration;

use bytes::Bytes;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::support::portcullis::free_address;
use crate::support::raw::{self, Connection};
use crate::support::{APPLICATIONS, Idp, Origin, Portcullis, World, start};

/// Much shorter than the defaults, so that the tests end.
const SHORT: &str =
    "\n[limits]\nheader_timeout = \"1s\"\nidle_timeout = \"3s\"\nbody_timeout = \"2s\"\n";

async fn impatient(tls: bool) -> World {
    World::with(&format!("{APPLICATIONS}{SHORT}"), |config| config.tls = tls).await
}

#[tokio::test]
async fn plain_connections_end_by_themselves() {
    let world = impatient(false).await;
    let mut unfinished = Vec::new();
    for start in [
        "",
        "P",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n",
        "GET / HTTP/1.1\r\nHost: open.local",
        "\r\n",
    ] {
        let mut connection = world.proxy.connect("open.localhost").await;
        connection.send(start).await;
        unfinished.push((start, connection));
    }
    let after_a_request = async || {
        let mut connection = world.proxy.connect("open.localhost").await;
        connection
            .send("GET / HTTP/1.1\r\nHost: open.localhost\r\n\r\n")
            .await;
        assert_eq!(connection.response("GET").await.unwrap().status, 200);
        connection
    };
    let mut idle = after_a_request().await;
    // The second head is bounded like the first.
    let mut half = after_a_request().await;
    half.send("GET / HTTP/1.1\r\nHost: op").await;
    for (start, mut connection) in unfinished {
        assert!(connection.is_closed().await, "{start:?}");
    }
    assert!(half.is_closed().await, "half a second head stays");
    assert!(idle.is_closed().await, "an idle connection stays open");
}

#[tokio::test]
async fn head_that_drips_is_not_waited_for() {
    let world = impatient(false).await;
    let mut connection = world.proxy.connect("open.localhost").await;
    // Each byte comes in time, but not the whole head. The origin must not see the request, which
    // ends much later.
    for byte in "GET / HTTP/1.1\r\nHost: open.localhost\r\n\r\n".bytes() {
        connection.send([byte]).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(connection.is_closed().await);
    world.origin.assert_untouched("a head that dripped");
}

#[tokio::test]
async fn request_shorter_than_the_http2_preface_is_answered() {
    let world = World::start().await;
    for request in [
        "OPTIONS / HTTP/1.0\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        "P / HTTP/1.0\r\n\r\n",
    ] {
        let method = request.split(' ').next().unwrap();
        let mut connection = world.proxy.connect("open.localhost").await;
        connection.send(request).await;
        let answer = connection
            .response(method)
            .await
            .unwrap_or_else(|| panic!("no answer to {request:?}"));
        assert!(answer.status >= 200, "{request:?}: {}", answer.status);
    }
}

#[tokio::test]
async fn tls_connections_end_by_themselves() {
    let world = impatient(true).await;
    let mut silent = Connection::plain(world.proxy.address).await;
    assert!(silent.is_closed().await, "no handshake");
    let mut half = Connection::plain(world.proxy.address).await;
    half.send(b"\x16\x03\x01\x02\x00\x01\x00").await;
    assert!(half.is_closed().await, "half a handshake");
    let mut silent = world.proxy.connect("open.test").await;
    assert!(silent.is_closed().await, "silence after the handshake");
    let mut kept = world.proxy.connect("open.test").await;
    kept.send("GET / HTTP/1.1\r\nHost: open.test\r\n\r\n").await;
    assert_eq!(kept.response("GET").await.unwrap().status, 200);
    assert!(kept.is_closed().await, "an idle connection");
}

#[tokio::test]
async fn disconnect_before_the_handshake_is_not_logged() {
    let world = World::with(APPLICATIONS, |config| config.tls = true).await;
    let after = world.proxy.log().len();
    drop(Connection::plain(world.proxy.address).await);
    let line = world
        .proxy
        .logged(
            after,
            &["the client closed the connection before its first request"],
        )
        .await;
    assert!(line.contains("DEBUG"), "{line}");
    let after = world.proxy.log().len();
    let mut other = Connection::plain(world.proxy.address).await;
    other
        .send("GET / HTTP/1.1\r\nHost: open.test\r\n\r\n")
        .await;
    let line = world
        .proxy
        .logged(after, &["the TLS handshake failed"])
        .await;
    assert!(line.contains("INFO"), "{line}");
    assert_eq!(
        world.proxy.log().matches("rejected a connection").count(),
        1
    );
}

#[tokio::test]
async fn http2_connections_end_by_themselves() {
    let world = impatient(false).await;
    let connect = async || {
        let stream = TcpStream::connect(world.proxy.address).await.unwrap();
        let (client, connection) = h2::client::handshake(stream).await.unwrap();
        (client, tokio::spawn(connection))
    };
    let ends = async |connection: tokio::task::JoinHandle<Result<(), h2::Error>>| {
        let ended = tokio::time::timeout(Duration::from_secs(20), connection).await;
        let _how = ended.expect("the connection stays open").unwrap();
    };
    let (_client, connection) = connect().await;
    ends(connection).await;
    let (mut client, connection) = connect().await;
    let request = http::Request::get("http://open.localhost/")
        .body(())
        .unwrap();
    let (answer, _) = client.send_request(request, true).unwrap();
    assert_eq!(answer.await.unwrap().status(), 200);
    ends(connection).await;
}

#[tokio::test]
async fn body_with_a_gap_is_abandoned() {
    let world = impatient(false).await;
    let head =
        "POST /origin/upload HTTP/1.1\r\nHost: open.localhost\r\nContent-Length: 100\r\n\r\nhello";
    let mut connection = world.proxy.connect("open.localhost").await;
    connection.send(head).await;
    let answer = connection.response("POST").await;
    assert!(answer.is_none_or(|answer| matches!(answer.status, 400 | 408 | 504)));
    assert!(connection.is_closed().await);
    // A refused one too, of which the rest is read; and one that drips.
    let head = head.replace("open.localhost", "wiki.localhost");
    let mut connection = world.proxy.connect("wiki.localhost").await;
    connection.send(head).await;
    let _refusal = connection.response("POST").await;
    for _ in 0..80 {
        connection.send("a").await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(connection.is_closed().await);

    let stream = TcpStream::connect(world.proxy.address).await.unwrap();
    let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
    let _driver = tokio::spawn(connection);
    for host in ["open.localhost", "wiki.localhost"] {
        let request = http::Request::post(format!("http://{host}/origin/upload"))
            .body(())
            .unwrap();
        let (answer, mut body) = client.send_request(request, false).unwrap();
        body.send_data(Bytes::from_static(b"hello"), false).unwrap();
        let answer = tokio::time::timeout(Duration::from_secs(20), answer)
            .await
            .expect("the stream stays open");
        assert!(
            answer.is_err() || answer.unwrap().status().as_u16() >= 400,
            "{host}"
        );
    }
}

#[tokio::test]
async fn body_that_moves_may_take_long() {
    let world = impatient(false).await;
    let stream = TcpStream::connect(world.proxy.address).await.unwrap();
    let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
    let _driver = tokio::spawn(connection);
    let request = http::Request::post("http://open.localhost/origin/upload")
        .body(())
        .unwrap();
    let (answer, mut body) = client.send_request(request, false).unwrap();
    let mut first = world.proxy.connect("open.localhost").await;
    first
        .send("POST /origin/upload HTTP/1.1\r\nHost: open.localhost\r\nContent-Length: 10\r\n\r\n")
        .await;
    for piece in 0..10 {
        body.send_data(Bytes::from_static(b"a"), piece == 9)
            .unwrap();
        first.send("a").await;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert_eq!(answer.await.unwrap().status(), 200);
    assert_eq!(first.response("POST").await.unwrap().text(), "10");
}

/// A proxy with TLS, and a second listener that redirects to it.
async fn with_redirect(more: &str) -> (Portcullis, Origin, Idp, std::net::SocketAddr) {
    let (redirect, idp) = (free_address(), Idp::start().await);
    let rest = format!(
        "{APPLICATIONS}\n[[listen]]\naddress = \"{redirect}\"\nredirect_to_https = true\n{more}"
    );
    let (proxy, origin) = start(&idp.issuer, |config| {
        config.tls = true;
        config.rest = rest;
        config.domain = Some("access.test:8443".to_owned());
    })
    .await;
    (proxy, origin, idp, redirect)
}

#[tokio::test]
async fn plain_http_is_redirected_to_https() {
    let (_proxy, origin, _idp, redirect) = with_redirect("").await;
    for target in [
        "/",
        "/deep?x=1&y=%2F",
        "/a//b/%2e%2e/c;d?",
        "/?returnTo=https://evil.test/",
        "//evil.test/x",
    ] {
        for (host, method) in [
            ("wiki.test", "GET"),
            ("access.test", "POST"),
            ("WIKI.test:80", "HEAD"),
        ] {
            let lines: &[&str] = if method == "POST" {
                &["Content-Length: 0"]
            } else {
                &[]
            };
            let answer = raw::exchange(redirect, raw::request(method, host, target, lines))
                .await
                .unwrap();
            assert_eq!(answer.status, 308, "{method} {host}{target}");
            let host = host.to_lowercase().replace(":80", "");
            assert_eq!(answer.location(), format!("https://{host}:8443{target}"));
            assert_eq!(answer.headers.all("set-cookie"), [""; 0]);
            assert_eq!(
                answer.headers.one("strict-transport-security"),
                None,
                "RFC 6797 7.2"
            );
        }
    }
    let absolute =
        "GET http://wiki.test/deep?x=1 HTTP/1.1\r\nHost: wiki.test\r\nConnection: close\r\n\r\n";
    let answer = raw::exchange(redirect, absolute).await.unwrap();
    assert_eq!(
        (answer.status, answer.location()),
        (308, "https://wiki.test:8443/deep?x=1")
    );
    for (host, status) in [
        ("evil.test", 404),
        ("127.0.0.1", 404),
        ("wiki.test.evil.test", 404),
        ("wiki.test@evil", 400),
    ] {
        // Pingora closes without a response over a host that it cannot read.
        let answer = raw::exchange(redirect, raw::request("GET", host, "/", &[])).await;
        assert!(
            answer.is_none_or(|a| a.status == status && a.headers.one("location").is_none()),
            "{host}"
        );
    }
    let without_host = raw::exchange(redirect, "GET / HTTP/1.0\r\n\r\n").await;
    assert!(without_host.is_none_or(|answer| answer.status == 400));
    origin.assert_untouched("redirects");
}

#[tokio::test]
async fn acme_challenges_are_served_from_their_folder() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("acme")).unwrap();
    fs::write(folder.path().join("acme/a-Token_1"), "a-Token_1.thumbprint").unwrap();
    fs::write(folder.path().join("secret"), "secret").unwrap();
    let more = format!(
        "acme_challenges = \"{}\"",
        folder.path().join("acme").display()
    );
    let (_proxy, _origin, _idp, redirect) = with_redirect(&more).await;
    let get = async |host: &str, token: &str| {
        let target = format!("/.well-known/acme-challenge/{token}");
        raw::exchange(redirect, raw::request("GET", host, &target, &[]))
            .await
            .unwrap()
    };
    // A host of which the certificate is still to come is not configured yet.
    for host in ["wiki.test", "new.test"] {
        let answer = get(host, "a-Token_1").await;
        assert_eq!(
            (answer.status, answer.text().as_str()),
            (200, "a-Token_1.thumbprint")
        );
    }
    for token in [
        "missing",
        "",
        "../secret",
        "..%2Fsecret",
        "%2e%2e/secret",
        ".",
        "a-Token_1/",
        "a-Token_1%00",
    ] {
        let answer = get("new.test", token).await;
        assert_eq!(answer.status, 404, "{token}");
        assert!(!answer.text().contains("secret"), "{token}");
        assert_ne!(get("wiki.test", token).await.status, 200, "{token}");
    }
}

#[tokio::test]
async fn hsts_is_sent_over_tls_alone_and_only_if_configured() {
    let world = World::with(APPLICATIONS, |config| {
        config.tls = true;
        config.listen = "hsts = {}".to_owned();
    })
    .await;
    let header = async |world: &World, host: &str, target: &str| {
        let mut connection = world.proxy.connect("open.test").await;
        connection
            .send(raw::request("GET", host, target, &[]))
            .await;
        let answer = connection.response("GET").await.unwrap();
        answer
            .headers
            .all("strict-transport-security")
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    };
    for (host, target) in [
        ("open.test", "/"),
        ("wiki.test", "/"),
        ("access.test", "/"),
        ("unknown.test", "/"),
    ] {
        assert_eq!(
            header(&world, host, target).await,
            ["max-age=31536000"],
            "{host}{target}"
        );
    }
    let without = World::with(APPLICATIONS, |config| config.tls = true).await;
    assert_eq!(header(&without, "wiki.test", "/").await, [""; 0]);
    let more = World::with(APPLICATIONS, |config| {
        config.tls = true;
        config.listen = "hsts = { max_age = \"1h\", include_subdomains = true }".to_owned();
    })
    .await;
    assert_eq!(
        header(&more, "open.test", "/").await,
        ["max-age=3600; includeSubDomains"]
    );
}

/// Open for one client alone.
const NEIGHBOUR: &str = r#"
[[applications]]
name = "Neighbour"
domain = "near.$TLD"
origin = "$ORIGIN"
[[applications.policies]]
name = "one address"
decision = "bypass"
include = [{ ip = { ip = "203.0.113.7" } }]
"#;

async fn behind_a_balancer(tls: bool, trusted: &str) -> World {
    World::with(NEIGHBOUR, |config| {
        config.tls = tls;
        config.listen = format!("proxy_protocol = true\ntrusted_proxies = [\"{trusted}\"]");
    })
    .await
}

#[tokio::test]
async fn proxy_protocol_sets_the_client_and_is_mandatory() {
    let world = behind_a_balancer(false, "127.0.0.1").await;
    let request = raw::request("GET", "near.localhost", "/", &[]);
    let v2 = |command: u8, address: [u8; 4]| {
        let addresses = [&address[..], &[127, 0, 0, 1, 0x30, 0x39, 1, 187]].concat();
        [
            b"\r\n\r\n\0\r\nQUIT\n".as_slice(),
            &[0x20 | command, 0x11, 0, 12],
            &addresses,
        ]
        .concat()
    };
    let ask = async |header: &[u8], request: &str| {
        let mut connection = Connection::plain(world.proxy.address).await;
        connection.send([header, request.as_bytes()].concat()).await;
        connection.response("GET").await.map(|answer| answer.status)
    };
    assert_eq!(
        ask(b"PROXY TCP4 203.0.113.7 127.0.0.1 12345 443\r\n", &request).await,
        Some(200)
    );
    assert_eq!(ask(&v2(1, [203, 0, 113, 7]), &request).await, Some(200));
    let others: [&[u8]; 5] = [
        b"PROXY TCP4 203.0.113.8 127.0.0.1 12345 443\r\n",
        b"PROXY TCP6 2001:db8::7 ::1 12345 443\r\n",
        b"PROXY UNKNOWN\r\n",
        &v2(1, [203, 0, 113, 8]),
        &v2(0, [203, 0, 113, 7]),
    ];
    for header in others {
        let status = ask(header, &request).await;
        assert!(
            matches!(status, Some(302 | 401 | 403)),
            "{header:?}: {status:?}"
        );
    }
    // The client behind the balancer is no trusted proxy.
    let forged = raw::request(
        "GET",
        "near.localhost",
        "/",
        &["X-Forwarded-For: 203.0.113.7"],
    );
    for header in [
        b"PROXY TCP4 203.0.113.8 127.0.0.1 12345 443\r\n".as_slice(),
        b"PROXY UNKNOWN\r\n",
    ] {
        let status = ask(header, &forged).await;
        assert!(
            matches!(status, Some(302 | 401 | 403)),
            "{header:?}: {status:?}"
        );
    }
    assert_eq!(ask(b"", &request).await, None, "without a header");
    let twice = b"PROXY TCP4 203.0.113.8 127.0.0.1 1 2\r\nPROXY TCP4 203.0.113.7 127.0.0.1 1 2\r\n";
    assert!(
        !matches!(ask(twice, &request).await, Some(200..400)),
        "a header of the client's own"
    );
    assert_eq!(
        ask(b"PROXY TCP4 203.0.113.7 127.0.0.1 12345\r\n", &request).await,
        None,
        "a malformed header"
    );
    let stranger = behind_a_balancer(false, "192.0.2.1").await;
    let mut connection = Connection::plain(stranger.proxy.address).await;
    connection
        .send(["PROXY TCP4 203.0.113.7 127.0.0.1 12345 443\r\n", &request].concat())
        .await;
    assert!(
        connection.response("GET").await.is_none(),
        "a header from another peer"
    );
    // Without the setting it is no header.
    let world = World::with(NEIGHBOUR, |config| {
        config.listen = "trusted_proxies = [\"127.0.0.1\"]".to_owned()
    })
    .await;
    let answer = world
        .raw(["PROXY TCP4 203.0.113.7 127.0.0.1 12345 443\r\n", &request].concat())
        .await;
    assert!(answer.is_none_or(|answer| answer.status == 400));
}

#[tokio::test]
async fn proxy_protocol_comes_before_tls() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let world = behind_a_balancer(true, "127.0.0.0/8").await;
    let name = rustls::pki_types::ServerName::try_from("open.test").unwrap();
    let connector = tokio_rustls::TlsConnector::from(world.proxy.trust("http/1.1"));
    let mut stream = TcpStream::connect(world.proxy.address).await.unwrap();
    stream
        .write_all(b"PROXY TCP4 203.0.113.7 127.0.0.1 12345 443\r\n")
        .await
        .unwrap();
    let mut stream = connector.connect(name.clone(), stream).await.unwrap();
    stream
        .write_all(raw::request("GET", "near.test", "/", &[]).as_bytes())
        .await
        .unwrap();
    let mut answer = String::new();
    let _until_closed = stream.read_to_string(&mut answer).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let stream = TcpStream::connect(world.proxy.address).await.unwrap();
    assert!(
        connector.connect(name, stream).await.is_err(),
        "TLS without a header"
    );
}

#[tokio::test]
async fn forwarded_for_behind_proxy_protocol_is_ignored() {
    // The balancer is in a network with clients.
    let world = behind_a_balancer(false, "127.0.0.0/8\", \"10.0.0.0/8\", \"2001:db8::/32").await;
    let local = [
        b"\r\n\r\n\0\r\nQUIT\n".as_slice(),
        &[0x20, 0x11, 0, 12],
        &[10, 9, 9, 9, 127, 0, 0, 1, 1, 2, 1, 187],
    ];
    let headers: [&[u8]; 5] = [
        b"PROXY TCP4 10.9.9.9 127.0.0.1 12345 443\r\n",
        b"PROXY TCP4 127.0.0.1 127.0.0.1 12345 443\r\n",
        b"PROXY TCP6 2001:db8::9 ::1 12345 443\r\n",
        b"PROXY UNKNOWN\r\n",
        &local.concat(),
    ];
    for header in headers {
        for forged in [
            "203.0.113.7",
            "203.0.113.7, 10.1.1.1",
            "203.0.113.7, 127.0.0.1",
        ] {
            let line = format!("X-Forwarded-For: {forged}");
            let request = raw::request("GET", "near.localhost", "/", &[&line]);
            let mut connection = Connection::plain(world.proxy.address).await;
            connection.send([header, request.as_bytes()].concat()).await;
            let status = connection.response("GET").await.map(|answer| answer.status);
            let header = String::from_utf8_lossy(header);
            assert!(
                matches!(status, Some(302 | 401 | 403)),
                "{header:?} with {forged}: {status:?}"
            );
        }
    }
    world.origin.assert_untouched("forged addresses");
}

/// Opens an HTTP/2 connection with streams that never have room for a body.
async fn without_window(
    address: std::net::SocketAddr,
) -> (h2::client::SendRequest<Bytes>, tokio::task::JoinHandle<()>) {
    let stream = TcpStream::connect(address).await.unwrap();
    let mut builder = h2::client::Builder::new();
    let (client, connection) = builder
        .initial_window_size(0)
        .handshake(stream)
        .await
        .unwrap();
    let connection = tokio::spawn(async move {
        let _end = connection.await;
    });
    (client, connection)
}

#[tokio::test]
async fn client_with_a_closed_window_does_not_delay_the_end() {
    let (proxy, _origin, _idp, redirect) = with_redirect(SHORT).await;
    let mut targets = JoinSet::new();
    for (address, target) in [
        (redirect, "http://unknown.test/"),
        (proxy.metrics, "http://localhost/metrics"),
        (proxy.metrics, "http://localhost/readyz"),
        (proxy.metrics, "http://localhost/"),
    ] {
        targets.spawn(async move {
            for _ in 0..2 {
                let (mut client, connection) = without_window(address).await;
                let (answer, _) = client
                    .send_request(http::Request::get(target).body(()).unwrap(), true)
                    .unwrap();
                // The stream ends first, then the idle connection.
                let answer = tokio::time::timeout(Duration::from_secs(20), answer)
                    .await
                    .expect("no head")
                    .unwrap();
                let ended = tokio::time::timeout(Duration::from_secs(20), connection).await;
                ended
                    .unwrap_or_else(|_| {
                        panic!(
                            "the connection stays open after {} at {target}",
                            answer.status()
                        )
                    })
                    .unwrap();
            }
        });
    }
    targets.join_all().await;
    // The same over HTTP/1.1: more responses than the kernel stores.
    let mut stream = TcpStream::connect(proxy.metrics).await.unwrap();
    let requests = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(1000);
    let closed = async {
        use tokio::io::AsyncWriteExt;
        while stream.write_all(requests.as_bytes()).await.is_ok() {}
    };
    tokio::time::timeout(Duration::from_secs(30), closed)
        .await
        .expect("the connection stays open");
}

#[tokio::test]
async fn upload_while_the_proxy_connects_is_not_a_gap() {
    let silent = tokio::net::TcpListener::bind(("127.0.0.1", 0))
        .await
        .unwrap();
    let origin = format!("https://127.0.0.1:{}", silent.local_addr().unwrap().port());
    let application = APPLICATIONS.replace(
        "domain = \"open.$TLD\"\norigin = \"$ORIGIN\"",
        &format!("domain = \"open.$TLD\"\norigin = \"{origin}\"\norigin_settings = {{ connect_timeout = \"4s\" }}"),
    );
    assert!(application.contains(&origin));
    let world = World::with(&format!("{application}{SHORT}"), |_| ()).await;
    let stream = TcpStream::connect(world.proxy.address).await.unwrap();
    let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
    let _driver = tokio::spawn(connection);
    let request = http::Request::post("http://open.localhost/upload")
        .body(())
        .unwrap();
    let (answer, mut body) = client.send_request(request, false).unwrap();
    body.send_data(Bytes::from_static(b"hello"), false).unwrap();
    // The gap is as long as the proxy reads nothing, and that is no fault of the client.
    let answer = tokio::time::timeout(Duration::from_secs(20), answer)
        .await
        .expect("no answer");
    assert!(matches!(
        answer.expect("a response, no reset").status().as_u16(),
        502 | 504
    ));
}
