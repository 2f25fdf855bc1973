//! A strict HTTP/1.1 origin that records the raw bytes of each connection.
//!
//! It reads requests one after the other and answers each with a fixed message. Bytes after the end
//! of a request are the beginning of the next one, as for any real origin: bytes that belong to no
//! request show in the record.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// When the origin writes its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// After the whole request.
    Complete,
    /// After the whole request, but only for the first one of each connection; at the second the
    /// connection is closed.
    FirstOnly,
    /// After the head of the request; the body is read afterwards.
    Head,
    /// After the head of the request; the connection is then closed without reading on.
    HeadAndClose,
}

/// A running recording origin. Ends when dropped.
pub struct Recorder {
    /// The address it listens on.
    pub address: SocketAddr,
    connections: Arc<Mutex<Vec<Vec<u8>>>>,
    task: JoinHandle<()>,
}

impl Recorder {
    /// Answers every request with `answer`.
    pub async fn start(answer: impl Into<Vec<u8>>, when: When) -> Self {
        let answer = answer.into();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(Mutex::new(Vec::new()));
        let record = Arc::clone(&connections);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let index = {
                    let mut connections = record.lock().unwrap();
                    connections.push(Vec::new());
                    connections.len() - 1
                };
                tokio::spawn(serve(
                    stream,
                    Arc::clone(&record),
                    index,
                    answer.clone(),
                    when,
                ));
            }
        });
        Self {
            address,
            connections,
            task,
        }
    }

    /// The URL for the configuration.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The bytes of each connection so far.
    pub fn connections(&self) -> Vec<Vec<u8>> {
        self.connections.lock().unwrap().clone()
    }

    /// The bytes after the head of each request, in order of arrival; `,` separates the requests of
    /// all connections.
    #[track_caller]
    pub fn bodies(&self) -> Vec<String> {
        let mut bodies = Vec::new();
        for bytes in self.connections() {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            for request in text.split_inclusive("HTTP/1.1\r\n").skip(1) {
                let (_, body) = request.split_once("\r\n\r\n").unwrap_or((request, ""));
                // The request line of the next request on the connection ends the body.
                let end = ["GET ", "POST ", "PUT "]
                    .iter()
                    .filter_map(|method| body.rfind(method))
                    .max();
                let body = if request.ends_with("HTTP/1.1\r\n") {
                    &body[..end.unwrap_or(body.len())]
                } else {
                    body
                };
                bodies.push(body.to_owned());
            }
        }
        bodies
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    mut stream: TcpStream,
    record: Arc<Mutex<Vec<Vec<u8>>>>,
    index: usize,
    answer: Vec<u8>,
    when: When,
) {
    let (mut unread, mut answered, mut requests) = (Vec::new(), false, 0);
    loop {
        if matches!(when, When::Head | When::HeadAndClose)
            && !answered
            && find(&unread, b"\r\n\r\n").is_some()
        {
            answered = stream.write_all(&answer).await.is_ok();
            if when == When::HeadAndClose {
                let _closed = stream.shutdown().await;
                return;
            }
        }
        if let Some(length) = request_length(&unread) {
            unread.drain(..length);
            requests += 1;
            if !std::mem::take(&mut answered) && stream.write_all(&answer).await.is_err() {
                return;
            }
            continue;
        }
        let mut piece = [0; 16 * 1024];
        let Ok(read @ 1..) = stream.read(&mut piece).await else {
            return;
        };
        unread.extend_from_slice(&piece[..read]);
        if when == When::FirstOnly && requests > 0 {
            return;
        }
        record.lock().unwrap()[index].extend_from_slice(&piece[..read]);
    }
}

/// The length of the first request in `bytes`, if it is there as a whole.
fn request_length(bytes: &[u8]) -> Option<usize> {
    let head_end = find(bytes, b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&bytes[..head_end]).to_ascii_lowercase();
    if head.contains("transfer-encoding: chunked") {
        let mut at = head_end;
        loop {
            let line = find(&bytes[at..], b"\r\n")?;
            let size = std::str::from_utf8(&bytes[at..at + line]).ok()?;
            let size = usize::from_str_radix(size.trim(), 16)
                .unwrap_or_else(|_| panic!("chunk size `{size}`"));
            at += line + 2 + size + 2;
            if bytes.len() < at {
                return None;
            }
            if size == 0 {
                return Some(at);
            }
        }
    }
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length:"));
    let length = length.map_or(0, |length| length.trim().parse().unwrap());
    (bytes.len() >= head_end + length).then_some(head_end + length)
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}
