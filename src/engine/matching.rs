use std::sync::Arc;

use super::{Application, Snapshot};
use crate::model::{CleanPath, PathError};
use crate::route::{Endpoint, HostRole};

/// The recipient of requests to one host and path.
pub(super) enum RouteMatch<'a> {
    Endpoint {
        endpoint: Endpoint,
        host_role: HostRole,
    },
    Application(&'a Arc<Application>),
    Nowhere,
}

/// Returns the recipient of requests to a host and path.
///
/// # Errors
///
/// Origins read the path in more than one way.
pub(super) fn match_route<'a>(
    snapshot: &'a Snapshot,
    host: &str,
    path: &CleanPath<'_>,
) -> Result<RouteMatch<'a>, PathError> {
    let host_role = if *host == *snapshot.team().domain.as_str() {
        HostRole::Team
    } else {
        HostRole::Application
    };
    match Endpoint::for_path(path)? {
        Some(endpoint) if host_role == HostRole::Team || snapshot.router().knows_host(host) => {
            Ok(RouteMatch::Endpoint {
                endpoint,
                host_role,
            })
        }
        // Endpoints exist on the team's hosts only.
        Some(_) => Ok(RouteMatch::Nowhere),
        None if host_role == HostRole::Team => {
            let endpoint = if path.as_str() == "/" {
                Endpoint::Home
            } else {
                Endpoint::Unknown
            };
            Ok(RouteMatch::Endpoint {
                endpoint,
                host_role,
            })
        }
        None => {
            let found = snapshot.router().route(host, path)?;
            Ok(found
                .and_then(|i| snapshot.applications().get(i))
                .map_or(RouteMatch::Nowhere, RouteMatch::Application))
        }
    }
}
