//! OpenID Connect, from the side of the relying party: the steps of a login as functions over bytes
//! and typed messages.
//!
//! Decides what to ask a provider, and whether what came back proves who somebody is. Trusts the
//! provider's discovery document and keys as far as they were fetched from the configured issuer,
//! and nothing that a browser brought. Never does IO, never reads a clock, and never takes a token
//! without its signature, though the code flow would allow it.
//!
//! The requests are `openidconnect`'s. What providers send is read here, member by member: one that
//! is odd and not used must stop no login, and `openidconnect` reads documents whole. ID tokens are
//! checked here too: `openidconnect` reads claims before the signature, by types so strict that a
//! misspelt `locale` would refuse a login, gives up where `kid` is absent, knows neither `azp` nor
//! ES512, and would panic at an access token that is no header value.

mod callback;
mod claims;
mod credentials;
mod grant;
mod groups_claim;
mod id_token;
mod keys;
mod lenient;
mod metadata;
mod request;
mod tokens;

#[cfg(feature = "control")]
pub(crate) use callback::tame;
pub use callback::{Callback, CallbackError};
pub use claims::{
    Absence, ClaimedEmail, ClaimedGroups, ClaimsError, EmailVerification, Profile, UserClaims,
    merge, userinfo,
};
pub use credentials::{ClientAuth, ClientKey, ClientKeyError, Credentials};
pub use grant::Grant;
pub use groups_claim::GroupsClaim;
use groups_claim::NamedGroups;
pub use id_token::{Expected, IdTokenError, VerifiedIdToken, signed_userinfo, verify};
pub use keys::{ALGORITHMS, KeySet, KeysError};
pub use metadata::{Endpoints, Metadata, MetadataError, Used};
pub use openidconnect::core::CoreAuthPrompt as Prompt;
pub use request::{
    Client, CodeTokenRequest, FlowSecrets, Hints, authorization_url, client, code_request,
    end_session_url, pushed_request, pushed_url,
};
pub use tokens::{AnsweredScopes, ErrorAnswer, TokenResponse};

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
