//! An access proxy on Pingora: nobody reaches the origin without a session from the identity provider, and policies on
//! identity and group membership decide who may open what.
//!
//! The way of a request is in `ARCHITECTURE.md`; the question that everything serves is [`engine::decide`].
//!
//! # Embedding
//!
//! To put the check into your own Pingora proxy, see `front::pingora::AccessFilter` and `examples/embed.rs`. Pingora depends on
//! zlib-ng, which needs cmake. To build without cmake, repeat this crate's patch in the `Cargo.toml` of your workspace, because
//! Cargo ignores the patches of dependencies:
//!
//! ```toml
//! [dependencies]
//! portcullis = { path = "../portcullis", default-features = false, features = ["pingora"] }
//!
//! [patch.crates-io]
//! libz-ng-sys = { path = "../portcullis/vendor/libz-ng-sys" }
//! ```

// The case table is shared with the integration tests, which know this crate by its name.
#[cfg(test)]
extern crate self as portcullis;

// Layers 0 to 3: pure, without a runtime. `oidc` and `saml` have features of their own, for what they bring along.
pub mod cookie;
pub mod engine;
pub mod model;
#[cfg(feature = "oidc")]
pub mod oidc;
pub mod policy;
pub mod route;
#[cfg(feature = "saml")]
pub mod saml;
pub mod session;
pub mod token;

// Layers 4 and 5: what waits.
#[cfg(feature = "control")]
pub mod config;
#[cfg(feature = "control")]
pub mod control;
#[cfg(feature = "control")]
pub mod geo;
#[cfg(feature = "control")]
pub mod http_client;
#[cfg(feature = "control")]
pub mod idp;
#[cfg(feature = "control")]
mod login;
#[cfg(feature = "control")]
pub mod observe;
#[cfg(feature = "control")]
mod portal;
#[cfg(feature = "control")]
pub mod store;

// Layers 6 and 7: fronts, and the standalone proxy.
#[cfg(feature = "standalone")]
pub mod app;
#[cfg(feature = "standalone")]
pub mod demo;
#[cfg(feature = "control")]
pub mod front;
#[cfg(feature = "standalone")]
pub mod review;
