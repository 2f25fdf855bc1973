mod access;
mod docs;
mod domains;
mod example;
mod files;
mod garbage;
mod json;
mod mistakes;
mod outgoing;
mod reference;
mod saml;
mod size;
mod team;

use std::collections::HashMap;
use std::env::VarError;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;

use super::*;
use crate::model::{Aud, IdpId, Secret};
use crate::policy::{PolicyDecision, Rule};

const EXAMPLE: &str = include_str!("../../../conf/portcullis.toml");
const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\n";
const KEY: &str = "-----BEGIN PRIVATE KEY-----\n";
const DAMAGED: &str = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
const AUTHORITY: &str = "\
-----BEGIN CERTIFICATE-----\n\
MIIBizCCATGgAwIBAgIUFkdVZLFF3v9OrUThkK/VPEUbxmowCgYIKoZIzj0EAwIw\n\
GjEYMBYGA1UEAwwPRXhhbXBsZSBEZXZpY2VzMCAXDTI2MTEyMzIwMzcyNFoYDzIx\n\
MjYxMDMwMjAzNzI0WjAaMRgwFgYDVQQDDA9FeGFtcGxlIERldmljZXMwWTATBgcq\n\
hkjOPQIBBggqhkjOPQMBBwNCAAQuDJnb1Fm8PpEisJ0u7TGYGPY5c3yxjvWxsKTs\n\
vgENqy6SINFHMIIslOnFxs+R3vsmsJ8zP77NoI/CKxIQtQ70o1MwUTAdBgNVHQ4E\n\
FgQUyUpYn9ZMQwX95pqx3V0wE312hIcwHwYDVR0jBBgwFoAUyUpYn9ZMQwX95pqx\n\
3V0wE312hIcwDwYDVR0TAQH/BAUwAwEB/zAKBggqhkjOPQQDAgNIADBFAiEAw6+d\n\
2PLAehUqkxttixg0o1fdKn1ZbenWA1fQIuGMMcwCIC8i1p/3mFWTHPavUnrZKCSi\n\
tQStnt6K0eVXpjYztMdc\n\
-----END CERTIFICATE-----\n\
";
const HIDDEN: &str = "hunter2-and-then-some";

/// An environment in memory.
#[derive(Default)]
struct Fake {
    variables: HashMap<&'static str, &'static str>,
    files: HashMap<PathBuf, (&'static str, bool)>,
}

impl Fake {
    fn new() -> Self {
        let variables = [
            ("OKTA_CLIENT_SECRET", HIDDEN),
            ("EMPTY", "\n"),
            ("TWO_LINES", "a\nb"),
            ("PROXY_CREDENTIALS", "ann:word"),
        ];
        let variables = variables.into();
        let files = [
            ("conf/tls.crt", (CERTIFICATE, true)),
            ("conf/tls.key", (KEY, false)),
            ("conf/open.key", (KEY, true)),
            ("/etc/portcullis/tls.crt", (CERTIFICATE, true)),
            ("/etc/portcullis/tls.key", (KEY, false)),
            ("conf/secret", ("hunter2-and-then-some\n", false)),
            ("conf/open-secret", ("hunter2-and-then-some\n", true)),
            ("conf/empty", (" \n", false)),
            ("conf/no-certificate.pem", (DAMAGED, true)),
            ("conf/ca.pem", (AUTHORITY, true)),
            ("conf/devices-ca.pem", (AUTHORITY, true)),
            ("conf/corporate-ca.pem", (AUTHORITY, true)),
        ];
        Self {
            variables,
            files: files
                .into_iter()
                .map(|(path, file)| (path.into(), file))
                .collect(),
        }
    }
}

impl Environment for Fake {
    fn variable(&self, name: &str) -> Result<String, VarError> {
        self.variables
            .get(name)
            .map(|value| (*value).to_owned())
            .ok_or(VarError::NotPresent)
    }

    fn read(&self, path: &Path) -> io::Result<FileContent> {
        let (text, world_readable) = self.files.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(FileContent {
            text: Secret::new(*text),
            world_readable: *world_readable,
        })
    }

    fn bytes(&self, path: &Path, _most: u64) -> io::Result<Vec<u8>> {
        match path.to_str() {
            Some("conf/countries.mmdb") => {
                Ok(include_bytes!("../../../tests/geo/countries.mmdb").to_vec())
            }
            Some("conf/asn.mmdb") => Ok(include_bytes!("../../../tests/geo/asn.mmdb").to_vec()),
            Some("conf/page.mmdb") => Ok(b"<html>".to_vec()),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

fn read(text: &str) -> Result<Loaded, Errors> {
    parse(text, Path::new("conf/portcullis.toml"), &Fake::new())
}

/// Appends the sections that a part lacks. They come last, so that line numbers are the part's own.
fn complete(part: &str) -> String {
    let sections = [
        ("[team]", "[team]\ndomain = \"access.example.com\"\n"),
        (
            "[[listen]]",
            "[[listen]]\naddress = \"0.0.0.0:443\"\ntls = { certificate = \"tls.crt\", key = \"tls.key\" }\n",
        ),
        (
            "[[identity_providers]]",
            "[[identity_providers]]\nid = \"okta\"\nname = \"Okta\"\ntype = \"okta\"\nconfig = { client_id = \"id\", \
             client_secret = \"env:OKTA_CLIENT_SECRET\", okta_account = \"https://dev-1.okta.com/\" }\n",
        ),
        (
            "[[applications]]",
            "[[applications]]\ndomain = \"other.example.com\"\norigin = \"http://127.0.0.1:9000\"\npolicies = [{ name = \
             \"staff\", decision = \"allow\", include = [{ email_domain = { domain = \"example.com\" } }] }]\n",
        ),
    ];
    let missing = sections
        .iter()
        .filter(|(header, _)| !part.contains(header))
        .map(|(_, section)| *section);
    format!("{part}\n{}", missing.collect::<String>())
}

fn rendered(part: &str) -> String {
    let short = |text: String| text.replace("conf/portcullis.toml:", "");
    match read(&complete(part)) {
        Ok(loaded) => loaded
            .warnings
            .iter()
            .map(|w| short(format!("warning: {w}\n")))
            .collect(),
        Err(errors) => short(format!("{errors}\n")),
    }
}
