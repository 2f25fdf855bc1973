use http::HeaderName;
use roxmltree::Node;
use thiserror::Error;
use url::Url;

use super::certificate::{Certificate, CertificateError, CertificateInfo};
use super::decrypt::DecryptionKey;
use super::error::tame;
use super::{SamlError, tree};

/// What is agreed with one identity provider. The names of the configuration, where it has one for
/// it.
#[derive(Debug)]
pub struct Settings {
    /// Where responses come to: the team domain's `/cdn-cgi/access/callback`. Also our entity id,
    /// and so the audience.
    pub acs: Url,
    /// The provider's entity id (`issuer_url`), byte for byte.
    pub idp_entity_id: String,
    /// Where requests go (`sso_target_url`).
    pub sso_url: Url,
    /// The certificates it signs with, now and after the next rotation (`idp_public_certs`): PEM,
    /// or the base64 inside it. One to 16.
    pub certificates: Vec<String>,
    /// How requests go there.
    pub binding: Binding,
    /// Whether it is to ask for credentials at each login (`force_authn`).
    pub force_authn: bool,
    /// The attribute that holds the address (`email_attribute_name`). Without one: `email`, else a
    /// name id that is said to be one.
    pub email_attribute: Option<String>,
    /// The attribute that holds the groups.
    pub groups_attribute: String,
    /// The attributes to keep with the identity (`attributes`).
    pub attributes: Vec<String>,
    /// The attributes to send to applications (`header_attributes`).
    pub header_attributes: Vec<HeaderAttribute>,
    /// What assertions may be encrypted for (`encryption_keys`): the current key first, and the one
    /// before it. None where none are to be.
    pub decryption_keys: Vec<DecryptionKey>,
}

/// How a request travels (SAML Bindings 3.4 and 3.5). Responses come by POST always.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding {
    /// In the address.
    Redirect,
    /// In a form.
    Post,
}

/// An attribute that applications get as a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderAttribute {
    /// Its `Name`.
    pub attribute: String,
    /// The header.
    pub header: HeaderName,
}

/// Why there can be no login with these settings.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SettingsError {
    /// There is none.
    #[error("there is no certificate of the identity provider")]
    NoCertificate,
    /// More than 16.
    #[error("there are more than {MAX_CERTIFICATES} certificates of the identity provider")]
    TooManyCertificates,
    /// One that cannot be used.
    #[error("certificate {place} of the identity provider {source}")]
    Certificate {
        /// Which, from 1.
        place: usize,
        /// What is the matter with it.
        source: CertificateError,
    },
    /// Not an entity id (SAML Core 8.3.6).
    #[error("the identity provider's entity id must have 1 to 1024 characters")]
    EntityId,
    /// An attribute to be read has no name.
    #[error("an attribute has no name")]
    NoName,
}

/// Our side of what was agreed with one identity provider: makes requests, checks responses,
/// describes itself.
#[derive(Debug)]
pub struct ServiceProvider {
    settings: Settings,
    certificates: Vec<Certificate>,
}

impl ServiceProvider {
    /// Reads the certificates, and looks at the rest.
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
                place: at + 1,
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

    /// How requests travel.
    pub const fn binding(&self) -> Binding {
        self.settings.binding
    }

    /// Where requests go.
    pub const fn sso_url(&self) -> &Url {
        &self.settings.sso_url
    }

    /// Where responses come to.
    pub fn acs(&self) -> &str {
        self.settings.acs.as_str()
    }

    /// The same, as an address.
    pub const fn acs_url(&self) -> &Url {
        &self.settings.acs
    }

    /// Our name.
    pub fn entity_id(&self) -> &str {
        self.acs()
    }

    /// The provider's name.
    pub fn idp_entity_id(&self) -> &str {
        &self.settings.idp_entity_id
    }

    pub(super) const fn force_authn(&self) -> bool {
        self.settings.force_authn
    }

    pub(super) fn email_attribute(&self) -> Option<&str> {
        self.settings.email_attribute.as_deref()
    }

    /// The name of the attribute that holds the groups.
    pub fn groups_attribute(&self) -> &str {
        &self.settings.groups_attribute
    }

    /// The attributes to keep with the identity.
    pub fn attributes(&self) -> impl Iterator<Item = &str> {
        self.settings.attributes.iter().map(String::as_str)
    }

    pub(super) fn header_attributes(&self) -> &[HeaderAttribute] {
        &self.settings.header_attributes
    }

    /// What the provider's certificates say of themselves, in the order of the configuration.
    pub fn certificate_info(&self) -> impl Iterator<Item = &CertificateInfo> {
        self.certificates.iter().map(Certificate::about)
    }

    pub(super) fn certificates(&self) -> &[Certificate] {
        &self.certificates
    }

    pub(super) fn decryption_keys(&self) -> &[DecryptionKey] {
        &self.settings.decryption_keys
    }

    /// SAML Core 2.2.5: an entity, and it is the one that was configured.
    pub(super) fn check_issuer(&self, issuer: Node<'_, '_>) -> Result<(), SamlError> {
        let name = tree::text(issuer)?;
        let entity = matches!(issuer.attribute("Format"), None | Some(ENTITY));
        if entity && name == self.idp_entity_id() {
            Ok(())
        } else {
            Err(SamlError::Issuer(tame(&name)))
        }
    }
}

const ENTITY: &str = "urn:oasis:names:tc:SAML:2.0:nameid-format:entity";
const MAX_CERTIFICATES: usize = 16;
