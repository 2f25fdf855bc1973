use std::time::Duration;

use bytes::Bytes;
use http::{Method, Response, StatusCode, header};
use pingora::http::ResponseHeader;
use pingora::prelude::{Error, ErrorType, Result, Session};
use pingora::protocols::http::HttpTask;

use crate::engine::{Refusal, Style, Team};
use crate::login::ReturnTo;
use crate::model::{Reason, RequestId, RequestView};
use crate::portal::answer;
use crate::portal::pages::{Denied, ErrorPage, Link, TRY_AGAIN};

/// The one table from refusals to status codes, told in that style.
pub(super) fn refused(reason: Reason, style: Style, id: RequestId, team: &Team) -> Response<Bytes> {
    let id = id.to_string();
    answered(error_page(reason, &id), reason, style, team)
}

/// The same for a request that could not be decided, with a way to try again.
pub(super) fn unavailable(reason: Reason, request: &RequestView<'_>, team: &Team, id: RequestId) -> Response<Bytes> {
    let id = id.to_string();
    let here = match request.query {
        Some(query) => format!("{}?{query}", request.path.as_str()),
        None => request.path.as_str().to_owned(),
    };
    let retry = link_to(request.method, &here);
    let retry = retry.as_deref().map(|href| Link { href, label: TRY_AGAIN });
    answered(error_page(reason, &id).with_retry(retry), reason, Style::of(request), team)
}

/// The page that a request failed on, for a button that tries again: only what can be sent again by following a link, and
/// may then have another answer.
pub(super) fn retry(session: &Session, status: StatusCode) -> Option<String> {
    let request = session.req_header();
    let passes =
        matches!(status, StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT);
    let here = request.uri.path_and_query().filter(|_| passes)?;
    link_to(&request.method, here.as_str())
}

fn link_to(method: &Method, here: &str) -> Option<String> {
    matches!(*method, Method::GET | Method::HEAD).then(|| ReturnTo::parse(here).as_str().to_owned())
}

fn error_page(reason: Reason, id: &str) -> ErrorPage<'_> {
    match reason {
        Reason::PathAmbiguous => ErrorPage::path_ambiguous(id),
        Reason::HostMalformed => ErrorPage::bad_request(id),
        Reason::PortUnknown => ErrorPage::misdirected(id),
        Reason::TargetTooLong => ErrorPage::target_too_long(id),
        Reason::HeadersTooLarge => ErrorPage::headers_too_large(id),
        Reason::BodyTooLarge => ErrorPage::content_too_large(id),
        Reason::NoApplication => ErrorPage::application_not_found(id),
        Reason::MethodRefused => {
            let sentence = "This method is not served here.";
            ErrorPage::new(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed", sentence, id)
        }
        Reason::KeysUnavailable | Reason::RevocationsUnavailable | Reason::IdentityUnavailable => {
            ErrorPage::unavailable(id)
        }
        Reason::ServiceTokenInvalid | Reason::ServiceTokenExpired | Reason::ServiceTokenDisabled => {
            let sentence = "The service token is not accepted.";
            ErrorPage::new(StatusCode::UNAUTHORIZED, "Unauthorized", sentence, id)
        }
        Reason::ServiceAuthRequired => {
            let sentence = "This is for programs, and nobody can log in here.";
            ErrorPage::new(StatusCode::FORBIDDEN, "Not allowed", sentence, id)
        }
        Reason::PreflightRefused | Reason::PolicyDenied | Reason::NoPolicyApplied | Reason::IdentityIncomplete => {
            let sentence = "This request is not allowed here.";
            ErrorPage::new(StatusCode::FORBIDDEN, "Not allowed", sentence, id)
        }
        // Without an application there is no login to send anybody to; and the check must never end here otherwise.
        Reason::NoSession
        | Reason::SessionExpired
        | Reason::SessionRevoked
        | Reason::SessionInvalid
        | Reason::SessionConflict
        | Reason::Internal => ErrorPage::internal(id),
    }
}

fn answered(page: ErrorPage<'_>, reason: Reason, style: Style, team: &Team) -> Response<Bytes> {
    let mut response = told(page.with_reason(reason.id()), style, team);
    if response.status() == StatusCode::METHOD_NOT_ALLOWED {
        let allowed = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";
        response.headers_mut().insert(header::ALLOW, http::HeaderValue::from_static(allowed));
    }
    if response.status() == StatusCode::UNAUTHORIZED {
        let scheme = "Cloudflare-Access error=\"invalid_service_token\"";
        response.headers_mut().insert(header::WWW_AUTHENTICATE, http::HeaderValue::from_static(scheme));
    }
    if response.status() == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(header::RETRY_AFTER, http::HeaderValue::from_static("5"));
    }
    response
}

/// An error in the form that the client reads: people a page, scripts JSON, gRPC its own status.
pub(super) fn told(page: ErrorPage<'_>, style: Style, team: &Team) -> Response<Bytes> {
    let error = || page.status.canonical_reason().unwrap_or("Error").to_ascii_lowercase().replace(' ', "_");
    match style {
        Style::Grpc => answer::grpc(page.status, page.reason.unwrap_or_default()),
        Style::Json => {
            let body = serde_json::json!({"error": error(), "reason": page.reason, "request_id": page.request_id});
            answer::json(page.status, &body)
        }
        Style::Redirect | Style::Page | Style::Upgrade => {
            answer::page(page.with_support(team.support.as_deref()).page())
        }
    }
}

/// The answer to somebody who may not: people get a page with the way to another account, scripts and programs JSON.
pub(super) fn denied(
    refusal: &Refusal,
    login: &str,
    request: &RequestView<'_>,
    team: &Team,
    id: RequestId,
) -> Response<Bytes> {
    let style = Style::of(request);
    let Some(application) = &refusal.application else { return refused(refusal.reason, style, id, team) };
    let settings = application.settings();
    let mut response = match (&refusal.session, style) {
        (None, _) if refusal.reason == Reason::PreflightRefused => return refused(refusal.reason, style, id, team),
        (None, Style::Redirect | Style::Page) if refusal.reason == Reason::ServiceAuthRequired => {
            refused(refusal.reason, style, id, team)
        }
        // Nobody logged in, so it is no browser that must be told.
        (None, Style::Grpc) => refused(refusal.reason, style, id, team),
        (None, _) => refused(refusal.reason, Style::Json, id, team),
        (Some(_), Style::Grpc) => answer::grpc(StatusCode::FORBIDDEN, refusal.reason.id()),
        (Some(_), Style::Json) => {
            let (reason, id) = (refusal.reason.id(), id.to_string());
            let body = serde_json::json!({"error": "access_denied", "reason": reason, "request_id": id});
            answer::json(StatusCode::FORBIDDEN, &body)
        }
        (Some(session), Style::Redirect | Style::Page | Style::Upgrade) => {
            let anew = (refusal.reason == Reason::IdentityIncomplete).then(|| format!("{login}&anew=1"));
            let page = Denied {
                application: &settings.name,
                signed_in_as: session.email().map(crate::model::Email::as_str),
                message: settings.custom_deny_message.as_deref(),
                undecided: anew.as_deref(),
                groups_unknown: session.identity().is_some_and(|identity| application.misses_groups(identity)),
                switch_account: Some(&format!("{login}&switch=1")),
                support: team.support.as_deref(),
                reason: Some(refusal.reason.id()),
                request_id: &id.to_string(),
            };
            answer::page(page.page())
        }
    };
    if let Some(cors) = &settings.cors {
        response.headers_mut().extend(cors.headers(request.headers));
    }
    for (name, value) in
        [("cf-access-aud", settings.aud.as_str()), ("cf-access-domain", request.authority.host.as_ref())]
    {
        if let Ok(value) = http::HeaderValue::try_from(value) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

/// Sends a response of ours. The connection stays open unless there is a body that nobody read.
///
/// A response without a body ends with its head, over HTTP/2 too: that is the trailers-only form of gRPC.
pub(super) async fn send(session: &mut Session, response: Response<Bytes>, id: RequestId) -> Result<()> {
    let (parts, body) = response.into_parts();
    let mut head = ResponseHeader::build(parts.status, Some(parts.headers.len() + 3))?;
    head.insert_header("CF-Ray", id.to_string())?;
    for (name, value) in &parts.headers {
        head.append_header(name.clone(), value.clone())?;
    }
    let without_body = session.req_header().method == Method::HEAD
        || matches!(parts.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let is_http2 = session.as_downstream().is_http2();
    let is_grpc = parts.headers.contains_key("grpc-status");
    if parts.status != StatusCode::NO_CONTENT && !(is_http2 && is_grpc) {
        head.insert_header(header::CONTENT_LENGTH, body.len().to_string())?;
    }
    if !session.as_downstream_mut().is_body_done() || parts.status == StatusCode::METHOD_NOT_ALLOWED {
        session.set_keepalive(None);
    }
    let empty = without_body || body.is_empty();
    let mut tasks = vec![HttpTask::Header(Box::new(head), empty)];
    if !empty {
        tasks.push(HttpTask::Body(Some(body), true));
    }
    write(session, tasks).await?;
    Ok(())
}

/// Writes parts of a response; `true` if it is complete.
///
/// Pingora limits the time for bodies alone: without a limit for the head a client that never reads keeps its connection.
///
/// # Errors
/// If writing fails or takes longer than the session's write timeout.
pub(super) async fn write(session: &mut Session, tasks: Vec<HttpTask>) -> Result<bool> {
    let limit = session.as_downstream().get_write_timeout().unwrap_or(WRITE_TIME);
    let too_slow = |_| Error::explain(ErrorType::WriteTimedout, "the client takes no response").into_down();
    tokio::time::timeout(limit, session.write_response_tasks(tasks)).await.map_err(too_slow)?
}

/// Reads what the client still sends after its response, for a bounded time and length.
///
/// Clients that are cut off while they send lose the response: over HTTP/1.1 to the reset of the connection, over HTTP/2 to
/// that of the stream, which curl before 8 takes for a failure.
pub(super) async fn read_rest(session: &mut Session) {
    let written = session.response_written().is_some_and(|response| !response.status.is_informational());
    if !written || session.was_upgraded() {
        return;
    }
    let rest = async {
        let mut read = 0;
        while read <= REST_BYTES && !session.as_downstream_mut().is_body_done() {
            let part = tokio::time::timeout(REST_PAUSE, session.read_request_body()).await;
            let Ok(Ok(Some(part))) = part else { return };
            read += part.len();
        }
    };
    let _too_long = tokio::time::timeout(REST_TIME, rest).await;
}

/// The most bytes of an unwanted body to read.
const REST_BYTES: usize = 1 << 20;
/// The longest pause in one.
const REST_PAUSE: Duration = Duration::from_secs(1);
/// The longest time to read one for.
const REST_TIME: Duration = Duration::from_secs(5);
/// The longest time for a part of a response, if the session has no limit of its own.
const WRITE_TIME: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    #[tokio::test]
    async fn response_to_a_client_that_never_reads_times_out() {
        let (mut client, server) = tokio::io::duplex(256);
        client.write_all(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let mut session = Session::new_h1(Box::new(server));
        assert!(session.read_request().await.unwrap());
        session.set_write_timeout(Some(Duration::from_millis(20)));
        let response = Response::builder().header("x-large", "a".repeat(4000)).body(Bytes::new()).unwrap();
        let sent = send(&mut session, response, RequestId::random());
        let sent = tokio::time::timeout(Duration::from_secs(10), sent).await.expect("the write goes on");
        assert_eq!(sent.unwrap_err().etype(), &ErrorType::WriteTimedout);
    }
}
