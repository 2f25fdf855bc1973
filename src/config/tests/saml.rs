//! Connections over SAML. What is said of mistakes is in the golden file.

use std::env::VarError;
use std::io;
use std::path::Path;

use http::HeaderName;

use super::super::{Environment, FileContent, IdpKind, parse};
use super::complete;
use crate::model::Secret;
use crate::saml::{Binding, HeaderAttribute, ServiceProvider};

const KEY: &str = include_str!("../../../tests/saml/keys/sp.key");

/// Has the one key.
struct Keys;

impl Environment for Keys {
    fn variable(&self, name: &str) -> Result<String, VarError> {
        if name == "SAML_KEY" {
            Ok(KEY.to_owned())
        } else {
            Ok("x".to_owned())
        }
    }

    fn read(&self, _path: &Path) -> io::Result<FileContent> {
        Ok(FileContent {
            text: Secret::new(KEY),
            world_readable: false,
        })
    }

    fn bytes(&self, _path: &Path, _most: u64) -> io::Result<Vec<u8>> {
        Err(io::ErrorKind::NotFound.into())
    }
}

fn body(pem: &str) -> String {
    pem.lines().filter(|line| !line.starts_with('-')).collect()
}

#[test]
fn a_connection_is_read_with_all_that_access_has_for_it() {
    let (idp, next) = (
        include_str!("../../../tests/saml/keys/idp.crt"),
        include_str!("../../../tests/saml/keys/idp-next.crt"),
    );
    let own = body(include_str!("../../../tests/saml/keys/sp.crt"));
    let part = format!(
        r#"[[identity_providers]]
id = "saml"
name = "Okta"
type = "saml"
[identity_providers.config]
issuer_url = "http://www.okta.com/exk1"
sso_target_url = "https://dev-1.okta.com/sso?x=1"
idp_public_certs = ["{}", """{next}"""]
sign_request = true
force_authn = true
email_attribute_name = "mail"
groups_attribute_name = "memberOf"
attributes = ["department", "Job Title"]
header_attributes = [{{ attribute_name = "Job Title", header_name = "X-Job-Title" }}]
encryption_keys = [{{ key = "env:SAML_KEY", certificate = "{own}" }}, {{ key = "file:saml.key", certificate = "{own}" }}]
[[listen]]
address = "127.0.0.1:1"
[insecure]
plain_http = true
"#,
        body(idp)
    );
    let loaded = parse(&complete(&part), Path::new("portcullis.toml"), &Keys)
        .unwrap_or_else(|errors| panic!("{errors}"));
    let provider = &loaded.config.catalog.identity_providers[0];
    let IdpKind::Saml(saml) = &provider.kind else {
        panic!("{provider:?}")
    };
    assert_eq!(
        (provider.type_name(), provider.claims()),
        (
            "saml",
            ["department", "Job Title"].map(str::to_owned).as_slice()
        )
    );
    let keys = saml.decryption_keys().unwrap();
    assert_eq!(keys.len(), 2);
    let settings = saml.settings(
        "https://access.example.com/cdn-cgi/access/callback"
            .parse()
            .unwrap(),
        keys,
    );
    assert_eq!(
        (settings.binding, settings.force_authn),
        (Binding::Post, true)
    );
    assert_eq!(
        (
            settings.email_attribute.as_deref(),
            settings.groups_attribute.as_str()
        ),
        (Some("mail"), "memberOf")
    );
    assert_eq!(settings.certificates.len(), 2);
    let sent = HeaderAttribute {
        attribute: "Job Title".to_owned(),
        header: HeaderName::from_static("x-job-title"),
    };
    assert_eq!(
        (
            settings.header_attributes.as_slice(),
            provider.sent_headers()
        ),
        ([sent.clone()].as_slice(), vec![sent.header])
    );
    let provider = ServiceProvider::new(settings).unwrap();
    assert_eq!(provider.idp_entity_id(), "http://www.okta.com/exk1");
    assert!(
        !format!("{:?}", loaded.config).contains(body(KEY).get(..40).unwrap()),
        "the key is not shown"
    );
}

#[test]
fn okta_s_issuer_begins_with_http() {
    let idp = body(include_str!("../../../tests/saml/keys/idp.crt"));
    for (scheme, warned) in [("https", true), ("http", false)] {
        let part = format!(
            r#"[[identity_providers]]
id = "saml"
name = "Okta"
type = "saml"
config = {{ issuer_url = "{scheme}://www.okta.com/exk1", sso_target_url = "https://dev-1.okta.com/app/x/exk1/sso/saml", idp_public_certs = ["{idp}"] }}
[[listen]]
address = "127.0.0.1:1"
[insecure]
plain_http = true
"#
        );
        let loaded = parse(&complete(&part), Path::new("portcullis.toml"), &Keys)
            .unwrap_or_else(|errors| panic!("{errors}"));
        let warnings = format!("{:?}", loaded.warnings);
        assert_eq!(
            warnings.contains("is it `http://www.okta.com/exk1`?"),
            warned,
            "{warnings}"
        );
    }
}

#[test]
fn the_certificate_of_another_key_is_no_encryption_key() {
    let idp = body(include_str!("../../../tests/saml/keys/idp.crt"));
    let part = format!(
        r#"[[identity_providers]]
id = "saml"
name = "Okta"
type = "saml"
[identity_providers.config]
issuer_url = "http://www.okta.com/exk1"
sso_target_url = "https://dev-1.okta.com/sso"
idp_public_certs = ["{idp}"]
encryption_keys = [{{ key = "env:SAML_KEY", certificate = "{idp}" }}]
[[listen]]
address = "127.0.0.1:1"
[insecure]
plain_http = true
"#
    );
    let errors = parse(&complete(&part), Path::new("portcullis.toml"), &Keys)
        .unwrap_err()
        .to_string();
    assert!(
        errors.contains("encryption_keys[0]: the certificate does not match the decryption key"),
        "{errors}"
    );
}
