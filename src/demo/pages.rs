use std::sync::LazyLock;

use askama::Template;
use aws_lc_rs::digest;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::header::{self, HeaderName};
use http::{HeaderValue, Response, StatusCode};
use serde::Serialize;

/// The style of the product's pages, with additions for the demo's own.
pub(super) const STYLE: &str = concat!(
    include_str!("../pages/templates/style.css"),
    include_str!("templates/demo.css")
);

/// Returns a page. Its policy forbids scripts and external resources.
pub(super) fn html(status: StatusCode, template: &impl Template) -> Response<Bytes> {
    // Writing to a string cannot fail.
    let body = template.render().unwrap_or_default();
    let mut response = with_type(status, "text/html; charset=utf-8", body.into());
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        CONTENT_SECURITY_POLICY.clone(),
    );
    headers.insert(
        header::REFERRER_POLICY,
        HeaderValue::from_static("no-referrer"),
    );
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    response
}

pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Response<Bytes> {
    // Serialisation cannot fail: all keys are strings.
    with_type(
        status,
        "application/json",
        serde_json::to_vec_pretty(value).unwrap_or_default().into(),
    )
}

pub(super) fn text(status: StatusCode, text: &'static str) -> Response<Bytes> {
    with_type(
        status,
        "text/plain; charset=utf-8",
        Bytes::from_static(text.as_bytes()),
    )
}

/// Returns a redirect; 500 if the URL does not fit into a header.
pub(super) fn redirect(to: &str) -> Response<Bytes> {
    let Ok(location) = HeaderValue::try_from(to) else {
        return text(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the redirect URL is malformed\n",
        );
    };
    with_header(text(StatusCode::FOUND, ""), header::LOCATION, location)
}

pub(super) fn method_not_allowed(allow: &'static str) -> Response<Bytes> {
    let response = text(StatusCode::METHOD_NOT_ALLOWED, "method not allowed\n");
    with_header(response, header::ALLOW, HeaderValue::from_static(allow))
}

pub(super) fn with_header(
    mut response: Response<Bytes>,
    name: HeaderName,
    value: HeaderValue,
) -> Response<Bytes> {
    response.headers_mut().insert(name, value);
    response
}

fn with_type(status: StatusCode, content_type: &'static str, body: Bytes) -> Response<Bytes> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    response
}

static CONTENT_SECURITY_POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let hash = STANDARD.encode(digest::digest(&digest::SHA256, STYLE.as_bytes()));
    let rest = "img-src data:; form-action 'none'; frame-ancestors 'none'; base-uri 'none'";
    HeaderValue::try_from(format!(
        "default-src 'none'; style-src 'sha256-{hash}'; {rest}"
    ))
    .unwrap_or(HeaderValue::from_static("default-src 'none'"))
});
