//! An access proxy on Pingora: nobody reaches the origin without a session from the identity
//! provider, and policies on identity and group membership decide who may open what.
//!
//! # In a proxy of your own
//!
//! [`front::pingora::AccessFilter`] is two calls in a `ProxyHttp`, and three more for requests that
//! go on for long: they end with the access only if these are made and [`front::pingora::Cuttable`]
//! is around the proxy. `examples/embed.rs` is all of it. With these lines in `Cargo.toml`, a Rust
//! toolchain and a C compiler are enough:
//!
//! ```toml
//! [dependencies]
//! async-trait = "0.1"
//! bytes = "1"
//! # Add the TLS back end of your choice, such as "rustls".
//! pingora = { version = "0.9.1", default-features = false, features = ["proxy"] }
//! portcullis = { path = "../portcullis", default-features = false, features = ["pingora"] }
//!
//! # Pingora requires zlib-ng, whose build needs cmake. This stands in for it, with zlib-rs.
//! [patch.crates-io]
//! libz-ng-sys = { path = "../portcullis/vendor/libz-ng-sys" }
//! ```
//!
//! Cargo takes `[patch]` from the root of a build alone, so it cannot come along with the
//! dependency. Without it the build ends with `is cmake not installed?` on a machine without cmake.
//!
//! The way of a request is in `ARCHITECTURE.md`; the question that everything serves is
//! [`engine::decide`].

// The case table is shared with the integration tests, which know this crate by its name.
#[cfg(test)]
extern crate self as portcullis;

// Rows 0 to 3: pure, without a runtime. `oidc` and `saml` bring dependencies along, hence their
// feature.
pub mod cookie;
pub mod engine;
pub mod model;
#[cfg(feature = "protocols")]
pub mod oidc;
pub mod policy;
pub mod route;
#[cfg(feature = "protocols")]
pub mod saml;
pub mod session;
pub mod token;

// Rows 4 to 8: the control path, our endpoints and the check.
#[cfg(feature = "control")]
pub mod catalog;
#[cfg(feature = "control")]
pub mod config;
#[cfg(feature = "control")]
pub mod control;
#[cfg(feature = "control")]
mod gate;
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
mod pages;
#[cfg(feature = "control")]
mod portal;
#[cfg(feature = "control")]
pub mod store;

// Rows 9 and 10: fronts, and the standalone proxy.
#[cfg(feature = "standalone")]
pub mod app;
#[cfg(feature = "standalone")]
pub mod demo;
#[cfg(feature = "control")]
pub mod front;
#[cfg(feature = "standalone")]
pub mod review;
