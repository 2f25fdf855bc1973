use std::sync::Arc;

use http::{HeaderMap, Method, header};

use super::Application;
use super::credential::TOKEN_HEADER;
use super::programs::{CLIENT_ID, CLIENT_SECRET};
use crate::model::{Reason, RequestView};
use crate::policy::Outcome;

/// The request may be tried again after a login.
#[derive(Clone, Debug)]
pub struct Challenge {
    /// For which application.
    pub application: Arc<Application>,
    /// What was wrong with what was presented.
    pub reason: Reason,
    /// In which way this client can be told.
    pub style: Style,
    /// The shadow policy that would have let the request in, and how.
    pub shadow: Option<(usize, Outcome)>,
}

impl Challenge {
    /// The name of the shadow policy that would have decided, and how.
    pub fn shadow(&self) -> Option<(&str, Outcome)> {
        let (place, outcome) = self.shadow?;
        self.application.policy(place).map(|(name, _)| (name, outcome))
    }
}

/// The way in which a client can be told to log in. A redirect that cannot be followed is a broken page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// 302 to the login: navigations, and clients that accept anything.
    Redirect,
    /// 401 with a page: the body of a form would be lost on the way.
    Page,
    /// 401 with a small JSON body: scripts and programs.
    Json,
    /// `grpc-status: 16` in trailers-only form.
    Grpc,
    /// 401 with nothing: a handshake cannot follow anything.
    Upgrade,
}

impl Style {
    /// Classifies a request by Fetch Metadata, `X-Requested-With`, `Accept`, content type, upgrade and method.
    pub fn of(request: &RequestView<'_>) -> Self {
        Self::asked(request.method, request.headers)
    }

    /// The same for a request that could not be read as a whole.
    pub fn asked(method: &Method, headers: &HeaderMap) -> Self {
        let is = |name: &str, value: &str| text(headers, name).is_some_and(|v| v.eq_ignore_ascii_case(value));
        let starts = |name: &str, value: &str| text(headers, name).is_some_and(|v| v.starts_with(value));
        let safe = matches!(*method, Method::GET | Method::HEAD);
        // gRPC is POST alone, and its answers are 200: that must never be said to another method, least of all to `CONNECT`.
        if *method == Method::POST && starts("content-type", "application/grpc") {
            return Self::Grpc;
        }
        // Whoever shows a service token is a program, whatever it asks for.
        if headers.contains_key(&CLIENT_ID) || headers.contains_key(&CLIENT_SECRET) {
            return Self::Json;
        }
        if headers.contains_key(header::UPGRADE) || *method == Method::CONNECT {
            return Self::Upgrade;
        }
        let mode = text(headers, "sec-fetch-mode");
        // Web views of Android name their application there, in navigations too.
        if is("x-requested-with", "XMLHttpRequest")
            || headers.contains_key("x-requested-with") && mode != Some("navigate")
        {
            return Self::Json;
        }
        match (mode, safe) {
            (Some("navigate"), true) => Self::Redirect,
            // cloudflared logs in again on a redirect alone.
            (None, true) if headers.contains_key(&TOKEN_HEADER) => Self::Redirect,
            (None, true) if wants_data(headers) => Self::Json,
            (None, true) => Self::Redirect,
            (Some("navigate"), false) => Self::Page,
            (None, false) if text(headers, "accept").is_some_and(|a| a.contains("text/html")) => Self::Page,
            _ => Self::Json,
        }
    }
}

/// Returns `true` if a client accepts JSON or an event stream, and no page.
fn wants_data(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(header::ACCEPT).into_iter().filter_map(|line| line.to_str().ok());
    let (mut data, mut page) = (false, false);
    for range in lines.flat_map(|line| line.split(',')) {
        let range = range.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        data |= matches!(&*range, "application/json" | "text/event-stream") || range.ends_with("+json");
        page |= matches!(&*range, "text/html" | "application/xhtml+xml");
    }
    data && !page
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// A CORS preflight is an `OPTIONS` that says so (Fetch standard); anything else is a request like others.
pub(super) fn is_preflight(request: &RequestView<'_>) -> bool {
    *request.method == Method::OPTIONS
        && request.headers.contains_key(header::ORIGIN)
        && request.headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}
