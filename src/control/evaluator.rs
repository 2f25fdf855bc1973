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

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderValue, StatusCode, header};
use moka::Expiry;
use moka::future::Cache;
use serde::Deserialize;
use serde_json::{Value, json};
use thiserror::Error;
use tokio::task::JoinSet;

use super::documents::document;
use super::evaluations::{NoKeys, Service};
use super::identities::Identities;
use super::issuer::TokenIssuer;
use super::records::Records;
use super::running::Running;
use super::sessions::Login;
use super::{Clock, SigningKeys};
use crate::engine::Application;
use crate::http_client::{HttpClient, HttpError};
use crate::model::{Identity, IdentityNonce, RequestId, UnixTime, fill_random, hex};
use crate::observe::metrics::{Evaluation, metrics};
use crate::store::StoreError;
use crate::token::{
    EVALUATION_LIFETIME, EvaluationClaims, EvaluationError, KeySet, SigningKeyError,
    read_evaluation,
};

/// The cause of a missing answer. Contains no token, and only the host of a URL.
#[derive(Debug, Error)]
enum NoAnswer {
    #[error("it took longer than {} s", DEADLINE.as_secs())]
    Deadline,
    #[error("the service cannot be reached")]
    Service(#[source] HttpError),
    #[error("the service responded with status {0}")]
    Status(StatusCode),
    #[error("the response is not JSON with a `token`")]
    Malformed,
    #[error(transparent)]
    Answer(EvaluationError),
    #[error(transparent)]
    Keys(#[from] NoKeys),
    #[error("the request could not be signed")]
    Sign(#[source] SigningKeyError),
}

/// Answers of the last minute, and calls in progress: by login, its time, and service.
type Answers = Cache<(IdentityNonce, UnixTime, String), Option<bool>>;

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
    issuer: Arc<TokenIssuer>,
    records: Arc<Records>,
    identities: Arc<Identities>,
    http: HttpClient,
    answers: Answers,
}

impl Evaluator {
    pub(super) fn new(
        running: Arc<Running>,
        issuer: Arc<TokenIssuer>,
        records: Arc<Records>,
        identities: Arc<Identities>,
        http: HttpClient,
    ) -> Self {
        Self {
            running,
            issuer,
            records,
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
                    tracing::error!(%error, request_id = %question.request, "calling an evaluation service failed");
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
        let _one = self.records.lock(nonce).await;
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
        let kept = self.records.update(nonce, identity, expires).await;
        kept.inspect_err(|error| self.records.failed(error))
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
                tracing::warn!(url, %request_id, error, "no response from an evaluation service; treating the rule as unknown");
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
        let keys = service.keys(&self.http, &self.clock, None).await?;
        match read(&keys) {
            // The service may have rotated its keys since they were fetched, so they are fetched
            // once more.
            Err(EvaluationError::Token(error)) if error.may_be_rotation() => {
                read(&*service.keys(&self.http, &self.clock, Some(&keys)).await?)
            }
            answer => answer,
        }
        .map_err(NoAnswer::Answer)
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
/// An answer is four claims and a signature.
const MAX_ANSWER: usize = 32 * 1024;
// Bounds the memory. The service is called again for an answer that was evicted.
const MOST_ANSWERS: u64 = 100_000;
