use std::fmt;

use aws_lc_rs::error::Unspecified;

use crate::model::{ClientId, Secret, SecretDigest, ServiceToken};

/// A new service token.
///
/// Only [`fmt::Display`] shows the secret. It is not stored anywhere.
#[derive(Debug)]
pub struct NewServiceToken {
    name: String,
    client_id: ClientId,
    secret: Secret,
}

impl NewServiceToken {
    /// Creates a service token with that name.
    ///
    /// # Errors
    /// If the operating system's random number generator fails.
    pub fn new(name: &str) -> Result<Self, Unspecified> {
        let (client_id, secret) = ServiceToken::new_pair()?;
        Ok(Self {
            name: name.to_owned(),
            client_id,
            secret,
        })
    }

    /// Returns the id for policy rules: the name, with only characters that ids may have.
    fn id(&self) -> String {
        let plain = |c: char| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_lowercase()
            } else {
                '-'
            }
        };
        let words: String = self.name.chars().map(plain).collect();
        let id: Vec<&str> = words.split('-').filter(|word| !word.is_empty()).collect();
        let id: String = id.join("-").chars().take(64).collect();
        if id.is_empty() {
            "service-token".to_owned()
        } else {
            id
        }
    }
}

impl fmt::Display for NewServiceToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            client_id,
            secret,
        } = self;
        let name = toml::Value::String(name.clone());
        let digest = SecretDigest::sha256(secret.expose().as_bytes());
        writeln!(f, "# For the client. The secret is not shown again.")?;
        writeln!(f, "CF-Access-Client-Id: {}", client_id.as_str())?;
        writeln!(f, "CF-Access-Client-Secret: {}", secret.expose())?;
        writeln!(f, "\n# For the configuration.")?;
        writeln!(
            f,
            "[[service_tokens]]\nid = \"{}\"\nname = {name}",
            self.id()
        )?;
        writeln!(
            f,
            "client_id = \"{}\"\nclient_secret_sha256 = \"{}\"",
            client_id.as_str(),
            digest.to_hex()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printed_section_and_headers_are_accepted() {
        for (name, id) in [
            ("CI", "ci"),
            ("Nightly backup (Berlin)", "nightly-backup-berlin"),
            ("\"quoted\"\\\n", "quoted"),
            ("日本", "service-token"),
            (&"x".repeat(100), &"x".repeat(64)),
        ] {
            let token = NewServiceToken::new(name).unwrap();
            let shown = token.to_string();
            let (client, configuration) = shown.split_once("\n\n").unwrap();
            let read: toml::Table = toml::from_str(configuration).unwrap();
            let read = &read["service_tokens"][0];
            assert_eq!(
                (read["id"].as_str(), read["name"].as_str()),
                (Some(id), Some(name))
            );
            let value = |header| {
                client
                    .lines()
                    .find_map(|line| line.strip_prefix(header))
                    .unwrap()
            };
            let secret = value("CF-Access-Client-Secret: ");
            assert_eq!(
                read["client_id"].as_str(),
                Some(value("CF-Access-Client-Id: "))
            );
            let digest =
                SecretDigest::parse(read["client_secret_sha256"].as_str().unwrap()).unwrap();
            assert_eq!(digest, SecretDigest::sha256(secret.as_bytes()));
            assert!(!configuration.contains(secret) && !format!("{token:?}").contains(secret));
        }
    }
}
