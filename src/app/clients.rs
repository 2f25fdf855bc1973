//! Certificates of clients: what TLS asks of them, and what it learns.
//!
//! Decides which certificates a connection may be made with, and which authorities each leads to.
//! Trusts the authorities of the running snapshot. Never decides for which host a certificate
//! counts: that is asked for each request, of the host that it names. One that leads to no
//! authority ends the handshake; none at all does not.

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

/// What a listener needs to ask clients for certificates: the verifier of the handshake, and what
/// follows on it.
pub(super) fn of(access: &Arc<Access>) -> (Arc<Verifier>, AfterHandshake) {
    let built = Built::new(Arc::clone(access.snapshot().client_cas()));
    let hints = built.subjects();
    let verifier = Arc::new(Verifier {
        access: Arc::clone(access),
        built: ArcSwap::from_pointee(built),
        hints,
    });
    (Arc::clone(&verifier), AfterHandshake(verifier))
}

/// Takes whoever has a certificate of an authority of the running snapshot, and whoever has none.
#[derive(Debug)]
pub(super) struct Verifier {
    access: Arc<Access>,
    built: ArcSwap<Built>,
    /// What clients are told to choose by. They are those of the start: TLS wants to borrow them
    /// for as long as this lives.
    hints: Vec<DistinguishedName>,
}

/// The verifiers of one snapshot's authorities, one for each certificate of theirs: so it is known
/// which of them a chain leads to.
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
                    "a certificate authority for clients cannot be used: nobody comes by it"
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

    /// The authorities that a chain leads to, or why it leads to none.
    fn lead(
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
                // That it is another authority's says less than what is wrong with it.
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
    /// For the authorities of the running snapshot: they may be others than a moment ago.
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
                "there is a new certificate authority for clients: those who choose by what TLS asks for will not show its \
                 certificates before a restart"
            );
        }
        self.built.store(Arc::clone(&fresh));
        fresh
    }

    fn learn(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Option<ClientCertificate> {
        let (leaf, intermediates) = chain.split_first()?;
        let at = pki_types::UnixTime::since_unix_epoch(Duration::from_secs(now.0));
        // Also after a resumed handshake, in which nobody verified it: it may have expired, and its
        // authority have gone.
        let roots = self.current().lead(leaf, intermediates, at).ok()?;
        let (_, parsed) = X509Certificate::from_der(leaf).ok()?;
        let not_after = u64::try_from(parsed.validity().not_after.timestamp()).ok()?;
        let Some(common_name) = common_name(&parsed) else {
            tracing::warn!(
                serial = parsed.raw_serial_as_string(),
                "a client's certificate has several common names, or one that cannot be read in one way only: it counts for \
                 nothing"
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

/// The subject's common name; empty where there is none. Several, and what some would read only in
/// part, are nobody's name.
fn common_name(certificate: &X509Certificate<'_>) -> Option<Box<str>> {
    let mut names = certificate.subject().iter_common_name();
    let Some(name) = names.next() else {
        return Some("".into());
    };
    let name = name.as_str().ok().filter(|_| names.next().is_none())?;
    let fine =
        !name.is_empty() && name.len() <= LONGEST_NAME && !name.chars().any(char::is_control);
    fine.then(|| name.into())
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
        self.current().lead(leaf, intermediates, now)?;
        // Pingora reads it with this parser, and panics over what that does not take.
        let read = X509Certificate::from_der(leaf);
        read.map(|_| ClientCertVerified::assertion())
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

/// Leaves with the connection what was learnt of its client.
pub(super) struct AfterHandshake(Arc<Verifier>);

#[async_trait]
impl TlsAccept for AfterHandshake {
    async fn handshake_complete_callback(
        &self,
        tls: &TlsRef,
    ) -> Option<Arc<dyn Any + Send + Sync>> {
        // Where nobody asked, nothing is left, and nothing is known.
        if self.0.current().roots.is_empty() {
            return None;
        }
        let certificate = tls
            .peer_cert_chain_der()
            .and_then(|chain| self.0.learn(chain, UnixTime::now()));
        Some(Arc::new(ClientTls {
            certificate: certificate.map(Arc::new),
        }))
    }
}

/// X.520 knows no longer one than 64 letters; many are.
const LONGEST_NAME: usize = 256;
/// The last second of a certificate is still good (RFC 5280 §4.1.2.5).
const SECOND: Duration = Duration::from_secs(1);
