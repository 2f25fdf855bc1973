use std::sync::Arc;

use http::{HeaderMap, HeaderName, Method, header};

use super::Application;
use super::credential_headers::{self, CLIENT_ID, CLIENT_SECRET};
use crate::model::{Reason, RequestView};
use crate::policy::{PolicyDecision, ShadowVerdict};

/// The request may be tried again after a login.
#[derive(Clone, Debug)]
pub struct Challenge {
    /// The application of the request.
    pub application: Arc<Application>,
    /// The reason why the request has no valid session.
    pub reason: Reason,
    /// The form of response that this client can read.
    pub style: Style,
    /// The shadow policy that would have admitted the request.
    pub shadow: Option<ShadowVerdict>,
}

impl Challenge {
    /// Returns the name of the shadow policy that would have decided, and its decision.
    pub fn shadow(&self) -> Option<(&str, PolicyDecision)> {
        self.application.shadow(self.shadow?)
    }
}

/// The form of the response that asks a client to log in. A client that cannot follow a redirect
/// would get a broken page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// 302 to the login: navigations, cloudflared, and clients that show no preference.
    Redirect,
    /// 401 with a page: the body of a form would be lost on the way.
    Page,
    /// 401 with a small JSON body: scripts, service clients, and clients that accept JSON or event
    /// streams but no page.
    Json,
    /// `grpc-status: 16` in trailers-only form.
    Grpc,
    /// 401, empty body: WebSocket clients do not follow redirects.
    Upgrade,
}

impl Style {
    /// Classifies a request by method, content type, credentials, Fetch Metadata,
    /// `X-Requested-With` and `Accept`.
    pub fn for_request(request: &RequestView<'_>) -> Self {
        Self::for_parts(request.method, request.headers)
    }

    /// Same for a request that could not be read as a whole.
    pub fn for_parts(method: &Method, headers: &HeaderMap) -> Self {
        let safe = matches!(*method, Method::GET | Method::HEAD);
        let is_grpc = || {
            text(headers, "content-type").is_some_and(|value| value.starts_with("application/grpc"))
        };
        // gRPC uses POST only, and its responses have status 200. No other method may get that
        // status, least of all `CONNECT`.
        if *method == Method::POST && is_grpc() {
            return Self::Grpc;
        }
        // A client that sends a service token is a service client, even if it imitates a browser.
        if headers.contains_key(&CLIENT_ID) || headers.contains_key(&CLIENT_SECRET) {
            return Self::Json;
        }
        if headers.contains_key(header::UPGRADE) || *method == Method::CONNECT {
            return Self::Upgrade;
        }
        match (text(headers, "sec-fetch-mode"), safe) {
            // Android's WebView sends `X-Requested-With` with navigations too, so Fetch Metadata
            // has precedence.
            (Some("navigate"), true) => Self::Redirect,
            // A redirect would repeat a form as GET and lose its body.
            (Some("navigate"), false) => Self::Page,
            (Some(_), _) => Self::Json,
            // cloudflared fetches a new token on 302, and takes a 401 for a valid one.
            (None, true) if headers.contains_key(&credential_headers::TOKEN) => Self::Redirect,
            (None, _) if headers.contains_key(&REQUESTED_WITH) => Self::Json,
            (None, true) if Accepts::preferred(headers) == Accepts::Data => Self::Json,
            (None, true) => Self::Redirect,
            (None, false) if Accepts::preferred(headers) == Accepts::Page => Self::Page,
            (None, false) => Self::Json,
        }
    }
}

const REQUESTED_WITH: HeaderName = HeaderName::from_static("x-requested-with");

/// The kind of response that `Accept` prefers (RFC 9110 12.5.1).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Accepts {
    /// HTML, whatever else.
    Page,
    /// JSON or an event stream, but no HTML.
    Data,
    /// Neither by name: `*/*`, images, or no header.
    Anything,
}

impl Accepts {
    fn preferred(headers: &HeaderMap) -> Self {
        let lines = headers
            .get_all(header::ACCEPT)
            .into_iter()
            .filter_map(|line| line.to_str().ok());
        let mut accepts = Self::Anything;
        for range in lines.flat_map(|line| line.split(',')) {
            let mut parts = range.split(';').map(str::trim);
            let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
            // A type that the client rejects must not be taken for a preference.
            if parts.any(is_weight_of_zero) {
                continue;
            }
            match kind.as_str() {
                "text/html" | "application/xhtml+xml" => return Self::Page,
                "application/json" | "text/event-stream" => accepts = Self::Data,
                other if other.ends_with("+json") => accepts = Self::Data,
                _ => {}
            }
        }
        accepts
    }
}

/// Returns `true` for `q=0`, which means "not acceptable" (RFC 9110 12.4.2).
fn is_weight_of_zero(parameter: &str) -> bool {
    let weight = parameter
        .split_once('=')
        .filter(|(name, _)| name.eq_ignore_ascii_case("q"));
    weight.is_some_and(|(_, value)| value.parse() == Ok(0.0_f32))
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// Returns `true` for a CORS preflight: an `OPTIONS` with both headers of the Fetch standard.
pub(super) fn is_preflight(request: &RequestView<'_>) -> bool {
    *request.method == Method::OPTIONS
        && request.headers.contains_key(header::ORIGIN)
        && request
            .headers
            .contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}
