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
mod bad_days;
mod bodies;
mod cases;
mod certificates;
mod configuration;
mod countries;
mod dead_ends;
mod documents;
mod edge;
mod embedding;
mod endpoints;
mod evaluation;
mod harness;
mod header_attributes;
mod headers;
mod idp_check;
mod idp_test;
mod layers;
mod lifecycle;
mod listeners;
mod login;
mod logout;
mod logs;
mod matrix;
mod okta;
mod okta_sessions;
mod once;
mod origins;
mod outgoing;
mod programs;
mod provider_errors;
mod proxying;
mod reasons;
mod refusals;
mod responses;
mod review;
mod running_requests;
mod saml;
mod saml_errors;
mod saml_identity;
mod simplesamlphp;
mod store;
mod support;
mod tunnel_flow;
mod tunnels;
