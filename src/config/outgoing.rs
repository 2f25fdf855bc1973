use std::path::PathBuf;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::reader::Table;
use super::secrets;
use super::server::Insecure;
use crate::http_client::{Direct, Proxy, ProxyError};

/// The settings of calls to identity providers, remote teams and evaluation services, and not of
/// those to origins (`[outgoing]`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outgoing {
    /// The proxy for `https://` calls: `https_proxy`, or else the environment's `HTTPS_PROXY`, with
    /// `no_proxy` or `NO_PROXY`.
    pub proxy: Option<Proxy>,
    /// A file of certificate authorities to trust beside the system's, in PEM form.
    pub ca: Option<PathBuf>,
}

impl Outgoing {
    pub(super) fn read(table: &mut Table<'_>, insecure: &Insecure) -> Self {
        let item = table.item("ca");
        let ca = item
            .as_ref()
            .and_then(|_| table.pem_file("ca", "-----BEGIN CERTIFICATE-----", "certificate"));
        if let (Some(item), Some(path)) = (item, &ca)
            && let Ok(content) = item.reader().env().read(path)
        {
            // A damaged certificate prevents the start, with a message of its own.
            let certificates = CertificateDer::pem_slice_iter(content.text.expose().as_bytes())
                .filter_map(Result::ok);
            item.reader()
                .read_authorities(item.place(), path.clone(), certificates.collect());
        }
        let written = table.item("https_proxy");
        let credentials = table.item("https_proxy_credentials");
        let direct = table.item("no_proxy");
        let none = written
            .as_ref()
            .is_some_and(|item| item.node().as_str() == Some("none"));
        let proxy = match &written {
            Some(_) if none => None,
            Some(item) => item.parse(proxy),
            None => from_environment(table),
        };
        if let (Some(item), true) = (&credentials, written.is_none() || none) {
            item.error(
                "these are for a proxy that `https_proxy` names; write that too, or remove this",
            );
        }
        if let (Some(item), true) = (&direct, none) {
            item.error("there is no proxy; remove this");
        }
        let secret = credentials
            .as_ref()
            .and_then(|item| secrets::read(item, insecure));
        let proxy = match (proxy, secret) {
            (Some(proxy), Some(_)) if table.reader().env().is_offline() => Some(proxy),
            (Some(proxy), Some(secret)) => {
                let with = proxy.with_credentials(&secret);
                with.map_err(|error| {
                    credentials
                        .iter()
                        .for_each(|item| item.error(&error.to_string()))
                })
                .ok()
            }
            (proxy, _) => proxy,
        };
        let direct = match direct {
            Some(item) => item
                .list()
                .unwrap_or_default()
                .iter()
                .filter_map(|item| item.parse(Direct::parse))
                .collect(),
            None => direct_by_environment(table, proxy.is_some()),
        };
        Self {
            proxy: proxy.map(|proxy| proxy.with_direct(direct)),
            ca,
        }
    }
}

fn proxy(text: &str) -> Result<Proxy, String> {
    let proxy = Proxy::parse(text).map_err(|error| format!("{error}, or `none`"))?;
    if proxy.has_credentials() {
        return Err(
            "an address in this file must not contain credentials; write them as `https_proxy_credentials`"
                .to_owned(),
        );
    }
    Ok(proxy)
}

fn from_environment(table: &Table<'_>) -> Option<Proxy> {
    let (name, value) = variable(table, ["HTTPS_PROXY", "https_proxy"])?;
    let refused = |error: ProxyError| {
        let message = format!(
            "the environment variable `{name}` cannot be used: {error}; or set `https_proxy`"
        );
        table.reader().error(table.place(), &message);
    };
    Proxy::parse(&value).map_err(refused).ok()
}

/// Reads the entries that are hosts. Other software understands more forms, so other entries are a
/// warning and not an error.
fn direct_by_environment(table: &Table<'_>, proxied: bool) -> Vec<Direct> {
    let Some((name, value)) = variable(table, ["NO_PROXY", "no_proxy"]) else {
        return Vec::new();
    };
    let entries: Vec<_> = value
        .split([',', ' ', '\t', '\r', '\n'])
        .filter(|entry| !entry.is_empty())
        .collect();
    let unread = |(index, entry): (usize, &&str)| {
        Direct::parse(entry).err().map(|_| format!("{}", index + 1))
    };
    let unread: Vec<_> = entries.iter().enumerate().filter_map(unread).collect();
    if proxied && !unread.is_empty() {
        let numbers = unread.join(", ");
        table.reader().warn(
            table.place(),
            &format!(
                "the environment variable `{name}` has entries that are not a host, a domain, an IP address or a network, and are \
                 ignored: number {numbers}; correct them, or set `no_proxy`"
            ),
        );
    }
    entries
        .iter()
        .filter_map(|entry| Direct::parse(entry).ok())
        .collect()
}

/// Returns the first of these variables that is set and not blank.
fn variable(table: &Table<'_>, names: [&'static str; 2]) -> Option<(&'static str, String)> {
    let env = table.reader().env();
    if env.is_offline() {
        return None;
    }
    let value = |name| {
        env.variable(name)
            .ok()
            .filter(|value| !value.trim().is_empty())
            .map(|value| (name, value))
    };
    names.into_iter().find_map(value)
}
