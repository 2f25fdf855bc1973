//! Listeners. They are bound before anything else starts, so a failure ends the start early.
//!
//! Decides the addresses and terms on which connections are accepted. Trusts the configuration.
//! Never accepts a connection before the whole process is ready, and never leaves a socket open
//! without an acceptor.

mod connection;
mod descriptors;
mod proxy_protocol;
mod redirect;
mod sockets;
mod successor;
mod windows;

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use pingora::apps::HttpServerApp;
use pingora::server::{ListenFds, ShutdownWatch};
use pingora::services::listening;
use pingora::services::{Service, ServiceReadyNotifier, ServiceWithDependents};
use tokio::task::JoinSet;

use crate::control::Vital;
use connection::Connections;
pub(super) use connection::{Terms, Timeouts};
pub(super) use descriptors::Descriptors;
pub(super) use redirect::Redirect;
pub(super) use sockets::Sockets;
pub use sockets::{ListenError, TakeOverError};
pub(super) use successor::{Successor, is_serving};

/// Several listeners on the threads of one service.
pub(super) struct ListenerGroup {
    name: &'static str,
    threads: Option<usize>,
    sockets: Arc<SocketTable>,
    listeners: Vec<Box<dyn Service>>,
    vital: Vital,
}

/// A service whose unexpected end ends the process.
pub(super) struct Watched {
    service: Box<dyn ServiceWithDependents>,
    vital: Vital,
}

/// The sockets of all groups, until the first service moves them to the table of the server.
#[derive(Default)]
pub(super) struct SocketTable {
    waiting: std::sync::Mutex<Option<Sockets>>,
    table: OnceLock<ListenFds>,
}

impl SocketTable {
    pub(super) fn new(sockets: Sockets) -> Self {
        Self {
            waiting: std::sync::Mutex::new(Some(sockets)),
            table: OnceLock::new(),
        }
    }

    /// Returns the table with the sockets, if a service has started.
    pub(super) fn table(&self) -> Option<&ListenFds> {
        self.table.get()
    }

    fn fill(&self, table: &ListenFds) {
        // The lock is held until the sockets are in the table. Another service would bind them
        // again otherwise.
        let mut waiting = self
            .waiting
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(sockets) = waiting.take() {
            sockets.hand_to(table);
            let _first = self.table.set(Arc::clone(table));
        }
    }
}

impl ListenerGroup {
    /// Returns a group without listeners. By default it has as many threads as the server.
    pub(super) fn new(
        name: &'static str,
        threads: Option<usize>,
        sockets: Arc<SocketTable>,
        vital: Vital,
    ) -> Self {
        Self {
            name,
            threads,
            sockets,
            listeners: Vec::new(),
            vital,
        }
    }

    /// Adds a listener that serves connections to this address with an application.
    pub(super) fn add<A: HttpServerApp + Send + Sync + 'static>(
        &mut self,
        address: SocketAddr,
        app: Arc<A>,
        terms: Terms,
    ) {
        let mut service =
            listening::Service::new(self.name.to_owned(), Connections::new(app, terms));
        service.add_tcp(&address.to_string());
        self.listeners.push(Box::new(service));
    }
}

impl Watched {
    pub(super) const fn new(service: Box<dyn ServiceWithDependents>, vital: Vital) -> Self {
        Self { service, vital }
    }
}

#[async_trait]
impl ServiceWithDependents for Watched {
    async fn start_service(
        &mut self,
        table: Option<ListenFds>,
        shutdown: ShutdownWatch,
        tasks_per_socket: usize,
        ready: ServiceReadyNotifier,
    ) {
        let _vital = self.vital.watch("demo");
        self.service
            .start_service(table, shutdown, tasks_per_socket, ready)
            .await;
    }

    fn name(&self) -> &str {
        self.service.name()
    }

    fn threads(&self) -> Option<usize> {
        self.service.threads()
    }
}

#[async_trait]
impl ServiceWithDependents for ListenerGroup {
    async fn start_service(
        &mut self,
        table: Option<ListenFds>,
        shutdown: ShutdownWatch,
        tasks_per_socket: usize,
        ready: ServiceReadyNotifier,
    ) {
        let _vital = self.vital.watch(self.name);
        if let Some(table) = &table {
            self.sockets.fill(table);
        }
        let mut serving = JoinSet::new();
        for mut listener in self.listeners.drain(..) {
            let (table, shutdown) = (table.clone(), shutdown.clone());
            serving.spawn(async move {
                listener
                    .start_service(table, shutdown, tasks_per_socket)
                    .await
            });
        }
        // Connections since the sockets were bound have waited in their queues.
        ready.notify_ready();
        while let Some(ended) = serving.join_next().await {
            // A listener serves until the shutdown. This one ended before, so its tasks are lost.
            if ended.is_err() || !*shutdown.borrow() {
                return;
            }
        }
    }

    fn name(&self) -> &str {
        self.name
    }

    fn threads(&self) -> Option<usize> {
        self.threads
    }
}
