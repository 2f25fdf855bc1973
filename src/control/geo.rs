//! The database of countries: read at the start, and again whenever its file changes.

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

/// The countries that the running configuration's database knows.
#[derive(Debug)]
pub struct CountryFile {
    path: PathBuf,
    current: ArcSwap<Database>,
    seen: Mutex<Option<Stamp>>,
}

/// Why there are no countries in a file.
#[derive(Debug, Error)]
pub enum CountryFileError {
    /// It is not there, or cannot be read.
    #[error("the database of countries `{}` cannot be read", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is something else.
    #[error("the database of countries `{}` cannot be used", path.display())]
    Use {
        /// Which file.
        path: PathBuf,
        /// What it is.
        source: DatabaseError,
    },
}

impl CountryFile {
    /// Reads it.
    ///
    /// # Errors
    /// See [`CountryFileError`].
    pub fn open(path: &Path) -> Result<Self, CountryFileError> {
        // Before it is read: what changes meanwhile is read again.
        let seen = Mutex::new(Stamp::of(path));
        Ok(Self {
            path: path.to_owned(),
            current: ArcSwap::from_pointee(read(path)?),
            seen,
        })
    }

    /// Reads it again where it has changed. One that cannot be used leaves the one before in place,
    /// and the log says why.
    pub(super) fn look(&self) {
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
                tracing::info!(database = %self.path.display(), kind = database.kind(), "the database of countries was read again");
                self.current.store(Arc::new(database));
                metrics().country_database(Reload::Applied);
            }
            Err(error) => {
                tracing::error!(
                    error = crate::model::chain(&error),
                    "the running database of countries stays"
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

/// What tells one content of a file from another without reading it: it is large, and links lead to
/// it that are turned over (Kubernetes), so that its name and folder say nothing.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    length: u64,
    modified: Option<SystemTime>,
    /// Device, file, and when anything of it changed: a copy can keep the time of what it is a copy
    /// of.
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
    fn what_cannot_be_used_leaves_the_one_before() {
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
            file.look();
            assert_eq!(country(&file).as_deref(), Some("DE"));
        }
        std::fs::remove_file(&path).unwrap();
        file.look();
        assert_eq!(country(&file).as_deref(), Some("DE"));
        std::fs::write(&path, MOVED).unwrap();
        file.look();
        assert_eq!(country(&file).as_deref(), Some("US"));
    }

    #[cfg(unix)]
    #[test]
    fn a_link_that_is_turned_over_is_a_change() {
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
        file.look();
        assert_eq!(country(&file).as_deref(), Some("DE"));
        std::os::unix::fs::symlink("2", folder.path().join("new")).unwrap();
        std::fs::rename(folder.path().join("new"), &data).unwrap();
        file.look();
        assert_eq!(country(&file).as_deref(), Some("US"));
    }
}
