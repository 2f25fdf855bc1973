use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Method, Response};

use super::outcome::{Authentication, LoginOutcome, LoginStep, Retry, SignedIn};
use super::{error_pages, provider_request};
use crate::control::{EndpointParts, Organisation, Services};
use crate::engine::Snapshot;
use crate::idp::{Hints, Prompt, Provider};
use crate::login::{
    Destination, Handover, LoginOption, LoginPurpose, PortalRequest, ReturnTo, ReturnToError,
    State, app_session_hash, replaced_handover,
};
use crate::model::{Aud, HostPort, IdpId, Reason};
use crate::pages::{ErrorPage, Link, LoginChooser, answer};
use crate::route::Endpoint;

/// Answers `login/<host>`: hands over a browser that has a session, and sends others to an identity
/// provider.
pub(super) async fn login(parts: &EndpointParts, request: &PortalRequest) -> Response<Bytes> {
    let snapshot = parts.running.snapshot();
    let Some(mut destination) = destination(&snapshot, request) else {
        return error_pages::not_found(request);
    };
    // The browser would end on the front page, and the user would not know why.
    let page = request.parameter("redirect_url");
    if page.is_some_and(|page| ReturnTo::read(&page) == Err(ReturnToError::TooLong)) {
        return target_too_long(&parts.running.services(), &destination, request);
    }
    let found = match Authentication::required(request) {
        Authentication::Session => {
            let (headers, now) = (&request.headers, request.now);
            parts.sessions.organisation(headers, now).await
        }
        Authentication::Provider | Authentication::Credentials => Ok(Organisation::Nobody),
    };
    let outcome = match found {
        Ok(Organisation::SignedIn(login))
            if destination.application.allows_idp(&login.identity.idp.id) =>
        {
            // Only the browser for which a hand-over was made learns the page that it leads to.
            let page = replaced_handover(request).and_then(|handover| {
                let seal = parts.flows.seal();
                Handover::page(seal, &handover, &destination.host, login.nonce)
            });
            destination.to = page.unwrap_or(destination.to);
            LoginOutcome::SignedIn(SignedIn::by_session(login))
        }
        Ok(Organisation::Conflict) => LoginOutcome::SessionConflict,
        Ok(_) => LoginOutcome::Unauthenticated(Authentication::required(request)),
        Err(_) => LoginOutcome::Unavailable {
            idp: None,
            retry: Retry::Request,
        },
    };
    let host = HeaderValue::try_from(&destination.host);
    let step = LoginStep {
        parts,
        snapshot: &snapshot,
        request,
        purpose: &LoginPurpose::Application(destination),
    };
    let mut response = step.conclude(outcome).await;
    if let Ok(host) = host {
        response.headers_mut().insert("cf-access-domain", host);
    }
    response
}

impl Authentication {
    fn required(request: &PortalRequest) -> Self {
        if LoginOption::SwitchAccount.is_in(request) {
            Self::Credentials
        } else if LoginOption::AtProvider.is_in(request) {
            Self::Provider
        } else {
            Self::Session
        }
    }
}

fn target_too_long(
    services: &Services,
    destination: &Destination,
    request: &PortalRequest,
) -> Response<Bytes> {
    let login = destination.login_url(&services.team_url);
    let id = request.id.to_string();
    let page =
        ErrorPage::login_target_too_long(&login, &id).with_reason(Reason::TargetTooLong.id());
    error_pages::shown(page, request)
}

/// Begins a login at the application's identity provider that the user chose, or at its only one.
pub(super) async fn choose_provider(
    step: &LoginStep<'_>,
    destination: &Destination,
    authentication: Authentication,
) -> LoginOutcome {
    let (parts, request) = (step.parts, step.request);
    let services = parts.running.services();
    let allowed = allowed_providers(&services, destination);
    let chosen = request.parameter("idp").map(|id| IdpId(id.as_ref().into()));
    let redirects = destination.application.settings().auto_redirect_to_identity;
    let provider = match (chosen, allowed.as_slice()) {
        (Some(chosen), allowed) => match allowed.iter().find(|p| *p.id() == chosen) {
            Some(provider) => *provider,
            None => return LoginOutcome::UnknownProvider,
        },
        // With several providers the user has to choose, whatever the setting is.
        (None, [only]) if redirects => *only,
        _ => return LoginOutcome::ChooseProvider,
    };
    // cloudflared requests this with HEAD, and does not follow a login.
    if request.method != Method::GET {
        return LoginOutcome::ChooseProvider;
    }
    let mut state = State::to_application(destination, request.now);
    state.is_restart = LoginOption::SecondAttempt.is_in(request);
    let hints = Hints {
        prompt: (authentication == Authentication::Credentials).then_some(Prompt::Login),
        ..Hints::default()
    };
    provider_request::begin(parts, provider, state, hints, request).await
}

fn allowed_providers<'a>(services: &'a Services, destination: &Destination) -> Vec<&'a Provider> {
    let providers = services.providers.iter();
    providers
        .filter(|provider| destination.application.allows_idp(provider.id()))
        .collect()
}

/// Returns the page on which the user chooses an identity provider.
pub(super) fn provider_list(step: &LoginStep<'_>, destination: &Destination) -> Response<Bytes> {
    let (request, services) = (step.request, step.parts.running.services());
    let choice = |provider: &Provider| {
        let mut query =
            url::form_urlencoded::Serializer::new(request.query.clone().unwrap_or_default());
        query.append_pair("idp", &provider.id().0);
        format!("{}?{}", request.path, query.finish())
    };
    let choices: Vec<_> = allowed_providers(&services, destination)
        .into_iter()
        .map(|provider| (choice(provider), provider.name()))
        .collect();
    let links: Vec<_> = choices
        .iter()
        .map(|(href, label)| Link { href, label })
        .collect();
    let page = LoginChooser {
        team: &step.snapshot.team().name,
        application: &destination.application.settings().name,
        providers: &links,
        request_id: &request.id.to_string(),
    };
    answer::page(page.page())
}

/// Returns the page that a login leads to; `None` if its host has no such application.
fn destination(snapshot: &Snapshot, request: &PortalRequest) -> Option<Destination> {
    let target = request
        .path
        .strip_prefix(Endpoint::PREFIX)?
        .strip_prefix("/login/")?;
    let (host, path) = target
        .find('/')
        .and_then(|at| target.split_at_checked(at))
        .unwrap_or((target, "/"));
    let host = HostPort::parse(host).ok()?.host.into_owned();
    let application = match request.parameter("kid") {
        Some(kid) => snapshot.application(&Aud::parse(&kid).ok()?)?,
        None => snapshot
            .applications()
            .get(snapshot.router().find(&host, path)?)?,
    };
    // `kid` and the host come from the URL. Together they must not lead a session to another
    // application's host.
    if !application.settings().domain.covers_host(&host) {
        return None;
    }
    Some(Destination {
        application: Arc::clone(application),
        host,
        to: ReturnTo::parse(request.parameter("redirect_url").as_deref().unwrap_or(path)),
        app_session: request
            .parameter("meta")
            .and_then(|meta| app_session_hash(&meta)),
    })
}
