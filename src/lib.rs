//! An access proxy on Pingora. Users sign in with an identity provider, and policies on identity,
//! groups and requests decide each request before it reaches the origin.
//!
//! # In your own proxy
//!
//! [`front::pingora::AccessFilter`] adds the Access check to a `ProxyHttp`. Two of its calls are
//! required. Three more, and [`front::pingora::Cuttable`] around the proxy, end long requests when
//! access ends. `examples/embed.rs` is a complete example. With these lines in `Cargo.toml`, the
//! build needs a Rust toolchain and a C compiler:
//!
//! ```toml
//! [dependencies]
//! async-trait = "0.1"
//! bytes = "1"
//! # Add the TLS back end of your choice, such as "rustls".
//! pingora = { version = "0.9.1", default-features = false, features = ["proxy"] }
//! portcullis = { path = "../portcullis", default-features = false, features = ["pingora"] }
//!
//! # Pingora requires zlib-ng, which needs cmake to build. This replaces it with zlib-rs.
//! [patch.crates-io]
//! libz-ng-sys = { path = "../portcullis/vendor/libz-ng-sys" }
//! ```
//!
//! Cargo reads `[patch]` only from the root of a build, so the dependency cannot provide it. Without
//! it, the build fails with `is cmake not installed?` on a machine without cmake.
//!
//! `ARCHITECTURE.md` describes the path of a request. Its center is [`engine::decide`].

// The case table and its keys are shared with the integration tests, which refer to this crate by
// its name.
#[cfg(test)]
extern crate self as portcullis;
#[cfg(test)]
#[path = "../tests/cases/mod.rs"]
mod cases;
#[cfg(test)]
#[path = "../tests/keys/mod.rs"]
mod keys;

// Rows 0 to 3: pure, without a runtime. `oidc` and `saml` have a feature for their dependencies.
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
