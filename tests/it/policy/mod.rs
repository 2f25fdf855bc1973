//! Decisions: the case table, service clients, certificates, countries, external evaluation.

pub mod cases;
mod certificates;
mod client_certificates;
mod countries;
mod evaluation;
mod evaluation_sessions;
mod matrix;
mod review;
pub mod service_clients;
