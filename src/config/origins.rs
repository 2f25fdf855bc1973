use std::net::IpAddr;
use std::time::Duration;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};

use super::node::Integer;
use super::reader::{Item, Table};
use super::secrets;
use super::server::{Insecure, Listen};
use crate::catalog::{HealthCheck, Origin, OriginSettings};
use crate::model::HostPort;

/// Reads one address or a list of them.
pub(super) fn read_all(table: &mut Table<'_>, listen: &[Listen]) -> Vec<Origin> {
    let Some(item) = table.needed_standalone("origin", "\"http://127.0.0.1:8080\"") else {
        return Vec::new();
    };
    if item.node().as_list().is_some_and(<[_]>::is_empty) {
        item.error("this list is empty; write for example `origin = \"http://127.0.0.1:8080\"`");
    }
    let list = if item.node().as_str().is_some() {
        vec![item]
    } else {
        item.list().unwrap_or_default()
    };
    let read = |item: &Item<'_>| {
        let origin = item.parse(Origin::parse)?;
        if listen.iter().any(|listen| leads_to(&origin, listen)) {
            item.error(&format!(
                "`{}` is one of our own listeners; write the address of the server",
                origin.address
            ));
        }
        Some(origin)
    };
    list.iter().filter_map(read).collect()
}

/// Returns `true` if an origin is one of our own listeners.
fn leads_to(origin: &Origin, listen: &Listen) -> bool {
    let ours = listen.address.ip();
    if origin.port != listen.address.port() {
        return false;
    }
    // These names are both loopback addresses.
    if origin.host == "localhost" || origin.host.ends_with(".localhost") {
        return ours.is_unspecified() || ours.is_loopback();
    }
    let Ok(theirs) = origin.host.trim_matches(['[', ']']).parse::<IpAddr>() else {
        return false;
    };
    theirs == ours || (ours.is_unspecified() && theirs.is_loopback())
}

impl OriginSettings {
    pub(super) fn read(table: &mut Table<'_>, insecure: &Insecure, origins: &[Origin]) -> Self {
        let (least, hour) = (Duration::from_millis(100), Duration::from_secs(3600));
        let connect_timeout = table.duration(
            "connect_timeout",
            Duration::from_secs(5),
            least..=Duration::from_secs(300),
        );
        let read_timeout =
            table.duration("read_timeout", Duration::from_secs(60), least..=hour * 24);
        let idle_timeout = table.duration("idle_timeout", Duration::from_secs(60), least..=hour);
        let tunnel_timeout = table.duration("tunnel_timeout", hour, least..=hour * 24 * 30);
        let upgrades = table
            .list("upgrades")
            .iter()
            .filter_map(|item| item.parse(upgrade))
            .collect();
        let host_header = table
            .item("host_header")
            .and_then(|item| item.parse(host_header));
        let tls_verify = table.flag("tls_verify", true);
        if let (false, false, Some(item)) = (
            tls_verify,
            insecure.origin_tls_unverified,
            table.item("tls_verify"),
        ) {
            item.error(
                "an attacker on the network could pose as the origin; name its certificate authority in `ca` (or set \
                 `origin_tls_unverified = true` under `[insecure]`)",
            );
        }
        let tls_server_name = table.item("tls_server_name").and_then(|item| {
            if !origins.is_empty() && !origins.iter().any(|origin| origin.scheme.is_tls()) {
                item.error("no origin of this application is reached over TLS; remove this, or write `https://…` as `origin`");
            }
            item.parse(tls_server_name)
        });
        let ca = table.item("ca").and_then(|item| authorities(&item));
        let health_check = table
            .item("health_check")
            .and_then(|item| item.table(HealthCheck::read));
        Self {
            connect_timeout,
            read_timeout,
            idle_timeout,
            tunnel_timeout,
            upgrades,
            host_header,
            tls_verify,
            ca,
            tls_server_name,
            health_check,
        }
    }
}

impl HealthCheck {
    fn read(table: &mut Table<'_>) -> Self {
        let path = table.item("path");
        let without_path = path.is_none();
        let path = path.and_then(|item: Item<'_>| {
            item.parse(|text| {
                let fine = text.starts_with('/')
                    && text.bytes().all(|b| b.is_ascii_graphic() && b != b'#');
                if fine {
                    Ok(text.to_owned())
                } else {
                    Err(format!("`{text}` is not a path like `/healthz`"))
                }
            })
        });
        let expect = table.item("expect").map(|item| {
            if without_path {
                item.error("without a `path` no status is looked at; add one, or remove this");
            }
            statuses(&item)
        });
        let (second, hour) = (Duration::from_secs(1), Duration::from_secs(3600));
        let interval = table.duration("interval", Duration::from_secs(10), second..=hour);
        Self {
            path,
            expect: expect.unwrap_or_default(),
            interval,
        }
    }
}

/// One status or a list of them.
fn statuses(item: &Item<'_>) -> Vec<u16> {
    let read = |item: &Item<'_>| {
        let number = item.node().as_integer().and_then(Integer::get::<u16>);
        let status = number.filter(|status| (100..600).contains(status));
        if status.is_none() {
            item.error("this must be a status from 100 to 599, such as `204`, or a list of them");
        }
        status
    };
    let Some(list) = item.node().as_list().and_then(|_| item.list()) else {
        return read(item).into_iter().collect();
    };
    if list.is_empty() {
        item.error(
            "this list is empty; write for example `expect = 204`, or remove this for any 2xx",
        );
    }
    list.iter().filter_map(read).collect()
}

/// Returns the certificates of a PEM file, or of the PEM text of an Access object. TLS accepts each
/// of them as an authority.
pub(super) fn authorities(item: &Item<'_>) -> Option<Vec<CertificateDer<'static>>> {
    if item.is_access() {
        // The API has certificates themselves: a path would let its clients probe the machine.
        return parse_authorities(item, item.text()?, "the certificate");
    }
    let path = item.reader().resolve(item.text()?);
    let shown = path.display();
    if item.reader().env().is_offline() {
        return None;
    }
    let content = match item.reader().env().read(&path) {
        Ok(content) => content,
        Err(e) => {
            item.error(&format!("`{shown}` cannot be read: {}", secrets::plain(&e)));
            return None;
        }
    };
    let list = parse_authorities(item, content.text.expose(), &format!("`{shown}`"))?;
    item.reader()
        .read_authorities(item.place(), path.clone(), list.clone());
    Some(list)
}

/// `source` names the text in messages.
fn parse_authorities(
    item: &Item<'_>,
    text: &str,
    source: &str,
) -> Option<Vec<CertificateDer<'static>>> {
    let read = CertificateDer::pem_slice_iter(text.as_bytes()).collect::<Result<Vec<_>, _>>();
    match read {
        Err(_) => item.error(&format!("{source} is damaged: it does not read as PEM")),
        Ok(list) if list.is_empty() => item.error(&format!(
            "{source} contains no certificate in PEM form, which has a line with `-----BEGIN CERTIFICATE-----`"
        )),
        Ok(list)
            if list
                .iter()
                .any(|c| RootCertStore::empty().add(c.clone()).is_err()) =>
        {
            item.error(&format!(
                "{source} contains a certificate that is damaged, or cannot be an authority"
            ));
        }
        Ok(list) => return Some(list),
    }
    None
}

fn tls_server_name(text: &str) -> Result<String, String> {
    match ServerName::try_from(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err(format!(
            "`{text}` is not a name in a certificate, like `wiki.internal`"
        )),
    }
}

/// A protocol as `Upgrade` names it (RFC 9110 7.8): a name, perhaps with a version.
fn upgrade(text: &str) -> Result<String, String> {
    let is_token = |text: &str| {
        !text.is_empty()
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
    };
    let (name, version) = text
        .split_once('/')
        .map_or((text, None), |(name, version)| (name, Some(version)));
    if !is_token(name) || version.is_some_and(|version| !is_token(version)) {
        return Err(format!(
            "`{text}` is not a protocol like `websocket` or `SPDY/3.1`"
        ));
    }
    if UNJUDGED_UPGRADES
        .iter()
        .any(|unjudged| name.eq_ignore_ascii_case(unjudged))
    {
        return Err(format!(
            "`{text}` cannot be allowed: requests inside the tunnel would not be checked"
        ));
    }
    Ok(text.to_owned())
}

/// Names of protocols in which further requests would pass without a check.
pub(crate) const UNJUDGED_UPGRADES: [&str; 4] = ["h2c", "h2", "http", "tls"];

fn host_header(text: &str) -> Result<String, String> {
    match HostPort::parse(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(e) => Err(format!(
            "`{text}` is not a host like `wiki.internal` or `wiki.internal:8080`: {e}"
        )),
    }
}
