use std::sync::Arc;

use super::MAX_NEEDS;
use crate::control::Access;
use crate::engine::{Application, Decision, decide};
use crate::model::{Reason, RequestView, UnixTime};

/// The standing of a running request.
pub(crate) enum Standing {
    /// A new request like it would be forwarded to the same application.
    Allowed,
    /// Nothing can be decided at present, for instance because the store cannot be read.
    Unknown,
    /// A new request like it would not be forwarded.
    Ended(Option<Reason>),
}

pub(super) async fn judge(access: &Arc<Access>, request: &RequestView<'_>, application: &Application) -> Standing {
    let mut learned = Vec::new();
    loop {
        let need = match decide(&access.running(), request, UnixTime::now()) {
            Decision::Forward(permit) if permit.application().aud() == application.aud() => return Standing::Allowed,
            Decision::Resolve(need) if learned.len() < MAX_NEEDS && !learned.contains(&need) => need,
            Decision::Resolve(_) | Decision::Unavailable(_) => return Standing::Unknown,
            Decision::LogIn(challenge) => return Standing::Ended(Some(challenge.reason)),
            Decision::Deny(refusal) => return Standing::Ended(Some(refusal.reason)),
            Decision::Refuse(reason) => return Standing::Ended(Some(reason)),
            Decision::Forward(_) | Decision::Preflight(_) | Decision::Handle { .. } => return Standing::Ended(None),
        };
        learned.push(need.clone());
        access.resolve(need).await;
    }
}
