use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::Watcher as _;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::upkeep::Upkeep;
use super::{Access, Vital, signing_keys};

/// The background tasks of the control path. Dropping this ends them.
#[derive(Debug)]
pub struct Tasks(#[expect(dead_code, reason = "dropping it ends the tasks")] JoinSet<()>);

impl Tasks {
    /// Starts the tasks on the current runtime. `vital` reports a task that ends by itself.
    pub fn spawn(access: &Arc<Access>, vital: &Vital) -> Self {
        let upkeep = &access.upkeep;
        let mut tasks = JoinSet::new();
        tasks.spawn(every(FOLLOW_EVERY, upkeep, |upkeep| async move {
            upkeep.follow_changes().await
        }));
        tasks.spawn(every(KEYS_EVERY, upkeep, |upkeep| async move {
            upkeep.issuer.keep_keys_fresh().await
        }));
        tasks.spawn(every(COUNTRIES_EVERY, upkeep, |upkeep| async move {
            upkeep.check_countries().await
        }));
        tasks.spawn(every(PRUNE_EVERY, upkeep, |upkeep| async move {
            upkeep.prune(upkeep.running.now()).await
        }));
        tasks.spawn(every(WATCH_EVERY, upkeep, |upkeep| async move {
            upkeep.store.check_health().await
        }));
        tasks.spawn(Arc::clone(&upkeep.identities).keep_groups_fresh());
        tasks.spawn(Arc::clone(&upkeep.identities).expire_groups_at_bound());
        let mut supervisor = JoinSet::new();
        let running = vital.watch("control");
        supervisor.spawn(async move {
            // Each task is an endless loop, so the first that ends has panicked.
            let _running = running;
            tasks.join_next().await;
        });
        Self(supervisor)
    }
}

fn every<F: Future<Output = ()> + Send>(
    period: Duration,
    upkeep: &Arc<Upkeep>,
    work: impl Fn(Arc<Upkeep>) -> F + Send + 'static,
) -> impl Future<Output = ()> + Send + 'static {
    let upkeep = Arc::clone(upkeep);
    async move {
        loop {
            work(Arc::clone(&upkeep)).await;
            tokio::time::sleep(period).await;
        }
    }
}

/// Calls `changed` on SIGHUP, and when the file or one of the others may have changed. Watches the
/// file's folder, because editors and Kubernetes replace the file. Checks the others every ten
/// seconds. Never returns.
///
/// The first call is at the start of the watch, because a file may have changed since it was read.
pub async fn watch_configuration<F: Future<Output = ()>>(
    file: &Path,
    others: impl Fn() -> Vec<PathBuf>,
    mut changed: impl FnMut() -> F,
) {
    let contents = || {
        others()
            .into_iter()
            .map(|file| (std::fs::read(&file).ok(), file))
            .collect::<Vec<_>>()
    };
    let mut seen_others = contents();
    let (sender, mut events) = mpsc::unbounded_channel();
    let watcher = watch(file, sender);
    if let Err(error) = &watcher {
        tracing::warn!(%error, file = %file.display(), "the configuration file cannot be watched; send SIGHUP after a change");
    }
    let mut hangup = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()).ok();
    let mut seen = std::fs::read(file).ok();
    changed().await;
    loop {
        let reload_requested = async {
            match hangup.as_mut() {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = reload_requested => {
                seen = std::fs::read(file).ok();
                changed().await;
                seen_others = contents();
            }
            () = tokio::time::sleep(LOOK_EVERY) => {
                let now = contents();
                if now != seen_others {
                    seen_others = now;
                    changed().await;
                }
            }
            Some(()) = events.recv() => {
                // A change causes several events. The last one counts.
                tokio::time::sleep(SETTLE).await;
                while events.try_recv().is_ok() {}
                let now = std::fs::read(file).ok();
                if now != seen {
                    seen = now;
                    changed().await;
                    seen_others = contents();
                }
            }
        }
    }
}

fn watch(
    file: &Path,
    sender: mpsc::UnboundedSender<()>,
) -> notify::Result<notify::RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        if event.is_ok_and(|event| !event.kind.is_access()) {
            let _ = sender.send(());
        }
    })?;
    let folder = file
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .map_or_else(|| PathBuf::from("."), Path::to_path_buf);
    watcher.watch(&folder, notify::RecursiveMode::NonRecursive)?;
    Ok(watcher)
}

/// The longest time until another process's logout or change takes effect here.
const FOLLOW_EVERY: Duration = Duration::from_millis(500);
/// The period of both the rotation of our own keys and the fetch of a remote team's.
const KEYS_EVERY: Duration = signing_keys::CHECK_EVERY;
/// The time until a new country database is used.
const COUNTRIES_EVERY: Duration = Duration::from_secs(10);
/// The time until it is noticed that the store accepts writes again. A failure is noticed within
/// half a minute.
const WATCH_EVERY: Duration = Duration::from_secs(10);
const PRUNE_EVERY: Duration = Duration::from_secs(600);
/// The time until a change of another file takes effect.
const LOOK_EVERY: Duration = Duration::from_secs(10);
const SETTLE: Duration = Duration::from_millis(200);
