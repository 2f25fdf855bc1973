use std::borrow::Cow;
use std::fmt;

use thiserror::Error;

/// A host name in its one canonical form: lower case, A-labels, no trailing dot, no port.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Host(Box<str>);

/// The reason why a host is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum HostError {
    /// No host at all.
    #[error("the host is empty")]
    Empty,
    /// A byte that no host name has, an empty label, or more than 253 bytes.
    #[error("the host is malformed")]
    Malformed,
    /// A port that is not a number from 1 to 65535.
    #[error("the port is malformed")]
    Port,
}

impl Host {
    /// Reads a host from configuration; U-labels become A-labels (UTS 46, as in `url`).
    ///
    /// # Errors
    ///
    /// It is empty or malformed, or has a port.
    pub fn parse(text: &str) -> Result<Self, HostError> {
        match url::Host::parse(text.strip_suffix('.').unwrap_or(text)) {
            Ok(host) => {
                let host = host.to_string();
                match HostPort::parse(&host) {
                    Ok(HostPort {
                        port: None, host, ..
                    }) => Ok(Self(host.into())),
                    Ok(_) => Err(HostError::Malformed),
                    Err(e) => Err(e),
                }
            }
            Err(_) if text.is_empty() => Err(HostError::Empty),
            Err(_) => Err(HostError::Malformed),
        }
    }

    /// The canonical text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The port at which clients reach this team.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServedPort {
    /// The default port of the scheme, which canonical text omits.
    Default,
    /// Another port.
    Explicit,
}

/// A `host[:port]` of a request, with the host in canonical form. Borrowed if it already was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort<'a> {
    /// Canonical host.
    pub host: Cow<'a, str>,
    /// The port, if there is one.
    pub port: Option<u16>,
    canonical: bool,
}

impl<'a> HostPort<'a> {
    /// Returns the canonical text, if it differs. It omits the default port.
    pub fn rewritten(&self, served: ServedPort) -> Option<String> {
        let is_canonical =
            self.canonical && (self.port.is_none() || served == ServedPort::Explicit);
        if is_canonical {
            None
        } else {
            Some(self.text(served))
        }
    }

    /// Returns the canonical text, without the default port.
    pub fn text(&self, served: ServedPort) -> String {
        match (self.port, served) {
            (Some(port), ServedPort::Explicit) => format!("{}:{port}", self.host),
            (Some(_), ServedPort::Default) | (None, _) => self.host.to_string(),
        }
    }

    /// Reads a `Host` header or an `:authority` (RFC 9110 7.2).
    ///
    /// # Errors
    ///
    /// The host is empty, or has a byte that no registered name or address has: user information,
    /// lists, spaces.
    pub fn parse(text: &'a str) -> Result<Self, HostError> {
        let (host, port) = match text.rsplit_once(':') {
            // The last colon of an IPv6 literal is inside its brackets.
            Some((host, port)) if !port.ends_with(']') => {
                let digits =
                    !port.is_empty() && port.len() <= 5 && port.bytes().all(|b| b.is_ascii_digit());
                let port = port
                    .parse::<u16>()
                    .ok()
                    // `parse` alone would accept a plus sign and leading zeros of any number.
                    .filter(|p| digits && *p != 0)
                    .ok_or(HostError::Port)?;
                (host, Some(port))
            }
            _ => (text, None),
        };
        let dotted = host;
        let host = host.strip_suffix('.').unwrap_or(host);
        if host.is_empty() {
            return Err(HostError::Empty);
        }
        let upper = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
            Some(v6) => v6
                .parse::<std::net::Ipv6Addr>()
                .map(|_| true)
                .map_err(|_| HostError::Malformed)?,
            None => read_name(host).ok_or(HostError::Malformed)?,
        };
        let host = if upper {
            Cow::Owned(host.to_ascii_lowercase())
        } else {
            Cow::Borrowed(host)
        };
        let canonical = matches!(host, Cow::Borrowed(host) if host.len() == dotted.len());
        Ok(Self {
            host,
            port,
            canonical,
        })
    }
}

/// Returns `true` if a registered name has upper case, and `None` if it is malformed. One pass,
/// because it runs on every request.
fn read_name(name: &str) -> Option<bool> {
    let (mut upper, mut label) = (false, 0_u8);
    for byte in name.bytes() {
        label = match byte {
            b'.' if label == 0 => return None,
            b'.' => 0,
            // Underscores are not in host names (RFC 1123 2.1), but browsers send them and DNS has
            // them.
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => label + 1,
            b'A'..=b'Z' => {
                upper = true;
                label + 1
            }
            _ => return None,
        };
        if label > 63 {
            return None;
        }
    }
    (label > 0 && name.len() <= 253).then_some(upper)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p18_one_canonical_host() {
        for (wire, host, port) in [
            ("app.example.com", "app.example.com", None),
            ("APP.Example.COM", "app.example.com", None),
            ("app.example.com.", "app.example.com", None),
            ("app.example.com:443", "app.example.com", Some(443)),
            ("App.example.com.:8443", "app.example.com", Some(8443)),
            ("[::1]:80", "[::1]", Some(80)),
            ("[::1]", "[::1]", None),
        ] {
            let parsed = HostPort::parse(wire).unwrap();
            assert_eq!((parsed.host.as_ref(), parsed.port), (host, port), "{wire}");
        }
    }

    #[test]
    fn p17_nothing_but_one_host() {
        let long_label = format!("{}.com", "a".repeat(64));
        let long_name = "a.".repeat(127) + "a";
        for wire in [
            long_label.as_str(),
            long_name.as_str(),
            "",
            ".",
            ":80",
            "a,b",
            "app.example.com, evil",
            "user@app.example.com",
            "app.example.com/x",
            "a b",
            "a..b",
            "app.example.com:",
            "app.example.com:0",
            "app.example.com:+80",
            "app.example.com:65536",
            "a\u{e4}.com",
            "app%2eexample.com",
            "[::1",
            "::1",
            "[zz]",
            "app.example.com:80:80",
        ] {
            assert!(HostPort::parse(wire).is_err(), "{wire:?}");
        }
    }

    #[test]
    fn unicode_host_is_converted_to_a_labels() {
        assert_eq!(
            Host::parse("Bücher.example").unwrap().as_str(),
            "xn--bcher-kva.example"
        );
        assert_eq!(Host::parse("a.example.").unwrap().as_str(), "a.example");
        assert!(Host::parse("a.example:80").is_err());
        assert!(Host::parse("").is_err());
    }
}
