//! Runs a function from request to response as a Pingora service on 127.0.0.1.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use pingora::apps::http_app::ServeHttp;
use pingora::protocols::http::ServerSession;
use pingora::services::ServiceWithDependents;
use pingora::services::listening::Service;

use super::{loopback, pages};
use crate::model::UnixTime;

/// A server's logic, without I/O.
pub(super) trait Handler: Send + Sync + 'static {
    /// Returns the response to a request whose body has been read.
    fn handle(&self, request: &Request<Bytes>, now: UnixTime) -> Response<Bytes>;
}

/// Returns a service on this port of 127.0.0.1.
pub(super) fn service(
    name: &str,
    port: u16,
    handler: Arc<impl Handler>,
) -> Box<dyn ServiceWithDependents> {
    let mut service = Service::new(name.to_owned(), Adapter(handler));
    service.add_tcp(&loopback(port).to_string());
    service.threads = Some(1);
    Box::new(service)
}

struct Adapter<H>(Arc<H>);

#[async_trait]
impl<H: Handler> ServeHttp for Adapter<H> {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        let response = match body(session).await {
            Ok(body) => {
                let request = Request::from_parts(session.req_header().as_owned_parts(), body);
                self.0.handle(&request, UnixTime::now())
            }
            Err(status) => {
                session.set_keepalive(None);
                pages::text(status, "the request body could not be read\n")
            }
        };
        let (mut parts, body) = response.into_parts();
        parts
            .headers
            .insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
        // RFC 9110 9.3.2: the response to HEAD has no body.
        let body = if session.req_header().method == Method::HEAD {
            Vec::new()
        } else {
            body.into()
        };
        Response::from_parts(parts, body)
    }
}

/// Reads the whole body, up to [`MAX_BODY`] bytes and [`BODY_TIME`].
async fn body(session: &mut ServerSession) -> Result<Bytes, StatusCode> {
    let read = async {
        let mut body = BytesMut::new();
        while let Some(part) = session
            .read_request_body()
            .await
            .map_err(|_| StatusCode::BAD_REQUEST)?
        {
            if body.len().saturating_add(part.len()) > MAX_BODY {
                return Err(StatusCode::PAYLOAD_TOO_LARGE);
            }
            body.extend_from_slice(&part);
        }
        Ok(body.freeze())
    };
    tokio::time::timeout(BODY_TIME, read)
        .await
        .unwrap_or(Err(StatusCode::REQUEST_TIMEOUT))
}

// Forms of the demo have less than a kilobyte.
const MAX_BODY: usize = 64 * 1024;

// A browser sends a form at once.
const BODY_TIME: Duration = Duration::from_secs(10);
