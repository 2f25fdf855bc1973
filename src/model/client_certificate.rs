use std::sync::Arc;

use super::UnixTime;

/// What TLS learnt of a client that it asked for a certificate, once for each connection.
///
/// Kept with the connection: with Pingora as the extension of its `SslDigest`, where `AccessFilter`
/// finds it. Where there is none, nobody asked, and whether the client has a certificate is not
/// known.
#[derive(Clone, Debug, Default)]
pub struct ClientTls {
    /// What it showed and proved to have; nothing, where that was nothing or cannot be read in one
    /// way only.
    pub certificate: Option<Arc<ClientCertificate>>,
}

/// A client's certificate whose chain was verified. For which hosts it counts is decided for each
/// request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The only common name of its subject; empty where it has none.
    pub common_name: Box<str>,
    /// The first second at which it is good no longer.
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
