use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::{ClientConfig, RootCertStore};
use thiserror::Error;

/// Whose certificates are believed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roots {
    /// A PEM file of further roots beside the system's, for a provider behind a company's own
    /// authority.
    pub extra: Option<PathBuf>,
}

/// Why there is no client.
#[derive(Debug, Error)]
pub enum RootsError {
    /// The file with further roots is not one.
    #[error("the certificates in `{path}` cannot be read")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: pem::Error,
    },
    /// A certificate in that file is not one that can be a root.
    #[error("a certificate in `{path}` is not a root certificate")]
    Root {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: rustls::Error,
    },
    /// The file holds no certificate.
    #[error("`{path}` holds no certificate")]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The TLS protocol versions do not fit the crypto provider.
    #[error("the TLS client cannot be made")]
    Tls(#[source] rustls::Error),
    /// The credentials of the proxy.
    #[error("the proxy cannot be used")]
    Proxy(#[from] super::ProxyError),
    /// The HTTP client refused its settings.
    #[error("the HTTP client cannot be made")]
    Client(#[source] reqwest::Error),
}

/// The crypto provider is named here, so that none is installed for the whole process, which
/// belongs to the embedder.
///
/// The system's roots are where OpenSSL looks for them, or where `SSL_CERT_FILE` and `SSL_CERT_DIR`
/// point. A machine without any is no error: it may need none.
pub(super) fn config(roots: &Roots) -> Result<ClientConfig, RootsError> {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = &roots.extra {
        let unreadable = |source| RootsError::Read {
            path: path.clone(),
            source,
        };
        let mut any = false;
        for certificate in CertificateDer::pem_file_iter(path).map_err(unreadable)? {
            let certificate = certificate.map_err(unreadable)?;
            store.add(certificate).map_err(|source| RootsError::Root {
                path: path.clone(),
                source,
            })?;
            any = true;
        }
        if !any {
            return Err(RootsError::Empty { path: path.clone() });
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(RootsError::Tls)?
        .with_root_certificates(store)
        .with_no_client_auth();
    Ok(config)
}
