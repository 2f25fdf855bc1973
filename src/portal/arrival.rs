//! The end of a login to an application, on the team domain.
//!
//! Decides, by the application's policies, whether the browser of a signed-in user is handed over
//! to the application's host. Trusts the organisation session. Never hands over to a host that is
//! not the application's.

use http::Method;

use super::outcome::{DeniedLogin, LoginOutcome, LoginStep, Retry, SignedIn};
use crate::control::DecidedLogin;
use crate::engine::Application;
use crate::login::{Destination, Handover, Terms};
use crate::model::{Identity, UnixTime};
use crate::observe::audit::Via;
use crate::policy::{Fact, Facts, Outcome, Requester, Verdict};

/// Evaluates the application's policies for a signed-in user, and prepares the hand-over.
pub(super) async fn arrive(
    step: &LoginStep<'_>,
    destination: &Destination,
    SignedIn { login, via, .. }: &SignedIn,
) -> LoginOutcome {
    let LoginStep { parts, request, .. } = *step;
    let (application, via) = (&destination.application, *via);
    let Ok(identity) = parts
        .evaluator
        .evaluated(application, login, request.id, request.now)
        .await
    else {
        // The user is signed in, so the same request succeeds when the store answers again.
        return LoginOutcome::Unavailable {
            idp: Some(login.identity.idp.id.clone()),
            retry: Retry::Request,
        };
    };
    let verdict = evaluate(step, application, &identity);
    // The application's host sees on every request which certificate the browser presents, so it
    // can still allow the user. The answers of evaluation services are the same there.
    let may_be_allowed_there = verdict.unknown
        && application.asks_for_certificates()
        && parts.evaluator.all_answered(application, &identity);
    if verdict.outcome == Outcome::Deny && !may_be_allowed_there {
        return LoginOutcome::Denied(Box::new(DeniedLogin {
            identity,
            verdict,
            via,
        }));
    }
    let base = step.snapshot.team().url_of(&destination.host);
    // Without the application host's cookie the browser returns here with one, and is signed in by
    // then. That visit records the login.
    if destination.app_session.is_some() || via == Via::Provider {
        let decided = DecidedLogin {
            application,
            identity: &identity,
            verdict: &verdict,
            via,
        };
        parts.audit.logged_in(decided, request);
    }
    // A hand-over that is bound to no cookie could be redeemed by any browser.
    let Some(app_session) = destination.app_session.clone() else {
        return LoginOutcome::ToApplication(format!("{base}{}", destination.to.as_str()));
    };
    let handover = Handover::new(
        Terms {
            aud: application.aud().clone(),
            host: destination.host.clone(),
            to: destination.to.clone(),
            nonce: login.nonce,
            session_expires: session_end(application, &verdict, &identity, request.now),
            app_session,
        },
        request.now,
    );
    match handover.url(parts.flows.seal(), &base) {
        Ok(url) => LoginOutcome::ToApplication(url),
        Err(_) => LoginOutcome::Internal,
    }
}

fn evaluate(step: &LoginStep<'_>, application: &Application, identity: &Identity) -> Verdict {
    // A browser that comes from a login opens a page, and is not a service client.
    let facts = Facts {
        service_token: Fact::Absent,
        linked_app: Fact::Absent,
        ..Facts::new(
            step.request.client,
            &Method::GET,
            step.request.now,
            step.snapshot.countries(),
        )
    };
    let user = Requester::User {
        email: &identity.email,
        identity: Some(identity),
    };
    step.snapshot.judge(application, user, &facts)
}

/// Returns the end of the application's session: by the policy that allows the user, and not after
/// the identity's own.
fn session_end(
    application: &Application,
    verdict: &Verdict,
    identity: &Identity,
    now: UnixTime,
) -> UnixTime {
    let duration = if verdict.outcome == Outcome::Deny {
        // The policy that will allow the user is not known yet.
        application.shortest_session()
    } else {
        let policy = verdict.policy.and_then(|index| application.policy(index));
        policy
            .and_then(|(_, duration)| duration)
            .unwrap_or(application.settings().session_duration)
    };
    identity.ends_by(now.after(duration))
}
