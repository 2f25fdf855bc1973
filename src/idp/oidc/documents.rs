use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use http::{HeaderMap, StatusCode, header};
use moka::Expiry;
use moka::future::Cache;
use tracing::warn;

use crate::http_client::{HttpClient, MAX_DOCUMENT, Response};
use crate::idp::{Ages, ClientSettings, Endpoint, LoginFailure};
use crate::model::FetchBudget;
use crate::oidc::{self, Endpoints, KeySet, Metadata, MetadataError, OptionalEndpoints};

/// The published documents of one provider: discovery document and keys.
///
/// Concurrent logins share one fetch. Endpoints in use are pinned to the origins in the first
/// document: if a token endpoint moves to another host under the same issuer, no client secret is
/// sent there. The last good document is kept until it is stale. A configuration reload removes the
/// pins.
pub(in crate::idp) struct Documents {
    http: HttpClient,
    issuer: Box<str>,
    /// Configured endpoints in place of a discovery document.
    fixed: Option<Endpoints>,
    metadata: CachedDocument<Metadata>,
    keys: CachedDocument<KeySet>,
    /// The optional endpoints that logins or logouts use.
    used: OptionalEndpoints,
    pinned: OnceLock<BTreeSet<String>>,
}

impl Documents {
    pub(super) fn new(
        http: HttpClient,
        issuer: &str,
        fixed: Option<Endpoints>,
        settings: &ClientSettings,
    ) -> Self {
        let ClientSettings {
            ages,
            pushed_requests,
            provider_logout,
            ..
        } = *settings;
        let used = OptionalEndpoints {
            pushed_requests,
            provider_logout,
        };
        let (metadata, keys) = (CachedDocument::new(ages), CachedDocument::new(ages));
        Self {
            http,
            issuer: issuer.into(),
            fixed,
            metadata,
            keys,
            used,
            pinned: OnceLock::new(),
        }
    }

    pub(in crate::idp) fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Returns the URL of the first call: the discovery document, or the keys if the endpoints are
    /// configured.
    pub(in crate::idp) fn first(&self) -> Option<url::Url> {
        match &self.fixed {
            Some(endpoints) => Some(endpoints.jwks.clone()),
            None => Metadata::location(&self.issuer),
        }
    }

    /// Returns `true` if the endpoints are configured, without a discovery document.
    pub(in crate::idp) const fn is_fixed(&self) -> bool {
        self.fixed.is_some()
    }

    pub(in crate::idp) async fn metadata(&self) -> Result<Arc<Metadata>, LoginFailure> {
        self.metadata.get(&self.issuer, self.fetch_metadata()).await
    }

    pub(in crate::idp) async fn keys(
        &self,
        metadata: &Metadata,
    ) -> Result<Arc<KeySet>, LoginFailure> {
        self.keys.get(&self.issuer, self.fetch_keys(metadata)).await
    }

    /// Returns newer keys after none of `failed` verified a token. Returns `failed` itself if no
    /// fetch is allowed now.
    pub(super) async fn rotated_keys(
        &self,
        metadata: &Metadata,
        failed: &Arc<KeySet>,
    ) -> Result<Arc<KeySet>, LoginFailure> {
        self.keys
            .replace(&self.issuer, failed, self.fetch_keys(metadata))
            .await
    }

    async fn fetch_metadata(&self) -> Result<Metadata, LoginFailure> {
        if let Some(endpoints) = &self.fixed {
            return Ok(Metadata::from_endpoints(&self.issuer, endpoints.clone())?);
        }
        let location = Metadata::location(&self.issuer).ok_or_else(|| {
            LoginFailure::Discovery(MetadataError::Malformed(format!(
                "`{}` is not a URL",
                self.issuer
            )))
        })?;
        let body = self.fetch(Endpoint::Discovery, &location).await?;
        let metadata = Metadata::read(&body, &self.issuer)?;
        for member in metadata.unreadable() {
            warn!(
                issuer = &*self.issuer,
                member, "ignoring an unreadable member of the discovery document"
            );
        }
        let origins = metadata.origins(self.used);
        let pinned = self.pinned.get_or_init(|| origins.clone());
        // A changed origin may be an attack on the provider's document. A reload accepts it.
        if *pinned != origins {
            let list =
                |origins: &BTreeSet<String>| origins.iter().cloned().collect::<Vec<_>>().join(", ");
            return Err(LoginFailure::Moved {
                from: list(pinned),
                to: list(&origins),
            });
        }
        Ok(metadata)
    }

    async fn fetch_keys(&self, metadata: &Metadata) -> Result<KeySet, LoginFailure> {
        let body = self.fetch(Endpoint::Keys, metadata.jwks()).await?;
        let keys = KeySet::from_jwks(&body).map_err(LoginFailure::Keys)?;
        for key in keys.unreadable() {
            warn!(
                issuer = &*self.issuer,
                key, "ignoring an unusable key of the JWKS"
            );
        }
        Ok(keys)
    }

    async fn fetch(
        &self,
        endpoint: Endpoint,
        url: &url::Url,
    ) -> Result<bytes::Bytes, LoginFailure> {
        let answer = self
            .http
            .get(url, HeaderMap::new(), MAX_DOCUMENT)
            .await
            .map_err(|source| LoginFailure::Unreachable { endpoint, source })?;
        match answer.status {
            StatusCode::OK => Ok(answer.body),
            _ => Err(refused(endpoint, &answer)),
        }
    }
}

/// Converts a response with another status than 200.
pub(super) fn refused(endpoint: Endpoint, answer: &Response) -> LoginFailure {
    let status = answer.status;
    match answer
        .headers
        .get(header::LOCATION)
        .map(|to| to.to_str().unwrap_or_default())
    {
        Some(to) if status.is_redirection() => LoginFailure::Redirect {
            endpoint,
            status,
            to: oidc::one_line(to, 200),
        },
        _ => LoginFailure::Answer { endpoint, status },
    }
}

/// A cached document with its fetches.
struct CachedDocument<T> {
    /// The last good document, until it is stale.
    known: Cache<Box<str>, Dated<T>>,
    /// Fetches in progress, and for a while their failures.
    attempts: Cache<(Box<str>, Trigger), Result<Arc<T>, LoginFailure>>,
    fresh: Duration,
    /// Limits the fetches that tokens can cause.
    budget: Mutex<FetchBudget>,
}

struct Dated<T> {
    value: Arc<T>,
    at: Instant,
}

impl<T> Clone for Dated<T> {
    fn clone(&self) -> Self {
        Self {
            value: Arc::clone(&self.value),
            at: self.at,
        }
    }
}

/// The reason for a fetch. The two are kept apart: keys can rotate just after a fetch, so a
/// remembered result for one must not delay the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Trigger {
    Age,
    UnknownKey,
}

impl<T: Send + Sync + 'static> CachedDocument<T> {
    fn new(ages: Ages) -> Self {
        Self {
            known: Cache::builder()
                .max_capacity(MAX_ISSUERS)
                .time_to_live(ages.stale)
                .build(),
            attempts: Cache::builder()
                .max_capacity(2 * MAX_ISSUERS)
                .expire_after(AttemptExpiry {
                    failure: ages.failure,
                })
                .build(),
            fresh: ages.fresh,
            budget: Mutex::new(FetchBudget::new(ages.cooldown, Instant::now())),
        }
    }

    async fn get(
        &self,
        issuer: &str,
        fetch: impl Future<Output = Result<T, LoginFailure>>,
    ) -> Result<Arc<T>, LoginFailure> {
        let known = self.known.get(issuer).await;
        if let Some(Dated { value, at }) = &known
            && at.elapsed() < self.fresh
        {
            return Ok(Arc::clone(value));
        }
        match (self.renew(issuer, Trigger::Age, fetch).await, known) {
            // A provider's outage must not end logins while its last keys are still trusted.
            (Err(_), Some(stale)) => Ok(stale.value),
            (result, _) => result,
        }
    }

    /// Returns a document other than `failed`: the current one, a new one, or `failed` itself if
    /// the budget is used up.
    async fn replace(
        &self,
        issuer: &str,
        failed: &Arc<T>,
        fetch: impl Future<Output = Result<T, LoginFailure>>,
    ) -> Result<Arc<T>, LoginFailure> {
        if let Some(known) = self
            .known
            .get(issuer)
            .await
            .filter(|known| !Arc::ptr_eq(&known.value, failed))
        {
            return Ok(known.value);
        }
        let budgeted = async {
            // Another login may have fetched it since the check above.
            if let Some(known) = self
                .known
                .get(issuer)
                .await
                .filter(|known| !Arc::ptr_eq(&known.value, failed))
            {
                return Ok(Arc::clone(&known.value));
            }
            let allowed = self
                .budget
                .lock()
                .is_ok_and(|mut budget| budget.take(Instant::now()));
            if allowed {
                self.fetch_and_store(issuer, fetch).await
            } else {
                Ok(Arc::clone(failed))
            }
        };
        self.attempts
            .get_with((issuer.into(), Trigger::UnknownKey), Box::pin(budgeted))
            .await
    }

    async fn renew(
        &self,
        issuer: &str,
        trigger: Trigger,
        fetch: impl Future<Output = Result<T, LoginFailure>>,
    ) -> Result<Arc<T>, LoginFailure> {
        // Boxed, because the future of a login holds several of these.
        self.attempts
            .get_with(
                (issuer.into(), trigger),
                Box::pin(self.fetch_and_store(issuer, fetch)),
            )
            .await
    }

    async fn fetch_and_store(
        &self,
        issuer: &str,
        fetch: impl Future<Output = Result<T, LoginFailure>>,
    ) -> Result<Arc<T>, LoginFailure> {
        let value = Arc::new(fetch.await.inspect_err(|failure: &LoginFailure| {
            warn!(
                issuer,
                failure = failure as &(dyn std::error::Error + 'static),
                "fetching from the identity provider failed"
            );
        })?);
        let dated = Dated {
            value: Arc::clone(&value),
            at: Instant::now(),
        };
        self.known.insert(issuer.into(), dated).await;
        Ok(value)
    }
}

/// The lifetime of a fetch's result.
struct AttemptExpiry {
    failure: Duration,
}

impl<T> Expiry<(Box<str>, Trigger), Result<Arc<T>, LoginFailure>> for AttemptExpiry {
    fn expire_after_create(
        &self,
        _: &(Box<str>, Trigger),
        end: &Result<Arc<T>, LoginFailure>,
        _: Instant,
    ) -> Option<Duration> {
        // The budget already limits the fetches that tokens cause, so failures need not be kept
        // longer.
        Some(if end.is_ok() {
            Duration::ZERO
        } else {
            self.failure
        })
    }
}

/// A provider has one issuer today.
// The caches are keyed by issuer, and a configuration change brings a new one.
const MAX_ISSUERS: u64 = 16;
