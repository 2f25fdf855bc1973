//! Requests on their way to the origin and back.

mod bodies;
mod header_attributes;
mod headers;
mod origin_failures;
mod origins;
mod refusals;
mod requests;
mod responses;
mod running_requests;
mod tunnel_flow;
mod tunnels;
