use aws_lc_rs::digest;
use aws_lc_rs::signature::{
    RsaParameters, RsaPublicKeyComponents, RsaSubjectPublicKey as RsaPublicKey,
};
use thiserror::Error;
use x509_parser::prelude::{ASN1Time, FromDer as _, X509Certificate};
use x509_parser::public_key::PublicKey;

use super::error::one_line;
use super::input::base64;
use crate::model::{UnixTime, hex};

/// The public key of an identity provider, from its configured certificate. SAML gives the rest of
/// the certificate no meaning: the operator's configuration alone makes it trusted, so expiry and
/// issuer are not checked.
#[derive(Clone, Debug)]
pub(super) struct Certificate {
    key: RsaPublicKeyComponents<Vec<u8>>,
    info: CertificateInfo,
}

/// Descriptive fields of a certificate, for display. No decision depends on them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateInfo {
    /// The subject, on one line and of bounded length.
    pub subject: String,
    /// The SHA-256 digest of the DER, in hexadecimal.
    pub fingerprint: String,
    /// The start of the validity period.
    pub not_before: UnixTime,
    /// The end of the validity period.
    pub not_after: UnixTime,
}

/// The reason why a certificate cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CertificateError {
    /// Neither PEM nor the base64 of a PEM body.
    #[error("is not a certificate in PEM, nor the base64 inside one")]
    Encoding,
    /// Not an X.509 certificate.
    #[error("is not an X.509 certificate")]
    Malformed,
    /// Its key is not an RSA key of 2048 to 8192 bits.
    #[error("has no RSA key of 2048 bits or more")]
    Key,
}

impl Certificate {
    /// Reads a PEM file with one certificate, or the base64 of its body.
    ///
    /// # Errors
    /// See [`CertificateError`].
    pub(super) fn parse(text: &str) -> Result<Self, CertificateError> {
        let der = base64(body(text)?)
            .filter(|der| !der.is_empty())
            .ok_or(CertificateError::Encoding)?;
        let (_, certificate) =
            X509Certificate::from_der(&der).map_err(|_| CertificateError::Malformed)?;
        let Ok(PublicKey::RSA(key)) = certificate.public_key().parsed() else {
            return Err(CertificateError::Key);
        };
        let integer = |bytes: &[u8]| {
            bytes
                .iter()
                .copied()
                .skip_while(|byte| *byte == 0)
                .collect::<Vec<_>>()
        };
        let (n, e) = (integer(key.modulus), integer(key.exponent));
        // An RSA exponent is odd and not 1. With the exponent 1 any text would be its own
        // signature.
        let odd = e.last().is_some_and(|byte| byte & 1 == 1);
        let sound =
            (256..=1024).contains(&n.len()) && (1..=4).contains(&e.len()) && odd && *e != [1];
        let time = |at: ASN1Time| UnixTime(u64::try_from(at.timestamp()).unwrap_or(0));
        let info = CertificateInfo {
            subject: one_line(&certificate.subject().to_string()),
            fingerprint: fingerprint(&der),
            not_before: time(certificate.validity().not_before),
            not_after: time(certificate.validity().not_after),
        };
        if sound {
            Ok(Self {
                key: RsaPublicKeyComponents { n, e },
                info,
            })
        } else {
            Err(CertificateError::Key)
        }
    }

    pub(super) const fn info(&self) -> &CertificateInfo {
        &self.info
    }

    /// Returns `true` if the certificate holds this public key.
    pub(super) fn has_key(&self, key: &RsaPublicKey) -> bool {
        let (n, e) = (key.modulus(), key.exponent());
        self.key.n == n.big_endian_without_leading_zero()
            && self.key.e == e.big_endian_without_leading_zero()
    }

    pub(super) fn verifies(
        &self,
        parameters: &'static RsaParameters,
        message: &[u8],
        signature: &[u8],
    ) -> bool {
        self.key.verify(parameters, message, signature).is_ok()
    }
}

/// Returns the base64 body of a PEM file with one certificate.
pub(super) fn body(text: &str) -> Result<&str, CertificateError> {
    let text = text.trim();
    if !text.contains("-----") {
        return Ok(text);
    }
    text.strip_prefix("-----BEGIN CERTIFICATE-----")
        .and_then(|rest| rest.strip_suffix("-----END CERTIFICATE-----"))
        .filter(|body| !body.contains("-----"))
        .ok_or(CertificateError::Encoding)
}

/// Returns the SHA-256 digest in hexadecimal.
pub(super) fn fingerprint(der: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, der).as_ref())
}
