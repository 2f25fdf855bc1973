//! The certified OpenID provider, shaped like Okta: `tests/idp/okta.mjs` as a process.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::raw;

/// The client's name at every provider of the tests.
pub const CLIENT_ID: &str = "0oaexample";
/// The client's secret at every provider of the tests.
pub const CLIENT_SECRET: &str = "a-client-secret-of-the-tests-only";
/// The password of everybody at `okta.mjs`.
pub const PASSWORD: &str = "correct horse";
/// The API token that `okta.mjs` takes.
pub const API_TOKEN: &str = "00example-read-only-token";

/// A running provider. It ends with its standard input, so also when the test dies.
pub struct Okta {
    /// The issuer, `http://127.0.0.1:<port>`.
    pub issuer: String,
    process: Child,
}

impl Okta {
    /// Starts a provider that sends browsers back to `redirects`.
    pub fn start(redirects: &[&str]) -> Self {
        Self::start_with(redirects, &[])
    }

    /// The same, with further arguments.
    pub fn start_with(redirects: &[&str], arguments: &[&str]) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/idp");
        assert!(
            folder.join("node_modules").exists(),
            "run `tests/run`, or `npm ci` in tests/idp, once"
        );
        let mut process = Command::new("node")
            .arg("okta.mjs")
            .args(redirects.iter().flat_map(|uri| ["--redirect", uri]))
            .args(arguments)
            .args(["--client-id", CLIENT_ID, "--client-secret", CLIENT_SECRET])
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("node is needed for these tests");
        let output = BufReader::new(process.stdout.take().unwrap());
        let ready = output
            .lines()
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix("ready ").map(str::to_owned));
        Self {
            issuer: ready.expect("the provider did not start"),
            process,
        }
    }

    /// Steers the provider (the keys are described in `okta.mjs`) and returns its state.
    pub async fn control(&self, wish: Value) -> Value {
        let host = self.issuer.trim_start_matches("http://");
        let body = wish.to_string();
        let length = format!("Content-Length: {}", body.len());
        let request = raw::request("POST", host, "/_ctl", &[&length]) + &body;
        raw::exchange(host.parse().unwrap(), request)
            .await
            .unwrap()
            .json()
    }

    /// How often `path` was asked for.
    pub async fn count(&self, path: &str) -> u64 {
        self.control(serde_json::json!({})).await["counts"][path]
            .as_u64()
            .unwrap_or(0)
    }
}

impl Drop for Okta {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        // It ends by itself; waiting only collects it.
        let _status = self.process.wait();
    }
}
