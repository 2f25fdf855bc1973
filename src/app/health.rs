use std::sync::Arc;

use async_trait::async_trait;
use http::{Response, StatusCode};
use pingora::apps::http_app::ServeHttp;
use pingora::protocols::http::ServerSession;

use super::shutdown::Lifecycle;
use crate::control::Access;
use crate::observe::metrics;

/// The application of the metrics listener: `/metrics`, `/healthz` and `/readyz`.
pub(super) struct Health {
    pub(super) access: Arc<Access>,
    pub(super) lifecycle: Arc<Lifecycle>,
}

#[async_trait]
impl ServeHttp for Health {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        let (status, kind, body) = match session.req_header().uri.path() {
            "/metrics" => (StatusCode::OK, metrics::CONTENT_TYPE, metrics::text()),
            "/healthz" => (StatusCode::OK, TEXT, "ok\n".to_owned()),
            "/readyz" if self.lifecycle.is_lame_duck() => (
                StatusCode::SERVICE_UNAVAILABLE,
                TEXT,
                "shutting down\n".to_owned(),
            ),
            "/readyz" => match self.access.missing_fact() {
                None => (
                    StatusCode::OK,
                    TEXT,
                    ready(self.access.store_write_failure().as_deref()),
                ),
                Some(missing) => (
                    StatusCode::SERVICE_UNAVAILABLE,
                    TEXT,
                    format!("{missing}\n"),
                ),
            },
            _ => (StatusCode::NOT_FOUND, TEXT, "not found\n".to_owned()),
        };
        let mut response = Response::new(body.into_bytes());
        *response.status_mut() = status;
        let length = response.body().len();
        response.headers_mut().insert(
            http::header::CONTENT_TYPE,
            http::HeaderValue::from_static(kind),
        );
        response
            .headers_mut()
            .insert(http::header::CONTENT_LENGTH, length.into());
        response
    }
}

/// Returns the body of a successful `/readyz`. A failing store is only mentioned: sessions continue
/// without writes, so load balancers must not drain this node.
fn ready(write_failure: Option<&str>) -> String {
    let failure = write_failure
        .map(|cause| format!("writes to the store fail: {}\n", cause.replace('\n', " ")));
    format!("ready\n{}", failure.unwrap_or_default())
}

const TEXT: &str = "text/plain; charset=utf-8";
