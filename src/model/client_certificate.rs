use std::sync::Arc;

use super::UnixTime;

/// The result of a handshake that requested a client certificate, one per connection.
///
/// Kept with the connection: with Pingora as the extension of its `SslDigest`, which `AccessFilter`
/// reads. Without it no certificate was requested, so the client's is unknown.
#[derive(Clone, Debug, Default)]
pub struct ClientTls {
    /// The certificate that the client proved to hold; `None` if it sent none, or one that can be
    /// read in more than one way.
    pub certificate: Option<Arc<ClientCertificate>>,
}

/// A client certificate with a verified chain. Each request decides for its host whether it counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The only common name of its subject; empty if it has none.
    pub common_name: Box<str>,
    /// The first second at which it is expired.
    pub expires: UnixTime,
    /// The authorities that the chain leads to, each by the SHA-256 of its certificate.
    pub roots: Vec<Fingerprint>,
}

/// SHA-256 of a certificate in DER form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// That of a certificate.
    pub fn sha256(der: &[u8]) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, der).as_ref());
        Self(bytes)
    }
}
