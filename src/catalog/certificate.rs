use std::path::PathBuf;

use rustls::pki_types::CertificateDer;

use super::derived_id::derived_id;
use crate::route;

/// A certificate authority for client certificates (`[[certificates]]`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientAuthority {
    /// The id, derived from the name.
    pub id: String,
    /// The display name.
    pub name: String,
    /// The file that the certificates come from, which is read again when it changes; `None` if
    /// the object holds them itself.
    pub file: Option<PathBuf>,
    /// The certificates; never empty, except in a configuration that was read offline.
    pub roots: Vec<CertificateDer<'static>>,
    /// The hosts on which its certificates count; at least one.
    pub hosts: Vec<route::Domain>,
}

impl ClientAuthority {
    /// Derives the id. Names are unique among authorities, so ids are too.
    pub fn derive_id(name: &str) -> String {
        derived_id(&["certificate", name])
    }
}
