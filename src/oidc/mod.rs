//! OpenID Connect for a relying party: the steps of a login as functions over bytes and typed
//! messages.
//!
//! Decides which request to send to a provider, and whether its responses prove a user's identity.
//! Trusts the provider's discovery document and keys, fetched from the configured issuer, and
//! nothing that a browser sends. Never does I/O, never reads a clock, and never accepts an unsigned
//! token, although the code flow would allow it.
//!
//! The requests are those of `openidconnect`. Responses are read here, member by member: an odd
//! member that is not used must not prevent a login, and `openidconnect` reads documents as a
//! whole. ID tokens are verified here too, because `openidconnect`
//!
//! - reads claims before the signature, with types so strict that a misspelt `locale` would reject
//!   a login,
//! - gives up if `kid` is absent,
//! - supports neither `azp` nor ES512,
//! - panics at an access token that is not a valid header value.

mod callback;
mod claims;
mod credentials;
mod grant;
mod groups_claim;
mod id_token;
mod keys;
mod lenient;
mod merge;
mod metadata;
mod nested;
mod request;
mod tokens;

#[cfg(feature = "control")]
pub(crate) use callback::one_line;
pub use callback::{Callback, CallbackError, ResponseIssuer};
pub use claims::{ClaimsError, ContentType, UserClaims, userinfo};
pub use credentials::{ClientAuth, ClientKey, ClientKeyError, Credentials};
pub use grant::Grant;
pub use groups_claim::GroupsClaim;
use groups_claim::NamedGroups;
pub use id_token::{Expected, IdTokenError, VerifiedIdToken, signed_userinfo, verify};
pub use keys::{ALGORITHMS, KeySet, KeysError};
pub use merge::{Absence, ClaimedEmail, ClaimedGroups, EmailVerification, MergedClaims, merge};
pub use metadata::{Endpoints, Metadata, MetadataError, OptionalEndpoints, PushedRequests};
pub use openidconnect::core::CoreAuthPrompt as Prompt;
pub use request::{
    Client, CodeAndVerifier, CodeTokenRequest, FlowSecrets, Hints, authorization_url, client,
    code_request, end_session_url, pushed_request, pushed_url,
};
pub use tokens::{GrantedScopes, OAuthError, TokenResponse};

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
