use http::HeaderName;
use roxmltree::Node;
use thiserror::Error;
use url::Url;

use super::certificate::{Certificate, CertificateError, CertificateInfo};
use super::decrypt::DecryptionKey;
use super::error::one_line;
use super::{SamlError, tree};

/// The agreement with one identity provider. Names in parentheses are those of the configuration.
#[derive(Debug)]
pub struct Settings {
    /// The Assertion Consumer Service URL that responses are posted to: `/cdn-cgi/access/callback`
    /// on the team domain. It is also our entity ID, and so the audience.
    pub acs: Url,
    /// The provider's entity ID (`issuer_url`), byte for byte.
    pub idp_entity_id: String,
    /// The URL that requests are sent to (`sso_target_url`).
    pub sso_url: Url,
    /// The provider's signing certificates, current and next (`idp_public_certs`): PEM or the
    /// base64 of its body. One to 16.
    pub certificates: Vec<String>,
    /// The binding for requests.
    pub binding: Binding,
    /// Require the provider to ask for credentials at each login (`force_authn`).
    pub force_authn: bool,
    /// The attribute with the email address (`email_attribute_name`). `None`: `email`, or a name ID
    /// in email address format.
    pub email_attribute: Option<String>,
    /// The attribute with the groups.
    pub groups_attribute: String,
    /// The attributes to store in the identity (`attributes`).
    pub attributes: Vec<String>,
    /// The attributes to send to applications (`header_attributes`).
    pub header_attributes: Vec<HeaderAttribute>,
    /// The keys that assertions may be encrypted for (`encryption_keys`): the current key, then the
    /// previous one. Empty: encryption is off.
    pub decryption_keys: Vec<DecryptionKey>,
}

/// The binding of requests (SAML Bindings 3.4 and 3.5). Responses always use POST.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding {
    /// In the query of the URL.
    Redirect,
    /// In a form.
    Post,
}

/// An attribute that is sent to applications as a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderAttribute {
    /// The `Name` of the attribute.
    pub attribute: String,
    /// The name of the header.
    pub header: HeaderName,
}

/// The reason why settings cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SettingsError {
    /// No certificate is configured.
    #[error("there is no certificate of the identity provider")]
    NoCertificate,
    /// More than 16 certificates are configured.
    #[error("there are more than {MAX_CERTIFICATES} certificates of the identity provider")]
    TooManyCertificates,
    /// A certificate cannot be used.
    #[error("certificate {position} of the identity provider {source}")]
    Certificate {
        /// The position of the certificate, counted from 1.
        position: usize,
        /// The fault of the certificate.
        source: CertificateError,
    },
    /// The entity ID is empty or too long (SAML Core 8.3.6).
    #[error("the identity provider's entity id must have 1 to 1024 characters")]
    EntityId,
    /// An attribute name is empty.
    #[error("an attribute has no name")]
    NoName,
}

/// Our service provider for one identity provider: creates requests, verifies responses and
/// describes itself as metadata.
#[derive(Debug)]
pub struct ServiceProvider {
    settings: Settings,
    certificates: Vec<Certificate>,
}

impl ServiceProvider {
    /// Reads the certificates and validates the settings.
    ///
    /// # Errors
    /// See [`SettingsError`].
    pub fn new(settings: Settings) -> Result<Self, SettingsError> {
        match settings.certificates.len() {
            0 => return Err(SettingsError::NoCertificate),
            1..=MAX_CERTIFICATES => {}
            _ => return Err(SettingsError::TooManyCertificates),
        }
        if !(1..=1024).contains(&settings.idp_entity_id.chars().count()) {
            return Err(SettingsError::EntityId);
        }
        let named = [&settings.groups_attribute]
            .into_iter()
            .chain(&settings.email_attribute)
            .chain(&settings.attributes);
        let sent = settings
            .header_attributes
            .iter()
            .map(|sent| &sent.attribute);
        if named.chain(sent).any(|name| name.is_empty()) {
            return Err(SettingsError::NoName);
        }
        let read = |(at, text): (usize, &String)| {
            Certificate::parse(text).map_err(|source| SettingsError::Certificate {
                position: at + 1,
                source,
            })
        };
        let certificates = settings
            .certificates
            .iter()
            .enumerate()
            .map(read)
            .collect::<Result<_, _>>()?;
        Ok(Self {
            settings,
            certificates,
        })
    }

    /// Returns the binding for requests.
    pub const fn binding(&self) -> Binding {
        self.settings.binding
    }

    /// Returns the URL that requests are sent to.
    pub const fn sso_url(&self) -> &Url {
        &self.settings.sso_url
    }

    /// Returns the Assertion Consumer Service URL, to which responses are posted.
    pub fn acs(&self) -> &str {
        self.settings.acs.as_str()
    }

    /// Returns the Assertion Consumer Service URL in parsed form.
    pub const fn acs_url(&self) -> &Url {
        &self.settings.acs
    }

    /// Returns our entity ID.
    pub fn entity_id(&self) -> &str {
        self.acs()
    }

    /// Returns the provider's entity ID.
    pub fn idp_entity_id(&self) -> &str {
        &self.settings.idp_entity_id
    }

    pub(super) const fn force_authn(&self) -> bool {
        self.settings.force_authn
    }

    pub(super) fn email_attribute(&self) -> Option<&str> {
        self.settings.email_attribute.as_deref()
    }

    /// Returns the name of the groups attribute.
    pub fn groups_attribute(&self) -> &str {
        &self.settings.groups_attribute
    }

    /// Returns the names of the attributes to store in the identity.
    pub fn attributes(&self) -> impl Iterator<Item = &str> {
        self.settings.attributes.iter().map(String::as_str)
    }

    pub(super) fn header_attributes(&self) -> &[HeaderAttribute] {
        &self.settings.header_attributes
    }

    /// Returns the descriptive fields of the provider's certificates, in configuration order.
    pub fn certificate_info(&self) -> impl Iterator<Item = &CertificateInfo> {
        self.certificates.iter().map(Certificate::info)
    }

    pub(super) fn certificates(&self) -> &[Certificate] {
        &self.certificates
    }

    pub(super) fn decryption_keys(&self) -> &[DecryptionKey] {
        &self.settings.decryption_keys
    }

    /// Returns an error unless the issuer is the configured entity (SAML Core 2.2.5).
    pub(super) fn check_issuer(&self, issuer: Node<'_, '_>) -> Result<(), SamlError> {
        let name = tree::text(issuer)?;
        let entity = matches!(issuer.attribute("Format"), None | Some(ENTITY));
        if entity && name == self.idp_entity_id() {
            Ok(())
        } else {
            Err(SamlError::Issuer(one_line(&name)))
        }
    }
}

const ENTITY: &str = "urn:oasis:names:tc:SAML:2.0:nameid-format:entity";
// A rotation has two. Each signature may be tried with every certificate.
const MAX_CERTIFICATES: usize = 16;
