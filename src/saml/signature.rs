//! XML signatures, limited to those that SAML allows (SAML Core 5.4): enveloped, over their parent
//! element, in exclusive canonical form.

use aws_lc_rs::digest;
use aws_lc_rs::signature::{
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
    RsaParameters,
};
use roxmltree::Node;

use super::SamlError;
use super::canonical::canonical;
use super::certificate::{Certificate, fingerprint};
use super::error::one_line;
use super::input::base64;
use super::tree::{self, DSIG, EXC_C14N};

/// The canonical bytes of a signed element, without its signature: exactly what a configured key
/// signed. Only [`verify`] creates a value.
#[derive(Debug)]
pub(super) struct Signed(String);

impl Signed {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

/// Verifies a signature over its parent element and returns the signed bytes.
pub(super) fn verify(
    signature: Node<'_, '_>,
    certificates: &[Certificate],
) -> Result<Signed, SamlError> {
    let parent = signature.parent_element().ok_or(SamlError::Reference)?;
    let names = [
        (DSIG, "SignedInfo"),
        (DSIG, "SignatureValue"),
        (DSIG, "KeyInfo"),
    ];
    let [Some(info), Some(value), key_info] = tree::sequence(signature, names, WRONG)? else {
        return Err(SamlError::Shape(WRONG));
    };
    // This first reading only bounds the cost of the canonicalisation. The values that count are
    // read below, from its result.
    let outer = SignedInfo::read(info)?;
    let prefixes: Vec<&str> = outer.prefixes.iter().map(String::as_str).collect();
    let info_bytes = canonical(info, None, &prefixes)?;
    let document = tree::parse(&info_bytes)?;
    let info = SignedInfo::read(document.root_element())?;

    let value = base64(&tree::text(value)?).ok_or(SamlError::Signature { certificate: None })?;
    let parameters = rsa(&info.method)?;
    if !certificates
        .iter()
        // `KeyInfo` is not used to choose the key: it is part of the message, and the signer may be
        // an attacker.
        .any(|known| known.verifies(parameters, info_bytes.as_bytes(), &value))
    {
        return Err(SamlError::Signature {
            certificate: key_info.and_then(named_certificate),
        });
    }

    // From here on, `info` is known to be written by the holder of a configured key.
    let algorithm = hash(&info.reference.digest_method)?;
    let id = parent
        .attribute("ID")
        .filter(|id| !id.is_empty())
        .ok_or(SamlError::Reference)?;
    // The signature must cover its own parent. A reference to another element is the core of
    // signature wrapping.
    if info.reference.uri.strip_prefix('#') != Some(id) {
        return Err(SamlError::Reference);
    }
    let prefixes: Vec<&str> = info.reference.prefixes.iter().map(String::as_str).collect();
    // The digest is over these bytes, and only they are read later. The original tree is never used
    // again.
    let bytes = canonical(parent, Some(signature), &prefixes)?;
    if digest::digest(algorithm, bytes.as_bytes()).as_ref() != info.reference.digest {
        return Err(SamlError::Digest);
    }
    Ok(Signed(bytes))
}

struct SignedInfo {
    prefixes: Vec<String>,
    method: String,
    reference: Reference,
}

struct Reference {
    uri: String,
    prefixes: Vec<String>,
    digest_method: String,
    digest: Vec<u8>,
}

impl SignedInfo {
    fn read(info: Node<'_, '_>) -> Result<Self, SamlError> {
        let names = [
            (DSIG, "CanonicalizationMethod"),
            (DSIG, "SignatureMethod"),
            (DSIG, "Reference"),
        ];
        let [Some(canonicalisation), Some(method), Some(reference)] =
            tree::sequence(info, names, WRONG)?
        else {
            return Err(SamlError::Shape(WRONG));
        };
        // `HMACOutputLength` is the only parameter that the schema allows.
        if !tree::elements(method)?.is_empty() {
            return Err(SamlError::Algorithm(
                "parameters of the signature method".to_owned(),
            ));
        }
        Ok(Self {
            prefixes: exclusive(canonicalisation)?,
            method: algorithm(method)?.to_owned(),
            reference: Reference::read(reference)?,
        })
    }
}

impl Reference {
    fn read(reference: Node<'_, '_>) -> Result<Self, SamlError> {
        let names = [
            (DSIG, "Transforms"),
            (DSIG, "DigestMethod"),
            (DSIG, "DigestValue"),
        ];
        let [Some(transforms), Some(digest_method), Some(value)] =
            tree::sequence(reference, names, WRONG)?
        else {
            return Err(SamlError::Shape(WRONG));
        };
        let transforms = tree::all_named(transforms, DSIG, "Transform", WRONG)?;
        // Exactly these two, in this order: any other transform could change which bytes are
        // signed.
        let [enveloped, canonicalisation] = transforms.as_slice() else {
            return Err(SamlError::Algorithm(format!(
                "{} transforms",
                transforms.len()
            )));
        };
        if algorithm(*enveloped)? != ENVELOPED || !tree::elements(*enveloped)?.is_empty() {
            return Err(SamlError::Algorithm(one_line(algorithm(*enveloped)?)));
        }
        // A parameter that is not understood could change the digest.
        if !tree::elements(digest_method)?.is_empty() {
            return Err(SamlError::Algorithm(
                "parameters of the digest method".to_owned(),
            ));
        }
        Ok(Self {
            uri: reference.attribute("URI").unwrap_or_default().to_owned(),
            prefixes: exclusive(*canonicalisation)?,
            digest_method: algorithm(digest_method)?.to_owned(),
            digest: base64(&tree::text(value)?).ok_or(SamlError::Digest)?,
        })
    }
}

/// Returns the prefix list of exclusive canonicalisation and rejects every other method.
fn exclusive(method: Node<'_, '_>) -> Result<Vec<String>, SamlError> {
    if algorithm(method)? != EXC_C14N {
        return Err(SamlError::Algorithm(one_line(algorithm(method)?)));
    }
    let [list] = tree::sequence(method, [(EXC_C14N, "InclusiveNamespaces")], WRONG)?;
    // Nothing is authenticated yet when this is canonicalised, so content here would only cost
    // work.
    if list.is_some_and(|list| list.has_children()) {
        return Err(SamlError::Shape(WRONG));
    }
    let list = list
        .and_then(|list| list.attribute("PrefixList"))
        .unwrap_or_default();
    let prefixes: Vec<_> = list.split_ascii_whitespace().map(str::to_owned).collect();
    if prefixes.len() > MAX_PREFIXES {
        Err(SamlError::TooMany("namespace prefixes in a signature"))
    } else {
        Ok(prefixes)
    }
}

fn algorithm<'n>(node: Node<'n, '_>) -> Result<&'n str, SamlError> {
    node.attribute("Algorithm").ok_or(SamlError::Shape(WRONG))
}

/// Selects the signature algorithm (RFC 6931 2.3.2, XML Signature 6.4.2). SHA-1 is rejected, and so
/// is HMAC: it would use the public key as a secret.
fn rsa(method: &str) -> Result<&'static RsaParameters, SamlError> {
    Ok(match method {
        "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256" => &RSA_PKCS1_2048_8192_SHA256,
        "http://www.w3.org/2001/04/xmldsig-more#rsa-sha384" => &RSA_PKCS1_2048_8192_SHA384,
        "http://www.w3.org/2001/04/xmldsig-more#rsa-sha512" => &RSA_PKCS1_2048_8192_SHA512,
        other => return Err(SamlError::Algorithm(one_line(other))),
    })
}

fn hash(method: &str) -> Result<&'static digest::Algorithm, SamlError> {
    Ok(match method {
        "http://www.w3.org/2001/04/xmlenc#sha256" => &digest::SHA256,
        "http://www.w3.org/2001/04/xmldsig-more#sha384" => &digest::SHA384,
        "http://www.w3.org/2001/04/xmlenc#sha512" => &digest::SHA512,
        other => return Err(SamlError::Algorithm(one_line(other))),
    })
}

/// Returns the fingerprint of the certificate in the message, for the operator's log only.
fn named_certificate(key_info: Node<'_, '_>) -> Option<String> {
    let found = key_info
        .descendants()
        .find(|node| tree::is(*node, DSIG, "X509Certificate"))?;
    Some(fingerprint(&base64(&tree::text(found).ok()?)?))
}

const ENVELOPED: &str = "http://www.w3.org/2000/09/xmldsig#enveloped-signature";
const WRONG: &str = "a signature is not in the form that SAML requires";
// Providers list a few. The list is read before anything is authenticated.
const MAX_PREFIXES: usize = 32;
