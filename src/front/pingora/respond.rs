use std::time::Duration;

use bytes::Bytes;
use http::{Method, Response, StatusCode, header};
use pingora::http::ResponseHeader;
use pingora::prelude::{Error, ErrorType, Result, Session};
use pingora::protocols::http::HttpTask;

use crate::model::RequestId;

/// Sends a response of ours. The connection stays open unless a request body is left unread.
///
/// A response without a body ends with its head, also over HTTP/2: gRPC's trailers-only form
/// requires that.
pub(super) async fn send(
    session: &mut Session,
    response: Response<Bytes>,
    id: RequestId,
) -> Result<()> {
    let (parts, body) = response.into_parts();
    let mut head = ResponseHeader::build(parts.status, Some(parts.headers.len() + 3))?;
    head.insert_header("CF-Ray", id.to_string())?;
    for (name, value) in &parts.headers {
        head.append_header(name.clone(), value.clone())?;
    }
    let without_body = session.req_header().method == Method::HEAD
        || matches!(
            parts.status,
            StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
        );
    let is_http2 = session.as_downstream().is_http2();
    let is_grpc = parts.headers.contains_key("grpc-status");
    if parts.status != StatusCode::NO_CONTENT && !(is_http2 && is_grpc) {
        head.insert_header(header::CONTENT_LENGTH, body.len().to_string())?;
    }
    if !session.as_downstream_mut().is_body_done() || parts.status == StatusCode::METHOD_NOT_ALLOWED
    {
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

/// Writes parts of a response. Returns `true` if the response is complete.
///
/// Pingora limits the time for bodies only. Without a limit for the head, a client that never reads
/// would keep its connection.
///
/// # Errors
/// If writing fails or takes longer than the session's write timeout.
pub(super) async fn write(session: &mut Session, tasks: Vec<HttpTask>) -> Result<bool> {
    let limit = session
        .as_downstream()
        .get_write_timeout()
        .unwrap_or(WRITE_TIME);
    let too_slow = |_| {
        Error::explain(
            ErrorType::WriteTimedout,
            "the client does not read the response",
        )
        .into_down()
    };
    tokio::time::timeout(limit, session.write_response_tasks(tasks))
        .await
        .map_err(too_slow)?
}

/// Reads the rest of the request body after the response, for a bounded time and length.
///
/// A client that is cut off while it sends may lose the response: over HTTP/1.1 by the reset of the
/// connection, over HTTP/2 by that of the stream, which curl before 8 reports as a failure.
pub(super) async fn read_rest(session: &mut Session) {
    let written = session
        .response_written()
        .is_some_and(|response| !response.status.is_informational());
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

/// The most bytes to read of an unwanted body.
const REST_BYTES: usize = 1 << 20;
/// The longest pause in an unwanted body.
const REST_PAUSE: Duration = Duration::from_secs(1);
/// The longest time to read an unwanted body.
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
        client
            .write_all(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
            .await
            .unwrap();
        let mut session = Session::new_h1(Box::new(server));
        assert!(session.read_request().await.unwrap());
        session.set_write_timeout(Some(Duration::from_millis(20)));
        let response = Response::builder()
            .header("x-large", "a".repeat(4000))
            .body(Bytes::new())
            .unwrap();
        let sent = send(&mut session, response, RequestId::random());
        let sent = tokio::time::timeout(Duration::from_secs(10), sent)
            .await
            .expect("the write goes on");
        assert_eq!(sent.unwrap_err().etype(), &ErrorType::WriteTimedout);
    }
}
