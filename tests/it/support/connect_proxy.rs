//! A network that only a proxy leads out of: a `CONNECT` proxy that resolves every name by itself,
//! and a server behind it.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::certs::Certificate;

/// A running proxy. Ends when dropped.
pub struct ConnectProxy {
    /// `127.0.0.1:<port>`
    pub address: String,
    heads: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl ConnectProxy {
    /// Starts a proxy that connects its clients to `server`, whatever name they ask for.
    pub async fn start(server: String) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let (address, heads) = (
            listener.local_addr().unwrap().to_string(),
            Arc::new(Mutex::new(Vec::new())),
        );
        let seen = Arc::clone(&heads);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (server, seen) = (server.clone(), Arc::clone(&seen));
                tokio::spawn(async move {
                    let mut client = BufReader::new(client);
                    let mut head = String::new();
                    while !head.ends_with("\r\n\r\n")
                        && client.read_line(&mut head).await.is_ok_and(|read| read > 0)
                    {
                    }
                    let connects = head.starts_with("CONNECT ");
                    seen.lock().unwrap().push(head);
                    let answer = if connects {
                        "200 Connection established"
                    } else {
                        "405 Method Not Allowed"
                    };
                    client
                        .write_all(format!("HTTP/1.1 {answer}\r\n\r\n").as_bytes())
                        .await
                        .unwrap();
                    if connects && let Ok(mut server) = TcpStream::connect(server).await {
                        let _ = copy_bidirectional(&mut client, &mut server).await;
                    }
                });
            }
        });
        Self {
            address,
            heads,
            task,
        }
    }

    /// The heads of all requests so far.
    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

impl Drop for ConnectProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Puts TLS before a server on plain HTTP, and returns its address. It runs as long as the test.
pub async fn tls_before(server: String, certificate: &Certificate) -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let (address, acceptor) = (
        listener.local_addr().unwrap().to_string(),
        certificate.acceptor(),
    );
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (server, acceptor) = (server.clone(), acceptor.clone());
            tokio::spawn(async move {
                let Ok(mut client) = acceptor.accept(client).await else {
                    return;
                };
                let mut server = TcpStream::connect(server).await.unwrap();
                let _ = copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    address
}
