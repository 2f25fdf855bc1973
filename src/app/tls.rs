use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use thiserror::Error;

use crate::config::Tls;

/// Why a certificate cannot be served.
#[derive(Debug, Error)]
pub enum TlsError {
    /// Not a PEM file of that kind.
    #[error("`{}` cannot be read: {reason}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The key is not the certificate's.
    #[error("the key `{}` does not fit the certificate `{}`", key.display(), certificate.display())]
    Mismatch {
        /// The certificate.
        certificate: PathBuf,
        /// The key.
        key: PathBuf,
        /// What rustls said.
        source: rustls::Error,
    },
}

/// The certificate of a listener, which is read again when its files change: a renewal needs no restart.
pub(super) fn resolver(files: &Tls, runtime: &tokio::runtime::Handle) -> Result<Arc<dyn ResolvesServerCert>, TlsError> {
    let current = Arc::new(Current(ArcSwap::from_pointee(load(files)?)));
    runtime.spawn(follow(Arc::downgrade(&current), files.clone()));
    Ok(current)
}

#[derive(Debug)]
struct Current(ArcSwap<CertifiedKey>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

async fn follow(current: std::sync::Weak<Current>, files: Tls) {
    let contents = |files: &Tls| (std::fs::read(&files.certificate).ok(), std::fs::read(&files.key).ok());
    let mut seen = contents(&files);
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let Some(current) = current.upgrade() else { return };
        let now = contents(&files);
        if now == seen {
            continue;
        }
        seen = now;
        match load(&files) {
            Ok(key) => {
                current.0.store(Arc::new(key));
                tracing::info!(certificate = %files.certificate.display(), "the certificate was read again");
            }
            Err(error) => tracing::error!(error = crate::model::chain(&error), "the running certificate stays"),
        }
    }
}

fn load(files: &Tls) -> Result<CertifiedKey, TlsError> {
    let unreadable = |path: &Path, reason: String| TlsError::Read { path: path.to_owned(), reason };
    let read = |e: rustls::pki_types::pem::Error| e.to_string();
    let chain = CertificateDer::pem_file_iter(&files.certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|e| unreadable(&files.certificate, read(e)))?;
    if chain.is_empty() {
        return Err(unreadable(&files.certificate, "it holds no certificate".to_owned()));
    }
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|e| unreadable(&files.key, read(e)))?;
    CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider()).map_err(|source| TlsError::Mismatch {
        certificate: files.certificate.clone(),
        key: files.key.clone(),
        source,
    })
}

/// How late a renewed certificate may be served.
const LOOK_EVERY: Duration = Duration::from_secs(10);
