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
    let fetched = r#"portcullis_jwks_fetched_timestamp_seconds{issuer="https://team.example.com"}"#;
    assert_eq!(
        sample(fetched),
        Some(1_700_000_000),
        "a failed fetch makes nothing younger"
    );
    let unusable =
        r#"portcullis_jwks_fetches_total{issuer="https://team.example.com",outcome="unusable"}"#;
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
