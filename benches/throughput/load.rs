//! The origin and the load, on plain sockets and one thread. They do as little as possible, so that
//! the proxy is the bottleneck.

use std::io;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use memchr::memmem;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::people::HOST;

pub(crate) const CONNECTIONS: usize = 32;
const BODY: usize = 1024;
const END: &[u8] = b"\r\n\r\n";

/// An origin that answers each request with the same kibibyte.
#[derive(Clone)]
pub(crate) struct Origin {
    pub(crate) port: u16,
    answered: Arc<AtomicU64>,
    last: Arc<Mutex<String>>,
    /// Heads are stored only for the first requests.
    watched: u64,
}

impl Origin {
    pub(crate) async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let origin = Self {
            port,
            answered: Arc::default(),
            last: Arc::default(),
            watched: 100,
        };
        let serving = origin.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let origin = serving.clone();
                tokio::spawn(async move { origin.serve(stream).await });
            }
        });
        Ok(origin)
    }

    async fn serve(self, mut stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {BODY}\r\n\r\n"
        );
        let answer = [answer.into_bytes(), vec![b'x'; BODY]].concat();
        let mut buffer = Vec::with_capacity(8192);
        while stream.read_buf(&mut buffer).await? > 0 {
            if buffer.ends_with(END) {
                if self.answered.fetch_add(1, Ordering::Relaxed) < self.watched {
                    let head = String::from_utf8_lossy(&buffer).into_owned();
                    *self.last.lock().unwrap_or_else(PoisonError::into_inner) = head;
                }
                buffer.clear();
                stream.write_all(&answer).await?;
            }
        }
        Ok(())
    }

    /// Returns the number of requests, and the last stored head.
    pub(crate) fn seen(&self) -> (u64, String) {
        let last = self
            .last
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        (self.answered.load(Ordering::Relaxed), last)
    }
}

/// Sends one request on a new connection, and returns the head of the response.
pub(crate) async fn ask(port: u16, token: Option<&str>) -> io::Result<String> {
    let mut stream = connect(port).await?;
    let mut request = Vec::new();
    write_request(&mut request, token);
    stream.write_all(&request).await?;
    let mut buffer = Vec::new();
    loop {
        if let Some(end) = memmem::find(&buffer, END) {
            return Ok(String::from_utf8_lossy(buffer.get(..end).unwrap_or_default()).into_owned());
        }
        if tokio::time::timeout(PATIENCE, stream.read_buf(&mut buffer)).await?? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// Connects to a proxy that may still be starting.
async fn connect(port: u16) -> io::Result<TcpStream> {
    let since = Instant::now();
    loop {
        match TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) if since.elapsed() > PATIENCE => return Err(error),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// Returns a shortened browser request, with a cookie of the application besides the session.
fn write_request(to: &mut Vec<u8>, token: Option<&str>) {
    to.clear();
    to.extend_from_slice(b"GET /spaces/engineering/pages/1842 HTTP/1.1\r\nHost: ");
    to.extend_from_slice(HOST.as_bytes());
    to.extend_from_slice(b"\r\nUser-Agent: throughput\r\nAccept: */*\r\nAccept-Language: en\r\n");
    if let Some(token) = token {
        to.extend_from_slice(b"Cookie: theme=dark; CF_Authorization=");
        to.extend_from_slice(token.as_bytes());
        to.extend_from_slice(b"\r\n");
    }
    to.extend_from_slice(b"\r\n");
}

/// The browsers in front of one proxy.
pub(crate) struct Browsers(Vec<Browser>);

/// The tokens that the browsers send.
#[derive(Clone, Copy)]
pub(crate) enum Plan {
    /// Random tokens, in the same order for every proxy, until this time.
    AtRandom(Instant),
    /// Each token once, distributed over all browsers.
    EachOnce,
}

struct Browser {
    stream: TcpStream,
    request: Vec<u8>,
    answer: Vec<u8>,
    place: usize,
    random: u64,
}

impl Browsers {
    pub(crate) async fn connect(port: u16) -> io::Result<Self> {
        let mut browsers = Vec::with_capacity(CONNECTIONS);
        for place in 0..CONNECTIONS {
            browsers.push(Browser {
                stream: connect(port).await?,
                request: Vec::new(),
                answer: Vec::with_capacity(8192),
                place,
                random: 0x9e37_79b9_7f4a_7c15 ^ place as u64,
            });
        }
        Ok(Self(browsers))
    }

    /// Runs all browsers at once. Returns the duration of each request in nanoseconds.
    pub(crate) async fn send(
        &mut self,
        tokens: &Arc<Vec<String>>,
        plan: Plan,
    ) -> io::Result<Vec<u32>> {
        let mut running = JoinSet::new();
        for mut browser in self.0.drain(..) {
            let tokens = Arc::clone(tokens);
            running.spawn(async move {
                let latencies = browser.send(&tokens, plan).await?;
                io::Result::Ok((browser, latencies))
            });
        }
        let mut all = Vec::new();
        while let Some(done) = running.join_next().await {
            let (browser, latencies) = done.map_err(io::Error::other)??;
            self.0.push(browser);
            all.extend(latencies);
        }
        Ok(all)
    }
}

impl Browser {
    async fn send(&mut self, tokens: &[String], plan: Plan) -> io::Result<Vec<u32>> {
        let mut latencies = Vec::new();
        match plan {
            Plan::AtRandom(end) => {
                let mut now = Instant::now();
                while now < end {
                    // Knuth's MMIX generator. Its upper half is random enough for this choice.
                    self.random = self
                        .random
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1_442_695_040_888_963_407);
                    let at = (self.random >> 32) as usize % tokens.len().max(1);
                    self.exchange(tokens.get(at).map(String::as_str)).await?;
                    let after = Instant::now();
                    latencies.push(u32::try_from((after - now).as_nanos()).unwrap_or(u32::MAX));
                    now = after;
                }
            }
            Plan::EachOnce => {
                for token in tokens.iter().skip(self.place).step_by(CONNECTIONS) {
                    self.exchange(Some(token)).await?;
                }
            }
        }
        Ok(latencies)
    }

    async fn exchange(&mut self, token: Option<&str>) -> io::Result<()> {
        write_request(&mut self.request, token);
        self.stream.write_all(&self.request).await?;
        self.answer.clear();
        let mut whole = None;
        while whole.is_none_or(|whole| self.answer.len() < whole) {
            if self.stream.read_buf(&mut self.answer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if whole.is_none() {
                whole = memmem::find(&self.answer, END).map(|head| head + END.len() + BODY);
            }
        }
        if self.answer.starts_with(b"HTTP/1.1 200 ") && whole == Some(self.answer.len()) {
            Ok(())
        } else {
            Err(io::Error::other("an answer is not the origin's"))
        }
    }
}

const PATIENCE: Duration = Duration::from_secs(60);
