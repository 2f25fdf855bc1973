use std::path::PathBuf;

use rustls::pki_types::CertificateDer;

use super::document_name::DocumentName;

/// The origin of an object: it can only be changed there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provenance {
    /// The document.
    pub document: DocumentName,
    /// The line, from 1; `None` in JSON.
    pub line: Option<usize>,
}

/// A file of certificate authorities, and the key that names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorityFile {
    /// The key.
    pub key: String,
    /// Line and column of the value.
    pub position: Option<(usize, usize)>,
    /// The file.
    pub path: PathBuf,
    /// Its certificates, in the order of the file.
    pub certificates: Vec<CertificateDer<'static>>,
}
