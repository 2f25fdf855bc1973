//! The names, help texts and labels of all metrics.

use prometheus::core::Collector;
use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts};

/// A metric before it is registered.
pub(super) struct Family {
    name: &'static str,
    help: &'static str,
    labels: &'static [&'static str],
}

const fn family(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Family {
    Family { name, help, labels }
}

pub(super) const REQUESTS: Family = family(
    "requests_total",
    "Requests by decision and reason.",
    &["decision", "reason"],
);
pub(super) const CUTS: Family = family(
    "requests_cut_total",
    "Requests terminated while in progress, by reason.",
    &["reason"],
);
pub(super) const SHADOWS: Family = family(
    "shadow_policies_total",
    "Requests that a shadow policy would have decided, by application, policy and outcome.",
    &["application", "policy", "outcome"],
);
pub(super) const SERVICE_TOKENS: Family = family(
    "service_token_requests_total",
    "Requests with the client id of a service token, by its id and by decision.",
    &["service_token", "decision"],
);
pub(super) const LOGINS: Family = family(
    "logins_total",
    "Ended logins by outcome and reason.",
    &["outcome", "reason"],
);
pub(super) const LOGOUTS: Family = family(
    "logouts_total",
    "Logouts of browsers by outcome.",
    &["outcome"],
);
pub(super) const JWKS_FETCHED: Family = family(
    "jwks_fetched_timestamp_seconds",
    "Time at which the keys in use were fetched; `time()` minus this is their age.",
    &["issuer"],
);
pub(super) const CERTIFICATES: Family = family(
    "certificate_not_after_timestamp_seconds",
    "Time at which the certificate of a listener expires; this minus `time()` is its remaining validity.",
    &["certificate"],
);
pub(super) const JWKS_FETCHES: Family = family(
    "jwks_fetches_total",
    "Fetches of keys by outcome.",
    &["issuer", "outcome"],
);
pub(super) const STORE_ERRORS: Family = family(
    "store_errors_total",
    "Store calls without a response by kind.",
    &["kind"],
);
pub(super) const STORE_WRITABLE: Family = family(
    "store_writable",
    "1 if the last write to the store succeeded; 0 if not, so that logins and logouts fail.",
    &[],
);
pub(super) const REVOCATIONS_FOLLOWED: Family = family(
    "revocations_followed_timestamp_seconds",
    "Time at which the store's revocations were last read completely; `time()` minus this is their age.",
    &[],
);
pub(super) const RELOADS: Family = family(
    "config_reloads_total",
    "Reloads of the configuration by outcome.",
    &["outcome"],
);
pub(super) const COUNTRY_DATABASES: Family = family(
    "country_database_reads_total",
    "New files of the country database by outcome; if `rejected`, the previous one stays in use.",
    &["outcome"],
);
pub(super) const EVALUATIONS: Family = family(
    "external_evaluations_total",
    "External evaluations about users, by outcome; `unknown` never grants access.",
    &["outcome"],
);
pub(super) const GENERATION: Family = family(
    "config_generation",
    "The number of the configuration in use, counted from 1 since the start.",
    &[],
);
pub(super) const UPSTREAM: Family = family(
    "upstream_errors_total",
    "Errors of origins by kind.",
    &["kind"],
);
pub(super) const LOG_LINES_DROPPED: Family = family(
    "log_lines_dropped_total",
    "Log lines dropped because the reader of the log was too slow.",
    &[],
);
pub(super) const IN_FLIGHT: Family = family(
    "requests_in_flight",
    "Requests in progress, from the end of their head; tunnels until they are closed.",
    &[],
);

impl Family {
    pub(super) fn counters(&self) -> IntCounterVec {
        register(IntCounterVec::new(self.opts(), self.labels))
    }

    /// Returns the counters of all values of the only label.
    pub(super) fn counters_of<const N: usize>(&self, values: [&str; N]) -> [IntCounter; N] {
        let counters = self.counters();
        values.map(|value| counters.with_label_values(&[value]))
    }

    pub(super) fn counter(&self) -> IntCounter {
        register(IntCounter::with_opts(self.opts()))
    }

    pub(super) fn gauges(&self) -> IntGaugeVec {
        register(IntGaugeVec::new(self.opts(), self.labels))
    }

    pub(super) fn gauge(&self) -> IntGauge {
        register(IntGauge::with_opts(self.opts()))
    }

    fn opts(&self) -> Opts {
        Opts::new(self.name, self.help).namespace("portcullis")
    }
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
