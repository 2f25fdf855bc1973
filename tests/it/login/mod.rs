//! Logging in and out in a browser, at one team and through an edge node.

mod agreement;
mod begin;
mod dead_ends;
mod edge;
mod endpoints;
mod identity;
mod logout;
mod once;
mod provider_errors;
