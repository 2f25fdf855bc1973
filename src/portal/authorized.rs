//! `authorized` on an application's host: a hand-over arrives and becomes the application's
//! session.
//!
//! Decides the end of a login for the browser. Trusts a redeemed hand-over. Never sets a session
//! for an application that does not have the host, and never starts a login that would loop.

use bytes::Bytes;
use http::{Response, StatusCode, header};

use super::conflict_page::conflict_page;
use super::error_pages;
use super::redeem::redeem;
use crate::control::{EndpointParts, TokenIssuer};
use crate::cookie::{self, SameSite, SetCookie};
use crate::engine::{Application, Snapshot};
use crate::login::{
    AppSession, Claim, Conflict, Granted, Handover, LoginUrl, PortalRequest, Refused, ReturnTo,
    with_handover,
};
use crate::model::{Aud, Reason};
use crate::observe::metrics::Login as Counted;
use crate::pages::{Handover as HandoverPage, LoginLoop, LostCookie, answer};

/// Redeems the hand-over that a browser brings, and sets the application's session.
pub(super) async fn authorized(parts: &EndpointParts, request: &PortalRequest) -> Response<Bytes> {
    let snapshot = parts.running.snapshot();
    let brought = BroughtHandover {
        parts,
        snapshot: &snapshot,
        request,
        nonce: &request.parameter("nonce").unwrap_or_default(),
        state: &request.parameter("state").unwrap_or_default(),
    };
    if AppSession::is_ambiguous(&request.headers) {
        return brought.conflict();
    }
    let session = AppSession::from_headers(&request.headers);
    // Before the missing cookie is reported: a hand-over that reached a browser without it may have
    // leaked, and is used up.
    let redeemed = brought.redeem(session.as_ref()).await;
    let Some(session) = session else {
        parts
            .audit
            .login_refused("app_session_missing", Counted::Invalid, None, request);
        return brought.cookie_missing();
    };
    match redeemed {
        Ok(granted) => brought.open_session(&session, &granted),
        Err(refused) => brought.refuse(&session, refused),
    }
}

/// A hand-over that a browser brings to the application's host.
struct BroughtHandover<'a> {
    parts: &'a EndpointParts,
    snapshot: &'a Snapshot,
    request: &'a PortalRequest,
    nonce: &'a str,
    state: &'a str,
}

impl BroughtHandover<'_> {
    async fn redeem(&self, session: Option<&AppSession>) -> Result<Granted, Refused> {
        let claim = Claim {
            nonce: self.nonce,
            state: self.state,
            app_session: session.map_or("", AppSession::id),
            host: &self.request.host,
        };
        match (&*self.parts.issuer, session) {
            // Also without the cookie, which redeems nothing: the hand-over is used up by that.
            (TokenIssuer::Local(_), _) => {
                let EndpointParts {
                    running,
                    flows,
                    sessions,
                    ..
                } = self.parts;
                redeem(running, flows, sessions, &claim, self.request.now).await
            }
            // Requests that cannot succeed are not sent to the team: anyone can cause them.
            (TokenIssuer::Remote(team), Some(_)) if claim.is_plausible() => {
                team.redeem(&claim).await
            }
            (TokenIssuer::Remote(_), _) => Err(Refused::Invalid),
        }
    }

    /// Returns the application, if it has the requested host.
    fn application(&self, aud: &Aud) -> Option<&Application> {
        let application = self.snapshot.application(aud)?;
        let has_host = application
            .settings()
            .domain
            .covers_host(&self.request.host);
        has_host.then_some(application)
    }

    /// Returns the URL of a page on this host.
    fn page_url(&self, to: &ReturnTo) -> String {
        let base = self.snapshot.team().url_of(&self.request.host);
        format!("{base}{}", to.as_str())
    }

    fn refuse(&self, session: &AppSession, refused: Refused) -> Response<Bytes> {
        let (parts, request) = (self.parts, self.request);
        match refused {
            // The same URL was opened twice, for instance with the back button. The page has the
            // session of the first time, or begins a login.
            Refused::Used(to) => answer::redirect(StatusCode::FOUND, &self.page_url(&to)),
            Refused::Unbound(aud) => match self.application(&aud) {
                Some(application) => self.hand_over_again(application, session),
                None => self.invalid(),
            },
            Refused::Over(to) => {
                let path = to.as_str().split('?').next().unwrap_or_default();
                let router = self.snapshot.router();
                let application = router
                    .find(&request.host, path)
                    .and_then(|index| self.snapshot.applications().get(index))
                    .map(AsRef::as_ref);
                parts
                    .audit
                    .login_refused("login_expired", Counted::Invalid, application, request);
                error_pages::login_expired(request, Some(&self.page_url(&to)))
            }
            Refused::Unavailable => {
                parts.audit.login_unavailable(None, None, request);
                error_pages::unavailable(request)
            }
            Refused::Invalid => self.invalid(),
        }
    }

    fn invalid(&self) -> Response<Bytes> {
        let (parts, request) = (self.parts, self.request);
        parts
            .audit
            .login_refused("handover_invalid", Counted::Invalid, None, request);
        error_pages::bad_request(request, "handover_invalid")
    }

    /// Returns to the team domain for a hand-over that is bound to the browser's present cookie.
    ///
    /// Tabs that are opened at once in a fresh browser get a cookie each, and the last one stays.
    /// The team domain knows the browser by its session, and hands over once more.
    fn hand_over_again(&self, application: &Application, session: &AppSession) -> Response<Bytes> {
        let login = LoginUrl {
            team: self.snapshot.team(),
            application,
            host: &self.request.host,
            to: &ReturnTo::parse("/"),
            app_session: Some(session),
        }
        .build(self.request.now);
        answer::redirect(StatusCode::FOUND, &with_handover(&login, self.state))
    }

    /// Sets the application's session and leads to the page.
    fn open_session(&self, session: &AppSession, granted: &Granted) -> Response<Bytes> {
        let Some(application) = self.application(&granted.aud) else {
            return self.invalid();
        };
        let (request, now) = (self.request, self.request.now);
        let (name, attributes) = (&application.settings().name, application.settings().cookie);
        let cookie = SetCookie {
            name: cookie::AUTHORIZATION,
            value: &granted.token,
            path: application.cookie_path(),
            expires: granted.expires,
            now,
            http_only: attributes.http_only,
            same_site: attributes.same_site,
        };
        let counted = session.completed(&granted.aud, granted.signed_out, now);
        // A session that the browser cannot store must not begin a loop.
        let (true, Some(cookie), Some(counted)) =
            (cookie.fits(), cookie.to_header(), counted.to_header(now))
        else {
            let bytes = granted.token.len();
            tracing::error!(application = %name, request_id = %request.id, bytes, "the session does not fit into a cookie");
            return error_pages::internal(request);
        };
        let page = self.page_url(&granted.to);
        let mut response = match attributes.same_site {
            // Browsers send no Strict cookie within a chain of redirects from another site. A link
            // on a page of this host begins a new chain.
            SameSite::Strict => answer::page(
                HandoverPage {
                    application: name,
                    href: &page,
                    request_id: &request.id.to_string(),
                }
                .page(),
            ),
            SameSite::None | SameSite::Lax => answer::redirect(StatusCode::FOUND, &page),
        };
        response.headers_mut().append(header::SET_COOKIE, cookie);
        response.headers_mut().append(header::SET_COOKIE, counted);
        response
    }

    /// Expires the cookies of a browser that shows two different ones, and begins a login. Either
    /// of them may bind the hand-over to another user's login, which another host of the domain
    /// planted together with the cookie.
    fn conflict(&self) -> Response<Bytes> {
        let (parts, request) = (self.parts, self.request);
        let handover = Handover::open(parts.flows.seal(), self.nonce, self.state, request.now).ok();
        let to = handover
            .filter(|handover| handover.host == request.host)
            .map_or_else(|| ReturnTo::parse("/"), |handover| handover.to);
        let page = self.page_url(&to);
        let conflict = Conflict {
            cookie: cookie::APP_SESSION,
            host: &request.host,
            path: &request.path,
            now: request.now,
        };
        let reason = Reason::SessionConflict.id();
        parts
            .audit
            .login_refused(reason, Counted::Invalid, None, request);
        if conflict.came_back(&request.headers) {
            return conflict_page(&conflict, &page, request.support.as_deref(), request.id);
        }
        let mut response = answer::redirect(StatusCode::FOUND, &page);
        conflict.expire(response.headers_mut());
        conflict.mark(response.headers_mut());
        response
    }

    fn cookie_missing(&self) -> Response<Bytes> {
        let mut causes = vec![
            LostCookie::Blocked,
            LostCookie::ThirdParty,
            LostCookie::TooMany,
        ];
        if self.snapshot.team().plain_http {
            causes.insert(0, LostCookie::PlainHttp);
        }
        let page = LoginLoop {
            cookie: cookie::APP_SESSION,
            causes: &causes,
            start_again: Some(&self.page_url(&ReturnTo::parse("/"))),
            support: self.request.support.as_deref(),
            reason: Some("app_session_missing"),
            request_id: &self.request.id.to_string(),
        };
        answer::page(page.page())
    }
}
