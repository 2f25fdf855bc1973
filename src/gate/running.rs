//! Running requests, which are allowed only for as long as a new one would be.

use super::{Gate, MAX_NEEDS, audit};
use crate::engine::{Decision, Need, Permit, Refusal, decide};
use crate::model::{Reason, RequestId, RequestView, UnixTime};

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
    /// Judges a running request as a new one, and learns what is missing for that.
    pub(crate) async fn judge(&self, request: &RequestView<'_>, permit: &Permit) -> Standing {
        let mut learned = Vec::new();
        loop {
            match self.judge_now(request, permit) {
                Ok(standing) => return standing,
                Err(need) if learned.len() < MAX_NEEDS && !learned.contains(&need) => {
                    learned.push(need.clone());
                    self.access.resolve(need).await;
                }
                Err(_) => return Standing::Unknown,
            }
        }
    }

    /// Judges a running request as a new one.
    ///
    /// # Errors
    /// If something has to be learned first.
    pub(crate) fn judge_now(
        &self,
        request: &RequestView<'_>,
        permit: &Permit,
    ) -> Result<Standing, Need> {
        Ok(
            match decide(&self.access.running.load(), request, UnixTime::now()) {
                Decision::Forward(now) if now.application().aud() == permit.application().aud() => {
                    Standing::Allowed
                }
                Decision::Resolve(need) => return Err(need),
                // Both have been out of reach for longer than a new request may rely on them.
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

    /// Records that a running request is cut, under the id that it has or a new one. Returns that
    /// id.
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
