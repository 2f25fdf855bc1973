//! Fronts: a native request in, a native answer out, nothing decided.

#[cfg(feature = "pingora")]
pub mod pingora;
