//! Audit events and metrics of the check.

use super::Malformed;
use crate::engine::{Application, Challenge, Permit, Refusal, ServiceClient, Snapshot};
use crate::model::{Reason, RequestId, RequestView};
use crate::observe::audit::{Event, Kind, Outcome};
use crate::observe::metrics::{self, metrics};
use crate::policy::PolicyDecision;

/// Counts a request that is forwarded. Returns the id of its event, if it has one.
pub(super) fn forwarded(
    snapshot: &Snapshot,
    request: &RequestView<'_>,
    permit: &Permit,
    is_sampled: bool,
) -> Option<RequestId> {
    metrics().request(metrics::Decision::Allow, None);
    let shadow = permit.shadow();
    count_shadow(permit.application(), shadow);
    if let Some(ServiceClient::ServiceToken(token)) = permit.service_client() {
        metrics().service_token(&token.id, metrics::Decision::Allow);
    }
    let id = (shadow.is_some() || is_sampled).then(RequestId::random)?;
    permitted(permit, event(snapshot, Outcome::Allowed, request, id)).emit();
    Some(id)
}

/// Counts a request that needs a login. It has an event only if a shadow policy would have changed
/// the decision.
pub(super) fn challenged(
    snapshot: &Snapshot,
    challenge: &Challenge,
    request: &RequestView<'_>,
    id: RequestId,
) {
    metrics().request(metrics::Decision::Login, Some(challenge.reason));
    // Scanners and expired tabs would fill the audit log, so only the counter sees other
    // challenges.
    let Some((policy, outcome)) = challenge.shadow() else {
        return;
    };
    let Challenge {
        application,
        reason,
        ..
    } = challenge;
    count_shadow(application, Some((policy, outcome)));
    Event {
        reason: Some(reason.id()),
        application: Some(&application.settings().name),
        aud: Some(application.aud().as_str()),
        shadow: Some((policy, outcome.as_str())),
        ..event(snapshot, Outcome::Refused, request, id)
    }
    .emit();
}

pub(super) fn refused(
    snapshot: &Snapshot,
    counted: metrics::Decision,
    outcome: Outcome,
    refusal: &Refusal,
    request: &RequestView<'_>,
    id: RequestId,
) {
    metrics().request(counted, Some(refusal.reason));
    let application = refusal.application.as_deref();
    if let Some(application) = application {
        count_shadow(application, refusal.shadow());
    }
    let refused = Event {
        reason: Some(refusal.reason.id()),
        application: application.map(|a| a.settings().name.as_str()),
        aud: application.map(|a| a.aud().as_str()),
        email: refusal.email(),
        user: refusal.user(),
        policy: application
            .zip(refusal.policy)
            .and_then(|(application, index)| application.policy(index))
            .map(|(name, _)| name),
        shadow: refusal
            .shadow()
            .map(|(name, outcome)| (name, outcome.as_str())),
        ..with_service_client(
            refusal.service_client.as_ref(),
            event(snapshot, outcome, request, id),
        )
    };
    refused.emit();
    if let Some(ServiceClient::ServiceToken(token)) = &refusal.service_client {
        metrics().service_token(&token.id, counted);
    }
}

/// Records a request without an application or endpoint, or with a target that is refused.
pub(super) fn rejected(
    snapshot: &Snapshot,
    reason: Reason,
    request: &RequestView<'_>,
    id: RequestId,
) {
    metrics().request(metrics::Decision::Deny, Some(reason));
    Event {
        reason: Some(reason.id()),
        ..event(snapshot, Outcome::Refused, request, id)
    }
    .emit();
}

pub(super) fn unresolved(snapshot: &Snapshot, request: &RequestView<'_>, id: RequestId) {
    metrics().request(
        metrics::Decision::Unavailable,
        Some(Reason::IdentityUnavailable),
    );
    Event {
        reason: Some("unresolved"),
        ..event(snapshot, Outcome::Unavailable, request, id)
    }
    .emit();
}

pub(super) fn malformed(
    snapshot: &Snapshot,
    reason: Reason,
    request: &Malformed<'_>,
    id: RequestId,
) {
    metrics().request(metrics::Decision::Deny, Some(reason));
    let refused = Event {
        reason: Some(reason.id()),
        client: Some(request.client),
        country: snapshot.country_of(Some(request.client)),
        method: Some(request.method.as_str()),
        ..Event::new(Kind::Access, Outcome::Refused, id)
    };
    refused.emit();
}

/// Records the refusal of a request that was forwarded first.
pub(super) fn refused_later(
    snapshot: &Snapshot,
    permitted_as: Option<(&Permit, &RequestView<'_>)>,
    reason: Reason,
    id: RequestId,
) {
    metrics().request(metrics::Decision::Deny, Some(reason));
    if let Some((permit, request)) = permitted_as {
        let refused = permitted(permit, event(snapshot, Outcome::Refused, request, id));
        Event {
            reason: Some(reason.id()),
            ..refused
        }
        .emit();
    }
}

/// Records that a running request is cut.
pub(super) fn cut(
    snapshot: &Snapshot,
    request: Option<&RequestView<'_>>,
    permit: &Permit,
    reason: Option<Reason>,
    id: RequestId,
) {
    metrics().cut(reason);
    let (name, reason) = (
        &permit.application().settings().name,
        reason.map(Reason::id),
    );
    tracing::info!(
        request_id = %id,
        application = name,
        reason,
        "cut a running request that is no longer allowed"
    );
    if let Some(request) = request {
        let ended = event(snapshot, Outcome::Ended, request, id);
        Event {
            reason,
            ..permitted(permit, ended)
        }
        .emit();
    }
}

fn count_shadow(application: &Application, shadow: Option<(&str, PolicyDecision)>) {
    if let Some((name, outcome)) = shadow {
        metrics().shadow(&application.settings().name, name, outcome.as_str());
    }
}

/// Adds the service client to an event.
fn with_service_client<'a>(
    service_client: Option<&'a ServiceClient>,
    event: Event<'a>,
) -> Event<'a> {
    match service_client {
        None => event,
        Some(ServiceClient::ServiceToken(token)) => Event {
            service_token: Some((&token.id, &token.name)),
            ..event
        },
        Some(ServiceClient::Certificate(certificate)) => Event {
            common_name: Some(&certificate.common_name),
            ..event
        },
        Some(ServiceClient::LinkedApp { application, .. }) => Event {
            linked_application: Some(&application.settings().name),
            ..event
        },
    }
}

fn event<'a>(
    snapshot: &Snapshot,
    outcome: Outcome,
    request: &'a RequestView<'_>,
    id: RequestId,
) -> Event<'a> {
    Event {
        client: Some(request.client),
        country: snapshot.country_of(Some(request.client)),
        method: Some(request.method.as_str()),
        host: Some(&request.authority.host),
        path: Some(request.path.as_str()),
        user_agent: request
            .headers
            .get(http::header::USER_AGENT)
            .map(http::HeaderValue::as_bytes),
        ..Event::new(Kind::Access, outcome, id)
    }
}

/// Adds the user, the application and the policy of a permit to an event.
fn permitted<'a>(permit: &'a Permit, event: Event<'a>) -> Event<'a> {
    Event {
        application: Some(&permit.application().settings().name),
        aud: Some(permit.application().aud().as_str()),
        email: permit.email(),
        user: permit.user(),
        policy: permit.policy(),
        shadow: permit
            .shadow()
            .map(|(name, outcome)| (name, outcome.as_str())),
        ..with_service_client(permit.service_client(), event)
    }
}
