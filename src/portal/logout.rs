//! `logout`: the end of a login.
//!
//! Decides whether the user intends to sign out, and the page after it. Trusts verified session
//! tokens, Fetch Metadata and a sealed confirmation. Never redirects to a host other than the team
//! domain, an application or the identity provider.

use bytes::Bytes;
use http::{HeaderMap, Method, Response, StatusCode, header};

use super::error_pages;
use super::provider_logout::ProviderLogout;
use crate::control::{Audit, BrowserSession, BrowserSessions, EndpointParts, Running, TokenIssuer};
use crate::cookie::{self, SameSite, SealingKey, SetCookie};
use crate::engine::Snapshot;
use crate::login::{AppSession, Conflict, Landing, PortalRequest, ReturnTo};
use crate::model::{IdentityNonce, Reason};
use crate::pages::{ErrorPage, Link, LoggedOut, LogoutConfirm, answer};
use crate::route::{Endpoint, HostRole};
use crate::store::StoreError;

/// Answers `logout`: ends the login of the browser's session, for every application. `returnTo`
/// names the page after it, which can only be on the team domain or on an application's host.
pub(super) async fn logout(parts: &EndpointParts, request: &PortalRequest) -> Response<Bytes> {
    let return_to = request.parameter("returnTo");
    let return_to =
        return_to.and_then(|to| Landing::parse(&to, &request.host, &parts.running.snapshot()));
    let Ok(BrowserSessions {
        found: logins,
        are_incomplete,
    }) = parts.sessions.in_browser(request).await
    else {
        parts.audit.logout_unavailable(None, request);
        return error_pages::unavailable(request);
    };
    let is_remote = matches!(*parts.issuer, TokenIssuer::Remote(_));
    let Some(&BrowserSession { nonce, .. }) = logins.first().filter(|_| !is_remote) else {
        if are_incomplete && !is_remote {
            return match intent(parts.flows.seal(), request, &logins) {
                Intent::SignOut | Intent::Confirm => incomplete(&parts.audit, request),
                Intent::Refuse => answer::empty(StatusCode::FORBIDDEN),
            };
        }
        // The cookie of an application on a path is not sent here, and a remote team ends its own
        // sessions.
        return match request.host_role {
            HostRole::Team => signed_out(&parts.running.snapshot(), request, return_to),
            HostRole::Application => to_team(&parts.running, request, return_to),
        };
    };
    match intent(parts.flows.seal(), request, &logins) {
        Intent::SignOut => {}
        Intent::Confirm => return confirm(parts.flows.seal(), request, nonce, return_to.as_ref()),
        Intent::Refuse => return answer::empty(StatusCode::FORBIDDEN),
    }
    // The identity is known only until its session ends.
    let identity = parts
        .sessions
        .identity(nonce, request.now)
        .await
        .ok()
        .flatten();
    if end(parts, &logins, request).await.is_err() {
        return error_pages::unavailable(request);
    }
    if are_incomplete {
        return incomplete(&parts.audit, request);
    }
    if let Some(identity) = identity {
        let idp = identity.idp.id.clone();
        let there = ProviderLogout::new(nonce, idp, return_to.as_ref(), request.now);
        if let Some(mut response) = there
            .respond(
                &parts.running.services(),
                parts.flows.seal(),
                &parts.logins,
                request,
            )
            .await
        {
            expire_cookies(&parts.running.snapshot(), request, response.headers_mut());
            return response;
        }
    }
    signed_out(&parts.running.snapshot(), request, return_to)
}

/// Ends the logins of a browser. With several, another host of the domain planted all but one of
/// them. The genuine one is unknown, so all are ended.
///
/// # Errors
/// If the store does not answer. Some of them may have ended.
async fn end(
    parts: &EndpointParts,
    logins: &[BrowserSession],
    request: &PortalRequest,
) -> Result<(), StoreError> {
    for login in logins {
        parts
            .logins
            .end_sessions(login.nonce, &login.user, request.now)
            .await
            .inspect_err(|_| parts.audit.logout_unavailable(Some(login), request))?;
        parts.flows.remember_sign_out(&login.user, request.now);
        parts
            .audit
            .logged_out(login.email.as_ref(), &login.user, request);
    }
    Ok(())
}

/// Returns the page that requires a click to sign out.
fn confirm(
    seal: &SealingKey,
    request: &PortalRequest,
    nonce: IdentityNonce,
    return_to: Option<&Landing>,
) -> Response<Bytes> {
    let Ok(csrf) = seal.seal(PURPOSE, &nonce.as_str()) else {
        return error_pages::internal(request);
    };
    let action = return_to.map_or_else(
        || request.path.clone(),
        |to| with_return_to(&request.path, to),
    );
    let page = LogoutConfirm {
        action: &action,
        csrf: &csrf,
        request_id: &request.id.to_string(),
    };
    answer::page(page.page())
}

/// Ends a logout that may not have found the browser's own session, with an error. Every cookie of
/// that name is expired.
fn incomplete(audit: &Audit, request: &PortalRequest) -> Response<Bytes> {
    audit.logout_incomplete(request);
    let id = request.id.to_string();
    let page = ErrorPage::logout_incomplete(&id).with_reason(Reason::SessionConflict.id());
    let mut response = answer::page(page.with_support(request.support.as_deref()).page());
    let (cookie, now) = (cookie::AUTHORIZATION, request.now);
    Conflict {
        cookie,
        host: &request.host,
        path: &request.path,
        now,
    }
    .expire(response.headers_mut());
    response
}

/// The decision on a request to sign out.
enum Intent {
    SignOut,
    /// The user has to confirm it.
    Confirm,
    Refuse,
}

/// Decides whether the user intends to sign out: links and images on other sites must not sign
/// users out. Clients without Fetch Metadata are trusted.
fn intent(seal: &SealingKey, request: &PortalRequest, logins: &[BrowserSession]) -> Intent {
    let site = request.header("sec-fetch-site");
    if request.method == Method::POST {
        let fields = url::form_urlencoded::parse(&request.body);
        let csrf = fields
            .into_iter()
            .find(|(name, _)| name == "csrf")
            .map(|(_, value)| value.into_owned());
        let is_confirmed = csrf
            .and_then(|csrf| seal.open::<String>(PURPOSE, &csrf).ok())
            .is_some_and(|n| logins.iter().any(|login| n == login.nonce.as_str()));
        // The sealed nonce proves that this team made the form, and for this browser's login.
        // Clients without Fetch Metadata send no site.
        return if is_confirmed && matches!(site, None | Some("same-origin")) {
            Intent::SignOut
        } else {
            Intent::Refuse
        };
    }
    match (
        site,
        request.header("sec-fetch-mode"),
        request.header("sec-fetch-dest"),
    ) {
        (_, Some(mode), _) if mode != "navigate" => {
            if site == Some("same-origin") {
                Intent::SignOut
            } else {
                Intent::Refuse
            }
        }
        (
            None | Some("same-origin" | "same-site" | "none"),
            _,
            None | Some("document" | "empty"),
        ) => Intent::SignOut,
        (_, _, None | Some("document")) => Intent::Confirm,
        _ => Intent::Refuse,
    }
}

/// Expires the cookies of this host and redirects to the logout of the team domain, which has the
/// session. From there the browser gets to the page on which a logout here would end.
fn to_team(
    running: &Running,
    request: &PortalRequest,
    return_to: Option<Landing>,
) -> Response<Bytes> {
    let site = request.header("sec-fetch-site");
    let navigates = request
        .header("sec-fetch-mode")
        .is_none_or(|mode| mode == "navigate");
    // An image or a script on another site must not expire the cookies of this host.
    let is_document = matches!(
        request.header("sec-fetch-dest"),
        None | Some("document" | "empty")
    );
    if !is_document || !navigates && site != Some("same-origin") {
        return answer::empty(StatusCode::FORBIDDEN);
    }
    let snapshot = running.snapshot();
    let logout = format!("{}{}/logout", running.services().team_url, Endpoint::PREFIX);
    let landing = return_to.or_else(|| Landing::front_page(&request.host, &snapshot));
    let url = landing.map_or_else(|| logout.clone(), |to| with_return_to(&logout, &to));
    let mut response = answer::redirect(StatusCode::FOUND, &url);
    // After a link on another site the team domain requires a confirmation. Nothing ends before it.
    if site != Some("cross-site") {
        expire_cookies(&snapshot, request, response.headers_mut());
    }
    response
}

fn with_return_to(logout: &str, to: &Landing) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.append_pair("returnTo", to.as_str());
    format!("{logout}?{}", query.finish())
}

/// Ends a logout with a redirect to the requested page, or to the host's front page as Access does.
/// A client that cannot follow it gets a page with a link.
fn signed_out(
    snapshot: &Snapshot,
    request: &PortalRequest,
    return_to: Option<Landing>,
) -> Response<Bytes> {
    let is_requested = return_to.is_some();
    let landing = return_to.or_else(|| Landing::front_page(&request.host, snapshot));
    let is_script = request
        .header("sec-fetch-mode")
        .is_some_and(|mode| mode != "navigate");
    let is_form = request.method == Method::POST;
    // A form must not lead to another host, not even through redirects (CSP, `form-action`).
    let followed = landing
        .as_ref()
        .filter(|to| !is_script && (!is_form || to.is_on(&request.host)));
    let mut response = match followed {
        Some(to) if is_form => answer::redirect(StatusCode::SEE_OTHER, to.as_str()),
        Some(to) => answer::redirect(StatusCode::FOUND, to.as_str()),
        None => {
            let front = format!(
                "{}{}",
                snapshot.team().url_of(&request.host),
                ReturnTo::parse("/").as_str()
            );
            let back = match &landing {
                Some(to) if is_requested => Some(Link {
                    href: to.as_str(),
                    label: "Continue",
                }),
                _ if request.host_role == HostRole::Team => None,
                _ => Some(Link {
                    href: &front,
                    label: "Back to the application",
                }),
            };
            answer::page(
                LoggedOut {
                    also_at: None,
                    back,
                    switch_account: None,
                    request_id: &request.id.to_string(),
                }
                .page(),
            )
        }
    };
    expire_cookies(snapshot, request, response.headers_mut());
    response
}

fn expire_cookies(snapshot: &Snapshot, request: &PortalRequest, headers: &mut HeaderMap) {
    let paths = snapshot.applications().iter().filter(|a| {
        request.host_role == HostRole::Application && a.settings().domain.covers_host(&request.host)
    });
    let mut paths: Vec<&str> = paths.map(|a| a.cookie_path()).chain(["/"]).collect();
    paths.sort_unstable();
    paths.dedup();
    for path in paths {
        let cookie = SetCookie {
            name: cookie::AUTHORIZATION,
            value: "",
            path,
            expires: request.now,
            now: request.now,
            // The attributes do not matter for a removal. `SameSite=None` does, in a response to
            // another site.
            http_only: true,
            same_site: SameSite::None,
        };
        if let Some(removal) = cookie.to_removal() {
            headers.append(header::SET_COOKIE, removal);
        }
    }
    // From now on the session is missing because of the logout, and not as a lost cookie.
    let counted = AppSession::from_headers(&request.headers)
        .filter(|_| request.host_role == HostRole::Application);
    if let Some(session) = counted.and_then(|session| session.restarted().to_header(request.now)) {
        headers.append(header::SET_COOKIE, session);
    }
}

/// The sealing purpose of a confirmation.
const PURPOSE: &str = "logout";
