//! An access proxy on Pingora: nobody reaches the origin without a session from the identity provider, and policies on
//! identity and group membership decide who may open what.
//!
//! The way of a request is in `ARCHITECTURE.md`; the question that everything serves is [`engine::decide`].

#[cfg(feature = "control")]
pub mod config;
pub mod model;
pub mod policy;
pub mod token;
