//! What people see of the session that they have, or had, with the team.

use askama::Template;
use http::StatusCode;

use super::{Link, Page, STYLE, render};

/// The end of a logout.
#[derive(Debug, Clone, Template)]
#[template(path = "logged_out.html", config = "src/pages/askama.toml")]
pub(crate) struct LoggedOut<'a> {
    /// What the provider is called, where its session ended too.
    pub(crate) also_at: Option<&'a str>,
    /// The way back to the application.
    pub(crate) back: Option<Link<'a>>,
    /// The URL for another account, which the provider would not offer by itself.
    pub(crate) switch_account: Option<&'a str>,
    /// Names this request in the log.
    pub(crate) request_id: &'a str,
}

impl LoggedOut<'_> {
    /// 200 saying that one is signed out.
    pub(crate) fn page(&self) -> Page {
        render(StatusCode::OK, self)
    }
}

/// The end of a refresh of one's identity.
#[derive(Debug, Clone, Template)]
#[template(path = "identity_refreshed.html", config = "src/pages/askama.toml")]
pub(crate) struct IdentityRefreshed<'a> {
    /// The email of who is signed in.
    pub(crate) signed_in_as: &'a str,
    /// How many groups they are in, where that is known.
    pub(crate) groups: Option<usize>,
    /// Names this request in the log.
    pub(crate) request_id: &'a str,
}

impl IdentityRefreshed<'_> {
    /// 200 saying that it was done.
    pub(crate) fn page(&self) -> Page {
        render(StatusCode::OK, self)
    }
}

/// Asks before signing out, because a link on another site can lead here.
#[derive(Debug, Clone, Template)]
#[template(path = "logout_confirm.html", config = "src/pages/askama.toml")]
pub(crate) struct LogoutConfirm<'a> {
    /// Where the form is posted; the policy allows this page's own host only.
    pub(crate) action: &'a str,
    /// The value of the hidden field `csrf`.
    pub(crate) csrf: &'a str,
    /// Names this request in the log.
    pub(crate) request_id: &'a str,
}

impl LogoutConfirm<'_> {
    /// 200 with the form.
    pub(crate) fn page(&self) -> Page {
        render(StatusCode::OK, self)
    }
}
