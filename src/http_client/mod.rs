//! The one outgoing HTTP client: what speaks to identity providers and to remote team domains goes
//! through here.
//!
//! Decides how long a call may take and how much it may answer. Trusts the certificates it is
//! given, and no answer. Never follows a redirect, never sends a request a second time, and takes
//! no proxy from the environment by itself: the one that it is given serves `https://` calls alone,
//! and sees nothing of them but host and port. Names under `localhost` are the loopback interface,
//! whatever the resolver says (RFC 6761 §6.3).
//!
//! The connection pool belongs to the tokio runtime of the first call, so a client is made once per
//! runtime.

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

/// How long calls may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Until there is a connection, TLS included.
    pub connect: Duration,
    /// Until the last byte of the answer.
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

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Response {
    /// Whatever the server said: 3xx and 5xx are answers too.
    pub status: StatusCode,
    /// All headers.
    pub headers: HeaderMap,
    /// The body, no longer than the limit.
    pub body: Bytes,
}

impl Response {
    /// Whether the body says that it is of this media type, parameters aside. One that does not say
    /// is not.
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
    /// A client that trusts these roots.
    ///
    /// # Errors
    /// Where the file with further roots cannot be read or holds no certificate.
    pub fn new(roots: &Roots, timeouts: Timeouts) -> Result<Self, RootsError> {
        Self::with_proxy(roots, timeouts, None)
    }

    /// The same, with a proxy for `https://` calls.
    ///
    /// # Errors
    /// As for [`HttpClient::new`]; and if no header can carry the credentials of the proxy.
    pub fn with_proxy(
        roots: &Roots,
        timeouts: Timeouts,
        proxy: Option<Proxy>,
    ) -> Result<Self, RootsError> {
        // First of all none, or reqwest would ask the environment.
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
            // One protocol, which every provider speaks; HTTP/2 would save nothing at the rate of
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

    /// The proxy that calls of this URL go through.
    pub fn proxy_for(&self, url: &Url) -> Option<&Proxy> {
        self.proxy.as_deref().filter(|proxy| proxy.serves(url))
    }

    /// A GET; an answer longer than `limit` bytes is an error.
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

    /// A POST of `body`, whose type `headers` name.
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
            .map_err(|e| HttpError::sort(host, Step::Answer, proxy, e))?;
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
        .map_err(|e| HttpError::sort(host, Step::Body, None, e))?
    {
        if body.len().saturating_add(chunk.len()) > limit {
            return Err(too_large());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

/// What `openidconnect` sends its requests with.
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

/// The limit for an answer where nothing else was said: a token response with any number of groups
/// fits.
pub const MAX_BODY: usize = 1024 * 1024;

/// The limit for a JWKS or a discovery document.
pub const MAX_DOCUMENT: usize = MAX_BODY;

#[cfg(test)]
mod tests;
