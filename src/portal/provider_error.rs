//! Errors of an identity provider that belong to no known login.
//!
//! Decides which part of such an error a page shows. Trusts nothing in it: any site can send a
//! browser here with an invented error, so the page names registered codes only. Never begins or
//! ends a login.

use bytes::Bytes;
use http::{Response, StatusCode};

use super::error_pages;
use crate::control::Flows;
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
    /// Returns the error in the query of a callback, if it has one.
    pub(super) fn in_query(request: &PortalRequest) -> Option<Self> {
        let error = Callback::reported_error(request.query.as_deref()?)?;
        let code = error.registered_code();
        Some(Self {
            failure: LoginFailure::from(error),
            code,
        })
    }

    /// Returns the error in a SAML response, if it reports one.
    pub(super) async fn in_response(flows: &Flows, response: &str) -> Option<Self> {
        let response = response.to_owned();
        let error = flows
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

    /// Returns the page: 400, because the provider did not return which login failed.
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
        error_pages::shown(page.with_hint(OPEN_AGAIN).with_reason(reason), request)
    }
}

/// Answers a callback with an absent or foreign `state`: 400, with the provider's error if it
/// reports one.
pub(super) fn without_state(reason: &'static str, request: &PortalRequest) -> Response<Bytes> {
    let Some(reported) = Reported::in_query(request) else {
        let id = request.id.to_string();
        let sentence = "This address does not belong to a sign-in that started here.";
        let page = ErrorPage::new(StatusCode::BAD_REQUEST, "Sign-in failed.", sentence, &id);
        return error_pages::shown(page.with_hint(OPEN_AGAIN).with_reason(reason), request);
    };
    reported.log(reason, request);
    reported.page(reason, request)
}

const OF_NO_LOGIN: &str =
    "a callback reported an unverified error that belongs to no login in progress";
/// The page has no link, because the application is unknown.
const OPEN_AGAIN: &str = "Open the application again at its own address. If that does not help, give your administrator the request id \
                          below.";
