//! The evaluation services of a configuration, and their keys.
//!
//! Decides when a service's keys are fetched again. Trusts the keys at the URL that the rule names.
//! Never uses keys that could not be fetched for a day.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderMap, StatusCode};
use thiserror::Error;
use tokio::sync::Mutex;
use url::Url;

use super::Clock;
use crate::config::Config;
use crate::http_client::{HttpClient, HttpError, MAX_DOCUMENT};
use crate::model::{Aud, FetchBudget};
use crate::policy::{evaluation_key, evaluations};
use crate::token::{KeyError, KeySet};

/// The evaluation services of each application's policies, including those in Access groups.
#[derive(Debug, Default)]
pub struct Evaluations(HashMap<Aud, Vec<Arc<Service>>>);

/// An evaluation service, with its keys once they were needed.
#[derive(Debug)]
pub(super) struct Service {
    /// The URL as the rules write it.
    pub(super) name: String,
    /// The key under which its answers are stored.
    pub(super) key: String,
    pub(super) evaluate_url: Url,
    keys_url: Url,
    keys: Mutex<Keys>,
}

#[derive(Debug, Default)]
struct Keys {
    /// The last ones that were fetched.
    known: Option<(Arc<KeySet>, Instant)>,
    /// Unset before the first fetch.
    budget: Option<FetchBudget>,
}

/// The cause of missing keys of a service. Contains only the host of a URL.
#[derive(Debug, Error)]
pub(super) enum NoKeys {
    #[error("the keys cannot be fetched")]
    Fetch(#[source] HttpError),
    #[error("the keys URL responded with status {0}")]
    Status(StatusCode),
    #[error("there are no usable keys")]
    Unusable(#[source] KeyError),
    #[error("the keys could not be fetched a moment ago")]
    Tried,
}

impl Evaluations {
    /// Collects the services of a configuration.
    pub(super) fn new(config: &Config) -> Self {
        let mut services: HashMap<(&str, &str), Arc<Service>> = HashMap::new();
        let mut service_of = |(evaluate_url, keys_url)| {
            // The configuration was checked, so both are URLs. A rule without them would stay
            // unknown.
            let (evaluate, keys) = (Url::parse(evaluate_url).ok()?, Url::parse(keys_url).ok()?);
            let key = evaluation_key(evaluate_url, keys_url);
            let fresh = || Arc::new(Service::new(evaluate_url, key, evaluate, keys));
            Some(Arc::clone(
                services
                    .entry((evaluate_url, keys_url))
                    .or_insert_with(fresh),
            ))
        };
        let mut all = HashMap::new();
        for application in &config.catalog.applications {
            let asked: Vec<_> = evaluations(
                config
                    .catalog
                    .policies_of(application)
                    .into_iter()
                    .flatten(),
                &config.catalog.groups,
            )
            .into_iter()
            .filter_map(&mut service_of)
            .collect();
            if !asked.is_empty() {
                all.insert(application.aud.clone(), asked);
            }
        }
        Self(all)
    }

    /// Returns the services of an application's policies.
    pub(super) fn for_application(&self, application: &Aud) -> &[Arc<Service>] {
        self.0.get(application).map_or(&[], Vec::as_slice)
    }

    /// Returns `true` if answers are stored under this key.
    pub(super) fn contains(&self, key: &str) -> bool {
        self.0.values().flatten().any(|service| service.key == key)
    }
}

impl Service {
    fn new(name: &str, key: String, evaluate_url: Url, keys_url: Url) -> Self {
        Self {
            name: name.to_owned(),
            key,
            evaluate_url,
            keys_url,
            keys: Mutex::default(),
        }
    }

    /// Returns the URL for the log, without its query: that may contain secrets.
    pub(super) fn url_for_log(&self) -> String {
        let mut url = self.evaluate_url.clone();
        url.set_query(None);
        url.into()
    }

    /// Returns the service's keys. With `but`, fetches them again unless that was done since.
    pub(super) async fn keys(
        &self,
        http: &HttpClient,
        clock: &Clock,
        but: Option<&Arc<KeySet>>,
    ) -> Result<Arc<KeySet>, NoKeys> {
        let mut keys = self.keys.lock().await;
        let now = clock.instant();
        if let Some((known, at)) = &keys.known
            && now.duration_since(*at) < FRESH
            && but.is_none_or(|but| !Arc::ptr_eq(but, known))
        {
            return Ok(Arc::clone(known));
        }
        let last = keys
            .known
            .as_ref()
            .filter(|(_, at)| now.duration_since(*at) < STALE)
            .map(|(known, _)| Arc::clone(known));
        // Counted before the fetch: a fetch that times out counts, too.
        if !keys
            .budget
            .get_or_insert_with(|| FetchBudget::new(COOLDOWN, now))
            .take(now)
        {
            return last.ok_or(NoKeys::Tried);
        }
        match (self.fetch(http).await, last) {
            (Ok(fetched), _) => {
                let fetched = Arc::new(fetched);
                keys.known = Some((Arc::clone(&fetched), clock.instant()));
                Ok(fetched)
            }
            (Err(error), Some(last)) => {
                let (url, error) = (self.url_for_log(), crate::model::chain(&error));
                tracing::warn!(
                    url,
                    error,
                    "keeping the previous keys of an evaluation service"
                );
                Ok(last)
            }
            (Err(error), None) => Err(error),
        }
    }

    async fn fetch(&self, http: &HttpClient) -> Result<KeySet, NoKeys> {
        let answer = http
            .get(&self.keys_url, HeaderMap::new(), MAX_DOCUMENT)
            .await
            .map_err(NoKeys::Fetch)?;
        match answer.status {
            StatusCode::OK => KeySet::from_jwks(&answer.body).map_err(NoKeys::Unusable),
            status => Err(NoKeys::Status(status)),
        }
    }
}

/// The age at which keys are fetched again.
const FRESH: Duration = Duration::from_secs(3600);
/// The age up to which keys are used while they cannot be fetched.
const STALE: Duration = Duration::from_secs(24 * 3600);
/// An answer with an unknown key causes a fetch: two at once, and then one in this time.
const COOLDOWN: Duration = Duration::from_secs(10);
