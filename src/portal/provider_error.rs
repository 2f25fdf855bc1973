//! Errors of an identity provider that no login can be found for.
//!
//! Decides which part of such an error a page shows. Trusts nothing in it: anybody can send a
//! browser here with an error of their own, so the page names registered codes alone. Never begins
//! or ends a login.

use bytes::Bytes;
use http::{Response, StatusCode};

use super::respond;
use crate::control::Access;
use crate::idp::{Callback, LoginFailure};
use crate::login::PortalRequest;
use crate::model::chain;
use crate::pages::ErrorPage;

/// An error that a browser brings from a provider. It is not verified.
pub(super) struct Reported {
    failure: LoginFailure,
    /// The code, if it is a registered one.
    code: Option<&'static str>,
}

impl Reported {
    /// The error in the query of a callback, if it has one.
    pub(super) fn in_query(request: &PortalRequest) -> Option<Self> {
        let error = Callback::reported_error(request.query.as_deref()?)?;
        let code = error.registered_code();
        Some(Self {
            failure: LoginFailure::from(error),
            code,
        })
    }

    /// The error in a SAML response, if it is one.
    pub(super) async fn in_response(access: &Access, response: &str) -> Option<Self> {
        let response = response.to_owned();
        let error = access
            .verify(move || crate::saml::reported_error(&response))
            .await??;
        let code = error.registered_status();
        Some(Self {
            failure: LoginFailure::Saml(error),
            code,
        })
    }

    /// Logs the error, with a hint unless the user may have cancelled.
    pub(super) fn log(&self, reason: &'static str, request: &PortalRequest) {
        let error = chain(&self.failure);
        if self.failure.may_be_cancelled() {
            tracing::info!(request_id = %request.id, reason, error, "{OF_NO_LOGIN}");
        } else {
            let hint = self.failure.advice();
            tracing::warn!(request_id = %request.id, reason, error, hint, "{OF_NO_LOGIN}");
        }
    }

    /// 400: the provider did not return which login failed.
    pub(super) fn page(&self, reason: &'static str, request: &PortalRequest) -> Response<Bytes> {
        let id = request.id.to_string();
        let sentence = match self.code {
            None => {
                "The identity provider refused the sign-in, but did not indicate which sign-in it was."
                    .to_owned()
            }
            Some(code) => {
                format!(
                    "The identity provider refused the sign-in ({code}), but did not indicate which sign-in it was."
                )
            }
        };
        let page = ErrorPage::new(StatusCode::BAD_REQUEST, "Sign-in failed.", &sentence, &id);
        respond::shown(page.with_hint(OPEN_AGAIN).with_reason(reason), request)
    }
}

/// 400: a callback whose `state` is absent or was not made here.
pub(super) fn without_state(reason: &'static str, request: &PortalRequest) -> Response<Bytes> {
    let Some(reported) = Reported::in_query(request) else {
        let id = request.id.to_string();
        let sentence = "This address does not belong to a sign-in that started here.";
        let page = ErrorPage::new(StatusCode::BAD_REQUEST, "Sign-in failed.", sentence, &id);
        return respond::shown(page.with_hint(OPEN_AGAIN).with_reason(reason), request);
    };
    reported.log(reason, request);
    reported.page(reason, request)
}

const OF_NO_LOGIN: &str =
    "a callback brought an error that belongs to no login in progress; it is not verified";
/// There is no link: which application it is, is not known.
const OPEN_AGAIN: &str = "Open the application again at its own address. If that does not help, give your administrator the request id \
                          below.";
