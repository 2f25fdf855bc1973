use std::sync::Arc;

use http::Method;

use super::challenge::is_preflight;
use super::other_target;
use super::reserved::overrides_method;
use super::service_clients::ClientFacts;
use super::verification::NoSession;
use super::{
    Application, Challenge, Decision, Need, Permit, Refusal, ServiceClient, Snapshot, Style,
    credential,
};
use crate::model::{CleanPath, PathError, Reason, RequestView, UnixTime};
use crate::policy::{EarlyVerdict, Facts, Outcome, ShadowVerdict, Truth, Verdict};
use crate::route::Endpoint;
use crate::session::Session;

/// Decides what should happen to a request, from what is known right now.
///
/// On [`Decision::Resolve`] the caller awaits the control path and calls again, once for each
/// [`Need`]; a need that comes a second time is treated as [`Decision::Unavailable`].
pub fn decide(snapshot: &Snapshot, request: &RequestView<'_>, now: UnixTime) -> Decision {
    let application = match route(snapshot, request) {
        Ok(application) => application,
        Err(decision) => return decision,
    };
    let client = match ClientFacts::read(snapshot, application, request, now) {
        Ok(client) => client,
        Err(need) => return Decision::Resolve(need),
    };
    let facts = client.facts(snapshot, request, now);
    let EarlyVerdict { verdict, shadow } = snapshot
        .policies()
        .early_verdict(&application.policies, &facts);
    match verdict {
        // Whoever shows a service token that is no good has failed, also where no token is asked
        // for.
        Some(verdict) if verdict.outcome == Outcome::ServiceAuth && client.is_bad() => {}
        Some(verdict) if verdict.outcome == Outcome::ServiceAuth => {
            return service_auth(snapshot, application, &client, verdict, now);
        }
        Some(_) => return forward(Permit::new(Arc::clone(application), None, verdict), &client),
        None => {}
    }
    if is_preflight(request) {
        return preflight(application, request);
    }
    if let Some((reason, service_client)) = client.refusal() {
        return Decision::Deny(Refusal {
            service_client,
            shadow,
            ..Refusal::new(reason, application)
        });
    }
    let session = match credential::session(snapshot, application, request.headers, now) {
        Ok(session) => session,
        Err(NoSession::Need(need)) => return Decision::Resolve(need),
        Err(NoSession::Unavailable(reason)) => {
            return Decision::Unavailable(Refusal {
                shadow,
                ..Refusal::new(reason, application)
            });
        }
        Err(NoSession::Rejected(reason)) => {
            return no_session(application, (reason, shadow), &client, request);
        }
    };
    match application.admits(session.identity().map(|identity| &identity.idp.id)) {
        Truth::True => permit(snapshot, application, session, &facts, shadow, &client),
        // Nothing is said against the person: another provider may let them in.
        Truth::False => no_session(
            application,
            (Reason::SessionInvalid, shadow),
            &client,
            request,
        ),
        Truth::Unknown => {
            let refusal = Refusal::new(Reason::IdentityUnavailable, application);
            Decision::Unavailable(Refusal {
                session: Some(session),
                shadow,
                ..refusal
            })
        }
    }
}

/// Routes a request to an application, or decides it without one.
pub(super) fn route<'a>(
    snapshot: &'a Snapshot,
    request: &RequestView<'_>,
) -> Result<&'a Arc<Application>, Decision> {
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
        Ok(RouteMatch::Endpoint { endpoint, on_team }) => {
            Err(Decision::Handle { endpoint, on_team })
        }
        // The policies would judge another method than the origin acts on.
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
        // The origin would act on what another application protects.
        Ok(RouteMatch::Application(_)) => Err(Decision::Refuse(Reason::PathAmbiguous)),
        Ok(RouteMatch::Nowhere) => Err(Decision::Refuse(Reason::NoApplication)),
        Err(_) => Err(Decision::Refuse(Reason::PathAmbiguous)),
    }
}

fn forward(permit: Permit, client: &ClientFacts<'_>) -> Decision {
    Decision::Forward(permit.taking_authorization(client.takes_authorization()))
}

/// Admits a service client. The token that names it to the origin (`docs/wire.md` 5.3) must exist
/// before anything is sent.
fn service_auth(
    snapshot: &Snapshot,
    application: &Arc<Application>,
    client: &ClientFacts<'_>,
    verdict: Verdict,
    now: UnixTime,
) -> Decision {
    let service_client = client.service_client();
    let assertion = match service_client.as_ref().and_then(ServiceClient::common_name) {
        None => None,
        Some(common_name) => {
            let of = (application.aud(), common_name);
            let Some(assertion) = snapshot
                .cache()
                .assertion(of, snapshot.keys().key_set(), now)
            else {
                let policy = verdict.policy.and_then(|index| application.policy(index));
                let lasts = policy
                    .and_then(|(_, lasts)| lasts)
                    .unwrap_or(application.settings().session_duration);
                let ends = service_client.as_ref().and_then(ServiceClient::expires);
                let expires = ends.map_or(now.after(lasts), |ends| ends.min(now.after(lasts)));
                let (aud, common_name) = (application.aud().clone(), common_name.into());
                return Decision::Resolve(Need::Assertion {
                    aud,
                    common_name,
                    expires,
                });
            };
            Some(assertion)
        }
    };
    let permit = Permit::new(Arc::clone(application), None, Some(verdict));
    forward(
        permit.with_service_client(service_client, assertion),
        client,
    )
}

/// What is left for a request that no policy for programs lets in and that brings no session, with
/// what a shadow one would have done.
fn no_session(
    application: &Arc<Application>,
    (reason, shadow): (Reason, Option<ShadowVerdict>),
    client: &ClientFacts<'_>,
    request: &RequestView<'_>,
) -> Decision {
    if let Some(reason) = client.undecided() {
        return Decision::Unavailable(Refusal {
            shadow,
            ..Refusal::new(reason, application)
        });
    }
    match client.service_client() {
        // A login would not help: it is known who that is, and they may not.
        Some(client @ ServiceClient::LinkedApp { .. }) => {
            let refusal = Refusal::new(Reason::NoPolicyApplied, application);
            Decision::Deny(Refusal {
                service_client: Some(client),
                shadow,
                ..refusal
            })
        }
        service_client if application.required.only_service_clients => {
            let refusal = Refusal::new(Reason::ServiceAuthRequired, application);
            Decision::Deny(Refusal {
                service_client,
                shadow,
                ..refusal
            })
        }
        _ => {
            let application = Arc::clone(application);
            Decision::LogIn(Challenge {
                application,
                reason,
                style: Style::for_request(request),
                shadow,
            })
        }
    }
}

pub(super) enum RouteMatch<'a> {
    Endpoint { endpoint: Endpoint, on_team: bool },
    Application(&'a Arc<Application>),
    Nowhere,
}

pub(super) fn match_route<'a>(
    snapshot: &'a Snapshot,
    host: &str,
    path: &CleanPath<'_>,
) -> Result<RouteMatch<'a>, PathError> {
    let on_team = *host == *snapshot.team().domain.as_str();
    match Endpoint::for_path(path)? {
        Some(endpoint) if on_team || snapshot.router().knows_host(host) => {
            Ok(RouteMatch::Endpoint { endpoint, on_team })
        }
        Some(_) => Ok(RouteMatch::Nowhere),
        None if on_team => {
            let endpoint = if path.as_str() == "/" {
                Endpoint::Home
            } else {
                Endpoint::Unknown
            };
            Ok(RouteMatch::Endpoint { endpoint, on_team })
        }
        None => {
            let found = snapshot.router().route(host, path)?;
            Ok(found
                .and_then(|i| snapshot.applications().get(i))
                .map_or(RouteMatch::Nowhere, RouteMatch::Application))
        }
    }
}

fn preflight(application: &Arc<Application>, request: &RequestView<'_>) -> Decision {
    let settings = application.settings();
    if settings.cors.is_some() {
        Decision::Preflight(Arc::clone(application))
    } else if settings.options_preflight_bypass {
        // No identity is checked, so the origin must not take the request for one that does more.
        if request.query.is_some_and(overrides_method) {
            return Decision::Refuse(Reason::MethodRefused);
        }
        Decision::Forward(Permit::new(Arc::clone(application), None, None))
    } else {
        Decision::Deny(Refusal::new(Reason::PreflightRefused, application))
    }
}

fn permit(
    snapshot: &Snapshot,
    application: &Arc<Application>,
    session: Arc<Session>,
    facts: &Facts<'_>,
    shadow: Option<ShadowVerdict>,
    client: &ClientFacts<'_>,
) -> Decision {
    let (set, policies) = (snapshot.policies(), &application.policies);
    let verdict = match session.partial_verdict(application.index) {
        Some(partial) => set.evaluate(policies, partial, facts),
        None => set.evaluate(
            policies,
            &set.partial_verdict(policies, session.answers()),
            facts,
        ),
    };
    let verdict = Verdict {
        shadow: shadow.or(verdict.shadow),
        ..verdict
    };
    match verdict {
        Verdict {
            outcome: Outcome::Allow,
            ..
        } => forward(
            Permit::new(Arc::clone(application), Some(session), Some(verdict)),
            client,
        ),
        // Whose record cannot be had is not judged. A record that leaves something open is: asking
        // again would not help.
        Verdict { unknown: true, .. } if session.identity().is_none() => Decision::Unavailable(
            Refusal::from_verdict(Arc::clone(application), session, verdict),
        ),
        _ => Decision::Deny(Refusal::from_verdict(
            Arc::clone(application),
            session,
            verdict,
        )),
    }
}

#[cfg(test)]
#[path = "tests/mod.rs"]
mod tests;
