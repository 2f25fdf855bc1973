use std::path::PathBuf;

use super::reader::Table;
use super::secrets::plain;
use crate::geo::{Database, LARGEST};

/// The country database (`[geo]`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Geo {
    /// The file, a Country or City database in MaxMind's format. It was valid when the
    /// configuration was read.
    pub database: PathBuf,
}

impl Geo {
    pub(super) fn read(table: &mut Table<'_>) -> Option<Self> {
        let item = table.needed("database", "\"GeoLite2-Country.mmdb\"")?;
        let path = item.text()?;
        let reader = table.reader();
        let database = reader.resolve(path);
        if reader.env().is_offline() {
            return Some(Self { database });
        }
        let shown = database.display();
        match reader.env().bytes(&database, LARGEST).map(Database::new) {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => item.error(&format!("`{shown}` cannot be used: {error}")),
            Err(error) => item.error(&format!("`{shown}` cannot be read: {}", plain(&error))),
        }
        Some(Self { database })
    }
}
