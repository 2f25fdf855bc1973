//! Pages about the user's session with the team.

use askama::Template;
use http::StatusCode;

use super::{Link, Page, STYLE, render};

/// The home page of the team domain.
#[derive(Debug, Clone, Template)]
#[template(path = "home.html", config = "src/pages/askama.toml")]
pub(crate) struct Home<'a> {
    /// The team's name.
    pub(crate) team: &'a str,
    /// The user's email address, if there is a session.
    pub(crate) signed_in_as: Option<&'a str>,
    /// The URL to sign out.
    pub(crate) sign_out: &'a str,
    /// Names this request in the log.
    pub(crate) request_id: &'a str,
}

impl Home<'_> {
    /// 200 with the account, or with the way to sign in.
    pub(crate) fn page(&self) -> Page {
        render(StatusCode::OK, self)
    }
}

/// The end of a logout.
#[derive(Debug, Clone, Template)]
#[template(path = "logged_out.html", config = "src/pages/askama.toml")]
pub(crate) struct LoggedOut<'a> {
    /// The provider's name, if the session at the provider ended too.
    pub(crate) also_at: Option<&'a str>,
    /// The link back to the application.
    pub(crate) back: Option<Link<'a>>,
    /// The URL to sign in with another account. Without it the provider would not offer one.
    pub(crate) switch_account: Option<&'a str>,
    /// Names this request in the log.
    pub(crate) request_id: &'a str,
}

impl LoggedOut<'_> {
    /// 200 after the logout.
    pub(crate) fn page(&self) -> Page {
        render(StatusCode::OK, self)
    }
}

/// The end of an identity refresh.
#[derive(Debug, Clone, Template)]
#[template(path = "identity_refreshed.html", config = "src/pages/askama.toml")]
pub(crate) struct IdentityRefreshed<'a> {
    /// The user's email address.
    pub(crate) signed_in_as: &'a str,
    /// The number of the user's groups, if known.
    pub(crate) groups: Option<usize>,
    /// Names this request in the log.
    pub(crate) request_id: &'a str,
}

impl IdentityRefreshed<'_> {
    /// 200 after the refresh.
    pub(crate) fn page(&self) -> Page {
        render(StatusCode::OK, self)
    }
}

/// Asks for confirmation of a logout, because a link on another site can lead here.
#[derive(Debug, Clone, Template)]
#[template(path = "logout_confirm.html", config = "src/pages/askama.toml")]
pub(crate) struct LogoutConfirm<'a> {
    /// The form's target. The policy allows only this page's own host.
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
