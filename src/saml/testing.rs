//! A test identity provider that shapes messages as Okta does. It signs and encrypts them as the
//! test demands, also incorrectly.

use std::sync::LazyLock;
use std::time::Duration;

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, Algorithm, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{
    OAEP_SHA1_MGF1SHA1, OaepAlgorithm, OaepPublicEncryptingKey, PublicEncryptingKey,
};
use aws_lc_rs::signature::{
    RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RsaEncoding, RsaKeyPair,
};
use aws_lc_rs::{digest, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderName;
use roxmltree::Document;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::canonical::canonical;
use super::certificate;
use super::tree::{DSIG, EXC_C14N, XENC};
use super::{
    Binding, DecryptionKey, Expected, HeaderAttribute, Reauthentication, ServiceProvider, Settings,
};
use crate::model::{Secret, UnixTime};

/// 2027-01-15T08:00:00Z
pub(crate) const NOW: UnixTime = UnixTime(1_800_000_000);
pub(crate) const REQUEST: &str = "_0123456789abcdef0123456789abcdef";
pub(crate) const ACS: &str = "https://team.example.com/cdn-cgi/access/callback";
pub(crate) const ISSUER: &str = "http://www.okta.com/exk1";
pub(crate) const ALICE: &str = "alice@example.com";

pub(crate) const EXPECTED: Expected<'static> = Expected {
    request_id: REQUEST,
    requested_at: UnixTime(NOW.0 - 30),
    reauthentication: Reauthentication::Optional,
    now: NOW,
    leeway: Duration::from_secs(60),
};

pub(crate) fn settings() -> Settings {
    Settings {
        acs: ACS.parse().unwrap(),
        idp_entity_id: ISSUER.to_owned(),
        sso_url: "https://dev-1.okta.com/app/portcullis/exk1/sso/saml"
            .parse()
            .unwrap(),
        certificates: vec![include_str!("../../tests/saml/keys/idp.crt").to_owned()],
        binding: Binding::Redirect,
        force_authn: false,
        email_attribute: None,
        groups_attribute: "groups".to_owned(),
        attributes: vec!["department".to_owned(), "title".to_owned()],
        header_attributes: vec![HeaderAttribute {
            attribute: "department".to_owned(),
            header: HeaderName::from_static("x-department"),
        }],
        decryption_keys: Vec::new(),
    }
}

pub(crate) fn provider() -> ServiceProvider {
    ServiceProvider::new(settings()).unwrap()
}

/// A service provider with a decryption key that also trusts the next signing certificate.
pub(crate) fn encrypting() -> ServiceProvider {
    let certificates = vec![
        SIGNERS.idp.certificate.to_owned(),
        SIGNERS.next.certificate.to_owned(),
    ];
    ServiceProvider::new(Settings {
        certificates,
        decryption_keys: vec![sp_key()],
        ..settings()
    })
    .unwrap()
}

pub(crate) fn sp_key() -> DecryptionKey {
    let key = Secret::new(include_str!("../../tests/saml/keys/sp.key"));
    DecryptionKey::new(&key, include_str!("../../tests/saml/keys/sp.crt")).unwrap()
}

pub(crate) struct Key {
    pair: RsaKeyPair,
    pub(crate) certificate: &'static str,
}

pub(crate) struct Signers {
    pub(crate) idp: Key,
    pub(crate) next: Key,
    pub(crate) foreign: Key,
}

pub(crate) static SIGNERS: LazyLock<Signers> = LazyLock::new(|| {
    let key = |pem: &str, certificate| Key {
        pair: RsaKeyPair::from_pkcs8(&der(pem)).unwrap(),
        certificate,
    };
    Signers {
        idp: key(
            include_str!("../../tests/saml/keys/idp.key"),
            include_str!("../../tests/saml/keys/idp.crt"),
        ),
        next: key(
            include_str!("../../tests/saml/keys/idp-next.key"),
            include_str!("../../tests/saml/keys/idp-next.crt"),
        ),
        foreign: key(
            include_str!("../../tests/saml/keys/foreign.key"),
            include_str!("../../tests/saml/keys/foreign.crt"),
        ),
    }
});

fn der(pem: &str) -> Vec<u8> {
    let body: String = pem
        .lines()
        .filter(|line| !line.starts_with("-----"))
        .collect();
    STANDARD.decode(body).unwrap()
}

/// An unsigned response with an assertion.
pub(crate) fn response() -> String {
    format!(
        r#"<?xml version="1.0" encoding="UTF-8"?><saml2p:Response Destination="{ACS}" ID="response" InResponseTo="{REQUEST}" IssueInstant="2027-01-15T08:00:00.123Z" Version="2.0" xmlns:saml2p="urn:oasis:names:tc:SAML:2.0:protocol" xmlns:xs="http://www.w3.org/2001/XMLSchema"><saml2:Issuer Format="urn:oasis:names:tc:SAML:2.0:nameid-format:entity" xmlns:saml2="urn:oasis:names:tc:SAML:2.0:assertion">{ISSUER}</saml2:Issuer><saml2p:Status xmlns:saml2p="urn:oasis:names:tc:SAML:2.0:protocol"><saml2p:StatusCode Value="urn:oasis:names:tc:SAML:2.0:status:Success"/></saml2p:Status>{}</saml2p:Response>"#,
        assertion("assertion", ALICE)
    )
}

/// An unsigned assertion.
pub(crate) fn assertion(id: &str, name: &str) -> String {
    format!(
        r#"<saml2:Assertion ID="{id}" IssueInstant="2027-01-15T08:00:00.123Z" Version="2.0" xmlns:saml2="urn:oasis:names:tc:SAML:2.0:assertion" xmlns:xs="http://www.w3.org/2001/XMLSchema"><saml2:Issuer Format="urn:oasis:names:tc:SAML:2.0:nameid-format:entity">{ISSUER}</saml2:Issuer><saml2:Subject><saml2:NameID Format="urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress">{name}</saml2:NameID><saml2:SubjectConfirmation Method="urn:oasis:names:tc:SAML:2.0:cm:bearer"><saml2:SubjectConfirmationData InResponseTo="{REQUEST}" NotOnOrAfter="2027-01-15T08:05:00.124Z" Recipient="{ACS}"/></saml2:SubjectConfirmation></saml2:Subject><saml2:Conditions NotBefore="2027-01-15T07:55:00.124Z" NotOnOrAfter="2027-01-15T08:05:00.124Z"><saml2:AudienceRestriction><saml2:Audience>{ACS}</saml2:Audience></saml2:AudienceRestriction></saml2:Conditions><saml2:AuthnStatement AuthnInstant="2027-01-15T07:59:58.000Z" SessionIndex="{REQUEST}"><saml2:AuthnContext><saml2:AuthnContextClassRef>urn:oasis:names:tc:SAML:2.0:ac:classes:PasswordProtectedTransport</saml2:AuthnContextClassRef></saml2:AuthnContext></saml2:AuthnStatement><saml2:AttributeStatement><saml2:Attribute Name="department" NameFormat="urn:oasis:names:tc:SAML:2.0:attrname-format:unspecified"><saml2:AttributeValue xmlns:xs="http://www.w3.org/2001/XMLSchema" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="xs:string">Research</saml2:AttributeValue></saml2:Attribute><saml2:Attribute Name="groups"><saml2:AttributeValue xmlns:xs="http://www.w3.org/2001/XMLSchema" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="xs:string">Everyone</saml2:AttributeValue><saml2:AttributeValue>R&amp;D &lt;x&gt;</saml2:AttributeValue><saml2:AttributeValue>Vertrieb, Köln</saml2:AttributeValue></saml2:Attribute></saml2:AttributeStatement></saml2:Assertion>"#
    )
}

/// The signature to create.
#[derive(Clone)]
pub(crate) struct Sign {
    pub(crate) key: &'static Key,
    pub(crate) method: &'static str,
    pub(crate) digest: &'static str,
    pub(crate) canonicalisation: &'static str,
    pub(crate) transforms: &'static [&'static str],
    pub(crate) reference: Option<&'static str>,
    pub(crate) prefixes: &'static str,
}

pub(crate) const RSA_SHA256: &str = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256";
pub(crate) const HMAC_SHA256: &str = "http://www.w3.org/2001/04/xmldsig-more#hmac-sha256";
pub(crate) const SHA256: &str = "http://www.w3.org/2001/04/xmlenc#sha256";
pub(crate) const ENVELOPED: &str = "http://www.w3.org/2000/09/xmldsig#enveloped-signature";

impl Sign {
    pub(crate) fn with(key: &'static Key) -> Self {
        Self {
            key,
            method: RSA_SHA256,
            digest: SHA256,
            canonicalisation: EXC_C14N,
            transforms: &[ENVELOPED, EXC_C14N],
            reference: None,
            prefixes: "xs",
        }
    }

    /// Signs the element with this ID and inserts the signature after its issuer.
    pub(crate) fn sign(&self, xml: &str, id: &str) -> String {
        let document = Document::parse(xml).unwrap();
        let node = document
            .descendants()
            .find(|node| node.attribute("ID") == Some(id))
            .unwrap();
        let prefixes: Vec<_> = self.prefixes.split_whitespace().collect();
        let bytes = canonical(node, None, &prefixes).unwrap();
        let uri = self
            .reference
            .map_or_else(|| format!("#{id}"), str::to_owned);
        let issuer = node
            .children()
            .find(|child| child.tag_name().name() == "Issuer")
            .unwrap();
        let (before, after) = xml.split_at(issuer.range().end);
        format!("{before}{}{after}", self.signature(&uri, &bytes))
    }

    /// Returns a signature element over `bytes`.
    pub(crate) fn signature(&self, uri: &str, bytes: &str) -> String {
        let Self {
            canonicalisation,
            method,
            digest,
            ..
        } = self;
        let list = format!(
            r#"<ec:InclusiveNamespaces xmlns:ec="{EXC_C14N}" PrefixList="{}"></ec:InclusiveNamespaces>"#,
            self.prefixes
        );
        let list = if self.prefixes.is_empty() { "" } else { &list };
        let transform = |uri: &&str| {
            let list = if *uri == EXC_C14N { list } else { "" };
            format!(r#"<ds:Transform Algorithm="{uri}">{list}</ds:Transform>"#)
        };
        let transforms: String = self.transforms.iter().map(transform).collect();
        let hash = match *digest {
            "http://www.w3.org/2000/09/xmldsig#sha1" => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            "http://www.w3.org/2001/04/xmldsig-more#sha384" => &digest::SHA384,
            "http://www.w3.org/2001/04/xmlenc#sha512" => &digest::SHA512,
            _ => &digest::SHA256,
        };
        let value = STANDARD.encode(digest::digest(hash, bytes.as_bytes()));
        let info = |declaration: &str| {
            format!(
                r#"<ds:SignedInfo{declaration}><ds:CanonicalizationMethod Algorithm="{canonicalisation}"></ds:CanonicalizationMethod><ds:SignatureMethod Algorithm="{method}"></ds:SignatureMethod><ds:Reference URI="{uri}"><ds:Transforms>{transforms}</ds:Transforms><ds:DigestMethod Algorithm="{digest}"></ds:DigestMethod><ds:DigestValue>{value}</ds:DigestValue></ds:Reference></ds:SignedInfo>"#
            )
        };
        let signature =
            STANDARD.encode(self.sign_bytes(info(&format!(r#" xmlns:ds="{DSIG}""#)).as_bytes()));
        let certificate = certificate::body(self.key.certificate).unwrap();
        format!(
            r#"<ds:Signature xmlns:ds="{DSIG}">{}<ds:SignatureValue>{signature}</ds:SignatureValue><ds:KeyInfo><ds:X509Data><ds:X509Certificate>{certificate}</ds:X509Certificate></ds:X509Data></ds:KeyInfo></ds:Signature>"#,
            info("")
        )
    }

    fn sign_bytes(&self, bytes: &[u8]) -> Vec<u8> {
        // Uses the public key as an HMAC secret. A verifier that lets the message choose the
        // algorithm would accept this.
        if self.method == HMAC_SHA256 {
            let secret = hmac::Key::new(hmac::HMAC_SHA256, self.key.certificate.as_bytes());
            return hmac::sign(&secret, bytes).as_ref().to_vec();
        }
        let encoding: &dyn RsaEncoding = match self.method {
            "http://www.w3.org/2001/04/xmldsig-more#rsa-sha384" => &RSA_PKCS1_SHA384,
            "http://www.w3.org/2001/04/xmldsig-more#rsa-sha512" => &RSA_PKCS1_SHA512,
            _ => &RSA_PKCS1_SHA256,
        };
        let mut signature = vec![0; self.key.pair.public_modulus_len()];
        self.key
            .pair
            .sign(encoding, &SystemRandom::new(), bytes, &mut signature)
            .unwrap();
        signature
    }
}

/// The encryption to apply.
#[derive(Clone)]
pub(crate) struct Encrypt {
    pub(crate) certificate: &'static str,
    pub(crate) cipher: &'static str,
    pub(crate) transport: &'static str,
    pub(crate) parameters: &'static str,
    pub(crate) oaep: &'static OaepAlgorithm,
    /// Puts the key beside the data, as Okta does, instead of inside it.
    pub(crate) beside: bool,
}

impl Default for Encrypt {
    fn default() -> Self {
        Self {
            certificate: include_str!("../../tests/saml/keys/sp.crt"),
            cipher: "http://www.w3.org/2009/xmlenc11#aes256-gcm",
            transport: "http://www.w3.org/2001/04/xmlenc#rsa-oaep-mgf1p",
            parameters: "",
            oaep: &OAEP_SHA1_MGF1SHA1,
            beside: false,
        }
    }
}

impl Encrypt {
    /// Encrypts the assertion of a response.
    pub(crate) fn encrypt(&self, xml: &str) -> String {
        let assertion = part(xml, "<saml2:Assertion ", "</saml2:Assertion>");
        swap(xml, &assertion, &self.encrypted(&assertion))
    }

    /// Returns an `EncryptedAssertion` with this plaintext.
    pub(crate) fn encrypted(&self, plain: &str) -> String {
        let (algorithm, secret): (&'static Algorithm, &[u8]) =
            if self.cipher.ends_with("aes128-gcm") {
                (&AES_128_GCM, &[7; 16])
            } else {
                (&AES_256_GCM, &[7; 32])
            };
        let mut sealed = plain.as_bytes().to_vec();
        let key = LessSafeKey::new(UnboundKey::new(algorithm, secret).unwrap());
        key.seal_in_place_append_tag(
            Nonce::assume_unique_for_key([9; 12]),
            Aad::empty(),
            &mut sealed,
        )
        .unwrap();
        let value = STANDARD.encode([&[9; 12], sealed.as_slice()].concat());
        let der = der(self.certificate);
        let (_, certificate) = X509Certificate::from_der(&der).unwrap();
        let public = PublicEncryptingKey::from_der(certificate.public_key().raw).unwrap();
        let mut wrapped = vec![0; 256];
        OaepPublicEncryptingKey::new(public)
            .unwrap()
            .encrypt(self.oaep, secret, &mut wrapped, None)
            .unwrap();
        let Self {
            cipher,
            transport,
            parameters,
            ..
        } = self;
        let key = format!(
            r#"<xenc:EncryptedKey xmlns:xenc="{XENC}" Id="key"><xenc:EncryptionMethod Algorithm="{transport}">{parameters}</xenc:EncryptionMethod><xenc:CipherData><xenc:CipherValue>{}</xenc:CipherValue></xenc:CipherData></xenc:EncryptedKey>"#,
            STANDARD.encode(wrapped)
        );
        let reference = r##"<ds:RetrievalMethod Type="http://www.w3.org/2001/04/xmlenc#EncryptedKey" URI="#key"/>"##;
        let (inside, beside) = if self.beside {
            (reference, key.as_str())
        } else {
            (key.as_str(), "")
        };
        format!(
            r#"<saml2:EncryptedAssertion xmlns:saml2="urn:oasis:names:tc:SAML:2.0:assertion"><xenc:EncryptedData xmlns:xenc="{XENC}" Type="http://www.w3.org/2001/04/xmlenc#Element"><xenc:EncryptionMethod Algorithm="{cipher}"/><ds:KeyInfo xmlns:ds="{DSIG}">{inside}</ds:KeyInfo><xenc:CipherData><xenc:CipherValue>{value}</xenc:CipherValue></xenc:CipherData></xenc:EncryptedData>{beside}</saml2:EncryptedAssertion>"#
        )
    }
}

/// Encodes a message as a form field.
pub(crate) fn field(xml: &str) -> String {
    STANDARD.encode(xml)
}

/// Replaces `from`, and fails if it does not occur: the test would otherwise test nothing.
pub(crate) fn swap(xml: &str, from: &str, to: &str) -> String {
    assert!(xml.contains(from), "`{from}` is not in {xml}");
    xml.replacen(from, to, 1)
}

/// Returns the first part from `start` to `end`.
pub(crate) fn part(xml: &str, start: &str, end: &str) -> String {
    let (_, rest) = xml
        .split_once(start)
        .unwrap_or_else(|| panic!("`{start}` is not in {xml}"));
    let (inner, _) = rest
        .split_once(end)
        .unwrap_or_else(|| panic!("`{end}` does not follow in {xml}"));
    format!("{start}{inner}{end}")
}

/// Removes the first part from `start` to `end`.
pub(crate) fn without(xml: &str, start: &str, end: &str) -> String {
    swap(xml, &part(xml, start, end), "")
}
