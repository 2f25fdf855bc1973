//! Decryption of assertions (XML Encryption 1.1) with AES-GCM and RSA-OAEP.
//!
//! CBC and RSA 1.5 are rejected: with them an attacker who may submit enough messages can decrypt
//! an assertion without the key.

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::rsa::{
    OAEP_SHA1_MGF1SHA1, OAEP_SHA256_MGF1SHA256, OAEP_SHA384_MGF1SHA384, OAEP_SHA512_MGF1SHA512,
    OaepAlgorithm, OaepPrivateDecryptingKey, PrivateDecryptingKey,
};
use aws_lc_rs::signature::{KeyPair as _, RsaKeyPair};
use roxmltree::Node;
use thiserror::Error;
use zeroize::Zeroizing;

use super::SamlError;
use super::certificate::{self, CertificateError};
use super::error::one_line;
use super::input::base64;
use super::tree::{self, DSIG, XENC};
use crate::model::Secret;

/// A key that providers may encrypt assertions for, with its certificate for the metadata.
pub struct DecryptionKey {
    key: OaepPrivateDecryptingKey,
    certificate: String,
}

/// The reason why a decryption key cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DecryptionKeyError {
    /// The key is not an RSA key in PKCS#8.
    #[error("the decryption key is not an RSA key in PKCS#8")]
    Key,
    /// The certificate beside the key cannot be used.
    #[error("the certificate of the decryption key {0}")]
    Certificate(CertificateError),
    /// The key and the certificate do not match, so no message encrypted for the certificate could
    /// be decrypted.
    #[error("the certificate does not match the decryption key")]
    Pair,
}

impl DecryptionKey {
    /// Reads a key (PKCS#8, as PEM or as the base64 of its body) and the PEM certificate of its
    /// public key.
    ///
    /// # Errors
    /// See [`DecryptionKeyError`].
    pub fn new(pkcs8: &Secret, certificate: &str) -> Result<Self, DecryptionKeyError> {
        let body = pkcs8.expose().trim();
        let body = body
            .strip_prefix("-----BEGIN PRIVATE KEY-----")
            .unwrap_or(body);
        let body = body
            .strip_suffix("-----END PRIVATE KEY-----")
            .unwrap_or(body);
        let der = Zeroizing::new(base64(body).ok_or(DecryptionKeyError::Key)?);
        let pair = RsaKeyPair::from_pkcs8(&der).map_err(|_| DecryptionKeyError::Key)?;
        let key = PrivateDecryptingKey::from_pkcs8(&der).map_err(|_| DecryptionKeyError::Key)?;
        let key = OaepPrivateDecryptingKey::new(key).map_err(|_| DecryptionKeyError::Key)?;
        let shown = certificate::Certificate::parse(certificate)
            .map_err(DecryptionKeyError::Certificate)?;
        if !shown.has_key(pair.public_key()) {
            return Err(DecryptionKeyError::Pair);
        }
        let body = certificate::body(certificate).map_err(DecryptionKeyError::Certificate)?;
        Ok(Self {
            key,
            certificate: body.split_ascii_whitespace().collect(),
        })
    }

    /// Returns the base64 body of the certificate.
    pub(super) fn certificate(&self) -> &str {
        &self.certificate
    }
}

impl std::fmt::Debug for DecryptionKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DecryptionKey(…)")
    }
}

/// Decrypts an `EncryptedAssertion` (SAML Core 2.3.4). The result is not yet known to be an
/// assertion.
pub(super) fn decrypt(
    encrypted: Node<'_, '_>,
    keys: &[DecryptionKey],
) -> Result<Zeroizing<String>, SamlError> {
    if keys.is_empty() {
        return Err(SamlError::Encrypted);
    }
    let [Some(data), _] = tree::sequence(
        encrypted,
        [(XENC, "EncryptedData"), (XENC, "EncryptedKey")],
        WRONG,
    )?
    else {
        return Err(SamlError::Shape(WRONG));
    };
    // The key is either inside `EncryptedData` or beside it with a reference. There must be exactly
    // one, so its position does not matter.
    let mut wrapped = encrypted
        .descendants()
        .filter(|node| tree::is(*node, XENC, "EncryptedKey"));
    let (Some(wrapped), None) = (wrapped.next(), wrapped.next()) else {
        return Err(SamlError::Shape(
            "the encrypted assertion does not have exactly one key",
        ));
    };
    let data = Cipher::read(data)?;
    let algorithm = match data.algorithm {
        "http://www.w3.org/2009/xmlenc11#aes128-gcm" => &AES_128_GCM,
        "http://www.w3.org/2009/xmlenc11#aes256-gcm" => &AES_256_GCM,
        other => return Err(SamlError::Cipher(one_line(other))),
    };
    let wrapped = Cipher::read(wrapped)?;
    let transport = oaep(&wrapped)?;
    for key in keys {
        let mut secret = Zeroizing::new(vec![0; key.key.min_output_size()]);
        let Ok(secret) = key
            .key
            .decrypt(transport, &wrapped.value, &mut secret, None)
        else {
            continue;
        };
        let Ok(opener) = UnboundKey::new(algorithm, secret) else {
            continue;
        };
        let mut value = Zeroizing::new(data.value.clone());
        let Some((nonce, sealed)) = value.split_at_mut_checked(NONCE_LEN) else {
            continue;
        };
        let Ok(nonce) = Nonce::try_assume_unique_for_key(nonce) else {
            continue;
        };
        let Ok(plain) = LessSafeKey::new(opener).open_in_place(nonce, Aad::empty(), sealed) else {
            continue;
        };
        let text = std::str::from_utf8(plain).map_err(|_| SamlError::Decryption)?;
        return Ok(Zeroizing::new(text.to_owned()));
    }
    Err(SamlError::Decryption)
}

struct Cipher<'n, 'i> {
    algorithm: &'n str,
    method: Node<'n, 'i>,
    value: Vec<u8>,
}

impl<'n, 'i> Cipher<'n, 'i> {
    /// Reads the relevant parts of `EncryptedData` or `EncryptedKey` (XML Encryption 3.1). A
    /// `CipherReference` is not fetched.
    fn read(node: Node<'n, 'i>) -> Result<Self, SamlError> {
        let names = [
            (XENC, "EncryptionMethod"),
            (DSIG, "KeyInfo"),
            (XENC, "CipherData"),
            (XENC, "EncryptionProperties"),
            (XENC, "ReferenceList"),
            (XENC, "CarriedKeyName"),
        ];
        let [Some(method), _, Some(data), ..] = tree::sequence(node, names, WRONG)? else {
            return Err(SamlError::Shape(WRONG));
        };
        let [Some(value)] = tree::sequence(data, [(XENC, "CipherValue")], WRONG)? else {
            return Err(SamlError::Shape(WRONG));
        };
        let value = base64(&tree::text(value)?).ok_or(SamlError::Decryption)?;
        Ok(Self {
            algorithm: method.attribute("Algorithm").unwrap_or_default(),
            method,
            value,
        })
    }
}

/// Selects the OAEP variant (XML Encryption 5.5.2). The digest and the mask function must use the
/// same hash.
///
/// SHA-1 is allowed: it is the default of the specification, of Okta and of most others, and its
/// collisions do not weaken OAEP.
fn oaep(key: &Cipher<'_, '_>) -> Result<&'static OaepAlgorithm, SamlError> {
    let names = [
        (XENC, "OAEPparams"),
        (DSIG, "DigestMethod"),
        (XENC11, "MGF"),
    ];
    let [parameters, digest, mask] = tree::sequence(key.method, names, WRONG)?;
    let digest = digest
        .and_then(|node| node.attribute("Algorithm"))
        .unwrap_or(SHA1);
    let mask = mask
        .and_then(|node| node.attribute("Algorithm"))
        .unwrap_or(MGF1_SHA1);
    let refused = |what: &str| Err(SamlError::Cipher(one_line(what)));
    match key.algorithm {
        "http://www.w3.org/2001/04/xmlenc#rsa-oaep-mgf1p"
        | "http://www.w3.org/2009/xmlenc11#rsa-oaep" => {}
        other => return refused(other),
    }
    if parameters.is_some() {
        return refused("OAEPparams");
    }
    match (digest, mask) {
        (SHA1, MGF1_SHA1) => Ok(&OAEP_SHA1_MGF1SHA1),
        (
            "http://www.w3.org/2001/04/xmlenc#sha256",
            "http://www.w3.org/2009/xmlenc11#mgf1sha256",
        ) => Ok(&OAEP_SHA256_MGF1SHA256),
        (
            "http://www.w3.org/2001/04/xmldsig-more#sha384",
            "http://www.w3.org/2009/xmlenc11#mgf1sha384",
        ) => Ok(&OAEP_SHA384_MGF1SHA384),
        (
            "http://www.w3.org/2001/04/xmlenc#sha512",
            "http://www.w3.org/2009/xmlenc11#mgf1sha512",
        ) => Ok(&OAEP_SHA512_MGF1SHA512),
        (digest, mask) => refused(&format!("{digest} with {mask}")),
    }
}

const XENC11: &str = "http://www.w3.org/2009/xmlenc11#";
const SHA1: &str = "http://www.w3.org/2000/09/xmldsig#sha1";
const MGF1_SHA1: &str = "http://www.w3.org/2009/xmlenc11#mgf1sha1";
const WRONG: &str = "the encrypted assertion is malformed";
