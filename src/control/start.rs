use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use thiserror::Error;
use tokio::runtime::{Builder, Handle, Runtime};

use super::file_watch::{self, FileWatch};
use super::reload::Reloader;
use super::{
    Access, Background, Clock, CompileError, Ended, Resources, StartError, Tasks, Vital, compile,
};
use crate::config::{Config, Environment, Errors, Loaded, StoreConfig};
use crate::engine::{NodeCache, Origins};
use crate::http_client::{HttpClient, Roots, RootsError, Timeouts};
use crate::store::{MemoryStore, SqliteStore, Store, StoreError};

/// The control path of a configuration, on a runtime of its own. Fronts use [`Control::access`].
///
/// The runtime's threads do not survive a fork, so it cannot be combined with Pingora's `daemon`.
/// Dropping this stops the control path. A front that still holds its [`Access`] then decides from
/// the known facts and resolves no others.
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

/// Creates a front's origins from the configuration, at start and at each reload.
#[async_trait]
pub trait OriginSource: std::fmt::Debug + Send + Sync + 'static {
    /// Returns the origins of each application by its id. `background` runs the tasks that keep
    /// them up to date.
    async fn origins(&self, config: &Config, background: &Background) -> HashMap<String, Origins>;
}

/// No origins, for a proxy that chooses its peers itself.
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

/// An error at the start of the control path.
#[derive(Debug, Error)]
pub enum ControlError {
    /// The runtime's threads.
    #[error("the control runtime cannot be made")]
    Runtime(#[source] std::io::Error),
    /// Outgoing connections.
    #[error("the HTTP client could not be created")]
    Http(#[from] RootsError),
    /// The configuration cannot be compiled.
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
    /// Starts the store, keys, revocations, and the tasks that keep them up to date. Must not be
    /// called within a runtime.
    ///
    /// # Errors
    /// See [`ControlError`]. An unreachable identity provider or remote team is not an error.
    pub fn start(config: &Config, origins: impl OriginSource) -> Result<Self, ControlError> {
        Self::start_with_clock(config, origins, Clock::default())
    }

    /// The same as [`Control::start`] with another clock: tests advance it instead of waiting.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub fn start_with_clock(
        config: &Config,
        origins: impl OriginSource,
        clock: Clock,
    ) -> Result<Self, ControlError> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("control")
            .enable_all()
            .build()
            .map_err(ControlError::Runtime)?;
        let http = http_client(config)?;
        if let Some(proxy) = &config.outgoing.proxy {
            tracing::info!(%proxy, credentials = proxy.has_credentials(), "HTTPS calls to other services go through a proxy");
        }
        let known = Arc::new(NodeCache::new(
            usize::try_from(config.server.sessions_cached).unwrap_or(usize::MAX),
        ));
        let origins: Arc<dyn OriginSource> = Arc::new(origins);
        let (vital, ended) = Vital::new();
        let background = Background::new(runtime.handle().clone(), vital.clone());
        let (access, tasks) = runtime.block_on(async {
            let made = origins.origins(config, &background).await;
            let (snapshot, services) = compile(config, 1, known, &http, |application| {
                origins_of(&made, &application.id)
            })?;
            let store = open_store(&config.store).await?;
            let access = Access::start(
                snapshot,
                services,
                Resources {
                    store,
                    http: http.clone(),
                    runtime: runtime.handle().clone(),
                    clock,
                },
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

    /// Returns the shared state for fronts.
    pub const fn access(&self) -> &Arc<Access> {
        &self.access
    }

    /// Returns the runtime of all background tasks and I/O.
    pub fn runtime(&self) -> &Handle {
        self.runtime.handle()
    }

    /// Returns the reporter of threads and tasks without which the process cannot work, including
    /// the control path's own.
    pub const fn vital(&self) -> &Vital {
        &self.vital
    }

    /// Returns a spawner for tasks without which the process cannot work.
    pub fn background(&self) -> Background {
        Background::new(self.runtime().clone(), self.vital.clone())
    }

    /// Returns the receiver of those reports; `None` from the second call on.
    pub const fn ended(&mut self) -> Option<Ended> {
        self.ended.take()
    }

    /// Reloads the configuration when the file changes and on SIGHUP; an error is logged, and the
    /// running one stays. Sections that are read only at start, such as the listeners, keep their
    /// values: a change of them is logged.
    ///
    /// A change between the reading of the file and this call is missed; see
    /// [`Control::follow_watch`].
    pub fn follow(&self, file: &Path, load: fn(&Path, &dyn Environment) -> Result<Loaded, Errors>) {
        self.follow_watch(FileWatch::start(file), load);
    }

    /// As [`Control::follow`], with a watch that was started before the file was read.
    pub fn follow_watch(
        &self,
        watch: FileWatch,
        load: fn(&Path, &dyn Environment) -> Result<Loaded, Errors>,
    ) {
        let reloader = Reloader {
            access: Arc::clone(&self.access),
            http: self.http.clone(),
            origins: Arc::clone(&self.origins),
            started: Arc::clone(&self.started),
            background: self.background(),
            file: watch.file().to_owned(),
            load,
        };
        let hangup = self.runtime.block_on(async { file_watch::hangup() });
        let running = self.vital.watch("configuration");
        self.runtime.spawn(async move {
            let _running = running;
            reloader.run(watch, hangup).await;
        });
    }

    /// Stops the control path, and waits at most that long for tasks in progress.
    pub fn stop(self, most: Duration) {
        self.runtime.shutdown_timeout(most);
    }
}

/// Creates the client of identity providers and other services from `[outgoing]`.
///
/// # Errors
/// See [`RootsError`].
pub fn http_client(config: &Config) -> Result<HttpClient, RootsError> {
    let roots = Roots {
        extra: config.outgoing.ca.clone(),
    };
    HttpClient::with_proxy(&roots, Timeouts::default(), config.outgoing.proxy.clone())
}

async fn open_store(config: &StoreConfig) -> Result<Arc<dyn Store>, StoreError> {
    match config {
        StoreConfig::Memory => Ok(Arc::new(MemoryStore::new())),
        StoreConfig::Sqlite { path, .. } => {
            let store = SqliteStore::open(path).await?;
            if store.is_new() {
                tracing::warn!("created a new store at {}", path.display());
            }
            Ok(Arc::new(store))
        }
    }
}

/// Returns an application's origins. Without any, a front that uses the permit's origins forwards
/// nothing.
pub(super) fn origins_of(made: &HashMap<String, Origins>, application: &str) -> Origins {
    made.get(application)
        .cloned()
        .unwrap_or_else(|| Origins::new(()))
}
