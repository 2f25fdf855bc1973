//! Bodies of requests: each ends exactly once at the origin, and none is lost with the answer that
//! refuses it.

use std::time::Duration;

use bytes::Bytes;
use h2::SendStream;

use crate::support::origin::Origin;
use crate::support::portcullis::free_address;
use crate::support::raw::{self, Connection2};
use crate::support::recorder::{Recorder, When};
use crate::support::{Idp, Portcullis, before, open_application};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// An open application at `origin`, over TLS, so that clients may speak HTTP/2.
async fn open_at(origin: &str, keys: &str) -> (Portcullis, Idp) {
    let dead = format!("\"http://{}\"", free_address());
    let with_policy = |name: &str, decision: &str, rule: &str| {
        format!(
            r#"
[[applications]]
name = "{name}"
domain = "{name}.$TLD"
origin = {dead}
[[applications.policies]]
name = "only"
decision = "{decision}"
include = [{{ {rule} = {{}} }}]
"#
        )
    };
    let applications = [
        open_application("dead", &dead, ""),
        with_policy("closed", "allow", "everyone"),
        with_policy("denied", "non_identity", "any_valid_service_token"),
        open_application("open", &format!("\"{origin}\""), keys),
    ];
    before(&applications.concat(), |config| config.tls = true).await
}

/// Pause between two frames, so that they arrive as two reads.
async fn pause() {
    tokio::time::sleep(Duration::from_millis(30)).await;
}

fn post(length: Option<usize>) -> http::Request<()> {
    upload_request("POST", length)
}

fn put(length: Option<usize>) -> http::Request<()> {
    upload_request("PUT", length)
}

fn upload_request(method: &str, length: Option<usize>) -> http::Request<()> {
    let request = http::Request::builder()
        .method(method)
        .uri("https://open.test/upload");
    let request = match length {
        Some(length) => request.header("content-length", length),
        None => request,
    };
    request.body(()).unwrap()
}

/// The ends of a body over HTTP/2, each with the bytes that an HTTP/1.1 origin must receive after
/// the head.
const ENDINGS: [(&str, Option<usize>, &str); 11] = [
    (
        "data, then an empty DATA frame",
        None,
        "5\r\nhello\r\n0\r\n\r\n",
    ),
    (
        "data, pause, then an empty DATA frame",
        None,
        "5\r\nhello\r\n0\r\n\r\n",
    ),
    ("END_STREAM on the data", None, "5\r\nhello\r\n0\r\n\r\n"),
    (
        "empty frames between data",
        None,
        "5\r\nhello\r\n5\r\nworld\r\n0\r\n\r\n",
    ),
    ("trailers", None, "5\r\nhello\r\n0\r\n\r\n"),
    ("trailers without data", None, "0\r\n\r\n"),
    ("nothing but an empty DATA frame", None, "0\r\n\r\n"),
    ("END_STREAM on HEADERS", None, ""),
    ("length, then an empty DATA frame", Some(5), "hello"),
    ("length, END_STREAM on the data", Some(5), "hello"),
    ("length zero, then an empty DATA frame", Some(0), ""),
];

async fn send(body: &mut SendStream<Bytes>, ending: &str) {
    // A body that is declared empty may be answered, and its stream closed, before the frame that
    // ends it.
    let late = ending == "length zero, then an empty DATA frame";
    let mut data = |data: &'static str, end| {
        let sent = body.send_data(Bytes::from_static(data.as_bytes()), end);
        assert!(sent.is_ok() || late, "{ending}: {sent:?}");
    };
    match ending {
        "data, then an empty DATA frame" | "length, then an empty DATA frame" => {
            data("hello", false);
            data("", true);
        }
        "data, pause, then an empty DATA frame" => {
            data("hello", false);
            pause().await;
            data("", true);
        }
        "END_STREAM on the data" | "length, END_STREAM on the data" => data("hello", true),
        "empty frames between data" => {
            for piece in ["", "hello", "", "world", ""] {
                data(piece, false);
                pause().await;
            }
            data("", true);
        }
        "trailers" | "trailers without data" => {
            if ending == "trailers" {
                data("hello", false);
            }
            pause().await;
            let trailers =
                http::HeaderMap::from_iter([(http::header::ETAG, "\"sum\"".parse().unwrap())]);
            body.send_trailers(trailers).unwrap();
        }
        "nothing but an empty DATA frame" | "length zero, then an empty DATA frame" => {
            pause().await;
            data("", true);
        }
        other => panic!("no such ending: {other}"),
    }
}

async fn upload(
    connection: &mut Connection2,
    ending: &str,
    length: Option<usize>,
) -> (u16, Vec<u8>) {
    if ending == "END_STREAM on HEADERS" {
        let answer = connection.request(post(length), b"").await.unwrap();
        return (answer.head.status.as_u16(), answer.body);
    }
    let (response, mut body) = connection.begin(post(length)).await;
    send(&mut body, ending).await;
    let (head, mut incoming) = tokio::time::timeout(Duration::from_secs(15), response)
        .await
        .unwrap()
        .unwrap()
        .into_parts();
    let mut received = Vec::new();
    while let Some(piece) = incoming.data().await {
        received.extend_from_slice(&piece.unwrap());
    }
    (head.status.as_u16(), received)
}

#[tokio::test]
async fn http2_body_ends_once_at_an_http1_origin() {
    let origin = Recorder::start(OK, When::Complete).await;
    let (proxy, _idp) = open_at(&origin.url(), "").await;
    let mut connection = proxy.connect2("open.test").await;
    let mut expected = Vec::new();
    for (ending, length, at_origin) in ENDINGS {
        assert_eq!(
            upload(&mut connection, ending, length).await,
            (200, b"ok".to_vec()),
            "{ending}"
        );
        expected.push(at_origin.to_owned());
        // The next request on the pooled connection is whole, and nothing is left over before it.
        let answer = connection
            .request(
                http::Request::get("https://open.test/next")
                    .body(())
                    .unwrap(),
                b"",
            )
            .await;
        assert_eq!(answer.unwrap().head.status, 200, "after {ending}");
        expected.push(String::new());
    }
    // A request may begin before the connection of the last one is back in the pool. Then the record
    // has two connections, and the order of requests is lost.
    let mut bodies = origin.bodies();
    bodies.sort();
    expected.sort();
    assert_eq!(bodies, expected);
    let connections = origin.connections().len();
    assert!(
        connections < expected.len(),
        "{connections} connections: none was used again"
    );
}

#[tokio::test]
async fn retried_http2_body_ends_once() {
    let origin = Recorder::start(OK, When::FirstOnly).await;
    let (proxy, _idp) = open_at(&origin.url(), "").await;
    let mut connection = proxy.connect2("open.test").await;
    let first = connection
        .request(
            http::Request::get("https://open.test/first")
                .body(())
                .unwrap(),
            b"",
        )
        .await;
    assert_eq!(first.unwrap().head.status, 200);
    let ways = ENDINGS
        .iter()
        .filter(|(ending, ..)| *ending != "END_STREAM on HEADERS");
    for (ending, length, at_origin) in ways {
        let before = origin.connections().len();
        // The origin closes the pooled connection on this request, so it is sent again on a fresh
        // one.
        let (response, mut body) = connection.begin(put(*length)).await;
        send(&mut body, ending).await;
        let answer = tokio::time::timeout(Duration::from_secs(15), response)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(answer.status(), 200, "{ending}");
        let connections = origin.connections();
        assert_eq!(
            connections.len(),
            before + 1,
            "{ending}: one more connection"
        );
        assert!(
            connections[before].starts_with(b"PUT /upload HTTP/1.1\r\n"),
            "{ending}"
        );
        let bodies = origin.bodies();
        let body = bodies.last().unwrap();
        // A body known to be empty by then needs no framing.
        assert!(
            body == at_origin || *at_origin == "0\r\n\r\n" && body.is_empty(),
            "{ending}: {body:?}"
        );
    }
}

#[tokio::test]
async fn http2_body_ends_once_at_an_http2_origin() {
    let origin = Origin::start().await;
    let (proxy, _idp) = open_at(&origin.url("h2c"), "").await;
    let mut connection = proxy.connect2("open.test").await;
    for (ending, length, at_origin) in ENDINGS {
        let (status, answer) = upload(&mut connection, ending, length).await;
        let received =
            serde_json::from_slice::<serde_json::Value>(&answer).unwrap()["body"].as_u64();
        let sent = at_origin.matches("hello").count() * 5 + at_origin.matches("world").count() * 5;
        assert_eq!((status, received), (200, Some(sent as u64)), "{ending}");
    }
}

#[tokio::test]
async fn http1_body_ends_once_at_an_http1_origin() {
    let origin = Recorder::start(OK, When::Complete).await;
    let (proxy, _idp) = open_at(&origin.url(), "").await;
    let mut connection = proxy.connect("open.test").await;
    let mut expected = Vec::new();
    let chunked = "Transfer-Encoding: chunked";
    let whole = "5\r\nhello\r\n0\r\n\r\n";
    for (line, parts, at_origin) in [
        (chunked, vec!["5\r\nhello\r\n0\r\n\r\n"], whole),
        (chunked, vec!["5\r\nhello\r\n", "0\r\n\r\n"], whole),
        (
            chunked,
            vec!["5\r\nhel", "lo\r\n0", "\r\n", "\r\n"],
            "3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n",
        ),
        (chunked, vec!["5;a=b\r\nhello\r\n", "0;c\r\n\r\n"], whole),
        (
            chunked,
            vec!["5\r\nhello\r\n0\r\nX-Sum: 1\r\n", "X-More: 2\r\n\r\n"],
            whole,
        ),
        (chunked, vec!["0\r\n\r\n"], "0\r\n\r\n"),
        (chunked, vec!["", "0\r\n", "X-Sum: 1\r\n\r\n"], "0\r\n\r\n"),
        ("Content-Length: 5", vec!["hel", "lo"], "hello"),
        ("Content-Length: 0", vec![], ""),
        ("X-None: 1", vec![], ""),
    ] {
        connection
            .send(format!(
                "POST /upload HTTP/1.1\r\nHost: open.test\r\n{line}\r\n\r\n"
            ))
            .await;
        for part in &parts {
            pause().await;
            connection.send(part).await;
        }
        let answer = connection
            .response("POST")
            .await
            .map(|answer| (answer.status, answer.text()));
        assert_eq!(answer, Some((200, "ok".to_owned())), "{line} {parts:?}");
        expected.push(at_origin.to_owned());
    }
    assert_eq!(origin.bodies(), expected);
    assert_eq!(
        origin.connections().len(),
        1,
        "every request used the pooled connection"
    );
}

#[tokio::test]
async fn request_after_another_clients_upload_gets_its_own_answer() {
    let origin = Origin::start().await;
    let (proxy, _idp) = open_at(&origin.url("http"), "").await;
    let (mut first, mut second) = (
        proxy.connect2("open.test").await,
        proxy.connect2("open.test").await,
    );
    for round in 0..20 {
        upload(&mut first, "data, then an empty DATA frame", None).await;
        let request = http::Request::get(format!("https://open.test/mine/{round}"))
            .body(())
            .unwrap();
        let answer = second.request(request, b"").await.unwrap();
        let answer: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(answer["target"], format!("/mine/{round}"));
    }
}

#[tokio::test]
async fn refused_or_failed_upload_never_spoils_the_pooled_connection() {
    let origin = Recorder::start(OK, When::Complete).await;
    let (proxy, _idp) = open_at(&origin.url(), "max_body = \"1KiB\"").await;
    let mut connection = proxy.connect2("open.test").await;
    let (_response, mut body) = connection.begin(post(None)).await;
    body.send_data(Bytes::from_static(&[b'a'; 600]), false)
        .unwrap();
    pause().await;
    body.send_data(Bytes::from_static(&[b'a'; 600]), true)
        .unwrap();
    pause().await;
    let (_response, mut body) = connection.begin(post(None)).await;
    body.send_data(Bytes::from_static(b"half"), false).unwrap();
    pause().await;
    body.send_reset(h2::Reason::CANCEL);
    pause().await;
    let answer = raw::Connection2::request(
        &mut connection,
        http::Request::get("https://open.test/").body(()).unwrap(),
        b"",
    );
    assert_eq!(answer.await.unwrap().body, b"ok");
    let connections = origin.connections();
    let last = String::from_utf8_lossy(connections.last().unwrap()).into_owned();
    assert!(
        last.starts_with("GET / HTTP/1.1\r\n"),
        "an interrupted upload leaves its connection unused: {last}"
    );
    for bytes in &connections[..connections.len() - 1] {
        let text = String::from_utf8_lossy(bytes);
        assert!(
            !text.contains("0\r\n\r\n"),
            "an interrupted body must not look complete: {text}"
        );
    }
}

#[tokio::test]
async fn refused_grpc_call_ends_with_its_head() {
    let origin = Recorder::start(OK, When::Complete).await;
    let (proxy, _idp) = open_at(&origin.url(), "max_body = \"1KiB\"").await;
    let mut connection = proxy.connect2("open.test").await;
    for (host, path, length, status) in [
        ("closed.test", "/t.T/Unary", 10, "16"),
        ("denied.test", "/t.T/Unary", 10, "7"),
        ("dead.test", "/t.T/Unary", 10, "14"),
        ("open.test", "/t.T/Unary", 5000, "8"),
        ("open.test", "/%zz", 10, "3"),
        ("unknown.test", "/t.T/Unary", 10, "12"),
    ] {
        let request = http::Request::post(format!("https://{host}{path}"));
        let request = request
            .header("content-type", "application/grpc+proto")
            .header("te", "trailers")
            .body(())
            .unwrap();
        let (response, mut body) = connection.begin(request).await;
        body.send_data(Bytes::from(vec![0; length]), true).unwrap();
        let response = tokio::time::timeout(Duration::from_secs(15), response)
            .await
            .unwrap()
            .unwrap();
        let fields =
            ["grpc-status", "content-type"].map(|name| response.headers()[name].to_str().unwrap());
        assert_eq!(
            (response.status().as_u16(), fields),
            (200, [status, "application/grpc"]),
            "{host}{path}"
        );
        assert!(
            response.headers().contains_key("grpc-message")
                && !response.headers().contains_key("content-length")
        );
        // A call that has data after the head, even empty data, is `UNKNOWN` or `INTERNAL` to gRPC
        // clients.
        assert!(
            response.body().is_end_stream(),
            "{host}{path}: END_STREAM is not on HEADERS"
        );
    }
}

/// Sends half of an upload, reads the whole answer, then sends the rest. The stream must not be cut
/// in between.
async fn answered_midway(connection: &mut Connection2, host: &str) -> (u16, String) {
    let request = http::Request::post(format!("https://{host}/upload"))
        .body(())
        .unwrap();
    let (response, mut body) = connection.begin(request).await;
    body.send_data(Bytes::from(vec![b'a'; 20_000]), false)
        .unwrap();
    let response = tokio::time::timeout(Duration::from_secs(15), response)
        .await
        .expect("no answer")
        .unwrap();
    let (head, mut incoming) = response.into_parts();
    let mut received = Vec::new();
    while let Some(piece) = incoming.data().await {
        received.extend_from_slice(&piece.unwrap());
    }
    for end in [false, true] {
        pause().await;
        let sent = body.send_data(Bytes::from(vec![b'a'; 20_000]), end);
        assert!(
            sent.is_ok(),
            "{host}: the stream is cut while the client still sends: {sent:?}"
        );
    }
    (
        head.status.as_u16(),
        String::from_utf8_lossy(&received).into_owned(),
    )
}

#[tokio::test]
async fn early_answer_to_an_upload_is_not_lost() {
    let early = "HTTP/1.1 413 Payload Too Large\r\ncontent-length: 5\r\n\r\nearly";
    for when in [When::HeadAndClose, When::Head] {
        let origin = Recorder::start(early, when).await;
        let (proxy, _idp) = open_at(&origin.url(), "").await;
        let mut connection = proxy.connect2("open.test").await;
        for _ in 0..3 {
            assert_eq!(
                answered_midway(&mut connection, "open.test").await,
                (413, "early".to_owned())
            );
        }
    }
    let origin = Recorder::start(OK, When::Complete).await;
    let (proxy, _idp) = open_at(&origin.url(), "max_body = \"10KiB\"").await;
    let mut connection = proxy.connect2("open.test").await;
    for (host, status) in [
        ("closed.test", 401),
        ("denied.test", 403),
        ("dead.test", 502),
        ("open.test", 413),
        ("unknown.test", 404),
    ] {
        let (answered, body) = answered_midway(&mut connection, host).await;
        assert_eq!(answered, status, "{host}");
        assert!(!body.is_empty(), "{host}");
    }
}

#[tokio::test]
async fn http1_upload_gets_its_refusal() {
    let origin = Recorder::start(OK, When::Complete).await;
    let (proxy, _idp) = open_at(&origin.url(), "max_body = \"10KiB\"").await;
    for (host, status) in [("closed.test", 401), ("dead.test", 502), ("open.test", 413)] {
        for _ in 0..5 {
            let mut connection = proxy.connect("open.test").await;
            let head =
                format!("POST /upload HTTP/1.1\r\nHost: {host}\r\nContent-Length: 600000\r\n\r\n");
            connection.send(head).await;
            pause().await;
            connection.send(vec![b'a'; 600_000]).await;
            let answer = connection
                .response("POST")
                .await
                .map(|answer| (answer.status, answer.body.is_empty()));
            assert_eq!(answer, Some((status, false)), "{host}");
        }
    }
}

#[tokio::test]
async fn refused_endless_upload_is_not_waited_for() {
    let origin = Recorder::start(OK, When::Complete).await;
    let (proxy, _idp) = open_at(&origin.url(), "").await;
    let mut connection = proxy.connect("open.test").await;
    connection
        .send("POST /upload HTTP/1.1\r\nHost: closed.test\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    assert_eq!(
        connection
            .response("POST")
            .await
            .map(|answer| answer.status),
        Some(401)
    );
    assert!(connection.is_closed().await);
}
