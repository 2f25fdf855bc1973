//! HTML pages for users: sign-in, denied access, errors, sign-out.
//!
//! Decides the layout and wording of a page. The caller chooses the page and its reason id. Trusts
//! no text: templates escape every field, and the policy in [`security_headers`] forbids scripts
//! and external resources. Escaping cannot make a hostile link safe, so callers build links from
//! typed URLs. Never fetches, logs or stores anything.

pub(crate) mod answer;
mod denied;
mod error;
mod login;
mod provider_trial;
mod session;

use std::sync::LazyLock;

use askama::Template;
use aws_lc_rs::digest;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, header};

pub(crate) use denied::Denied;
pub(crate) use error::ErrorPage;
pub(crate) use login::{
    CookieConflict, Handover, LoginChooser, LoginLoop, LostCookie, ResendForm, SamlRequest,
};
pub(crate) use provider_trial::{TrialFailed, TrialSucceeded};
pub(crate) use session::{Home, IdentityRefreshed, LoggedOut, LogoutConfirm};

/// A rendered page, to be sent with [`security_headers`].
#[derive(Debug, Clone)]
pub(crate) struct Page {
    pub(crate) status: StatusCode,
    /// The HTML document, in UTF-8.
    pub(crate) body: Bytes,
}

/// Returns the headers of every page. They forbid caches to store it (`Cache-Control` and `Expires`
/// as Cloudflare Access sends them), and allow browsers only to show it and to follow its links and
/// forms.
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
        // A site that opened this page in a window must not read its URL.
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

/// A link and its text.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Link<'a> {
    pub(crate) href: &'a str,
    pub(crate) label: &'a str,
}

/// Returns the text as HTML, with the parts between backticks as code. Messages for terminals mark
/// names with backticks, and pages show the same messages.
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
    for (index, part) in parts.into_iter().enumerate() {
        let part = escaped(part);
        html += &if index.is_multiple_of(2) {
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
    // Writing to a string cannot fail. If it did, the status would still mark a refusal as one.
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

/// The text that Cloudflare Access shows. Users and runbooks search for it.
const NO_GROUPS: &str = "Failed to fetch user/group information from the identity provider";

const START_AGAIN: &str = "Start again";

/// The button that sends the same request again.
pub(crate) const TRY_AGAIN: &str = "Try again";

/// The next step for a user without access.
const ASK_FOR_ACCESS: &str =
    "To get access, ask your administrator. Name the application and the request id below.";

/// The next step after a failure that the user cannot fix.
pub(crate) const TELL_THE_ADMINISTRATOR: &str =
    "If it keeps happening, give your administrator the request id below.";

/// Submits the only form of the page.
const SUBMIT: &str = "document.forms[0].submit()";

/// The policy for the page that submits a form to an identity provider. It allows that one script.
/// It has no `form-action`: browsers apply it to redirects too, and the provider may redirect to any
/// host.
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

/// The policy if the style's hash does not fit into a header. Pages then have no style.
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
