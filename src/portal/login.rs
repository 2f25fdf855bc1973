use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Method, Response};

use super::conflict_page::conflict_page;
use super::outcome::{LoginOutcome, LoginStep, Retry, SignedIn};
use super::{error_pages, provider_request};
use crate::control::{EndpointParts, Organisation, Services};
use crate::cookie;
use crate::engine::Snapshot;
use crate::idp::{Hints, Prompt, Provider};
use crate::login::{
    Conflict, Destination, Handover, LoginPurpose, PortalRequest, ReturnTo, ReturnToError, State,
    app_session_hash,
};
use crate::model::{Aud, HostPort, IdpId, Reason};
use crate::observe::audit::Via;
use crate::observe::metrics;
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
    let authentication = Authentication::required(request);
    let session = match authentication {
        Authentication::Session => {
            parts
                .sessions
                .organisation(&request.headers, request.now)
                .await
        }
        Authentication::Provider | Authentication::Credentials => Ok(Organisation::Nobody),
    };
    if let Ok(Organisation::SignedIn(login)) = &session {
        // Only the browser for which a hand-over was made learns the page that it leads to.
        let page = request.parameter("handover").and_then(|handover| {
            Handover::page(
                parts.flows.seal(),
                &handover,
                &destination.host,
                login.nonce,
            )
        });
        if let Some(page) = page
            && destination.application.allows_idp(&login.identity.idp.id)
        {
            destination.to = page;
        }
    }
    let host = destination.host.clone();
    let purpose = LoginPurpose::Application(destination.clone());
    let step = LoginStep {
        parts,
        snapshot: &snapshot,
        request,
        purpose: &purpose,
    };
    let mut response = match session {
        Ok(Organisation::SignedIn(login))
            if destination.application.allows_idp(&login.identity.idp.id) =>
        {
            let outcome = LoginOutcome::SignedIn(SignedIn {
                login,
                via: Via::Session,
                cookie: None,
            });
            step.conclude(outcome).await
        }
        Ok(Organisation::Conflict) => conflict(&step, &destination).await,
        Ok(_) => choose_provider(&step, &destination, authentication).await,
        Err(_) => {
            let (idp, retry) = (None, Retry::Request);
            step.conclude(LoginOutcome::Unavailable { idp, retry })
                .await
        }
    };
    if let Ok(host) = HeaderValue::try_from(host) {
        response.headers_mut().insert("cf-access-domain", host);
    }
    response
}

/// The authentication that a login requires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Authentication {
    /// An organisation session suffices.
    Session,
    /// The identity provider has to report the user again, and may use its own session. A fact
    /// was unknown at the last login. The provider may know it now.
    Provider,
    /// The identity provider has to require credentials: the user switches accounts.
    Credentials,
}

impl Authentication {
    fn required(request: &PortalRequest) -> Self {
        if request.parameter("switch").is_some() {
            Self::Credentials
        } else if request.parameter("anew").is_some() {
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

/// Expires both organisation sessions of a browser that shows two, and begins a login.
async fn conflict(step: &LoginStep<'_>, destination: &Destination) -> Response<Bytes> {
    let (parts, request) = (step.parts, step.request);
    let conflict = Conflict {
        cookie: cookie::AUTHORIZATION,
        host: &request.host,
        path: &request.path,
        now: request.now,
    };
    // Another host sets its cookie again after each expiry, so a further login would not end the
    // conflict.
    if conflict.came_back(&request.headers) {
        parts.audit.login_refused(
            Reason::SessionConflict.id(),
            metrics::Login::Invalid,
            Some(&destination.application),
            request,
        );
        let login = destination.login_url(&parts.running.services().team_url);
        return conflict_page(&conflict, &login, request.support.as_deref(), request.id);
    }
    let mut response = choose_provider(step, destination, Authentication::Provider).await;
    conflict.expire(response.headers_mut());
    conflict.mark(response.headers_mut());
    response
}

/// Shows the application's identity providers, or begins a login at the one that is chosen.
async fn choose_provider(
    step: &LoginStep<'_>,
    destination: &Destination,
    authentication: Authentication,
) -> Response<Bytes> {
    let (parts, request) = (step.parts, step.request);
    let services = parts.running.services();
    let settings = destination.application.settings();
    let allowed: Vec<&Provider> = services
        .providers
        .iter()
        .filter(|provider| destination.application.allows_idp(provider.id()))
        .collect();
    let chosen = request.parameter("idp").map(|id| IdpId(id.as_ref().into()));
    let provider = match (chosen, allowed.as_slice()) {
        (Some(chosen), allowed) => match allowed.iter().find(|p| *p.id() == chosen) {
            Some(provider) => Some(*provider),
            None => return error_pages::bad_request(request, "unknown_identity_provider"),
        },
        // With several providers the user has to choose, whatever the setting is.
        (None, [only]) if settings.auto_redirect_to_identity => Some(*only),
        _ => None,
    };
    // cloudflared requests this with HEAD, and does not follow a login.
    let Some(provider) = provider.filter(|_| request.method == Method::GET) else {
        return provider_list(step, &settings.name, &allowed);
    };
    let mut state = State::to_application(destination, request.now);
    state.is_restart = request.parameter("second").is_some();
    let hints = Hints {
        prompt: (authentication == Authentication::Credentials).then_some(Prompt::Login),
        ..Hints::default()
    };
    let outcome = provider_request::begin(parts, provider, state, hints, request).await;
    step.conclude(outcome).await
}

fn provider_list(
    step: &LoginStep<'_>,
    application: &str,
    providers: &[&Provider],
) -> Response<Bytes> {
    let request = step.request;
    let choice = |provider: &Provider| {
        let mut query =
            url::form_urlencoded::Serializer::new(request.query.clone().unwrap_or_default());
        query.append_pair("idp", &provider.id().0);
        format!("{}?{}", request.path, query.finish())
    };
    let choices: Vec<_> = providers
        .iter()
        .map(|provider| (choice(provider), provider.name()))
        .collect();
    let links: Vec<_> = choices
        .iter()
        .map(|(href, label)| Link { href, label })
        .collect();
    let page = LoginChooser {
        team: &step.snapshot.team().name,
        application,
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
