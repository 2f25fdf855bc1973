//! The recording origin: keeps every request exactly as it was received, so that a test can compare
//! it or prove that nothing arrived.
//!
//! It speaks HTTP/1.1 and, to a client that starts so, HTTP/2 without TLS; with `Origin::tls` the
//! same over TLS. Paths under `/origin/` misbehave on purpose (see [`behave`]); every other path
//! answers with JSON that repeats the request.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::certs::Certificate;
use super::eventually;
use super::wire::{self, Framing, Head, Headers, Io, PATIENCE};

/// One request as it was received.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The method, in the case it came in.
    pub method: String,
    /// The request target, untouched.
    pub target: String,
    /// `HTTP/1.1` or `HTTP/2`.
    pub version: &'static str,
    /// The header lines.
    pub headers: Headers,
    /// `:authority`, over HTTP/2.
    pub authority: Option<String>,
    /// The index of the connection.
    pub connection: usize,
}

impl Seen {
    /// The assertion that came with the request.
    pub fn assertion(&self) -> Option<&str> {
        self.headers.one("cf-access-jwt-assertion")
    }

    /// The names and values of every cookie that came with the request.
    pub fn cookies(&self) -> Vec<(String, String)> {
        let lines = self.headers.all("cookie");
        let pairs = lines
            .iter()
            .flat_map(|line| line.split(';'))
            .filter_map(|pair| pair.trim().split_once('='));
        pairs
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    }
}

/// A running origin. Ends when dropped.
pub struct Origin {
    /// The address that it listens on.
    pub address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    seen: Mutex<Vec<Seen>>,
    /// Pieces that a `/origin/stream` may still send.
    released: Semaphore,
    /// Body bytes received so far by `/origin/upload`.
    uploaded: watch::Sender<usize>,
    /// Connections so far.
    connections: AtomicUsize,
}

impl Origin {
    /// An origin without TLS.
    pub async fn start() -> Self {
        Self::listen(None).await
    }

    /// An origin with TLS, offering HTTP/2 and HTTP/1.1.
    pub async fn tls(certificate: &Certificate) -> Self {
        Self::listen(Some(certificate.acceptor())).await
    }

    /// An origin without TLS at an address of the test's choice.
    pub async fn start_at(address: SocketAddr) -> Self {
        Self::serve_on(TcpListener::bind(address).await.unwrap(), None)
    }

    async fn listen(tls: Option<TlsAcceptor>) -> Self {
        Self::serve_on(TcpListener::bind(("127.0.0.1", 0)).await.unwrap(), tls)
    }

    fn serve_on(listener: TcpListener, tls: Option<TlsAcceptor>) -> Self {
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            seen: Mutex::default(),
            released: Semaphore::new(0),
            uploaded: watch::Sender::new(0),
            connections: AtomicUsize::new(0),
        });
        let task = tokio::spawn(accept(listener, tls, Arc::clone(&shared)));
        Self {
            address,
            shared,
            task,
        }
    }

    /// The URL for the configuration, under `scheme`.
    pub fn url(&self, scheme: &str) -> String {
        format!("{scheme}://{}", self.address)
    }

    /// Every request so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// The last request. There must be one.
    pub fn last(&self) -> Seen {
        self.seen().pop().expect("the origin received nothing")
    }

    /// Clears the record.
    pub fn forget(&self) {
        self.shared.seen.lock().unwrap().clear();
        self.shared.uploaded.send_replace(0);
    }

    /// Nothing may have arrived.
    #[track_caller]
    pub fn assert_untouched(&self, after: &str) {
        let seen: Vec<_> = self
            .seen()
            .iter()
            .map(|s| format!("{} {}", s.method, s.target))
            .collect();
        assert!(
            seen.is_empty(),
            "after {after} the origin received {seen:?}"
        );
    }

    /// Returns the number of requests for this target.
    pub fn count(&self, target: &str) -> usize {
        let seen = self.shared.seen.lock().unwrap();
        seen.iter().filter(|seen| seen.target == target).count()
    }

    /// Waits for more requests for this target than these.
    pub async fn until_more(&self, target: &str, than: usize) {
        let failure = format!("no further request for {target}");
        eventually(&failure, async || self.count(target) > than).await;
    }

    /// Lets a `/origin/stream` send one piece more.
    pub fn release(&self) {
        self.shared.released.add_permits(1);
    }

    /// Waits until `/origin/upload` has received `bytes`.
    pub async fn uploaded(&self, bytes: usize) {
        let mut receiver = self.shared.uploaded.subscribe();
        let wait = receiver.wait_for(|received| *received >= bytes);
        tokio::time::timeout(PATIENCE, wait)
            .await
            .expect("the upload did not reach the origin")
            .unwrap();
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, shared: Arc<Shared>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            return;
        };
        tokio::spawn(connection(stream, tls.clone(), Arc::clone(&shared)));
    }
}

async fn connection(stream: TcpStream, tls: Option<TlsAcceptor>, shared: Arc<Shared>) {
    let index = shared.connections.fetch_add(1, Ordering::Relaxed);
    let Some(acceptor) = tls else {
        let http2 = starts_http2(&stream).await;
        return serve(stream, http2, index, shared).await;
    };
    let Ok(stream) = acceptor.accept(stream).await else {
        return;
    };
    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    serve(stream, http2, index, shared).await;
}

async fn starts_http2(stream: &TcpStream) -> bool {
    let mut start = [0; 4];
    while let Ok(read @ 1..) = stream.peek(&mut start).await {
        if !b"PRI ".starts_with(&start[..read]) {
            return false;
        }
        if read == start.len() {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    false
}

async fn serve(stream: impl Io + 'static, http2: bool, index: usize, shared: Arc<Shared>) {
    if http2 {
        return serve_http2(stream, index, shared).await;
    }
    let mut stream = BufReader::new(stream);
    while let Ok(Some(head)) = wire::read_head(&mut stream).await {
        let mut words = head.first.split(' ');
        let seen = Seen {
            method: words.next().unwrap_or_default().to_owned(),
            target: words.next().unwrap_or_default().to_owned(),
            version: "HTTP/1.1",
            headers: head.headers.clone(),
            authority: None,
            connection: index,
        };
        shared.seen.lock().unwrap().push(seen.clone());
        if behave(&mut stream, &head, &seen, &shared).await.is_err() {
            return;
        }
    }
}

/// Answers one request: `/origin/hang` never, `/origin/close` by closing, `/origin/half` with half
/// a body, `/origin/slow` after two seconds, or the number of seconds in its query, `/origin/drip`
/// as `/origin/stream` with a known length, `/origin/stream` piece by piece as the test releases
/// them, `/origin/upload` with the length it counted as it came, `/origin/close-once` by closing
/// the first time, `/origin/malformed` with a malformed header, `/origin/ws` with an upgrade that
/// repeats every byte, `/origin/status/N` with `N`, `/origin/cookies` with many cookies.
async fn behave(
    stream: &mut BufReader<impl Io>,
    head: &Head,
    seen: &Seen,
    shared: &Shared,
) -> std::io::Result<()> {
    let mut framing = wire::framing(&head.headers, Framing::Length(0));
    let path = seen.target.split('?').next().unwrap_or_default();
    match path {
        "/origin/hang" => std::future::pending().await,
        "/origin/close" => Err(std::io::ErrorKind::ConnectionReset.into()),
        "/origin/close-once"
            if shared
                .seen
                .lock()
                .unwrap()
                .iter()
                .filter(|other| other.target == seen.target)
                .count()
                == 1 =>
        {
            wire::read_body(stream, framing).await?;
            Err(std::io::ErrorKind::ConnectionReset.into())
        }
        "/origin/malformed" => {
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nset-cookie: theirs=a-cookie-of-the-origin\r\nno header\r\n\r\n")
                .await?;
            stream.flush().await?;
            Err(std::io::ErrorKind::ConnectionReset.into())
        }
        "/origin/half" => {
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf of it")
                .await?;
            stream.flush().await?;
            Err(std::io::ErrorKind::ConnectionReset.into())
        }
        "/origin/slow" => {
            let seconds = seen
                .target
                .split_once('?')
                .and_then(|(_, query)| query.parse().ok())
                .unwrap_or(2);
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            respond(stream, seen, 200, "", b"slow").await
        }
        "/origin/drip" => {
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n")
                .await?;
            for piece in [b"one", b"two"] {
                stream.flush().await?;
                shared
                    .released
                    .acquire()
                    .await
                    .map_err(std::io::Error::other)?
                    .forget();
                stream.write_all(piece).await?;
            }
            stream.flush().await
        }
        "/origin/stream" => {
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
                .await?;
            for piece in ["one", "two", "three"] {
                shared
                    .released
                    .acquire()
                    .await
                    .map_err(std::io::Error::other)?
                    .forget();
                stream
                    .write_all(format!("{:x}\r\n{piece}\r\n", piece.len()).as_bytes())
                    .await?;
                stream.flush().await?;
            }
            stream.write_all(b"0\r\n\r\n").await?;
            stream.flush().await
        }
        "/origin/upload" => {
            let mut total = 0;
            while let Some(piece) = wire::read_piece(stream, &mut framing).await? {
                total += piece.len();
                shared.uploaded.send_replace(total);
            }
            respond(stream, seen, 200, "", total.to_string().as_bytes()).await
        }
        "/origin/ws" if seen.headers.lists("upgrade", "websocket") => {
            let answer = "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\
                          sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
            stream.write_all(answer.as_bytes()).await?;
            stream.flush().await?;
            let mut bytes = vec![0; 1024];
            loop {
                match stream.read(&mut bytes).await? {
                    0 => return Err(std::io::ErrorKind::ConnectionReset.into()),
                    read => stream.write_all(&bytes[..read]).await?,
                }
                stream.flush().await?;
            }
        }
        _ => {
            let body = wire::read_body(stream, framing).await?;
            let status = path
                .strip_prefix("/origin/status/")
                .and_then(|s| s.parse().ok())
                .unwrap_or(200);
            let cookies: String = match path {
                "/origin/cookies" => (0..30)
                    .map(|i| format!("set-cookie: c{i}=value; Path=/\r\n"))
                    .collect(),
                _ => String::new(),
            };
            respond(
                stream,
                seen,
                status,
                &cookies,
                echo(seen, body.len()).as_bytes(),
            )
            .await
        }
    }
}

fn echo(seen: &Seen, body: usize) -> String {
    json!({ "method": seen.method, "target": seen.target, "version": seen.version, "headers": seen.headers.0, "body": body })
        .to_string()
}

async fn respond(
    stream: &mut BufReader<impl Io>,
    seen: &Seen,
    status: u16,
    headers: &str,
    body: &[u8],
) -> std::io::Result<()> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status} Of The Origin\r\ncontent-type: application/json\r\nx-from: origin\r\n{headers}content-length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    if seen.method != "HEAD" {
        stream.write_all(body).await?;
    }
    stream.flush().await
}

async fn serve_http2(stream: impl Io + 'static, index: usize, shared: Arc<Shared>) {
    let Ok(mut connection) = h2::server::handshake(stream).await else {
        return;
    };
    while let Some(Ok((request, respond))) = connection.accept().await {
        let seen = Seen {
            method: request.method().to_string(),
            target: request
                .uri()
                .path_and_query()
                .map(ToString::to_string)
                .unwrap_or_default(),
            version: "HTTP/2",
            headers: Headers(
                request
                    .headers()
                    .iter()
                    .map(|(n, v)| (n.to_string(), String::from_utf8_lossy(v.as_bytes()).into()))
                    .collect(),
            ),
            authority: request.uri().authority().map(ToString::to_string),
            connection: index,
        };
        shared.seen.lock().unwrap().push(seen.clone());
        tokio::spawn(async move {
            // A client that goes away mid-stream is not the origin's business.
            let _gone = answer_http2(request.into_body(), respond, &seen).await;
        });
    }
}

/// gRPC gets its messages back as they come, and trailers; everything else gets the JSON.
async fn answer_http2(
    mut body: h2::RecvStream,
    mut respond: h2::server::SendResponse<Bytes>,
    seen: &Seen,
) -> Result<(), h2::Error> {
    let grpc = seen
        .headers
        .all("content-type")
        .iter()
        .any(|v| v.starts_with("application/grpc"));
    let kind = if grpc {
        "application/grpc"
    } else {
        "application/json"
    };
    let head = http::Response::builder()
        .header("content-type", kind)
        .header("x-from", "origin")
        .body(())
        .unwrap();
    let mut send = respond.send_response(head, false)?;
    let mut received = 0;
    while let Some(piece) = body.data().await {
        let piece = piece?;
        received += piece.len();
        body.flow_control().release_capacity(piece.len())?;
        if grpc {
            send.send_data(piece, false)?;
        }
    }
    if !grpc {
        return send.send_data(Bytes::from(echo(seen, received)), true);
    }
    let mut trailers = http::HeaderMap::new();
    trailers.insert("grpc-status", "0".parse().unwrap());
    trailers.insert("x-checksum", received.to_string().parse().unwrap());
    send.send_trailers(trailers)
}
