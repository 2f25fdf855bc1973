use std::path::Path;

use super::certificates::Severity;
use crate::config::{Config, StoreConfig};
use crate::model::chain;
use crate::store::SqliteStore;

/// A problem with the store's file. [`run`](super::run) would fail because of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreProblem {
    /// A warning if the store's directory is missing: the configuration may be for another machine.
    pub severity: Severity,
    /// The problem and the path, in one line.
    pub message: String,
}

/// Checks the store's file as at a start, without changing it. A missing file is not a problem: the
/// first start creates it.
pub fn check_store(config: &Config) -> Option<StoreProblem> {
    let StoreConfig::Sqlite { path, .. } = &config.store else {
        return None;
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let message = match runtime.map(|runtime| runtime.block_on(SqliteStore::check(path))) {
        Ok(Ok(())) => return None,
        Ok(Err(error)) => chain(&error),
        Err(error) => chain(&error),
    };
    let folder = path.parent().filter(|folder| *folder != Path::new(""));
    let severity = if folder.is_none_or(Path::is_dir) {
        Severity::Error
    } else {
        Severity::Warning
    };
    Some(StoreProblem { severity, message })
}
