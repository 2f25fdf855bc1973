//! Running requests, which are allowed only as long as a new request would be.
//!
//! Decides when a running request is evaluated again, and when it is cut. Trusts the engine, which
//! decides as for a new request. Never prolongs a request.

use std::future::Future;
use std::time::Duration;

use http::{HeaderMap, header};
use tokio::time::{Instant, sleep_until, timeout};

use super::{Gate, MAX_NEEDS, audit};
use crate::engine::{Decision, Need, Permit, Refusal, decide};
use crate::model::{Reason, RequestId, RequestView};

/// The result of evaluating a running request again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reevaluation {
    /// A new request would be allowed.
    Allowed,
    /// A fact that the decision needs is not known at present.
    Unknown,
    /// A new request would not be allowed.
    Ended(Option<Reason>),
}

/// A running request that can be evaluated again.
pub(crate) trait Evaluate: Send + Sync + 'static {
    /// Evaluates the request as a new one.
    fn evaluate(&self) -> impl Future<Output = Reevaluation> + Send;

    /// Records that the request is cut, and returns the id of the record.
    fn record_cut(&self, reason: Option<Reason>) -> RequestId;
}

/// Waits until a request is no longer allowed. One unknown result is tolerated, but not two in a
/// row.
pub(crate) async fn until_ended(
    request: &impl Evaluate,
    first: Duration,
    every: Duration,
) -> Option<Reason> {
    let mut next = Instant::now() + first;
    let mut was_unknown = false;
    loop {
        sleep_until(next).await;
        next = Instant::now() + every;
        // An evaluation that does not end must not keep the request alive.
        match timeout(every, request.evaluate())
            .await
            .unwrap_or(Reevaluation::Unknown)
        {
            Reevaluation::Allowed => was_unknown = false,
            // A short outage of the store must not cut every long request.
            Reevaluation::Unknown if !was_unknown => was_unknown = true,
            Reevaluation::Unknown => return None,
            Reevaluation::Ended(reason) => return reason,
        }
    }
}

/// Returns `true` if a message with these headers may take long: its length is unknown or large.
pub(crate) fn may_last(headers: &HeaderMap) -> bool {
    let length = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    length.is_none_or(|length| length > LARGE)
}

impl Gate {
    /// Evaluates a running request as a new one, and fetches the facts that this needs.
    pub(crate) async fn judge(&self, request: &RequestView<'_>, permit: &Permit) -> Reevaluation {
        let mut fetched = Vec::new();
        loop {
            match self.judge_now(request, permit) {
                Ok(result) => return result,
                Err(need) if fetched.len() < MAX_NEEDS && !fetched.contains(&need) => {
                    fetched.push(need.clone());
                    self.access.resolve(need).await;
                }
                Err(_) => return Reevaluation::Unknown,
            }
        }
    }

    /// Evaluates a running request as a new one.
    ///
    /// # Errors
    /// If the engine needs a fact first.
    pub(crate) fn judge_now(
        &self,
        request: &RequestView<'_>,
        permit: &Permit,
    ) -> Result<Reevaluation, Need> {
        Ok(
            match decide(&self.access.running.load(), request, self.now()) {
                // A reload may give the URL to another application, and this connection leads to
                // the origin of the old one.
                Decision::Forward(now) if now.application().aud() == permit.application().aud() => {
                    Reevaluation::Allowed
                }
                Decision::Resolve(need) => return Err(need),
                // Keys or revocations are stale beyond the bound that a new request is held to.
                Decision::Unavailable(Refusal {
                    reason: reason @ (Reason::KeysUnavailable | Reason::RevocationsUnavailable),
                    ..
                }) => Reevaluation::Ended(Some(reason)),
                Decision::Unavailable(_) => Reevaluation::Unknown,
                Decision::LogIn(challenge) => Reevaluation::Ended(Some(challenge.reason)),
                Decision::Deny(refusal) => Reevaluation::Ended(Some(refusal.reason)),
                Decision::Refuse(reason) => Reevaluation::Ended(Some(reason)),
                Decision::Forward(_) | Decision::Preflight(_) | Decision::Handle { .. } => {
                    Reevaluation::Ended(None)
                }
            },
        )
    }

    /// Records that a running request is cut, under its id or a new one. Returns that id.
    pub(crate) fn record_cut(
        &self,
        request: Option<&RequestView<'_>>,
        permit: &Permit,
        reason: Option<Reason>,
        id: Option<RequestId>,
    ) -> RequestId {
        let id = id.unwrap_or_else(RequestId::random);
        audit::cut(&self.access.running.load(), request, permit, reason, id);
        id
    }
}

/// The length of a message in bytes above which it is watched.
// A smaller message is usually complete before the first evaluation, and a watch costs a copy of
// the head.
const LARGE: u64 = 1 << 20;
/// The interval of evaluations of running requests, and the time limit for one evaluation.
pub(crate) const EVALUATE_EVERY: Duration = Duration::from_secs(10);

#[cfg(test)]
pub(super) mod tests {
    use std::future::pending;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, Mutex};

    use super::*;

    const SOON: Duration = Duration::from_millis(20);
    const PATIENCE: Duration = Duration::from_secs(20);

    /// A request with these results in turn. Evaluations after the last one never end.
    #[derive(Default)]
    pub(crate) struct Scripted {
        results: Vec<Reevaluation>,
        evaluated: AtomicUsize,
        pub(crate) cut: Arc<Mutex<Option<Option<Reason>>>>,
    }

    impl Scripted {
        pub(crate) fn new(results: &[Reevaluation]) -> Self {
            Self {
                results: results.to_vec(),
                ..Self::default()
            }
        }
    }

    impl Evaluate for Scripted {
        async fn evaluate(&self) -> Reevaluation {
            match self
                .results
                .get(self.evaluated.fetch_add(1, Ordering::Relaxed))
            {
                Some(result) => *result,
                None => pending().await,
            }
        }

        fn record_cut(&self, reason: Option<Reason>) -> RequestId {
            *self.cut.lock().unwrap() = Some(reason);
            RequestId::random()
        }
    }

    async fn ended(results: &[Reevaluation]) -> (Option<Reason>, usize) {
        let request = Scripted::new(results);
        let end = timeout(PATIENCE, until_ended(&request, SOON, SOON))
            .await
            .expect("the request goes on");
        (end, request.evaluated.into_inner())
    }

    #[tokio::test]
    async fn request_ends_when_it_is_no_longer_allowed() {
        let revoked = Reevaluation::Ended(Some(Reason::SessionRevoked));
        assert_eq!(
            ended(&[Reevaluation::Allowed, revoked]).await,
            (Some(Reason::SessionRevoked), 2)
        );
        assert_eq!(
            ended(&[Reevaluation::Unknown, revoked]).await,
            (Some(Reason::SessionRevoked), 2)
        );
    }

    #[tokio::test]
    async fn unknown_result_is_tolerated_once() {
        let (allowed, unknown) = (Reevaluation::Allowed, Reevaluation::Unknown);
        assert_eq!(
            ended(&[unknown, allowed, unknown, unknown]).await,
            (None, 4)
        );
    }

    #[tokio::test]
    async fn evaluation_that_never_ends_is_unknown() {
        assert_eq!(ended(&[]).await, (None, 2));
        assert_eq!(
            ended(&[Reevaluation::Allowed, Reevaluation::Unknown]).await,
            (None, 3)
        );
    }
}
