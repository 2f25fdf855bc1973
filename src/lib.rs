//! An access proxy on Pingora: nobody reaches the origin without a session from the identity provider, and policies on
//! identity and group membership decide who may open what.
//!
//! The way of a request is in `ARCHITECTURE.md`; the question that everything serves is [`engine::decide`].

// The case table is shared with the integration tests, which know this crate by its name.
#[cfg(test)]
extern crate self as portcullis;

// Layers 0 to 3: pure, without a runtime.
pub mod cookie;
pub mod engine;
pub mod model;
pub mod policy;
pub mod route;
pub mod session;
pub mod token;

// Layers 4 and 5: what waits.
#[cfg(feature = "control")]
mod portal;
