//! Results of a test login, for administrators.

use askama::Template;
use http::StatusCode;

use super::{Page, STYLE, marked, render};

/// A test login that succeeded.
#[derive(Debug, Clone, Template)]
#[template(path = "trial_succeeded.html", config = "src/pages/askama.toml")]
pub(crate) struct TrialSucceeded<'a> {
    /// The provider's name.
    pub(crate) provider: &'a str,
    /// Names and values of the account's details. `None`: not provided.
    pub(crate) facts: &'a [(&'a str, Option<&'a str>)],
    /// The account's groups; `true` if a rule names the group.
    pub(crate) groups: &'a [(&'a str, bool)],
    /// Groups that rules name and that the account is not in.
    pub(crate) others: &'a [&'a str],
    /// The configured claims and their values in JSON. `None`: not provided.
    pub(crate) claims: &'a [(&'a str, Option<&'a str>)],
    /// Limitations that the administrator should know of.
    pub(crate) notes: &'a [&'a str],
    /// The same details as a JSON document.
    pub(crate) json: &'a str,
    /// Names this request in the log.
    pub(crate) request_id: &'a str,
}

impl TrialSucceeded<'_> {
    /// 200 with the details that policies will see.
    pub(crate) fn page(&self) -> Page {
        render(StatusCode::OK, self)
    }
}

/// A test login that failed.
#[derive(Debug, Clone, Template)]
#[template(path = "trial_failed.html", config = "src/pages/askama.toml")]
pub(crate) struct TrialFailed<'a> {
    /// The provider's name.
    pub(crate) provider: &'a str,
    /// The step of the login that failed.
    pub(crate) step: &'a str,
    /// The error and its causes, outermost first.
    pub(crate) causes: &'a [String],
    /// The change that fixes it.
    pub(crate) advice: Option<&'a str>,
    /// The reason id, as in the audit event.
    pub(crate) reason: &'a str,
    /// Names this request in the log.
    pub(crate) request_id: &'a str,
}

impl TrialFailed<'_> {
    /// 200: the test itself completed.
    pub(crate) fn page(&self) -> Page {
        render(StatusCode::OK, self)
    }
}
