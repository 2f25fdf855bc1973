//! Hints for the end of the identity provider's own session.

use url::Url;

use super::Logins;
use crate::idp::Provider;
use crate::model::{IdentityNonce, Secret};

impl Logins {
    /// Returns the hint to store with a login: the sealed ID token; `None` if it is too long for a
    /// URL. It is sealed because backups of the store may be readable by others.
    pub(super) fn logout_hint(&self, nonce: IdentityNonce, id_token: &Secret) -> Option<String> {
        if id_token.expose().len() > MAX_HINT {
            let bytes = id_token.expose().len();
            tracing::warn!(
                bytes,
                "ignoring an ID token that is too long to end the provider's session"
            );
            return None;
        }
        self.flows
            .seal()
            .seal(&purpose(nonce), &id_token.expose())
            .ok()
    }

    /// Returns the URL that ends the provider's session, once; `None` if there is no hint or the
    /// provider has no such endpoint. The browser returns to `back` with `state`.
    pub(crate) async fn leave_provider(
        &self,
        nonce: IdentityNonce,
        provider: &Provider,
        back: &Url,
        state: &str,
    ) -> Option<Url> {
        let hint = self.repository.take_logout_hint(&nonce).await;
        let hint = hint
            .map_err(|error| self.repository.failed(&error))
            .ok()
            .flatten()?;
        let hint: Secret = self
            .flows
            .seal()
            .open::<String>(&purpose(nonce), &hint)
            .ok()?
            .into();
        provider.as_oidc()?.end_session(&hint, back, state).await
    }
}

fn purpose(nonce: IdentityNonce) -> String {
    format!("logout hint {}", nonce.as_str())
}

/// In bytes. Browsers and servers accept URLs of 8 KB.
const MAX_HINT: usize = 6 * 1024;
