use std::path::Path;

use crate::config::{Config, StoreConfig};
use crate::model::chain;
use crate::store::SqliteStore;

/// A problem with the file of the store that [`run`](super::run) would meet too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreProblem {
    /// `false` if this machine may simply not be the one that the configuration is for: the folder
    /// is missing.
    pub is_error: bool,
    /// The problem and the path, in one line.
    pub message: String,
}

/// Checks the file of the store as a start would, and changes nothing. A file that is missing is
/// none: the first start creates it.
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
    Some(StoreProblem {
        is_error: folder.is_none_or(Path::is_dir),
        message,
    })
}
