//! An origin that switches protocols, byte for byte as a test wants it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::wire::{self, Framing, Head};

/// The origin's response to the request for an upgrade.
#[derive(Debug, Clone)]
pub enum Manner {
    /// Reads the request, answers 101 with the first protocol it was offered, and repeats every
    /// byte.
    Echo,
    /// The same, but writes the 101 as soon as it is connected, before it reads anything.
    Hasty,
    /// Reads until the client's half ends, then sends all of it, then ends.
    Reply,
    /// The same as `Echo`, but reads nothing for three seconds after the 101.
    Late,
    /// Answers 101, then sends that many bytes and ends.
    Burst(usize),
    /// Answers 101, then resets the connection at the first byte.
    Reset,
    /// Answers 200 after the head, and then with the length of the body, once it is there.
    Early,
    /// Sends these bytes in place of a 101, and keeps the connection open.
    Fixed(&'static str),
    /// Never answers.
    Silent,
}

/// The head and the body of each request.
type Record = Arc<Mutex<Vec<(Head, Vec<u8>)>>>;

/// A running origin. Ends when dropped.
pub struct Switcher {
    /// The address it listens on.
    pub address: SocketAddr,
    seen: Record,
    task: JoinHandle<()>,
}

impl Switcher {
    /// Starts it.
    pub async fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let record = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, manner.clone(), Arc::clone(&record)));
            }
        });
        Self {
            address,
            seen,
            task,
        }
    }

    /// The URL for the configuration.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The last request: its head and its body.
    pub fn last(&self) -> (Head, Vec<u8>) {
        self.seen
            .lock()
            .unwrap()
            .last()
            .cloned()
            .expect("the origin received nothing")
    }
}

impl Drop for Switcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(stream: TcpStream, manner: Manner, seen: Record) -> Option<()> {
    let mut stream = BufReader::new(stream);
    let switched = |protocol: &str| {
        format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: {protocol}\r\nConnection: Upgrade\r\n\r\nfirst-bytes"
        )
    };
    if matches!(manner, Manner::Hasty) {
        stream
            .write_all(switched("websocket").as_bytes())
            .await
            .ok()?;
    }
    let head = wire::read_head(&mut stream).await.ok()??;
    let framing = wire::framing(&head.headers, Framing::Length(0));
    if matches!(manner, Manner::Early) {
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            .await
            .ok()?;
        let length = wire::read_body(&mut stream, framing)
            .await
            .ok()?
            .len()
            .to_string();
        let answer = format!("{:x}\r\n{length}\r\n0\r\n\r\n", length.len());
        return stream.write_all(answer.as_bytes()).await.ok();
    }
    let body = wire::read_body(&mut stream, framing).await.ok()?;
    let protocol = head
        .headers
        .one("upgrade")
        .unwrap_or_default()
        .split(',')
        .next()
        .unwrap_or_default()
        .to_owned();
    seen.lock().unwrap().push((head, body));
    match manner {
        Manner::Fixed(answer) => {
            stream.write_all(answer.as_bytes()).await.ok()?;
            tokio::time::sleep(Duration::from_secs(60)).await;
            return None;
        }
        Manner::Silent => {
            tokio::time::sleep(Duration::from_secs(60)).await;
            return None;
        }
        _ if protocol.is_empty() => {
            let answer = "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nordinary";
            stream.write_all(answer.as_bytes()).await.ok()?;
            return None;
        }
        Manner::Hasty | Manner::Early => {}
        Manner::Echo | Manner::Reply | Manner::Late | Manner::Burst(_) | Manner::Reset => stream
            .write_all(switched(&protocol).as_bytes())
            .await
            .ok()?,
    }
    match manner {
        Manner::Late => tokio::time::sleep(Duration::from_secs(3)).await,
        Manner::Burst(length) => return stream.write_all(&vec![7; length]).await.ok(),
        Manner::Reset => {
            stream.read_u8().await.ok()?;
            return stream.get_ref().set_zero_linger().ok();
        }
        _ => {}
    }
    let (mut bytes, mut all) = (vec![0; 16 * 1024], Vec::new());
    loop {
        let read = stream.read(&mut bytes).await.ok()?;
        if matches!(manner, Manner::Reply) {
            all.extend_from_slice(&bytes[..read]);
            if read == 0 {
                stream.write_all(&all).await.ok()?;
                return None;
            }
        } else if read == 0 {
            return None;
        } else {
            stream.write_all(&bytes[..read]).await.ok()?;
        }
    }
}
