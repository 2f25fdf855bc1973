use std::io;
use std::thread::{Builder, sleep};
use std::time::{Duration, Instant};

use pingora::server::{ExecutionPhase, RunArgs, Server};
use tokio::sync::broadcast::error::RecvError;

use crate::observe::metrics::metrics;

/// Runs the server until a signal ends it; after one that leaves time to finish, until nothing is under way or `grace` is
/// over.
///
/// Pingora sleeps the whole of that time on the thread that runs it, busy or not. So that thread is not this one, and where it
/// still sleeps when there is nothing to wait for, the end of the process takes it along.
///
/// # Errors
/// Where there is no thread to be had.
pub(super) fn run(server: Server, grace: Duration) -> io::Result<()> {
    let mut phases = server.watch_execution_phase();
    let running = Builder::new().name("server".to_owned()).spawn(move || server.run(RunArgs::default()))?;
    loop {
        match phases.blocking_recv() {
            Ok(ExecutionPhase::ShutdownGracePeriod) => {
                finish(grace);
                return Ok(());
            }
            Ok(ExecutionPhase::Terminated) | Err(RecvError::Closed) => break,
            Ok(_) | Err(RecvError::Lagged(_)) => {}
        }
    }
    running.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    Ok(())
}

fn finish(grace: Duration) {
    tracing::info!("stopping: no new connections, waiting up to {grace:?} for what is under way");
    let began = Instant::now();
    let mut quiet_since = began;
    while began.elapsed() < grace && quiet_since.elapsed() < QUIET {
        sleep(LOOK_EVERY);
        if metrics().in_flight() > 0 {
            quiet_since = Instant::now();
        }
    }
    let left = metrics().in_flight();
    if left > 0 {
        tracing::warn!(requests = left, "the grace period is over, and requests are cut off");
    }
}

/// Long enough for a request that is on its way through an accepted connection to be seen, and for clients to read that their
/// connection closes.
const QUIET: Duration = Duration::from_millis(300);
const LOOK_EVERY: Duration = Duration::from_millis(20);
