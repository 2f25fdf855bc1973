use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header};

use super::pages::{Link, LoggedOut, LogoutConfirm};
use super::{PortalRequest, answer, respond};
use crate::control::{Access, SignedIn};
use crate::cookie::{self, SameSite, SetCookie};
use crate::login::ReturnTo;
use crate::model::IdentityNonce;
use crate::route::Endpoint;

/// `logout`: ends the login that the browser's session came from, for every application.
pub(super) async fn logout(access: &Access, request: &PortalRequest) -> Response<Bytes> {
    let signed_in = access.signed_in(request).filter(|_| access.services().remote.is_none());
    let Some(SignedIn { nonce, email, user, .. }) = signed_in else {
        // The cookie of an application on a path does not come here, and a team elsewhere ends its own sessions.
        return if request.on_team { signed_out(access, request) } else { to_the_team(access, request) };
    };
    match intent(access, request, nonce) {
        Intent::SignOut => {}
        Intent::Ask => {
            let Ok(csrf) = access.seal().seal(PURPOSE, &nonce.as_str()) else { return respond::internal(request.id) };
            let page = LogoutConfirm { action: &request.path, csrf: &csrf, request_id: &request.id.to_string() };
            return answer::page(page.page());
        }
        Intent::Refuse => return answer::empty(StatusCode::FORBIDDEN),
    }
    if access.end_sessions(nonce, &user, request.now).await.is_err() {
        return respond::unavailable(request.id);
    }
    access.logged_out(email.as_ref(), &user, request);
    signed_out(access, request)
}

enum Intent {
    SignOut,
    Ask,
    Refuse,
}

/// A link on another site, or an image, must not sign anybody out (Fetch Metadata; clients without it are taken at their word).
fn intent(access: &Access, request: &PortalRequest, nonce: IdentityNonce) -> Intent {
    let site = request.header("sec-fetch-site");
    if request.method == Method::POST {
        let fields = url::form_urlencoded::parse(&request.body);
        let csrf = fields.into_iter().find(|(name, _)| name == "csrf").map(|(_, value)| value.into_owned());
        let ours = csrf
            .and_then(|csrf| access.seal().open::<String>(PURPOSE, &csrf).ok())
            .is_some_and(|n| n == nonce.as_str());
        return if ours && matches!(site, None | Some("same-origin")) { Intent::SignOut } else { Intent::Refuse };
    }
    if request.method != Method::GET {
        return Intent::Refuse;
    }
    match (site, request.header("sec-fetch-mode"), request.header("sec-fetch-dest")) {
        (_, Some(mode), _) if mode != "navigate" => {
            if site == Some("same-origin") {
                Intent::SignOut
            } else {
                Intent::Refuse
            }
        }
        (None | Some("same-origin" | "same-site" | "none"), _, None | Some("document" | "empty")) => Intent::SignOut,
        (_, _, None | Some("document")) => Intent::Ask,
        _ => Intent::Refuse,
    }
}

/// Forgets the cookies of this host and goes on to where the session is.
fn to_the_team(access: &Access, request: &PortalRequest) -> Response<Bytes> {
    if !matches!(request.header("sec-fetch-dest"), None | Some("document" | "empty")) {
        return answer::empty(StatusCode::FORBIDDEN);
    }
    let mut response = signed_out(access, request);
    *response.status_mut() = StatusCode::FOUND;
    if let Ok(to) = HeaderValue::try_from(format!("{}{}/logout", access.services().team_url, Endpoint::PREFIX)) {
        response.headers_mut().insert(header::LOCATION, to);
    }
    response
}

fn signed_out(access: &Access, request: &PortalRequest) -> Response<Bytes> {
    let snapshot = access.snapshot();
    let base = snapshot.team().url_of(&request.host);
    let back = (!request.on_team).then(|| format!("{base}{}", ReturnTo::parse("/").as_str()));
    let back = back.as_deref().map(|href| Link { href, label: "Back to the application" });
    let mut response = answer::page(LoggedOut { back, request_id: &request.id.to_string() }.page());
    let paths =
        snapshot.applications().iter().filter(|a| !request.on_team && a.settings().domain.covers_host(&request.host));
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
            response.headers_mut().append(header::SET_COOKIE, removal);
        }
    }
    response
}

const PURPOSE: &str = "logout";
