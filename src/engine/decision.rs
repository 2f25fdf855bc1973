use std::sync::Arc;

use super::{Application, Challenge, Need, Permit, Refusal};
use crate::model::Reason;
use crate::route::{Endpoint, HostRole};

/// The decision on a request.
#[derive(Debug)]
pub enum Decision {
    /// Forward it to the origin.
    Forward(Permit),
    /// Ask for a login, then try again.
    LogIn(Challenge),
    /// Deny it.
    Deny(Refusal),
    /// Refuse it: no application could answer it.
    Refuse(Reason),
    /// It cannot be decided now. Never a permit.
    Unavailable(Refusal),
    /// A preflight that the application's CORS settings answer.
    Preflight(Arc<Application>),
    /// One of our own endpoints: on the team domain, or on an application's host.
    Handle {
        /// The endpoint.
        endpoint: Endpoint,
        /// The kind of host that the request was sent to.
        host_role: HostRole,
    },
    /// Fetch something that this node does not have, then decide again, once for each need.
    Resolve(Need),
}
