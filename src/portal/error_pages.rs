//! The error pages of our endpoints.
//!
//! Decides which status, sentence and links a failed request to an endpoint gets. The page itself
//! is of [`crate::pages`]; refused requests to applications are answered in `gate`.

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header};

use crate::cookie::FLOW_PREFIX;
use crate::engine::Application;
use crate::idp::{Blame, LoginFailure};
use crate::login::{LoginOption, PortalRequest, ReturnTo};
use crate::model::{Identity, Reason};
use crate::pages::{
    Denied, ErrorPage, Link, LoginLoop, LostCookie, TELL_THE_ADMINISTRATOR, TRY_AGAIN, answer,
};

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

/// 503, with a link to the same URL if a link can repeat the request.
pub(super) fn unavailable(request: &PortalRequest) -> Response<Bytes> {
    let here = match &request.query {
        Some(query) => format!("{}?{query}", request.path),
        None => request.path.clone(),
    };
    let retry =
        matches!(request.method, Method::GET | Method::HEAD).then(|| ReturnTo::parse(&here));
    unavailable_with(request, retry.as_ref().map(ReturnTo::as_str))
}

/// 503, with a link to that URL.
pub(super) fn unavailable_with(request: &PortalRequest, retry: Option<&str>) -> Response<Bytes> {
    let retry = retry.map(|href| Link {
        href,
        label: TRY_AGAIN,
    });
    retry_later(shown(
        ErrorPage::unavailable(&request.id.to_string()).with_retry(retry),
        request,
    ))
}

pub(super) fn login_expired(request: &PortalRequest, restart: Option<&str>) -> Response<Bytes> {
    shown(
        ErrorPage::login_expired(restart, &request.id.to_string()).with_reason("login_expired"),
        request,
    )
}

/// The page for a browser that returned without the cookie of its flow.
pub(super) fn flow_cookie_missing(
    request: &PortalRequest,
    flow: &str,
    restart: Option<&str>,
) -> Response<Bytes> {
    let page = LoginLoop {
        cookie: &format!("{FLOW_PREFIX}{flow}"),
        causes: &[
            LostCookie::Blocked,
            LostCookie::TooMany,
            LostCookie::HostChanged,
        ],
        start_again: restart,
        support: request.support.as_deref(),
        reason: Some("flow_cookie_missing"),
        request_id: &request.id.to_string(),
    };
    answer::page(page.page())
}

/// 401 of `refresh-identity`, for a browser without a session.
pub(super) fn not_signed_in(request: &PortalRequest) -> Response<Bytes> {
    let sentence =
        "Open one of your applications and sign in. This page can then update your details.";
    let id = request.id.to_string();
    shown(
        ErrorPage::new(
            StatusCode::UNAUTHORIZED,
            "You are not signed in.",
            sentence,
            &id,
        )
        .with_reason("no_session"),
        request,
    )
}

/// The links on the page of a failed login.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FailureLinks<'a> {
    /// The same login from its beginning.
    pub(super) restart: Option<&'a str>,
    /// A login at which the provider requires credentials. Its session would return the same
    /// account.
    pub(super) switch_account: Option<&'a str>,
}

/// The page of a failed login. The operator's log has the cause and a hint, under the same request
/// id.
pub(super) fn login_failed(
    request: &PortalRequest,
    failure: &LoginFailure,
    links: FailureLinks<'_>,
) -> Response<Bytes> {
    let id = request.id.to_string();
    let restart = links.restart.map(|href| Link {
        href,
        label: TRY_AGAIN,
    });
    let unverified = failure.unverified_address().map(|address| {
        // The user may have several addresses, and needs to know which one to verify.
        format!("Your identity provider has not verified your email address {address}.")
    });
    let sentence = unverified.as_deref().unwrap_or_else(|| failure.sentence());
    let page = match (failure, failure.blame()) {
        (LoginFailure::Groups(_), _) => ErrorPage::groups_unavailable(&id),
        (_, Blame::Provider) => {
            let title = "Sign-in is currently unavailable.";
            let page = ErrorPage::new(
                StatusCode::SERVICE_UNAVAILABLE,
                title,
                failure.sentence(),
                &id,
            );
            page.with_hint(TELL_THE_ADMINISTRATOR)
        }
        (_, Blame::User) => ErrorPage::new(StatusCode::FORBIDDEN, "Sign-in failed.", sentence, &id)
            .with_hint(TELL_THE_ADMINISTRATOR)
            .with_switch(
                links
                    .switch_account
                    .filter(|_| failure.may_be_of_the_account()),
            ),
        (_, Blame::Browser) => ErrorPage::new(
            StatusCode::BAD_REQUEST,
            "Sign-in failed.",
            failure.sentence(),
            &id,
        ),
    };
    let response = shown(page.with_retry(restart).with_reason(failure.id()), request);
    if response.status() == StatusCode::SERVICE_UNAVAILABLE {
        retry_later(response)
    } else {
        response
    }
}

/// The page for a signed-in user, denied by the policies. `login` is the URL of a login to the same
/// page.
pub(super) fn denied(
    request: &PortalRequest,
    application: &Application,
    user: &Identity,
    login: &str,
    reason: Reason,
) -> Response<Bytes> {
    let retry =
        (reason == Reason::IdentityIncomplete).then(|| LoginOption::AtProvider.added_to(login));
    let page = Denied {
        application: &application.settings().name,
        signed_in_as: Some(user.email.as_str()),
        message: application.settings().custom_deny_message.as_deref(),
        undecided: retry.as_deref(),
        groups_unknown: application.misses_groups(user),
        switch_account: Some(&LoginOption::SwitchAccount.added_to(login)),
        support: request.support.as_deref(),
        reason: Some(reason.id()),
        request_id: &request.id.to_string(),
    };
    let mut response = answer::page(page.page());
    // The gate counts the request by this reason.
    response.extensions_mut().insert(reason);
    response
}

/// Sends an error page, with the team's support contact.
pub(super) fn shown(page: ErrorPage<'_>, request: &PortalRequest) -> Response<Bytes> {
    answer::page(page.with_support(request.support.as_deref()).page())
}

/// Adds the time after which automatic clients may try again.
fn retry_later(mut response: Response<Bytes>) -> Response<Bytes> {
    response
        .headers_mut()
        .insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
    response
}
