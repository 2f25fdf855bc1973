//! Calls of evaluation services (`external_evaluation`, `docs/wire.md` 10). A service is called
//! before an application token is issued, never on a request.
//!
//! Decides which answers count. Trusts an answer that the service's key signed within a minute for
//! the same question: it is yes or no. Any other result leaves the rule unknown: no connection, a
//! timeout, another status, a redirect, a wrong signature, another nonce, or no `success`. A no
//! would help the user if the rule excludes or denies.
//!
//! An answer counts for the sessions of the login until they end, until another answer arrives, or
//! until the rule names other keys. A token is issued only on an answer that is at most
//! [`ANSWERED`] old; older ones are requested again.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderValue, StatusCode, header};
use moka::Expiry;
use moka::future::Cache;
use serde::Deserialize;
use serde_json::{Value, json};
use thiserror::Error;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use url::Url;

use super::documents::document;
use super::identities::Identities;
use super::issuer::Issuer;
use super::running::Running;
use super::sessions::Login;
use super::{Clock, SigningKeys};
use crate::config::Config;
use crate::engine::Application;
use crate::http_client::{HttpClient, HttpError, MAX_DOCUMENT};
use crate::model::{
    Aud, FetchBudget, Identity, IdentityNonce, RequestId, UnixTime, fill_random, hex,
};
use crate::observe::metrics::{Evaluation, metrics};
use crate::policy::{evaluation_key, evaluations};
use crate::store::StoreError;
use crate::token::{
    EVALUATION_LIFETIME, EvaluationClaims, EvaluationError, KeyError, KeySet, SigningKeyError,
    read_evaluation,
};

/// The evaluation services of each application's policies, including those in Access groups.
#[derive(Debug, Default)]
pub struct Evaluations(HashMap<Aud, Vec<Arc<Service>>>);

/// An evaluation service, with its keys once they were needed.
#[derive(Debug)]
struct Service {
    /// The URL as the rules write it.
    name: String,
    /// The key under which its answers are stored.
    key: String,
    evaluate_url: Url,
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

/// Answers of the last minute, and calls in progress: by login, its time, and service.
type Answers = Cache<(IdentityNonce, UnixTime, String), Option<bool>>;

/// The cause of a missing answer. Contains no token, and only the host of a URL.
#[derive(Debug, Error)]
enum NoAnswer {
    #[error("it took longer than {} s", DEADLINE.as_secs())]
    Deadline,
    #[error("the service cannot be reached")]
    Service(#[source] HttpError),
    #[error("the service answered with status {0}")]
    Status(StatusCode),
    #[error("the answer is not JSON with a `token`")]
    Malformed,
    #[error(transparent)]
    Answer(EvaluationError),
    #[error("the keys cannot be fetched")]
    Keys(#[source] HttpError),
    #[error("the keys URL answered with status {0}")]
    KeysStatus(StatusCode),
    #[error("there are no usable keys")]
    NoKeys(#[source] KeyError),
    #[error("the keys could not be fetched a moment ago")]
    KeysTried,
    #[error("the question could not be signed")]
    Sign(#[source] SigningKeyError),
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

    fn for_application(&self, application: &Aud) -> &[Arc<Service>] {
        self.0.get(application).map_or(&[], Vec::as_slice)
    }

    fn contains(&self, key: &str) -> bool {
        self.0.values().flatten().any(|service| service.key == key)
    }
}

/// Keeps a failure for a short time only.
struct AnswerExpiry;

impl Expiry<(IdentityNonce, UnixTime, String), Option<bool>> for AnswerExpiry {
    fn expire_after_create(
        &self,
        _: &(IdentityNonce, UnixTime, String),
        answer: &Option<bool>,
        _: Instant,
    ) -> Option<Duration> {
        Some(if answer.is_some() { ANSWERED } else { FAILED })
    }
}

/// Calls the evaluation services before a token is issued.
pub(crate) struct Evaluator {
    running: Arc<Running>,
    issuer: Arc<Issuer>,
    identities: Arc<Identities>,
    http: HttpClient,
    answers: Answers,
}

impl Evaluator {
    pub(super) fn new(
        running: Arc<Running>,
        issuer: Arc<Issuer>,
        identities: Arc<Identities>,
        http: HttpClient,
    ) -> Self {
        Self {
            running,
            issuer,
            identities,
            http,
            answers: Cache::builder()
                .max_capacity(MOST_ANSWERS)
                .expire_after(AnswerExpiry)
                .build(),
        }
    }

    /// Returns the user's identity with the current answers of the application's services, and no
    /// older ones. The answers count for existing sessions, too.
    ///
    /// # Errors
    /// If the answers cannot be stored.
    pub(crate) async fn evaluated(
        &self,
        application: &Application,
        login: &Login,
        request: RequestId,
        now: UnixTime,
    ) -> Result<Arc<Identity>, StoreError> {
        let services = self.running.services();
        let named = services.evaluations.for_application(application.aud());
        if named.is_empty() {
            return Ok(Arc::clone(&login.identity));
        }
        let Some(signing) = self.issuer.signing() else {
            return Ok(Arc::new(Identity {
                evaluations: BTreeMap::new(),
                ..(*login.identity).clone()
            }));
        };
        let snapshot = self.running.snapshot();
        let question = Arc::new(Question {
            signing,
            http: self.http.clone(),
            clock: self.running.clock().clone(),
            issuer: snapshot.issuer().to_owned(),
            identity: document(&login.identity, &snapshot),
            leeway: services.leeway.as_secs(),
            request,
        });
        let answers = self.answers(named, &question, login).await;
        self.store_answers(login.nonce, &answers, now).await?;
        Ok(Arc::new(Identity {
            evaluations: answers,
            ..(*login.identity).clone()
        }))
    }

    /// Calls all services concurrently. A service without an answer is absent from the result.
    async fn answers(
        &self,
        services: &[Arc<Service>],
        question: &Arc<Question>,
        login: &Login,
    ) -> BTreeMap<String, bool> {
        let mut calls = JoinSet::new();
        for service in services {
            let (answers, question, service) = (
                self.answers.clone(),
                Arc::clone(question),
                Arc::clone(service),
            );
            let key = (login.nonce, login.identity.at, service.key.clone());
            calls.spawn(async move {
                let answer = answers.get_with(key, question.ask(&service)).await;
                (service.key.clone(), answer)
            });
        }
        let mut answers = BTreeMap::new();
        while let Some(ended) = calls.join_next().await {
            match ended {
                Ok((key, Some(answer))) => drop(answers.insert(key, answer)),
                Ok((_, None)) => {}
                Err(error) => {
                    tracing::error!(%error, request_id = %question.request, "a call of an evaluation service failed");
                }
            }
        }
        answers
    }

    /// Returns `true` if every service of the application's policies has answered about the user.
    pub(crate) fn all_answered(&self, application: &Application, identity: &Identity) -> bool {
        self.running
            .services()
            .evaluations
            .for_application(application.aud())
            .iter()
            .all(|s| identity.evaluations.contains_key(&s.key))
    }

    /// Stores answers in the login's record, if they changed.
    async fn store_answers(
        &self,
        nonce: IdentityNonce,
        answers: &BTreeMap<String, bool>,
        now: UnixTime,
    ) -> Result<(), StoreError> {
        let records = &self.identities.records;
        let _one = records.lock(nonce).await;
        // The login may be revoked by now.
        let Some(identity) = self.identities.identity(nonce, now).await? else {
            return Ok(());
        };
        let services = self.running.services();
        let mut evaluations = identity.evaluations.clone();
        evaluations.retain(|key, _| services.evaluations.contains(key));
        evaluations.extend(answers.iter().map(|(key, answer)| (key.clone(), *answer)));
        if evaluations == identity.evaluations {
            return Ok(());
        }
        let identity = Arc::new(Identity {
            evaluations,
            ..(*identity).clone()
        });
        let expires = now.after(services.identity_lifetime);
        let kept = records.update(nonce, identity, expires).await;
        kept.inspect_err(|error| self.identities.store.failed(error))
            .map(drop)
    }
}

/// A question about one user, the same for every service.
struct Question {
    signing: Arc<SigningKeys>,
    http: HttpClient,
    clock: Clock,
    issuer: String,
    /// The `get-identity` document.
    identity: Value,
    leeway: u64,
    request: RequestId,
}

impl Question {
    async fn ask(&self, service: &Service) -> Option<bool> {
        let answer = match tokio::time::timeout(DEADLINE, self.exchange(service)).await {
            Ok(answer) => answer,
            Err(_) => Err(NoAnswer::Deadline),
        };
        metrics().evaluation(match &answer {
            Ok(true) => Evaluation::Yes,
            Ok(false) => Evaluation::No,
            Err(_) => Evaluation::Unknown,
        });
        let (url, request_id) = (service.url_for_log(), self.request);
        answer
            .map_err(|error| {
                let error = crate::model::chain(&error);
                tracing::warn!(url, %request_id, error, "no answer from an evaluation service; treating the rule as unknown");
            })
            .ok()
    }

    async fn exchange(&self, service: &Service) -> Result<bool, NoAnswer> {
        #[derive(Deserialize)]
        struct Answer {
            token: String,
        }
        let (now, nonce) = (self.clock.now(), nonce());
        let claims = EvaluationClaims {
            iss: &self.issuer,
            aud: [&service.name],
            iat: now,
            exp: UnixTime(now.0.saturating_add(EVALUATION_LIFETIME)),
            nonce: &nonce,
            identity: &self.identity,
        };
        let token = self.signing.sign(&claims).map_err(NoAnswer::Sign)?;
        let body = json!({ "token": token }).to_string();
        let json = HeaderValue::from_static("application/json");
        let headers = [(header::CONTENT_TYPE, json.clone()), (header::ACCEPT, json)]
            .into_iter()
            .collect();
        let answered = self
            .http
            .post(&service.evaluate_url, headers, body.into(), MAX_ANSWER)
            .await;
        let answered = answered.map_err(NoAnswer::Service)?;
        if answered.status != StatusCode::OK {
            return Err(NoAnswer::Status(answered.status));
        }
        let Answer { token } =
            crate::model::json::object(&answered.body).map_err(|_| NoAnswer::Malformed)?;
        let read =
            |keys: &KeySet| read_evaluation(&token, keys, &nonce, self.clock.now(), self.leeway);
        let keys = service.keys(self, None).await?;
        match read(&keys) {
            // The service may have rotated its keys since they were fetched, so they are fetched
            // once more.
            Err(EvaluationError::Token(error)) if error.may_be_rotation() => {
                read(&*service.keys(self, Some(&keys)).await?)
            }
            answer => answer,
        }
        .map_err(NoAnswer::Answer)
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
    fn url_for_log(&self) -> String {
        let mut url = self.evaluate_url.clone();
        url.set_query(None);
        url.into()
    }

    /// Returns the service's keys. With `but`, fetches them again unless that was done since.
    async fn keys(
        &self,
        question: &Question,
        but: Option<&Arc<KeySet>>,
    ) -> Result<Arc<KeySet>, NoAnswer> {
        let mut keys = self.keys.lock().await;
        let now = question.clock.instant();
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
            return last.ok_or(NoAnswer::KeysTried);
        }
        match (self.fetch(&question.http).await, last) {
            (Ok(fetched), _) => {
                let fetched = Arc::new(fetched);
                keys.known = Some((Arc::clone(&fetched), question.clock.instant()));
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

    async fn fetch(&self, http: &HttpClient) -> Result<KeySet, NoAnswer> {
        let answer = http
            .get(&self.keys_url, HeaderMap::new(), MAX_DOCUMENT)
            .await
            .map_err(NoAnswer::Keys)?;
        match answer.status {
            StatusCode::OK => KeySet::from_jwks(&answer.body).map_err(NoAnswer::NoKeys),
            status => Err(NoAnswer::KeysStatus(status)),
        }
    }
}

/// 128 random bits, as 32 hexadecimal digits.
fn nonce() -> String {
    let mut bytes = [0_u8; 16];
    fill_random(&mut bytes);
    hex(&bytes)
}

/// The time for one service, including the fetch of its keys. A user waits for it at login.
const DEADLINE: Duration = Duration::from_secs(5);
/// The age up to which an answer is used for further tokens.
const ANSWERED: Duration = Duration::from_secs(EVALUATION_LIFETIME);
/// The time until a failed call is repeated.
const FAILED: Duration = Duration::from_secs(3);
/// The age at which keys are fetched again.
const FRESH: Duration = Duration::from_secs(3600);
/// The age up to which keys are used while they cannot be fetched.
const STALE: Duration = Duration::from_secs(24 * 3600);
/// An answer with an unknown key causes a fetch: two at once, and then one in this time.
const COOLDOWN: Duration = Duration::from_secs(10);
/// An answer is four claims and a signature.
const MAX_ANSWER: usize = 32 * 1024;
// Bounds the memory. The service is called again for an answer that was evicted.
const MOST_ANSWERS: u64 = 100_000;
