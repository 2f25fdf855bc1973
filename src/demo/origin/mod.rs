//! The application behind the demo's proxy: a page that shows the request.
//!
//! Decides nothing. Trusts the assertion without verifying its signature, and the page warns that a
//! real application must verify it. Never shows a byte of the request unescaped.

use askama::Template;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, header};
use serde_json::{Value, json};

use super::Ports;
use super::pages::{self, STYLE};
use super::serve::Handler;
use super::users::APPLICATIONS;
use crate::model::UnixTime;

/// One origin for all of the demo's applications.
#[derive(Debug)]
pub(super) struct DemoOrigin {
    ports: Ports,
}

#[derive(Template)]
#[template(path = "origin.html", config = "src/demo/askama.toml")]
struct Received<'a> {
    applications: Vec<Link>,
    application: &'a str,
    email: Option<String>,
    assertion: Option<Pretty>,
    /// The URL of the team domain, which is `iss`.
    team: String,
    method: &'a str,
    target: &'a str,
    headers: Vec<Field>,
    body_bytes: usize,
}

struct Link {
    name: &'static str,
    href: String,
    current: bool,
}

/// A decoded assertion, formatted.
struct Pretty {
    header: String,
    claims: String,
}

/// A header field. A long value is collapsed to its start.
struct Field {
    name: String,
    value: String,
    start: Option<String>,
}

impl DemoOrigin {
    pub(super) const fn new(ports: Ports) -> Self {
        Self { ports }
    }

    fn page(&self, request: &Request<Bytes>) -> Response<Bytes> {
        let application = application(request);
        let links = APPLICATIONS.iter().map(|each| Link {
            name: each.name,
            href: self.ports.application(each.label),
            current: each.name == application,
        });
        let assertion = assertion(request.headers()).map(|(header, claims)| Pretty {
            header: format!("{header:#}"),
            claims: format!("{claims:#}"),
        });
        let page = Received {
            applications: links.collect(),
            application,
            email: email(request.headers()),
            assertion,
            team: self.ports.team(),
            method: request.method().as_str(),
            target: target(request),
            headers: fields(request.headers())
                .map(|(name, value)| Field::new(name, value))
                .collect(),
            body_bytes: request.body().len(),
        };
        pages::html(StatusCode::OK, &page)
    }
}

impl Handler for DemoOrigin {
    fn handle(&self, request: &Request<Bytes>, _: UnixTime) -> Response<Bytes> {
        match request.uri().path() {
            "/healthz" => pages::text(StatusCode::OK, "ok\n"),
            _ if wants_json(request.headers()) => pages::json(StatusCode::OK, &describe(request)),
            _ => self.page(request),
        }
    }
}

impl Field {
    fn new(name: String, value: String) -> Self {
        let start = (value.chars().count() > LONG).then(|| value.chars().take(SHORT).collect());
        Self { name, value, start }
    }
}

fn describe(request: &Request<Bytes>) -> Value {
    let assertion = assertion(request.headers())
        .map(|(header, claims)| json!({"header": header, "claims": claims}));
    json!({
        "application": application(request),
        "email": email(request.headers()),
        "assertion": assertion,
        "method": request.method().as_str(),
        "target": target(request),
        "headers": fields(request.headers()).collect::<Vec<_>>(),
        "body_bytes": request.body().len(),
    })
}

/// Returns the name of the application at the request's host.
fn application(request: &Request<Bytes>) -> &'static str {
    let host = request
        .headers()
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
        .unwrap_or_default();
    let label = host.split('.').next().unwrap_or_default();
    APPLICATIONS
        .iter()
        .find(|each| each.label == label)
        .map_or("The demo's origin", |each| each.name)
}

fn email(headers: &HeaderMap) -> Option<String> {
    headers
        .get("cf-access-authenticated-user-email")
        .map(|value| shown(value.as_bytes()))
}

/// Returns header and claims of the assertion, if it is well-formed (RFC 7515 7.1).
fn assertion(headers: &HeaderMap) -> Option<(Value, Value)> {
    let token = headers.get("cf-access-jwt-assertion")?.to_str().ok()?;
    let mut parts = token
        .split('.')
        .map(|part| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok());
    Some((parts.next()??, parts.next()??))
}

fn target(request: &Request<Bytes>) -> &str {
    request
        .uri()
        .path_and_query()
        .map_or("*", http::uri::PathAndQuery::as_str)
}

fn fields(headers: &HeaderMap) -> impl Iterator<Item = (String, String)> {
    headers
        .iter()
        .map(|(name, value)| (name.to_string(), shown(value.as_bytes())))
}

/// Returns the bytes as text; invalid UTF-8 is replaced.
fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn wants_json(headers: &HeaderMap) -> bool {
    let accept = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok());
    accept.flat_map(|value| value.split(',')).any(|range| {
        range
            .split(';')
            .next()
            .is_some_and(|range| range.trim().eq_ignore_ascii_case("application/json"))
    })
}

/// Longer values are shortened to [`SHORT`] characters.
const LONG: usize = 80;
const SHORT: usize = 40;

#[cfg(test)]
mod tests;
