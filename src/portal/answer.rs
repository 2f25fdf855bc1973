use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};

use super::pages::{self, Page};

/// An HTML page with its headers.
pub(crate) fn page(page: Page) -> Response<Bytes> {
    let mut response = Response::new(page.body);
    *response.status_mut() = page.status;
    response.headers_mut().extend(pages::security_headers());
    response
}

/// A redirect that nobody keeps.
pub(crate) fn redirect(status: StatusCode, to: &str) -> Response<Bytes> {
    let mut response = empty(status);
    match HeaderValue::try_from(to) {
        Ok(to) => {
            response.headers_mut().insert(header::LOCATION, to);
        }
        Err(_) => *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR,
    }
    response
}

/// A JSON document that nobody keeps.
pub(crate) fn json(status: StatusCode, body: &serde_json::Value) -> Response<Bytes> {
    let mut response = empty(status);
    *response.body_mut() = Bytes::from(body.to_string());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A bare status.
pub(crate) fn empty(status: StatusCode) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    for (name, value) in pages::security_headers() {
        if matches!(
            name,
            header::CACHE_CONTROL | header::EXPIRES | header::REFERRER_POLICY | header::X_CONTENT_TYPE_OPTIONS
        ) {
            headers.insert(name, value);
        }
    }
    response
}
