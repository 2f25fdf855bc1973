//! The country of an IP address, from a database in MaxMind's format that the operator provides.
//!
//! Decides whether a file is such a database. Trusts its countries and nothing else: whatever the
//! bytes of the file are, a lookup ends, costs little and returns a country or none. Never guesses:
//! the country is unknown if the address is not listed, or if its record is damaged or names no
//! country. The country in which a network is registered is ignored, because the network may be
//! used elsewhere.

use std::net::IpAddr;

use maxminddb::{MaxMindDbError, PathElement, Reader, WithinOptions};
use thiserror::Error;

use crate::policy::{Countries, Country};

/// The maximum size of a file, in bytes. Databases of countries and of cities are smaller.
pub const LARGEST: u64 = 1 << 30;

/// A database, completely in memory.
pub struct Database(Reader<Vec<u8>>);

/// The reason why a file is not a usable database.
#[derive(Debug, Error)]
pub enum DatabaseError {
    /// Not in MaxMind's format, damaged or truncated.
    #[error("it is not a database in MaxMind's format, or a damaged one: {0}")]
    Damaged(MaxMindDbError),
    /// A database of something else, such as autonomous systems.
    #[error("it is a `{0}` database, which has no countries; use a Country or City database")]
    Other(String),
}

impl Database {
    /// Reads a database from the bytes of a file.
    ///
    /// # Errors
    /// If it is not a database, or if it contains no countries. Not every record is checked here: a
    /// damaged record is detected during a lookup, and its addresses then have no country.
    pub fn new(bytes: Vec<u8>) -> Result<Self, DatabaseError> {
        let reader = Reader::from_source(bytes).map_err(DatabaseError::Damaged)?;
        // Networks without data count as well, so the search ends after this many steps for any
        // tree.
        let networks = reader.networks(WithinOptions::default().include_networks_without_data());
        let mut known = false;
        for network in networks.map_err(DatabaseError::Damaged)?.take(MAX_NETWORKS) {
            let network = network.map_err(DatabaseError::Damaged)?;
            if matches!(network.decode_path::<&str>(&COUNTRY), Ok(Some(_))) {
                known = true;
                break;
            }
        }
        if known {
            Ok(Self(reader))
        } else {
            Err(DatabaseError::Other(
                reader.metadata().database_type.clone(),
            ))
        }
    }

    /// Returns the type that the database states, such as `GeoLite2-Country`.
    pub fn kind(&self) -> &str {
        &self.0.metadata().database_type
    }
}

impl Countries for Database {
    fn country(&self, ip: IpAddr) -> Option<Country> {
        let code = self
            .0
            .lookup(ip.to_canonical())
            .ok()?
            .decode_path::<&str>(&COUNTRY)
            .ok()?;
        code.and_then(Country::parse)
    }
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Database").field(&self.kind()).finish()
    }
}

const COUNTRY: [PathElement<'static>; 2] =
    [PathElement::Key("country"), PathElement::Key("iso_code")];

/// In a country database or cities, one of the first networks has a country.
const MAX_NETWORKS: usize = 100_000;

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    const COUNTRIES: &[u8] = include_bytes!("../tests/geo/countries.mmdb");
    const ASN: &[u8] = include_bytes!("../tests/geo/asn.mmdb");

    fn ask(database: &Database, ip: &str) -> Option<String> {
        database
            .country(ip.parse().unwrap())
            .map(|country| country.to_string())
    }

    #[test]
    fn listed_countries_are_found_and_others_unknown() {
        let database = Database::new(COUNTRIES.to_vec()).unwrap();
        for (ip, country) in [
            ("192.0.2.1", Some("DE")),
            ("::ffff:192.0.2.1", Some("DE")),
            ("192.0.2.129", Some("AT")),
            ("198.51.100.1", Some("US")),
            ("2001:db8:1::9", Some("JP")),
            // Registered only; named without a code; with a number as code; with a code of three
            // letters.
            ("198.51.100.65", None),
            ("198.51.100.129", None),
            ("198.51.100.193", None),
            ("198.51.100.225", None),
            // Not listed.
            ("203.0.113.1", None),
            ("10.0.0.1", None),
            ("127.0.0.1", None),
            ("::1", None),
            ("fe80::1", None),
            ("2001:db8:2::1", None),
        ] {
            assert_eq!(ask(&database, ip).as_deref(), country, "{ip}");
        }
        assert_eq!(database.kind(), "Test-Country");
    }

    #[test]
    fn lookup_does_not_allocate() {
        let database = Database::new(COUNTRIES.to_vec()).unwrap();
        for ip in [
            "192.0.2.1",
            "192.0.2.129",
            "198.51.100.65",
            "203.0.113.1",
            "2001:db8:1::9",
            "::1",
        ] {
            let ip = ip.parse().unwrap();
            let counted =
                allocation_counter::measure(|| _ = std::hint::black_box(database.country(ip)));
            assert_eq!(counted.count_total, 0, "{ip}");
        }
    }

    #[test]
    fn other_and_damaged_files_are_rejected() {
        let error = |bytes: &[u8]| Database::new(bytes.to_vec()).unwrap_err().to_string();
        assert_eq!(
            error(ASN),
            "it is a `Test-ASN` database, which has no countries; use a Country or City database"
        );
        let mut html = b"<html>".repeat(1000);
        assert!(error(b"").contains("damaged") && error(&html).contains("damaged"));
        html.extend_from_slice(b"\xab\xcd\xefMaxMind.com");
        assert!(error(&html).contains("damaged"));
        for cut in 0..COUNTRIES.len() {
            assert!(
                Database::new(COUNTRIES[..cut].to_vec()).is_err(),
                "cut at {cut}"
            );
        }
    }

    /// Modified bytes never make a lookup panic, hang or allocate: the author of the file is not
    /// trusted.
    #[test]
    fn modified_bytes_give_a_country_or_none() {
        let addresses = [
            "192.0.2.1",
            "192.0.2.200",
            "198.51.100.1",
            "198.51.100.70",
            "203.0.113.1",
            "::1",
            "2001:db8:1::1",
        ];
        let addresses = addresses.map(|ip| ip.parse::<IpAddr>().unwrap());
        let (mut good, mut bad, began) = (0, 0, Instant::now());
        let mut try_one = |bytes: Vec<u8>| match Database::new(bytes) {
            Ok(database) => {
                good += 1;
                for ip in addresses {
                    let _ = database.country(ip);
                }
            }
            Err(error) => {
                bad += 1;
                assert!(!error.to_string().is_empty());
            }
        };
        for at in 0..COUNTRIES.len() {
            for flip in [0x01, 0x20, 0x80, 0xff] {
                let mut bytes = COUNTRIES.to_vec();
                bytes[at] ^= flip;
                try_one(bytes.clone());
                // A second byte far away, always the same for the same first one.
                let other = (at * 7919 + 13 * usize::from(flip)) % bytes.len();
                bytes[other] ^= 0x5a;
                try_one(bytes);
            }
        }
        assert!(good > 1_000 && bad > 1_000, "{good} and {bad}");
        assert!(began.elapsed().as_secs() < 120, "{:?}", began.elapsed());
    }

    #[test]
    fn circular_tree_is_rejected() {
        let mut bytes = COUNTRIES.to_vec();
        // Every record refers back to the first node: records have 24 bits, so the whole tree is
        // zero.
        let tree = bytes.windows(16).position(|w| w == [0; 16]).unwrap();
        bytes[..tree].fill(0);
        let found = Database::new(bytes);
        assert!(matches!(found, Err(DatabaseError::Damaged(_))), "{found:?}");
    }
}
