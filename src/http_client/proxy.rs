use std::fmt;
use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use ipnet::IpNet;
use thiserror::Error;
use url::{Host, Url};

use super::resolve::is_localhost;
use crate::model::Secret;

/// A proxy at the edge of the network. `https://` calls go through it with `CONNECT` (RFC 9110
/// 9.3.6), so that TLS ends at the called server.
///
/// Calls to loopback addresses, to `localhost` and names under it, and to `http://` URLs never use
/// the proxy. `Display` writes its URL without credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    url: Url,
    authorization: Option<Secret>,
    direct: Vec<Direct>,
}

/// Hosts that are called without the proxy: one entry of `NO_PROXY`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Direct {
    hosts: Hosts,
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Hosts {
    All,
    /// The domain and every name under it.
    Domain(Box<str>),
    Net(IpNet),
}

/// The reason why a proxy address is rejected. It never contains the address, which may hold a
/// password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ProxyError {
    /// Not a URL, or without a host.
    #[error("this is not the address of a proxy, such as `http://proxy.example.com:3128`")]
    Malformed,
    /// A scheme other than `http` and `https`.
    #[error("the URL of a proxy starts with `http://` or `https://`; SOCKS is not supported")]
    Scheme,
    /// A path, a query or a fragment.
    #[error("the address of a proxy ends after the port")]
    Path,
    /// Credentials that are not a valid header value.
    #[error("the credentials of a proxy must be `user:password`, without control characters")]
    Credentials,
}

impl Proxy {
    /// Parses an address in the form of `HTTPS_PROXY`: the scheme is optional (default `http`), and
    /// so is `user:password@`.
    ///
    /// # Errors
    /// See [`ProxyError`].
    pub fn parse(text: &str) -> Result<Self, ProxyError> {
        let text = text.trim();
        let with_scheme = if text.contains("://") {
            text.to_owned()
        } else {
            format!("http://{text}")
        };
        let mut url = Url::parse(&with_scheme).map_err(|_| ProxyError::Malformed)?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(ProxyError::Scheme);
        }
        if url.host_str().is_none_or(str::is_empty) {
            return Err(ProxyError::Malformed);
        }
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return Err(ProxyError::Path);
        }
        let decoded = |part: &str| percent_encoding::percent_decode_str(part).collect::<Vec<u8>>();
        let credentials = (!url.username().is_empty() || url.password().is_some()).then(|| {
            [
                &decoded(url.username()),
                b":".as_slice(),
                &decoded(url.password().unwrap_or_default()),
            ]
            .concat()
        });
        url.set_username("")
            // The URL is logged and shown, so it must not contain credentials.
            .and_then(|()| url.set_password(None))
            .map_err(|()| ProxyError::Malformed)?;
        let proxy = Self {
            url,
            authorization: None,
            direct: Vec::new(),
        };
        match credentials {
            Some(credentials) => proxy.with_authorization(&credentials),
            None => Ok(proxy),
        }
    }

    /// Sets the credentials, `user:password`.
    ///
    /// # Errors
    /// [`ProxyError::Credentials`]
    pub fn with_credentials(self, credentials: &Secret) -> Result<Self, ProxyError> {
        self.with_authorization(credentials.expose().as_bytes())
    }

    /// Sets the header for Basic authentication (RFC 7617 2).
    fn with_authorization(self, credentials: &[u8]) -> Result<Self, ProxyError> {
        if !credentials.contains(&b':') || credentials.iter().any(u8::is_ascii_control) {
            return Err(ProxyError::Credentials);
        }
        let authorization = Secret::new(format!("Basic {}", STANDARD.encode(credentials)));
        Ok(Self {
            authorization: Some(authorization),
            ..self
        })
    }

    /// Excludes these hosts: they are called directly.
    #[must_use]
    pub fn with_direct(self, direct: Vec<Direct>) -> Self {
        Self { direct, ..self }
    }

    /// Returns `true` if the proxy has credentials.
    pub const fn has_credentials(&self) -> bool {
        self.authorization.is_some()
    }

    /// Returns `true` if calls of this URL use the proxy.
    pub fn serves(&self, url: &Url) -> bool {
        if url.scheme() != "https" {
            return false;
        }
        // The proxy would reach its own machine under these names, and not this one.
        let local = match url.host() {
            None => true,
            Some(Host::Domain(domain)) => is_localhost(domain),
            Some(Host::Ipv4(ip)) => ip.is_loopback() || ip.is_unspecified(),
            Some(Host::Ipv6(ip)) => match IpAddr::V6(ip).to_canonical() {
                IpAddr::V4(ip) => ip.is_loopback() || ip.is_unspecified(),
                IpAddr::V6(ip) => ip.is_loopback() || ip.is_unspecified(),
            },
        };
        !local && !self.direct.iter().any(|direct| direct.covers(url))
    }

    pub(super) fn into_reqwest(self) -> Result<reqwest::Proxy, ProxyError> {
        let authorization = self.authorization.as_ref().map(|secret| {
            let mut header =
                HeaderValue::try_from(secret.expose()).map_err(|_| ProxyError::Credentials)?;
            header.set_sensitive(true);
            Ok(header)
        });
        let authorization = authorization.transpose()?;
        let url = self.url.clone();
        let proxy = reqwest::Proxy::custom(move |called| self.serves(called).then(|| url.clone()));
        Ok(match authorization {
            Some(header) => proxy.custom_http_auth(header),
            None => proxy,
        })
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.url.as_str().trim_end_matches('/'))
    }
}

impl Direct {
    /// Parses one entry: `*`, a domain, an IP address or a network in CIDR notation. A domain
    /// includes the names under it, with or without a leading dot or `*.`. All but a network may
    /// have a port.
    ///
    /// # Errors
    /// If it is none of these.
    pub fn parse(text: &str) -> Result<Self, String> {
        let malformed = || format!("`{text}` is not a host, a domain, an IP address or a network");
        let entry = text.trim();
        if entry == "*" {
            return Ok(Self {
                hosts: Hosts::All,
                port: None,
            });
        }
        if let Ok(net) = entry.parse::<IpNet>() {
            return Ok(Self {
                hosts: Hosts::Net(net),
                port: None,
            });
        }
        if let Ok(ip) = entry.parse::<IpAddr>() {
            return Ok(Self {
                hosts: Hosts::Net(ip.to_canonical().into()),
                port: None,
            });
        }
        let (host, port) = match entry.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (
                host,
                Some(
                    port.parse::<u16>()
                        .ok()
                        .filter(|port| *port != 0)
                        .ok_or_else(malformed)?,
                ),
            ),
            _ => (entry, None),
        };
        let host = host
            .strip_prefix("*.")
            .or_else(|| host.strip_prefix('.'))
            .unwrap_or(host);
        let host = host.strip_suffix('.').unwrap_or(host);
        let hosts = match Host::parse(host).map_err(|_| malformed())? {
            Host::Domain(domain) if domain.contains('*') => return Err(malformed()),
            Host::Domain(domain) => Hosts::Domain(domain.into()),
            Host::Ipv4(ip) => Hosts::Net(IpAddr::V4(ip).into()),
            Host::Ipv6(ip) => Hosts::Net(IpAddr::V6(ip).to_canonical().into()),
        };
        Ok(Self { hosts, port })
    }

    fn covers(&self, url: &Url) -> bool {
        if self
            .port
            .is_some_and(|port| url.port_or_known_default() != Some(port))
        {
            return false;
        }
        let ip = match url.host() {
            Some(Host::Ipv4(ip)) => Some(IpAddr::V4(ip)),
            Some(Host::Ipv6(ip)) => Some(IpAddr::V6(ip).to_canonical()),
            Some(Host::Domain(_)) | None => None,
        };
        match (&self.hosts, url.host(), ip) {
            (Hosts::All, ..) => true,
            (Hosts::Net(net), _, Some(ip)) => net.contains(&ip),
            (Hosts::Domain(domain), Some(Host::Domain(host)), _) => {
                let host = host.strip_suffix('.').unwrap_or(host);
                let rest = host.strip_suffix(&**domain);
                rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn serves(proxy: &Proxy, url: &str) -> bool {
        proxy.serves(&Url::parse(url).unwrap())
    }

    #[test]
    fn address_is_displayed_without_credentials() {
        for (text, shown, credentials) in [
            (
                "http://proxy.example:3128",
                "http://proxy.example:3128",
                None,
            ),
            (
                "http://proxy.example:3128/",
                "http://proxy.example:3128",
                None,
            ),
            ("proxy.example:3128", "http://proxy.example:3128", None),
            ("https://proxy.example", "https://proxy.example", None),
            (
                "http://ann:s%40cret@proxy.example:1",
                "http://proxy.example:1",
                Some("ann:s@cret"),
            ),
            (
                "ann:secret@10.0.0.1:1",
                "http://10.0.0.1:1",
                Some("ann:secret"),
            ),
            (
                "http://ann@proxy.example:1",
                "http://proxy.example:1",
                Some("ann:"),
            ),
        ] {
            let proxy = Proxy::parse(text).unwrap();
            assert_eq!(proxy.to_string(), shown, "{text}");
            let expected =
                credentials.map(|pair| Secret::new(format!("Basic {}", STANDARD.encode(pair))));
            assert_eq!(proxy.authorization, expected, "{text}");
            let shown = format!("{proxy:?}{proxy}");
            assert!(
                ["ann:", "s@cret", "YW5u"]
                    .iter()
                    .all(|part| !shown.contains(part)),
                "{shown}"
            );
        }
        for (text, error) in [
            ("", ProxyError::Malformed),
            ("http://", ProxyError::Malformed),
            ("http://pro xy:1", ProxyError::Malformed),
            ("proxy:port", ProxyError::Malformed),
            ("socks5://proxy.example:1080", ProxyError::Scheme),
            ("http://proxy.example/path", ProxyError::Path),
            ("http://proxy.example/?x", ProxyError::Path),
            (
                "http://a%0d%0ab:secret@proxy.example",
                ProxyError::Credentials,
            ),
        ] {
            assert_eq!(Proxy::parse(text).unwrap_err(), error, "{text}");
        }
        let proxy = Proxy::parse("proxy.example").unwrap();
        assert!(
            proxy
                .clone()
                .with_credentials(&Secret::new("no-colon"))
                .is_err()
        );
        assert!(
            proxy
                .with_credentials(&Secret::new("ann:se:cret"))
                .unwrap()
                .has_credentials()
        );
    }

    #[test]
    fn only_https_calls_off_the_machine_use_the_proxy() {
        let proxy = Proxy::parse("http://proxy.example:3128").unwrap();
        for url in [
            "https://idp.example",
            "https://idp.example:8443/x",
            "https://192.0.2.1",
            "https://localhost.example",
        ] {
            assert!(serves(&proxy, url), "{url}");
        }
        for url in [
            "http://idp.example",
            "https://localhost",
            "https://LOCALHOST:8443",
            "https://idp.localhost",
            "https://idp.localhost./x",
            "https://127.0.0.1",
            "https://127.8.9.10:1",
            "https://[::1]",
            "https://[::ffff:127.0.0.1]",
            "https://0.0.0.0",
            "https://[::]",
            "https://2130706433",
        ] {
            assert!(!serves(&proxy, url), "{url}");
        }
    }

    #[test]
    fn no_proxy_entries_match_domains_addresses_and_networks() {
        for (entry, direct, proxied) in [
            (
                "corp.example",
                vec![
                    "https://corp.example",
                    "https://a.b.corp.example:1",
                    "https://corp.example./",
                ],
                vec![
                    "https://xcorp.example",
                    "https://corp.example.evil.test",
                    "https://example",
                ],
            ),
            (
                ".corp.example",
                vec!["https://corp.example", "https://a.corp.example"],
                vec!["https://xcorp.example"],
            ),
            (
                "*.Corp.Example",
                vec!["https://a.corp.example"],
                vec!["https://xcorp.example"],
            ),
            (
                "bücher.example",
                vec!["https://xn--bcher-kva.example"],
                vec!["https://bucher.example"],
            ),
            (
                "corp.example:8443",
                vec!["https://a.corp.example:8443"],
                vec!["https://corp.example"],
            ),
            (
                "corp.example:443",
                vec!["https://corp.example"],
                vec!["https://corp.example:8443"],
            ),
            (
                "10.0.0.0/8",
                vec!["https://10.1.2.3", "https://[::ffff:10.1.2.3]"],
                vec!["https://11.0.0.1", "https://a.example"],
            ),
            (
                "192.0.2.7",
                vec!["https://192.0.2.7"],
                vec!["https://192.0.2.70"],
            ),
            (
                "192.0.2.7:8443",
                vec!["https://192.0.2.7:8443"],
                vec!["https://192.0.2.7"],
            ),
            (
                "[2001:db8::1]:8443",
                vec!["https://[2001:db8::1]:8443"],
                vec!["https://[2001:db8::1]"],
            ),
            (
                "2001:db8::/32",
                vec!["https://[2001:db8::1]"],
                vec!["https://[2001:db9::1]"],
            ),
            (
                "*",
                vec!["https://idp.example", "https://192.0.2.1"],
                vec![],
            ),
        ] {
            let proxy = Proxy::parse("proxy.example")
                .unwrap()
                .with_direct(vec![Direct::parse(entry).unwrap()]);
            for url in direct {
                assert!(!serves(&proxy, url), "{entry}: {url}");
            }
            for url in proxied {
                assert!(serves(&proxy, url), "{entry}: {url}");
            }
        }
        for entry in [
            "",
            ".",
            "a b",
            "corp.example:x",
            "corp.example:0",
            "a.*.example",
            "http://corp.example",
            "10.0.0.0/99",
        ] {
            assert!(Direct::parse(entry).is_err(), "{entry}");
        }
    }
}
