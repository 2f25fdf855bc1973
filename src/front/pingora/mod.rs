//! The Access check as a Pingora filter, and the standalone proxy built on it.
//!
//! [`AccessFilter`] is for an embedder's own `ProxyHttp`: one call in `request_filter`, one in
//! `upstream_request_filter`, and three for long requests, which [`Cuttable`] ends. Decides nothing
//! itself. Trusts Pingora's parsing, and forwards only the request that the engine evaluated. Never
//! forwards without a permit: a request that reaches the upstream filter without one is an error.

#![expect(
    clippy::disallowed_types,
    reason = "this module turns the native request into a `RequestView`"
)]

mod failure;
mod filter;
mod hsts;
mod origins;
#[cfg_attr(
    not(feature = "standalone"),
    expect(
        dead_code,
        reason = "only the listeners of the standalone proxy read it"
    )
)]
mod progress;
mod proxy;
mod relay;
mod request;
mod respond;
mod response;
mod tunnel;
mod watch;

pub use filter::{AccessCtx, AccessFilter, FilterSettings, ListenerSettings};
pub use hsts::HstsListener;
pub use origins::{Check, OriginContext, OriginPool, PoolSettings, Protocol, Target, Trust};
#[cfg(feature = "standalone")]
pub(crate) use progress::Progress;
pub use proxy::{AccessProxy, ProxyCtx, ProxySettings};
pub use watch::Cuttable;
