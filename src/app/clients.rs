//! Client certificates in the TLS handshake.
//!
//! Decides which client certificates a connection may use, and to which authorities each leads. A
//! certificate that leads to no authority fails the handshake; a missing one does not. Trusts the
//! authorities of the running snapshot. Never decides for which host a certificate counts: the
//! engine does that for each request.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use pingora::listeners::TlsAccept;
use pingora::protocols::tls::TlsRef;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{self, CertificateDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    SignatureScheme,
};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::control::Access;
use crate::engine::{self, ClientCa};
use crate::model::{ClientCertificate, ClientTls, Fingerprint, UnixTime};

/// Returns the hooks of a listener that requests client certificates: the verifier for the
/// handshake, and the callback after it.
pub(super) fn tls_hooks(access: &Arc<Access>) -> (Arc<Verifier>, AfterHandshake) {
    let built = Built::new(Arc::clone(access.snapshot().client_cas()));
    let hints = built.subjects();
    let verifier = Arc::new(Verifier {
        access: Arc::clone(access),
        built: ArcSwap::from_pointee(built),
        hints,
    });
    (Arc::clone(&verifier), AfterHandshake(verifier))
}

/// Accepts clients without a certificate, and those with one of an authority of the running
/// snapshot.
#[derive(Debug)]
pub(super) struct Verifier {
    access: Arc<Access>,
    built: ArcSwap<Built>,
    /// The authorities that the handshake suggests to clients. They are fixed at the start, because
    /// rustls borrows them from the verifier.
    hints: Vec<DistinguishedName>,
}

/// The verifiers of one snapshot, one for each certificate of an authority. So the result names the
/// certificates that a chain leads to.
#[derive(Debug)]
struct Built {
    of: Arc<[ClientCa]>,
    roots: Vec<(Fingerprint, Arc<dyn ClientCertVerifier>)>,
}

impl Built {
    fn new(of: Arc<[ClientCa]>) -> Self {
        let mut roots: Vec<(Fingerprint, Arc<dyn ClientCertVerifier>)> = Vec::new();
        for root in of.iter().flat_map(|authority| &authority.roots) {
            if roots.iter().any(|(known, _)| *known == root.fingerprint) {
                continue;
            }
            match verifier(root) {
                Some(verifier) => roots.push((root.fingerprint, verifier)),
                None => tracing::error!(
                    "ignoring unusable client CA; its certificates are not accepted"
                ),
            }
        }
        Self { of, roots }
    }

    fn subjects(&self) -> Vec<DistinguishedName> {
        self.roots
            .iter()
            .flat_map(|(_, verifier)| verifier.root_hint_subjects().to_vec())
            .collect()
    }

    /// Returns the certificates of authorities that a chain leads to.
    fn roots_of(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: pki_types::UnixTime,
    ) -> Result<Vec<Fingerprint>, Error> {
        let mut found = Vec::new();
        let mut why = Error::InvalidCertificate(CertificateError::UnknownIssuer);
        for (fingerprint, verifier) in &self.roots {
            match verifier.verify_client_cert(leaf, intermediates, now) {
                Ok(_) => found.push(*fingerprint),
                // Every other authority reports an unknown issuer. Prefer an error that describes
                // the certificate itself.
                Err(Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {}
                Err(error) => why = error,
            }
        }
        if found.is_empty() {
            Err(why)
        } else {
            Ok(found)
        }
    }
}

fn verifier(root: &engine::Root) -> Option<Arc<dyn ClientCertVerifier>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(root.der.to_vec())).ok()?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .ok()
}

impl Verifier {
    /// Returns the verifiers of the running snapshot. Rebuilds them if its authorities have changed.
    fn current(&self) -> Arc<Built> {
        let built = self.built.load_full();
        let running = self.access.snapshot();
        if Arc::ptr_eq(&built.of, running.client_cas()) {
            return built;
        }
        let same = built.of == *running.client_cas();
        let of = Arc::clone(running.client_cas());
        let fresh = if same {
            Built {
                of,
                roots: built.roots.clone(),
            }
        } else {
            Built::new(of)
        };
        let fresh = Arc::new(fresh);
        let hinted = |subject: &DistinguishedName| {
            self.hints
                .iter()
                .any(|hint| hint.as_ref() == subject.as_ref())
        };
        if !same && !fresh.subjects().iter().all(hinted) {
            tracing::warn!(
                "a client CA was added: clients that choose their certificate by the list in the TLS handshake will not send \
                 its certificates until this process restarts"
            );
        }
        self.built.store(Arc::clone(&fresh));
        fresh
    }

    /// Verifies the chain of a completed handshake, and returns the client's certificate.
    fn client_certificate(
        &self,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Option<ClientCertificate> {
        let (leaf, intermediates) = chain.split_first()?;
        let at = pki_types::UnixTime::since_unix_epoch(Duration::from_secs(now.0));
        // A resumed handshake does not verify the certificate again. Meanwhile it may have expired,
        // or its authority may have been removed.
        let roots = self.current().roots_of(leaf, intermediates, at).ok()?;
        let (_, parsed) = X509Certificate::from_der(leaf).ok()?;
        let not_after = u64::try_from(parsed.validity().not_after.timestamp()).ok()?;
        let Some(common_name) = common_name(&parsed) else {
            tracing::warn!(
                serial = parsed.raw_serial_as_string(),
                "ignoring a client certificate with several common names, or with an ambiguous one"
            );
            return None;
        };
        Some(ClientCertificate {
            common_name,
            expires: UnixTime(not_after).after(SECOND),
            roots,
        })
    }
}

/// Returns the subject's common name, empty if it has none. Returns `None` for several names, and
/// for a name that parsers may truncate.
fn common_name(certificate: &X509Certificate<'_>) -> Option<Box<str>> {
    let mut names = certificate.subject().iter_common_name();
    let Some(name) = names.next() else {
        return Some("".into());
    };
    let name = name.as_str().ok().filter(|_| names.next().is_none())?;
    let is_unambiguous =
        !name.is_empty() && name.len() <= LONGEST_NAME && !name.chars().any(char::is_control);
    is_unambiguous.then(|| name.into())
}

impl ClientCertVerifier for Verifier {
    fn offer_client_auth(&self) -> bool {
        !self.current().roots.is_empty()
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: pki_types::UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.current().roots_of(leaf, intermediates, now)?;
        // Pingora uses this parser and panics if it fails, so reject such certificates here.
        let parsed = X509Certificate::from_der(leaf);
        parsed
            .map(|_| ClientCertVerified::assertion())
            .map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, leaf, signature, &algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, leaf, signature, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        aws_lc_rs::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// Stores the client's certificate with the connection.
pub(super) struct AfterHandshake(Arc<Verifier>);

#[async_trait]
impl TlsAccept for AfterHandshake {
    async fn handshake_complete_callback(
        &self,
        tls: &TlsRef,
    ) -> Option<Arc<dyn Any + Send + Sync>> {
        // No certificate was requested, so it is unknown if the client has one.
        if self.0.current().roots.is_empty() {
            return None;
        }
        let certificate = tls
            .peer_cert_chain_der()
            .and_then(|chain| self.0.client_certificate(chain, UnixTime::now()));
        Some(Arc::new(ClientTls {
            certificate: certificate.map(Arc::new),
        }))
    }
}

/// X.520 allows 64 characters, but longer names are common.
const LONGEST_NAME: usize = 256;
/// A certificate is still valid in its last second (RFC 5280 4.1.2.5).
const SECOND: Duration = Duration::from_secs(1);
