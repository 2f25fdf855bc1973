use askama::Template;
use http::StatusCode;

use super::{ASK_FOR_ACCESS, NO_GROUPS, Page, STYLE, TELL_THE_ADMINISTRATOR, render};
use crate::model::Support;

/// The page of a request that the policies deny.
#[derive(Debug, Clone, Template)]
#[template(path = "denied.html", config = "src/pages/askama.toml")]
pub(crate) struct Denied<'a> {
    /// The application's name.
    pub(crate) application: &'a str,
    /// The user's email address. Without it the page does not mention an account.
    pub(crate) signed_in_as: Option<&'a str>,
    /// The message that the application has configured for denied users.
    pub(crate) message: Option<&'a str>,
    /// The URL to try again, if access could not be decided.
    pub(crate) undecided: Option<&'a str>,
    /// `true` if the user's groups are unknown.
    pub(crate) groups_unknown: bool,
    /// The URL to sign in with another account.
    pub(crate) switch_account: Option<&'a str>,
    /// The contact for users.
    pub(crate) support: Option<&'a Support>,
    /// The reason id, as in the audit event.
    pub(crate) reason: Option<&'a str>,
    /// Names this request in the log.
    pub(crate) request_id: &'a str,
}

impl Denied<'_> {
    /// 403 with the application and the account.
    pub(crate) fn page(&self) -> Page {
        render(StatusCode::FORBIDDEN, self)
    }
}
