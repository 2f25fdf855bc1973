//! The certified OpenID provider, shaped like Okta: `tests/idp/okta.mjs` as a process.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{LazyLock, Mutex};

use serde_json::Value;

use super::{Config, Origin, Portcullis, raw, start};

/// The client's name at every provider of the tests.
pub const CLIENT_ID: &str = "0oaexample";
/// The client's secret at every provider of the tests.
pub const CLIENT_SECRET: &str = "a-client-secret-of-the-tests-only";
/// The password of every user at `okta.mjs`.
pub const PASSWORD: &str = "correct horse";
/// The API token that `okta.mjs` accepts.
pub const API_TOKEN: &str = "00example-read-only-token";

/// A user of every organisation, in `Engineering`.
pub const ALICE: &str = "alice@example.com";
/// A user of every organisation, in `Finance`.
pub const BOB: &str = "bob@example.com";
/// The redirect URI of the proxy.
pub const CALLBACK: &str = "http://access.localhost/cdn-cgi/access/callback";
/// A page of an application for `Engineering`.
pub const WIKI: &str = "http://wiki.localhost/page";
/// The page that fetches the identity anew.
pub const REFRESH: &str = "http://access.localhost/cdn-cgi/access/refresh-identity";
/// The identity of the session.
pub const IDENTITY: &str = "http://access.localhost/cdn-cgi/access/get-identity";
/// The end of all sessions of the browser.
pub const LOGOUT: &str = "http://access.localhost/cdn-cgi/access/logout";

/// Starts a proxy in front of an organisation, and its origin.
pub async fn with(okta: Okta, change: impl FnOnce(&mut Config)) -> (Portcullis, Okta, Origin) {
    let (proxy, origin) = start(&okta.issuer, change).await;
    (proxy, okta, origin)
}

/// A running organisation. All organisations of a test process share one process of Node, which
/// takes longer to start than most tests. In a run of nextest, all test processes share it.
pub struct Okta {
    /// The issuer, `http://127.0.0.1:<port>`, followed by a path for a custom authorization server.
    pub issuer: String,
}

/// A connection to the process of Node. Its end stops the organisations, so also when the tests are
/// killed.
struct Node {
    input: Box<dyn Write + Send>,
    output: Box<dyn BufRead + Send>,
    /// `None` if it is shared.
    _own: Option<Child>,
}

static NODE: LazyLock<Mutex<Node>> = LazyLock::new(|| Mutex::new(Node::find()));

impl Node {
    /// Connects to the process that `tests/setup` has started, or starts one.
    fn find() -> Self {
        match std::env::var("PORTCULLIS_TEST_PROVIDER") {
            Ok(address) => Self::connect(&address),
            Err(_) => Self::start(),
        }
    }

    fn connect(address: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        Self {
            input: Box::new(stream.try_clone().unwrap()),
            output: Box::new(BufReader::new(stream)),
            _own: None,
        }
    }

    fn start() -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/idp");
        assert!(
            folder.join("node_modules").exists(),
            "run `tests/run`, or `npm ci` in tests/idp, once"
        );
        let mut process = Command::new("node")
            .args(["okta.mjs", "--organisations"])
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("node is needed for these tests");
        Self {
            input: Box::new(process.stdin.take().unwrap()),
            output: Box::new(BufReader::new(process.stdout.take().unwrap())),
            _own: Some(process),
        }
    }

    /// Starts an organisation and returns its issuer.
    fn organisation(&mut self, arguments: &[&str]) -> String {
        // In one piece, so that no packet waits for the acknowledgement of another.
        let line = format!("{}\n", serde_json::json!(arguments));
        self.input.write_all(line.as_bytes()).unwrap();
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        let issuer = line.trim_end().strip_prefix("ready ");
        issuer.expect("the provider did not start").to_owned()
    }
}

impl Okta {
    /// Starts an organisation that sends browsers back to `redirects`.
    pub fn start(redirects: &[&str]) -> Self {
        Self::start_with(redirects, &[])
    }

    /// Starts an organisation with further arguments of `okta.mjs`.
    pub fn start_with(redirects: &[&str], arguments: &[&str]) -> Self {
        let mut all = vec!["--client-id", CLIENT_ID, "--client-secret", CLIENT_SECRET];
        for uri in redirects {
            all.extend(["--redirect", uri]);
        }
        all.extend(arguments);
        // A test that failed here reports why; the others can still try.
        let mut node = NODE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        Self {
            issuer: node.organisation(&all),
        }
    }

    fn address(&self) -> SocketAddr {
        let host = self.issuer.trim_start_matches("http://");
        host.split('/').next().unwrap().parse().unwrap()
    }

    /// Changes the organisation and returns its state. `okta.mjs` describes the keys.
    pub async fn control(&self, wish: Value) -> Value {
        let body = wish.to_string();
        let length = format!("Content-Length: {}", body.len());
        let request = raw::request("POST", "localhost", "/_ctl", &[&length]) + &body;
        raw::exchange(self.address(), request).await.unwrap().json()
    }

    /// Returns the number of requests for `path`.
    pub async fn count(&self, path: &str) -> u64 {
        self.control(serde_json::json!({})).await["counts"][path]
            .as_u64()
            .unwrap_or(0)
    }
}

impl Drop for Okta {
    fn drop(&mut self) {
        // Without an answer the organisation runs on until the process ends, which does no harm.
        let Ok(mut stream) = TcpStream::connect(self.address()) else {
            return;
        };
        let body = serde_json::json!({ "close": true }).to_string();
        let length = format!("Content-Length: {}", body.len());
        let request = raw::request("POST", "localhost", "/_ctl", &[&length]) + &body;
        let _sent = stream.write_all(request.as_bytes());
    }
}
