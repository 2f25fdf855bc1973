//! Notices changes of the configuration file, and of the files that it names.

use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{self, UnboundedReceiver};

/// A watch of the configuration file. A change after its start is noticed.
///
/// It watches the file's folder, because editors and Kubernetes replace the file.
#[derive(Debug)]
pub struct FileWatch {
    file: PathBuf,
    seen: Option<Vec<u8>>,
    events: UnboundedReceiver<()>,
    watcher: notify::Result<RecommendedWatcher>,
}

impl FileWatch {
    /// Starts the watch. If that is before the file is read, no change is missed.
    pub fn start(file: &Path) -> Self {
        let (sender, events) = mpsc::unbounded_channel();
        let changed = move |event: notify::Result<notify::Event>| {
            if event.is_ok_and(|event| !event.kind.is_access()) {
                let _ = sender.send(());
            }
        };
        let watcher = watch_folder(file, changed);
        Self {
            seen: std::fs::read(file).ok(),
            file: file.to_owned(),
            events,
            watcher,
        }
    }

    /// Returns the file.
    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    /// Calls `changed` on SIGHUP, and when the file or one of the others may have changed. Checks
    /// the others every ten seconds. Never returns.
    pub(super) async fn run<F: Future<Output = ()>>(
        mut self,
        mut hangup: Option<Signal>,
        others: impl Fn() -> Vec<PathBuf>,
        mut changed: impl FnMut() -> F,
    ) {
        if let Err(error) = &self.watcher {
            tracing::warn!(%error, file = %self.file.display(), "the configuration file cannot be watched; send SIGHUP after a change");
        }
        let contents = || {
            others()
                .into_iter()
                .map(|file| (std::fs::read(&file).ok(), file))
                .collect::<Vec<_>>()
        };
        let mut seen_others = contents();
        loop {
            let reload_requested = async {
                match hangup.as_mut() {
                    Some(hangup) => hangup.recv().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = reload_requested => {
                    self.seen = std::fs::read(&self.file).ok();
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
                Some(()) = self.events.recv() => {
                    // A change causes several events. The last one counts.
                    tokio::time::sleep(SETTLE).await;
                    while self.events.try_recv().is_ok() {}
                    let now = std::fs::read(&self.file).ok();
                    if now != self.seen {
                        self.seen = now;
                        changed().await;
                        seen_others = contents();
                    }
                }
            }
        }
    }
}

/// Registers SIGHUP. Until then it kills the process, so this must precede readiness. Must be called
/// within a runtime.
pub(super) fn hangup() -> Option<Signal> {
    signal(SignalKind::hangup())
        .inspect_err(
            |error| tracing::error!(%error, "cannot receive SIGHUP; it does not reload the configuration"),
        )
        .ok()
}

fn watch_folder(
    file: &Path,
    changed: impl FnMut(notify::Result<notify::Event>) + Send + 'static,
) -> notify::Result<RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(changed)?;
    let folder = file
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    watcher.watch(folder, RecursiveMode::NonRecursive)?;
    Ok(watcher)
}

/// The time until a change of another file takes effect.
const LOOK_EVERY: Duration = Duration::from_secs(10);
const SETTLE: Duration = Duration::from_millis(200);
