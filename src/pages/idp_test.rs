//! What an administrator sees of a login that was made to try an identity provider out.

use askama::Template;
use http::StatusCode;

use super::{Page, STYLE, marked, render};

/// The login went well.
#[derive(Debug, Clone, Template)]
#[template(path = "idp_test_works.html", config = "src/pages/askama.toml")]
pub(crate) struct IdpTestWorks<'a> {
    /// What the provider is called.
    pub(crate) provider: &'a str,
    /// Facts about the person, with what each is called.
    pub(crate) facts: &'a [(&'a str, Told<'a>)],
    /// The person's groups, and whether a rule names each.
    pub(crate) groups: &'a [(&'a str, bool)],
    /// Groups that rules name and that are not among them.
    pub(crate) others: &'a [&'a str],
    /// What the configuration asked for, with the JSON of what came.
    pub(crate) claims: &'a [(&'a str, Told<'a>)],
    /// What may surprise later.
    pub(crate) notes: &'a [&'a str],
    /// All of it as JSON.
    pub(crate) json: &'a str,
    /// Names this request in the log.
    pub(crate) request_id: &'a str,
}

/// Something that the provider said, or did not.
pub(crate) type Told<'a> = Option<&'a str>;

impl IdpTestWorks<'_> {
    /// 200 with what policies will see.
    pub(crate) fn page(&self) -> Page {
        render(StatusCode::OK, self)
    }
}

/// The login failed.
#[derive(Debug, Clone, Template)]
#[template(path = "idp_test_failed.html", config = "src/pages/askama.toml")]
pub(crate) struct IdpTestFailed<'a> {
    /// What the provider is called.
    pub(crate) provider: &'a str,
    /// What was being done.
    pub(crate) step: &'a str,
    /// What went wrong, from the outside in.
    pub(crate) causes: &'a [String],
    /// What to change.
    pub(crate) advice: Option<&'a str>,
    /// The reason id, as in the audit event.
    pub(crate) reason: &'a str,
    /// Names this request in the log.
    pub(crate) request_id: &'a str,
}

impl IdpTestFailed<'_> {
    /// 200: the test was made, and this is its result.
    pub(crate) fn page(&self) -> Page {
        render(StatusCode::OK, self)
    }
}
