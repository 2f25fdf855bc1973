use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// The system's resolver, except for names that must never leave the machine.
pub(super) struct Resolver;

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = addresses(name.as_str()).await?;
            let addresses: Addrs = Box::new(found.into_iter().map(|ip| SocketAddr::new(ip, 0)));
            Ok(addresses)
        })
    }
}

/// Resolves a host as calls do.
///
/// # Errors
/// Those of the system's resolver.
pub async fn addresses(host: &str) -> io::Result<Vec<IpAddr>> {
    if is_localhost(host) {
        return Ok(vec![
            IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(Ipv6Addr::LOCALHOST),
        ]);
    }
    let mut found = Vec::new();
    for address in tokio::net::lookup_host((host, 0)).await? {
        if !found.contains(&address.ip()) {
            found.push(address.ip());
        }
    }
    Ok(found)
}

/// Returns `true` for `localhost` and the names under it (RFC 6761 6.3). The C library resolves
/// only `localhost` itself.
pub(super) fn is_localhost(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let last = name.rsplit('.').next().unwrap_or_default();
    last.eq_ignore_ascii_case("localhost")
}

#[cfg(test)]
mod tests {
    use super::is_localhost;

    #[test]
    fn rfc6761_6_3_names_under_localhost() {
        for name in ["localhost", "idp.localhost", "a.b.LocalHost", "localhost."] {
            assert!(is_localhost(name), "{name}");
        }
        for name in [
            "localhost.example",
            "notlocalhost",
            "",
            "localhost.evil.com.",
        ] {
            assert!(!is_localhost(name), "{name}");
        }
    }
}
