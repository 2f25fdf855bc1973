//! The pages of a login.

use askama::Template;
use http::StatusCode;

use super::{Link, Page, STYLE, SUBMIT, render};
use crate::model::Support;

/// The choice of identity providers, one button for each.
#[derive(Debug, Clone, Template)]
#[template(path = "login.html", config = "src/pages/askama.toml")]
pub(crate) struct LoginChooser<'a> {
    /// The team's name.
    pub(crate) team: &'a str,
    /// The application's name.
    pub(crate) application: &'a str,
    /// The identity providers allowed for the application, in the order to show them.
    pub(crate) providers: &'a [Link<'a>],
    /// Names this request in the log.
    pub(crate) request_id: &'a str,
}

impl LoginChooser<'_> {
    /// 200 with the buttons.
    pub(crate) fn page(&self) -> Page {
        render(StatusCode::OK, self)
    }
}

/// A login that was stopped because it looped.
#[derive(Debug, Clone, Template)]
#[template(path = "login_loop.html", config = "src/pages/askama.toml")]
pub(crate) struct LoginLoop<'a> {
    /// The name of the cookie that the browser did not return.
    pub(crate) cookie: &'a str,
    /// The possible causes, most likely first.
    pub(crate) causes: &'a [LostCookie],
    /// The URL that restarts the login.
    pub(crate) start_again: Option<&'a str>,
    /// The contact for users.
    pub(crate) support: Option<&'a Support>,
    /// The reason id, as in the audit event.
    pub(crate) reason: Option<&'a str>,
    /// Names this request in the log.
    pub(crate) request_id: &'a str,
}

impl LoginLoop<'_> {
    /// 400 with the cookie and the likely causes.
    pub(crate) fn page(&self) -> Page {
        render(StatusCode::BAD_REQUEST, self)
    }
}

/// A login that was stopped because the browser sent the same cookie from two logins.
#[derive(Debug, Clone, Template)]
#[template(path = "cookie_conflict.html", config = "src/pages/askama.toml")]
pub(crate) struct CookieConflict<'a> {
    /// The name of the cookie.
    pub(crate) cookie: &'a str,
    /// The host that the browser sends it to.
    pub(crate) host: &'a str,
    /// The domain above, if other hosts of it can set cookies for this one.
    pub(crate) domain: Option<&'a str>,
    /// The URL that restarts the login.
    pub(crate) start_again: &'a str,
    /// The contact for users.
    pub(crate) support: Option<&'a Support>,
    /// The reason id, as in the log.
    pub(crate) reason: &'a str,
    /// Names this request in the log.
    pub(crate) request_id: &'a str,
}

impl CookieConflict<'_> {
    /// 400 with the cookie and the steps to delete it.
    pub(crate) fn page(&self) -> Page {
        render(StatusCode::BAD_REQUEST, self)
    }
}

/// A reason for a browser not to return a cookie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LostCookie {
    /// Cookies are turned off, or an extension removes them.
    Blocked,
    /// The application is embedded in another site.
    ThirdParty,
    /// The cookie is `SameSite=Strict`, and the navigation came from another site.
    SameSite,
    /// The cookie is `Secure`, and the page was loaded over HTTP.
    PlainHttp,
    /// A proxy in front of this one changes the host name.
    HostChanged,
    /// The browser's limit for the number or size of this host's cookies is reached.
    TooMany,
}

impl LostCookie {
    /// Returns the cause in one sentence, with the remedy if the user has one.
    pub(crate) fn sentence(self) -> &'static str {
        match self {
            Self::Blocked => {
                "Cookies are turned off for this site, or a browser extension removes them."
            }
            Self::ThirdParty => {
                "The application is embedded in another site, and your browser blocks third-party cookies. Open it in its own tab."
            }
            Self::SameSite => {
                "The cookie is set to SameSite=Strict, and you followed a link from another site. Type the address instead."
            }
            Self::PlainHttp => {
                "The page was opened with http://, and the cookie is only sent with https://."
            }
            Self::HostChanged => {
                "A proxy in between changes the host name, so the cookie belongs to another address."
            }
            Self::TooMany => {
                "This site has stored too many cookies in your browser. Delete them and start again."
            }
        }
    }
}

/// The last step of a login to an application with `SameSite=Strict` cookies.
///
/// After a redirect the browser would withhold the cookie, because the navigation started at the
/// identity provider's site. A page on the application's host starts a new navigation.
#[derive(Debug, Clone, Template)]
#[template(path = "handover.html", config = "src/pages/askama.toml")]
pub(crate) struct Handover<'a> {
    /// The application's name.
    pub(crate) application: &'a str,
    /// The page that the user requested before the login.
    pub(crate) href: &'a str,
    /// Names this request in the log.
    pub(crate) request_id: &'a str,
}

impl Handover<'_> {
    /// 200 with an immediate refresh and a link.
    pub(crate) fn page(&self) -> Page {
        render(StatusCode::OK, self)
    }
}

/// The answer to a form that was submitted without a session. A redirect to the login would lose
/// the user's input.
#[derive(Debug, Clone, Template)]
#[template(path = "resend_form.html", config = "src/pages/askama.toml")]
pub(crate) struct ResendForm<'a> {
    /// The application's name.
    pub(crate) application: &'a str,
    /// The URL to sign in at. It opens in a new tab, so that this one keeps the form.
    pub(crate) login: &'a str,
    /// Names this request in the log.
    pub(crate) request_id: &'a str,
}

impl ResendForm<'_> {
    /// 401 with a link to the login.
    pub(crate) fn page(&self) -> Page {
        render(StatusCode::UNAUTHORIZED, self)
    }
}

/// A SAML request that the browser posts to the identity provider.
#[derive(Debug, Clone, Template)]
#[template(path = "saml_request.html", config = "src/pages/askama.toml")]
pub(crate) struct SamlRequest<'a> {
    /// The provider's name.
    pub(crate) provider: &'a str,
    /// The provider's single sign-on URL.
    pub(crate) action: &'a str,
    /// `SAMLRequest`.
    pub(crate) saml_request: &'a str,
    /// `RelayState`.
    pub(crate) relay_state: &'a str,
    /// Names this request in the log.
    pub(crate) request_id: &'a str,
}

impl SamlRequest<'_> {
    /// 200 with the form. Send it with [`SENDING_POLICY`](super::SENDING_POLICY).
    pub(crate) fn page(&self) -> Page {
        render(StatusCode::OK, self)
    }
}
