//! Responses of origins: hop-by-hop fields, and the framing for each kind of client.

use std::time::Duration;

use crate::support::origin::Origin;
use crate::support::raw;
use crate::support::recorder::{Recorder, When};
use crate::support::{Idp, Portcullis, before, open_application, open_paths};

/// An open application at `origin`, over TLS.
async fn open_at(origin: &str) -> (Portcullis, Idp) {
    before(
        &open_application("Open", &format!("\"{origin}\""), ""),
        |config| config.tls = true,
    )
    .await
}

/// An open application over TLS for each origin, at `/0`, `/1`, ….
async fn open_at_all(origins: &[Recorder]) -> (Portcullis, Idp) {
    let urls: Vec<_> = origins.iter().map(Recorder::url).collect();
    before(&open_paths(&urls, ""), |config| config.tls = true).await
}

/// A response of the origin that must arrive as this status and body, without the named fields.
struct Row {
    from_origin: &'static str,
    status: u16,
    body: &'static str,
    absent: &'static [&'static str],
}

const ROWS: [Row; 19] = [
    Row {
        from_origin: "HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Hop\r\nX-Hop: a\r\nKeep-Alive: timeout=5\r\n\
                      Proxy-Connection: keep-alive\r\nProxy-Authenticate: Basic\r\nTE: trailers\r\nContent-Length: 2\r\n\r\nok",
        status: 200,
        body: "ok",
        absent: &[
            "x-hop",
            "keep-alive",
            "proxy-connection",
            "proxy-authenticate",
            "te",
            "upgrade",
        ],
    },
    Row {
        from_origin: "HTTP/1.1 200 OK\r\nUpgrade: h2,h2c\r\nConnection: Upgrade\r\nConnection: x-hop\r\nX-Hop: a\r\n\
                      Content-Length: 2\r\n\r\nok",
        status: 200,
        body: "ok",
        absent: &["upgrade", "x-hop"],
    },
    // The framing stays, whatever `Connection` names.
    Row {
        from_origin: "HTTP/1.1 200 OK\r\nConnection: content-length, \"quoted\", :x, ,\r\nContent-Length: 2\r\n\r\nok",
        status: 200,
        body: "ok",
        absent: &[],
    },
    Row {
        from_origin: "HTTP/1.1 200 OK\r\nConnection: transfer-encoding\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        status: 200,
        body: "ok",
        absent: &[],
    },
    Row {
        from_origin: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
        status: 200,
        body: "ok",
        absent: &[],
    },
    Row {
        from_origin: "HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok",
        status: 200,
        body: "ok",
        absent: &[],
    },
    Row {
        from_origin: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        status: 502,
        body: "",
        absent: &[],
    },
    Row {
        from_origin: "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        status: 502,
        body: "",
        absent: &["upgrade"],
    },
    Row {
        from_origin: "HTTP/1.1 101 Switching Protocols\r\n\r\n",
        status: 502,
        body: "",
        absent: &[],
    },
    Row {
        from_origin: "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\nContent-Length: 2\r\n\r\nok",
        status: 502,
        body: "",
        absent: &[],
    },
    // Without `chunked` at the end only the connection's end would end the body.
    Row {
        from_origin: "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nok",
        status: 502,
        body: "",
        absent: &[],
    },
    Row {
        from_origin: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, identity\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        status: 502,
        body: "",
        absent: &[],
    },
    Row {
        from_origin: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        status: 502,
        body: "",
        absent: &[],
    },
    Row {
        from_origin: "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity, Chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        status: 200,
        body: "ok",
        absent: &[],
    },
    Row {
        from_origin: "HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: gzip\r\nETag: \"a\"\r\n\r\n",
        status: 304,
        body: "",
        absent: &["transfer-encoding"],
    },
    Row {
        from_origin: "HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: Identity\r\nETag: \"a\"\r\n\r\n",
        status: 304,
        body: "",
        absent: &["transfer-encoding"],
    },
    Row {
        from_origin: "HTTP/1.1 103 Early Hints\r\nConnection: x-hop\r\nX-Hop: a\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        status: 200,
        body: "ok",
        absent: &["x-hop"],
    },
    Row {
        from_origin: "HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: 2\r\n\r\nok",
        status: 426,
        body: "ok",
        absent: &[],
    },
    Row {
        from_origin: "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\nContent-Length: 2\r\n\r\nok",
        status: 407,
        body: "ok",
        absent: &["proxy-authenticate"],
    },
];

#[tokio::test]
async fn hop_by_hop_fields_and_odd_framing_end_at_the_proxy() {
    let mut origins = Vec::new();
    for row in &ROWS {
        origins.push(Recorder::start(row.from_origin, When::Complete).await);
    }
    let (proxy, _idp) = open_at_all(&origins).await;
    for (index, row) in ROWS.into_iter().enumerate() {
        let Row {
            from_origin,
            status,
            body,
            absent,
        } = row;
        let mut connection = proxy.connect("open.test").await;
        connection
            .send(format!("GET /{index} HTTP/1.1\r\nHost: open.test\r\n\r\n"))
            .await;
        let mut answer = connection
            .response("GET")
            .await
            .unwrap_or_else(|| panic!("no answer for {from_origin}"));
        if answer.status == 103 {
            assert_eq!(answer.headers.one("x-hop"), None);
            answer = connection.response("GET").await.unwrap();
        }
        assert_eq!(answer.status, status, "{from_origin}");
        assert!(
            status == 502 || answer.text() == body,
            "{from_origin}: {}",
            answer.text()
        );
        for name in absent {
            assert_eq!(
                answer.headers.one(name),
                None,
                "HTTP/1.1, {name}: {from_origin}"
            );
        }
        assert!(
            answer
                .headers
                .all("connection")
                .iter()
                .all(|value| matches!(*value, "keep-alive" | "close"))
        );
        assert_eq!(
            answer.headers.one("upgrade").is_some(),
            status == 426,
            "{from_origin}"
        );

        let mut connection = proxy.connect2("open.test").await;
        let request = http::Request::get(format!("https://open.test/{index}"));
        let answer = connection
            .request(request.body(()).unwrap(), b"")
            .await
            .unwrap_or_else(|e| panic!("{e}: {from_origin}"));
        assert_eq!(answer.head.status.as_u16(), status, "{from_origin}");
        assert!(
            status == 502 || answer.body == body.as_bytes(),
            "{from_origin}"
        );
        for name in absent {
            assert!(
                !answer.head.headers.contains_key(*name),
                "HTTP/2, {name}: {from_origin}"
            );
        }
        assert!(
            answer.head.headers.get_all("content-length").iter().count() <= 1,
            "{from_origin}"
        );
    }
}

#[tokio::test]
async fn identity_coding_ends_with_the_connection() {
    let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\nConnection: close\r\n\r\nok";
    let origin = Recorder::start(answer, When::HeadAndClose).await;
    let (proxy, _idp) = open_at(&origin.url()).await;
    let mut connection = proxy.connect("open.test").await;
    for _ in 0..2 {
        connection
            .send("GET / HTTP/1.1\r\nHost: open.test\r\n\r\n")
            .await;
        let answer = connection.response("GET").await.unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
        assert_eq!(answer.headers.one("transfer-encoding"), Some("chunked"));
    }
    let request = http::Request::get("https://open.test/").body(()).unwrap();
    let answer = proxy
        .connect2("open.test")
        .await
        .request(request, b"")
        .await
        .unwrap();
    assert_eq!(
        (answer.head.status.as_u16(), answer.body.as_slice()),
        (200, b"ok".as_slice())
    );
}

#[tokio::test]
async fn http10_client_may_name_its_version_in_tls() {
    let origin = Recorder::start(
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        When::Complete,
    )
    .await;
    let (proxy, _idp) = open_at(&origin.url()).await;
    let mut connection =
        raw::Connection::tls(proxy.address, "open.test", &proxy.trust("http/1.0")).await;
    connection
        .send("GET / HTTP/1.0\r\nHost: open.test\r\n\r\n")
        .await;
    assert_eq!(connection.response("GET").await.unwrap().text(), "hello");
}

#[tokio::test]
async fn http10_client_gets_no_chunks() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    let interim = "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    let closing = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello";
    let known = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    let answers = [
        (chunked, When::Complete),
        (interim, When::Complete),
        (closing, When::HeadAndClose),
        (known, When::Complete),
    ];
    let mut origins = Vec::new();
    for (answer, when) in answers {
        origins.push(Recorder::start(answer, when).await);
    }
    let (proxy, _idp) = open_at_all(&origins).await;
    for (index, (answer, _)) in answers.into_iter().enumerate() {
        for lines in ["", "Connection: keep-alive\r\n", "Expect: 100-continue\r\n"] {
            let mut connection = proxy.connect("open.test").await;
            connection
                .send(format!(
                    "GET /{index} HTTP/1.0\r\nHost: open.test\r\n{lines}\r\n"
                ))
                .await;
            let received = connection.response("GET").await.unwrap();
            assert_eq!(
                (received.status, received.text().as_str()),
                (200, "hello"),
                "{answer} {lines}"
            );
            assert_eq!(
                received.headers.one("transfer-encoding"),
                None,
                "{answer} {lines}"
            );
            let keeps = answer == known && lines.starts_with("Connection");
            assert_eq!(
                received.headers.one("connection"),
                Some(if keeps { "keep-alive" } else { "close" })
            );
            if keeps {
                connection
                    .send(format!("GET /{index} HTTP/1.0\r\nHost: open.test\r\n\r\n"))
                    .await;
                assert_eq!(connection.response("GET").await.unwrap().text(), "hello");
            }
            assert!(connection.is_closed().await, "{answer} {lines}");
        }
        let head = format!("HEAD /{index} HTTP/1.0\r\nHost: open.test\r\n\r\n");
        let mut connection = proxy.connect("open.test").await;
        connection.send(head).await;
        let received = connection.response("HEAD").await.unwrap();
        assert_eq!(
            (received.status, received.headers.one("transfer-encoding")),
            (200, None),
            "{answer}"
        );
    }
    for bytes in [b"Expect".as_slice(), b"expect"] {
        let origin = Recorder::start(known, When::Complete).await;
        let (proxy, _idp) = open_at(&origin.url()).await;
        let mut connection = proxy.connect("open.test").await;
        connection
            .send("GET / HTTP/1.0\r\nHost: open.test\r\nExpect: 100-continue\r\n\r\n")
            .await;
        connection.response("GET").await.unwrap();
        let sent = origin.connections().concat();
        assert!(!sent.windows(bytes.len()).any(|window| window == bytes));
    }
}

#[tokio::test]
async fn http10_client_gets_no_chunks_from_an_http2_origin() {
    let origin = Origin::start().await;
    let (proxy, _idp) = open_at(&origin.url("h2c")).await;
    let mut connection = proxy.connect("open.test").await;
    connection
        .send("GET /page HTTP/1.0\r\nHost: open.test\r\nConnection: keep-alive\r\n\r\n")
        .await;
    let received = connection.response("GET").await.unwrap();
    assert_eq!(received.json()["target"], "/page");
    assert_eq!(received.headers.one("transfer-encoding"), None);
    assert_eq!(received.headers.one("connection"), Some("close"));
    assert!(connection.is_closed().await);
}

#[tokio::test]
async fn http10_client_gets_our_pages() {
    let origin = Origin::start().await;
    let (proxy, _idp) = open_at(&origin.url("http")).await;
    let mut connection = proxy.connect("open.test").await;
    connection
        .send("GET / HTTP/1.0\r\nHost: unknown.test\r\n\r\n")
        .await;
    let received = tokio::time::timeout(Duration::from_secs(5), connection.response("GET"))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (received.status, received.headers.one("transfer-encoding")),
        (404, None)
    );
    assert!(
        raw::exchange(proxy.metrics, "GET /healthz HTTP/1.0\r\n\r\n")
            .await
            .is_some()
    );
}
