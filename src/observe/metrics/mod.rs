//! Metrics, in the same registry as Pingora's own.
//!
//! Decides names and labels. Relies on callers to count once. Never takes a lock or looks up a
//! label for an allowed request: each counter of the hot path has a fixed index in a table. Never
//! panics if a name is already registered: such a metric counts but is not exported.

use std::sync::OnceLock;

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, TextEncoder};

pub use self::labels::{Decision, Evaluation, Fetch, Login, Logout, Reload, UpstreamError};
use crate::model::{Reason, UnixTime};
use crate::store::StoreError;

mod families;
mod labels;

/// All metrics of the process.
#[derive(Debug)]
pub struct Metrics {
    requests: IntCounterVec,
    cuts: IntCounterVec,
    shadows: IntCounterVec,
    service_tokens: IntCounterVec,
    request: [[OnceLock<IntCounter>; REASONS]; Decision::ALL.len()],
    logins: IntCounterVec,
    logouts: [IntCounter; Logout::ALL.len()],
    jwks_fetched: IntGaugeVec,
    certificates: IntGaugeVec,
    jwks_fetches: IntCounterVec,
    store_errors: IntCounterVec,
    store_writable: IntGauge,
    revocations_followed: IntGauge,
    reloads: [IntCounter; Reload::ALL.len()],
    country_databases: IntCounterVec,
    evaluations: [IntCounter; Evaluation::ALL.len()],
    generation: IntGauge,
    upstream: [IntCounter; UpstreamError::ALL.len()],
    log_lines_dropped: IntCounter,
    in_flight: IntGauge,
}

/// Counts a request in progress as long as this value exists.
#[derive(Debug)]
pub struct InFlight(&'static IntGauge);

impl Default for InFlight {
    fn default() -> Self {
        let gauge = &metrics().in_flight;
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// The metrics of one issuer's keys, looked up once when the issuer is configured.
#[derive(Clone, Debug)]
pub struct JwksMetrics {
    fetched: IntGauge,
    outcomes: [IntCounter; Fetch::ALL.len()],
}

/// Returns the metrics of this process. The first call registers them.
pub fn metrics() -> &'static Metrics {
    static METRICS: OnceLock<Metrics> = OnceLock::new();
    METRICS.get_or_init(Metrics::new)
}

/// Returns the whole registry, including Pingora's metrics, in text format 0.0.4.
pub fn text() -> String {
    let mut out = String::new();
    // Encoding fails only at a family without samples or a name; everything before it is already
    // written.
    let _ = TextEncoder::new().encode_utf8(&prometheus::gather(), &mut out);
    out
}

/// The `Content-Type` of [`text`].
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

impl Metrics {
    fn new() -> Self {
        let metrics = Self {
            request: Default::default(),
            requests: families::REQUESTS.counters(),
            cuts: families::CUTS.counters(),
            shadows: families::SHADOWS.counters(),
            service_tokens: families::SERVICE_TOKENS.counters(),
            logins: families::LOGINS.counters(),
            logouts: families::LOGOUTS.counters_of(Logout::ALL.map(Logout::as_str)),
            jwks_fetched: families::JWKS_FETCHED.gauges(),
            certificates: families::CERTIFICATES.gauges(),
            jwks_fetches: families::JWKS_FETCHES.counters(),
            store_errors: families::STORE_ERRORS.counters(),
            store_writable: families::STORE_WRITABLE.gauge(),
            revocations_followed: families::REVOCATIONS_FOLLOWED.gauge(),
            country_databases: families::COUNTRY_DATABASES.counters(),
            reloads: families::RELOADS.counters_of(Reload::ALL.map(Reload::as_str)),
            generation: families::GENERATION.gauge(),
            evaluations: families::EVALUATIONS.counters_of(Evaluation::ALL.map(Evaluation::as_str)),
            upstream: families::UPSTREAM.counters_of(UpstreamError::ALL.map(UpstreamError::as_str)),
            log_lines_dropped: families::LOG_LINES_DROPPED.counter(),
            in_flight: families::IN_FLIGHT.gauge(),
        };
        metrics
            .requests
            .with_label_values(&[Decision::Allow.as_str(), NO_REASON]);
        metrics.store_writable.set(1);
        for outcome in [Reload::Applied, Reload::Rejected] {
            metrics
                .country_databases
                .with_label_values(&[outcome.as_str()]);
        }
        for kind in StoreError::KINDS {
            metrics.store_errors.with_label_values(&[kind]);
        }
        metrics
    }

    /// Counts a request.
    pub fn request(&self, decision: Decision, reason: Option<Reason>) {
        let bind = || {
            self.requests
                .with_label_values(&[decision.as_str(), reason.map_or(NO_REASON, Reason::id)])
        };
        let row = reason.map_or(0, |reason| reason as usize + 1);
        match self
            .request
            .get(decision as usize)
            .and_then(|rows| rows.get(row))
        {
            Some(place) => place.get_or_init(bind).inc(),
            None => bind().inc(),
        }
    }

    /// Counts a request that was terminated while in progress. There is no reason if it could not
    /// be evaluated, or if it now belongs to another application.
    pub fn cut(&self, reason: Option<Reason>) {
        self.cuts
            .with_label_values(&[reason.map_or(NO_REASON, Reason::id)])
            .inc();
    }

    /// Counts a request that a shadow policy would have decided.
    pub fn shadow(&self, application: &str, policy: &str, outcome: &'static str) {
        self.shadows
            .with_label_values(&[application, policy, outcome])
            .inc();
    }

    /// Counts a request with the client ID of a service token, valid or not.
    pub fn service_token(&self, id: &str, decision: Decision) {
        self.service_tokens
            .with_label_values(&[id, decision.as_str()])
            .inc();
    }

    /// Counts a login; `reason` is its reason ID, one of a closed list. A successful login has the
    /// reason `session` if the team's session sufficed, and none if it used the provider.
    pub fn login(&self, outcome: Login, reason: Option<&'static str>) {
        self.logins
            .with_label_values(&[outcome.as_str(), reason.unwrap_or(NO_REASON)])
            .inc();
    }

    /// Returns the metrics of this issuer's keys.
    pub fn jwks(&self, issuer: &str) -> JwksMetrics {
        JwksMetrics {
            fetched: self.jwks_fetched.with_label_values(&[issuer]),
            outcomes: Fetch::ALL.map(|outcome| {
                self.jwks_fetches
                    .with_label_values(&[issuer, outcome.as_str()])
            }),
        }
    }

    /// Sets the expiry time of the certificate in this file.
    pub fn certificate_not_after(&self, file: &str, end: UnixTime) {
        self.certificates
            .with_label_values(&[file])
            .set(i64::try_from(end.0).unwrap_or(i64::MAX));
    }

    /// Counts a store call without a response.
    pub fn store_error(&self, error: &StoreError) {
        self.store_errors.with_label_values(&[error.kind()]).inc();
    }

    /// Counts a logout.
    pub fn logout(&self, outcome: Logout) {
        if let Some(counter) = self.logouts.get(outcome as usize) {
            counter.inc();
        }
    }

    /// Records the result of the last write to the store: `true` if it succeeded.
    pub fn store_writable(&self, writable: bool) {
        self.store_writable.set(i64::from(writable));
    }

    /// Records that all revocations in the store up to this time are known.
    pub fn revocations_followed(&self, now: UnixTime) {
        self.revocations_followed
            .set(i64::try_from(now.0).unwrap_or(i64::MAX));
    }

    /// Counts a reload.
    pub fn reload(&self, outcome: Reload) {
        if let Some(counter) = self.reloads.get(outcome as usize) {
            counter.inc();
        }
    }

    /// Counts a new file of the country database.
    pub fn country_database(&self, outcome: Reload) {
        self.country_databases
            .with_label_values(&[outcome.as_str()])
            .inc();
    }

    /// Counts an external evaluation about a user.
    pub fn evaluation(&self, outcome: Evaluation) {
        if let Some(counter) = self.evaluations.get(outcome as usize) {
            counter.inc();
        }
    }

    /// Sets the number of the configuration in use.
    pub fn generation(&self, generation: u64) {
        self.generation
            .set(i64::try_from(generation).unwrap_or(i64::MAX));
    }

    /// Counts an error of an origin.
    pub fn upstream_error(&self, kind: UpstreamError) {
        if let Some(counter) = self.upstream.get(kind as usize) {
            counter.inc();
        }
    }

    /// Returns the number of requests in progress.
    pub fn in_flight(&self) -> i64 {
        self.in_flight.get()
    }

    /// Counts a dropped log line.
    pub fn log_line_dropped(&self) {
        self.log_lines_dropped.inc();
    }
}

impl JwksMetrics {
    /// Counts a fetch. A successful one resets the age of the keys.
    pub fn fetch(&self, outcome: Fetch, now: UnixTime) {
        if let Some(counter) = self.outcomes.get(outcome as usize) {
            counter.inc();
        }
        if outcome == Fetch::Success {
            self.fetched.set(i64::try_from(now.0).unwrap_or(i64::MAX));
        }
    }
}

const NO_REASON: &str = "none";

/// The number of reasons with a fixed counter: one for no reason, one for each reason, and some to
/// spare. A test checks it.
const REASONS: usize = 32;

#[cfg(test)]
mod tests;
