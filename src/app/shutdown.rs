//! The end of the process: by a signal, by a successor, or because a part that it needs has ended.
//!
//! Decides the effect of each signal, and how long requests in flight may take. Trusts a successor
//! that serves. Never ends a serving process because of a failed upgrade, and never keeps a process
//! running that does not serve.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, sleep};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use pingora::server::{
    ExecutionPhase, Fds, RunArgs, Server, ShutdownSignal, ShutdownSignalWatch, ShutdownWatch,
};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Mutex, watch};

use super::listeners::{SocketTable, Successor, is_serving};
use super::panics::PanicGuard;
use crate::control::{Control, Ended};
use crate::observe::metrics::metrics;

/// The phase of the shutdown.
pub(super) struct Lifecycle {
    lame_duck: AtomicBool,
    stopping: AtomicBool,
    draining: watch::Sender<bool>,
}

impl Default for Lifecycle {
    fn default() -> Self {
        Self {
            lame_duck: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            draining: watch::Sender::new(false),
        }
    }
}

impl Lifecycle {
    /// Returns `true` from SIGTERM on: load balancers should send no new connections.
    pub(super) fn is_lame_duck(&self) -> bool {
        self.lame_duck.load(Ordering::Relaxed)
    }

    /// Becomes `true` when responses should announce the end of their connections.
    pub(super) fn draining(&self) -> ShutdownWatch {
        self.draining.subscribe()
    }

    fn drain(&self) {
        self.draining.send_replace(true);
    }
}

/// The handling of SIGTERM, SIGQUIT and SIGINT.
pub(super) struct Signals {
    pub(super) lifecycle: Arc<Lifecycle>,
    /// The time in which `/readyz` fails before the listeners close.
    pub(super) lame_duck: Duration,
    /// The socket at which a successor waits for the listeners.
    pub(super) upgrade_socket: PathBuf,
    pub(super) sockets: Arc<SocketTable>,
    /// The successor that this process is.
    pub(super) successor: Option<Successor>,
}

/// The received signals.
struct Received {
    quit: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Received {
    /// Registers the signals. Must be called within a runtime that outlives this.
    fn register() -> io::Result<Self> {
        Ok(Self {
            quit: signal(SignalKind::quit())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }
}

/// Ends the server by a signal.
struct SignalWatch {
    signals: Signals,
    received: Mutex<Received>,
}

#[async_trait]
impl ShutdownSignalWatch for SignalWatch {
    async fn recv(&self) -> ShutdownSignal {
        let end = self.signals.wait(&mut *self.received.lock().await).await;
        // Before the server ends: the main thread reads this to distinguish an ordered end from a lost
        // server.
        let lifecycle = &self.signals.lifecycle;
        lifecycle.stopping.store(true, Ordering::Release);
        end
    }
}

impl Signals {
    async fn wait(&self, received: &mut Received) -> ShutdownSignal {
        let Received {
            quit,
            terminate,
            interrupt,
        } = received;
        loop {
            tokio::select! {
                _ = interrupt.recv() => return ShutdownSignal::FastShutdown,
                _ = quit.recv() => tokio::select! {
                    has_ended = self.hand_over() => if has_ended {
                        return ShutdownSignal::GracefulTerminate;
                    },
                    _ = interrupt.recv() => return ShutdownSignal::FastShutdown,
                    _ = terminate.recv() => break,
                },
                _ = terminate.recv() => break,
            }
        }
        self.lifecycle.lame_duck.store(true, Ordering::Relaxed);
        self.lifecycle.drain();
        if !self.lame_duck.is_zero() {
            let time = self.lame_duck;
            tracing::info!(
                "received SIGTERM: /readyz fails from now on; new connections are accepted for {time:?}, or until a second SIGTERM"
            );
        }
        tokio::select! {
            () = tokio::time::sleep(self.lame_duck) => {}
            _ = terminate.recv() => {}
            _ = interrupt.recv() => return ShutdownSignal::FastShutdown,
        }
        ShutdownSignal::GracefulTerminate
    }

    /// Hands the listeners to a successor, and returns `true` once it serves.
    async fn hand_over(&self) -> bool {
        let Some(table) = self.sockets.table() else {
            tracing::error!(
                "ignoring SIGQUIT, because the listeners are not ready; this process keeps serving"
            );
            return false;
        };
        let (addresses, descriptors) = table.lock().serialize();
        let path = self.upgrade_socket.display().to_string();
        let handed = tokio::task::spawn_blocking(move || {
            let mut fds = Fds::new();
            fds.deserialize(addresses, descriptors);
            fds.send_to_sock(path.as_str())
        });
        let error = match handed.await {
            Ok(Ok(_)) if !is_serving(&self.upgrade_socket).await => {
                tracing::error!(
                    "the successor has the listeners but does not serve; this process keeps serving. See the successor's log \
                     for the cause"
                );
                return false;
            }
            Ok(Ok(_)) => {
                tracing::info!("a successor has taken over the listeners");
                // Both processes accept connections until the successor has certainly started.
                // `/readyz` does not fail meanwhile, because either process may answer it.
                self.lifecycle.drain();
                tokio::time::sleep(SUCCESSOR_STARTS).await;
                return true;
            }
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        let path = self.upgrade_socket.display();
        tracing::error!(
            error,
            "no successor waits at `{path}`; this process keeps serving. Start `portcullis run --upgrade` before SIGQUIT"
        );
        false
    }
}

/// The reason for the end of the server.
pub(super) enum End {
    /// A signal.
    Stopped,
    /// The unexpected end of this thread or task.
    Lost(&'static str),
}

/// Runs the server until a signal stops it, or a part that the process needs has ended.
///
/// After a graceful signal it waits until no request is in flight, at most for `grace`. Pingora
/// always sleeps for the whole grace period. So the server runs on a thread of its own, and the end
/// of the process ends that thread early.
///
/// Drops `panics` once all services have started.
///
/// # Errors
/// If the signals cannot be received, or the thread cannot be created.
pub(super) fn run(
    server: Server,
    mut signals: Signals,
    grace: Duration,
    control: &Control,
    mut ended: Ended,
    panics: PanicGuard,
) -> io::Result<End> {
    let mut phases = server.watch_execution_phase();
    let lifecycle = Arc::clone(&signals.lifecycle);
    let mut successor = signals.successor.take();
    let mut panics = Some(panics);
    let (vital, runtime) = (control.vital(), control.runtime());
    // Before `/readyz` succeeds: until the signals are registered, SIGTERM kills the process.
    let received = runtime.block_on(async { Received::register() })?;
    let watch = SignalWatch {
        signals,
        received: Mutex::new(received),
    };
    let watched = vital.watch("server");
    Builder::new().name("server".to_owned()).spawn(move || {
        let _watched = watched;
        server.run(RunArgs {
            shutdown_signal: Box::new(watch),
        });
    })?;
    let is_stopping = || lifecycle.stopping.load(Ordering::Acquire);
    loop {
        let phase = runtime.block_on(async {
            tokio::select! {
                // The phase first: the end of the server's thread is reported as well, and an
                // ordered end must not count as a loss.
                biased;
                phase = phases.recv() => Ok(phase),
                Some(name) = ended.recv() => Err(name),
            }
        });
        match phase {
            Ok(Ok(ExecutionPhase::ShutdownGracePeriod)) => {
                finish(grace);
                return Ok(End::Stopped);
            }
            Ok(Ok(ExecutionPhase::Terminated) | Err(RecvError::Closed)) => {
                return Ok(if is_stopping() {
                    End::Stopped
                } else {
                    End::Lost("server")
                });
            }
            Err(name) if !is_stopping() => return Ok(End::Lost(name)),
            // All services have started.
            Ok(Ok(ExecutionPhase::Running)) => {
                // All threads exist. From here on, a panic in the task of one connection must not
                // end the others.
                drop(panics.take());
                if let Some(successor) = successor.take() {
                    runtime.spawn(successor.serves());
                }
            }
            // A task that ends while the process stops is no failure.
            Ok(Ok(_) | Err(RecvError::Lagged(_))) | Err(_) => {}
        }
    }
}

/// Waits until no request is in flight, at most for `grace`.
fn finish(grace: Duration) {
    tracing::info!("stopping: no new connections; waiting up to {grace:?} for requests in flight");
    let start = Instant::now();
    let mut quiet_since = start;
    while start.elapsed() < grace && quiet_since.elapsed() < QUIET {
        sleep(LOOK_EVERY);
        if metrics().in_flight() > 0 {
            quiet_since = Instant::now();
        }
    }
    let left = metrics().in_flight();
    if left > 0 {
        tracing::warn!(
            requests = left,
            "the grace period is over; remaining requests are cut off"
        );
    }
}

/// The time without requests before the process ends. It is long enough to notice a request on an
/// accepted connection, and for clients to see that their connection closes.
const QUIET: Duration = Duration::from_millis(300);
// The number of requests in flight has no event, so it is polled. Twenty milliseconds are short
// next to `QUIET`.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// The time that a successor may need to start its services. New connections wait in the queues of
/// the listeners meanwhile.
const SUCCESSOR_STARTS: Duration = Duration::from_secs(5);
