use std::cell::RefCell;
use std::collections::HashMap;

use url::Url;

use super::reader::Item;
use super::server::Insecure;
use super::team::TokenIssuer;

/// The evaluation services that rules name, and the restrictions on them.
#[derive(Debug)]
pub(super) struct Evaluations {
    /// `true` if plain HTTP is allowed (`[insecure] insecure_identity_providers`).
    plain_http: bool,
    /// `true` if users sign in at another team, so that no service is called from here.
    remote: bool,
    /// The URL of each service's keys.
    keys: RefCell<HashMap<String, String>>,
}

impl Evaluations {
    pub(super) fn new(insecure: &Insecure, issuer: TokenIssuer) -> Self {
        Self {
            plain_http: insecure.insecure_identity_providers,
            remote: issuer == TokenIssuer::Remote,
            keys: RefCell::default(),
        }
    }

    /// Returns `true` if a rule can name this service; reports the mistake otherwise.
    pub(super) fn check(&self, evaluate_url: &str, keys_url: &str, body: &Item<'_>) -> bool {
        let wrong = |field: &str, message: &str| {
            body.get(field)
                .unwrap_or_else(|| body.clone())
                .error(message);
            false
        };
        for (field, url) in [("evaluate_url", evaluate_url), ("keys_url", keys_url)] {
            if let Some(message) = self.mistake(url) {
                return wrong(field, &message);
            }
        }
        let mut keys = self.keys.borrow_mut();
        let fresh = !keys.contains_key(evaluate_url);
        if fresh && keys.len() >= MOST_SERVICES {
            return wrong(
                "evaluate_url",
                &format!("more than {MOST_SERVICES} evaluation services are named"),
            );
        }
        let known = keys
            .entry(evaluate_url.to_owned())
            .or_insert_with(|| keys_url.to_owned());
        if known != keys_url {
            return wrong(
                "keys_url",
                &format!(
                    "`{evaluate_url}` has its keys at `{known}` in another rule; there is one answer"
                ),
            );
        }
        if self.remote && fresh {
            body.reader().warn(
                body.place(),
                "this is evaluated at login, which happens at another team, so its result is \
                 unknown: in `include` and `require` it \
                 never matches, in `exclude` it denies every request; move the rule to that team",
            );
        }
        true
    }

    fn mistake(&self, text: &str) -> Option<String> {
        let like = "an address like `https://eval.example.com/`";
        let url = match Url::parse(text) {
            Ok(url) if url.has_host() && matches!(url.scheme(), "http" | "https") => url,
            _ => return Some(format!("`{text}` is not {like}")),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Some(
                "this has a user name or password; calls are authenticated by a signature"
                    .to_owned(),
            );
        }
        if url.fragment().is_some() {
            return Some(format!(
                "`{text}` has a fragment (`#…`), which is never sent; remove it"
            ));
        }
        if url.scheme() == "http" && !self.plain_http {
            return Some(format!(
                "`{text}` is not encrypted, and an attacker on the network could read logins and replace the keys; write \
                 `https://…` (or set `insecure_identity_providers = true` under `[insecure]`)"
            ));
        }
        None
    }
}

/// One login can call all of them at the same time.
const MOST_SERVICES: usize = 32;
