//! Answers of evaluation services about users (`external_evaluation`, `docs/wire.md` 10). A service
//! is asked before an application token is issued, never on a request.
//!
//! Decides which answers count. Trusts an answer that the service's key signed, for the question
//! that was asked, within a minute: it is yes or no. Everything else (no connection, no time,
//! another status, a redirect, a wrong signature, another nonce, no `success`) is no answer, and
//! the rule is unknown: a no would help where the rule is in an `exclude` or denies.
//!
//! An answer counts for that person's sessions for as long as they last, or until there is another,
//! or until the rule names other keys. It is asked for again when a token is issued and it is older
//! than [`ANSWERED`]; a token is never issued on an older one.

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

use super::SigningKeys;
use super::documents::document;
use super::identities::Identities;
use super::issuer::Issuer;
use super::running::Running;
use super::sessions::Login;
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

/// The services that each application's policies ask, also through Access groups.
#[derive(Debug, Default)]
pub struct Evaluations(HashMap<Aud, Vec<Arc<Service>>>);

/// One service, and its keys once they were needed.
#[derive(Debug)]
struct Service {
    /// As the rules have it.
    name: String,
    /// What its answers are kept by.
    key: String,
    evaluate_url: Url,
    keys_url: Url,
    keys: Mutex<Keys>,
}

#[derive(Debug, Default)]
struct Keys {
    /// The last good ones.
    known: Option<(Arc<KeySet>, Instant)>,
    /// Unset before the first fetch.
    budget: Option<FetchBudget>,
}

/// Answers of the last minute, and questions under way: by login, the moment of it, and service.
type Answers = Cache<(IdentityNonce, UnixTime, String), Option<bool>>;

/// Why there is no answer. Names no token, and of addresses no more than the host.
#[derive(Debug, Error)]
enum NoAnswer {
    #[error("it took longer than {} s", DEADLINE.as_secs())]
    Deadline,
    #[error("the service cannot be asked")]
    Service(#[source] HttpError),
    #[error("the service answered with status {0}")]
    Status(StatusCode),
    #[error("the answer is not JSON with a `token`")]
    Malformed,
    #[error(transparent)]
    Answer(EvaluationError),
    #[error("the keys cannot be fetched")]
    Keys(#[source] HttpError),
    #[error("the address of the keys answered with status {0}")]
    KeysStatus(StatusCode),
    #[error("there are no usable keys")]
    NoKeys(#[source] KeyError),
    #[error("the keys could not be fetched a moment ago")]
    KeysTried,
    #[error("the question could not be signed")]
    Sign(#[source] SigningKeyError),
}

impl Evaluations {
    /// What a configuration asks.
    pub(super) fn new(config: &Config) -> Self {
        let mut services: HashMap<(&str, &str), Arc<Service>> = HashMap::new();
        let mut of = |(evaluate_url, keys_url)| {
            // Configuration has refused what is no address; a rule with one would stay unknown.
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
            .filter_map(&mut of)
            .collect();
            if !asked.is_empty() {
                all.insert(application.aud.clone(), asked);
            }
        }
        Self(all)
    }

    fn of(&self, application: &Aud) -> &[Arc<Service>] {
        self.0.get(application).map_or(&[], Vec::as_slice)
    }

    fn have(&self, key: &str) -> bool {
        self.0.values().flatten().any(|service| service.key == key)
    }
}

/// A failure is not repeated at once, and not kept for long.
struct Memory;

impl Expiry<(IdentityNonce, UnixTime, String), Option<bool>> for Memory {
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
                .expire_after(Memory)
                .build(),
        }
    }

    /// The person as they are judged for a token of that application: with what its services say of
    /// them now, and nothing that they said before. What they say now counts for the sessions that
    /// there are, too.
    ///
    /// # Errors
    /// Where the answers cannot be kept.
    pub(crate) async fn evaluated(
        &self,
        application: &Application,
        login: &Login,
        request: RequestId,
        now: UnixTime,
    ) -> Result<Arc<Identity>, StoreError> {
        let services = self.running.services();
        let asked = services.evaluations.of(application.aud());
        if asked.is_empty() {
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
            issuer: snapshot.issuer().to_owned(),
            identity: document(&login.identity, &snapshot),
            leeway: services.leeway.as_secs(),
            request,
        });
        let mut asking = JoinSet::new();
        for service in asked {
            let (answers, question, service) = (
                self.answers.clone(),
                Arc::clone(&question),
                Arc::clone(service),
            );
            let key = (login.nonce, login.identity.at, service.key.clone());
            asking.spawn(async move {
                let answer = answers.get_with(key, question.ask(&service)).await;
                (service.key.clone(), answer)
            });
        }
        let mut answers = BTreeMap::new();
        while let Some(ended) = asking.join_next().await {
            match ended {
                Ok((key, Some(answer))) => drop(answers.insert(key, answer)),
                Ok((_, None)) => {}
                Err(error) => {
                    tracing::error!(%error, request_id = %request, "an external evaluation ended without an answer")
                }
            }
        }
        self.keep_answers(login.nonce, &answers, now).await?;
        Ok(Arc::new(Identity {
            evaluations: answers,
            ..(*login.identity).clone()
        }))
    }

    /// Whether every service that the application's policies ask has answered of that person.
    pub(crate) fn all_answered(&self, application: &Application, identity: &Identity) -> bool {
        self.running
            .services()
            .evaluations
            .of(application.aud())
            .iter()
            .all(|s| identity.evaluations.contains_key(&s.key))
    }

    /// Writes answers into the record behind a login, where they are others than before.
    async fn keep_answers(
        &self,
        nonce: IdentityNonce,
        answers: &BTreeMap<String, bool>,
        now: UnixTime,
    ) -> Result<(), StoreError> {
        let records = &self.identities.records;
        let _one = records.lock(nonce).await;
        // The login may have ended meanwhile: then there is nobody to keep them for.
        let Some(identity) = self.identities.identity(nonce, now).await? else {
            return Ok(());
        };
        let services = self.running.services();
        let mut evaluations = identity.evaluations.clone();
        evaluations.retain(|key, _| services.evaluations.have(key));
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

/// A question about one person, the same for every service.
struct Question {
    signing: Arc<SigningKeys>,
    http: HttpClient,
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
        let (url, request_id) = (service.shown(), self.request);
        answer
            .map_err(|error| {
                let error = crate::model::chain(&error);
                tracing::warn!(url, %request_id, error, "an external evaluation gave no answer, so the rule is unknown");
            })
            .ok()
    }

    async fn exchange(&self, service: &Service) -> Result<bool, NoAnswer> {
        #[derive(Deserialize)]
        struct Answer {
            token: String,
        }
        let (now, nonce) = (UnixTime::now(), nonce());
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
            |keys: &KeySet| read_evaluation(&token, keys, &nonce, UnixTime::now(), self.leeway);
        let keys = service.keys(&self.http, None).await?;
        match read(&keys) {
            Err(EvaluationError::Token(error)) if error.may_be_rotation() => {
                read(&*service.keys(&self.http, Some(&keys)).await?)
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

    /// For the log: without a query, which may hold what nobody else should know.
    fn shown(&self) -> String {
        let mut url = self.evaluate_url.clone();
        url.set_query(None);
        url.into()
    }

    /// The keys; others than `but`, if those are old enough that there may be others.
    async fn keys(
        &self,
        http: &HttpClient,
        but: Option<&Arc<KeySet>>,
    ) -> Result<Arc<KeySet>, NoAnswer> {
        let mut keys = self.keys.lock().await;
        if let Some((known, at)) = &keys.known
            && at.elapsed() < FRESH
            && but.is_none_or(|but| !Arc::ptr_eq(but, known))
        {
            return Ok(Arc::clone(known));
        }
        let last = keys
            .known
            .as_ref()
            .filter(|(_, at)| at.elapsed() < STALE)
            .map(|(known, _)| Arc::clone(known));
        // Before the fetch: a fetch that is given up counts too.
        let now = Instant::now();
        if !keys
            .budget
            .get_or_insert_with(|| FetchBudget::new(COOLDOWN, now))
            .take(now)
        {
            return last.ok_or(NoAnswer::KeysTried);
        }
        match (self.fetch(http).await, last) {
            (Ok(fetched), _) => {
                let fetched = Arc::new(fetched);
                keys.known = Some((Arc::clone(&fetched), Instant::now()));
                Ok(fetched)
            }
            (Err(error), Some(last)) => {
                let (url, error) = (self.shown(), crate::model::chain(&error));
                tracing::warn!(
                    url,
                    error,
                    "the keys of an external evaluation stay as they were"
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

/// 128 bits, 32 digits.
fn nonce() -> String {
    let mut bytes = [0_u8; 16];
    fill_random(&mut bytes);
    hex(&bytes)
}

/// For a question to one service, its keys included. A person waits for this at login.
const DEADLINE: Duration = Duration::from_secs(5);
/// How long an answer serves for further tokens: as long as it may be good for.
const ANSWERED: Duration = Duration::from_secs(EVALUATION_LIFETIME);
/// How long nobody asks again after a failure.
const FAILED: Duration = Duration::from_secs(3);
/// How old keys are before they are fetched again.
const FRESH: Duration = Duration::from_secs(3600);
/// How old they may be where that fails.
const STALE: Duration = Duration::from_secs(24 * 3600);
/// Answers that no known key signed cause two fetches at once, and then one in this time.
const COOLDOWN: Duration = Duration::from_secs(10);
/// An answer is four claims and a signature.
const MAX_ANSWER: usize = 32 * 1024;
const MOST_ANSWERS: u64 = 100_000;
