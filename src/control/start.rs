use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use thiserror::Error;
use tokio::runtime::{Builder, Handle, Runtime};

use super::{
    Access, Background, CompileError, Ended, StartError, Tasks, Vital, compile, watch_configuration,
};
use crate::config::{Config, Environment, Errors, Limits, Loaded, StoreConfig, System};
use crate::engine::{Known, Origins};
use crate::http_client::{HttpClient, Roots, RootsError, Timeouts};
use crate::observe::metrics::{Reload, metrics};
use crate::store::{MemoryStore, SqliteStore, Store, StoreError};

/// The control path of a configuration, on a runtime of its own: what a front needs is
/// [`Control::access`].
///
/// The runtime's threads do not survive a fork, so it does not go together with Pingora's `daemon`.
/// Dropping this ends the control path; a front that still holds its [`Access`] then decides from
/// what is known and can learn nothing more.
#[derive(Debug)]
pub struct Control {
    access: Arc<Access>,
    http: HttpClient,
    origins: Arc<dyn OriginSource>,
    started: Arc<Config>,
    _tasks: Tasks,
    vital: Vital,
    ended: Option<Ended>,
    runtime: Runtime,
}

/// Makes a front's origins of what the configuration says of them, at start and at each reload.
#[async_trait]
pub trait OriginSource: std::fmt::Debug + Send + Sync + 'static {
    /// Origins by the application's id. `background` is for the tasks that keep them up to date.
    async fn origins(&self, config: &Config, background: &Background) -> HashMap<String, Origins>;
}

/// For a proxy that picks its peers itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoOrigins;

#[async_trait]
impl OriginSource for NoOrigins {
    async fn origins(
        &self,
        _config: &Config,
        _background: &Background,
    ) -> HashMap<String, Origins> {
        HashMap::new()
    }
}

/// Why there is no control path.
#[derive(Debug, Error)]
pub enum ControlError {
    /// Its threads.
    #[error("the control runtime cannot be made")]
    Runtime(#[source] std::io::Error),
    /// Outgoing connections.
    #[error("the HTTP client could not be created")]
    Http(#[from] RootsError),
    /// What the configuration says cannot be put together.
    #[error("the configuration cannot be run")]
    Compile(#[from] CompileError),
    /// The store file.
    #[error("the store cannot be used")]
    Store(#[from] StoreError),
    /// Keys and secrets.
    #[error(transparent)]
    Start(#[from] StartError),
}

impl Control {
    /// Starts it: the store, keys, revocations, and the tasks that keep them fresh. Not to be
    /// called within a runtime.
    ///
    /// # Errors
    /// See [`ControlError`]. That an identity provider or a remote team cannot be reached is none.
    pub fn start(config: &Config, origins: impl OriginSource) -> Result<Self, ControlError> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("control")
            .enable_all()
            .build()
            .map_err(ControlError::Runtime)?;
        let http = http_client(config)?;
        if let Some(proxy) = &config.outgoing.proxy {
            tracing::info!(%proxy, credentials = proxy.has_credentials(), "https calls of other services go through a proxy");
        }
        let known = Arc::new(Known::new(
            usize::try_from(config.server.sessions_cached).unwrap_or(usize::MAX),
        ));
        let origins: Arc<dyn OriginSource> = Arc::new(origins);
        let (vital, ended) = Vital::new();
        let background = Background::new(runtime.handle().clone(), vital.clone());
        let (access, tasks) = runtime.block_on(async {
            let made = origins.origins(config, &background).await;
            let (snapshot, services) = compile(config, 1, known, &http, |application| {
                of(&made, &application.id)
            })?;
            let store: Arc<dyn Store> = match &config.store {
                StoreConfig::Memory => Arc::new(MemoryStore::new()),
                StoreConfig::Sqlite { path, .. } => {
                    let store = SqliteStore::open(path).await?;
                    if store.is_new() {
                        tracing::warn!("created a new store at {}", path.display());
                    }
                    Arc::new(store)
                }
            };
            let access = Access::start(
                snapshot,
                services,
                store,
                http.clone(),
                runtime.handle().clone(),
            )
            .await?;
            let tasks = Tasks::spawn(&access, &vital);
            Ok::<_, ControlError>((access, tasks))
        })?;
        Ok(Self {
            access,
            http,
            origins,
            started: Arc::new(config.clone()),
            _tasks: tasks,
            vital,
            ended: Some(ended),
            runtime,
        })
    }

    /// What a front asks.
    pub const fn access(&self) -> &Arc<Access> {
        &self.access
    }

    /// The runtime of everything that waits.
    pub fn runtime(&self) -> &Handle {
        self.runtime.handle()
    }

    /// Reports threads and tasks that the process cannot do without, the control path's own among
    /// them.
    pub const fn vital(&self) -> &Vital {
        &self.vital
    }

    /// For tasks that the process cannot do without.
    pub fn background(&self) -> Background {
        Background::new(self.runtime().clone(), self.vital.clone())
    }

    /// The receiver of those reports; `None` from the second call on.
    pub const fn ended(&mut self) -> Option<Ended> {
        self.ended.take()
    }

    /// From now on puts the file's content in place of the running configuration whenever it
    /// changes and on SIGHUP, or says in the log why not. What is read only at the start, such as
    /// the listeners, stays as it is; where it changed the log says so.
    pub fn follow(&self, file: &Path, load: fn(&Path, &dyn Environment) -> Result<Loaded, Errors>) {
        let (access, http, origins) = (
            Arc::clone(&self.access),
            self.http.clone(),
            Arc::clone(&self.origins),
        );
        let (started, background, file) = (
            Arc::clone(&self.started),
            self.background(),
            file.to_owned(),
        );
        let running = self.vital.watch("configuration");
        self.runtime.spawn(async move {
            let _running = running;
            let changed = || async {
                reload(
                    &access,
                    &http,
                    &*origins,
                    &started,
                    &background,
                    &file,
                    load,
                )
                .await
            };
            watch_configuration(&file, || access.running.services().watched.clone(), changed).await;
        });
    }

    /// Ends it, and waits no longer than that for what is under way.
    pub fn stop(self, most: Duration) {
        self.runtime.shutdown_timeout(most);
    }
}

/// The client that calls identity providers and other services, as `[outgoing]` says.
///
/// # Errors
/// See [`RootsError`].
pub fn http_client(config: &Config) -> Result<HttpClient, RootsError> {
    let roots = Roots {
        extra: config.outgoing.ca.clone(),
    };
    HttpClient::with_proxy(&roots, Timeouts::default(), config.outgoing.proxy.clone())
}

async fn reload(
    access: &Access,
    http: &HttpClient,
    origins: &dyn OriginSource,
    started: &Config,
    background: &Background,
    file: &Path,
    load: fn(&Path, &dyn Environment) -> Result<Loaded, Errors>,
) {
    let loaded = match load(file, &System) {
        Ok(loaded) => loaded,
        Err(errors) => {
            metrics().reload(Reload::Rejected);
            tracing::error!("the configuration was not reloaded, the running one stays:\n{errors}");
            return;
        }
    };
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    if access
        .running
        .services()
        .remote
        .as_ref()
        .map(|remote| &remote.certs_url)
        != loaded.config.catalog.team.certs_url.as_ref()
    {
        metrics().reload(Reload::Rejected);
        tracing::error!(
            "the configuration was not reloaded: `team.certs_url` changes at a restart; the running one stays"
        );
        return;
    }
    let made = origins.origins(&loaded.config, background).await;
    let known = Arc::clone(access.running.known());
    match compile(
        &loaded.config,
        access.next_generation(),
        known,
        http,
        |application| of(&made, &application.id),
    ) {
        Ok((snapshot, services)) => {
            access.replace(snapshot, services);
            metrics().reload(Reload::Applied);
            tracing::info!(
                applications = loaded.config.catalog.applications.len(),
                "the configuration was reloaded"
            );
            let waiting = waiting(started, &loaded.config);
            if !waiting.is_empty() {
                tracing::warn!("changes of {} take effect at a restart", waiting.join(", "));
            }
        }
        Err(error) => {
            metrics().reload(Reload::Rejected);
            tracing::error!(%error, "the configuration was not reloaded, the running one stays");
        }
    }
}

/// The sections that say something else than at the start, and are read only then.
fn waiting(started: &Config, now: &Config) -> Vec<&'static str> {
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

/// Without any, a front that takes its origins from the permit forwards nothing.
fn of(made: &HashMap<String, Origins>, application: &str) -> Origins {
    made.get(application)
        .cloned()
        .unwrap_or_else(|| Origins::new(()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    #[test]
    fn what_changes_at_a_restart_is_named_and_nothing_else() {
        let text = r#"
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
        let read = |text: &str| {
            config::parse(text, Path::new("x.toml"), &System)
                .unwrap_or_else(|e| panic!("{e}"))
                .config
        };
        let started = read(text);
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
            assert!(text.contains(line), "{line}");
            assert_eq!(
                waiting(&started, &read(&text.replace(line, other))),
                said,
                "{other}"
            );
        }
        let all = text
            .replace("header_count = 100", "")
            .replace("5s", "7s")
            .replace("[metrics]\naddress = \"127.0.0.1:9090\"", "");
        assert_eq!(
            waiting(&started, &read(&all)),
            ["`[metrics]`", "`[limits]`", "`[server]`"]
        );
        assert_eq!(waiting(&started, &started), [""; 0]);
    }
}
