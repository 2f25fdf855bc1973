use std::sync::Arc;

use super::challenge::is_preflight;
use super::client_facts::ClientFacts;
use super::node_cache::AssertionOf;
use super::reserved::overrides_method;
use super::routing::route;
use super::steps::{Conclusion, Evidence, Presented, steps};
use super::verification::NoSession;
use super::{
    Application, Challenge, Decision, Need, Permit, Refusal, ServiceClient, Snapshot, Style,
    credential,
};
use crate::model::{Identity, Reason, RequestView, UnixTime};
use crate::policy::{EarlyVerdict, Facts, PolicyDecision, Verdict};
use crate::session::Session;

/// Decides a request with the facts that this node has now.
///
/// On [`Decision::Resolve`] the caller awaits the control path and calls again, once for each
/// [`Need`]. A need that comes a second time is treated as [`Decision::Unavailable`].
pub fn decide(snapshot: &Snapshot, request: &RequestView<'_>, now: UnixTime) -> Decision {
    let application = match route(snapshot, request) {
        Ok(application) => application,
        Err(decision) => return decision,
    };
    let client = match ClientFacts::read(snapshot, application, request, now) {
        Ok(client) => client,
        Err(need) => return Decision::Resolve(need),
    };
    let evidence = Request {
        facts: client.facts(snapshot, request, now),
        snapshot,
        application,
        request,
        client: &client,
        now,
    };
    match steps(application, &evidence) {
        Conclusion::Early(verdict) if verdict.decision == PolicyDecision::ServiceAuth => {
            service_auth(snapshot, application, &client, verdict, now)
        }
        Conclusion::Early(verdict) => {
            let permit = Permit::new(Arc::clone(application), None, Some(verdict));
            forward(permit, &client)
        }
        Conclusion::Preflight => preflight(application, request),
        Conclusion::Allow(session, verdict) => {
            let permit = Permit::new(Arc::clone(application), Some(session), Some(verdict));
            forward(permit, &client)
        }
        Conclusion::Deny(denied) => Decision::Deny(Refusal {
            service_client: match denied.session {
                Some(_) => None,
                None => client.identified(),
            },
            ..Refusal::not_forwarded(application, denied)
        }),
        Conclusion::Unavailable(unknown) => {
            Decision::Unavailable(Refusal::not_forwarded(application, unknown))
        }
        Conclusion::LogIn { reason, shadow } => Decision::LogIn(Challenge {
            application: Arc::clone(application),
            reason,
            style: Style::for_request(request),
            shadow,
        }),
        Conclusion::Resolve(need) => Decision::Resolve(need),
    }
}

/// The evidence of a request as it was received.
struct Request<'a> {
    snapshot: &'a Snapshot,
    application: &'a Arc<Application>,
    request: &'a RequestView<'a>,
    client: &'a ClientFacts<'a>,
    facts: Facts<'a>,
    now: UnixTime,
}

impl Evidence for Request<'_> {
    type Session = Arc<Session>;

    fn early_verdict(&self) -> EarlyVerdict {
        let policies = &self.application.policies;
        self.snapshot
            .policies()
            .early_verdict(policies, &self.facts)
    }

    fn is_preflight(&self) -> bool {
        is_preflight(self.request)
    }

    fn service_token(&self) -> Presented {
        self.client.service_token()
    }

    fn linked_app(&self) -> Presented {
        self.client.linked_app()
    }

    fn session(&self) -> Result<Arc<Session>, NoSession> {
        let headers = self.request.headers;
        credential::session(self.snapshot, self.application, headers, self.now)
    }

    fn identity<'s>(&'s self, session: &'s Arc<Session>) -> Option<&'s Identity> {
        session.identity().map(Arc::as_ref)
    }

    fn verdict(&self, session: &Arc<Session>) -> Verdict {
        self.snapshot
            .evaluate(self.application, session, &self.facts)
    }
}

fn forward(permit: Permit, client: &ClientFacts<'_>) -> Decision {
    Decision::Forward(permit.with_authorization(client.authorization()))
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
            let of = AssertionOf {
                aud: application.aud(),
                common_name,
            };
            let Some(assertion) = snapshot
                .cache()
                .assertion(of, snapshot.keys().key_set(), now)
            else {
                let policy = verdict.policy.and_then(|index| application.policy(index));
                let lasts = policy
                    .and_then(|(_, lasts)| lasts)
                    .unwrap_or(application.settings().session_duration);
                let ends = service_client.as_ref().and_then(ServiceClient::expires);
                // The token must not outlive the credential that it stands for.
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

fn preflight(application: &Arc<Application>, request: &RequestView<'_>) -> Decision {
    let settings = application.settings();
    if settings.cors.is_some() {
        Decision::Preflight(Arc::clone(application))
    // CORS settings come first: they answer without the origin, which is the narrower permission.
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

#[cfg(test)]
#[path = "tests/mod.rs"]
mod tests;
