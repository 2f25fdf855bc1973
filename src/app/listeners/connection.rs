//! A client's connection, from its first byte to its end.
//!
//! Decides how long a client may take at each step, and which protocol it speaks. Trusts the
//! addresses in PROXY protocol headers of `trusted_proxies` alone. Never touches a request: each
//! one goes to the application as Pingora reads it.

use std::future::poll_fn;
use std::mem;
use std::net::IpAddr;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::BytesMut;
use ipnet::IpNet;
use pingora::apps::{HttpPersistentSettings, HttpServerApp, ServerApp};
use pingora::listeners::tls::Acceptor;
use pingora::prelude::{sleep, timeout};
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::{self, H2Accept, H2Options};
use pingora::protocols::l4::stream::Stream as TcpStream;
use pingora::protocols::{ALPN, Digest, GetSocketDigest as _, Stream};
use pingora::server::ShutdownWatch;
use thiserror::Error;
use tokio::io::AsyncReadExt as _;
use tokio::sync::Notify;

use super::descriptors::Descriptors;
use super::proxy_protocol::{self, ProxyProtocolError};
use super::windows::WINDOWS;
use crate::config::Limits;
use crate::front::pingora::Progress;

/// The timeouts of clients.
#[derive(Clone, Copy, Debug)]
pub(in crate::app) struct Timeouts {
    header: Duration,
    idle: Duration,
    body: Duration,
}

impl From<&Limits> for Timeouts {
    fn from(limits: &Limits) -> Self {
        Self {
            header: limits.header_timeout,
            idle: limits.idle_timeout,
            body: limits.body_timeout,
        }
    }
}

/// The requirements of a listener on its connections.
pub(in crate::app) struct Terms {
    /// The timeouts of clients.
    pub(in crate::app) timeouts: Timeouts,
    /// TLS, if the listener has a certificate.
    pub(in crate::app) tls: Option<Acceptor>,
    /// The peers that have to send a PROXY protocol header; `None` if none is expected.
    pub(in crate::app) proxies: Option<Vec<IpNet>>,
    /// The limit of file descriptors for connections; `None` for the metrics listener, which may use
    /// the reserved ones.
    pub(in crate::app) descriptors: Option<Arc<Descriptors>>,
    /// Becomes `true` when responses should announce the end of their connections.
    pub(in crate::app) draining: ShutdownWatch,
}

/// Serves the connections of a listener with an application.
pub(super) struct Connections<A> {
    app: Arc<A>,
    terms: Terms,
}

/// A connection that is ready for requests.
enum Opened {
    /// HTTP/1, with the bytes of the first request that were read already.
    Http1(Stream, BytesMut),
    Http2(Stream),
}

#[derive(Debug, Error)]
enum OpenError {
    #[error(transparent)]
    Proxy(#[from] ProxyProtocolError),
    #[error("the TLS handshake failed: {}", reason(.0))]
    Tls(Box<pingora::Error>),
    #[error("the client closed the connection")]
    Closed,
}

impl<A> Connections<A> {
    pub(super) const fn new(app: Arc<A>, terms: Terms) -> Self {
        Self { app, terms }
    }
}

#[async_trait]
impl<A: HttpServerApp + Send + Sync + 'static> ServerApp for Connections<A> {
    async fn process_new(
        self: &Arc<Self>,
        stream: Stream,
        stopping: &ShutdownWatch,
    ) -> Option<Stream> {
        let deadline = Instant::now() + self.terms.timeouts.header;
        // Listeners are TCP, without TLS as far as Pingora knows.
        let stream = *stream.into_any().downcast::<TcpStream>().ok()?;
        if self
            .terms
            .descriptors
            .as_ref()
            .is_some_and(|all| all.is_reserved(stream.as_raw_fd()))
        {
            return None;
        }
        let peer = peer(&stream);
        match within(deadline, self.open(stream)).await {
            Some(Ok(Opened::Http1(stream, head))) => {
                self.serve_http1(stream, head, deadline, stopping).await
            }
            Some(Ok(Opened::Http2(stream))) => self.serve_http2(stream, deadline).await,
            Some(Err(OpenError::Closed)) => {
                tracing::debug!(
                    client = peer.map(tracing::field::display),
                    "the client closed the connection before its first request"
                );
            }
            Some(Err(error)) => {
                let peer = peer.map(tracing::field::display);
                tracing::info!(
                    client = peer,
                    error = crate::model::chain(&error),
                    "rejected a connection"
                );
            }
            None => tracing::debug!(
                client = peer.map(tracing::field::display),
                "closed a connection: the client was too slow to start a request"
            ),
        }
        None
    }

    async fn cleanup(&self) {
        self.app.http_cleanup().await;
    }
}

impl<A: HttpServerApp + Send + Sync + 'static> Connections<A> {
    /// Reads the PROXY protocol header, completes the TLS handshake, and finds out which version of
    /// HTTP the client speaks.
    async fn open(&self, mut stream: TcpStream) -> Result<Opened, OpenError> {
        if let Some(trusted) = &self.terms.proxies {
            proxy_protocol::accept(&mut stream, trusted).await?;
        }
        if let Some(acceptor) = &self.terms.tls {
            // Load balancers and browsers open connections that they do not use.
            let mut hello = BytesMut::with_capacity(HEAD_CAPACITY);
            if stream.read_buf(&mut hello).await.unwrap_or(0) == 0 {
                return Err(OpenError::Closed);
            }
            stream.rewind(&hello);
            let stream: Stream = Box::new(
                acceptor
                    .tls_handshake(stream)
                    .await
                    .map_err(OpenError::Tls)?,
            );
            return Ok(match stream.selected_alpn_proto() {
                Some(ALPN::H2) => Opened::Http2(stream),
                _ => Opened::Http1(stream, BytesMut::new()),
            });
        }
        // HTTP/2 without TLS, with prior knowledge: gRPC clients and sidecars speak it on plain
        // listeners (RFC 9113 3.3).
        let mut head = BytesMut::with_capacity(HEAD_CAPACITY);
        // Stops at the first byte that differs, so a short HTTP/1 request is not held back.
        while PREFACE.starts_with(&head) && head.len() < PREFACE.len() {
            if stream.read_buf(&mut head).await.unwrap_or(0) == 0 {
                return Err(OpenError::Closed);
            }
        }
        if head.starts_with(PREFACE) {
            stream.rewind(&head);
            return Ok(Opened::Http2(Box::new(stream)));
        }
        Ok(Opened::Http1(Box::new(stream), head))
    }

    /// Serves requests one after the other. `deadline` is for the head of the first.
    ///
    /// Bytes that were read already become the first ones of Pingora's connection, so nothing is
    /// copied or read twice.
    async fn serve_http1(
        &self,
        mut stream: Stream,
        mut head: BytesMut,
        mut deadline: Instant,
        stopping: &ShutdownWatch,
    ) {
        let Timeouts { header, idle, .. } = self.terms.timeouts;
        let progress = Arc::new(Progress::default());
        let mut stopping = stopping.clone();
        let mut kept: Option<HttpPersistentSettings> = None;
        loop {
            if head.is_empty() {
                head.reserve(HEAD_CAPACITY);
                let is_first = kept.is_none();
                let wait = if is_first { remaining(deadline) } else { idle };
                let read = tokio::select! {
                    biased;
                    read = stream.read_buf(&mut head) => read.unwrap_or(0),
                    () = sleep(wait) => 0,
                    _ = stopping.wait_for(|stopping| *stopping) => 0,
                };
                if read == 0 {
                    return;
                }
                if !is_first {
                    deadline = Instant::now() + header;
                }
            }
            let mut session = ServerSession::new_http1(stream);
            match kept.take() {
                Some(settings) => settings.apply_to_session(&mut session),
                // The limit of a single read, which never outlasts the deadline of the head.
                None => session.set_keepalive(Some(idle.as_secs().max(1))),
            }
            session.set_pipelined_prefix(mem::take(&mut head));
            progress.restart();
            let served = tokio::select! {
                biased;
                served = progress.track(self.app.process_new_http(session, &self.terms.draining)) => served,
                () = late_head(&progress, deadline) => None,
            };
            let Some(reusable) = served else { return };
            (stream, kept) = reusable.consume();
        }
    }

    /// Accepts the streams of a connection until it ends, is idle for too long, or drains.
    ///
    /// This is Pingora's own loop, which is private, with a bound on gaps in the body of each
    /// request.
    async fn serve_http2(&self, stream: Stream, deadline: Instant) {
        let digest = Arc::new(Digest {
            ssl_digest: stream.get_ssl_digest(),
            timing_digest: stream.get_timing_digest(),
            proxy_digest: stream.get_proxy_digest(),
            socket_digest: stream.get_socket_digest(),
        });
        let window = WINDOWS.grant();
        let options = http2_options(window.size());
        let Some(Ok(mut connection)) =
            within(deadline, server::handshake(stream, Some(options))).await
        else {
            return;
        };
        let streams = Arc::new(Streams::default());
        let mut draining = self.terms.draining.clone();
        let mut is_draining = false;
        let mut rejected = 0;
        loop {
            let accepted = tokio::select! {
                biased;
                _ = draining.wait_for(|draining| *draining), if !is_draining => {
                    // GOAWAY; open streams continue (RFC 9113 6.8).
                    connection.graceful_shutdown();
                    is_draining = true;
                    continue;
                }
                accepted = server::HttpSession::from_h2_conn(&mut connection, Arc::clone(&digest)) => accepted,
                () = streams.idle_for(self.terms.timeouts.idle) => return,
            };
            match accepted {
                Ok(Some(H2Accept::Session(session))) => {
                    let (app, draining) = (Arc::clone(&self.app), self.terms.draining.clone());
                    let (open, Timeouts { header, body, .. }) =
                        (streams.open(), self.terms.timeouts);
                    tokio::spawn(async move {
                        let deadline = Instant::now() + header;
                        let _open = open;
                        let progress = Arc::new(Progress::default());
                        let session = ServerSession::new_http2(session);
                        tokio::select! {
                            biased;
                            _ = progress.track(app.process_new_http(session, &draining)) => {}
                            // Dropping the session resets the stream.
                            () = stalled_body(&progress, body) => {}
                            () = late_head(&progress, deadline) => {}
                        }
                    });
                }
                Ok(Some(H2Accept::Rejected)) => {
                    rejected += 1;
                    if rejected >= MOST_REJECTED {
                        return;
                    }
                }
                Ok(None) | Err(_) => return,
            }
        }
    }
}

/// Returns the settings of a client's HTTP/2 connection.
///
/// `window` limits the bytes of request bodies that are buffered for the connection. While few
/// connections are open, it is larger than the window of a stream, so one stalled upload does not
/// block the others.
fn http2_options(window: u32) -> H2Options {
    let mut options = server::default_h2_options();
    options
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(window);
    options
}

/// Completes when the head of the request is late. The timer is not set if the head is there at the
/// first poll, as usual.
///
/// An application that does not report the head has until then for its whole response, which a
/// client may not take.
async fn late_head(progress: &Progress, deadline: Instant) {
    if !progress.has_head() {
        sleep(remaining(deadline)).await;
    }
    if progress.has_head() {
        std::future::pending::<()>().await;
    }
}

/// Completes when an awaited body has not moved for that time. Requests without a body set no
/// timer.
async fn stalled_body(progress: &Progress, most: Duration) {
    loop {
        // The request is polled first and shares the task, so this is polled again when it begins
        // to read a body.
        let gap = poll_fn(|_| progress.body_gap().map_or(Poll::Pending, Poll::Ready)).await;
        match most.checked_sub(gap) {
            None | Some(Duration::ZERO) => return,
            Some(rest) => sleep(rest).await,
        }
    }
}

async fn within<F: Future>(deadline: Instant, future: F) -> Option<F::Output> {
    timeout(remaining(deadline), future).await.ok()
}

fn remaining(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

/// Returns the error without the type name that Pingora's text starts with.
fn reason(error: &pingora::Error) -> String {
    error.context.as_ref().map_or_else(
        || error.etype().as_str().to_owned(),
        |context| context.as_str().to_owned(),
    )
}

fn peer(stream: &TcpStream) -> Option<IpAddr> {
    Some(stream.get_socket_digest()?.peer_addr()?.as_inet()?.ip())
}

/// The open streams of an HTTP/2 connection.
#[derive(Debug, Default)]
struct Streams {
    open: AtomicUsize,
    closed: Notify,
}

/// An open stream. It counts until this is dropped.
struct OpenStream(Arc<Streams>);

impl Streams {
    fn open(self: &Arc<Self>) -> OpenStream {
        // Relaxed: only the number matters. `notify_one` synchronises with the task that waits.
        self.open.fetch_add(1, Ordering::Relaxed);
        OpenStream(Arc::clone(self))
    }

    /// Completes when no stream has been open for that time.
    async fn idle_for(&self, time: Duration) {
        while self.open.load(Ordering::Relaxed) > 0 {
            self.closed.notified().await;
        }
        sleep(time).await;
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        // `notify_one` stores a permit, so a notification before the wait is not lost.
        if self.0.open.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.closed.notify_one();
        }
    }
}

/// RFC 9113 3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Pingora's initial value.
const HEAD_CAPACITY: usize = 4096;
/// Bytes of one upload that may be in flight. The peer is notified once half of the window is free,
/// so at a round-trip time of 50 ms an upload reaches 60 to 120 MiB/s.
const STREAM_WINDOW: u32 = 6 * 1024 * 1024;
/// Requests of one connection that are too malformed to become a session; as in Pingora.
const MOST_REJECTED: usize = 32;
