//! Failed requests in Pingora's terms: the kind of failure, the log line and the metric.
//!
//! Decides the kind of a failure, from which the gate makes the response. Trusts Pingora's
//! classification of errors. Never logs bytes of the origin.

use http::header;
use pingora::prelude::{Error, ErrorSource, ErrorType, Session};
use pingora::proxy::FailToProxy;

use super::origins::cause;
use super::proxy::ProxyCtx;
use super::{AccessFilter, respond};
use crate::gate::Failure;
use crate::model::{Reason, RequestId};
use crate::observe::metrics::{UpstreamError, metrics};

/// The end of a failed request.
enum Ending {
    /// An error page.
    Page(Failure),
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
    let failure = match classify(error, ctx) {
        Ending::Page(failure) => failure,
        Ending::Disconnected => return DROP,
        Ending::Stalled => {
            log(session, ctx, error, id);
            return DROP;
        }
    };
    if *error.esource() == ErrorSource::Upstream {
        metrics().upstream_error(upstream_error(error.etype()));
    }
    // The end of access is in the log already.
    if !matches!(failure, Failure::AccessEnded(_)) {
        log(session, ctx, error, id);
    }
    let request = session.req_header();
    let response = filter.failed(failure, request, id);
    let error_code = response.status().as_u16();
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
        error_code,
        can_reuse_downstream: false,
    }
}

fn classify(error: &Error, ctx: &ProxyCtx) -> Ending {
    Ending::Page(match (error.etype(), error.esource()) {
        (ErrorType::HTTPStatus(503), _) if ctx.no_origin => Failure::NoHealthyOrigin,
        (ErrorType::HTTPStatus(503), _) => Failure::Overloaded,
        (ErrorType::HTTPStatus(413), _) => Failure::BodyTooLarge,
        (ErrorType::HTTPStatus(403), _) => Failure::AccessEnded(ctx.access.ended()),
        (ErrorType::HTTPStatus(400..500), _) => Failure::Malformed,
        (
            ErrorType::ConnectTimedout | ErrorType::ReadTimedout | ErrorType::WriteTimedout,
            ErrorSource::Upstream,
        ) => Failure::OriginTooSlow,
        (_, ErrorSource::Upstream) => Failure::OriginUnreachable,
        (
            ErrorType::WriteError | ErrorType::ReadError | ErrorType::ConnectionClosed,
            ErrorSource::Downstream,
        ) => return Ending::Disconnected,
        (ErrorType::WriteTimedout, ErrorSource::Downstream) => return Ending::Stalled,
        (ErrorType::ReadTimedout, ErrorSource::Downstream) => Failure::RequestTooSlow,
        (_, ErrorSource::Downstream) => Failure::Malformed,
        _ => Failure::Internal,
    })
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
