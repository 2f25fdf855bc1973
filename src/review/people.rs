use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::config::Config;
use crate::model::{Email, Group, Groups, Identity, IdpId, IdpRef, UnixTime, UserId};
use crate::policy::{evaluation_key, evaluations};

/// The description of a user with a session. Omitted facts are unknown.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Person {
    /// The address.
    pub email: String,
    /// The id of the identity provider; may be omitted if there is only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idp: Option<String>,
    /// The names of all groups.
    #[serde(default)]
    pub groups: Option<Vec<String>>,
    /// Authentication methods.
    #[serde(default)]
    pub amr: Option<Vec<String>>,
    /// Claims or attributes. If there are any, all others are absent; otherwise they are unknown.
    #[serde(default)]
    pub claims: Option<Map<String, Value>>,
    /// The answers of external evaluation services, by their URLs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub evaluations: BTreeMap<String, bool>,
}

impl Person {
    /// Reads the document of `/cdn-cgi/access/get-identity` (`docs/wire.md` 2.6).
    ///
    /// # Errors
    ///
    /// It has no email address.
    pub fn from_identity(document: &Value) -> Result<Self, String> {
        let email = document.get("email").and_then(Value::as_str);
        let email = email.ok_or(
            "the identity has no `email`; use the response of `/cdn-cgi/access/get-identity`",
        )?;
        let texts = |list: &Value| -> Option<Vec<String>> {
            let text = |item: &Value| item.get("name").unwrap_or(item).as_str().map(str::to_owned);
            list.as_array()?.iter().map(text).collect()
        };
        Ok(Self {
            email: email.to_owned(),
            idp: document
                .pointer("/idp/id")
                .and_then(Value::as_str)
                .map(str::to_owned),
            groups: document.get("groups").and_then(texts),
            // An unknown value is empty there.
            amr: document
                .get("amr")
                .and_then(texts)
                .filter(|list| !list.is_empty()),
            claims: document
                .get("oidc_fields")
                .and_then(Value::as_object)
                .cloned(),
            evaluations: BTreeMap::new(),
        })
    }

    /// Returns the identity record that a login would have created.
    ///
    /// # Errors
    ///
    /// The mistake in the description.
    pub fn identity(&self, config: &Config) -> Result<Identity, String> {
        let email = Email::parse(&self.email)
            .map_err(|e| format!("`{}` is not an email address: {e}", self.email))?;
        let (id, kind) = provider(self.idp.as_deref(), config)?;
        let mut claims = Map::new();
        if let Some(given) = &self.claims {
            claims.extend(
                asked_for(config, &id)
                    .into_iter()
                    .map(|name| (name, Value::Null)),
            );
            claims.extend(given.clone());
        }
        let groups = self.groups.as_ref().map(|names| {
            Groups::Known(
                names
                    .iter()
                    .map(|name| Group {
                        id: name.clone(),
                        name: name.clone(),
                    })
                    .collect(),
            )
        });
        Ok(Identity {
            user: UserId(email.as_str().into()),
            subject: email.as_str().to_owned(),
            email,
            name: None,
            idp: IdpRef { id, kind },
            groups: groups.unwrap_or(Groups::Unknown),
            groups_seen: None,
            amr: self.amr.clone(),
            claims,
            evaluations: self.answers(config),
            linked_logins: Vec::new(),
            session_ends: None,
            headers: Vec::new(),
            at: UnixTime(0),
            ip: None,
            revision: 0,
        })
    }

    /// Returns the answers of services in the form of a record.
    fn answers(&self, config: &Config) -> BTreeMap<String, bool> {
        if self.evaluations.is_empty() {
            return BTreeMap::new();
        }
        let asked = config.catalog.applications.iter().flat_map(|a| {
            let policies = config.catalog.policies_of(a).into_iter().flatten();
            evaluations(policies, &config.catalog.groups)
        });
        asked
            .filter_map(|(url, keys)| {
                Some((evaluation_key(url, keys), *self.evaluations.get(url)?))
            })
            .collect()
    }
}

fn provider(id: Option<&str>, config: &Config) -> Result<(IdpId, String), String> {
    let known = &config.catalog.identity_providers;
    match (id, known.as_slice()) {
        // Another team's providers are not known here.
        (Some(id), []) => Ok((IdpId(id.into()), "unknown".to_owned())),
        (None, []) => Err("specify the identity provider (`idp`)".to_owned()),
        (None, [one]) => Ok((one.id.clone(), one.type_name().to_owned())),
        (None, many) => Err(format!(
            "specify the identity provider (`idp`): {}",
            names(many)
        )),
        (Some(id), many) => match many.iter().find(|provider| *provider.id.0 == *id) {
            Some(provider) => Ok((provider.id.clone(), provider.type_name().to_owned())),
            None => Err(format!(
                "identity provider `{id}` not found; configured: {}",
                names(many)
            )),
        },
    }
}

fn names(providers: &[crate::config::IdentityProvider]) -> String {
    providers
        .iter()
        .map(|provider| format!("`{}`", provider.id.0))
        .collect::<Vec<_>>()
        .join(", ")
}

/// Returns the claims that the configuration of a provider requests.
fn asked_for(config: &Config, id: &IdpId) -> Vec<String> {
    let provider = config
        .catalog
        .identity_providers
        .iter()
        .find(|provider| provider.id == *id);
    provider
        .filter(|provider| provider.says_all_it_will())
        .map(|provider| provider.claims().to_vec())
        .unwrap_or_default()
}
