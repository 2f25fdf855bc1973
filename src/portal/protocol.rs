use super::outcome::{LoginOutcome, LoginStep};
use super::provider_error::Reported;
use crate::control::Flows;
use crate::cookie::SealingKey;
use crate::login::{Flow, PortalRequest, State};

/// A response of an identity provider, in the form of its protocol.
pub(super) trait ProviderResponse: Sized {
    /// The protocol's data of a flow, kept in the browser's cookie.
    type Pending;

    /// Returns the state of the login that this answers.
    fn state(&self) -> &State;

    /// Returns the flow, if this browser began it.
    fn take_flow(
        &mut self,
        seal: &SealingKey,
        request: &PortalRequest,
    ) -> Option<Flow<Self::Pending>>;

    /// Returns the error that the response reports, if it does. It is not verified.
    async fn reported(&self, flows: &Flows, request: &PortalRequest) -> Option<Reported>;

    /// Verifies the response. `began` is the store's revision when the browser returned.
    async fn finish(self, step: &LoginStep<'_>, pending: Self::Pending, began: u64)
    -> LoginOutcome;
}
