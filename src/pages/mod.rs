//! The pages people see: choosing a login, refusals, errors, signing out.
//!
//! Decides only how a page looks and what it says; which page is due, and its reason id, come from
//! the caller. Trusts nothing it is given as text: every field is escaped on the way into the
//! template, and the policy in [`security_headers`] lets a browser run no script and load nothing.
//! Links are the exception that escaping cannot judge, so the caller builds them from typed URLs.
//! Never fetches, logs or keeps anything.

pub(crate) mod answer;
mod error;
mod idp_test;
mod session;

use std::sync::LazyLock;

use askama::Template;
use aws_lc_rs::digest;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, header};

use crate::model::Support;

pub(crate) use error::ErrorPage;
pub(crate) use idp_test::{IdpTestFailed, IdpTestWorks};
pub(crate) use session::{IdentityRefreshed, LoggedOut, LogoutConfirm};

/// A rendered page, to be sent with [`security_headers`].
#[derive(Debug, Clone)]
pub(crate) struct Page {
    /// The status to answer with.
    pub(crate) status: StatusCode,
    /// The HTML document, in UTF-8.
    pub(crate) body: Bytes,
}

/// The headers every page is sent with: its type, no storing (`Cache-Control` and `Expires` as
/// Cloudflare Access sends them) and what a browser may do with it, which is to show it and to
/// follow its links and forms.
pub(crate) fn security_headers() -> [(HeaderName, HeaderValue); 8] {
    [
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/html; charset=utf-8"),
        ),
        (
            header::CONTENT_SECURITY_POLICY,
            CONTENT_SECURITY_POLICY.clone(),
        ),
        (
            header::REFERRER_POLICY,
            HeaderValue::from_static("no-referrer"),
        ),
        (
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        ),
        (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
        // Whoever opened this page as a window must not read where it is.
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            HeaderValue::from_static("same-origin"),
        ),
        (header::CACHE_CONTROL, HeaderValue::from_static(NO_STORE)),
        (
            header::EXPIRES,
            HeaderValue::from_static("Thu, 01 Jan 1970 00:00:01 GMT"),
        ),
    ]
}

/// A link with its words.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Link<'a> {
    /// Where it leads.
    pub(crate) href: &'a str,
    /// What it says.
    pub(crate) label: &'a str,
}

/// The login chooser: one button for each identity provider.
#[derive(Debug, Clone, Template)]
#[template(path = "login.html", config = "src/pages/askama.toml")]
pub(crate) struct LoginChooser<'a> {
    /// Whose login this is.
    pub(crate) team: &'a str,
    /// What one is signing in to.
    pub(crate) application: &'a str,
    /// The identity providers allowed for the application, in the order to show them.
    pub(crate) providers: &'a [Link<'a>],
    /// Names this request in the log.
    pub(crate) request_id: &'a str,
}

impl LoginChooser<'_> {
    /// 200 with the choice of identity providers.
    pub(crate) fn page(&self) -> Page {
        render(StatusCode::OK, self)
    }
}

/// The team domain's own page.
#[derive(Debug, Clone, Template)]
#[template(path = "home.html", config = "src/pages/askama.toml")]
pub(crate) struct Home<'a> {
    /// Whose login this is.
    pub(crate) team: &'a str,
    /// The email of who is signed in.
    pub(crate) signed_in_as: Option<&'a str>,
    /// Where to sign out.
    pub(crate) sign_out: &'a str,
    /// Names this request in the log.
    pub(crate) request_id: &'a str,
}

impl Home<'_> {
    /// 200 saying what this host is for.
    pub(crate) fn page(&self) -> Page {
        render(StatusCode::OK, self)
    }
}

/// A refusal by policy.
#[derive(Debug, Clone, Template)]
#[template(path = "denied.html", config = "src/pages/askama.toml")]
pub(crate) struct Denied<'a> {
    /// What was asked for.
    pub(crate) application: &'a str,
    /// The email of who is signed in; without it the page speaks of no account.
    pub(crate) signed_in_as: Option<&'a str>,
    /// The application's own words for those it refuses.
    pub(crate) message: Option<&'a str>,
    /// Where to try again, where it could not be decided whether they may.
    pub(crate) undecided: Option<&'a str>,
    /// Whether no groups are known of them.
    pub(crate) groups_unknown: bool,
    /// Where to sign in as somebody else.
    pub(crate) switch_account: Option<&'a str>,
    /// The contact for users.
    pub(crate) support: Option<&'a Support>,
    /// The reason id, as in the audit event.
    pub(crate) reason: Option<&'a str>,
    /// Names this request in the log.
    pub(crate) request_id: &'a str,
}

impl Denied<'_> {
    /// 403 saying who was refused what.
    pub(crate) fn page(&self) -> Page {
        render(StatusCode::FORBIDDEN, self)
    }
}

/// A login stopped because it went round in circles.
#[derive(Debug, Clone, Template)]
#[template(path = "login_loop.html", config = "src/pages/askama.toml")]
pub(crate) struct LoginLoop<'a> {
    /// The name of the cookie that was set and never came back.
    pub(crate) cookie: &'a str,
    /// Why that may be, the likeliest first.
    pub(crate) causes: &'a [LostCookie],
    /// The URL that starts the login anew.
    pub(crate) start_again: Option<&'a str>,
    /// The contact for users.
    pub(crate) support: Option<&'a Support>,
    /// The reason id, as in the audit event.
    pub(crate) reason: Option<&'a str>,
    /// Names this request in the log.
    pub(crate) request_id: &'a str,
}

impl LoginLoop<'_> {
    /// 400 naming the cookie and the likely causes.
    pub(crate) fn page(&self) -> Page {
        render(StatusCode::BAD_REQUEST, self)
    }
}

/// A login stopped because the browser keeps sending a cookie of two logins.
#[derive(Debug, Clone, Template)]
#[template(path = "cookie_conflict.html", config = "src/pages/askama.toml")]
pub(crate) struct CookieConflict<'a> {
    /// The name of the cookie.
    pub(crate) cookie: &'a str,
    /// The host that the browser sends it to.
    pub(crate) host: &'a str,
    /// The domain above, if other hosts of it can set cookies for this one.
    pub(crate) domain: Option<&'a str>,
    /// The URL that starts the login anew.
    pub(crate) start_again: &'a str,
    /// The contact for users.
    pub(crate) support: Option<&'a Support>,
    /// The reason id, as in the log.
    pub(crate) reason: &'a str,
    /// Names this request in the log.
    pub(crate) request_id: &'a str,
}

impl CookieConflict<'_> {
    /// 400 naming the cookie, and the steps to be rid of it.
    pub(crate) fn page(&self) -> Page {
        render(StatusCode::BAD_REQUEST, self)
    }
}

/// Why a browser may not return a cookie it was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LostCookie {
    /// Cookies are off, or something removes them.
    Blocked,
    /// The application is shown inside another site.
    ThirdParty,
    /// `SameSite=Strict`, and the way here led over another site.
    SameSite,
    /// The cookie is `Secure` and the page is not.
    PlainHttp,
    /// Something between browser and proxy changes the host name.
    HostChanged,
    /// The browser keeps no more, or no larger, cookies for this host.
    TooMany,
}

impl LostCookie {
    /// The cause in a sentence, with what to do where the user can do something.
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

/// The last step of a login to an application with `SameSite=Strict` cookies. A redirect would
/// still count as coming from the identity provider's site and leave the cookie behind; a page of
/// the application's own host that moves on does not.
#[derive(Debug, Clone, Template)]
#[template(path = "handover.html", config = "src/pages/askama.toml")]
pub(crate) struct Handover<'a> {
    /// What is being opened.
    pub(crate) application: &'a str,
    /// The page first asked for.
    pub(crate) href: &'a str,
    /// Names this request in the log.
    pub(crate) request_id: &'a str,
}

impl Handover<'_> {
    /// 200 that moves on at once, by a refresh and by a link.
    pub(crate) fn page(&self) -> Page {
        render(StatusCode::OK, self)
    }
}

/// For a form sent without a session: a redirect to the login would lose what was typed.
#[derive(Debug, Clone, Template)]
#[template(path = "resend_form.html", config = "src/pages/askama.toml")]
pub(crate) struct ResendForm<'a> {
    /// What the form was for.
    pub(crate) application: &'a str,
    /// Where to sign in, in a tab of its own, so that this one keeps the form.
    pub(crate) login: &'a str,
    /// Names this request in the log.
    pub(crate) request_id: &'a str,
}

impl ResendForm<'_> {
    /// 401 with the way to the login.
    pub(crate) fn page(&self) -> Page {
        render(StatusCode::UNAUTHORIZED, self)
    }
}

/// A form on its way to an identity provider, by the browser.
#[derive(Debug, Clone, Template)]
#[template(path = "saml_request.html", config = "src/pages/askama.toml")]
pub(crate) struct SamlRequest<'a> {
    /// What the login page calls the provider.
    pub(crate) provider: &'a str,
    /// Where it goes.
    pub(crate) action: &'a str,
    /// `SAMLRequest`.
    pub(crate) saml_request: &'a str,
    /// `RelayState`.
    pub(crate) relay_state: &'a str,
    /// Names this request in the log.
    pub(crate) request_id: &'a str,
}

impl SamlRequest<'_> {
    /// 200 with the form; to be sent under [`SENDING_POLICY`].
    pub(crate) fn page(&self) -> Page {
        render(StatusCode::OK, self)
    }
}

/// Returns the text as HTML, with what is between two backticks as code. Our own messages mark
/// names so, and terminals show them.
fn marked(text: &str) -> String {
    let escaped = |part: &str| {
        let mut html = String::with_capacity(part.len());
        for c in part.chars() {
            match c {
                '&' => html.push_str("&#38;"),
                '<' => html.push_str("&#60;"),
                '>' => html.push_str("&#62;"),
                '"' => html.push_str("&#34;"),
                '\'' => html.push_str("&#39;"),
                c => html.push(c),
            }
        }
        html
    };
    let mut parts: Vec<&str> = text.split('`').collect();
    // The last backtick of an odd number marks nothing.
    let rest = if parts.len().is_multiple_of(2) {
        parts.pop()
    } else {
        None
    };
    let mut html = String::with_capacity(text.len() + 16);
    for (place, part) in parts.into_iter().enumerate() {
        let part = escaped(part);
        html += &if place.is_multiple_of(2) {
            part
        } else {
            format!("<code>{part}</code>")
        };
    }
    if let Some(rest) = rest {
        html.push('`');
        html += &escaped(rest);
    }
    html
}

fn render(status: StatusCode, template: &impl Template) -> Page {
    // Writing to a string cannot fail; were it to, the status is what keeps a refusal a refusal.
    let body = template
        .render()
        .map_or(Bytes::from_static(UNRENDERED), Bytes::from);
    Page { status, body }
}

const UNRENDERED: &[u8] =
    b"<!doctype html><html lang=\"en\"><title>Error</title><h1>Something went wrong</h1>";

const STYLE: &str = include_str!("templates/style.css");

const NO_STORE: &str =
    "private, max-age=0, no-store, no-cache, must-revalidate, post-check=0, pre-check=0";

/// The words of Access, which people search for.
const NO_GROUPS: &str = "Failed to fetch user/group information from the identity provider";

const START_AGAIN: &str = "Start again";

/// The button that sends the same request again.
pub(crate) const TRY_AGAIN: &str = "Try again";

/// The next step of a user whom the policies refuse.
const ASK_FOR_ACCESS: &str =
    "To get access, ask your administrator. Name the application and the request id below.";

/// The contact for users.
pub(crate) const TELL_THE_ADMINISTRATOR: &str =
    "If it keeps happening, give your administrator the request id below.";

/// Sends the one form of a page.
const SUBMIT: &str = "document.forms[0].submit()";

/// For the page that sends a form to an identity provider: with that script, and to wherever the
/// provider leads on, for browsers hold `form-action` against redirects too.
pub(crate) static SENDING_POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let hash = |text: &str| STANDARD.encode(digest::digest(&digest::SHA256, text.as_bytes()));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; img-src data:; frame-ancestors 'none'; \
         base-uri 'none'",
        hash(STYLE),
        hash(SUBMIT)
    );
    HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static(UNSTYLED))
});

/// What holds when the style's hash cannot be put into a header: the pages without their style.
const UNSTYLED: &str = "default-src 'none'; img-src data:; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

static CONTENT_SECURITY_POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let hash = STANDARD.encode(digest::digest(&digest::SHA256, STYLE.as_bytes()));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{hash}'; img-src data:; form-action 'self'; frame-ancestors 'none'; \
         base-uri 'none'"
    );
    HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static(UNSTYLED))
});

#[cfg(test)]
mod tests;
