use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header};

use crate::idp::{Blame, LoginFailure};
use crate::login::{PortalRequest, ReturnTo};
use crate::model::{Identity, Reason};
use crate::pages::{Denied, ErrorPage, Link, TELL_THE_ADMINISTRATOR, TRY_AGAIN, answer};

pub(super) fn not_found(request: &PortalRequest) -> Response<Bytes> {
    shown(
        ErrorPage::application_not_found(&request.id.to_string()),
        request,
    )
}

pub(super) fn bad_request(request: &PortalRequest, reason: &str) -> Response<Bytes> {
    shown(
        ErrorPage::bad_request(&request.id.to_string()).with_reason(reason),
        request,
    )
}

pub(super) fn internal(request: &PortalRequest) -> Response<Bytes> {
    shown(ErrorPage::internal(&request.id.to_string()), request)
}

/// 503: the page leads to the same address, if following a link can repeat the request.
pub(super) fn unavailable(request: &PortalRequest) -> Response<Bytes> {
    let here = match &request.query {
        Some(query) => format!("{}?{query}", request.path),
        None => request.path.clone(),
    };
    let again =
        matches!(request.method, Method::GET | Method::HEAD).then(|| ReturnTo::parse(&here));
    unavailable_then(request, again.as_ref().map(ReturnTo::as_str))
}

/// 503, with the way to begin again.
pub(super) fn unavailable_then(request: &PortalRequest, again: Option<&str>) -> Response<Bytes> {
    let retry = again.map(|href| Link {
        href,
        label: TRY_AGAIN,
    });
    later(shown(
        ErrorPage::unavailable(&request.id.to_string()).with_retry(retry),
        request,
    ))
}

pub(super) fn expired(request: &PortalRequest, again: Option<&str>) -> Response<Bytes> {
    shown(
        ErrorPage::login_expired(again, &request.id.to_string()).with_reason("login_expired"),
        request,
    )
}

/// The links for a user whose login failed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct WaysOn<'a> {
    /// The same login from the beginning.
    pub(super) again: Option<&'a str>,
    /// A login at which the provider asks for the account once more: with its session alive it
    /// would give the same one.
    pub(super) switch: Option<&'a str>,
}

/// The page of a login that failed: what to do about it is in the operator's log, under the same
/// request id.
pub(super) fn failed(
    request: &PortalRequest,
    failure: &LoginFailure,
    ways: WaysOn<'_>,
) -> Response<Bytes> {
    let id = request.id.to_string();
    let again = ways.again.map(|href| Link {
        href,
        label: TRY_AGAIN,
    });
    let unverified = failure.unverified_address().map(|address| {
        // The user may have several addresses, and has to know which one to verify.
        format!("Your identity provider has not verified your email address {address}.")
    });
    let sentence = unverified.as_deref().unwrap_or_else(|| failure.sentence());
    let page = match (failure, failure.blame()) {
        (LoginFailure::Groups(_), _) => ErrorPage::groups_unavailable(&id),
        (_, Blame::Provider) => {
            let title = "Signing in is not possible right now.";
            let page = ErrorPage::new(
                StatusCode::SERVICE_UNAVAILABLE,
                title,
                failure.sentence(),
                &id,
            );
            page.with_hint(TELL_THE_ADMINISTRATOR)
        }
        (_, Blame::Person) => {
            ErrorPage::new(StatusCode::FORBIDDEN, "Sign-in failed.", sentence, &id)
                .with_hint(TELL_THE_ADMINISTRATOR)
                .with_switch(ways.switch.filter(|_| failure.may_be_of_the_account()))
        }
        (_, Blame::Browser) => ErrorPage::new(
            StatusCode::BAD_REQUEST,
            "Sign-in failed.",
            failure.sentence(),
            &id,
        ),
    };
    let response = shown(page.with_retry(again).with_reason(failure.id()), request);
    if response.status() == StatusCode::SERVICE_UNAVAILABLE {
        later(response)
    } else {
        response
    }
}

/// Somebody is known, and may not; `login` is the way to the same page by way of the login.
pub(super) fn denied(
    request: &PortalRequest,
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
        support: request.support.as_deref(),
        reason: Some(reason.id()),
        request_id: &request.id.to_string(),
    };
    let mut response = answer::page(page.page());
    response.extensions_mut().insert(reason);
    response
}

pub(super) fn shown(page: ErrorPage<'_>, request: &PortalRequest) -> Response<Bytes> {
    answer::page(page.with_support(request.support.as_deref()).page())
}

fn later(mut response: Response<Bytes>) -> Response<Bytes> {
    response
        .headers_mut()
        .insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
    response
}
