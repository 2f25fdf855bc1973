//! Reading the configuration again while the process runs.
//!
//! Decides if a changed configuration takes effect. Trusts the check of the configuration. Never
//! replaces a running configuration by one with a mistake.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::signal::unix::Signal;

use super::file_watch::FileWatch;
use super::start::origins_of;
use super::{Access, Background, OriginSource, compile};
use crate::config::{Config, Environment, Errors, Limits, Loaded, StoreConfig, System};
use crate::http_client::HttpClient;
use crate::observe::metrics::{Reload, metrics};

/// Reloads the configuration.
pub(super) struct Reloader {
    pub(super) access: Arc<Access>,
    pub(super) http: HttpClient,
    pub(super) origins: Arc<dyn OriginSource>,
    /// The configuration at the start.
    pub(super) started: Arc<Config>,
    /// Runs the tasks of new origins.
    pub(super) background: Background,
    pub(super) file: PathBuf,
    pub(super) load: fn(&Path, &dyn Environment) -> Result<Loaded, Errors>,
}

impl Reloader {
    /// Reloads the configuration whenever it may have changed. Never returns.
    pub(super) async fn run(self, watch: FileWatch, hangup: Option<Signal>) {
        let others = || self.access.running.services().watched.clone();
        watch.run(hangup, others, || self.reload()).await;
    }

    async fn reload(&self) {
        let loaded = match (self.load)(&self.file, &System) {
            Ok(loaded) => loaded,
            Err(errors) => {
                metrics().reload(Reload::Rejected);
                tracing::error!(
                    "the configuration was not reloaded, keeping the running configuration:\n{errors}"
                );
                return;
            }
        };
        for warning in &loaded.warnings {
            tracing::warn!("{warning}");
        }
        let certs_url = loaded.config.catalog.team.certs_url.as_ref();
        if self.access.running.services().issuer.certs_url() != certs_url {
            metrics().reload(Reload::Rejected);
            tracing::error!(
                "the configuration was not reloaded: `team.certs_url` changes only at a restart; keeping the running configuration"
            );
            return;
        }
        let made = self.origins.origins(&loaded.config, &self.background).await;
        let known = Arc::clone(self.access.running.cache());
        match compile(
            &loaded.config,
            self.access.next_generation(),
            known,
            &self.http,
            |application| origins_of(&made, &application.id),
        ) {
            Ok((snapshot, services)) => {
                self.access.replace(snapshot, services);
                metrics().reload(Reload::Applied);
                tracing::info!(
                    applications = loaded.config.catalog.applications.len(),
                    "the configuration was reloaded"
                );
                let waiting = needs_restart(&self.started, &loaded.config);
                if !waiting.is_empty() {
                    tracing::warn!(
                        "changes to {} take effect after a restart",
                        waiting.join(", ")
                    );
                }
            }
            Err(error) => {
                metrics().reload(Reload::Rejected);
                tracing::error!(%error, "the configuration was not reloaded, keeping the running configuration");
            }
        }
    }
}

/// Returns the changed sections that take effect only at a restart.
fn needs_restart(started: &Config, now: &Config) -> Vec<&'static str> {
    let limits = |config: &Config| Limits {
        max_body: None,
        ..config.limits.clone()
    };
    let store = |config: &Config| match &config.store {
        StoreConfig::Sqlite { path, .. } => Some(path.clone()),
        StoreConfig::Memory => None,
    };
    let changed = [
        (
            "`[[listen]]`",
            started.listen != now.listen || started.redirects != now.redirects,
        ),
        ("`[metrics]`", started.metrics != now.metrics),
        ("`[store]`", store(started) != store(now)),
        ("`[limits]`", limits(started) != limits(now)),
        ("`[server]`", started.server != now.server),
        ("`[outgoing]`", started.outgoing != now.outgoing),
    ];
    changed
        .into_iter()
        .filter(|(_, changed)| *changed)
        .map(|(section, _)| section)
        .collect()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::config;
    use crate::control::{Control, NoOrigins};

    #[test]
    fn change_while_the_process_starts_takes_effect() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("portcullis.toml");
        let text = TEXT
            .replace(
                "plain_http = true",
                "plain_http = true\nmemory_store = true",
            )
            .replace(
                "[store]\npath = \"portcullis.db\"\nmax_stale = \"60s\"\n",
                "",
            );
        std::fs::write(&file, &text).unwrap();
        let watch = FileWatch::start(&file);
        let started = config::load(&file, &System).unwrap().config;
        let control = Control::start(&started, NoOrigins).unwrap();
        let before = control.access().snapshot().generation();
        std::fs::write(&file, text.replace("app.localhost", "other.localhost")).unwrap();
        control.follow_watch(watch, config::load);
        let end = Instant::now() + Duration::from_secs(60);
        while control.access().snapshot().generation() == before {
            assert!(Instant::now() < end, "the change was not noticed");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    const TEXT: &str = r#"
[insecure]
plain_http = true
inline_secrets = true
[team]
domain = "access.localhost:8080"
[store]
path = "portcullis.db"
max_stale = "60s"
[limits]
header_count = 100
max_body = "1MiB"
[server]
grace_period = "5s"
[audit]
allow_sample = 0.5
[metrics]
address = "127.0.0.1:9090"
[[identity_providers]]
id = "okta"
name = "Okta"
type = "okta"
config = { client_id = "id", client_secret = "example-secret", okta_account = "https://dev-1.okta.com" }
[[listen]]
address = "127.0.0.1:8080"
trusted_proxies = ["10.0.0.0/8"]
[[applications]]
domain = "app.localhost"
origin = "http://127.0.0.1:9"
"#;

    #[test]
    fn only_sections_that_need_a_restart_are_named() {
        let read = |text: &str| {
            config::parse(text, Path::new("x.toml"), &System)
                .unwrap_or_else(|e| panic!("{e}"))
                .config
        };
        let started = read(TEXT);
        for (line, other, said) in [
            ("name = \"Okta\"", "name = \"Another\"", &[][..]),
            ("max_stale = \"60s\"", "max_stale = \"90s\"", &[]),
            ("max_body = \"1MiB\"", "max_body = \"2MiB\"", &[]),
            ("allow_sample = 0.5", "allow_sample = 1", &[]),
            (
                "domain = \"app.localhost\"",
                "domain = \"other.localhost\"",
                &[],
            ),
            ("\"10.0.0.0/8\"", "\"10.1.0.0/16\"", &["`[[listen]]`"]),
            ("127.0.0.1:9090", "127.0.0.1:9091", &["`[metrics]`"]),
            (
                "path = \"portcullis.db\"",
                "path = \"other.db\"",
                &["`[store]`"],
            ),
            ("header_count = 100", "header_count = 101", &["`[limits]`"]),
            (
                "[server]\ngrace_period = \"5s\"",
                "[server]\ngrace_period = \"6s\"",
                &["`[server]`"],
            ),
            (
                "[server]\n",
                "[outgoing]\nhttps_proxy = \"http://192.0.2.1:3128\"\n[server]\n",
                &["`[outgoing]`"],
            ),
        ] {
            assert!(TEXT.contains(line), "{line}");
            assert_eq!(
                needs_restart(&started, &read(&TEXT.replace(line, other))),
                said,
                "{other}"
            );
        }
        let all = TEXT
            .replace("header_count = 100", "")
            .replace("5s", "7s")
            .replace("[metrics]\naddress = \"127.0.0.1:9090\"", "");
        assert_eq!(
            needs_restart(&started, &read(&all)),
            ["`[metrics]`", "`[limits]`", "`[server]`"]
        );
        assert_eq!(needs_restart(&started, &started), [""; 0]);
    }
}
