use std::collections::HashMap;

use bytes::Bytes;
use http::{Response, StatusCode, header};
use serde_json::json;

use super::conflict_page::conflict_page;
use super::error_pages;
use crate::control::Access;
use crate::cookie::{self, SameSite, SetCookie};
use crate::engine::Snapshot;
use crate::login::{
    AppSession, Claim, Conflict, Granted, Handover, LoginUrl, PortalRequest, Refused, ReturnTo,
};
use crate::model::{Reason, UnixTime};
use crate::observe::metrics::Login as Outcome;
use crate::pages::{Handover as HandoverPage, LoginLoop, LostCookie, answer};

/// `authorized` on an application's host: the hand-over arrives and becomes the application's
/// session.
pub(super) async fn authorized(access: &Access, request: &PortalRequest) -> Response<Bytes> {
    let (id, now) = (request.id, request.now);
    let snapshot = access.snapshot();
    let (nonce, state) = (
        request.parameter("nonce").unwrap_or_default(),
        request.parameter("state").unwrap_or_default(),
    );
    if AppSession::is_ambiguous(&request.headers) {
        return conflict(access, &snapshot, (&nonce, &state), request);
    }
    let session = AppSession::of(&request.headers);
    let app_session = session.as_ref().map_or("", AppSession::id);
    let claim = Claim {
        nonce: &nonce,
        state: &state,
        app_session,
        host: &request.host,
    };
    let redeemed = match (access.services().remote.is_some(), &session) {
        // A browser without the cookie gets nothing for it, and neither does anybody after that.
        (false, _) => redeem(access, &claim, now).await,
        // What anybody can send costs the team nothing.
        (true, Some(_)) if claim.is_plausible() => access.redeem_remotely(&claim).await,
        (true, _) => Err(Refused::Invalid),
    };
    let Some(session) = session else {
        access.login_refused("app_session_missing", Outcome::Invalid, None, request);
        return cookie_missing(&snapshot, request);
    };
    let granted = match redeemed {
        Ok(granted) => granted,
        // The same page twice, by the back button for instance: the session that came of it is
        // there, or a new login begins.
        Err(Refused::Used(to)) => {
            return answer::redirect(StatusCode::FOUND, &page(&snapshot, request, &to));
        }
        // Tabs that were opened at once in a fresh browser got a cookie each, and the last one
        // stayed. The team domain knows whether it is the same browser, and hands over once more.
        Err(Refused::Unbound(aud)) => {
            let application = snapshot
                .application(&aud)
                .filter(|a| a.settings().domain.covers_host(&request.host));
            let Some(application) = application else {
                access.login_refused("handover_invalid", Outcome::Invalid, None, request);
                return error_pages::bad_request(request, "handover_invalid");
            };
            let front = ReturnTo::parse("/");
            let login = LoginUrl {
                team: snapshot.team(),
                application,
                host: &request.host,
                to: &front,
                app_session: Some(&session),
            }
            .build(now);
            let handover: String = url::form_urlencoded::byte_serialize(state.as_bytes()).collect();
            return answer::redirect(StatusCode::FOUND, &format!("{login}&handover={handover}"));
        }
        Err(Refused::Over(to)) => {
            let path = to.as_str().split('?').next().unwrap_or_default();
            let application = snapshot
                .router()
                .find(&request.host, path)
                .and_then(|i| snapshot.applications().get(i));
            access.login_refused(
                "login_expired",
                Outcome::Invalid,
                application.map(AsRef::as_ref),
                request,
            );
            return error_pages::login_expired(request, Some(&page(&snapshot, request, &to)));
        }
        Err(Refused::Unavailable) => {
            access.login_unavailable(None, None, request);
            return error_pages::unavailable(request);
        }
        Err(Refused::Invalid) => {
            access.login_refused("handover_invalid", Outcome::Invalid, None, request);
            return error_pages::bad_request(request, "handover_invalid");
        }
    };
    let application = snapshot.application(&granted.aud);
    let Some(application) = application.filter(|a| a.settings().domain.covers_host(&request.host))
    else {
        access.login_refused("handover_invalid", Outcome::Invalid, None, request);
        return error_pages::bad_request(request, "handover_invalid");
    };
    let attributes = application.settings().cookie;
    let cookie = SetCookie {
        name: cookie::AUTHORIZATION,
        value: &granted.token,
        path: application.cookie_path(),
        expires: granted.expires,
        now,
        http_only: attributes.http_only,
        same_site: attributes.same_site,
    };
    let (name, page) = (
        &application.settings().name,
        page(&snapshot, request, &granted.to),
    );
    // A chain of redirects that began elsewhere brings no Strict cookie; a page of this host begins
    // a chain of its own.
    let mut response = match attributes.same_site {
        SameSite::Strict => answer::page(
            HandoverPage {
                application: name,
                href: &page,
                request_id: &id.to_string(),
            }
            .page(),
        ),
        SameSite::None | SameSite::Lax => answer::redirect(StatusCode::FOUND, &page),
    };
    let headers = response.headers_mut();
    // A login that cannot be kept must not begin a loop.
    match (
        cookie.fits(),
        cookie.to_header(),
        session
            .completed(&granted.aud, granted.signed_out, now)
            .to_header(now),
    ) {
        (true, Some(cookie), Some(session)) => {
            headers.append(header::SET_COOKIE, cookie);
            headers.append(header::SET_COOKIE, session);
        }
        _ => {
            let bytes = granted.token.len();
            tracing::error!(application = %name, request_id = %id, bytes, "the session does not fit into a cookie");
            return error_pages::internal(request);
        }
    }
    response
}

/// Expires both cookies of a browser that shows two, and begins a login anew. Either of them may
/// bind the hand-over to another user's login, which another host of the domain planted together
/// with the cookie.
fn conflict(
    access: &Access,
    snapshot: &Snapshot,
    (nonce, state): (&str, &str),
    request: &PortalRequest,
) -> Response<Bytes> {
    let handover = Handover::open(access.seal(), nonce, state, request.now).ok();
    let to = handover
        .filter(|handover| handover.host == request.host)
        .map(|handover| handover.to);
    let page = page(
        snapshot,
        request,
        &to.unwrap_or_else(|| ReturnTo::parse("/")),
    );
    let conflict = Conflict {
        cookie: cookie::APP_SESSION,
        host: &request.host,
        path: &request.path,
        now: request.now,
    };
    access.login_refused(
        Reason::SessionConflict.id(),
        Outcome::Invalid,
        None,
        request,
    );
    if conflict.came_back(&request.headers) {
        return conflict_page(&conflict, &page, request.support.as_deref(), request.id);
    }
    let mut response = answer::redirect(StatusCode::FOUND, &page);
    conflict.expire(response.headers_mut());
    conflict.mark(response.headers_mut());
    response
}

/// `authorized` on the team domain: an edge node without the login side redeems a hand-over that a
/// browser brought to it. What it shows is what a browser would: the hand-over, and the cookie of
/// the browser that it is bound to.
pub(super) async fn redeemed(access: &Access, request: &PortalRequest) -> Response<Bytes> {
    let fields: HashMap<_, _> = url::form_urlencoded::parse(&request.body).collect();
    let field = |name: &str| fields.get(name).map(AsRef::as_ref).unwrap_or_default();
    let claim = Claim {
        nonce: field("nonce"),
        state: field("state"),
        app_session: field("app_session"),
        host: field("hostname"),
    };
    let refused = |status: StatusCode, error: &str, to: Option<&ReturnTo>| {
        answer::json(
            status,
            &json!({"error": error, "redirect_url": to.map(ReturnTo::as_str)}),
        )
    };
    match redeem(access, &claim, request.now).await {
        Ok(Granted {
            aud,
            to,
            token,
            expires,
            signed_out,
        }) => {
            let granted = json!({
                "aud": aud.as_str(), "redirect_url": to.as_str(), "token": token, "expires": expires, "signed_out": signed_out,
            });
            answer::json(StatusCode::OK, &granted)
        }
        Err(Refused::Used(to)) => refused(StatusCode::CONFLICT, "used", Some(&to)),
        Err(Refused::Over(to)) => refused(StatusCode::GONE, "over", Some(&to)),
        Err(Refused::Unbound(aud)) => answer::json(
            StatusCode::FORBIDDEN,
            &json!({"error": "unbound", "aud": aud.as_str()}),
        ),
        Err(Refused::Invalid) => refused(StatusCode::BAD_REQUEST, "invalid", None),
        Err(Refused::Unavailable) => {
            access.login_unavailable(None, None, request);
            refused(StatusCode::SERVICE_UNAVAILABLE, "unavailable", None)
        }
    }
}

async fn redeem(access: &Access, claim: &Claim<'_>, now: UnixTime) -> Result<Granted, Refused> {
    let handover = Handover::open(access.seal(), claim.nonce, claim.state, now)
        .map_err(|_| Refused::Invalid)?;
    // Used up by the first to show it, whoever that is: what another browser shows was overheard.
    let used = access
        .use_up(&format!("hand-over {}", handover.id), handover.expires())
        .await;
    let is_first = used.map_err(|_| Refused::Unavailable)?;
    let snapshot = access.snapshot();
    let application = snapshot
        .application(&handover.aud)
        .ok_or(Refused::Invalid)?;
    let here = handover.host == claim.host && application.settings().domain.covers_host(claim.host);
    let bound = AppSession::parse(claim.app_session)
        .is_some_and(|session| session.has_hash(&handover.app_session));
    if !here {
        return Err(Refused::Invalid);
    }
    if !bound {
        return Err(Refused::Unbound(handover.aud));
    }
    let nonce = handover.nonce().map_err(|_| Refused::Invalid)?;
    if !is_first {
        return Err(Refused::Used(handover.to));
    }
    let token = access
        .application_token(
            application,
            nonce,
            handover.made(),
            handover.session_expires,
            now,
        )
        .await;
    let token = token
        .map_err(|_| Refused::Unavailable)?
        .ok_or_else(|| Refused::Over(handover.to.clone()))?;
    let identity = access.identity(nonce, now).await.ok().flatten();
    let signed_out = identity.and_then(|identity| access.signed_out(&identity.user));
    Ok(Granted {
        aud: handover.aud,
        to: handover.to,
        token,
        expires: handover.session_expires,
        signed_out,
    })
}

fn page(snapshot: &Snapshot, request: &PortalRequest, to: &ReturnTo) -> String {
    format!("{}{}", snapshot.team().url_of(&request.host), to.as_str())
}

fn cookie_missing(snapshot: &Snapshot, request: &PortalRequest) -> Response<Bytes> {
    let mut causes = vec![
        LostCookie::Blocked,
        LostCookie::ThirdParty,
        LostCookie::TooMany,
    ];
    if snapshot.team().plain_http {
        causes.insert(0, LostCookie::PlainHttp);
    }
    let loop_page = LoginLoop {
        cookie: cookie::APP_SESSION,
        causes: &causes,
        start_again: Some(&page(snapshot, request, &ReturnTo::parse("/"))),
        support: request.support.as_deref(),
        reason: Some("app_session_missing"),
        request_id: &request.id.to_string(),
    };
    answer::page(loop_page.page())
}
