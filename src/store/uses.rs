use async_trait::async_trait;

use super::StoreError;
use crate::model::UnixTime;

/// Names that may be used once in a team: login flows, hand-overs, SAML assertions.
#[async_trait]
pub trait UseRepository: Send + Sync {
    /// Stores a name until `expires`. Returns the store's latest revision if the name was unknown,
    /// else `None`. Of several concurrent calls, on all nodes together, exactly one gets a revision.
    async fn first_use(&self, name: &str, expires: UnixTime) -> Result<Option<u64>, StoreError>;
}
