//! Upgrades and other long requests: their protocols, timeouts and ends.

use std::time::{Duration, Instant};

use crate::support::origin::Origin;
use crate::support::portcullis::{Config, Portcullis};
use crate::support::raw::{self, Connection};
use crate::support::switcher::{Manner, Switcher};
use crate::support::{
    APPLICATIONS, Idp, Person, World, at, before, older, open_application, open_paths,
};

/// An open application at `origin`.
pub(super) async fn open_at(origin: &str, settings: &str) -> (Portcullis, Idp) {
    open_with(&format!("\"{origin}\""), settings, "").await
}

/// An open application at one or several origins, with `more` at the end of the configuration.
pub(super) async fn open_with(origin: &str, settings: &str, more: &str) -> (Portcullis, Idp) {
    let keys = format!("origin_settings = {{ {settings} }}\nmax_body = \"1KiB\"");
    before(&(open_application("Open", origin, &keys) + more), |_| ()).await
}

/// An open application for each origin of these manners, at `/0`, `/1`, ….
async fn open_at_all(manners: &[Manner], settings: &str) -> (Portcullis, Idp, Vec<Switcher>) {
    let mut origins = Vec::new();
    for manner in manners {
        origins.push(Switcher::start(manner.clone()).await);
    }
    let urls: Vec<_> = origins.iter().map(Switcher::url).collect();
    let keys = format!("origin_settings = {{ {settings} }}");
    let (proxy, idp) = before(&open_paths(&urls, &keys), |_| ()).await;
    (proxy, idp, origins)
}

fn upgrade_at(index: usize) -> String {
    upgrade("GET", "websocket", &[]).replacen("/exec", &format!("/{index}/exec"), 1)
}

pub(super) fn upgrade(method: &str, protocol: &str, lines: &[&str]) -> String {
    let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    format!(
        "{method} /exec?command=sh HTTP/1.1\r\nHost: open.localhost\r\nConnection: keep-alive, Upgrade\r\n\
         Upgrade: {protocol}\r\n{lines}\r\n"
    )
}

pub(super) async fn switched(proxy: &Portcullis, request: &str) -> Connection {
    let mut connection = Connection::plain(proxy.address).await;
    connection.send(request).await;
    let answer = connection
        .response_head()
        .await
        .unwrap_or_else(|| panic!("no answer to {request}"));
    assert_eq!(answer.status, 101, "{request}");
    assert_eq!(connection.bytes(11).await, b"first-bytes", "{request}");
    connection
}

#[tokio::test]
async fn known_and_configured_protocols_are_tunnelled() {
    let origin = Switcher::start(Manner::Echo).await;
    let (proxy, _idp) = open_at(&origin.url(), r#"upgrades = ["Own/2"]"#).await;
    for (method, protocol, lines, body, sent) in [
        (
            "GET",
            "websocket",
            vec!["Sec-WebSocket-Key: a"],
            "",
            "websocket",
        ),
        ("GET", "WebSocket", vec![], "", "websocket"),
        (
            "POST",
            "SPDY/3.1",
            vec![
                "Content-Length: 0",
                "X-Stream-Protocol-Version: v4.channel.k8s.io",
            ],
            "",
            "SPDY/3.1",
        ),
        ("POST", "SPDY/3.1", vec![], "", "SPDY/3.1"),
        (
            "POST",
            "tcp",
            vec!["Content-Length: 13"],
            r#"{"Tty": true}"#,
            "tcp",
        ),
        (
            "POST",
            "tcp",
            vec!["Transfer-Encoding: chunked"],
            "5\r\nhello\r\n0\r\n\r\n",
            "tcp",
        ),
        ("GET", "own/2", vec![], "", "Own/2"),
        (
            "GET",
            "h2c, websocket",
            vec!["HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA"],
            "",
            "websocket",
        ),
    ] {
        let request = upgrade(method, protocol, &lines) + body;
        let mut connection = switched(&proxy, &request).await;
        for round in [
            b"\x00ping\xff".as_slice(),
            &[7; 100_000],
            b"GET /admin HTTP/1.1\r\n\r\n",
        ] {
            connection.send(round).await;
            assert_eq!(connection.bytes(round.len()).await, round, "{protocol}");
        }
        let (head, received) = origin.last();
        assert_eq!(head.headers.one("upgrade"), Some(sent), "{protocol}");
        assert_eq!(
            head.headers.one("connection"),
            Some("Upgrade"),
            "{protocol}"
        );
        assert_eq!(head.headers.one("http2-settings"), None, "{protocol}");
        assert_eq!(
            head.headers.one("x-forwarded-for"),
            Some("127.0.0.1"),
            "{protocol}"
        );
        let expected = if body.starts_with('5') { "hello" } else { body };
        assert_eq!(String::from_utf8_lossy(&received), expected, "{protocol}");
    }
}

#[tokio::test]
async fn unknown_protocols_are_forwarded_without_an_upgrade() {
    let origin = Switcher::start(Manner::Echo).await;
    let (proxy, _idp) = open_at(&origin.url(), "").await;
    for protocol in [
        "h2c",
        "H2C",
        "HTTP/2.0",
        "TLS/1.3",
        "tls",
        "h2",
        "unknown/1",
        "websocket2",
    ] {
        let mut connection = Connection::plain(proxy.address).await;
        connection
            .send(upgrade(
                "GET",
                protocol,
                &["HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA"],
            ))
            .await;
        let answer = connection.response("GET").await.unwrap();
        assert_eq!(
            (answer.status, answer.text().as_str()),
            (200, "ordinary"),
            "{protocol}"
        );
        let (head, _) = origin.last();
        for name in ["upgrade", "connection", "http2-settings"] {
            assert_eq!(head.headers.one(name), None, "{protocol}: {name}");
        }
    }
    for request in [
        "GET / HTTP/1.1\r\nHost: open.localhost\r\nUpgrade: websocket\r\n\r\n",
        "GET / HTTP/1.0\r\nHost: open.localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    ] {
        let answer = raw::exchange(proxy.address, request).await.unwrap();
        assert_eq!(
            (answer.status, answer.text().as_str()),
            (200, "ordinary"),
            "{request}"
        );
        assert_eq!(origin.last().0.headers.one("upgrade"), None, "{request}");
    }
}

#[tokio::test]
async fn misused_upgrade_is_refused() {
    let origin = Switcher::start(Manner::Echo).await;
    let (proxy, _idp) = open_at(&origin.url(), "").await;
    let mut connection = Connection::plain(proxy.address).await;
    connection
        .send(upgrade("POST", "tcp", &["Content-Length: 5000"]))
        .await;
    assert_eq!(connection.response("POST").await.unwrap().status, 413);
    let mut connection = Connection::plain(proxy.address).await;
    let body = format!("{:x}\r\n{}\r\n0\r\n\r\n", 5000, "a".repeat(5000));
    connection
        .send(upgrade("POST", "tcp", &["Transfer-Encoding: chunked"]) + &body)
        .await;
    assert_eq!(
        connection
            .response("POST")
            .await
            .map(|answer| answer.status),
        Some(413)
    );
    for named in ["X-Forwarded-For", "Host", "Cookie"] {
        let line = format!("Connection: {named}");
        let mut connection = Connection::plain(proxy.address).await;
        connection.send(upgrade("GET", "websocket", &[&line])).await;
        assert_eq!(
            connection.response("GET").await.unwrap().status,
            400,
            "{named}"
        );
    }
}

#[tokio::test]
async fn answer_that_refuses_the_upgrade_is_forwarded() {
    let answers = [
        (
            "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nKeep-Alive: timeout=5\r\n\r\nno",
            403,
            "no",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n",
            200,
            "no",
        ),
        (
            "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
            103,
            "",
        ),
        (
            "HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nContent-Length: 0\r\n\r\n",
            426,
            "",
        ),
    ];
    let manners = answers.map(|(answer, ..)| Manner::Fixed(answer));
    let (proxy, _idp, _origins) = open_at_all(&manners, "").await;
    for (index, (answer, status, body)) in answers.into_iter().enumerate() {
        let mut connection = Connection::plain(proxy.address).await;
        connection.send(upgrade_at(index)).await;
        let received = if status == 103 {
            assert_eq!(connection.response_head().await.unwrap().status, 103);
            connection.response("GET").await.unwrap()
        } else {
            connection.response("GET").await.unwrap()
        };
        assert_eq!(
            received.status,
            if status == 103 { 204 } else { status },
            "{answer}"
        );
        assert_eq!(received.text(), body, "{answer}");
        assert_eq!(received.headers.one("keep-alive"), None, "{answer}");
        // The connection goes on with ordinary requests.
        connection
            .send("GET /cdn-cgi/unknown HTTP/1.1\r\nHost: unknown.localhost\r\n\r\n")
            .await;
        assert_eq!(
            connection.response("GET").await.unwrap().status,
            404,
            "{answer}"
        );
    }
}

#[tokio::test]
async fn broken_answer_to_an_upgrade_is_a_gateway_error() {
    let answers = [
        (
            Manner::Fixed(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
            ),
            502,
        ),
        (
            Manner::Fixed("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\r\n"),
            502,
        ),
        (
            Manner::Fixed(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nUpgrade: h2c\r\n\r\n",
            ),
            502,
        ),
        (
            Manner::Fixed("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket, h2c\r\n\r\n"),
            502,
        ),
        (
            Manner::Fixed("HTTP/1.0 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"),
            502,
        ),
        (Manner::Fixed("nonsense\r\n\r\n"), 502),
        (Manner::Silent, 504),
    ];
    let manners = answers.clone().map(|(manner, _)| manner);
    let (proxy, _idp, _origins) = open_at_all(&manners, r#"read_timeout = "1s""#).await;
    for (index, (manner, status)) in answers.into_iter().enumerate() {
        let mut connection = Connection::plain(proxy.address).await;
        connection.send(upgrade_at(index)).await;
        assert_eq!(
            connection.response("GET").await.map(|answer| answer.status),
            Some(status),
            "{manner:?}"
        );
    }
}

#[tokio::test]
async fn tunnel_survives_a_101_before_the_request_body_ends() {
    let origin = Switcher::start(Manner::Hasty).await;
    let (proxy, _idp) = open_at(&origin.url(), "").await;
    for round in 0..50 {
        let mut connection = switched(&proxy, &upgrade("GET", "websocket", &[])).await;
        connection.send("ping").await;
        assert_eq!(connection.bytes(4).await, b"ping", "round {round}");
    }
}

#[tokio::test]
async fn bytes_sent_before_the_101_reach_the_origin_after_it() {
    let origin = Switcher::start(Manner::Echo).await;
    let (proxy, _idp) = open_at(&origin.url(), "").await;
    let mut connection = switched(&proxy, &(upgrade("POST", "tcp", &[]) + "early")).await;
    connection.send(" late").await;
    assert_eq!(connection.bytes(10).await, b"early late");
}

#[tokio::test]
async fn half_of_a_tunnel_may_end_before_the_other() {
    let origin = Switcher::start(Manner::Reply).await;
    let (proxy, _idp) = open_at(&origin.url(), "").await;
    let mut connection = switched(&proxy, &upgrade("POST", "tcp", &[])).await;
    connection.send("all of the input").await;
    connection.finish().await;
    assert_eq!(connection.bytes(16).await, b"all of the input");
    assert!(connection.is_closed().await);
}

#[tokio::test]
async fn tunnel_is_idle_until_its_own_timeout() {
    let origin = Switcher::start(Manner::Echo).await;
    let (proxy, _idp) = open_at(
        &origin.url(),
        r#"read_timeout = "1s", tunnel_timeout = "4s""#,
    )
    .await;
    let mut connection = switched(&proxy, &upgrade("GET", "websocket", &[])).await;
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_secs(2)).await;
        connection.send("ping").await;
        assert_eq!(
            connection.bytes(4).await,
            b"ping",
            "longer than `read_timeout`"
        );
    }
    assert!(connection.is_closed().await, "longer than `tunnel_timeout`");
}

/// Everything of one user that can go on: a tunnel, a stream over HTTP/1.1, an upload.
struct Ongoing {
    tunnel: Connection,
    stream: Connection,
    upload: Connection,
}

impl Ongoing {
    async fn start(world: &World, host: &str, token: &str) -> Self {
        let lines = format!("Host: {host}\r\nCookie: CF_Authorization={token}\r\n");
        let mut tunnel = world.proxy.connect(host).await;
        let asked = format!(
            "GET /origin/ws HTTP/1.1\r\n{lines}Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
        );
        tunnel.send(asked).await;
        assert_eq!(tunnel.response_head().await.unwrap().status, 101);
        let mut stream = world.proxy.connect(host).await;
        stream
            .send(format!("GET /origin/stream HTTP/1.1\r\n{lines}\r\n"))
            .await;
        assert_eq!(stream.response_head().await.unwrap().status, 200);
        let mut upload = world.proxy.connect(host).await;
        upload
            .send(format!("POST /origin/upload HTTP/1.1\r\n{lines}Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n"))
            .await;
        Self {
            tunnel,
            stream,
            upload,
        }
    }

    async fn assert_goes_on(&mut self) {
        self.tunnel.send("ping").await;
        assert_eq!(self.tunnel.bytes(4).await, b"ping");
        self.upload.send("1\r\na\r\n").await;
        for connection in [&mut self.stream, &mut self.upload] {
            assert!(!connection.closes_within(Duration::from_millis(200)).await);
        }
    }

    async fn assert_ends_within(&mut self, limit: Duration) {
        let deadline = Instant::now() + limit;
        for connection in [&mut self.tunnel, &mut self.stream, &mut self.upload] {
            assert!(
                connection
                    .closes_within(deadline.saturating_duration_since(Instant::now()))
                    .await
            );
        }
    }
}

#[tokio::test]
async fn running_requests_end_with_logout_policy_or_session() {
    let short = r#"
[[applications]]
name = "Short"
domain = "short.$TLD"
origin = "$ORIGIN"
session_duration = "1m"
allowed_idps = ["okta"]
auto_redirect_to_identity = true
[[applications.policies]]
name = "members"
decision = "allow"
include = [{ everyone = {} }]
"#;
    // The streams are silent for longer than the usual `read_timeout`.
    let patient = "origin = \"$ORIGIN\"\norigin_settings = { read_timeout = \"10m\" }";
    let applications = format!("{APPLICATIONS}{short}").replace("origin = \"$ORIGIN\"", patient);
    let mut world = World::with(&applications, |_| ()).await;
    let limit = Duration::from_secs(30);
    let mut alice = world
        .signed_in(Person::alice(), "http://short.localhost/")
        .await;
    let token = alice.cookie("short.localhost", "CF_Authorization").unwrap();
    // 30 of its 60 seconds are left.
    let mut expiring = Ongoing::start(&world, "short.localhost", &older(token, 30)).await;
    let started = Instant::now();

    let mut bob = world
        .signed_in(Person::bob(), "http://app.localhost/")
        .await;
    let token = bob
        .cookie("app.localhost", "CF_Authorization")
        .unwrap()
        .to_owned();
    let mut of_bob = Ongoing::start(&world, "app.localhost", &token).await;
    let mut anonymous = Connection::plain(world.proxy.address).await;
    anonymous
        .send("GET /origin/stream HTTP/1.1\r\nHost: open.localhost\r\n\r\n")
        .await;
    anonymous.response_head().await.unwrap();
    alice.open("http://app.localhost/").await;
    let token = alice
        .cookie("app.localhost", "CF_Authorization")
        .unwrap()
        .to_owned();
    let mut of_alice = Ongoing::start(&world, "app.localhost", &token).await;

    bob.open("http://access.localhost/cdn-cgi/access/logout")
        .await;
    of_bob.assert_ends_within(limit).await;
    of_alice.assert_goes_on().await;
    expiring.assert_goes_on().await;

    let closed = r#"decision = "deny""#;
    let at_app = world.proxy.config.rest.find("name = \"members\"").unwrap();
    let (before, after) = world.proxy.config.rest.split_at(at_app);
    world.proxy.config.rest = format!(
        "{before}{}",
        after.replacen(r#"decision = "allow""#, closed, 1)
    );
    world.proxy.write_config();
    world.proxy.signal("HUP");
    of_alice.assert_ends_within(limit).await;

    if let Some(rest) = Duration::from_secs(25).checked_sub(started.elapsed()) {
        tokio::time::sleep(rest).await;
        expiring.assert_goes_on().await;
    }
    expiring
        .assert_ends_within(limit + Duration::from_secs(30).saturating_sub(started.elapsed()))
        .await;
    assert!(
        !anonymous.closes_within(Duration::from_millis(200)).await,
        "no other request is cut"
    );
    assert!(
        world
            .proxy
            .log()
            .contains("cut a running request that is no longer allowed")
    );
}

#[tokio::test]
async fn http2_stream_ends_alone_with_its_session() {
    let (idp, origin) = (Idp::start().await, Origin::start().await);
    let mut config = Config::new(&idp.issuer, APPLICATIONS);
    config.tls = true;
    let proxy = Portcullis::start(at(config, &origin.url("h2c"))).await;
    idp.script(|script| script.person = Person::alice());
    let mut browser = crate::support::Browser::new(&proxy);
    browser.open("https://app.test/").await;
    let token = browser
        .cookie("app.test", "CF_Authorization")
        .unwrap()
        .to_owned();
    let mut connection = proxy.connect2("app.test").await;
    let call = |host: &str| {
        let request = http::Request::post(format!("https://{host}/echo.Echo/Stream"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("cf-access-token", &token);
        request.body(()).unwrap()
    };
    let (response, _held) = connection.begin(call("app.test")).await;
    let mut ending = response.await.unwrap().into_body();
    // Open to all: the same connection to the proxy, and the same one to the origin.
    let (response, mut sending) = connection.begin(call("open.test")).await;
    let mut staying = response.await.unwrap().into_body();
    browser
        .open("https://access.test/cdn-cgi/access/logout")
        .await;
    let end = tokio::time::timeout(Duration::from_secs(30), ending.data())
        .await
        .expect("the stream goes on");
    assert!(
        end.as_ref().is_some_and(|end| end.is_err()),
        "a cut looks like an end: {end:?}"
    );
    sending.send_data("hello".into(), false).unwrap();
    assert_eq!(staying.data().await.unwrap().unwrap(), "hello");
}
