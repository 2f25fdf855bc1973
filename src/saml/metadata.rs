use super::ServiceProvider;
use super::certificate::{self, CertificateError};
use super::request::{POST, escape};

impl ServiceProvider {
    /// Returns the metadata that an identity provider needs (SAML Metadata 2.4.4), of type
    /// `application/samlmetadata+xml`.
    ///
    /// `signing`: the PEM certificates of the team's keys if requests are signed (`sign_request`),
    /// else empty.
    ///
    /// # Errors
    /// See [`CertificateError`]; a certificate is not PEM.
    pub fn metadata(&self, signing: &[&str]) -> Result<String, CertificateError> {
        let mut keys = String::new();
        for pem in signing {
            let body: String = certificate::body(pem)?.split_ascii_whitespace().collect();
            keys.push_str(&descriptor("signing", &body, ""));
        }
        for key in self.decryption_keys() {
            keys.push_str(&descriptor("encryption", key.certificate(), METHODS));
        }
        let (entity, acs, signed) = (
            escape(self.entity_id()),
            escape(self.acs()),
            !signing.is_empty(),
        );
        Ok(format!(
            r#"<?xml version="1.0" encoding="UTF-8"?>
<md:EntityDescriptor xmlns:md="urn:oasis:names:tc:SAML:2.0:metadata" xmlns:ds="http://www.w3.org/2000/09/xmldsig#" entityID="{entity}">
  <md:SPSSODescriptor AuthnRequestsSigned="{signed}" WantAssertionsSigned="true" protocolSupportEnumeration="urn:oasis:names:tc:SAML:2.0:protocol">
{keys}    <md:NameIDFormat>urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress</md:NameIDFormat>
    <md:AssertionConsumerService Binding="{POST}" Location="{acs}" index="0" isDefault="true"/>
  </md:SPSSODescriptor>
</md:EntityDescriptor>
"#
        ))
    }
}

fn descriptor(purpose: &str, certificate: &str, methods: &str) -> String {
    format!(
        r#"    <md:KeyDescriptor use="{purpose}">
      <ds:KeyInfo><ds:X509Data><ds:X509Certificate>{certificate}</ds:X509Certificate></ds:X509Data></ds:KeyInfo>
{methods}    </md:KeyDescriptor>
"#
    )
}

/// The accepted algorithms, best first.
const METHODS: &str = r#"      <md:EncryptionMethod Algorithm="http://www.w3.org/2009/xmlenc11#aes256-gcm"/>
      <md:EncryptionMethod Algorithm="http://www.w3.org/2009/xmlenc11#aes128-gcm"/>
      <md:EncryptionMethod Algorithm="http://www.w3.org/2001/04/xmlenc#rsa-oaep-mgf1p"/>
"#;
