use std::sync::Arc;

use http::Method;

use super::matching::{RouteMatch, match_route};
use super::reserved::overrides_method;
use super::{Application, Decision, Snapshot, other_target};
use crate::model::{Reason, RequestView};

/// Routes a request to an application, or decides it without one.
pub(super) fn route<'a>(
    snapshot: &'a Snapshot,
    request: &RequestView<'_>,
) -> Result<&'a Arc<Application>, Decision> {
    // `TRACE` returns the request's headers, with our token in them, to scripts. `CONNECT` would
    // make the origin a tunnel.
    if matches!(*request.method, Method::TRACE | Method::CONNECT) {
        return Err(Decision::Refuse(Reason::MethodRefused));
    }
    if request
        .authority
        .port
        .is_some_and(|port| !snapshot.team().is_served_on(port))
    {
        return Err(Decision::Refuse(Reason::PortUnknown));
    }
    match match_route(snapshot, &request.authority.host, &request.path) {
        Ok(RouteMatch::Endpoint {
            endpoint,
            host_role,
        }) => Err(Decision::Handle {
            endpoint,
            host_role,
        }),
        // The policies would evaluate another method than the one that the origin acts on.
        Ok(RouteMatch::Application(application))
            if application.required.method && request.query.is_some_and(overrides_method) =>
        {
            Err(Decision::Refuse(Reason::MethodRefused))
        }
        Ok(RouteMatch::Application(application))
            if other_target::stay_inside(snapshot, application, request) =>
        {
            Ok(application)
        }
        // The origin would act on a resource that another application protects.
        Ok(RouteMatch::Application(_)) => Err(Decision::Refuse(Reason::PathAmbiguous)),
        // Without an application there are no policies, so nothing may be forwarded.
        Ok(RouteMatch::Nowhere) => Err(Decision::Refuse(Reason::NoApplication)),
        Err(_) => Err(Decision::Refuse(Reason::PathAmbiguous)),
    }
}
