use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Response, StatusCode, header};
use serde::{Deserialize, Serialize};
use url::Url;

use super::error_pages;
use crate::control::{Access, Logins, Services, SignedIn};
use crate::cookie::{self, SameSite, SetCookie};
use crate::engine::Snapshot;
use crate::idp::Provider;
use crate::login::{AppSession, Conflict, HostRole, Landing, PortalRequest, ReturnTo};
use crate::model::{IdentityNonce, IdpId, Reason, UnixTime};
use crate::pages::{ErrorPage, Link, LoggedOut, LogoutConfirm, answer};
use crate::route::Endpoint;

/// `logout`: ends the login that the browser's session came from, for every application. `returnTo`
/// names where to go after it, which can only be the team domain or an application.
pub(super) async fn logout(access: &Access, request: &PortalRequest) -> Response<Bytes> {
    let wanted = request.parameter("returnTo");
    let wanted = wanted.and_then(|to| Landing::parse(&to, &request.host, &access.snapshot()));
    let Ok(Logins {
        found: logins,
        are_incomplete,
    }) = access.signed_in(request).await
    else {
        access.logout_unavailable(None, request);
        return error_pages::unavailable(request);
    };
    let is_remote = access.services().remote.is_some();
    let Some(&SignedIn { nonce, .. }) = logins.first().filter(|_| !is_remote) else {
        if are_incomplete && !is_remote {
            return match intent(access, request, &logins) {
                Intent::SignOut | Intent::Ask => incomplete(access, request),
                Intent::Refuse => answer::empty(StatusCode::FORBIDDEN),
            };
        }
        // The cookie of an application on a path does not come here, and a team elsewhere ends its
        // own sessions.
        return if request.host_role == HostRole::Team {
            signed_out(access, request, wanted)
        } else {
            to_the_team(access, request, wanted)
        };
    };
    match intent(access, request, &logins) {
        Intent::SignOut => {}
        Intent::Ask => {
            let Ok(csrf) = access.seal().seal(PURPOSE, &nonce.as_str()) else {
                return error_pages::internal(request);
            };
            let action = wanted.map_or_else(
                || request.path.clone(),
                |to| with_return_to(&request.path, &to),
            );
            let page = LogoutConfirm {
                action: &action,
                csrf: &csrf,
                request_id: &request.id.to_string(),
            };
            return answer::page(page.page());
        }
        Intent::Refuse => return answer::empty(StatusCode::FORBIDDEN),
    }
    // Whose session it was is known only as long as it lasts.
    let identity = access.identity(nonce, request.now).await.ok().flatten();
    // One of several logins was planted by another host. Which one cannot be known, so none of them
    // stays.
    for login in &logins {
        if access
            .end_sessions(login.nonce, &login.user, request.now)
            .await
            .is_err()
        {
            access.logout_unavailable(Some(login), request);
            return error_pages::unavailable(request);
        }
        access.remember_sign_out(&login.user, request.now);
        access.logged_out(login.email.as_ref(), &login.user, request);
    }
    if are_incomplete {
        return incomplete(access, request);
    }
    if let Some(identity) = identity {
        let to = wanted.as_ref().map(|to| to.as_str().to_owned());
        let leave = Leave {
            nonce,
            idp: identity.idp.id.clone(),
            to,
            expires: request.now.after(LEAVE_WITHIN),
        };
        let script = request
            .header("sec-fetch-mode")
            .is_some_and(|mode| mode != "navigate");
        // A form may lead to no other host, redirects included (CSP, `form-action`).
        let response = match script || request.method == Method::POST {
            true => way_to_provider(access, &leave, request),
            false => to_provider(access, &leave).await,
        };
        if let Some(mut response) = response {
            forget_cookies(&access.snapshot(), request, response.headers_mut());
            return response;
        }
    }
    signed_out(access, request, wanted)
}

/// The end of a logout that may not have found the browser's own session: an error, with every
/// cookie of that name expired.
fn incomplete(access: &Access, request: &PortalRequest) -> Response<Bytes> {
    access.logout_incomplete(request);
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

/// Leave to have the provider end its session too. A page may have it: no token of the provider's
/// is in it.
#[derive(Serialize, Deserialize)]
struct Leave {
    nonce: IdentityNonce,
    idp: IdpId,
    to: Option<String>,
    expires: UnixTime,
}

impl Leave {
    fn provider<'a>(&self, services: &'a Services) -> Option<&'a Provider> {
        let provider = services
            .providers
            .iter()
            .find(|provider| *provider.id() == self.idp);
        provider.filter(|provider| provider.ends_sessions())
    }
}

/// What comes back from the provider with the browser.
#[derive(Serialize, Deserialize)]
struct Left {
    provider: String,
    to: Option<String>,
}

/// A page with a link, which leads on to the provider.
fn way_to_provider(
    access: &Access,
    leave: &Leave,
    request: &PortalRequest,
) -> Option<Response<Bytes>> {
    let services = access.services();
    let label = format!("Sign out of {} too", leave.provider(&services)?.name());
    let sealed = access.seal().seal(LEAVE, leave).ok()?;
    let href = format!(
        "{}{}/logged-out?leave={sealed}",
        services.team_url,
        Endpoint::PREFIX
    );
    let back = Some(Link {
        href: &href,
        label: &label,
    });
    Some(answer::page(
        LoggedOut {
            also_at: None,
            back,
            switch_account: None,
            request_id: &request.id.to_string(),
        }
        .page(),
    ))
}

/// The provider ends its session and sends the browser to [`logged_out`].
async fn to_provider(access: &Access, leave: &Leave) -> Option<Response<Bytes>> {
    let services = access.services();
    let provider = leave.provider(&services)?;
    let left = Left {
        provider: provider.name().to_owned(),
        to: leave.to.clone(),
    };
    let state = access.seal().seal(LEFT, &left).ok()?;
    let back = Url::parse(&format!(
        "{}{}/logged-out",
        services.team_url,
        Endpoint::PREFIX
    ))
    .ok()?;
    let url = access
        .leave_provider(leave.nonce, provider, &back, &state)
        .await?;
    Some(answer::redirect(StatusCode::FOUND, url.as_str()))
}

/// `logged-out`: back from a provider that was asked to end its session. Ends nothing itself, so
/// whoever is led here by somebody else loses nothing; a `state` that is not ours is as good as
/// none. With `leave` it is the way there, for whom a link was put on a page.
pub(super) async fn logged_out(access: &Access, request: &PortalRequest) -> Response<Bytes> {
    let leave = request
        .parameter("leave")
        .and_then(|leave| access.seal().open::<Leave>(LEAVE, &leave).ok());
    let leave = leave.filter(|leave| request.now < leave.expires);
    if let Some(leave) = &leave
        && let Some(response) = to_provider(access, leave).await
    {
        return response;
    }
    let state = request.parameter("state").unwrap_or_default();
    let left = access.seal().open::<Left>(LEFT, &state).ok();
    let to = leave
        .and_then(|leave| leave.to)
        .or_else(|| left.as_ref()?.to.clone());
    let to = to.and_then(|to| Landing::parse(&to, &request.host, &access.snapshot()));
    let back = to.as_ref().map(|to| Link {
        href: to.as_str(),
        label: "Continue",
    });
    let also_at = left.as_ref().map(|left| left.provider.as_str());
    answer::page(
        LoggedOut {
            also_at,
            back,
            switch_account: None,
            request_id: &request.id.to_string(),
        }
        .page(),
    )
}

enum Intent {
    SignOut,
    Ask,
    Refuse,
}

/// A link on another site, or an image, must not sign anybody out (Fetch Metadata; clients without
/// it are taken at their word).
fn intent(access: &Access, request: &PortalRequest, logins: &[SignedIn]) -> Intent {
    let site = request.header("sec-fetch-site");
    if request.method == Method::POST {
        let fields = url::form_urlencoded::parse(&request.body);
        let csrf = fields
            .into_iter()
            .find(|(name, _)| name == "csrf")
            .map(|(_, value)| value.into_owned());
        let ours = csrf
            .and_then(|csrf| access.seal().open::<String>(PURPOSE, &csrf).ok())
            .is_some_and(|n| logins.iter().any(|login| n == login.nonce.as_str()));
        return if ours && matches!(site, None | Some("same-origin")) {
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
        (_, _, None | Some("document")) => Intent::Ask,
        _ => Intent::Refuse,
    }
}

/// Forgets the cookies of this host and goes on to where the session is, and from there to where a
/// logout here would end.
fn to_the_team(
    access: &Access,
    request: &PortalRequest,
    wanted: Option<Landing>,
) -> Response<Bytes> {
    let site = request.header("sec-fetch-site");
    let navigates = request
        .header("sec-fetch-mode")
        .is_none_or(|mode| mode == "navigate");
    let document = matches!(
        request.header("sec-fetch-dest"),
        None | Some("document" | "empty")
    );
    if !document || !navigates && site != Some("same-origin") {
        return answer::empty(StatusCode::FORBIDDEN);
    }
    let snapshot = access.snapshot();
    let logout = format!("{}{}/logout", access.services().team_url, Endpoint::PREFIX);
    let then = wanted.or_else(|| Landing::front_page(&request.host, &snapshot));
    let url = then.map_or_else(|| logout.clone(), |to| with_return_to(&logout, &to));
    let mut response = answer::redirect(StatusCode::FOUND, &url);
    // The team domain asks whoever comes by a link on another site; until then nothing ends.
    if site != Some("cross-site") {
        forget_cookies(&snapshot, request, response.headers_mut());
    }
    response
}

fn with_return_to(logout: &str, to: &Landing) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.append_pair("returnTo", to.as_str());
    format!("{logout}?{}", query.finish())
}

/// The end of a logout: where one wanted to go, or where Access leaves one; a page where that
/// cannot be followed.
fn signed_out(
    access: &Access,
    request: &PortalRequest,
    wanted: Option<Landing>,
) -> Response<Bytes> {
    let snapshot = access.snapshot();
    let asked = wanted.is_some();
    let landing = wanted.or_else(|| Landing::front_page(&request.host, &snapshot));
    let script = request
        .header("sec-fetch-mode")
        .is_some_and(|mode| mode != "navigate");
    let form = request.method == Method::POST;
    // A form may lead to no other host, redirects included (CSP, `form-action`).
    let followed = landing
        .as_ref()
        .filter(|to| !script && (!form || to.is_on(&request.host)));
    let mut response = match followed {
        Some(to) if form => answer::redirect(StatusCode::SEE_OTHER, to.as_str()),
        Some(to) => answer::redirect(StatusCode::FOUND, to.as_str()),
        None => {
            let front = format!(
                "{}{}",
                snapshot.team().url_of(&request.host),
                ReturnTo::parse("/").as_str()
            );
            let back = match &landing {
                Some(to) if asked => Some(Link {
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
    forget_cookies(&snapshot, request, response.headers_mut());
    response
}

fn forget_cookies(snapshot: &Snapshot, request: &PortalRequest, headers: &mut HeaderMap) {
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
            http_only: true,
            same_site: SameSite::None,
        };
        if let Some(removal) = cookie.to_removal() {
            headers.append(header::SET_COOKIE, removal);
        }
    }
    // The session that is missing from now on is not a lost cookie.
    let counted =
        AppSession::of(&request.headers).filter(|_| request.host_role == HostRole::Application);
    if let Some(session) = counted.and_then(|session| session.restarted().to_header(request.now)) {
        headers.append(header::SET_COOKIE, session);
    }
}

const PURPOSE: &str = "logout";
const LEFT: &str = "left the provider";
const LEAVE: &str = "leave the provider";
const LEAVE_WITHIN: Duration = Duration::from_secs(600);
