//! An access proxy on Pingora: nobody reaches the origin without a session from the identity provider, and policies on
//! identity and group membership decide who may open what.
//!
//! The way of a request is in `ARCHITECTURE.md`; the question that everything serves is [`engine::decide`].

#[cfg(feature = "control")]
pub mod http_client;
#[cfg(feature = "control")]
pub mod idp;
pub mod model;
#[cfg(feature = "control")]
pub mod oidc;
pub mod policy;
pub mod token;
