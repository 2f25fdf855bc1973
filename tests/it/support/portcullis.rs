//! The product as its users run it: the binary, a configuration file, a folder, signals.

use std::fs::{self, File};
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use portcullis::model::UnixTime;
use portcullis::store::{KeyRepository as _, SqliteStore, StoredKey};
use rustls::ClientConfig;
use sqlx::SqlitePool;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio::time::sleep;

use super::certs::{Certificate, ClientIdentity};
use super::keys;
use super::okta::{CLIENT_ID, CLIENT_SECRET};
use super::raw::{self, Connection, Connection2};

/// A configuration file, with the parts that tests change.
#[derive(Debug, Clone)]
pub struct Config {
    /// The issuer of the identity provider `okta`.
    pub issuer: String,
    /// The token for its groups API.
    pub api_token: Option<String>,
    /// Further keys of its `config`, each after a comma.
    pub provider: String,
    /// The client's credentials at the provider.
    pub credentials: String,
    /// Files to be in the folder, with their content.
    pub files: Vec<(&'static str, String)>,
    /// The `[[applications]]` and whatever else stands at the end of the file. `$ORIGIN` stands for
    /// the origin's address.
    pub rest: String,
    /// With TLS the hosts are `*.test`, without `*.localhost`.
    pub tls: bool,
    /// Inserted under `[team]`.
    pub team_more: &'static str,
    /// `[team] session_duration`.
    pub session_duration: &'static str,
    /// Inserted under `[[listen]]`.
    pub listen: String,
    /// The store's file, if it is not one of its own in the folder.
    pub store_path: Option<PathBuf>,
    /// Starts without a store, so that the proxy makes one with keys of its own.
    pub new_store: bool,
    /// Inserted under `[store]`.
    pub store: &'static str,
    /// The log filter.
    pub log: &'static str,
    /// Further environment variables.
    pub env: Vec<(&'static str, PathBuf)>,
    /// The team domain, if it is not the usual one.
    pub domain: Option<String>,
    /// The keys URL of another team. Then this node has no logins of its own.
    pub certs_url: Option<String>,
    /// The soft and the hard limit of open files.
    pub open_files: Option<(u32, u32)>,
}

impl Config {
    /// An ordinary configuration with these applications.
    pub fn new(issuer: &str, rest: &str) -> Self {
        Self {
            issuer: issuer.to_owned(),
            api_token: None,
            provider: String::new(),
            credentials: format!(r#"client_secret = "{CLIENT_SECRET}""#),
            files: Vec::new(),
            rest: rest.to_owned(),
            tls: false,
            team_more: "",
            session_duration: "24h",
            listen: String::new(),
            store_path: None,
            new_store: false,
            store: "",
            log: "info,portcullis=trace",
            env: Vec::new(),
            domain: None,
            certs_url: None,
            open_files: None,
        }
    }

    /// The host of the team domain.
    pub fn team(&self) -> &'static str {
        if self.tls {
            "access.test"
        } else {
            "access.localhost"
        }
    }

    /// The file, with these listeners.
    pub fn text(&self, listen: SocketAddr, metrics: SocketAddr) -> String {
        let Self {
            issuer,
            provider: more,
            credentials,
            rest,
            team_more,
            session_duration,
            listen: listen_extra,
            store,
            ..
        } = self;
        let team = self
            .domain
            .as_deref()
            .unwrap_or(self.team())
            .replace("$PORT", &listen.port().to_string());
        let certs_url = self
            .certs_url
            .as_ref()
            .map(|url| format!(r#"certs_url = "{url}""#))
            .unwrap_or_default();
        let provider = format!(
            r#"
[[identity_providers]]
id = "okta"
name = "Example Okta"
type = "okta"
config = {{ client_id = "{CLIENT_ID}", {credentials}, okta_account = "{issuer}"{}{more} }}
"#,
            self.api_token
                .as_ref()
                .map(|t| format!(r#", api_token = "{t}""#))
                .unwrap_or_default()
        );
        let provider = if self.certs_url.is_none() {
            provider
        } else {
            String::new()
        };
        let store_path = self.store_path.clone().unwrap_or_else(|| STORE_FILE.into());
        let store_path = store_path.display();
        let plain_http = !self.tls;
        let tls = if self.tls {
            r#"tls = { certificate = "cert.pem", key = "key.pem" }"#
        } else {
            ""
        };
        format!(
            r#"
[team]
name = "Example"
domain = "{team}"
{certs_url}
{team_more}
session_duration = "{session_duration}"

[store]
path = "{store_path}"
{store}

[metrics]
address = "{metrics}"

[insecure]
plain_http = {plain_http}
inline_secrets = true
insecure_identity_providers = true

[[listen]]
address = "{listen}"
{tls}
{listen_extra}

{provider}

{rest}
"#
        )
    }
}

/// A running proxy. Stopped when dropped; a log with a panic or a token in it fails the test.
pub struct Portcullis {
    /// The address that it listens on.
    pub address: SocketAddr,
    /// The address of `/metrics`, `/healthz` and `/readyz`.
    pub metrics: SocketAddr,
    /// The configuration it was started with.
    pub config: Config,
    certificate: Certificate,
    folder: TempDir,
    process: Option<Process>,
}

impl Portcullis {
    /// Starts the proxy and waits until it is ready.
    pub async fn start(config: Config) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let certificate = Certificate::of_the_listener();
        fs::write(folder.path().join("cert.pem"), &certificate.pem).unwrap();
        fs::write(folder.path().join("key.pem"), &certificate.key_pem).unwrap();
        for (name, content) in &config.files {
            fs::write(folder.path().join(name), content).unwrap();
        }
        let has_keys = config.certs_url.is_none() && config.store_path.is_none();
        if has_keys && !config.new_store {
            let store = STORE.get_or_init(store_with_keys).await;
            let mut file = File::options();
            file.write(true).create_new(true).mode(0o600);
            let mut file = file.open(folder.path().join(STORE_FILE)).unwrap();
            file.write_all(store).unwrap();
        }
        let (address, metrics) = (free_address(), free_address());
        let mut proxy = Self {
            address,
            metrics,
            config,
            certificate,
            folder,
            process: None,
        };
        proxy.write_config();
        proxy.run().await;
        proxy
    }

    /// Writes the configuration file anew, as an editor would.
    pub fn write_config(&self) {
        fs::write(
            self.path("portcullis.toml"),
            self.config.text(self.address, self.metrics),
        )
        .unwrap();
    }

    /// Writes the configuration file anew, and waits until the proxy uses it.
    pub async fn reconfigure(&self) {
        let after = self.log().len();
        self.write_config();
        self.logged(after, &["the configuration was reloaded"])
            .await;
    }

    /// Starts the stopped proxy again, in the same folder.
    pub async fn run(&mut self) {
        assert!(self.process.is_none(), "it is running");
        let process = self.spawn(&[]);
        self.process = Some(process);
        self.until_ready().await;
    }

    fn spawn(&self, more: &[&str]) -> Process {
        let file = |name| {
            File::options()
                .create(true)
                .append(true)
                .open(self.path(name))
                .unwrap()
        };
        let binary = env!("CARGO_BIN_EXE_portcullis");
        let mut command = match self.config.open_files {
            None => Command::new(binary),
            Some((soft, hard)) => {
                let mut shell = Command::new("sh");
                shell.args([
                    "-c",
                    &format!("ulimit -Sn {soft} && ulimit -Hn {hard} && exec \"$0\" \"$@\""),
                    binary,
                ]);
                shell
            }
        };
        let process = command
            .args(["run", "-c", "portcullis.toml"])
            .args(more)
            .current_dir(self.folder.path())
            .env("PORTCULLIS_LOG", self.config.log)
            // One root in place of the system's: without optimisation those take long to read.
            .env(
                "SSL_CERT_FILE",
                concat!(env!("CARGO_MANIFEST_DIR"), "/tests/keys/team.crt"),
            )
            .envs(self.config.env.clone())
            .stdout(file("stdout"))
            .stderr(file("stderr"))
            .spawn()
            .unwrap();
        Process(process)
    }

    /// Puts a new process in the place of the running one, which must have an `upgrade_socket`, and
    /// waits for the old one's end.
    pub async fn upgrade(&mut self) {
        let new = self.spawn(&["--upgrade"]);
        self.signal("QUIT");
        self.ended(Duration::from_secs(40)).await;
        self.process = Some(new);
        self.until_ready().await;
    }

    async fn until_ready(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(status) = self.process.as_mut().unwrap().0.try_wait().unwrap() {
                self.process = None;
                panic!("the proxy ended with {status}:\n{}", self.log_tail());
            }
            if self.readyz().await == Some(200) && TcpStream::connect(self.address).await.is_ok() {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "the proxy does not become ready:\n{}",
                self.log_tail()
            );
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// The status of `/readyz`; `None` if nothing answers.
    pub async fn readyz(&self) -> Option<u16> {
        TcpStream::connect(self.metrics).await.ok()?;
        let answer = raw::exchange(
            self.metrics,
            raw::request("GET", "localhost", "/readyz", &[]),
        )
        .await?;
        Some(answer.status)
    }

    /// The status and the body of `/readyz`.
    pub async fn readiness(&self) -> (u16, String) {
        let answer = raw::exchange(
            self.metrics,
            raw::request("GET", "localhost", "/readyz", &[]),
        )
        .await
        .unwrap();
        (answer.status, answer.text())
    }

    /// The metrics as text.
    pub async fn metrics(&self) -> String {
        raw::exchange(
            self.metrics,
            raw::request("GET", "localhost", "/metrics", &[]),
        )
        .await
        .unwrap()
        .text()
    }

    /// Sends a signal by its name.
    pub fn signal(&self, name: &str) {
        let pid = self.process.as_ref().unwrap().0.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-s", name, &pid])
                .status()
                .unwrap()
                .success()
        );
    }

    /// Waits until the proxy has ended by itself.
    pub async fn ended(&mut self, within: Duration) -> ExitStatus {
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.process.as_mut().unwrap().0.try_wait().unwrap() {
                self.process = None;
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "the proxy does not end within {within:?}:\n{}",
                self.log_tail()
            );
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Stops the proxy. Its folder stays.
    pub async fn stop(&mut self) {
        self.signal("INT");
        self.ended(Duration::from_secs(20)).await;
    }

    /// Everything it has logged, over all its runs.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("stdout")).unwrap_or_default()
    }

    /// Waits for a line of the log that holds all these words, after that many bytes of it.
    pub async fn logged(&self, after: usize, words: &[&str]) -> String {
        self.logged_within(Duration::from_secs(10), after, words)
            .await
    }

    /// The same with another limit.
    pub async fn logged_within(&self, patience: Duration, after: usize, words: &[&str]) -> String {
        let deadline = Instant::now() + patience;
        loop {
            let log = self.log();
            if let Some(line) = log[after..]
                .lines()
                .find(|line| words.iter().all(|word| line.contains(word)))
            {
                return line.to_owned();
            }
            assert!(
                Instant::now() < deadline,
                "no log line with {words:?} within {patience:?}:\n{}",
                self.log_tail()
            );
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Returns the standard error output.
    pub fn complaints(&self) -> String {
        fs::read_to_string(self.path("stderr")).unwrap_or_default()
    }

    /// The audit events of one kind, in order.
    pub fn events(&self, kind: &str) -> Vec<serde_json::Value> {
        // A thread of its own writes the log, so an event may come a moment after the answer that
        // it is about.
        let mut log = self.log();
        for _ in 0..20 {
            std::thread::sleep(Duration::from_millis(50));
            let later = self.log();
            if later.len() == std::mem::replace(&mut log, later).len() {
                break;
            }
        }
        let lines = log
            .lines()
            .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        lines
            .filter(|event| find(event, "event") == Some(kind))
            .collect()
    }

    /// A file of its folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Opens the proxy's store beside it.
    pub async fn database(&self) -> SqlitePool {
        let file = self.path(STORE_FILE);
        SqlitePool::connect(&format!("sqlite://{}", file.display()))
            .await
            .unwrap()
    }

    /// The TLS settings of a client that trusts this proxy.
    pub fn trust(&self, protocol: &str) -> Arc<ClientConfig> {
        self.certificate.client(protocol)
    }

    /// The same for a client that has a certificate of its own.
    pub fn trust_as(&self, protocol: &str, identity: &ClientIdentity) -> Arc<ClientConfig> {
        self.certificate
            .client_with(protocol, Some(identity), rustls::ALL_VERSIONS)
    }

    /// The same in one version of TLS.
    pub fn trust_in(
        &self,
        version: &'static rustls::SupportedProtocolVersion,
        identity: Option<&ClientIdentity>,
    ) -> Arc<ClientConfig> {
        self.certificate
            .client_with("http/1.1", identity, &[version])
    }

    /// A connection as a client of `host` makes it.
    pub async fn connect(&self, host: &str) -> Connection {
        if self.config.tls {
            Connection::tls(self.address, host, &self.trust("http/1.1")).await
        } else {
            Connection::plain(self.address).await
        }
    }

    /// An HTTP/2 connection as a client of `host` makes it.
    pub async fn connect2(&self, host: &str) -> Connection2 {
        Connection2::tls(self.address, host, &self.trust("h2")).await
    }

    fn log_tail(&self) -> String {
        let log = self.log() + &self.complaints();
        let lines: Vec<_> = log
            .lines()
            .filter(|line| !line.contains("\"TRACE\""))
            .collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

const STORE_FILE: &str = "portcullis.db";

/// A store file that holds the team's two signing keys. Two new RSA keys would take longer than all
/// else in the start of a proxy.
static STORE: OnceCell<Vec<u8>> = OnceCell::const_new();

async fn store_with_keys() -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(STORE_FILE);
    let store = SqliteStore::open(&path).await.unwrap();
    for (pem, certificate) in [
        (keys::TEAM, include_str!("../../keys/team.crt")),
        (keys::TEAM_NEXT, include_str!("../../keys/team-next.crt")),
    ] {
        let key = StoredKey {
            kid: keys::signing_key(pem).kid().into(),
            pkcs8: keys::pkcs8(pem),
            certificate_pem: certificate.to_owned(),
            made: UnixTime::now(),
            retired: None,
        };
        store.put_signing_key(&key).await.unwrap();
    }
    // Without open connections the file is complete: SQLite merges its log into it.
    store.close().await;
    fs::read(path).unwrap()
}

/// A process that does not outlive the test, however that ends.
pub struct Process(pub Child);

impl Drop for Process {
    fn drop(&mut self) {
        if !matches!(self.0.try_wait(), Ok(None)) {
            return;
        }
        // Whatever fails here, the process is killed at the end.
        let _sent = Command::new("kill")
            .args(["-s", "INT", &self.0.id().to_string()])
            .status();
        let deadline = Instant::now() + Duration::from_secs(10);
        while matches!(self.0.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        let _killed = self.0.kill();
        let _status = self.0.wait();
    }
}

impl Drop for Portcullis {
    fn drop(&mut self) {
        drop(self.process.take());
        if std::thread::panicking() {
            return eprintln!("--- the proxy's last lines\n{}", self.log_tail());
        }
        let log = self.log() + &self.complaints();
        assert!(
            !log.contains("panicked at"),
            "a panic in the proxy:\n{}",
            self.log_tail()
        );
        for secret in ["eyJ", CLIENT_SECRET] {
            let line = log.lines().find(|line| line.contains(secret));
            assert_eq!(line, None, "`{secret}…` in the log");
        }
    }
}

/// The string under `key`, at the top of a log line or among its fields.
pub fn find<'a>(event: &'a serde_json::Value, key: &str) -> Option<&'a str> {
    event
        .get(key)
        .or_else(|| event.get("fields")?.get(key))?
        .as_str()
}

/// Returns an address without a listener. The port is below the range for outgoing connections, so
/// that no concurrent test takes it before the proxy does.
pub fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = u16::try_from(std::process::id() % 1000).unwrap() * 20;
    loop {
        let port = 10_000 + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % 20_000;
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", port)) {
            return listener.local_addr().unwrap();
        }
    }
}
