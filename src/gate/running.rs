//! Running requests, which are allowed only as long as a new request would be.

use super::{Gate, MAX_NEEDS, audit};
use crate::engine::{Decision, Need, Permit, Refusal, decide};
use crate::model::{Reason, RequestId, RequestView};

/// The standing of a running request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// A new request would be allowed.
    Allowed,
    /// A fact that the decision needs is not known at present.
    Unknown,
    /// A new request would not be allowed.
    Ended(Option<Reason>),
}

impl Gate {
    /// Evaluates a running request as a new one, and fetches the facts that this needs.
    pub(crate) async fn judge(&self, request: &RequestView<'_>, permit: &Permit) -> Standing {
        let mut fetched = Vec::new();
        loop {
            match self.judge_now(request, permit) {
                Ok(standing) => return standing,
                Err(need) if fetched.len() < MAX_NEEDS && !fetched.contains(&need) => {
                    fetched.push(need.clone());
                    self.access.resolve(need).await;
                }
                Err(_) => return Standing::Unknown,
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
    ) -> Result<Standing, Need> {
        Ok(
            match decide(&self.access.running.load(), request, self.now()) {
                // A reload may give the URL to another application, and this connection leads to
                // the origin of the old one.
                Decision::Forward(now) if now.application().aud() == permit.application().aud() => {
                    Standing::Allowed
                }
                Decision::Resolve(need) => return Err(need),
                // Keys or revocations are stale beyond the bound that a new request is held to.
                Decision::Unavailable(Refusal {
                    reason: reason @ (Reason::KeysUnavailable | Reason::RevocationsUnavailable),
                    ..
                }) => Standing::Ended(Some(reason)),
                Decision::Unavailable(_) => Standing::Unknown,
                Decision::LogIn(challenge) => Standing::Ended(Some(challenge.reason)),
                Decision::Deny(refusal) => Standing::Ended(Some(refusal.reason)),
                Decision::Refuse(reason) => Standing::Ended(Some(reason)),
                Decision::Forward(_) | Decision::Preflight(_) | Decision::Handle { .. } => {
                    Standing::Ended(None)
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
