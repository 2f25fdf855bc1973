use std::path::{Path, PathBuf};

use super::document::Document;
use super::errors::{Errors, Problem};
use super::secrets::{LARGEST_FILE, plain};

/// A source of configured objects.
pub trait Source {
    /// Returns the documents of the source as they are now.
    ///
    /// # Errors
    /// If the source cannot be read, or a document has a syntax error.
    fn documents(&self) -> Result<Vec<Document>, Errors>;
}

/// The configuration file, in TOML and at most 4 MiB.
#[derive(Clone, Debug)]
pub struct File {
    path: PathBuf,
}

impl File {
    /// Names a file. It is read by [`Source::documents`].
    pub fn new(path: &Path) -> Self {
        Self { path: path.into() }
    }

    fn text(&self) -> Result<String, String> {
        let unreadable = |e: std::io::Error| format!("the file cannot be read: {}", plain(&e));
        let metadata = std::fs::metadata(&self.path).map_err(unreadable)?;
        if metadata.len() > LARGEST_FILE {
            return Err("the file is larger than 4 MiB".to_owned());
        }
        let bytes = std::fs::read(&self.path).map_err(unreadable)?;
        String::from_utf8(bytes).map_err(|_| "the file is not UTF-8".to_owned())
    }
}

impl Source for File {
    fn documents(&self) -> Result<Vec<Document>, Errors> {
        let text = self
            .text()
            .map_err(|message| Errors(vec![Problem::of_file(&self.path, &message)]))?;
        Ok(vec![Document::toml(text, &self.path)?])
    }
}
