use url::Url;

use crate::model::{AbsentGroups, Secret};
use crate::saml::{Binding, DecryptionKey, DecryptionKeyError, HeaderAttribute, Settings};

/// The settings of a SAML provider (`config`), named as in Cloudflare Access.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SamlConfig {
    /// The provider's entity id, byte for byte.
    pub issuer_url: String,
    /// The URL that receives authentication requests.
    pub sso_target_url: Url,
    /// The certificates that it signs with, in PEM or the base64 inside it.
    pub idp_public_certs: Vec<String>,
    /// Signs requests. Signed requests are sent in a form, others in a URL.
    pub sign_request: bool,
    /// Requires credentials at each login.
    pub force_authn: bool,
    /// The attribute with the email address; by default `email`, else a name id of that format.
    pub email_attribute_name: Option<String>,
    /// The attribute with the groups.
    pub groups_attribute_name: String,
    /// The meaning of that attribute's absence.
    pub absent_groups: AbsentGroups,
    /// The attributes to keep with the identity.
    pub attributes: Vec<String>,
    /// The attributes that origins get, each in a header of its own.
    pub header_attributes: Vec<HeaderAttribute>,
    /// The keys that assertions may be encrypted for.
    pub encryption_keys: Vec<EncryptionKey>,
}

/// A key that assertions may be encrypted for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncryptionKey {
    /// The private key, PKCS#8 in PEM.
    pub key: Secret,
    /// The certificate of its public half, in PEM.
    pub certificate: String,
}

impl SamlConfig {
    /// Returns the settings of both sides. `keys` come from [`SamlConfig::decryption_keys`].
    pub(crate) fn settings(&self, acs: Url, keys: Vec<DecryptionKey>) -> Settings {
        Settings {
            acs,
            idp_entity_id: self.issuer_url.clone(),
            sso_url: self.sso_target_url.clone(),
            certificates: self.idp_public_certs.clone(),
            binding: if self.sign_request {
                Binding::Post
            } else {
                Binding::Redirect
            },
            force_authn: self.force_authn,
            email_attribute: self.email_attribute_name.clone(),
            groups_attribute: self.groups_attribute_name.clone(),
            attributes: self.attributes.clone(),
            header_attributes: self.header_attributes.clone(),
            decryption_keys: keys,
        }
    }

    /// Returns the keys that assertions may be encrypted for.
    ///
    /// # Errors
    /// If a key cannot be used. The check of the configuration has ruled that out.
    pub(crate) fn decryption_keys(&self) -> Result<Vec<DecryptionKey>, DecryptionKeyError> {
        self.encryption_keys
            .iter()
            .map(|key| DecryptionKey::new(&key.key, &key.certificate))
            .collect()
    }
}
