use async_trait::async_trait;

use super::StoreError;
use crate::model::UnixTime;

/// Names that may be used once in a team: login flows, hand-overs, SAML assertions.
#[async_trait]
pub trait UseRepository: Send + Sync {
    /// Stores a name until `expires` and returns `true` if it was unknown. Of several concurrent
    /// calls, on all nodes together, exactly one gets `true`.
    async fn first_use(&self, name: &str, expires: UnixTime) -> Result<bool, StoreError>;
}
