//! Failed requests: the response, the log line and the metric.
//!
//! Decides the error page for each kind of failure. Trusts Pingora's classification of errors. Never
//! logs or shows bytes of the origin.

use http::{StatusCode, header};
use pingora::prelude::{Error, ErrorSource, ErrorType, Session};
use pingora::proxy::FailToProxy;

use super::filter::style;
use super::origins::cause;
use super::proxy::ProxyCtx;
use super::{AccessFilter, respond};
use crate::gate;
use crate::model::{Reason, RequestId};
use crate::observe::metrics::{UpstreamError, metrics};
use crate::pages::{ErrorPage, Link, TRY_AGAIN};

/// The response to a failed request.
enum ErrorResponse<'a> {
    /// An error page with its reason id.
    Page(ErrorPage<'a>, &'static str),
    /// No response, because the client has disconnected.
    Disconnected,
    /// No response, because the client does not read: a page would only wait again.
    Stalled,
}

/// Logs and counts the failure, and sends an error page if the client can still read one.
pub(super) async fn respond(
    filter: &AccessFilter,
    session: &mut Session,
    error: &Error,
    ctx: &ProxyCtx,
) -> FailToProxy {
    // A body that is too long is a refusal, which has an audit event. Other failures only reuse the
    // id.
    let id = match error.etype() {
        ErrorType::HTTPStatus(413) => filter.refuse(session, &ctx.access, Reason::BodyTooLarge),
        _ => ctx.access.request_id().unwrap_or_else(RequestId::random),
    };
    let text = id.to_string();
    let (page, reason) = match outcome(error, ctx, &text) {
        ErrorResponse::Page(page, reason) => (page, reason),
        ErrorResponse::Disconnected => return DROP,
        ErrorResponse::Stalled => {
            log(session, ctx, error, id);
            return DROP;
        }
    };
    if *error.esource() == ErrorSource::Upstream {
        metrics().upstream_error(upstream_error(error.etype()));
    }
    // The end of access is in the log already.
    if *error.etype() != ErrorType::HTTPStatus(403) {
        log(session, ctx, error, id);
    }
    let status = page.status.as_u16();
    let request = session.req_header();
    let retry = gate::retry(&request.method, &request.uri, page.status);
    let retry = retry.as_deref().map(|href| Link {
        href,
        label: TRY_AGAIN,
    });
    let response = filter.error(page.with_retry(retry).with_reason(reason), style(session));
    // The rest of the request body may be unread, and would be taken for the next request.
    session.set_keepalive(None);
    // If a part of the response was sent already, only closing the connection shows that it is
    // incomplete.
    if session.response_written().is_none()
        && let Err(error) = respond::send(session, response, id).await
    {
        tracing::debug!(%error, "could not send the error page");
    }
    FailToProxy {
        error_code: status,
        can_reuse_downstream: false,
    }
}

fn outcome<'a>(error: &Error, ctx: &ProxyCtx, id: &'a str) -> ErrorResponse<'a> {
    let (page, reason) = match (error.etype(), error.esource()) {
        (ErrorType::HTTPStatus(503), _) if ctx.no_origin => {
            (ErrorPage::upstream_unhealthy(id), "origin_unhealthy")
        }
        (ErrorType::HTTPStatus(503), _) => (ErrorPage::overloaded(id), "overloaded"),
        (ErrorType::HTTPStatus(413), _) => {
            (ErrorPage::content_too_large(id), Reason::BodyTooLarge.id())
        }
        (ErrorType::HTTPStatus(403), _) => {
            let sentence = "Your access ended while this request was in progress.";
            let reason = ctx.access.ended().unwrap_or(Reason::NoPolicyApplied);
            let page = ErrorPage::new(StatusCode::FORBIDDEN, "Not allowed", sentence, id);
            (page, reason.id())
        }
        (ErrorType::HTTPStatus(400..500), _) => (ErrorPage::bad_request(id), "bad_request"),
        (
            ErrorType::ConnectTimedout | ErrorType::ReadTimedout | ErrorType::WriteTimedout,
            ErrorSource::Upstream,
        ) => (ErrorPage::upstream_too_slow(id), "origin_too_slow"),
        (_, ErrorSource::Upstream) => (ErrorPage::upstream_unreachable(id), "origin_unreachable"),
        (
            ErrorType::WriteError | ErrorType::ReadError | ErrorType::ConnectionClosed,
            ErrorSource::Downstream,
        ) => return ErrorResponse::Disconnected,
        (ErrorType::WriteTimedout, ErrorSource::Downstream) => return ErrorResponse::Stalled,
        (ErrorType::ReadTimedout, ErrorSource::Downstream) => {
            (ErrorPage::request_too_slow(id), "request_too_slow")
        }
        (_, ErrorSource::Downstream) => (ErrorPage::bad_request(id), "bad_request"),
        _ => (ErrorPage::internal(id), Reason::Internal.id()),
    };
    ErrorResponse::Page(page, reason)
}

/// Logs a failed request. The error's own text is omitted: it may contain bytes of the origin, such as
/// cookies.
fn log(session: &Session, ctx: &ProxyCtx, error: &Error, id: RequestId) {
    let request = session.req_header();
    let host = request
        .headers
        .get(header::HOST)
        .map(|host| String::from_utf8_lossy(host.as_bytes()));
    let host = host.or_else(|| {
        request
            .uri
            .authority()
            .map(|authority| authority.as_str().into())
    });
    let permit = ctx.access.permit();
    tracing::warn!(
        request_id = %id,
        application = permit.map(|permit| permit.application().settings().name.as_str()),
        method = request.method.as_str(),
        host = host.as_deref(),
        path = request.uri.path(),
        origin = ctx.pool().and_then(|pool| pool.label(&ctx.attempts)),
        address = ctx.attempts.address().map(tracing::field::display),
        kind = error.etype().as_str(),
        source = error.esource().as_str(),
        cause = cause(error),
        "failed to proxy a request",
    );
}

const fn upstream_error(kind: &ErrorType) -> UpstreamError {
    match kind {
        ErrorType::ConnectTimedout | ErrorType::ReadTimedout | ErrorType::WriteTimedout => {
            UpstreamError::Timeout
        }
        ErrorType::ConnectRefused
        | ErrorType::ConnectNoRoute
        | ErrorType::ConnectError
        | ErrorType::SocketError => UpstreamError::Connect,
        ErrorType::TLSHandshakeFailure
        | ErrorType::TLSHandshakeTimedout
        | ErrorType::InvalidCert
        | ErrorType::HandshakeError
        | ErrorType::TLSWantX509Lookup => UpstreamError::Tls,
        ErrorType::ReadError | ErrorType::WriteError | ErrorType::ConnectionClosed => {
            UpstreamError::Closed
        }
        ErrorType::InvalidHTTPHeader
        | ErrorType::H1Error
        | ErrorType::H2Error
        | ErrorType::InvalidH2 => UpstreamError::Protocol,
        _ => UpstreamError::Other,
    }
}

/// Closes the connection without a response.
const DROP: FailToProxy = FailToProxy {
    error_code: 0,
    can_reuse_downstream: false,
};
