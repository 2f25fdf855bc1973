//! Everything over real sockets: the binary as a process, a recording origin, OpenID providers
//! right and wrong, and clients from a browser down to raw bytes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::unreachable,
    clippy::print_stderr,
    clippy::disallowed_methods,
    unreachable_pub,
    reason = "a test fails by panicking, reads the clock of the world, and has no public interface"
)]

mod attacks;
mod login;
mod okta;
mod operations;
mod policy;
mod project;
mod proxy;
mod saml;
mod support;
