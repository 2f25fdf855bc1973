//! The facts that a decision lacks: keys, identities, assertions about service clients.
//!
//! Decides nothing about a request. Trusts the engine's [`Need`]. Never stops if the client of the
//! request disconnects, because other requests may wait for the same fact.

use std::sync::Arc;

use super::identities::Identities;
use super::issuer::TokenIssuer;
use crate::engine::Need;

/// Resolves the facts that decisions need.
pub(super) struct FactResolver {
    issuer: Arc<TokenIssuer>,
    identities: Arc<Identities>,
    runtime: tokio::runtime::Handle,
}

impl FactResolver {
    pub(super) const fn new(
        issuer: Arc<TokenIssuer>,
        identities: Arc<Identities>,
        runtime: tokio::runtime::Handle,
    ) -> Self {
        Self {
            issuer,
            identities,
            runtime,
        }
    }

    /// Resolves a fact on the control runtime. Logs its own errors.
    pub(super) async fn resolve(&self, need: Need) {
        let (issuer, identities) = (Arc::clone(&self.issuer), Arc::clone(&self.identities));
        let resolved = self.runtime.spawn(async move {
            match need {
                Need::Keys => issuer.learn_keys().await,
                Need::Identity {
                    nonce,
                    issued,
                    token,
                } => identities.look_up(nonce, issued, &token).await,
                Need::Assertion {
                    aud,
                    common_name,
                    expires,
                } => {
                    issuer
                        .assert_service_client(&aud, &common_name, expires)
                        .await;
                }
            }
        });
        if let Err(error) = resolved.await {
            tracing::error!(%error, "resolving a fact for a decision failed");
        }
    }
}
