use std::time::Duration;

use url::Url;

use super::reader::{Item, Place, Reader, Table};
use super::server::{Insecure, Listen};
use crate::catalog::Team;
use crate::model::{Host, HostPort, Support};

/// The team that issues the tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenIssuer {
    /// This team: users sign in here.
    Local,
    /// Another team; this node verifies its tokens (`certs_url`).
    Remote,
}

impl Team {
    pub(super) fn read(table: &mut Table<'_>, insecure: &Insecure) -> Option<(Self, Place)> {
        let item = table.needed("domain", "\"access.example.com\"");
        let domain = item.and_then(|item| Some((item.parse(domain)?, item.place().clone())));
        let name = table.label("name");
        let hours = |hours: u64| Duration::from_secs(hours * 3600);
        let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
        let session_duration =
            table.duration("session_duration", hours(24), minutes(15)..=hours(720));
        let certs_url = table
            .item("certs_url")
            .and_then(|item| certs_url(&item, insecure));
        let clock_leeway = table.duration("clock_leeway", minutes(1), Duration::ZERO..=minutes(5));
        let support_text = table.label("support_text");
        let support_url = table
            .item("support_url")
            .and_then(|item| item.parse(Support::parse_url));
        let jwks_max_stale = table.duration("jwks_max_stale", hours(24), minutes(5)..=hours(168));
        let ((domain, port), place) = domain?;
        let team = Self {
            name: name.unwrap_or_else(|| domain.as_str().to_owned()),
            domain,
            port,
            plain_http: false,
            session_duration,
            certs_url,
            clock_leeway,
            support: Support::new(support_text, support_url),
            jwks_max_stale,
        };
        Some((team, place))
    }

    /// Completes the scheme and port from the listeners, and warns if browsers would be sent to a
    /// port without a listener.
    pub(super) fn follow_listeners(
        &mut self,
        reader: &Reader<'_>,
        place: &Place,
        listen: &[Listen],
        insecure: &Insecure,
    ) {
        let fronted = listen.iter().any(|l| !l.trusted_proxies.is_empty());
        let encrypted = listen.iter().any(|l| l.tls.is_some());
        self.plain_http = insecure.plain_http && !encrypted && !fronted;
        let host = self.domain.as_str();
        if self.plain_http && host != "localhost" && !host.ends_with(".localhost") {
            reader.warn(
                place,
                "browsers keep our cookies only from HTTPS or from `localhost` names, so users cannot sign in here over plain \
                 HTTP; give the listener a certificate, or name the proxy in front that has one in `trusted_proxies`",
            );
        }
        let usual = if self.plain_http { 80 } else { 443 };
        // The scheme's own port is the default.
        self.port = self.port.filter(|port| *port != usual);
        let port = self.port.unwrap_or(usual);
        if listen.is_empty() || fronted || listen.iter().any(|l| l.address.port() == port) {
            return;
        }
        let there = listen
            .iter()
            .map(|l| l.address.port())
            .find(|port| *port != usual);
        let instead = there
            .map(|port| format!("{}:{port}", self.domain))
            .unwrap_or_else(|| self.domain.to_string());
        let message = format!(
            "browsers are sent to `{}`, port {port}, but no listener has that port; if nothing in \
             front of this node maps that port, \
             write `{instead}`",
            self.url(),
        );
        reader.warn(place, &message);
    }
}

fn domain(text: &str) -> Result<(Host, Option<u16>), String> {
    let instead = |domain: &str| format!("`{text}` is more than a host; write `{domain}`");
    if let Some((_, rest)) = text.split_once("://") {
        return Err(instead(rest.split('/').next().unwrap_or_default()));
    }
    if let Some((host, _)) = text.split_once(['/', '?', '#']) {
        return Err(instead(host));
    }
    let malformed = |e| format!("`{text}` is not a host like `access.example.com`: {e}");
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => {
            // A port follows the rules of an authority on the wire.
            let authority = format!("a:{port}");
            (host, HostPort::parse(&authority).map_err(malformed)?.port)
        }
        _ => (text, None),
    };
    let host = Host::parse(host).map_err(malformed)?;
    Ok((host, port))
}

fn certs_url(item: &Item<'_>, insecure: &Insecure) -> Option<Url> {
    let url = item.parse(|text| {
        Url::parse(text).ok().filter(|url| url.has_host() && matches!(url.scheme(), "http" | "https")).ok_or_else(
            || format!("`{text}` is not an address like `https://example.cloudflareaccess.com/cdn-cgi/access/certs`"),
        )
    })?;
    if url.scheme() == "http" && !insecure.insecure_identity_providers {
        item.error(
            "an attacker on the network could replace the keys; write `https://…` (or set \
             `insecure_identity_providers = true` under `[insecure]`)",
        );
    }
    Some(url)
}
