//! Errors of an identity provider that no login can be found for.
//!
//! Decides which part of such an error a page shows. Trusts nothing in it: anybody can send a browser here with an error of
//! their own, so the page names registered codes alone. Never begins or ends a login.

use bytes::Bytes;
use http::{Response, StatusCode};

use super::respond;
use crate::idp::{Callback, LoginFailure};
use crate::login::PortalRequest;
use crate::model::chain;
use crate::pages::{ErrorPage, TELL_THE_ADMINISTRATOR};

/// Logs the error that a callback brings, if it brings one.
pub(super) fn log(reason: &'static str, request: &PortalRequest) -> Option<&'static str> {
    let error = Callback::reported_error(request.query.as_deref()?)?;
    let code = error.registered_code();
    let failure = LoginFailure::from(error);
    let (error, hint) = (chain(&failure), failure.advice());
    tracing::warn!(
        request_id = %request.id, reason, error, hint,
        "a callback brought an error that belongs to no login in progress; it is not verified"
    );
    Some(code.unwrap_or_default())
}

/// 400: a callback whose `state` is absent or was not made here.
pub(super) fn without_state(reason: &'static str, request: &PortalRequest) -> Response<Bytes> {
    let id = request.id.to_string();
    let Some(code) = log(reason, request) else { return respond::bad_request(request, reason) };
    let sentence = match code {
        "" => "The identity provider refused the login, and did not return which login it was.".to_owned(),
        code => format!("The identity provider refused the login ({code}), and did not return which login it was."),
    };
    let page = ErrorPage::new(StatusCode::BAD_REQUEST, "Signing in failed.", &sentence, &id);
    respond::shown(page.with_hint(TELL_THE_ADMINISTRATOR).with_reason(reason), request)
}
