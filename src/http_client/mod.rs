//! The only client for outgoing HTTP calls, such as those to identity providers and remote team
//! domains.
//!
//! Decides how long a call may take and how large its response may be. Trusts the configured
//! certificates, and no response. Never follows a redirect, never sends a request twice, and never
//! reads a proxy from the environment itself. A configured proxy is used for `https://` calls only,
//! and sees only host and port. Names under `localhost` are the loopback interface, whatever the
//! resolver answers (RFC 6761 6.3).
//!
//! The connection pool belongs to the tokio runtime of the first call, so each runtime needs its
//! own client.

mod error;
mod proxy;
mod resolve;
mod tls;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, StatusCode, header};
use openidconnect::{AsyncHttpClient, HttpRequest, HttpResponse};
use url::Url;

pub use error::{HttpError, Step};
pub use proxy::{Direct, Proxy, ProxyError};
pub use resolve::addresses;
pub use tls::{Roots, RootsError};

/// The time limits of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// The limit for establishing a connection, TLS included.
    pub connect: Duration,
    /// The limit until the last byte of the response.
    pub total: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            total: Duration::from_secs(10),
        }
    }
}

/// The client. Clones share one small pool of connections.
#[derive(Clone, Debug)]
pub struct HttpClient {
    inner: reqwest::Client,
    proxy: Option<Arc<Proxy>>,
}

/// A complete response.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status. 3xx and 5xx are responses too.
    pub status: StatusCode,
    /// All headers.
    pub headers: HeaderMap,
    /// The body, no longer than the limit.
    pub body: Bytes,
}

impl Response {
    /// Returns `true` if `Content-Type` states this media type; parameters are ignored.
    pub fn is_type(&self, essence: &str) -> bool {
        let value = self
            .headers
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        value
            .split(';')
            .next()
            .is_some_and(|found| found.trim().eq_ignore_ascii_case(essence))
    }
}

impl HttpClient {
    /// Creates a client that trusts these roots.
    ///
    /// # Errors
    /// If the file with additional roots cannot be read or contains no certificate.
    pub fn new(roots: &Roots, timeouts: Timeouts) -> Result<Self, RootsError> {
        Self::with_proxy(roots, timeouts, None)
    }

    /// Creates a client with a proxy for `https://` calls.
    ///
    /// # Errors
    /// As for [`HttpClient::new`]; also if the proxy's credentials are not a valid header value.
    pub fn with_proxy(
        roots: &Roots,
        timeouts: Timeouts,
        proxy: Option<Proxy>,
    ) -> Result<Self, RootsError> {
        // Without this, reqwest would read a proxy from the environment.
        let mut builder = reqwest::Client::builder().no_proxy();
        if let Some(proxy) = &proxy {
            builder = builder.proxy(proxy.clone().into_reqwest()?);
        }
        let inner = builder
            .tls_backend_preconfigured(tls::config(roots)?)
            .dns_resolver(resolve::Resolver)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            // Every provider supports HTTP/1.1, and HTTP/2 would save nothing at the rate of
            // logins.
            .http1_only()
            .connect_timeout(timeouts.connect)
            .timeout(timeouts.total)
            .pool_max_idle_per_host(2)
            .pool_idle_timeout(Duration::from_secs(30))
            .user_agent(concat!("portcullis/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|e| RootsError::Client(e.without_url()))?;
        Ok(Self {
            inner,
            proxy: proxy.map(Arc::new),
        })
    }

    /// Returns the proxy that calls of this URL use.
    pub fn proxy_for(&self, url: &Url) -> Option<&Proxy> {
        self.proxy.as_deref().filter(|proxy| proxy.serves(url))
    }

    /// Sends a GET request. A response longer than `limit` bytes is an error.
    ///
    /// # Errors
    /// See [`HttpError`]. A status is never an error.
    pub async fn get(
        &self,
        url: &Url,
        headers: HeaderMap,
        limit: usize,
    ) -> Result<Response, HttpError> {
        self.send(Method::GET, url, headers, Bytes::new(), limit)
            .await
    }

    /// Sends a POST request. `headers` must contain the type of `body`.
    ///
    /// # Errors
    /// See [`HttpError`]. A status is never an error.
    pub async fn post(
        &self,
        url: &Url,
        headers: HeaderMap,
        body: Bytes,
        limit: usize,
    ) -> Result<Response, HttpError> {
        self.send(Method::POST, url, headers, body, limit).await
    }

    async fn send(
        &self,
        method: Method,
        url: &Url,
        headers: HeaderMap,
        body: Bytes,
        limit: usize,
    ) -> Result<Response, HttpError> {
        let host = url.host_str().unwrap_or_default();
        if !matches!(url.scheme(), "http" | "https") || host.is_empty() {
            return Err(HttpError::Url { host: host.into() });
        }
        let mut request = reqwest::Request::new(method, url.clone());
        *request.headers_mut() = headers;
        if request.method() != Method::GET {
            *request.body_mut() = Some(body.into());
        }
        let proxy = self.proxy_for(url);
        let response = self
            .inner
            .execute(request)
            .await
            .map_err(|e| HttpError::classify(host, Step::Answer, proxy, e))?;
        let (status, headers) = (response.status(), response.headers().clone());
        let body = read(response, host, limit).await?;
        Ok(Response {
            status,
            headers,
            body,
        })
    }
}

async fn read(
    mut response: reqwest::Response,
    host: &str,
    limit: usize,
) -> Result<Bytes, HttpError> {
    let too_large = || HttpError::TooLarge {
        host: host.into(),
        limit,
    };
    let announced = response.content_length().unwrap_or(0);
    if usize::try_from(announced).map_or(true, |length| length > limit) {
        return Err(too_large());
    }
    let mut body = BytesMut::new();
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(|e| HttpError::classify(host, Step::Body, None, e))?
    {
        if body.len().saturating_add(chunk.len()) > limit {
            return Err(too_large());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

/// Sends the requests of `openidconnect`.
impl<'c> AsyncHttpClient<'c> for HttpClient {
    type Error = HttpError;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'c>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let url = Url::parse(&parts.uri.to_string()).map_err(|_| HttpError::Url {
                host: parts.uri.host().unwrap_or_default().into(),
            })?;
            let answer = self
                .send(parts.method, &url, parts.headers, body.into(), MAX_BODY)
                .await?;
            let mut response = HttpResponse::new(answer.body.to_vec());
            *response.status_mut() = answer.status;
            *response.headers_mut() = answer.headers;
            Ok(response)
        })
    }
}

/// The default size limit of a response, in bytes. A token response with any realistic number of
/// groups fits.
pub const MAX_BODY: usize = 1024 * 1024;

/// The size limit of a JWKS or a discovery document, in bytes.
pub const MAX_DOCUMENT: usize = MAX_BODY;

#[cfg(test)]
mod tests;
