use std::time::Duration;

use super::Reauthentication;
use crate::model::UnixTime;

/// The facts that a response must match to complete a login.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// The ID of the request that this browser carried.
    pub request_id: &'a str,
    /// The time of the request.
    pub requested_at: UnixTime,
    /// As in the request. An older login is rejected if it was required.
    pub reauthentication: Reauthentication,
    /// The current time.
    pub now: UnixTime,
    /// The accepted clock difference in either direction, at most 300 s.
    pub leeway: Duration,
}

impl Expected<'_> {
    pub(super) fn leeway(&self) -> Duration {
        self.leeway.min(MAX_LEEWAY)
    }
}

// The configuration has the same limit. A larger difference would make expired assertions valid for
// minutes.
const MAX_LEEWAY: Duration = Duration::from_secs(300);
