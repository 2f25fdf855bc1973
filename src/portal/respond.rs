use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};

use super::answer;
use super::pages::{Denied, ErrorPage, Link, TELL_THE_ADMINISTRATOR};
use crate::idp::{Blame, LoginFailure};
use crate::model::{Identity, Reason, RequestId};

pub(super) fn not_found(id: RequestId) -> Response<Bytes> {
    answer::page(ErrorPage::application_not_found(&id.to_string()).page())
}

pub(super) fn bad_request(id: RequestId, reason: &str) -> Response<Bytes> {
    answer::page(ErrorPage::bad_request(&id.to_string()).with_reason(reason).page())
}

pub(super) fn internal(id: RequestId) -> Response<Bytes> {
    answer::page(ErrorPage::internal(&id.to_string()).page())
}

pub(super) fn unavailable(id: RequestId) -> Response<Bytes> {
    later(answer::page(ErrorPage::unavailable(&id.to_string()).page()))
}

pub(super) fn expired(id: RequestId, again: Option<&str>) -> Response<Bytes> {
    answer::page(ErrorPage::login_expired(again, &id.to_string()).with_reason("login_expired").page())
}

/// The page of a login that failed: what to do about it is in the operator's log, under the same request id.
pub(super) fn failed(id: RequestId, failure: &LoginFailure, again: Option<&str>) -> Response<Bytes> {
    let id = id.to_string();
    let page = match (failure, failure.blame()) {
        (LoginFailure::Groups(_), _) => ErrorPage::groups_unavailable(&id),
        (_, Blame::Provider) => {
            let title = "Signing in is not possible right now.";
            let page = ErrorPage::new(StatusCode::SERVICE_UNAVAILABLE, title, failure.sentence(), &id);
            page.with_hint(TELL_THE_ADMINISTRATOR)
        }
        (_, Blame::Person) => ErrorPage::new(StatusCode::FORBIDDEN, "Signing in failed.", failure.sentence(), &id),
        (_, Blame::Browser) => ErrorPage::new(StatusCode::BAD_REQUEST, "Signing in failed.", failure.sentence(), &id),
    };
    let again = again.map(|href| Link { href, label: "Try again" });
    let response = answer::page(page.with_retry(again).with_reason(failure.id()).page());
    if response.status() == StatusCode::SERVICE_UNAVAILABLE { later(response) } else { response }
}

/// Somebody is known, and may not; `login` is the way to the same page by way of the login.
pub(super) fn denied(
    id: RequestId,
    application: &crate::engine::Application,
    who: &Identity,
    login: &str,
    reason: Reason,
) -> Response<Bytes> {
    let anew = (reason == Reason::IdentityIncomplete).then(|| format!("{login}&anew=1"));
    let page = Denied {
        application: &application.settings().name,
        signed_in_as: Some(who.email.as_str()),
        message: application.settings().custom_deny_message.as_deref(),
        undecided: anew.as_deref(),
        groups_unknown: application.misses_groups(who),
        switch_account: Some(&format!("{login}&switch=1")),
        reason: Some(reason.id()),
        request_id: &id.to_string(),
    };
    let mut response = answer::page(page.page());
    response.extensions_mut().insert(reason);
    response
}

fn later(mut response: Response<Bytes>) -> Response<Bytes> {
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
    response
}
