//! Responses to requests that need a login.
//!
//! Decides how each kind of client learns that it has to log in, and stops logins that would only
//! repeat. Trusts the engine's [`Challenge`]; cookies only delay a login, they never replace one.
//! Never redirects to any host but the team domain.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use percent_encoding::{AsciiSet, utf8_percent_encode};
use serde_json::json;

use super::conflict_page::conflict_page;
use crate::cookie::{APP_SESSION, AUTHORIZATION, SameSite};
use crate::engine::{Application, Challenge, Style, Team};
use crate::login::{
    AppSession, Conflict, LOGGED_OUT, LoginOption, LoginUrl, ReturnTo, ReturnToError,
};
use crate::model::{Reason, RequestId, RequestView, UnixTime};
use crate::pages::answer;
use crate::pages::{ErrorPage, Link, LoggedOut, LoginLoop, LostCookie, ResendForm};
use crate::route::Endpoint;

/// A request that needs a login.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LoginRequired<'a> {
    pub(crate) team: &'a Team,
    pub(crate) challenge: &'a Challenge,
    pub(crate) request: &'a RequestView<'a>,
    pub(crate) id: RequestId,
    pub(crate) now: UnixTime,
}

impl LoginRequired<'_> {
    /// Returns the response, in a form that the request's client can follow.
    pub(crate) fn respond(&self) -> Response<Bytes> {
        let style = self.challenge.style;
        let conflict = self.conflict();
        if let Some(conflict) = &conflict
            && style == Style::Redirect
            && conflict.came_back(self.request.headers)
        {
            return self.repeated_conflict(conflict);
        }
        let mut app_session = None;
        let mut response = match style {
            Style::Redirect if self.returns_from_logout() => self.logged_out(),
            // The browser would come back to the front page, and the user would not know why.
            Style::Redirect if ReturnTo::read(&self.target()) == Err(ReturnToError::TooLong) => {
                self.target_too_long()
            }
            Style::Redirect => {
                let session = self.app_session();
                if conflict.is_none() && self.is_loop(&session) {
                    return self.login_loop();
                }
                app_session = session.to_header(self.now);
                self.redirect_to_login(&session)
            }
            Style::Page => self.resend_form(),
            Style::Json => self.json(),
            Style::Upgrade => with_login_url(
                answer::empty(StatusCode::UNAUTHORIZED),
                &self.login_url(&ReturnTo::parse("/")),
            ),
            Style::Grpc => answer::grpc(StatusCode::UNAUTHORIZED, "login required"),
        };
        if let Some(conflict) = conflict {
            conflict.expire(response.headers_mut());
            if style == Style::Redirect {
                conflict.mark(response.headers_mut());
            }
        }
        // This must follow the expiry of cookies with the same name.
        if let Some(cookie) = app_session {
            response.headers_mut().append(header::SET_COOKIE, cookie);
        }
        if response.status().is_redirection() || response.status() == StatusCode::UNAUTHORIZED {
            self.name_metadata(response.headers_mut());
        }
        self.name_application(response.headers_mut());
        response
    }

    fn application(&self) -> &Application {
        &self.challenge.application
    }

    fn host(&self) -> &str {
        self.request.authority.host.as_ref()
    }

    /// Returns the requested path and query.
    fn target(&self) -> String {
        let path = self.request.path.as_str();
        match self.request.query {
            // Some clients send non-ASCII characters unescaped.
            Some(query) => format!("{path}?{}", utf8_percent_encode(query, NON_ASCII)),
            None => path.to_owned(),
        }
    }

    /// Returns the URL of the requested page.
    fn page_url(&self) -> String {
        format!(
            "{}{}",
            self.team.url_of(self.host()),
            ReturnTo::parse(&self.target()).as_str()
        )
    }

    /// Returns the URL of a login to a page, bound to no cookie.
    fn login_url(&self, to: &ReturnTo) -> String {
        LoginUrl {
            team: self.team,
            application: self.application(),
            host: self.host(),
            to,
            app_session: None,
        }
        .build(self.now)
    }

    fn conflict_of(&self, cookie: &'static str) -> Conflict<'_> {
        Conflict {
            cookie,
            host: self.host(),
            path: self.request.path.as_str(),
            now: self.now,
        }
    }

    /// Returns the cookie that came twice with different values, if one did.
    fn conflict(&self) -> Option<Conflict<'_>> {
        match self.challenge.reason {
            Reason::SessionConflict => Some(self.conflict_of(AUTHORIZATION)),
            _ if self.is_ambiguous() => Some(self.conflict_of(APP_SESSION)),
            _ => None,
        }
    }

    /// Returns `true` if the login would be bound to a cookie that another host of the domain may
    /// have set.
    fn is_ambiguous(&self) -> bool {
        let begins_login =
            self.challenge.style == Style::Redirect && self.request.query != Some(LOGGED_OUT);
        begins_login && AppSession::is_ambiguous(self.request.headers)
    }

    /// Returns the browser's cookie, unless another host of the domain may have set it.
    fn own_app_session(&self) -> Option<AppSession> {
        AppSession::from_headers(self.request.headers).filter(|_| !self.is_ambiguous())
    }

    /// Returns the browser's cookie, or a new one.
    fn app_session(&self) -> AppSession {
        self.own_app_session().unwrap_or_else(AppSession::random)
    }

    /// Returns `true` if another login would end like those before it.
    fn is_loop(&self, session: &AppSession) -> bool {
        session.loops(self.application().aud(), self.challenge.reason, self.now)
    }

    /// Returns `true` if a logout has just led here. A redirect to the identity provider would turn
    /// the logout into a login.
    fn returns_from_logout(&self) -> bool {
        self.request.query == Some(LOGGED_OUT)
            && matches!(
                self.challenge.reason,
                Reason::NoSession | Reason::SessionRevoked
            )
    }

    /// Returns the page for cookies that conflict again after they were expired.
    fn repeated_conflict(&self, conflict: &Conflict<'_>) -> Response<Bytes> {
        let support = self.team.support.as_deref();
        let mut response = conflict_page(conflict, &self.page_url(), support, self.id);
        // The next login begins with a click, so it is not part of a loop.
        let restarted = self.own_app_session().map(|session| session.restarted());
        if let Some(cookie) = restarted.and_then(|session| session.to_header(self.now)) {
            response.headers_mut().append(header::SET_COOKIE, cookie);
        }
        response
    }

    fn redirect_to_login(&self, session: &AppSession) -> Response<Bytes> {
        let url = LoginUrl {
            team: self.team,
            application: self.application(),
            host: self.host(),
            to: &ReturnTo::parse(&self.target()),
            app_session: Some(session),
        }
        .build(self.now);
        let mut response = answer::redirect(StatusCode::FOUND, &url);
        response.headers_mut().insert(
            header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
            HeaderValue::from_static("true"),
        );
        response
    }

    fn logged_out(&self) -> Response<Bytes> {
        let path = self.request.path.as_str();
        let login = self.login_url(&ReturnTo::parse(path));
        let page = LoggedOut {
            also_at: None,
            back: Some(Link {
                href: &format!("{}{path}", self.team.url_of(self.host())),
                label: "Back to the application",
            }),
            switch_account: Some(&LoginOption::SwitchAccount.added_to(&login)),
            request_id: &self.id.to_string(),
        };
        with_login_url(answer::page(page.page()), &login)
    }

    fn target_too_long(&self) -> Response<Bytes> {
        let login = self.login_url(&ReturnTo::parse("/"));
        let id = self.id.to_string();
        let page = ErrorPage::login_target_too_long(&login, &id)
            .with_reason(Reason::TargetTooLong.id())
            .page();
        answer::page(page)
    }

    fn resend_form(&self) -> Response<Bytes> {
        let login = self.login_url(&self.referring_page());
        let page = ResendForm {
            application: &self.application().settings().name,
            login: &login,
            request_id: &self.id.to_string(),
        };
        with_login_url(answer::page(page.page()), &login)
    }

    fn json(&self) -> Response<Bytes> {
        let login = self.login_url(&self.referring_page());
        let body = json!({
            "error": "login_required", "reason": self.challenge.reason.id(), "login_url": login, "request_id": self.id.to_string(),
        });
        let mut response = with_login_url(answer::json(StatusCode::UNAUTHORIZED, &body), &login);
        if let Some(cors) = &self.application().settings().cors {
            let exposed = HeaderValue::from_static("Cf-Access-Login-Url, WWW-Authenticate");
            let mut headers = cors.headers(self.request.headers);
            if headers.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN) {
                headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
            }
            response.headers_mut().extend(headers);
        }
        response
    }

    /// Returns the page that ends a series of logins which gave no usable session.
    fn login_loop(&self) -> Response<Bytes> {
        let mut response = match self.challenge.reason {
            Reason::NoSession => self.lost_cookie(),
            // The session's cookie came back, so it is not lost.
            reason => self.session_not_accepted(reason),
        };
        // Another host of the domain may have set the count.
        self.conflict_of(APP_SESSION).expire(response.headers_mut());
        response
    }

    fn lost_cookie(&self) -> Response<Bytes> {
        let mut causes = vec![LostCookie::Blocked, LostCookie::TooMany];
        if self.application().settings().cookie.same_site == SameSite::Strict {
            causes.insert(0, LostCookie::SameSite);
        }
        if self.team.plain_http {
            causes.insert(0, LostCookie::PlainHttp);
        }
        let page = LoginLoop {
            cookie: AUTHORIZATION,
            causes: &causes,
            start_again: Some(&self.page_url()),
            support: self.team.support.as_deref(),
            reason: Some("login_loop"),
            request_id: &self.id.to_string(),
        };
        answer::page(page.page())
    }

    /// Returns the page for a team's sessions that are all rejected here at once: another login
    /// would change nothing.
    fn session_not_accepted(&self, refused: Reason) -> Response<Bytes> {
        const REASON: &str = "session_not_accepted";
        let (host, application) = (self.host(), &self.application().settings().name);
        tracing::warn!(
            reason = REASON, %refused, application = %application, host, request_id = %self.id,
            "this node rejects the team's sessions; check its clock, and that it has the team's applications and identity providers"
        );
        let (url, id) = (self.page_url(), self.id.to_string());
        let page = ErrorPage::session_not_accepted(&url, &id).with_reason(REASON);
        answer::page(page.with_support(self.team.support.as_deref()).page())
    }

    /// Returns the page of this host that a script or a form was on: a login that begins there
    /// should come back there.
    fn referring_page(&self) -> ReturnTo {
        let referer = self.request.headers.get(header::REFERER);
        let referer = referer
            .and_then(|referer| referer.to_str().ok())
            .and_then(|referer| url::Url::parse(referer).ok())
            .filter(|referer| referer.host_str() == Some(self.host()));
        match referer {
            None => ReturnTo::parse("/"),
            Some(page) => match page.query() {
                Some(query) => ReturnTo::parse(&format!("{}?{query}", page.path())),
                None => ReturnTo::parse(page.path()),
            },
        }
    }

    /// Sets the headers that cloudflared and scripts read on every refusal.
    fn name_application(&self, headers: &mut HeaderMap) {
        if let Ok(host) = HeaderValue::try_from(self.host()) {
            headers.insert(HeaderName::from_static("cf-access-domain"), host);
        }
        if let Ok(aud) = HeaderValue::try_from(self.application().aud().as_str()) {
            headers.insert(HeaderName::from_static("cf-access-aud"), aud);
        }
    }

    /// Names the document with the team that signs users in for this page (`docs/wire.md` 2.10, RFC
    /// 9728 5.1).
    fn name_metadata(&self, headers: &mut HeaderMap) {
        // A path may contain the character that ends the quoted string, and be longer than clients
        // read.
        let path = ReturnTo::parse(self.request.path.as_str());
        let path = if path.is_long() {
            "/".to_owned()
        } else {
            path.as_str().replace('"', "%22")
        };
        let url = format!(
            "{}{}{path}",
            self.team.url_of(self.host()),
            Endpoint::PROTECTED_RESOURCE
        );
        if let Ok(value) =
            HeaderValue::try_from(format!("Cloudflare-Access resource_metadata=\"{url}\""))
        {
            headers.insert(header::WWW_AUTHENTICATE, value);
        }
    }
}

/// Makes a response a 401 that names the login's URL.
fn with_login_url(mut response: Response<Bytes>, url: &str) -> Response<Bytes> {
    *response.status_mut() = StatusCode::UNAUTHORIZED;
    if let Ok(url) = HeaderValue::try_from(url) {
        response
            .headers_mut()
            .insert(HeaderName::from_static("cf-access-login-url"), url);
    }
    response
}

/// Escapes non-ASCII characters only, which `utf8_percent_encode` always does.
const NON_ASCII: &AsciiSet = &AsciiSet::EMPTY;
