//! A listener that only redirects plain HTTP to HTTPS.
//!
//! Decides the target: the requested host, if it belongs to the team, with its port. Trusts nothing
//! else in the request. Never sets a cookie, and serves no files except responses to ACME
//! challenges.

use std::io::Read as _;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Response, StatusCode, Uri, header};
use pingora::apps::http_app::ServeHttp;
use pingora::http::RequestHeader;
use pingora::protocols::http::ServerSession;

use crate::control::Access;
use crate::engine::Snapshot;
use crate::model::HostPort;

/// The application of a listener with `redirect_to_https`.
pub(in crate::app) struct Redirect {
    access: Arc<Access>,
    challenges: Option<PathBuf>,
}

impl Redirect {
    pub(in crate::app) const fn new(access: Arc<Access>, challenges: Option<PathBuf>) -> Self {
        Self { access, challenges }
    }

    /// Returns the response to an HTTP-01 challenge (RFC 8555 8.3), from the file named after its
    /// token.
    async fn challenge(&self, token: &str) -> Option<Vec<u8>> {
        // A token is base64url (RFC 8555 8.1), so it cannot lead to another directory.
        let is_token = !token.is_empty()
            && token
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
        let file = self.challenges.as_ref().filter(|_| is_token)?.join(token);
        let read = tokio::task::spawn_blocking(move || {
            if !std::fs::metadata(&file)?.is_file() {
                return Err(std::io::ErrorKind::InvalidInput.into());
            }
            let mut content = Vec::new();
            std::fs::File::open(&file)?
                .take(LONGEST_CHALLENGE)
                .read_to_end(&mut content)?;
            Ok::<_, std::io::Error>(content)
        });
        read.await.ok()?.ok()
    }
}

#[async_trait]
impl ServeHttp for Redirect {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        let request = session.req_header();
        if let Some(token) = request.uri.path().strip_prefix(CHALLENGES)
            && matches!(request.method, Method::GET | Method::HEAD)
            && let Some(content) = self.challenge(token).await
        {
            let method = &session.req_header().method;
            return respond(StatusCode::OK, "application/octet-stream", content, method);
        }
        let request = session.req_header();
        let method = &request.method;
        match location(&self.access.snapshot(), request) {
            Ok(location) => {
                let mut response =
                    respond(StatusCode::PERMANENT_REDIRECT, TEXT, Vec::new(), method);
                response.headers_mut().insert(header::LOCATION, location);
                response
            }
            Err(status) => {
                let text = format!("{}\n", status.canonical_reason().unwrap_or("Error"));
                respond(status, TEXT, text.into_bytes(), method)
            }
        }
    }
}

/// Returns the same URL with HTTPS, byte for byte; 404 for a host that is not the team's.
fn location(snapshot: &Snapshot, request: &RequestHeader) -> Result<HeaderValue, StatusCode> {
    // In absolute form the target begins with another scheme, and its host counts (RFC 9112 3.2.2).
    let absolute = match request.raw_path().starts_with(b"/") {
        true => None,
        false => Some(Uri::try_from(request.raw_path()).map_err(|_| StatusCode::BAD_REQUEST)?),
    };
    let target_host = absolute.as_ref().unwrap_or(&request.uri).authority();
    let mut named = request.headers.get_all(header::HOST).into_iter();
    let host = match (target_host, named.next(), named.next()) {
        (_, _, Some(_)) | (None, None, _) => return Err(StatusCode::BAD_REQUEST),
        (Some(authority), _, None) => authority.as_str(),
        (None, Some(host), None) => host.to_str().map_err(|_| StatusCode::BAD_REQUEST)?,
    };
    let host = HostPort::parse(host)
        .map_err(|_| StatusCode::BAD_REQUEST)?
        .host;
    let team = snapshot.team();
    // An open redirect would lend the team's address to any site.
    if host != team.domain.as_str() && !snapshot.router().knows_host(&host) {
        return Err(StatusCode::NOT_FOUND);
    }
    let target = match &absolute {
        Some(uri) => uri
            .path_and_query()
            .map_or("/", PathAndQuery::as_str)
            .as_bytes(),
        None => request.raw_path(),
    };
    if !target.starts_with(b"/") || target.contains(&b'#') {
        return Err(StatusCode::BAD_REQUEST);
    }
    let location = [team.url_of(&host).as_bytes(), target].concat();
    HeaderValue::from_bytes(&location).map_err(|_| StatusCode::BAD_REQUEST)
}

/// Returns a response; to HEAD one without its body.
fn respond(
    status: StatusCode,
    kind: &'static str,
    body: Vec<u8>,
    method: &Method,
) -> Response<Vec<u8>> {
    let length = body.len();
    let mut response = Response::new(if *method == Method::HEAD {
        Vec::new()
    } else {
        body
    });
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
        .headers_mut()
        .insert(header::CONTENT_LENGTH, length.into());
    response
}

const CHALLENGES: &str = "/.well-known/acme-challenge/";
const TEXT: &str = "text/plain; charset=utf-8";
/// A key authorization is a token and the hash of a key, which is much shorter.
const LONGEST_CHALLENGE: u64 = 16 * 1024;
