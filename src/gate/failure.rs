//! Requests that failed after the check: while they were forwarded, or while they ran.
//!
//! Decides the error page of each kind of failure. Trusts the front's classification. Never shows
//! bytes of the origin.

use bytes::Bytes;
use http::{Method, Response, StatusCode, Uri};

use super::{Gate, responses};
use crate::engine::Style;
use crate::model::{Reason, RequestId};
use crate::pages::{ErrorPage, Link, TRY_AGAIN};

/// The kind of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// A running request is no longer allowed, for this reason if there is one.
    AccessEnded(Option<Reason>),
    /// The request body is longer than allowed.
    BodyTooLarge,
    /// The client's message is invalid.
    Malformed,
    /// The client sends too slowly.
    RequestTooSlow,
    /// No origin of the application is healthy.
    NoHealthyOrigin,
    /// Too many requests are in progress.
    Overloaded,
    /// The origin did not respond in time.
    OriginTooSlow,
    /// The origin could not be reached, or its response is invalid.
    OriginUnreachable,
    /// An error of our own.
    Internal,
}

impl Failure {
    /// Returns the error page with its reason id.
    fn page(self, id: &str) -> ErrorPage<'_> {
        let (page, reason) = match self {
            Self::AccessEnded(reason) => {
                let sentence = "Your access ended while this request was in progress.";
                let page = ErrorPage::new(StatusCode::FORBIDDEN, "Not allowed", sentence, id);
                (page, reason.unwrap_or(Reason::NoPolicyApplied).id())
            }
            Self::BodyTooLarge => (ErrorPage::content_too_large(id), Reason::BodyTooLarge.id()),
            Self::Malformed => (ErrorPage::bad_request(id), "bad_request"),
            Self::RequestTooSlow => (ErrorPage::request_too_slow(id), "request_too_slow"),
            Self::NoHealthyOrigin => (ErrorPage::upstream_unhealthy(id), "origin_unhealthy"),
            Self::Overloaded => (ErrorPage::overloaded(id), "overloaded"),
            Self::OriginTooSlow => (ErrorPage::upstream_too_slow(id), "origin_too_slow"),
            Self::OriginUnreachable => (ErrorPage::upstream_unreachable(id), "origin_unreachable"),
            Self::Internal => (ErrorPage::internal(id), Reason::Internal.id()),
        };
        page.with_reason(reason)
    }
}

impl Gate {
    /// Returns the response to a failed request, with a link to try again if that may succeed.
    /// `target` is the request's.
    pub(crate) fn failed(
        &self,
        failure: Failure,
        method: &Method,
        target: &Uri,
        style: Style,
        id: RequestId,
    ) -> Response<Bytes> {
        let id = id.to_string();
        let page = failure.page(&id);
        let retry = responses::retry(method, target, page.status);
        let retry = retry.as_deref().map(|href| Link {
            href,
            label: TRY_AGAIN,
        });
        let snapshot = self.access.running.load();
        responses::error(page.with_retry(retry), style, snapshot.team())
    }
}
