use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use percent_encoding::{AsciiSet, utf8_percent_encode};
use serde_json::json;

use super::{AppSession, Conflict, LOGGED_OUT, ReturnTo, ReturnToError};
use crate::cookie::{APP_SESSION, AUTHORIZATION};
use crate::engine::{Application, Challenge, Style, Team};
use crate::model::{Reason, RequestId, RequestView, UnixTime};
use crate::pages::{
    ErrorPage, Link, LoggedOut, LoginLoop, LostCookie, ResendForm,
    answer::{self, redirect},
};
use crate::route::Endpoint;

/// Answers a request that needs a login, in the way its client can follow.
pub(crate) fn respond(
    team: &Team,
    challenge: &Challenge,
    request: &RequestView<'_>,
    id: RequestId,
    now: UnixTime,
) -> Response<Bytes> {
    let application = &challenge.application;
    let host = request.authority.host.as_ref();
    let here = match request.query {
        // Some clients send letters beyond ASCII as they are.
        Some(query) => format!(
            "{}?{}",
            request.path.as_str(),
            utf8_percent_encode(query, AS_IT_IS)
        ),
        None => request.path.as_str().to_owned(),
    };
    let conflict_of = |cookie| Conflict {
        cookie,
        host,
        path: request.path.as_str(),
        now,
    };
    let begins_login = challenge.style == Style::Redirect && request.query != Some(LOGGED_OUT);
    // The login would be bound to a cookie that another host of the domain may have set.
    let is_ambiguous = begins_login && AppSession::is_ambiguous(request.headers);
    let conflict = match challenge.reason {
        Reason::SessionConflict => Some(conflict_of(AUTHORIZATION)),
        _ if is_ambiguous => Some(conflict_of(APP_SESSION)),
        _ => None,
    };
    if let Some(conflict) = conflict
        && challenge.style == Style::Redirect
        && conflict.came_back(request.headers)
    {
        let url = format!("{}{}", team.url_of(host), ReturnTo::parse(&here).as_str());
        let mut response = conflict.page(&url, team.support.as_deref(), id);
        // The next login begins with a click, so it is not one of a loop.
        let counted = AppSession::of(request.headers)
            .filter(|_| !is_ambiguous)
            .map(|session| session.restarted());
        if let Some(cookie) = counted.and_then(|session| session.to_header(now)) {
            response.headers_mut().append(header::SET_COOKIE, cookie);
        }
        return response;
    }
    let mut binding = None;
    let mut response = match challenge.style {
        // Back to the provider at once would end a logout as a login.
        Style::Redirect if request.query == Some(LOGGED_OUT) && is_signed_out(challenge.reason) => {
            let url = login_url(
                team,
                application,
                host,
                &ReturnTo::parse(request.path.as_str()),
                None,
                now,
            );
            let back = format!("{}{}", team.url_of(host), request.path.as_str());
            let back = Some(Link {
                href: &back,
                label: "Back to the application",
            });
            let (switch, id) = (format!("{url}&switch=1"), id.to_string());
            let page = LoggedOut {
                also_at: None,
                back,
                switch_account: Some(&switch),
                request_id: &id,
            };
            with_login(answer::page(page.page()), &url)
        }
        // The browser would come back to the front page, and the user would not know why.
        Style::Redirect if ReturnTo::read(&here) == Err(ReturnToError::TooLong) => {
            let url = login_url(team, application, host, &ReturnTo::parse("/"), None, now);
            answer::page(
                ErrorPage::login_target_too_long(&url, &id.to_string())
                    .with_reason(Reason::TargetTooLong.id())
                    .page(),
            )
        }
        Style::Redirect => {
            let session = AppSession::of(request.headers).filter(|_| !is_ambiguous);
            let session = session.unwrap_or_else(AppSession::random);
            if conflict.is_none() && session.loops(application.aud(), challenge.reason, now) {
                let mut response = match challenge.reason {
                    Reason::NoSession => loop_page(team, application, host, &here, id),
                    // What came back is no cookie that was lost.
                    reason => not_accepted(team, application, host, &here, reason, id),
                };
                // Another host of the domain may have set the count.
                conflict_of(APP_SESSION).expire(response.headers_mut());
                return response;
            }
            let url = login_url(
                team,
                application,
                host,
                &ReturnTo::parse(&here),
                Some(&session),
                now,
            );
            let mut response = redirect(StatusCode::FOUND, &url);
            let allowed = HeaderValue::from_static("true");
            response
                .headers_mut()
                .insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, allowed);
            binding = session.to_header(now);
            response
        }
        Style::Page => {
            let url = login_url(team, application, host, &referring_page(request), None, now);
            let name = &application.settings().name;
            let page = ResendForm {
                application: name,
                login: &url,
                request_id: &id.to_string(),
            }
            .page();
            with_login(answer::page(page), &url)
        }
        Style::Json => {
            let url = login_url(team, application, host, &referring_page(request), None, now);
            let body = json!({
                "error": "login_required", "reason": challenge.reason.id(), "login_url": url, "request_id": id.to_string(),
            });
            let mut response = with_login(answer::json(StatusCode::UNAUTHORIZED, &body), &url);
            if let Some(cors) = &application.settings().cors {
                let exposed = HeaderValue::from_static("Cf-Access-Login-Url, WWW-Authenticate");
                let mut headers = cors.headers(request.headers);
                if headers.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN) {
                    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
                }
                response.headers_mut().extend(headers);
            }
            response
        }
        Style::Upgrade => {
            let url = login_url(team, application, host, &ReturnTo::parse("/"), None, now);
            with_login(answer::empty(StatusCode::UNAUTHORIZED), &url)
        }
        Style::Grpc => answer::grpc(StatusCode::UNAUTHORIZED, "login required"),
    };
    if let Some(conflict) = conflict {
        conflict.expire(response.headers_mut());
        if challenge.style == Style::Redirect {
            conflict.mark(response.headers_mut());
        }
    }
    // After the expiry of its namesakes.
    if let Some(binding) = binding {
        response.headers_mut().append(header::SET_COOKIE, binding);
    }
    if response.status().is_redirection() || response.status() == StatusCode::UNAUTHORIZED {
        name_metadata(response.headers_mut(), team, host, request.path.as_str());
    }
    name_application(response.headers_mut(), application, host);
    response
}

const fn is_signed_out(reason: Reason) -> bool {
    matches!(reason, Reason::NoSession | Reason::SessionRevoked)
}

/// `https://<team>/cdn-cgi/access/login/<host>?kid=…&meta=…&redirect_url=…`
pub(crate) fn login_url(
    team: &Team,
    application: &Application,
    host: &str,
    to: &ReturnTo,
    session: Option<&AppSession>,
    now: UnixTime,
) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.append_pair("kid", application.aud().as_str());
    if let Some(session) = session {
        query.append_pair("meta", &meta(application, host, to, session, now));
    }
    query.append_pair("redirect_url", to.as_str());
    format!(
        "{}/cdn-cgi/access/login/{host}?{}",
        team.url(),
        query.finish()
    )
}

/// What the application's host tells the team domain about the browser, in the shape of Access'
/// `meta` token.
///
/// It is not signed and nothing in it is trusted: anybody can ask an application's host for one,
/// for their own browser. The hash in it only narrows who may redeem the hand-over, to the browser
/// whose cookie has that hash.
fn meta(
    application: &Application,
    host: &str,
    to: &ReturnTo,
    session: &AppSession,
    now: UnixTime,
) -> String {
    // Nothing reads the page here; a long one would be in the request line twice.
    let page = if to.is_long() { "/" } else { to.as_str() };
    let claims = json!({
        "type": "meta", "aud": application.aud().as_str(), "hostname": host, "redirect_url": page,
        "service_token_status": false, "is_warp": false, "is_gateway": false, "auth_status": "NONE",
        "iat": now, "nbf": now, "exp": now.after(META_LIFETIME), "app_session_hash": session.hash(),
    });
    let header = json!({"alg": "none", "typ": "JWT"});
    format!(
        "{}.{}.",
        URL_SAFE_NO_PAD.encode(header.to_string()),
        URL_SAFE_NO_PAD.encode(claims.to_string())
    )
}

/// Escapes nothing of ASCII.
const AS_IT_IS: &AsciiSet = &AsciiSet::EMPTY;

const META_LIFETIME: std::time::Duration = std::time::Duration::from_secs(300);

/// What cloudflared and scripts look for on every refusal.
fn name_application(headers: &mut HeaderMap, application: &Application, host: &str) {
    if let Ok(host) = HeaderValue::try_from(host) {
        headers.insert(HeaderName::from_static("cf-access-domain"), host);
    }
    if let Ok(aud) = HeaderValue::try_from(application.aud().as_str()) {
        headers.insert(HeaderName::from_static("cf-access-aud"), aud);
    }
}

/// Names the document with the team that signs users in for this page (`docs/wire.md` 2.10, RFC
/// 9728 5.1).
fn name_metadata(headers: &mut HeaderMap, team: &Team, host: &str, path: &str) {
    // A path may hold what would end the quoted string, and be longer than clients read.
    let path = ReturnTo::parse(path);
    let path = if path.is_long() {
        "/".to_owned()
    } else {
        path.as_str().replace('"', "%22")
    };
    let at = format!(
        "{}{}{path}",
        team.url_of(host),
        Endpoint::PROTECTED_RESOURCE
    );
    if let Ok(value) =
        HeaderValue::try_from(format!("Cloudflare-Access resource_metadata=\"{at}\""))
    {
        headers.insert(header::WWW_AUTHENTICATE, value);
    }
}

fn with_login(mut response: Response<Bytes>, url: &str) -> Response<Bytes> {
    *response.status_mut() = StatusCode::UNAUTHORIZED;
    let headers = response.headers_mut();
    if let Ok(url) = HeaderValue::try_from(url) {
        headers.insert(HeaderName::from_static("cf-access-login-url"), url);
    }
    response
}

/// The page that a script or a form was on, where it is on this host: a login begun there should
/// come back there.
fn referring_page(request: &RequestView<'_>) -> ReturnTo {
    let referer = request
        .headers
        .get(header::REFERER)
        .and_then(|r| r.to_str().ok())
        .and_then(|r| url::Url::parse(r).ok());
    let here = referer.filter(|r| r.host_str() == Some(request.authority.host.as_ref()));
    let path = here.map(|url| match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    });
    ReturnTo::parse(path.as_deref().unwrap_or("/"))
}

fn loop_page(
    team: &Team,
    application: &Application,
    host: &str,
    here: &str,
    id: RequestId,
) -> Response<Bytes> {
    let url = format!("{}{}", team.url_of(host), ReturnTo::parse(here).as_str());
    let mut causes = vec![LostCookie::Blocked, LostCookie::TooMany];
    if application.settings().cookie.same_site == crate::cookie::SameSite::Strict {
        causes.insert(0, LostCookie::SameSite);
    }
    if team.plain_http {
        causes.insert(0, LostCookie::PlainHttp);
    }
    let page = LoginLoop {
        cookie: AUTHORIZATION,
        causes: &causes,
        start_again: Some(&url),
        support: team.support.as_deref(),
        reason: Some("login_loop"),
        request_id: &id.to_string(),
    };
    answer::page(page.page())
}

/// Every session that the team gives is refused here at once: another login would change nothing.
fn not_accepted(
    team: &Team,
    application: &Application,
    host: &str,
    here: &str,
    refused: Reason,
    id: RequestId,
) -> Response<Bytes> {
    const REASON: &str = "session_not_accepted";
    let name = &application.settings().name;
    tracing::warn!(
        reason = REASON, %refused, application = %name, host, request_id = %id,
        "the sessions that the team gives are not accepted here; check this node's clock, and that it has the same applications \
         and identity providers as the team"
    );
    let url = format!("{}{}", team.url_of(host), ReturnTo::parse(here).as_str());
    let id = id.to_string();
    let page = ErrorPage::session_not_accepted(&url, &id).with_reason(REASON);
    answer::page(page.with_support(team.support.as_deref()).page())
}
