//! Metrics, in the same registry as Pingora's own.
//!
//! Decides names and labels. Relies on callers to count once. Never takes a lock or looks up a
//! label for an allowed request: each counter of the hot path has a fixed index in a table. Never
//! panics if a name is already registered: such a metric counts but is not exported.

use std::sync::OnceLock;

use prometheus::core::Collector;
use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, TextEncoder};

use crate::model::{Reason, UnixTime};
use crate::store::StoreError;

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

/// Defines an enum of label values, each with a word and an index.
macro_rules! labels {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$variant_doc])* $variant,)+ }

        impl $name {
            /// All values, in order.
            pub const ALL: [Self; [$(Self::$variant,)+].len()] = [$(Self::$variant,)+];

            /// Returns the label value.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }
    };
}

labels! {
    /// The decision about a request.
    Decision {
        /// Forwarded to the origin.
        Allow = "allow",
        /// Redirected to the login, or asked to log in.
        Login = "login",
        /// Denied.
        Deny = "deny",
        /// No decision was possible.
        Unavailable = "unavailable",
        /// Answered by one of our own endpoints.
        Endpoint = "endpoint",
    }
}

labels! {
    /// The outcome of a login.
    Login {
        /// A session was created.
        Success = "success",
        /// The provider or a policy denied it.
        Refused = "refused",
        /// The response did not match the request: state, nonce, code or token.
        Invalid = "invalid",
        /// The provider or the store did not respond.
        Unavailable = "unavailable",
    }
}

labels! {
    /// The outcome of a logout.
    Logout {
        /// All sessions in question have ended.
        Success = "success",
        /// The store did not respond.
        Unavailable = "unavailable",
        /// The request had more tokens than are verified.
        Invalid = "invalid",
    }
}

labels! {
    /// The outcome of a JWKS fetch.
    Fetch {
        /// The response contained keys.
        Success = "success",
        /// There was no response, or its status was not 200.
        Unreachable = "unreachable",
        /// The response contained no usable keys.
        Unusable = "unusable",
    }
}

labels! {
    /// The answer of an external evaluation about a user.
    Evaluation {
        /// The rule matches.
        Yes = "yes",
        /// The rule does not match.
        No = "no",
        /// There is no valid answer.
        Unknown = "unknown",
    }
}

labels! {
    /// The outcome of a configuration reload.
    Reload {
        /// The new configuration is in use.
        Applied = "applied",
        /// The previous configuration stays in use.
        Rejected = "rejected",
        /// The configuration has not changed.
        Unchanged = "unchanged",
    }
}

labels! {
    /// The kind of an origin's failure.
    UpstreamError {
        /// There is no connection.
        Connect = "connect",
        /// TLS failed, or the certificate is for another name.
        Tls = "tls",
        /// A time limit was exceeded.
        Timeout = "timeout",
        /// The connection was closed during the exchange.
        Closed = "closed",
        /// The response violates HTTP.
        Protocol = "protocol",
        /// No origin of the application is healthy.
        NoPeer = "no_peer",
        /// The process has no file descriptors left.
        NoDescriptor = "no_descriptor",
        /// Any other failure.
        Other = "other",
    }
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
        let reloads = counters(
            "config_reloads_total",
            "Reloads of the configuration by outcome.",
            &["outcome"],
        );
        let evaluations = counters(
            "external_evaluations_total",
            "External evaluations about users, by outcome; `unknown` never grants access.",
            &["outcome"],
        );
        let logouts = counters(
            "logouts_total",
            "Logouts of browsers by outcome.",
            &["outcome"],
        );
        let upstream = counters(
            "upstream_errors_total",
            "Errors of origins by kind.",
            &["kind"],
        );
        let metrics = Self {
            request: Default::default(),
            requests: counters(
                "requests_total",
                "Requests by decision and reason.",
                &["decision", "reason"],
            ),
            cuts: counters(
                "requests_cut_total",
                "Requests terminated while in progress, by reason.",
                &["reason"],
            ),
            shadows: counters(
                "shadow_policies_total",
                "Requests that a shadow policy would have decided, by application, policy and outcome.",
                &["application", "policy", "outcome"],
            ),
            service_tokens: counters(
                "service_token_requests_total",
                "Requests with the client id of a service token, by its id and by decision.",
                &["service_token", "decision"],
            ),
            logins: counters(
                "logins_total",
                "Ended logins by outcome and reason.",
                &["outcome", "reason"],
            ),
            logouts: Logout::ALL.map(|outcome| logouts.with_label_values(&[outcome.as_str()])),
            jwks_fetched: register(IntGaugeVec::new(
                named(
                    "jwks_fetched_timestamp_seconds",
                    "Time at which the keys in use were fetched; `time()` minus this is their age.",
                ),
                &["issuer"],
            )),
            certificates: register(IntGaugeVec::new(
                named(
                    "certificate_not_after_timestamp_seconds",
                    "Time at which the certificate of a listener expires; this minus `time()` is its remaining \
                     validity.",
                ),
                &["certificate"],
            )),
            jwks_fetches: counters(
                "jwks_fetches_total",
                "Fetches of keys by outcome.",
                &["issuer", "outcome"],
            ),
            store_errors: counters(
                "store_errors_total",
                "Store calls without a response by kind.",
                &["kind"],
            ),
            store_writable: register(IntGauge::with_opts(named(
                "store_writable",
                "1 if the last write to the store succeeded; 0 if not, so that logins and logouts fail.",
            ))),
            revocations_followed: register(IntGauge::with_opts(named(
                "revocations_followed_timestamp_seconds",
                "Time at which the store's revocations were last read completely; `time()` minus this is their age.",
            ))),
            country_databases: counters(
                "country_database_reads_total",
                "New files of the country database by outcome; if `rejected`, the previous one stays in use.",
                &["outcome"],
            ),
            reloads: Reload::ALL.map(|outcome| reloads.with_label_values(&[outcome.as_str()])),
            generation: register(IntGauge::with_opts(named(
                "config_generation",
                "The number of the configuration in use, counted from 1 since the start.",
            ))),
            evaluations: Evaluation::ALL
                .map(|outcome| evaluations.with_label_values(&[outcome.as_str()])),
            upstream: UpstreamError::ALL.map(|kind| upstream.with_label_values(&[kind.as_str()])),
            log_lines_dropped: register(IntCounter::with_opts(named(
                "log_lines_dropped_total",
                "Log lines dropped because the reader of the log was too slow.",
            ))),
            in_flight: register(IntGauge::with_opts(named(
                "requests_in_flight",
                "Requests in progress, from the end of their head; tunnels until they are closed.",
            ))),
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

fn counters(name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    register(IntCounterVec::new(named(name, help), labels))
}

fn named(name: &str, help: &str) -> Opts {
    Opts::new(name, help).namespace("portcullis")
}

#[expect(
    clippy::expect_used,
    reason = "names and labels are constants of this file, and a test makes them all"
)]
fn register<M: Collector + Clone + 'static>(made: prometheus::Result<M>) -> M {
    let metric = made.expect("the names and labels are valid");
    if let Err(error) = prometheus::default_registry().register(Box::new(metric.clone())) {
        tracing::warn!(%error, "a metric could not be registered and is not exported");
    }
    metric
}

const NO_REASON: &str = "none";

/// The number of reasons with a fixed counter: one for no reason, one for each reason, and some to
/// spare. A test checks it.
const REASONS: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(name: &str) -> Option<u64> {
        let text = text();
        let line = text.lines().find(|line| {
            line.strip_prefix(name)
                .is_some_and(|rest| rest.starts_with(' '))
        })?;
        line.rsplit(' ').next()?.parse().ok()
    }

    #[test]
    fn all_counters_are_exported_once() {
        let metrics = metrics();
        // Tests of this process share the metrics. No other test counts these.
        metrics.request(Decision::Deny, Some(Reason::TargetTooLong));
        metrics.request(Decision::Deny, Some(Reason::TargetTooLong));
        metrics.login(Login::Invalid, Some("state"));
        metrics.store_error(&StoreError::Malformed { what: "identity" });
        metrics.reload(Reload::Rejected);
        metrics.upstream_error(UpstreamError::NoPeer);
        assert!(
            sample(r#"portcullis_requests_total{decision="allow",reason="none"}"#).is_some(),
            "there from the start"
        );
        assert_eq!(
            sample(r#"portcullis_requests_total{decision="deny",reason="target_too_long"}"#),
            Some(2)
        );
        assert_eq!(
            sample(r#"portcullis_logins_total{outcome="invalid",reason="state"}"#),
            Some(1)
        );
        assert_eq!(
            sample(r#"portcullis_store_errors_total{kind="malformed"}"#),
            Some(1)
        );
        assert_eq!(
            sample(r#"portcullis_store_errors_total{kind="unavailable"}"#),
            Some(0)
        );
        assert_eq!(
            sample(r#"portcullis_config_reloads_total{outcome="rejected"}"#),
            Some(1)
        );
        // Other tests set these gauges, too.
        assert!((0..100).any(|_| {
            metrics.generation(7);
            sample("portcullis_config_generation") == Some(7)
        }));
        assert!((0..100).any(|_| {
            metrics.revocations_followed(UnixTime(1_700_000_000));
            sample("portcullis_revocations_followed_timestamp_seconds") == Some(1_700_000_000)
        }));
        assert_eq!(
            sample(r#"portcullis_upstream_errors_total{kind="no_peer"}"#),
            Some(1)
        );
    }

    #[test]
    fn request_is_in_flight_until_dropped() {
        let (first, second) = (InFlight::default(), InFlight::default());
        assert_eq!(
            (
                metrics().in_flight(),
                sample("portcullis_requests_in_flight")
            ),
            (2, Some(2))
        );
        drop(first);
        assert_eq!(metrics().in_flight(), 1);
        drop(second);
        assert_eq!(metrics().in_flight(), 0);
    }

    #[test]
    fn jwks_age_is_set_by_a_successful_fetch() {
        let jwks = metrics().jwks("https://team.example.com");
        jwks.fetch(Fetch::Success, UnixTime(1_700_000_000));
        jwks.fetch(Fetch::Unusable, UnixTime(1_700_000_100));
        let fetched =
            r#"portcullis_jwks_fetched_timestamp_seconds{issuer="https://team.example.com"}"#;
        assert_eq!(
            sample(fetched),
            Some(1_700_000_000),
            "a failed fetch makes nothing younger"
        );
        let unusable = r#"portcullis_jwks_fetches_total{issuer="https://team.example.com",outcome="unusable"}"#;
        assert_eq!(sample(unusable), Some(1));
    }

    #[test]
    fn duplicate_registration_counts_and_does_not_panic() {
        metrics();
        let second = Metrics::new();
        let bodies = [Decision::Login.as_str(), Reason::BodyTooLarge.id()];
        second.request(Decision::Login, Some(Reason::BodyTooLarge));
        assert_eq!(second.requests.with_label_values(&bodies).get(), 1);
        assert_eq!(metrics().requests.with_label_values(&bodies).get(), 0);
    }

    #[test]
    fn every_reason_has_its_own_counter() {
        // The last variant of the enum.
        assert!(Reason::Internal as usize + 1 < REASONS);
    }
}
