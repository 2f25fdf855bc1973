use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::{ClientConfig, RootCertStore};
use thiserror::Error;

/// The trusted root certificates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roots {
    /// A PEM file with roots in addition to the system's, for a provider with a private certificate
    /// authority.
    pub extra: Option<PathBuf>,
}

/// The reason why no client could be created.
#[derive(Debug, Error)]
pub enum RootsError {
    /// The file with additional roots cannot be read.
    #[error("the certificates in `{path}` cannot be read")]
    Read {
        /// The path in the configuration.
        path: PathBuf,
        /// The cause.
        #[source]
        source: pem::Error,
    },
    /// A certificate in the file cannot be a root.
    #[error("a certificate in `{path}` is not a root certificate")]
    Root {
        /// The path in the configuration.
        path: PathBuf,
        /// The cause.
        #[source]
        source: rustls::Error,
    },
    /// The file contains no certificate.
    #[error("`{path}` contains no certificate")]
    Empty {
        /// The path in the configuration.
        path: PathBuf,
    },
    /// The crypto provider supports none of the TLS versions.
    #[error("the TLS client could not be created")]
    Tls(#[source] rustls::Error),
    /// The credentials of the proxy are invalid.
    #[error("the proxy cannot be used")]
    Proxy(#[from] super::ProxyError),
    /// The HTTP client rejected its settings.
    #[error("the HTTP client could not be created")]
    Client(#[source] reqwest::Error),
}

/// Creates the TLS configuration.
///
/// The crypto provider is passed explicitly, because installing a process-wide one is up to the
/// embedder. The system's roots are found as OpenSSL finds them, or through `SSL_CERT_FILE` and
/// `SSL_CERT_DIR`. Having none is not an error: no call may need them.
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
