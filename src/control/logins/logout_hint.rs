//! The end of the provider's own session, which a logout here can bring about too.

use url::Url;

use super::Logins;
use crate::idp::Provider;
use crate::model::{IdentityNonce, Secret};

impl Logins {
    /// What is kept of a login for its end: the ID token, sealed, because the store's file may be
    /// read by whoever makes backups; `None` where it is too long to stand in an address later.
    pub(super) fn logout_hint(&self, nonce: IdentityNonce, id_token: &Secret) -> Option<String> {
        if id_token.expose().len() > MAX_HINT {
            let bytes = id_token.expose().len();
            tracing::warn!(
                bytes,
                "the ID token is too long to end the provider's session with it"
            );
            return None;
        }
        self.flows
            .seal()
            .seal(&purpose(nonce), &id_token.expose())
            .ok()
    }

    /// Where to send the browser so that the provider's session ends too, once; `None` where that
    /// cannot be. `back` is where it comes back to, with `state`.
    pub(crate) async fn leave_provider(
        &self,
        nonce: IdentityNonce,
        provider: &Provider,
        back: &Url,
        state: &str,
    ) -> Option<Url> {
        let hint = self.store.take_logout_hint(&nonce).await;
        let hint = hint
            .map_err(|error| self.store.failed(&error))
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

/// In bytes: browsers and servers on the way take addresses of 8 KB.
const MAX_HINT: usize = 6 * 1024;
