//! Fronts: adapters between a server's native requests and responses and the gate. They decide
//! nothing.

#[cfg(feature = "pingora")]
pub mod pingora;
