use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header};
use serde::Deserialize;

use super::errand::Errand;
use super::respond;
use crate::control::{Access, Login, Organisation, Services};
use crate::cookie;
use crate::engine::{Application, Snapshot};
use crate::idp::{Attempt, Begun, Hints, LoginFailure, Prompt, Provider};
use crate::login::{
    Conflict, Flow, FlowCookies, Handover, PortalRequest, ReturnTo, ReturnToError, State, Terms,
};
use crate::model::{Aud, HostPort, IdpId, Reason};
use crate::observe::audit::Via;
use crate::observe::metrics;
use crate::pages::{ErrorPage, Link, LoginChooser, answer};
use crate::policy::{Fact, Facts, Outcome, Requester};
use crate::route::Endpoint;

/// Where a login is to end: an application, the host by which the browser calls it, a page, and the
/// browser's cookie there.
#[derive(Clone, Debug)]
pub(super) struct Destination {
    pub(super) application: Arc<Application>,
    pub(super) host: String,
    pub(super) to: ReturnTo,
    /// The hash of the cookie that binds the hand-over; without one the browser goes to the page
    /// and begins there.
    pub(super) app_session: Option<String>,
}

/// `login/<host>`: straight on where the team knows the browser already, otherwise to a provider.
pub(super) async fn login(access: &Access, request: &PortalRequest) -> Response<Bytes> {
    let snapshot = access.snapshot();
    let Some(mut destination) = destination(&snapshot, request) else {
        return respond::not_found(request);
    };
    // The browser would end on the front page, and the user would not know why.
    let page = request.parameter("redirect_url");
    if page.is_some_and(|page| ReturnTo::read(&page) == Err(ReturnToError::TooLong)) {
        let (login, id) = (
            again(&access.services(), &destination),
            request.id.to_string(),
        );
        let page =
            ErrorPage::login_target_too_long(&login, &id).with_reason(Reason::TargetTooLong.id());
        return respond::shown(page, request);
    }
    let switching = request.parameter("switch").is_some();
    // What the last login left open may be known to the provider by now, and the session here would
    // say the same again.
    let anew = switching || request.parameter("anew").is_some();
    let known = if anew {
        Ok(Organisation::Nobody)
    } else {
        access.organisation(&request.headers, request.now).await
    };
    let mut response = match known {
        Ok(Organisation::SignedIn(login))
            if destination.application.allows_idp(&login.identity.idp.id) =>
        {
            // Only the browser that a hand-over was made for learns which page it leads to.
            let handover = request.parameter("handover");
            let page = handover
                .and_then(|h| Handover::page(access.seal(), &h, &destination.host, login.nonce));
            destination.to = page.unwrap_or(destination.to);
            arrive(
                access,
                &snapshot,
                &destination,
                &login,
                Via::Session,
                request,
            )
            .await
        }
        Ok(Organisation::Conflict) => conflict(access, &destination, request).await,
        Ok(_) => choose(access, &destination, request, switching).await,
        Err(_) => {
            access.login_unavailable(None, Some(&destination.application), request);
            respond::unavailable(request)
        }
    };
    if let Ok(host) = HeaderValue::try_from(&destination.host) {
        response.headers_mut().insert("cf-access-domain", host);
    }
    response
}

/// Expires both organisation sessions of a browser that shows two, and begins a login.
async fn conflict(
    access: &Access,
    destination: &Destination,
    request: &PortalRequest,
) -> Response<Bytes> {
    let conflict = Conflict {
        cookie: cookie::AUTHORIZATION,
        host: &request.host,
        path: &request.path,
        now: request.now,
    };
    if conflict.came_back(&request.headers) {
        access.login_refused(
            Reason::SessionConflict.id(),
            metrics::Login::Invalid,
            Some(&destination.application),
            request,
        );
        return conflict.page(
            &again(&access.services(), destination),
            request.support.as_deref(),
            request.id,
        );
    }
    let mut response = choose(access, destination, request, false).await;
    conflict.expire(response.headers_mut());
    conflict.mark(response.headers_mut());
    response
}

/// The list of providers, or straight on to the only one.
async fn choose(
    access: &Access,
    destination: &Destination,
    request: &PortalRequest,
    switching: bool,
) -> Response<Bytes> {
    let services = access.services();
    let settings = destination.application.settings();
    let allowed: Vec<&Provider> = services
        .providers
        .iter()
        .filter(|p| destination.application.allows_idp(p.id()))
        .collect();
    let chosen = request.parameter("idp").map(|id| IdpId(id.as_ref().into()));
    let provider = match (chosen, allowed.as_slice()) {
        (Some(chosen), allowed) => match allowed.iter().find(|p| *p.id() == chosen) {
            Some(provider) => Some(*provider),
            None => return respond::bad_request(request, "unknown_identity_provider"),
        },
        (None, [only]) if settings.auto_redirect_to_identity => Some(*only),
        _ => None,
    };
    // cloudflared asks with HEAD and wants no flow.
    if let Some(provider) = provider.filter(|_| request.method == Method::GET) {
        return begin(access, provider, destination, request, switching).await;
    }
    let again = |provider: &Provider| {
        let mut query =
            url::form_urlencoded::Serializer::new(request.query.clone().unwrap_or_default());
        query.append_pair("idp", &provider.id().0);
        format!("{}?{}", request.path, query.finish())
    };
    let hrefs: Vec<_> = allowed
        .iter()
        .map(|provider| (again(provider), provider.name()))
        .collect();
    let providers: Vec<_> = hrefs
        .iter()
        .map(|(href, label)| Link { href, label })
        .collect();
    let snapshot = access.snapshot();
    let page = LoginChooser {
        team: &snapshot.team().name,
        application: &settings.name,
        providers: &providers,
        request_id: &request.id.to_string(),
    };
    answer::page(page.page())
}

async fn begin(
    access: &Access,
    provider: &Provider,
    destination: &Destination,
    request: &PortalRequest,
    switching: bool,
) -> Response<Bytes> {
    let Destination {
        application,
        host,
        to,
        app_session,
    } = destination.clone();
    let mut state = State::new(
        application.aud().clone(),
        host,
        to,
        app_session,
        request.now,
    );
    state.second = request.parameter("second").is_some();
    let hints = Hints {
        prompt: switching.then_some(Prompt::Login),
        ..Hints::default()
    };
    send(
        access,
        provider,
        state,
        hints,
        &Errand::Application(destination.clone()),
        request,
    )
    .await
}

/// Sends the browser to the provider, with its half of the flow in a cookie.
pub(super) async fn send(
    access: &Access,
    provider: &Provider,
    state: State,
    hints: Hints,
    errand: &Errand,
    request: &PortalRequest,
) -> Response<Bytes> {
    if !is_a_page(request) {
        return answer::empty(StatusCode::FORBIDDEN);
    }
    if let Some(saml) = provider.saml() {
        let fresh = hints.prompt == Some(Prompt::Login);
        return super::saml::begin(access, saml, state, fresh, errand, request).await;
    }
    let state = without_long_address(access, state);
    let Ok(sealed) = state.seal(access.seal()) else {
        return respond::internal(request);
    };
    let begun = provider.begin(&sealed, hints, request.now).await;
    sent(access, provider, (state, sealed), begun, errand, request)
}

/// Sends the browser to the provider once more, for a login that failed there.
pub(super) async fn send_again(
    access: &Access,
    provider: &Provider,
    failed: &State,
    attempt: Attempt,
    errand: &Errand,
    request: &PortalRequest,
) -> Response<Bytes> {
    let State {
        aud,
        host,
        to,
        app_session,
        second,
        ..
    } = failed.clone();
    let state = State {
        second,
        ..State::new(aud, host, to, app_session, request.now)
    };
    let state = without_long_address(access, state);
    let Ok(sealed) = state.seal(access.seal()) else {
        return respond::internal(request);
    };
    let begun = provider.begin_again(&sealed, attempt, request.now).await;
    sent(access, provider, (state, sealed), begun, errand, request)
}

/// Many providers reject a request line that is as long as some addresses, so such an address is
/// remembered here alone.
fn without_long_address(access: &Access, state: State) -> State {
    if !state.to.is_long() {
        return state;
    }
    access.remember_begun(&state);
    state.to_front_page()
}

fn sent(
    access: &Access,
    provider: &Provider,
    (state, sealed): (State, String),
    begun: Result<Begun, LoginFailure>,
    errand: &Errand,
    request: &PortalRequest,
) -> Response<Bytes> {
    let begun = match begun {
        Ok(begun) => begun,
        Err(failure) => return errand.failed(access, (&failure, provider.id()), request),
    };
    let flow = Flow::new(&sealed, begun.pending, request.now);
    let Some(cookie) = flow.to_cookie(access.seal(), &state.flow, request.now) else {
        return respond::internal(request);
    };
    let mut response = answer::redirect(StatusCode::FOUND, begun.url.as_str());
    for removal in FlowCookies::of(&request.headers, access.seal()).make_room(request.now) {
        response.headers_mut().append(header::SET_COOKIE, removal);
    }
    response.headers_mut().append(header::SET_COOKIE, cookie);
    response
}

/// Somebody is logged in: hands the browser over to the application's host, where the policies let
/// them.
pub(super) async fn arrive(
    access: &Access,
    snapshot: &Snapshot,
    destination: &Destination,
    login: &Login,
    via: Via,
    request: &PortalRequest,
) -> Response<Bytes> {
    let Destination {
        application,
        host,
        to,
        app_session,
    } = destination;
    let Ok(identity) = &access
        .evaluated(application, login, request.id, request.now)
        .await
    else {
        access.login_unavailable(Some(&login.identity.idp.id), Some(application), request);
        return respond::unavailable(request);
    };
    // Whoever comes from a login opens a page, and is a browser: no program.
    let facts = Facts::new(
        request.client,
        &Method::GET,
        request.now,
        snapshot.countries(),
    );
    let facts = Facts {
        service_token: Fact::Absent,
        linked_app: Fact::Absent,
        ..facts
    };
    let who = Requester::User {
        email: &identity.email,
        identity: Some(identity),
    };
    let verdict = snapshot.judge(application, who, &facts);
    // Which certificate the browser shows to the application's host shows there, on every request.
    // What a service has to say does not.
    let shows_there = verdict.unknown
        && application.asks_for_certificates()
        && access.all_answered(application, identity);
    if verdict.outcome == Outcome::Deny && !shows_there {
        access.denied_at_login(&verdict, application, identity, via, request);
        let again = again(&access.services(), destination);
        return respond::denied(
            request,
            application,
            identity,
            &again,
            Reason::of_denial(&verdict),
        );
    }
    let base = snapshot.team().url_of(host);
    let page = format!("{base}{}", to.as_str());
    // Without that cookie the browser comes back here with one, as somebody who is known by then.
    if app_session.is_some() || via == Via::Provider {
        access.logged_in(&verdict, application, identity, via, request);
    }
    let Some(app_session) = app_session else {
        return answer::redirect(StatusCode::FOUND, &page);
    };
    let lasts = if verdict.outcome == Outcome::Deny {
        application.shortest_session()
    } else {
        let policy = verdict
            .policy
            .and_then(|index| application.policy(index))
            .and_then(|(_, duration)| duration);
        policy.unwrap_or(application.settings().session_duration)
    };
    let handover = Handover::new(
        Terms {
            aud: application.aud().clone(),
            host: host.clone(),
            to: to.clone(),
            nonce: login.nonce,
            session_expires: identity.ends_by(request.now.after(lasts)),
            app_session: app_session.clone(),
        },
        request.now,
    );
    match handover.url(access.seal(), &base) {
        Ok(url) => answer::redirect(StatusCode::FOUND, &url),
        Err(_) => respond::internal(request),
    }
}

/// Scripts and images begin no login, nor do frames on other sites: whatever anybody's page can do
/// to a browser without its person noticing would fill it with cookies.
fn is_a_page(request: &PortalRequest) -> bool {
    let header = |name| request.header(name);
    let page = header("sec-fetch-mode").is_none_or(|mode| mode == "navigate");
    let framed = header("sec-fetch-dest").is_some_and(|dest| dest != "document");
    page && !(framed && header("sec-fetch-site") == Some("cross-site"))
}

/// The login of the same page, from the beginning.
pub(super) fn again(services: &Services, destination: &Destination) -> String {
    let Destination {
        application,
        host,
        to,
        ..
    } = destination;
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query
        .append_pair("kid", application.aud().as_str())
        .append_pair("redirect_url", to.as_str());
    format!(
        "{}{}/login/{host}?{}",
        services.team_url,
        Endpoint::PREFIX,
        query.finish()
    )
}

fn destination(snapshot: &Snapshot, request: &PortalRequest) -> Option<Destination> {
    let named = request
        .path
        .strip_prefix(Endpoint::PREFIX)?
        .strip_prefix("/login/")?;
    let (host, path) = named
        .find('/')
        .and_then(|at| named.split_at_checked(at))
        .unwrap_or((named, "/"));
    let host = HostPort::parse(host).ok()?.host.into_owned();
    let application = match request.parameter("kid") {
        Some(kid) => snapshot.application(&Aud::parse(&kid).ok()?)?,
        None => snapshot
            .applications()
            .get(snapshot.router().find(&host, path)?)?,
    };
    application
        .settings()
        .domain
        .covers_host(&host)
        .then(|| Destination {
            application: Arc::clone(application),
            host,
            to: ReturnTo::parse(request.parameter("redirect_url").as_deref().unwrap_or(path)),
            app_session: request
                .parameter("meta")
                .and_then(|meta| app_session_hash(&meta)),
        })
}

/// The hash in a `meta` token. Why its signature would prove nothing is said where it is made, and
/// so nothing would its `exp`: it would only keep the hand-over from hosts with another clock.
fn app_session_hash(meta: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Meta {
        app_session_hash: String,
    }
    let payload = URL_SAFE_NO_PAD.decode(meta.split('.').nth(1)?).ok()?;
    let Meta {
        app_session_hash: hash,
    } = serde_json::from_slice(&payload).ok()?;
    let hex = hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit());
    hex.then_some(hash)
}
