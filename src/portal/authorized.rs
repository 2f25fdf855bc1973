use bytes::Bytes;
use http::{Response, StatusCode, header};

use super::pages::{Handover as HandoverPage, LoginLoop, LostCookie};
use super::{PortalRequest, answer, respond};
use crate::control::Access;
use crate::cookie::{self, SameSite, SetCookie};
use crate::login::{AppSession, Handover};
use crate::observe::metrics::Login as Outcome;

/// `authorized`: the hand-over arrives on the application's host and becomes its session.
pub(super) async fn authorized(access: &Access, request: &PortalRequest) -> Response<Bytes> {
    let (id, now) = (request.id, request.now);
    let (nonce, state) =
        (request.parameter("nonce").unwrap_or_default(), request.parameter("state").unwrap_or_default());
    let Ok(handover) = Handover::open(access.seal(), &nonce, &state, now) else {
        access.login_refused("handover_invalid", Outcome::Invalid, request);
        return respond::bad_request(id, "handover_invalid");
    };
    let snapshot = access.snapshot();
    let page = format!("{}{}", snapshot.team().url_of(&handover.host), handover.to.as_str());
    let application = snapshot.application(&handover.aud);
    let Some(application) =
        application.filter(|a| handover.host == request.host && a.settings().domain.covers_host(&request.host))
    else {
        access.login_refused("handover_invalid", Outcome::Invalid, request);
        return respond::bad_request(id, "handover_invalid");
    };
    let Some(session) = AppSession::of(&request.headers) else {
        access.login_refused("app_session_missing", Outcome::Invalid, request);
        let mut causes = vec![LostCookie::Blocked, LostCookie::ThirdParty, LostCookie::TooMany];
        if snapshot.team().plain_http {
            causes.insert(0, LostCookie::PlainHttp);
        }
        let loop_page = LoginLoop {
            cookie: cookie::APP_SESSION,
            causes: &causes,
            start_again: Some(&page),
            reason: Some("app_session_missing"),
            request_id: &id.to_string(),
        };
        return answer::page(loop_page.page());
    };
    let bound = session.has_hash(&handover.app_session);
    let Some(Ok(nonce)) = bound.then(|| handover.nonce()) else {
        access.login_refused("handover_other_browser", Outcome::Invalid, request);
        return respond::bad_request(id, "handover_other_browser");
    };
    // The same page twice, by the back button for instance: the session that came of it is there, or a new login begins.
    if !access.use_up(&handover.id) {
        return answer::redirect(StatusCode::FOUND, &page);
    }
    let Some(token) = access.application_token(application, nonce, handover.session_expires, now).await else {
        access.login_refused("login_expired", Outcome::Invalid, request);
        return respond::expired(id, &page);
    };
    let attributes = application.settings().cookie;
    let cookie = SetCookie {
        name: cookie::AUTHORIZATION,
        value: &token,
        path: application.cookie_path(),
        expires: handover.session_expires,
        now,
        http_only: attributes.http_only,
        same_site: attributes.same_site,
    };
    let name = &application.settings().name;
    // A chain of redirects that began elsewhere brings no Strict cookie; a page of this host begins a chain of its own.
    let mut response = match attributes.same_site {
        SameSite::Strict => {
            answer::page(HandoverPage { application: name, href: &page, request_id: &id.to_string() }.page())
        }
        SameSite::None | SameSite::Lax => answer::redirect(StatusCode::FOUND, &page),
    };
    let headers = response.headers_mut();
    match (fits(&cookie), cookie.to_header(), session.completed(now).to_header(now)) {
        (true, Some(cookie), Some(session)) => {
            headers.append(header::SET_COOKIE, cookie);
            headers.append(header::SET_COOKIE, session);
        }
        _ => {
            tracing::error!(application = %name, request_id = %id, bytes = token.len(), "the session does not fit into a cookie");
            return respond::internal(id);
        }
    }
    response
}

/// Browsers drop a cookie above 4096 bytes without a word (RFC 6265bis §5.7); a login that cannot be kept must not begin a loop.
fn fits(cookie: &SetCookie<'_>) -> bool {
    cookie.name.len() + cookie.value.len() <= 4096
}
