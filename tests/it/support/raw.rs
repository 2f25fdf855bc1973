//! A client that sends exactly the given bytes, and reads the answer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::wire::{self, Framing, Headers, Io, PATIENCE};

/// An answer.
#[derive(Debug, Clone)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The header lines.
    pub headers: Headers,
    /// The body, with the transfer coding taken off.
    pub body: Vec<u8>,
}

impl Response {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("{e}: status {} `{}`", self.status, self.text()))
    }

    /// Returns the `Location` of a redirect, unparsed.
    #[track_caller]
    pub fn location(&self) -> &str {
        self.headers
            .one("location")
            .unwrap_or_else(|| panic!("status {} without `location`: {}", self.status, self.text()))
    }
}

/// An HTTP/1.1 connection.
pub struct Connection(BufReader<Box<dyn Io>>);

impl Connection {
    /// Without TLS.
    pub async fn plain(address: SocketAddr) -> Self {
        Self::try_plain(address)
            .await
            .unwrap_or_else(|error| panic!("{address}: {error}"))
    }

    /// Connects without TLS, if the peer accepts the connection.
    async fn try_plain(address: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        Ok(Self(BufReader::new(Box::new(stream))))
    }

    /// Connects with TLS for `host`.
    pub async fn tls(address: SocketAddr, host: &str, config: &Arc<ClientConfig>) -> Self {
        Self(BufReader::new(Box::new(tls(address, host, config).await)))
    }

    /// Connects with TLS for `host`. `None` if the peer refuses the handshake, at once or later.
    pub async fn try_tls(
        address: SocketAddr,
        host: &str,
        config: &Arc<ClientConfig>,
    ) -> Option<Self> {
        let stream = TcpStream::connect(address).await.unwrap();
        let name = ServerName::try_from(host.to_owned()).unwrap();
        let connected = timeout(
            PATIENCE,
            TlsConnector::from(Arc::clone(config)).connect(name, stream),
        )
        .await
        .unwrap();
        let mut stream = connected.ok()?;
        // In TLS 1.3 the client has finished before the server looked at its certificate.
        let early = timeout(std::time::Duration::from_millis(300), stream.read(&mut [0])).await;
        early
            .is_err()
            .then(|| Self(BufReader::new(Box::new(stream))))
    }

    /// With TLS, asking for `host`; and whether the handshake went on from an earlier one.
    pub async fn tls_again(
        address: SocketAddr,
        host: &str,
        config: &Arc<ClientConfig>,
    ) -> (Self, bool) {
        let stream = TcpStream::connect(address).await.unwrap();
        let name = ServerName::try_from(host.to_owned()).unwrap();
        let connected = timeout(
            PATIENCE,
            TlsConnector::from(Arc::clone(config)).connect(name, stream),
        )
        .await
        .unwrap();
        let stream = connected.unwrap();
        let resumed = stream.get_ref().1.handshake_kind() == Some(rustls::HandshakeKind::Resumed);
        (Self(BufReader::new(Box::new(stream))), resumed)
    }

    /// Sends bytes. A peer that has already closed is for [`Connection::response`] to find out.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let send = async {
            self.0.write_all(bytes.as_ref()).await?;
            self.0.flush().await
        };
        let _closed = timeout(PATIENCE, send)
            .await
            .expect("the peer takes no bytes");
    }

    /// Sends one request, and reads its answer.
    async fn exchange(&mut self, bytes: impl AsRef<[u8]>) -> Option<Response> {
        let method = bytes.as_ref().split(|byte| *byte == b' ').next();
        let method = String::from_utf8_lossy(method.unwrap_or_default()).into_owned();
        self.send(bytes).await;
        self.response(&method).await
    }

    /// Reads the answer to a request with `method`. `None` when the connection ended without one.
    pub async fn response(&mut self, method: &str) -> Option<Response> {
        let mut response = self.response_head().await?;
        let bodiless = method == "HEAD" || matches!(response.status, 100..=199 | 204 | 304);
        let framing = if bodiless {
            Framing::Length(0)
        } else {
            wire::framing(&response.headers, Framing::UntilClose)
        };
        let read = timeout(PATIENCE, wire::read_body(&mut self.0, framing))
            .await
            .expect("the answer does not end");
        response.body = read.unwrap_or_default();
        Some(response)
    }

    /// Reads the head of an answer and leaves its body.
    pub async fn response_head(&mut self) -> Option<Response> {
        let head = timeout(PATIENCE, wire::read_head(&mut self.0))
            .await
            .expect("no answer came")
            .ok()??;
        let status = head.first.split(' ').nth(1).and_then(|s| s.parse().ok());
        let status = status.unwrap_or_else(|| panic!("no status in `{}`", head.first));
        Some(Response {
            status,
            headers: head.headers,
            body: Vec::new(),
        })
    }

    /// Reads one piece of a body that is still coming.
    pub async fn piece(&mut self, framing: &mut Framing) -> Option<Vec<u8>> {
        let read = timeout(PATIENCE, wire::read_piece(&mut self.0, framing)).await;
        read.expect("the next piece does not come").unwrap()
    }

    /// Reads exactly `length` bytes, as of an upgraded connection.
    pub async fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        timeout(PATIENCE, self.0.read_exact(&mut bytes))
            .await
            .expect("the bytes do not come")
            .unwrap();
        bytes
    }

    /// Sends bytes, and reads as many at the same time.
    pub async fn exchange_bytes(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut received = vec![0; bytes.len()];
        let (mut reader, mut writer) = tokio::io::split(&mut self.0);
        let write = async {
            writer.write_all(bytes).await?;
            writer.flush().await
        };
        let both = async { tokio::try_join!(write, reader.read_exact(&mut received)) };
        timeout(4 * PATIENCE, both)
            .await
            .expect("the bytes do not come back")
            .unwrap();
        received
    }

    /// Ends this side of the connection; the other one can still send.
    pub async fn finish(&mut self) {
        let _closed = self.0.shutdown().await;
    }

    /// Returns `true` if the peer closes within that time, even if it sends something before.
    pub async fn closes_within(&mut self, limit: Duration) -> bool {
        let mut bytes = [0; 1024];
        timeout(limit, async {
            while let Ok(1..) = self.0.read(&mut bytes).await {}
        })
        .await
        .is_ok()
    }

    /// Reads until the peer ends the connection: the bytes, and whether the end was clean. `None`
    /// if it does not end in time.
    pub async fn rest_within(&mut self, limit: Duration) -> Option<(Vec<u8>, bool)> {
        let mut bytes = Vec::new();
        let end = timeout(limit, self.0.read_to_end(&mut bytes)).await.ok()?;
        Some((bytes, end.is_ok()))
    }

    /// Returns `true` if the peer closes without sending more.
    pub async fn is_closed(&mut self) -> bool {
        let mut byte = [0];
        matches!(
            timeout(PATIENCE, self.0.read(&mut byte)).await,
            Ok(Ok(0) | Err(_))
        )
    }
}

async fn tls(address: SocketAddr, host: &str, config: &Arc<ClientConfig>) -> impl Io + 'static {
    let stream = TcpStream::connect(address)
        .await
        .unwrap_or_else(|e| panic!("{address}: {e}"));
    let name = ServerName::try_from(host.to_owned()).unwrap();
    timeout(
        PATIENCE,
        TlsConnector::from(Arc::clone(config)).connect(name, stream),
    )
    .await
    .unwrap()
    .unwrap()
}

/// Sends `bytes` on a connection of its own, and reads one answer.
pub async fn exchange(address: SocketAddr, bytes: impl AsRef<[u8]>) -> Option<Response> {
    Connection::plain(address).await.exchange(bytes).await
}

/// The same with a peer that may be gone: then there is no answer.
pub async fn try_exchange(address: SocketAddr, bytes: impl AsRef<[u8]>) -> Option<Response> {
    let mut connection = Connection::try_plain(address).await.ok()?;
    connection.exchange(bytes).await
}

/// A request without body, as text: first line, `Host`, the further lines, `Connection: close`.
pub fn request(method: &str, host: &str, target: &str, lines: &[&str]) -> String {
    let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n{lines}Connection: close\r\n\r\n")
}

/// An answer over HTTP/2, with its trailers.
#[derive(Debug)]
pub struct Response2 {
    /// Status and headers.
    pub head: http::response::Parts,
    /// The body.
    pub body: Vec<u8>,
    /// The trailers, if any came.
    pub trailers: Option<http::HeaderMap>,
}

/// An HTTP/2 connection over TLS.
pub struct Connection2 {
    send: h2::client::SendRequest<Bytes>,
    driver: tokio::task::JoinHandle<()>,
}

impl Connection2 {
    /// Connects, asking for `host`.
    pub async fn tls(address: SocketAddr, host: &str, config: &Arc<ClientConfig>) -> Self {
        Self::over(tls(address, host, config).await).await
    }

    /// Connects without TLS, with prior knowledge.
    pub async fn plain(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.unwrap()).await
    }

    async fn over(stream: impl Io + 'static) -> Self {
        let (send, connection) = h2::client::handshake(stream).await.unwrap();
        let driver = tokio::spawn(async move {
            // The end of the connection shows in the streams.
            let _end = connection.await;
        });
        Self { send, driver }
    }

    /// Sends a request with its whole body, and reads the whole answer.
    pub async fn request(
        &mut self,
        request: http::Request<()>,
        body: &[u8],
    ) -> Result<Response2, h2::Error> {
        timeout(PATIENCE, self.exchange(request, body))
            .await
            .expect("no answer over HTTP/2")
    }

    /// Sends the head of a request. The body follows.
    pub async fn begin(
        &mut self,
        request: http::Request<()>,
    ) -> (h2::client::ResponseFuture, h2::SendStream<Bytes>) {
        self.send = self.send.clone().ready().await.unwrap();
        self.send.send_request(request, false).unwrap()
    }

    async fn exchange(
        &mut self,
        request: http::Request<()>,
        body: &[u8],
    ) -> Result<Response2, h2::Error> {
        self.send = self.send.clone().ready().await?;
        let (response, mut stream) = self.send.send_request(request, body.is_empty())?;
        if !body.is_empty() {
            stream.send_data(Bytes::copy_from_slice(body), true)?;
        }
        let (head, mut incoming) = response.await?.into_parts();
        let mut received = Vec::new();
        while let Some(piece) = incoming.data().await {
            let piece = piece?;
            incoming.flow_control().release_capacity(piece.len())?;
            received.extend_from_slice(&piece);
        }
        Ok(Response2 {
            head,
            body: received,
            trailers: incoming.trailers().await?,
        })
    }
}

impl Drop for Connection2 {
    fn drop(&mut self) {
        self.driver.abort();
    }
}
