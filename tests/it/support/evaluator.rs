//! An external evaluation service: correct by default, and wrong in every way that a test requires.

use std::sync::{Arc, LazyLock, Mutex};

use portcullis::token::SigningKey;
use serde_json::{Value, json};
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::idp::now;
use super::open_token;
use super::wire::{self, Framing};
use super::{SERVICE_KEY, keys};

/// The service's key, and one that it never publishes.
pub static KEY: LazyLock<SigningKey> = LazyLock::new(|| keys::signing_key(SERVICE_KEY));
pub static STRANGER: LazyLock<SigningKey> = LazyLock::new(|| keys::signing_key(keys::STRANGER));

/// Returns the answer to a question with these claims.
pub type Script = Box<dyn Fn(&Value) -> Reply + Send>;

/// An answer.
pub enum Reply {
    /// A status, further header lines and a body.
    Raw(u16, String, String),
    /// No answer; the connection stays open.
    Hang,
}

impl Reply {
    /// A token as it should be wrapped.
    pub fn token(token: &str) -> Self {
        Self::json(200, &json!({ "token": token }))
    }

    /// A body in JSON.
    pub fn json(status: u16, body: &Value) -> Self {
        Self::Raw(
            status,
            "content-type: application/json\r\n".to_owned(),
            body.to_string(),
        )
    }

    /// The claims of an answer, signed.
    pub fn signed(claims: &Value) -> Self {
        Self::token(&KEY.sign(claims).unwrap())
    }
}

/// The claims of a right answer.
pub fn answer(question: &Value, success: bool) -> Value {
    json!({ "success": success, "iat": now(), "exp": now() + 60, "nonce": question["nonce"] })
}

/// A running service. Ends when dropped.
pub struct Evaluator {
    /// `http://127.0.0.1:<port>`.
    pub url: String,
    shared: Arc<Mutex<Shared>>,
    task: JoinHandle<()>,
}

struct Shared {
    script: Script,
    keys: Value,
    questions: Vec<String>,
    key_fetches: usize,
}

impl Evaluator {
    /// Starts a service that allows every user.
    pub async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Mutex::new(Shared {
            script: Box::new(|question| Reply::signed(&answer(question, true))),
            keys: json!({ "keys": [KEY.to_jwk()] }),
            questions: Vec::new(),
            key_fetches: 0,
        }));
        let state = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(connection(stream, Arc::clone(&state)));
            }
        });
        Self { url, shared, task }
    }

    /// Changes the answers.
    pub fn answers(&self, script: impl Fn(&Value) -> Reply + Send + 'static) {
        self.shared.lock().unwrap().script = Box::new(script);
    }

    /// Changes the keys that it publishes.
    pub fn publishes(&self, keys: &[Value]) {
        self.shared.lock().unwrap().keys = json!({ "keys": keys });
    }

    /// The tokens that it was asked with, oldest first.
    pub fn questions(&self) -> Vec<String> {
        self.shared.lock().unwrap().questions.clone()
    }

    /// Returns the number of times its keys were fetched.
    pub fn key_fetches(&self) -> usize {
        self.shared.lock().unwrap().key_fetches
    }
}

impl Drop for Evaluator {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn connection(stream: TcpStream, shared: Arc<Mutex<Shared>>) {
    let mut stream = BufReader::new(stream);
    while let Ok(Some(head)) = wire::read_head(&mut stream).await {
        let framing = wire::framing(&head.headers, Framing::Length(0));
        let Ok(body) = wire::read_body(&mut stream, framing).await else {
            return;
        };
        let mut parts = head.first.split(' ');
        let reply = match (parts.next(), parts.next()) {
            (Some("POST"), Some("/evaluate?tenant=1")) => shared.lock().unwrap().asked(&body),
            (Some("GET"), Some("/keys" | "/new-keys")) => {
                let mut shared = shared.lock().unwrap();
                shared.key_fetches += 1;
                Reply::json(200, &shared.keys)
            }
            other => panic!("the service was asked for {other:?}"),
        };
        let Reply::Raw(status, headers, body) = reply else {
            return std::future::pending().await;
        };
        let head = format!(
            "HTTP/1.1 {status} Of The Service\r\n{headers}content-length: {}\r\n\r\n",
            body.len()
        );
        if stream.write_all((head + &body).as_bytes()).await.is_err()
            || stream.flush().await.is_err()
        {
            return;
        }
    }
}

impl Shared {
    fn asked(&mut self, body: &[u8]) -> Reply {
        let body: Value = serde_json::from_slice(body).unwrap();
        let token = body["token"].as_str().unwrap();
        self.questions.push(token.to_owned());
        (self.script)(&open_token(token).1)
    }
}
