use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::sync::Arc;

use thiserror::Error;

use super::Proxy;

/// The reason why a call failed. It names the host, but never the rest of the URL, which may
/// contain codes and tokens.
#[derive(Clone, Debug, Error)]
pub enum HttpError {
    /// Not an `http` or `https` URL, or one that cannot be sent.
    #[error("cannot call `{host}`: the URL or a header is malformed")]
    Url {
        /// The host of the URL; empty if it has none.
        host: Box<str>,
    },
    /// The name has no address.
    #[error("`{host}` has no address")]
    Resolve {
        /// The host name that was looked up.
        host: Box<str>,
        /// The resolver's error.
        #[source]
        source: Arc<reqwest::Error>,
    },
    /// There is no connection.
    #[error("could not connect to `{host}`")]
    Connect {
        /// The host of the URL, without its port.
        host: Box<str>,
        /// The operating system's error.
        #[source]
        source: Arc<reqwest::Error>,
    },
    /// The proxy does not lead to the host.
    #[error("could not reach `{host}` through the proxy `{proxy}`")]
    Proxy {
        /// The host of the URL.
        host: Box<str>,
        /// The proxy, without credentials.
        proxy: Box<str>,
        /// The error of the proxy or of the operating system.
        #[source]
        source: Arc<reqwest::Error>,
    },
    /// TLS failed, usually because no trusted root signed the certificate.
    #[error("could not connect to `{host}` over TLS{}: {reason}", through(.proxy.as_deref()))]
    Tls {
        /// The host of the URL.
        host: Box<str>,
        /// The proxy, without credentials. If the proxy itself is reached over TLS, the reason may
        /// be about it.
        proxy: Option<Box<str>>,
        /// The TLS error.
        reason: Box<str>,
        /// The error with its causes, without the URL.
        #[source]
        source: Arc<reqwest::Error>,
    },
    /// A time limit was exceeded.
    #[error("`{host}` took too long to {step}{}", through(.proxy.as_deref()))]
    Timeout {
        /// The host of the URL.
        host: Box<str>,
        /// The proxy, without credentials.
        proxy: Option<Box<str>>,
        /// The step in progress.
        step: Step,
    },
    /// The response exceeds the size limit.
    #[error("`{host}` sent more than {limit} bytes")]
    TooLarge {
        /// The host of the URL.
        host: Box<str>,
        /// The limit, in bytes.
        limit: usize,
    },
    /// The response is not HTTP, or is incomplete.
    #[error("`{host}` failed to {step}")]
    Protocol {
        /// The host of the URL.
        host: Box<str>,
        /// The step in progress.
        step: Step,
        /// The protocol error.
        #[source]
        source: Arc<reqwest::Error>,
    },
}

/// The steps of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Establishing the connection.
    Connect,
    /// Waiting for the response headers.
    Answer,
    /// Reading the response body.
    Body,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "accept a connection",
            Self::Answer => "answer",
            Self::Body => "send its whole response",
        })
    }
}

impl HttpError {
    /// Returns a remedy for the operator, if there is one.
    pub const fn advice(&self) -> Option<&'static str> {
        Some(match self {
            Self::Url { .. } | Self::TooLarge { .. } => return None,
            Self::Resolve { .. } => {
                "check the spelling of the host, and this machine's resolver (`getent hosts <host>`)"
            }
            Self::Connect { .. }
            | Self::Timeout {
                step: Step::Connect,
                proxy: None,
                ..
            } => {
                "check the port, firewalls and routes to this host; if a proxy leads there, name it in `HTTPS_PROXY` \
                 or as `https_proxy` under `[outgoing]`"
            }
            Self::Proxy { .. }
            | Self::Timeout {
                step: Step::Connect,
                proxy: Some(_),
                ..
            } => {
                "check that the proxy listens at that address and lets this machine `CONNECT` to the host and its \
                 port; set its credentials in `https_proxy_credentials` or in `HTTPS_PROXY`. Hosts that need no \
                 proxy belong in `no_proxy`"
            }
            Self::Tls { proxy: Some(_), .. } => {
                "the certificate is that of the host, of a proxy that intercepts the connection, or of the proxy \
                 itself if its URL starts with `https://`: name its certificate authority as `ca` under \
                 `[outgoing]`, or use a certificate for that name"
            }
            Self::Tls { proxy: None, .. } => {
                "if a private certificate authority issued its certificate, name that authority as `ca` under \
                 `[outgoing]`, or install it on this machine (or name a file with all trusted roots in \
                 `SSL_CERT_FILE`); otherwise, the certificate is for another name or has expired, \
                 or a middlebox intercepts the connection"
            }
            Self::Timeout { .. } | Self::Protocol { .. } => {
                "a device or proxy in between may be holding back the response: try the same URL \
                 from this machine with `curl`"
            }
        })
    }

    /// Describes the failure with its root cause. The causes in between add nothing.
    pub fn with_cause(&self) -> String {
        let (mut text, mut last) = (self.to_string(), self as &(dyn StdError + 'static));
        for _ in 0..MAX_CHAIN {
            let Some(next) = last.source() else { break };
            last = next;
        }
        let cause = last.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
        text
    }

    /// Classifies an error. Keeps its chain of causes, but removes the URL that the client adds.
    pub(super) fn classify(
        host: &str,
        step: Step,
        proxy: Option<&Proxy>,
        error: reqwest::Error,
    ) -> Self {
        let (host, source) = (Box::from(host), Arc::new(error.without_url()));
        let proxy = proxy.map(|proxy| Box::from(proxy.to_string()));
        if source.is_timeout() {
            let step = if source.is_connect() {
                Step::Connect
            } else {
                step
            };
            return Self::Timeout { host, proxy, step };
        }
        if source.is_builder() {
            return Self::Url { host };
        }
        if let Some(reason) = tls_reason(&source) {
            return Self::Tls {
                host,
                proxy,
                reason,
                source,
            };
        }
        if let Some(proxy) = proxy.filter(|_| source.is_dns() || source.is_connect()) {
            return Self::Proxy {
                host,
                proxy,
                source,
            };
        }
        if source.is_dns() {
            return Self::Resolve { host, source };
        }
        if source.is_connect() {
            return Self::Connect { host, source };
        }
        Self::Protocol { host, step, source }
    }
}

fn through(proxy: Option<&str>) -> String {
    proxy
        .map(|proxy| format!(" through the proxy `{proxy}`"))
        .unwrap_or_default()
}

/// Finds the TLS error in the chain. `io::Error` does not return a wrapped error as its source, so
/// it is unwrapped here.
fn tls_reason(error: &reqwest::Error) -> Option<Box<str>> {
    let mut next = Some(error as &(dyn StdError + 'static));
    for _ in 0..MAX_CHAIN {
        let error = next?;
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            return Some(tls.to_string().into());
        }
        next = match error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
        {
            Some(wrapped) => Some(wrapped as &(dyn StdError + 'static)),
            None => error.source(),
        };
    }
    None
}

// Error chains have three to five links. The bound ends a chain that refers to itself.
const MAX_CHAIN: usize = 16;
