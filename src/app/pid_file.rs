use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::RunError;

/// The file with the process id. Pingora writes one for daemons only.
pub(super) struct PidFile {
    path: PathBuf,
    file: File,
}

impl PidFile {
    /// Opens the file without changing its content, which must survive a failed upgrade.
    pub(super) fn open(path: &Path) -> Result<Self, RunError> {
        let opened = File::options()
            .write(true)
            .create(true)
            // The predecessor's id stays in the file until this process serves.
            .truncate(false)
            .open(path);
        let file = opened.map_err(|source| RunError::PidFile {
            path: path.to_owned(),
            source,
        })?;
        Ok(Self {
            path: path.to_owned(),
            file,
        })
    }

    /// Replaces the content with the id of this process.
    pub(super) fn write(mut self) -> Result<(), RunError> {
        let written = self
            .file
            .set_len(0)
            .and_then(|()| writeln!(self.file, "{}", std::process::id()));
        written.map_err(|source| RunError::PidFile {
            path: self.path,
            source,
        })
    }
}
