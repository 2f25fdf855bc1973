//! The country database. It is read at the start, and again when its file changes.

use std::fs::Metadata;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use thiserror::Error;

use crate::config::{Environment as _, System};
use crate::geo::{Database, DatabaseError, LARGEST};
use crate::observe::metrics::{Reload, metrics};
use crate::policy::{Countries, Country};

/// The country database of the running configuration.
#[derive(Debug)]
pub struct CountryFile {
    path: PathBuf,
    current: ArcSwap<Database>,
    seen: Mutex<Option<Stamp>>,
}

/// An error of a country database.
#[derive(Debug, Error)]
pub enum CountryFileError {
    /// The file cannot be read.
    #[error("the country database `{}` cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The file is not a usable database.
    #[error("the country database `{}` cannot be used", path.display())]
    Use {
        /// The path of the file.
        path: PathBuf,
        /// The error in it.
        source: DatabaseError,
    },
}

impl CountryFile {
    /// Opens a database.
    pub fn open(path: &Path) -> Result<Self, CountryFileError> {
        // Taken before the file is read, so that a change during the read causes another.
        let seen = Mutex::new(Stamp::of(path));
        Ok(Self {
            path: path.to_owned(),
            current: ArcSwap::from_pointee(read(path)?),
            seen,
        })
    }

    /// Reads the file again if it changed. If the new one cannot be used, the previous one stays
    /// and the error is logged.
    pub(super) fn reload_if_changed(&self) {
        let now = Stamp::of(&self.path);
        {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            if *seen == now {
                return;
            }
            *seen = now;
        }
        match read(&self.path) {
            Ok(database) => {
                tracing::info!(database = %self.path.display(), kind = database.kind(), "reloaded the country database");
                self.current.store(Arc::new(database));
                metrics().country_database(Reload::Applied);
            }
            Err(error) => {
                tracing::error!(
                    error = crate::model::chain(&error),
                    "keeping the previous country database"
                );
                metrics().country_database(Reload::Rejected);
            }
        }
    }
}

impl Countries for CountryFile {
    fn country(&self, ip: IpAddr) -> Option<Country> {
        self.current.load().country(ip)
    }
}

fn read(path: &Path) -> Result<Database, CountryFileError> {
    let bytes = System
        .bytes(path, LARGEST)
        .map_err(|source| CountryFileError::Read {
            path: path.to_owned(),
            source,
        })?;
    Database::new(bytes).map_err(|source| CountryFileError::Use {
        path: path.to_owned(),
        source,
    })
}

/// Identifies the content of a file without reading it, because the file is large. Kubernetes swaps
/// symbolic links, so the name and the folder are not enough.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    length: u64,
    modified: Option<SystemTime>,
    /// Device, inode and change time. A copy can keep the modification time of its original.
    changed: (u64, u64, i64, i64),
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let metadata = std::fs::metadata(path).ok()?;
        let changed = changed(&metadata);
        Some(Self {
            length: metadata.len(),
            modified: metadata.modified().ok(),
            changed,
        })
    }
}

#[cfg(unix)]
fn changed(metadata: &Metadata) -> (u64, u64, i64, i64) {
    use std::os::unix::fs::MetadataExt as _;
    (
        metadata.dev(),
        metadata.ino(),
        metadata.ctime(),
        metadata.ctime_nsec(),
    )
}

#[cfg(not(unix))]
fn changed(_metadata: &Metadata) -> (u64, u64, i64, i64) {
    (0, 0, 0, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const COUNTRIES: &[u8] = include_bytes!("../../tests/geo/countries.mmdb");
    const MOVED: &[u8] = include_bytes!("../../tests/geo/moved.mmdb");
    const ASN: &[u8] = include_bytes!("../../tests/geo/asn.mmdb");

    fn country(file: &CountryFile) -> Option<String> {
        file.country("192.0.2.1".parse().unwrap())
            .map(|country| country.to_string())
    }

    #[test]
    fn unusable_file_keeps_the_previous_database() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("countries.mmdb");
        assert!(matches!(
            CountryFile::open(&path),
            Err(CountryFileError::Read { .. })
        ));
        assert!(matches!(
            CountryFile::open(folder.path()),
            Err(CountryFileError::Read { .. })
        ));
        std::fs::write(&path, ASN).unwrap();
        assert!(matches!(
            CountryFile::open(&path),
            Err(CountryFileError::Use { .. })
        ));
        std::fs::write(&path, COUNTRIES).unwrap();
        let file = CountryFile::open(&path).unwrap();
        assert_eq!(country(&file).as_deref(), Some("DE"));
        for bad in [&MOVED[..MOVED.len() - 1], &MOVED[..20], b"", b"<html>", ASN] {
            std::fs::write(&path, bad).unwrap();
            file.reload_if_changed();
            assert_eq!(country(&file).as_deref(), Some("DE"));
        }
        std::fs::remove_file(&path).unwrap();
        file.reload_if_changed();
        assert_eq!(country(&file).as_deref(), Some("DE"));
        std::fs::write(&path, MOVED).unwrap();
        file.reload_if_changed();
        assert_eq!(country(&file).as_deref(), Some("US"));
    }

    #[cfg(unix)]
    #[test]
    fn swapped_symlink_is_a_change() {
        let folder = tempfile::tempdir().unwrap();
        let (data, path) = (
            folder.path().join("..data"),
            folder.path().join("countries.mmdb"),
        );
        for (version, content) in [("1", COUNTRIES), ("2", MOVED)] {
            std::fs::create_dir(folder.path().join(version)).unwrap();
            std::fs::write(folder.path().join(version).join("countries.mmdb"), content).unwrap();
        }
        std::os::unix::fs::symlink("1", &data).unwrap();
        std::os::unix::fs::symlink("..data/countries.mmdb", &path).unwrap();
        let file = CountryFile::open(&path).unwrap();
        file.reload_if_changed();
        assert_eq!(country(&file).as_deref(), Some("DE"));
        std::os::unix::fs::symlink("2", folder.path().join("new")).unwrap();
        std::fs::rename(folder.path().join("new"), &data).unwrap();
        file.reload_if_changed();
        assert_eq!(country(&file).as_deref(), Some("US"));
    }
}
